//! System calls that copy files. Not here: which files are copied (`init::copy_up`).

use super::call::{Result, call};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

/// Entries of a directory, read into the caller's memory.
pub(crate) struct Entries<'b> {
    rest: &'b [u8],
}

impl<'b> Entries<'b> {
    /// How many bytes they take.
    pub(crate) fn length(&self) -> usize {
        self.rest.len()
    }

    /// The next entry's name. `.` and `..` are among them.
    pub(crate) fn next(&mut self) -> Option<&'b CStr> {
        self.next_with_type().map(|(name, _)| name)
    }

    /// The next entry's name and what it is, DT_DIR and so on (readdir(3)).
    pub(crate) fn next_with_type(&mut self) -> Option<(&'b CStr, u8)> {
        // struct linux_dirent64 (getdents(2)): inode and offset of 8 bytes each, length of 2, type of 1, then the name.
        const LENGTH_AT: usize = 16;
        const TYPE_AT: usize = 18;
        const NAME_AT: usize = 19;
        let length = self.rest.get(LENGTH_AT..LENGTH_AT + 2)?;
        let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
        let entry = self.rest.get(..length)?;
        self.rest = &self.rest[length..];
        Some((CStr::from_bytes_until_nul(entry.get(NAME_AT..)?).ok()?, entry[TYPE_AT]))
    }
}

/// Room for the entries of a directory, of which no more is touched than they take.
// In this order few of them lie in one page.
#[repr(C)]
pub(crate) struct EntryBuffer {
    /// So many bytes are set.
    len: usize,
    bytes: [MaybeUninit<u8>; EntryBuffer::SIZE],
}

impl EntryBuffer {
    /// Bytes.
    pub(crate) const SIZE: usize = 4096;

    pub(crate) const fn new() -> Self {
        Self { bytes: [MaybeUninit::uninit(); Self::SIZE], len: 0 }
    }

    /// As [`entries`]: those that there is room for, from the descriptor's position on.
    pub(crate) fn fill(&mut self, dir: RawFd) -> Result<()> {
        self.len = 0;
        // SAFETY: pointer and length describe the bytes, which the kernel may fill.
        self.len = unsafe { call!(SYS_getdents64, dir, self.bytes.as_mut_ptr(), Self::SIZE) }?;
        Ok(())
    }

    pub(crate) fn entries(&self) -> Entries<'_> {
        // SAFETY: the kernel has set so many bytes, and MaybeUninit<u8> has the layout of u8.
        Entries { rest: unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast(), self.len) } }
    }
}

/// `getdents64(2)`; no entries at the end. The descriptor keeps the position.
pub(crate) fn entries(dir: RawFd, buf: &mut [u8]) -> Result<Entries<'_>> {
    // SAFETY: pointer and length describe `buf`.
    let n = unsafe { call!(SYS_getdents64, dir, buf.as_mut_ptr(), buf.len()) }?;
    Ok(Entries { rest: &buf[..n] })
}

/// `sendfile(2)` from where `from` stands; 0 at the end.
pub(crate) fn copy_some(from: RawFd, to: RawFd) -> Result<usize> {
    const MOST: usize = 0x7fff_f000;
    // SAFETY: the offset is null, so only numbers are passed.
    unsafe { call!(SYS_sendfile, to, from, 0, MOST) }
}

/// `fchmod(2)`.
pub(crate) fn fchmod(fd: RawFd, mode: u32) -> Result<()> {
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_fchmod, fd, mode) }.map(drop)
}

/// `readlinkat(2)`; the bytes are not terminated.
pub(crate) fn readlinkat(dir: RawFd, path: &CStr, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: `path` is NUL-terminated; pointer and length describe `buf`.
    unsafe { call!(SYS_readlinkat, dir, path.as_ptr(), buf.as_mut_ptr(), buf.len()) }
}

/// `flistxattr(2)`: names, each with its end mark.
pub(crate) fn flistxattr(fd: RawFd, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: pointer and length describe `buf`.
    unsafe { call!(SYS_flistxattr, fd, buf.as_mut_ptr(), buf.len()) }
}

/// `fgetxattr(2)`.
pub(crate) fn fgetxattr(fd: RawFd, name: &CStr, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: `name` is NUL-terminated; pointer and length describe `buf`.
    unsafe { call!(SYS_fgetxattr, fd, name.as_ptr(), buf.as_mut_ptr(), buf.len()) }
}

/// `fsetxattr(2)`.
pub(crate) fn fsetxattr(fd: RawFd, name: &CStr, value: &[u8]) -> Result<()> {
    // SAFETY: `name` is NUL-terminated; pointer and length describe `value`.
    unsafe { call!(SYS_fsetxattr, fd, name.as_ptr(), value.as_ptr(), value.len(), 0) }.map(drop)
}
