//! The parent's forms of raw calls that make descriptors: owned ones. Not here: the calls.

use super::call::Result;
use super::{AT_RECURSIVE, AT_SYMLINK_NOFOLLOW, OPEN_TREE_CLONE, memfd_with, open_tree, pidfd_open};
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

fn owned(fd: Result<RawFd>) -> Result<OwnedFd> {
    // SAFETY: every caller passes the result of a call that has just made the descriptor and gave it to nobody else.
    fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A file in memory with `bytes` in it, positioned at the start.
pub(crate) fn memory_file(bytes: &[u8]) -> Result<File> {
    owned(memfd_with(bytes)).map(File::from)
}

/// Makes `command` keep none of this process's descriptors but the standard ones, whoever opened them and how.
pub(crate) fn close_others(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // Without the call (before kernel 5.11) there remain those that this process was given open; everything of its own is marked already.
    let mark = || {
        let _ = super::close_range(3, u32::MAX, true);
        Ok(())
    };
    // SAFETY: the closure makes one system call, which is all right between fork and exec, and touches no memory of the parent's.
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

/// [`fsopen`](super::fsopen), owned.
pub(crate) fn new_file_system(fstype: &CStr) -> Result<OwnedFd> {
    owned(super::fsopen(fstype))
}

/// [`fsmount`](super::fsmount), owned.
pub(crate) fn detached_mount(fs: &OwnedFd, attrs: u64) -> Result<OwnedFd> {
    owned(super::fsmount(fs.as_raw_fd(), attrs))
}
