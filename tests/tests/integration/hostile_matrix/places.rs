//! The rows and columns of the matrix: places that the runtime writes to or resolves, and what an image may have put there. Not here:
//! running them.

use std::fs;
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};

use harness::{Value, json};
use nix::sys::stat::Mode;

/// A path of the root file system that the runtime goes through, and the configuration that makes it do so.
pub struct Place {
    pub name: &'static str,
    /// Where the trap is planted, relative to the root, or to the volume where there is one.
    pub path: &'static str,
    /// What belongs there: a directory, or a file.
    pub dir: bool,
    pub configure: fn(&mut Config<'_>),
}

/// A configuration in the making, with what it may refer to.
pub struct Config<'a> {
    pub spec: Value,
    /// A directory of the host with a file `file` and a directory `sub`, to be bound.
    pub source: &'a Path,
    /// A directory of the host that is shared with the container: traps of places named `volume…` are in it.
    pub volume: &'a Path,
    pub terminal: bool,
}

impl Config<'_> {
    fn mount(&mut self, dest: &str, kind: &str, source: &str, options: &[&str]) {
        let mount = json!({ "destination": dest, "type": kind, "source": source, "options": options });
        self.mounts().push(mount);
    }
    fn bind(&mut self, dest: &str, what: &str, options: &[&str]) {
        let source = self.source.join(what);
        self.mount(dest, "bind", source.to_str().unwrap(), options);
    }
    fn volume(&mut self) {
        let volume = self.volume.to_str().unwrap().to_owned();
        self.mount("/vol", "bind", &volume, &["rbind"]);
    }
    fn mounts(&mut self) -> &mut Vec<Value> {
        self.spec["mounts"].as_array_mut().unwrap()
    }
    /// Leaves out what is mounted at these places, so that the image's own directories are there.
    fn bare(&mut self, below: &str, but: &str) {
        self.mounts().retain(|m| {
            let dest = m["destination"].as_str().unwrap();
            !dest.starts_with(below) || dest == but
        });
    }
    fn list(&mut self, key: &str, paths: &[&str]) {
        self.spec["linux"][key] = json!(paths);
    }
    fn terminal(&mut self) {
        self.terminal = true;
        self.spec["process"]["terminal"] = json!(true);
    }
    fn no_home(&mut self) {
        self.spec["process"]["env"].as_array_mut().unwrap().retain(|e| !e.as_str().unwrap().starts_with("HOME="));
    }
    fn device(&mut self, path: &str) {
        self.spec["linux"]["devices"] = json!([{ "path": path, "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0 }]);
    }
    fn cwd(&mut self, path: &str) {
        self.spec["process"]["cwd"] = json!(path);
    }
}

const fn place(name: &'static str, path: &'static str, dir: bool, configure: fn(&mut Config<'_>)) -> Place {
    Place { name, path, dir, configure }
}

/// All places. Those with a dash say how the configuration differs from the default.
pub const PLACES: [Place; 42] = [
    place("dev", "dev", true, |_| {}),
    place("dev-bare", "dev", true, |c| c.bare("/dev", "")),
    place("dev-bare-terminal", "dev", true, |c| {
        c.bare("/dev", "/dev/pts");
        c.terminal();
    }),
    place("proc", "proc", true, |_| {}),
    place("sys", "sys", true, |_| {}),
    place("sys-bare", "sys", true, |c| c.bare("/sys", "/sys/fs/cgroup")),
    place("etc", "etc", true, |c| c.bind("/etc/hostname", "file", &["bind", "ro"])),
    place("etc/hostname", "etc/hostname", false, |c| c.bind("/etc/hostname", "file", &["rbind", "rprivate"])),
    place("etc/passwd", "etc/passwd", false, |c| c.no_home()),
    place("run", "run", true, |c| c.mount("/run", "tmpfs", "tmpfs", &["mode=755", "nosuid"])),
    place("run-below", "run", true, |c| c.bind("/run/secrets/x", "file", &["bind"])),
    place("dev/pts", "dev/pts", true, |c| c.bare("/dev", "/dev/pts")),
    place("dev/pts-terminal", "dev/pts", true, |c| {
        c.bare("/dev", "/dev/pts");
        c.terminal();
    }),
    place("dev/shm", "dev/shm", true, |c| c.bare("/dev", "/dev/shm")),
    place("dev/mqueue", "dev/mqueue", true, |c| c.bare("/dev", "/dev/mqueue")),
    place("dev/null", "dev/null", false, |c| c.bare("/dev", "")),
    place("dev/tty", "dev/tty", false, |c| c.bare("/dev", "")),
    place("dev/console", "dev/console", false, |c| c.bare("/dev", "")),
    place("dev/console-terminal", "dev/console", false, |c| {
        c.bare("/dev", "/dev/pts");
        c.terminal();
    }),
    place("dev/ptmx", "dev/ptmx", false, |c| c.bare("/dev", "")),
    place("dev/ptmx-terminal", "dev/ptmx", false, |c| {
        c.bare("/dev", "/dev/pts");
        c.terminal();
    }),
    place("dev/fd", "dev/fd", true, |c| c.bare("/dev", "")),
    place("dev/stdout", "dev/stdout", false, |c| c.bare("/dev", "")),
    place("device", "m/node", false, |c| c.device("/m/node")),
    place("device-below", "m/nodes", true, |c| c.device("/m/nodes/sub/node")),
    place("cwd", "m/work", true, |c| c.cwd("/m/work")),
    place("cwd-below", "m/work", true, |c| c.cwd("/m/work/sub/deep")),
    place("tmpfs", "m/tmpfs", true, |c| c.mount("/m/tmpfs", "tmpfs", "tmpfs", &["size=64k"])),
    place("tmpfs-copy-up", "m/tmpfs", true, |c| c.mount("/m/tmpfs", "tmpfs", "tmpfs", &["tmpcopyup", "ro"])),
    place("proc-elsewhere", "m/proc", true, |c| c.mount("/m/proc", "proc", "proc", &[])),
    place("bind", "m/dir", true, |c| c.bind("/m/dir", "", &["bind"])),
    place("bind-tree", "m/dir", true, |c| c.bind("/m/dir", "", &["rbind", "rro", "nosuid"])),
    place("bind-file", "m/file", false, |c| c.bind("/m/file", "file", &["bind", "ro", "nodev"])),
    place("bind-below", "m/dir", true, |c| c.bind("/m/dir/sub/deep", "", &["bind"])),
    place("bind-dots", "m/dir", true, |c| c.bind("/m/dir/../dir/./sub/../../../../m/dir/x", "file", &["bind"])),
    place("masked-directory", "m/dir", true, |c| c.list("maskedPaths", &["/m/dir", "/proc/kcore"])),
    place("masked-file", "m/file", false, |c| c.list("maskedPaths", &["/m/file"])),
    place("read-only-path", "m/dir", true, |c| c.list("readonlyPaths", &["/m/dir", "/proc/sys"])),
    place("volume-tmpfs", "volume/in", true, |c| {
        c.volume();
        c.mount("/vol/in/sub", "tmpfs", "tmpfs", &[]);
    }),
    place("volume-bind", "volume/in", true, |c| {
        c.volume();
        c.bind("/vol/in/x", "file", &["bind"]);
    }),
    place("volume-masked", "volume/in", true, |c| {
        c.volume();
        c.list("maskedPaths", &["/vol/in"]);
    }),
    place("volume-null", "volume/null", false, |c| {
        c.volume();
        c.bare("/dev", "");
        let volume = c.volume.to_str().unwrap().to_owned();
        c.mount("/dev", "bind", &volume, &["rbind"]);
    }),
];

/// What is in the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trap {
    /// A link to what exists on the host, and inside the root as well.
    Absolute,
    /// A link to an empty directory or file of the host.
    AbsoluteEmpty,
    /// The way from the place to the canary, as the host would walk it.
    Relative,
    /// More `..` than there can be, then the canary's path.
    DotDot,
    /// A link to a name that is not there, in a directory of the host.
    Dangling,
    DanglingRelative,
    /// Through a link of /proc that leads wherever the reader is.
    Magic,
    /// Into the container's own procfs, where a kernel parameter of the host can be written.
    Proc,
    Loop,
    Fifo,
    /// A directory for a file, a file for a directory.
    WrongType,
}

pub const TRAPS: [Trap; 11] = [
    Trap::Absolute,
    Trap::AbsoluteEmpty,
    Trap::Relative,
    Trap::DotDot,
    Trap::Dangling,
    Trap::DanglingRelative,
    Trap::Magic,
    Trap::Proc,
    Trap::Loop,
    Trap::Fifo,
    Trap::WrongType,
];

/// Above what any path here has.
const UP: &str = "../../../../../../../../../../../../../../../..";

impl Trap {
    /// Plants it at `at`, for a directory or a file.
    pub fn plant(self, at: &Path, dir: bool, canary: &Path) {
        let _ = fs::remove_dir_all(at);
        let _ = fs::remove_file(at);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        let full = if dir { canary.join("full") } else { canary.join("full/file") };
        let up = Path::new(UP);
        let target = match self {
            Trap::Absolute => full,
            Trap::AbsoluteEmpty if dir => canary.join("empty"),
            Trap::AbsoluteEmpty => canary.join("empty-file"),
            Trap::Relative => way(at.parent().unwrap(), &full),
            Trap::DotDot => up.join(full.strip_prefix("/").unwrap()),
            Trap::Dangling => canary.join("empty/made"),
            Trap::DanglingRelative => way(at.parent().unwrap(), &canary.join("empty/made")),
            Trap::Magic => Path::new("/proc/self/root").join(full.strip_prefix("/").unwrap()),
            Trap::Proc if dir => "/proc/sys/kernel".into(),
            Trap::Proc => "/proc/sys/kernel/core_pattern".into(),
            Trap::Loop => PathBuf::from(at.file_name().unwrap()),
            Trap::Fifo => return nix::unistd::mkfifo(at, Mode::from_bits_truncate(0o666)).unwrap(),
            Trap::WrongType if dir => return fs::write(at, "a file").unwrap(),
            Trap::WrongType => return fs::create_dir(at).unwrap(),
        };
        symlink(target, at).unwrap();
    }
}

/// The relative path from a directory to a place; both are absolute.
fn way(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Path::new(".."));
    up.chain(to.components().skip(common).map(|c| Path::new(c.as_os_str()))).collect()
}

/// Gives a whole tree to a user.
pub fn give(dir: &Path, user: u32) {
    lchown(dir, Some(user), Some(user)).unwrap();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            give(&entry.path(), user);
        } else {
            lchown(entry.path(), Some(user), Some(user)).unwrap();
        }
    }
}
