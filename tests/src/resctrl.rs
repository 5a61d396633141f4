//! A stand-in for the resctrl file system, which only some processors have: groups, `schemata` and `tasks` as in the
//! kernel's Documentation/filesystems/resctrl.rst, served by FUSE in a mount namespace of its own. It knows two caches
//! (L3) and two memory controllers (MB), has room for three classes, and refuses what the kernel refuses.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, MountOption,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, Session, TimeOrNow,
    WriteFlags,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

const ROOT: u64 = 1;
/// Classes besides the default one.
const CLASSES: usize = 3;
const DEFAULT: [(&str, &str); 2] = [("L3", "fff"), ("MB", "100")];

/// The file system, mounted at /sys/fs/resctrl of a mount namespace that ends with this value.
pub struct Resctrl {
    tree: Arc<Mutex<Tree>>,
    namespace: OwnedFd,
    _session: BackgroundSession,
}

impl Resctrl {
    /// Makes one with the default group alone.
    ///
    /// # Errors
    /// No /dev/fuse, or no right to mount.
    pub fn mount() -> Result<Resctrl> {
        let tree = Arc::new(Mutex::new(Tree::new()));
        let served = Arc::clone(&tree);
        // A thread's own mount namespace; those that serve are its children and live there, too.
        let made = std::thread::spawn(move || {
            prepare()?;
            let mut config = Config::default();
            config.mount_options = vec![MountOption::FSName("resctrl".into())];
            let session = Session::new(Served(served), "/sys/fs/resctrl", &config)?.spawn()?;
            Ok::<_, Error>((session, OwnedFd::from(File::open("/proc/thread-self/ns/mnt")?)))
        });
        let (session, namespace) = made.join().map_err(|_| Error::other("the thread that mounts failed"))??;
        Ok(Resctrl { tree, namespace, _session: session })
    }

    /// The mount namespace.
    pub fn namespace(&self) -> &OwnedFd {
        &self.namespace
    }

    /// Makes a group, as an administrator would; `path` is below the root.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn make(&self, path: &str) {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut tree = self.tree.lock().expect("the tree");
        let parent = tree.find(parent).expect("the group above");
        tree.mkdir(parent, name).expect("room for the group");
    }

    /// Content of a file, or `None` where there is none.
    pub fn read(&self, path: &str) -> Option<String> {
        let tree = self.tree.lock().expect("the tree");
        tree.find(path).map(|node| tree.nodes[&node].text.clone())
    }

    /// Paths of all groups but the default one.
    pub fn groups(&self) -> Vec<String> {
        let tree = self.tree.lock().expect("the tree");
        tree.nodes.iter().filter(|(_, node)| node.kind != Kind::Other && node.parent != 0).map(|(&n, _)| tree.path(n)).collect()
    }
}

/// Puts a /sys/fs with cgroup and an empty resctrl in place of sysfs's, which has no such directory.
fn prepare() -> Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let keep = tempfile::tempdir()?;
    mount(Some("/sys/fs/cgroup"), keep.path(), none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH)?;
    mount(Some("tmpfs"), "/sys/fs", Some("tmpfs"), MsFlags::empty(), none)?;
    std::fs::create_dir("/sys/fs/cgroup")?;
    std::fs::create_dir("/sys/fs/resctrl")?;
    mount(Some(keep.path()), "/sys/fs/cgroup", none, MsFlags::MS_MOVE, none)?;
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Class,
    Monitoring,
    Other,
}

struct Node {
    parent: u64,
    name: String,
    directory: bool,
    /// What a directory is.
    kind: Kind,
    text: String,
}

struct Tree {
    nodes: BTreeMap<u64, Node>,
    next: u64,
}

type Answer<T> = std::result::Result<T, Errno>;

impl Tree {
    fn new() -> Tree {
        let mut tree = Tree { nodes: BTreeMap::new(), next: ROOT };
        let root = tree.add(0, "", true, Kind::Class);
        tree.class(root);
        let info = tree.add(root, "info", true, Kind::Other);
        let status = tree.add(info, "last_cmd_status", false, Kind::Other);
        tree.say(status, "ok");
        tree
    }

    fn add(&mut self, parent: u64, name: &str, directory: bool, kind: Kind) -> u64 {
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, Node { parent, name: name.to_owned(), directory, kind, text: String::new() });
        number
    }

    /// What is in every class.
    fn class(&mut self, group: u64) {
        self.add(group, "tasks", false, Kind::Other);
        self.add(group, "mon_groups", true, Kind::Other);
        let schemata = self.add(group, "schemata", false, Kind::Other);
        // The kernel pads, so that comparing texts would not do.
        let all = DEFAULT.map(|(resource, value)| format!("    {resource}:0={value:>4};1={value:>4}\n"));
        self.nodes.get_mut(&schemata).expect("just made").text = all.concat();
    }

    fn child(&self, parent: u64, name: &str) -> Option<u64> {
        self.nodes.iter().find(|(_, node)| node.parent == parent && node.name == name).map(|(&number, _)| number)
    }

    fn find(&self, path: &str) -> Option<u64> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(ROOT, |at, name| self.child(at, name))
    }

    fn path(&self, number: u64) -> String {
        let node = &self.nodes[&number];
        if node.parent == ROOT { node.name.clone() } else { format!("{}/{}", self.path(node.parent), node.name) }
    }

    fn say(&mut self, status: u64, words: &str) {
        self.nodes.get_mut(&status).expect("the status").text = format!("{words}\n");
    }

    fn mkdir(&mut self, parent: u64, name: &str) -> Answer<u64> {
        if self.child(parent, name).is_some() {
            return Err(Errno::EEXIST);
        }
        if parent == ROOT {
            if self.nodes.values().filter(|node| node.parent == ROOT && node.kind == Kind::Class).count() == CLASSES {
                self.status("Out of CLOSIDs");
                return Err(Errno::ENOSPC);
            }
            let group = self.add(parent, name, true, Kind::Class);
            self.class(group);
            return Ok(group);
        }
        if self.nodes[&parent].name != "mon_groups" {
            return Err(Errno::EPERM);
        }
        let group = self.add(parent, name, true, Kind::Monitoring);
        self.add(group, "tasks", false, Kind::Other);
        Ok(group)
    }

    fn rmdir(&mut self, parent: u64, name: &str) -> Answer<()> {
        let group = self.child(parent, name).ok_or(Errno::ENOENT)?;
        if self.nodes[&group].kind == Kind::Other {
            return Err(Errno::EPERM);
        }
        let mut gone = vec![group];
        while let Some(number) = gone.pop() {
            self.nodes.remove(&number);
            gone.extend(self.nodes.iter().filter(|(_, node)| node.parent == number).map(|(&below, _)| below));
        }
        Ok(())
    }

    fn status(&mut self, words: &str) {
        let status = self.find("info/last_cmd_status").expect("the status");
        self.say(status, words);
    }

    fn write(&mut self, file: u64, text: &str) -> Answer<()> {
        self.status("ok");
        match (self.nodes[&file].name.as_str(), text.strip_suffix('\n')) {
            ("schemata", None) => Err(Errno::EINVAL),
            ("schemata", Some(lines)) => lines.split('\n').try_for_each(|line| self.schema(file, line)),
            ("tasks", _) => self.task(file, text.trim()),
            _ => Err(Errno::EACCES),
        }
    }

    fn schema(&mut self, file: u64, line: &str) -> Answer<()> {
        let (resource, domains) = line.split_once(':').ok_or(Errno::EINVAL)?;
        for domain in domains.split(';') {
            let (id, value) = domain.split_once('=').ok_or(Errno::EINVAL)?;
            let number = u32::from_str_radix(value, if resource == "MB" { 10 } else { 16 }).map_err(|_| Errno::EINVAL)?;
            let consecutive = number != 0 && (number >> number.trailing_zeros()).wrapping_add(1).is_power_of_two();
            if resource == "L3" && !consecutive {
                self.status(&format!("The mask {number:x} has non-consecutive 1-bits"));
                return Err(Errno::EINVAL);
            }
            let old = &self.nodes[&file].text;
            let mut new = String::new();
            let mut known = false;
            for there in old.lines() {
                let (name, rest) = there.trim().split_once(':').unwrap_or_default();
                let values = rest.split(';').map(|pair| pair.split_once('=').unwrap_or_default());
                let values = values.map(|(key, before)| {
                    let hit = name == resource && key == id;
                    known |= hit;
                    format!("{key}={:>4}", if hit { value } else { before.trim() })
                });
                let values = values.collect::<Vec<_>>().join(";");
                new.push_str(&format!("    {name}:{values}\n"));
            }
            if !known {
                self.status(&format!("Unknown or unsupported resource name '{resource}'"));
                return Err(Errno::EINVAL);
            }
            self.nodes.get_mut(&file).expect("it was there").text = new;
        }
        Ok(())
    }

    fn task(&mut self, file: u64, pid: &str) -> Answer<()> {
        let digits = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
        if !digits || !Path::new("/proc").join(pid).exists() {
            return Err(if digits { Errno::ESRCH } else { Errno::EINVAL });
        }
        let group = self.nodes[&file].parent;
        let kind = self.nodes[&group].kind;
        if kind == Kind::Monitoring {
            let class = self.nodes[&self.nodes[&group].parent].parent;
            let tasks = self.child(class, "tasks").expect("each class has tasks");
            if !self.nodes[&tasks].text.lines().any(|line| line == pid) {
                self.status("Can't move task to different control group");
                return Err(Errno::EINVAL);
            }
        }
        let line = format!("{pid}\n");
        let same = self.nodes.iter().filter(|(_, n)| n.name == "tasks" && self.nodes[&n.parent].kind == kind).map(|(&n, _)| n);
        for other in same.collect::<Vec<_>>() {
            let text = &mut self.nodes.get_mut(&other).expect("listed").text;
            *text = text.split_inclusive('\n').filter(|there| *there != line).collect();
        }
        self.nodes.get_mut(&file).expect("it was there").text.push_str(&line);
        Ok(())
    }

    fn attributes(&self, number: u64) -> Answer<FileAttr> {
        let node = self.nodes.get(&number).ok_or(Errno::ENOENT)?;
        Ok(FileAttr {
            ino: INodeNo(number),
            size: 0,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if node.directory { FileType::Directory } else { FileType::RegularFile },
            perm: if node.directory { 0o755 } else { 0o644 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

struct Served(Arc<Mutex<Tree>>);

impl Served {
    fn with<T>(&self, deed: impl FnOnce(&mut Tree) -> Answer<T>) -> Answer<T> {
        let mut tree = self.0.lock().map_err(|_| Errno::EIO)?;
        deed(&mut tree)
    }
    fn entry(&self, reply: ReplyEntry, deed: impl FnOnce(&mut Tree) -> Answer<u64>) {
        match self.with(|tree| deed(tree).and_then(|number| tree.attributes(number))) {
            // Nothing is cached: tests change the tree behind the kernel's back.
            Ok(attributes) => reply.entry(&Duration::ZERO, &attributes, Generation(0)),
            Err(e) => reply.error(e),
        }
    }
    fn attributes(&self, number: INodeNo, reply: ReplyAttr) {
        match self.with(|tree| tree.attributes(number.0)) {
            Ok(attributes) => reply.attr(&Duration::ZERO, &attributes),
            Err(e) => reply.error(e),
        }
    }
}

fn name(text: &OsStr) -> Answer<&str> {
    text.to_str().ok_or(Errno::EINVAL)
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, file: &OsStr, reply: ReplyEntry) {
        self.entry(reply, |tree| tree.child(parent.0, name(file)?).ok_or(Errno::ENOENT));
    }
    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.attributes(number, reply);
    }
    /// O_TRUNC, which the kernel ignores here.
    #[allow(clippy::too_many_arguments)]
    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.attributes(number, reply);
    }
    fn mkdir(&self, _: &Request, parent: INodeNo, directory: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        self.entry(reply, |tree| tree.mkdir(parent.0, name(directory)?));
    }
    fn rmdir(&self, _: &Request, parent: INodeNo, directory: &OsStr, reply: ReplyEmpty) {
        match self.with(|tree| tree.rmdir(parent.0, name(directory)?)) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // A write arrives whole, as the kernel's own files get it.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }
    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.with(|tree| tree.nodes.get(&number.0).map(|node| node.text.clone()).ok_or(Errno::ENOENT)) {
            Ok(text) => {
                let rest = text.as_bytes().get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
                reply.data(&rest[..rest.len().min(size as usize)]);
            }
            Err(e) => reply.error(e),
        }
    }
    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        _: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL);
        match text.and_then(|text| self.with(|tree| tree.write(number.0, text))) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(0)),
            Err(e) => reply.error(e),
        }
    }
    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let list = self.with(|tree| {
            let below = tree.nodes.iter().filter(|(_, node)| node.parent == number.0);
            Ok(below.map(|(&n, node)| (n, node.directory, node.name.clone())).collect::<Vec<_>>())
        });
        let Ok(list) = list else { return reply.error(Errno::EIO) };
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, (n, directory, file)) in list.iter().enumerate().skip(from) {
            let kind = if *directory { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(*n), at as u64 + 1, kind, file) {
                break;
            }
        }
        reply.ok();
    }
}
