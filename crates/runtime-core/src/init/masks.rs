//! Paths that are hidden or made read-only. Not here: mounts of the configuration (`mounts`), which paths (`plan`).
//!
//! Nearly all of them lie right in `/proc`, and a kernel has about half of what the usual lists name. So that directory is read once, and what
//! it has is covered by name below its descriptor: an entry of one component that is no link leads nowhere else.

use super::{Child, Done, Fail, classic::Change, done_with, resolve, root::READ_ONLY, wire::Code};
use crate::plan::mount_flags::{BORROWED_NODE, LOCKED_DOWN};
use crate::plan::step::Masks;
use crate::sys::{self, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW, EntryBuffer, Errno};
use std::ffi::CStr;
use std::os::fd::RawFd;

/// What is in the container's `/proc`.
pub(super) enum Listing {
    /// Nobody asked yet.
    Unread,
    /// Each path is looked up by itself.
    Unusable,
    /// Everything that is there is in the child's buffer: about 60 entries of 30 bytes are usual. The directory.
    Read(RawFd),
}

/// An entry right in `/proc`.
enum Entry<'a> {
    Directory(RawFd, &'a CStr),
    File(RawFd, &'a CStr),
    Absent,
    /// A link, or a path of another kind.
    Elsewhere,
}

impl Child<'_> {
    pub(super) fn mask(&mut self, dest: &CStr, by: Option<Masks>) -> Done {
        let (dir, name, directory) = match self.entry_of_proc(dest) {
            Entry::Absent => return Ok(()),
            Entry::Directory(dir, name) => (dir, name, true),
            Entry::File(dir, name) => (dir, name, false),
            Entry::Elsewhere if self.masked_in_sysfs(dest, by)? => return Ok(()),
            Entry::Elsewhere => return self.mask_anywhere(dest, by),
        };
        let (tree, first) = self.mask_tree(directory, by)?;
        match sys::move_mount_to(tree, dir, name) {
            Ok(()) => {
                self.masked(tree, first, directory);
                Ok(())
            }
            // Something was mounted over it.
            Err(_) => self.mask_anywhere(dest, by),
        }
    }

    /// Covers a directory of the sysfs that was mounted here, where there is a cover to make a copy of; says whether that is done, or nothing is there to
    /// be covered.
    fn masked_in_sysfs(&mut self, dest: &CStr, by: Option<Masks>) -> Result<bool, Fail> {
        let Some((dir, name)) = self.in_sysfs(dest).filter(|_| self.mask_directory.is_some() && !self.classic) else { return Ok(false) };
        let (tree, _) = self.mask_tree(true, by)?;
        let done = sys::move_mount_to(tree, dir, name);
        done_with(tree);
        Ok(matches!(done, Ok(()) | Err(Errno(libc::ENOENT))))
    }

    fn mask_anywhere(&mut self, dest: &CStr, by: Option<Masks>) -> Done {
        self.listing = Listing::Unusable;
        // Most are directories.
        let (target, directory) = match resolve::open(self.root, dest, libc::O_PATH | libc::O_DIRECTORY, false) {
            Err(Errno(libc::ENOTDIR)) => (resolve::open(self.root, dest, libc::O_PATH, false), false),
            target => (target, true),
        };
        let target = match target {
            Err(Errno(libc::ENOENT | libc::ENOTDIR | libc::EACCES)) => return Ok(()),
            r => r?,
        };
        self.with_fallback(|c| c.cover(target, directory, by))?;
        done_with(target);
        Ok(())
    }

    /// Covers the path behind `target`.
    fn cover(&mut self, target: RawFd, directory: bool, by: Option<Masks>) -> Done {
        let (tree, first) = self.mask_tree(directory, by)?;
        self.attach(tree, target)?;
        self.masked(tree, first, directory);
        Ok(())
    }

    /// What covers a file or a directory, and whether it is the first such mount.
    fn mask_tree(&mut self, directory: bool, by: Option<Masks>) -> Result<(RawFd, bool), Fail> {
        let first = if directory { self.mask_directory } else { self.mask_file };
        let slot = by.map(|by| self.slots[if directory { by.empty } else { by.null }]).filter(|fd| *fd >= 0 && !self.classic);
        let tree = match (first, slot) {
            (Some(first), _) => self.tree(first, c"", false, false)?,
            (None, Some(tree)) => tree,
            (None, None) if directory => self.empty_directory()?,
            (None, None) => self.null_device()?,
        };
        Ok((tree, first.is_none()))
    }

    /// Of the first mount copies are made.
    fn masked(&mut self, tree: RawFd, first: bool, directory: bool) {
        match (first, directory) {
            (false, _) => done_with(tree),
            (true, true) => self.mask_directory = Some(tree),
            (true, false) => self.mask_file = Some(tree),
        }
    }

    pub(super) fn readonly_path(&mut self, dest: &CStr) -> Done {
        let (dir, name) = match self.entry_of_proc(dest) {
            Entry::Absent => return Ok(()),
            Entry::Directory(dir, name) | Entry::File(dir, name) => (dir, name),
            Entry::Elsewhere => return self.readonly_anywhere(dest),
        };
        let made = sys::clone_tree_with(dir, name, AT_SYMLINK_NOFOLLOW | AT_RECURSIVE, READ_ONLY, 0, 0).and_then(|tree| {
            sys::move_mount_to(tree, dir, name)?;
            done_with(tree);
            Ok(())
        });
        made.or_else(|_| self.readonly_anywhere(dest))
    }

    fn readonly_anywhere(&mut self, dest: &CStr) -> Done {
        self.listing = Listing::Unusable;
        let target = match resolve::open(self.root, dest, libc::O_PATH, false) {
            Err(Errno(libc::ENOENT | libc::ENOTDIR | libc::EACCES)) => return Ok(()),
            r => r?,
        };
        self.with_fallback(|c| {
            let tree = c.tree(target, c"", true, false)?;
            c.change(tree, true, Change { set: READ_ONLY, ..Change::default() })?;
            c.attach(tree, target)?;
            done_with(tree);
            Ok(())
        })?;
        done_with(target);
        Ok(())
    }

    /// Looks a path up among the entries of `/proc`, which is read at the first such path.
    ///
    /// A mount made by a path may lie over `/proc` itself, and what is then covered below the descriptor would not be seen: whoever makes one
    /// puts an end to the listing.
    fn entry_of_proc<'p>(&mut self, dest: &'p CStr) -> Entry<'p> {
        // Processes may be there without being listed (proc(5), hidepid).
        let plain = |name: &&CStr| !name.to_bytes().contains(&b'/') && !name.to_bytes_with_nul()[0].is_ascii_digit();
        let Some(name) = resolve::below(dest, b"proc/").filter(plain) else { return Entry::Elsewhere };
        if matches!(self.listing, Listing::Unread) {
            self.listing = if self.classic { Listing::Unusable } else { read_listing(self.root, &mut self.scratch.entries) };
        }
        let Listing::Read(dir) = self.listing else { return Entry::Elsewhere };
        let mut entries = self.scratch.entries.entries();
        match std::iter::from_fn(|| entries.next_with_type()).find(|(entry, _)| *entry == name) {
            None => Entry::Absent,
            Some((_, libc::DT_DIR)) => Entry::Directory(dir, name),
            Some((_, libc::DT_REG)) => Entry::File(dir, name),
            Some(_) => Entry::Elsewhere,
        }
    }

    /// An empty file system that cannot be written to.
    fn empty_directory(&mut self) -> Result<RawFd, Fail> {
        if self.classic {
            return self.classic_new(c"tmpfs", c"tmpfs", 0, c"mode=555", LOCKED_DOWN);
        }
        let fs = sys::fsopen(c"tmpfs")?;
        let made = sys::fsconfig_set(fs, c"mode", Some(c"555")).and_then(|()| sys::fsconfig_create(fs));
        let tree = made.and_then(|()| sys::fsmount(fs, LOCKED_DOWN));
        sys::close(fs);
        Ok(tree?)
    }

    /// The null device of the tree the process still sees, verified: nothing else may hide files.
    fn null_device(&mut self) -> Result<RawFd, Fail> {
        let tree = self.tree(libc::AT_FDCWD, c"/dev/null", false, false)?;
        if !sys::fstat(tree)?.is_char(1, 3) {
            return Err(Fail::new(0, Code::WrongType));
        }
        self.change(tree, false, Change { set: BORROWED_NODE, ..Change::default() })?;
        Ok(tree)
    }
}

/// Reads the whole directory, if it is a procfs; one with more in it than fits, such as that of a host with all its processes, is not
/// worth it.
fn read_listing(root: RawFd, buffer: &mut EntryBuffer) -> Listing {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let Ok(dir) = resolve::open(root, c"proc", libc::O_RDONLY | libc::O_DIRECTORY, false) else { return Listing::Unusable };
    let mut more = [0; 64];
    let read = buffer.fill(dir);
    let end = sys::entries(dir, &mut more).map(|entries| entries.length());
    match (sys::fstatfs_type(dir), read, end) {
        (Ok(PROC_SUPER_MAGIC), Ok(()), Ok(0)) => Listing::Read(dir),
        _ => {
            done_with(dir);
            Listing::Unusable
        }
    }
}
