//! The parent's forms of raw calls that make descriptors: owned ones. Not here: the calls.

use super::call::{Errno, Result};
use super::{
    AT_EMPTY_PATH, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW, OPEN_TREE_CLONE, OPEN_TREE_NAMESPACE, SignalMask, fsmount, fsopen, is_filtered,
    memfd_with, open_tree, pidfd_open,
};
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

fn owned(fd: Result<RawFd>) -> Result<OwnedFd> {
    // SAFETY: every caller passes the result of a call that has just made the descriptor and gave it to nobody else.
    fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Descriptors that are closed together, those with numbers in a row by one call.
#[derive(Debug, Default)]
pub(crate) struct Together(Vec<OwnedFd>);

impl Together {
    /// The numbers.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        self.0.iter().map(AsRawFd::as_raw_fd)
    }

    /// One more.
    pub(crate) fn add(&mut self, fd: OwnedFd) {
        self.0.push(fd);
    }
}

impl FromIterator<OwnedFd> for Together {
    fn from_iter<I: IntoIterator<Item = OwnedFd>>(descriptors: I) -> Self {
        Self(descriptors.into_iter().collect())
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        let mut all: Vec<_> = self.0.drain(..).collect();
        all.sort_unstable_by_key(|fd| fd.as_raw_fd());
        while !all.is_empty() {
            let row = all.windows(2).take_while(|pair| pair[1].as_raw_fd() - pair[0].as_raw_fd() == 1).count() + 1;
            let row: Vec<_> = all.drain(..row).collect();
            let (first, last) = (row[0].as_raw_fd() as u32, row[row.len() - 1].as_raw_fd() as u32);
            // Every number between is owned here. Without the call (before kernel 5.9) they are closed one by one.
            if row.len() > 1 && super::close_range(first, last, false).is_ok() {
                row.into_iter().for_each(|fd| _ = fd.into_raw_fd());
            }
        }
    }
}

/// A file in memory with `bytes` in it, positioned at the start.
pub(crate) fn memory_file(bytes: &[u8]) -> Result<File> {
    owned(memfd_with(bytes)).map(File::from)
}

/// Makes `command` keep none of this process's descriptors but the standard ones, whoever opened them and how, and no blocked signal: a
/// runtime in the foreground has all of them blocked.
pub(crate) fn inherit_little(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let mark = || {
        super::close_from(3, true)
            .and_then(|()| super::set_signal_mask(&SignalMask::NONE))
            .map_err(|e| std::io::Error::from_raw_os_error(e.0))
    };
    // SAFETY: the closure makes nothing but system calls, which is all right between fork and exec, and touches no memory of the parent's.
    unsafe { command.pre_exec(mark) };
}

/// `pidfd_open(2)`.
pub(crate) fn pidfd(pid: i32) -> Result<OwnedFd> {
    owned(pidfd_open(pid))
}

/// [`descriptor_of`](super::descriptor_of), owned.
pub(crate) fn taken_from(pidfd: &OwnedFd, fd: RawFd) -> Result<OwnedFd> {
    owned(super::descriptor_of(pidfd.as_raw_fd(), fd))
}

/// [`output_file`](super::output_file), owned.
pub(crate) fn sealable_file() -> Result<OwnedFd> {
    owned(super::output_file())
}

/// A detached copy of the tree at an absolute path (OPEN_TREE_CLONE); with `link`, of a symbolic link that is there and not of what it leads to.
pub(crate) fn detached_tree(path: &CStr, recursive: bool, link: bool) -> Result<OwnedFd> {
    let recursive = if recursive { AT_RECURSIVE } else { 0 };
    let link = if link { AT_SYMLINK_NOFOLLOW } else { 0 };
    owned(open_tree(libc::AT_FDCWD, path, OPEN_TREE_CLONE | recursive | link))
}

/// [`detached_tree`] with attributes, see [`clone_tree_with`](super::clone_tree_with).
pub(crate) fn detached_tree_with(path: &CStr, recursive: bool, link: bool, set: u64, clear: u64, propagation: u64) -> Result<OwnedFd> {
    let recursive = if recursive { AT_RECURSIVE } else { 0 };
    let link = if link { AT_SYMLINK_NOFOLLOW } else { 0 };
    owned(super::clone_tree_with(libc::AT_FDCWD, path, recursive | link, set, clear, propagation))
}

/// [`open_inside`](super::open_inside), owned.
pub(crate) fn inside_root(root: &OwnedFd, path: &CStr, flags: i32) -> Result<OwnedFd> {
    owned(super::open_inside(root.as_raw_fd(), path, flags, false))
}

/// A mount namespace whose root is a copy of the tree at an absolute path (OPEN_TREE_NAMESPACE).
pub(crate) fn tree_namespace(path: &CStr) -> Result<OwnedFd> {
    owned(open_tree(libc::AT_FDCWD, path, OPEN_TREE_NAMESPACE | AT_RECURSIVE))
}

/// Whether [`tree_namespace`] can be had: the kernel looks at flags before descriptors. Nothing can be mounted there by paths of the host, so
/// no filter may keep back one of the calls that do it by descriptor.
pub(crate) fn has_tree_namespaces() -> bool {
    open_tree(-1, c"", OPEN_TREE_NAMESPACE | AT_EMPTY_PATH) == Err(Errno(libc::EBADF)) && !is_filtered()
}

/// Whether this process may copy trees of its mount namespace: the kernel looks at privileges before descriptors.
pub(crate) fn may_copy_trees() -> bool {
    open_tree(-1, c"", OPEN_TREE_CLONE | AT_EMPTY_PATH) == Err(Errno(libc::EBADF))
}

/// [`fsopen`], owned.
pub(crate) fn new_file_system(fstype: &CStr) -> Result<OwnedFd> {
    owned(fsopen(fstype))
}

/// [`fsmount`], owned.
pub(crate) fn detached_mount(fs: &OwnedFd, attrs: u64) -> Result<OwnedFd> {
    owned(fsmount(fs.as_raw_fd(), attrs))
}
