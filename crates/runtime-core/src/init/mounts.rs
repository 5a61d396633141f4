//! Mount steps: a detached mount is made, then attached by descriptor. Not here: the root (`root`), devices (`nodes`).

use super::{Child, Done, Fail, done_with, resolve, wire::Code};
use crate::plan::mount_flags::LOCKED_DOWN;
use crate::plan::step::{FsMount, Masks, MountKind, MountStep, Source};
use crate::sys::{self, AT_EMPTY_PATH, AT_RECURSIVE, Errno, OPEN_TREE_CLONE};
use std::ffi::CStr;
use std::os::fd::RawFd;

const MS_REC: u64 = libc::MS_REC;

impl Child<'_> {
    pub(super) fn mount(&mut self, m: &MountStep) -> Done {
        let (tree, is_fs) = match &m.kind {
            MountKind::Bind { source: Source::Slot(slot), .. } => (self.slots[*slot], false),
            MountKind::Bind { source: Source::Path(path), recursive } => (clone_tree(libc::AT_FDCWD, path, *recursive)?, false),
            MountKind::Fs(f) => self.new_fs(f, m.attrs.set)?,
        };
        let target = self.target(m, tree, is_fs)?;
        if let MountKind::Fs(f) = &m.kind {
            self.fill(m, f, tree, target)?;
        }
        // A new file system got its attributes when it was made.
        let attrs = if is_fs { Default::default() } else { m.attrs };
        let (once, tree_wide) = match m.propagation & MS_REC {
            0 => (m.propagation, 0),
            _ => (0, m.propagation & !MS_REC),
        };
        if !attrs.is_empty() || once != 0 {
            sys::mount_setattr(tree, false, attrs.set, attrs.clear, once)?;
        }
        if !m.recursive_attrs.is_empty() || tree_wide != 0 {
            sys::mount_setattr(tree, true, m.recursive_attrs.set, m.recursive_attrs.clear, tree_wide)?;
        }
        sys::move_mount(tree, target)?;
        done_with(target);
        if matches!(m.dest.to_bytes(), b"" | b"dev") {
            self.fresh_dev = is_fs && !m.dest.is_empty();
            self.dev = self.fresh_dev.then_some(tree);
        }
        match m.keep {
            Some(slot) => self.slots[slot] = tree,
            None if self.dev == Some(tree) => {}
            None => done_with(tree),
        }
        Ok(())
    }

    /// The mount point, made when missing: a directory for a directory, a file for anything else.
    fn target(&self, m: &MountStep, tree: RawFd, is_fs: bool) -> Result<RawFd, Fail> {
        // Most mount points of a container lie in its new and empty /dev: there they are made without looking first.
        if let (Some((dev, name)), true) = (self.in_dev(&m.dest), is_fs)
            && sys::mkdirat(dev, name, 0o755).is_ok()
        {
            return Ok(sys::openat(dev, name, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?);
        }
        match resolve::open(self.root, &m.dest, libc::O_PATH, m.no_symlinks) {
            Err(Errno(libc::ENOENT)) if is_fs || sys::fstat(tree)?.is_dir() => resolve::make_dirs(self.root, &m.dest, m.no_symlinks),
            Err(Errno(libc::ENOENT)) => resolve::ensure_file(self.root, &m.dest),
            Err(Errno(libc::ELOOP)) => Err(Fail::new(libc::ELOOP, Code::Unsafe)),
            r => Ok(r?),
        }
    }

    /// What a tmpfs takes over from the directory it covers.
    fn fill(&mut self, m: &MountStep, f: &FsMount, tree: RawFd, target: RawFd) -> Done {
        if f.mode_of_target {
            let root = sys::openat(tree, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
            sys::fchmod(root, sys::fstat(target)?.mode & 0o7777)?;
            sys::close(root);
        }
        if f.copy_up { self.copy_up(&m.dest, tree) } else { Ok(()) }
    }

    /// A detached mount of a new file system, or of what is bound instead where the kernel refuses one. The second value says which.
    fn new_fs(&mut self, f: &FsMount, attrs: u64) -> Result<(RawFd, bool), Fail> {
        let fs = sys::fsopen(&f.fstype)?;
        let made = configure(fs, f).and_then(|()| sys::fsmount(fs, attrs));
        let result = match (made, &f.instead) {
            (Ok(tree), _) => Ok((tree, true)),
            (Err(Errno(libc::EPERM | libc::EBUSY)), Some(path)) => {
                let tree = clone_tree(libc::AT_FDCWD, path, true)?;
                sys::mount_setattr(tree, true, attrs | super::root::READ_ONLY, 0, 0)?;
                Ok((tree, true))
            }
            (Err(e), _) => Err(self.with_kernel_log(fs, e)),
        };
        done_with(fs);
        result
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

    pub(super) fn mask(&mut self, dest: &CStr, by: Option<Masks>) -> Done {
        let target = match resolve::open(self.root, dest, libc::O_PATH, false) {
            Err(Errno(libc::ENOENT | libc::ENOTDIR | libc::EACCES)) => return Ok(()),
            r => r?,
        };
        let directory = sys::fstat(target)?.is_dir();
        let first = if directory { self.mask_directory } else { self.mask_file };
        let tree = match (first, by) {
            (Some(first), _) => clone_tree(first, c"", false)?,
            (None, Some(by)) => self.slots[if directory { by.empty } else { by.null }],
            (None, None) if directory => empty_directory()?,
            (None, None) => null_device()?,
        };
        sys::move_mount(tree, target)?;
        if first.is_some() {
            done_with(tree);
        } else if directory {
            self.mask_directory = Some(tree);
        } else {
            self.mask_file = Some(tree);
        }
        done_with(target);
        Ok(())
    }

    pub(super) fn readonly_path(&mut self, dest: &CStr) -> Done {
        let target = match resolve::open(self.root, dest, libc::O_PATH, false) {
            Err(Errno(libc::ENOENT | libc::ENOTDIR | libc::EACCES)) => return Ok(()),
            r => r?,
        };
        let tree = clone_tree(target, c"", true)?;
        sys::mount_setattr(tree, true, super::root::READ_ONLY, 0, 0)?;
        sys::move_mount(tree, target)?;
        done_with(tree);
        done_with(target);
        Ok(())
    }
}

/// An empty file system that cannot be written to.
fn empty_directory() -> Result<RawFd, Errno> {
    let fs = sys::fsopen(c"tmpfs")?;
    let made = sys::fsconfig_set(fs, c"mode", Some(c"555")).and_then(|()| sys::fsconfig_create(fs));
    let tree = made.and_then(|()| sys::fsmount(fs, LOCKED_DOWN));
    sys::close(fs);
    tree
}

/// The null device of the tree the process still sees, verified: nothing else may hide files.
fn null_device() -> Result<RawFd, Fail> {
    let tree = clone_tree(libc::AT_FDCWD, c"/dev/null", false)?;
    if sys::fstat(tree)?.is_char(1, 3) { Ok(tree) } else { Err(Fail::new(0, Code::WrongType)) }
}

/// A detached copy of the tree at a path, or at the descriptor itself where the path is empty.
pub(super) fn clone_tree(dir: RawFd, path: &CStr, recursive: bool) -> Result<RawFd, Errno> {
    let empty = if path.is_empty() { AT_EMPTY_PATH } else { 0 };
    sys::open_tree(dir, path, OPEN_TREE_CLONE | empty | if recursive { AT_RECURSIVE } else { 0 })
}

fn configure(fs: RawFd, f: &FsMount) -> Result<(), Errno> {
    sys::fsconfig_set(fs, c"source", Some(&f.source))?;
    for (key, value) in &f.options {
        sys::fsconfig_set(fs, key, value.as_deref())?;
    }
    sys::fsconfig_create(fs)
}
