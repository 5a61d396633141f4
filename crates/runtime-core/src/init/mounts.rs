//! Mount steps: a detached mount is made, then attached by descriptor. Not here: the root (`root`), devices (`nodes`), what is hidden
//! (`masks`).

use super::{
    Child, Done, Fail, PATH_MAX, classic::Change, classic::descriptor_path, classic::mount_flags, done_with, resolve, resolve::PathBuffer,
    resolve::ShortPath, wire::Code,
};
use crate::plan::mount_flags::ATTR_RDONLY;
use crate::plan::step::{Attrs, Bind, FsMount, FsOptions, MountKind, MountStep, Source, TreeStep};
use crate::sys::{self, AT_EMPTY_PATH, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW, Errno, OPEN_TREE_CLONE};
use std::ffi::CStr;
use std::os::fd::RawFd;

const MS_REC: u64 = libc::MS_REC;

impl Child<'_> {
    pub(super) fn mount(&mut self, m: &MountStep) -> Done {
        self.with_fallback(|c| match &m.kind {
            MountKind::Bind(bind) => c.bind_mount(m, bind),
            MountKind::Idmapped { slot } => c.idmapped_mount(m, c.slots[*slot]),
            MountKind::Fs(f) if c.mounted_at_once(m, f)? => Ok(()),
            MountKind::Fs(f) => {
                let (tree, replaced) = c.new_fs(f, m.attrs.set)?;
                // A new file system got its attributes when it was made.
                let attrs = Attrs::default();
                if (replaced || !f.wants_target()) && c.finished_by_name(m, attrs, tree)? {
                    return Ok(());
                }
                let target = c.target(m, tree, true)?;
                if !replaced {
                    c.fill(m, f, tree, target)?;
                }
                c.finish(m, attrs, tree, target)
            }
            MountKind::Remount(options) => c.remount(m, options),
        })
    }

    /// A new file system of which nobody needs the descriptor takes one mount(2) instead of an fsopen(2) and what follows. Where that call
    /// fails, the longer way says why in the kernel's words, or does it all the same.
    fn mounted_at_once(&mut self, m: &MountStep, f: &FsMount) -> Result<bool, Fail> {
        let more = f.wants_target() || m.keep.is_some() || m.propagation != 0;
        // mount(2) would make the file system read-only with the mount.
        let read_only = (m.attrs.set | m.recursive_attrs.set) & ATTR_RDONLY != 0;
        if self.classic || more || read_only || !m.recursive_attrs.is_empty() || matches!(m.dest.to_bytes(), b"" | b"dev") {
            return Ok(false);
        }
        let mut path = ShortPath::new();
        let target = match self.in_dev(&m.dest) {
            // The new and empty /dev is this process's own: what it makes there needs no second look.
            Some((dev, name)) if sys::mkdirat(dev, name, 0o755).is_ok() => {
                descriptor_path(&mut path, dev)?;
                path.push(&[b"/", name.to_bytes()])?;
                None
            }
            _ => {
                let target = self.target(m, -1, true)?;
                descriptor_path(&mut path, target)?;
                Some(target)
            }
        };
        let flags = mount_flags(m.attrs.set) | f.options.flags;
        let call = || sys::mount(Some(&f.source), path.as_c_str(), Some(&f.fstype), flags, Some(&f.options.data));
        let done = self.stay_in_proc(call);
        if let Some(target) = target {
            done_with(target);
        }
        self.made(&m.dest);
        Ok(done.is_ok())
    }

    fn bind_mount(&mut self, m: &MountStep, bind: &Bind) -> Done {
        let tree = match bind.slot.map(|slot| self.slots[slot]) {
            Some(tree) if tree >= 0 && !self.classic => tree,
            _ => self.source(&bind.source, bind.recursive, bind.link)?,
        };
        if bind.copy_link && sys::fstat(tree)?.mode & libc::S_IFMT == libc::S_IFLNK {
            return self.copy_link(m, tree);
        }
        // The parent gave a cgroup its attributes when it made the copy.
        let finished = self.is_finished(m, bind, tree);
        if finished && self.finished_by_name(m, Attrs::default(), tree)? {
            return Ok(());
        }
        let target = self.target(m, tree, false)?;
        self.finish(m, if finished { Attrs::default() } else { m.attrs }, tree, target)
    }

    /// The parent made the mount and gave it all its attributes.
    fn is_finished(&self, m: &MountStep, bind: &Bind, tree: RawFd) -> bool {
        let own = matches!(bind.source, Source::Cgroup(_)) && bind.slot.is_some_and(|slot| self.slots[slot] == tree);
        own && m.recursive_attrs.is_empty() && m.propagation == 0 && m.keep.is_none()
    }

    fn source(&mut self, source: &Source, recursive: bool, link: bool) -> Result<RawFd, Fail> {
        match source {
            Source::Path(path) => self.tree(libc::AT_FDCWD, path, recursive, link),
            // Without the calls for detached mounts there is none.
            Source::Opened(_) => Err(Fail::from(Errno(libc::ENOSYS))),
            Source::Cgroup(mount_point) => self.cgroup_source(mount_point, recursive, link),
        }
    }

    #[inline(never)]
    fn cgroup_source(&mut self, mount_point: &CStr, recursive: bool, link: bool) -> Result<RawFd, Fail> {
        let own = self.wire.cgroup.to_bytes();
        let mut path = PathBuffer::new();
        path.set(&[mount_point.to_bytes(), own])?;
        let tree = self.tree(libc::AT_FDCWD, path.as_c_str(), recursive, link)?;
        if own.is_empty() || own == b"/" {
            // The whole hierarchy shows every container's cgroup; it is not for this one to write to (CVE-2023-25809).
            self.change(tree, recursive, Change { set: super::root::READ_ONLY, ..Change::default() })?;
        }
        Ok(tree)
    }

    pub(super) fn copy_tree(&mut self, t: &TreeStep) -> Done {
        // What happens to the original's mounts stays there.
        let recursive = if t.recursive { AT_RECURSIVE } else { 0 };
        let link = if t.link { AT_SYMLINK_NOFOLLOW } else { 0 };
        self.slots[t.slot] = sys::clone_tree_with(libc::AT_FDCWD, &t.path, recursive | link, 0, 0, libc::MS_SLAVE)?;
        Ok(())
    }

    /// The path is walked as for a mount, so that it is the container's; what it leads to is then named by its descriptor.
    pub(super) fn unmount(&self, dest: &CStr) -> Done {
        let mount = resolve::open(self.root, dest, libc::O_PATH | libc::O_NOFOLLOW, false)?;
        let mut path = ShortPath::new();
        descriptor_path(&mut path, mount)?;
        self.in_proc(|| sys::umount2(path.as_c_str(), libc::MNT_DETACH))?;
        done_with(mount);
        Ok(())
    }

    /// The link itself, made anew: what it leads to is for the container to find.
    #[inline(never)]
    fn copy_link(&mut self, m: &MountStep, link: RawFd) -> Done {
        let (mut text, mut there) = ([0; PATH_MAX], [0; PATH_MAX]);
        // One byte stays as the end mark.
        let length = sys::readlinkat(link, c"", &mut text[..PATH_MAX - 1])?;
        let target = CStr::from_bytes_until_nul(&text).map_err(|_| Errno(libc::ENAMETOOLONG))?;
        let (dir, name) = resolve::parent(self.root, &m.dest)?;
        match sys::symlinkat(target, dir, name) {
            Err(Errno(libc::EEXIST)) => match sys::readlinkat(dir, name, &mut there) {
                Ok(n) if there[..n] == text[..length] => {}
                _ => return Err(Fail::new(libc::EEXIST, Code::WrongType)),
            },
            r => r?,
        }
        self.clear_stage()
    }

    /// A mount with an id map can only have come from the parent, detached: mount(2) knows none.
    fn idmapped_mount(&mut self, m: &MountStep, tree: RawFd) -> Done {
        let classic = std::mem::replace(&mut self.classic, false);
        let directory = sys::fstat(tree)?.is_dir();
        let target = self.target(m, tree, directory)?;
        let done = self.finish(m, m.attrs, tree, target);
        self.classic = classic;
        done
    }

    /// Attributes of its own, then the mount is put in its place.
    fn finish(&mut self, m: &MountStep, attrs: Attrs, tree: RawFd, target: RawFd) -> Done {
        self.set_apart(m, attrs, tree)?;
        self.attach(tree, target)?;
        done_with(target);
        self.attached(m, tree);
        Ok(())
    }

    /// The same without a descriptor of the mount point, where its name cannot lead elsewhere; says whether it was done. What stands in the way is
    /// for the longer way to find.
    fn finished_by_name(&mut self, m: &MountStep, attrs: Attrs, tree: RawFd) -> Result<bool, Fail> {
        let in_root = !m.dest.is_empty() && !m.dest.to_bytes().contains(&b'/');
        let place = self.in_sysfs(&m.dest).or_else(|| in_root.then_some((self.root, &*m.dest)));
        let Some((dir, name)) = place.filter(|_| !self.classic && m.keep.is_none()) else { return Ok(false) };
        self.set_apart(m, attrs, tree)?;
        // It follows no link in the last component.
        let done = sys::move_mount_to(tree, dir, name).is_ok();
        if done {
            self.attached(m, tree);
        }
        Ok(done)
    }

    /// An entry of `/sys`, or one below that, by name below the descriptor of the sysfs that was mounted there. Among the entries of a sysfs there is no
    /// link, and what is mounted on one of them is a directory, so that nothing leads elsewhere but the last component.
    pub(super) fn in_sysfs<'p>(&self, dest: &'p CStr) -> Option<(RawFd, &'p CStr)> {
        let shallow = |name: &&CStr| name.to_bytes().iter().filter(|byte| **byte == b'/').count() <= 1;
        self.sys.zip(resolve::below(dest, b"sys/").filter(shallow))
    }

    /// Gives a mount that is in no place yet its attributes and its propagation.
    fn set_apart(&mut self, m: &MountStep, attrs: Attrs, tree: RawFd) -> Done {
        let (once, tree_wide) = match m.propagation & MS_REC {
            0 => (m.propagation, 0),
            _ => (0, m.propagation & !MS_REC),
        };
        if !attrs.is_empty() || once != 0 {
            self.change(tree, false, Change { set: attrs.set, clear: attrs.clear, propagation: once })?;
        }
        if !m.recursive_attrs.is_empty() || tree_wide != 0 {
            let Attrs { set, clear } = m.recursive_attrs;
            self.change(tree, true, Change { set, clear, propagation: tree_wide })?;
        }
        Ok(())
    }

    /// A mount was made. By a link of the image it may lie over `/sys`, whose descriptor then leads to what is covered.
    fn made(&mut self, dest: &CStr) {
        let dest = dest.to_bytes();
        if !(dest == b"proc" || dest.starts_with(b"dev/") || dest.starts_with(b"sys/")) {
            self.sys = None;
        }
    }

    /// Remembers what later steps start from.
    fn attached(&mut self, m: &MountStep, tree: RawFd) {
        self.made(&m.dest);
        let is_fs = |kind: &[u8]| matches!(&m.kind, MountKind::Fs(f) if kind.is_empty() || f.fstype.to_bytes() == kind);
        match m.dest.to_bytes() {
            b"" => (self.dev, self.fresh_dev) = (None, false),
            b"dev" => {
                self.fresh_dev = is_fs(b"");
                self.dev = self.fresh_dev.then_some(tree);
            }
            b"sys" => self.sys = is_fs(b"sysfs").then_some(tree),
            _ => {}
        }
        match m.keep {
            Some(slot) => self.slots[slot] = tree,
            None if self.dev == Some(tree) || self.sys == Some(tree) => {}
            None => done_with(tree),
        }
    }

    /// Changes the mount that is at the destination.
    fn remount(&mut self, m: &MountStep, options: &FsOptions) -> Done {
        let follow = if m.on_link { libc::O_NOFOLLOW } else { 0 };
        let mount = resolve::open(self.root, &m.dest, libc::O_PATH | follow, m.no_symlinks)?;
        if options.flags != 0 || !options.pairs.is_empty() {
            self.reconfigure(mount, options)?;
        }
        for (attrs, recursive) in [(m.attrs, false), (m.recursive_attrs, true)] {
            let propagation = if recursive == (m.propagation & MS_REC != 0) { m.propagation & !MS_REC } else { 0 };
            if !attrs.is_empty() || propagation != 0 {
                self.change(mount, recursive, Change { set: attrs.set, clear: attrs.clear, propagation })?;
            }
        }
        done_with(mount);
        Ok(())
    }

    /// Sets attributes of a mount that is in its place.
    pub(super) fn set_attributes(&mut self, mount: RawFd, set: u64) -> Done {
        self.with_fallback(|c| c.change(mount, false, Change { set, ..Change::default() }))
    }

    /// The mount point, made when missing: a directory for a directory, a file for anything else.
    fn target(&self, m: &MountStep, tree: RawFd, is_fs: bool) -> Result<RawFd, Fail> {
        // Most mount points of a container lie in its new and empty /dev: there they are made without looking first.
        if let (Some((dev, name)), true) = (self.in_dev(&m.dest), is_fs)
            && sys::mkdirat(dev, name, 0o755).is_ok()
        {
            return Ok(sys::openat(dev, name, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?);
        }
        let follow = if m.on_link { libc::O_NOFOLLOW } else { 0 };
        match resolve::open(self.root, &m.dest, libc::O_PATH | follow, m.no_symlinks) {
            Err(Errno(libc::ENOENT)) if is_fs || sys::fstat(tree)?.is_dir() => resolve::make_dirs(self.root, &m.dest, m.no_symlinks),
            Err(Errno(libc::ENOENT)) => resolve::ensure_file(self.root, &m.dest),
            Err(Errno(libc::ELOOP)) => Err(Fail::new(libc::ELOOP, Code::Unsafe)),
            r => Ok(r?),
        }
    }

    /// What a tmpfs takes over from the directory it covers, and the label of what takes none when it is made.
    fn fill(&mut self, m: &MountStep, f: &FsMount, tree: RawFd, target: RawFd) -> Done {
        if f.mode_of_target || f.label.is_some() {
            let root = sys::openat(tree, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
            if f.mode_of_target {
                sys::fchmod(root, sys::fstat(target)?.mode & 0o7777)?;
            }
            if let Some(label) = &f.label {
                sys::fsetxattr(root, c"security.selinux", label.to_bytes())?;
            }
            sys::close(root);
        }
        if f.copy_up { self.copy_up(&m.dest, tree) } else { Ok(()) }
    }

    /// A new file system, or what is bound instead where the kernel refuses one. The second value says that it is the latter.
    fn new_fs(&mut self, f: &FsMount, attrs: u64) -> Result<(RawFd, bool), Fail> {
        let (refused, instead) = match (self.made_fs(f, attrs), &f.instead) {
            (Err(refused @ Fail { errno: libc::EPERM | libc::EBUSY, .. }), Some(instead)) => (refused, instead),
            (r, _) => return r.map(|tree| (tree, false)),
        };
        let tree = match self.source(&instead.source, true, false) {
            // There is nothing that could stand in.
            Err(Fail { errno: libc::ENOENT, .. }) => return Err(refused),
            r => r?,
        };
        // What the kernel had to say is settled.
        self.detail_len = 0;
        self.change(tree, true, Change { set: attrs | instead.attrs, ..Change::default() })?;
        Ok((tree, true))
    }

    fn made_fs(&mut self, f: &FsMount, attrs: u64) -> Result<RawFd, Fail> {
        if self.classic {
            return self.classic_new(&f.fstype, &f.source, f.options.flags, &f.options.data, attrs);
        }
        let fs = sys::fsopen(&f.fstype)?;
        let made = configure(fs, f).and_then(|()| sys::fsmount(fs, attrs));
        let made = made.map_err(|e| self.with_kernel_log(fs, e));
        done_with(fs);
        made
    }

    /// The kernel's own words about a failed fsopen(2) context: `e tmpfs: Unknown parameter 'x'`.
    fn with_kernel_log(&mut self, fs: RawFd, e: Errno) -> Fail {
        let mut line = [0; 256];
        match sys::read(fs, &mut line) {
            Ok(n) if n > 2 => {
                self.set_detail(line[2..n].trim_ascii_end());
                Fail::new(e.0, Code::Detail)
            }
            _ => e.into(),
        }
    }
}

/// A detached copy of the tree at a path, or at the descriptor itself where the path is empty.
pub(super) fn clone_tree(dir: RawFd, path: &CStr, recursive: bool, link: bool) -> Result<RawFd, Errno> {
    let empty = if path.is_empty() { AT_EMPTY_PATH } else { 0 };
    let link = if link { AT_SYMLINK_NOFOLLOW } else { 0 };
    sys::open_tree(dir, path, OPEN_TREE_CLONE | empty | link | if recursive { AT_RECURSIVE } else { 0 })
}

fn configure(fs: RawFd, f: &FsMount) -> Result<(), Errno> {
    sys::fsconfig_set(fs, c"source", Some(&f.source))?;
    for (key, value) in &f.options.pairs {
        sys::fsconfig_set(fs, key, value.as_deref())?;
    }
    sys::fsconfig_create(fs)
}
