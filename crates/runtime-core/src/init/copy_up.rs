//! Copies what the image has below a mount point into the tmpfs that will cover it (mount option `tmpcopyup`). Not here: the mount.
//!
//! Everything is reached by descriptor and no symbolic link is followed: the image is not trusted. There is no memory to allocate, so
//! each level of the tree has its buffers on the stack.

use super::{Child, Done, Fail, PATH_MAX, resolve, wire::Code};
use crate::sys::{self, Errno, Stat};
use std::ffi::CStr;
use std::os::fd::RawFd;

/// Levels of directories; about 3 KiB of stack each. PATH_MAX allows more, no image has them.
const DEEPEST: u32 = 256;
const DIRECTORY: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;

impl Child<'_> {
    /// Fills the root of `tree`, a detached mount, from the directory it will be mounted on.
    #[inline(never)]
    pub(super) fn copy_up(&mut self, dest: &CStr, tree: RawFd) -> Done {
        let from = resolve::open(self.root, dest, libc::O_RDONLY | libc::O_DIRECTORY, false)?;
        let to = sys::openat(tree, c".", DIRECTORY, 0)?;
        let copied = self.directory_content(from, to, 0);
        sys::close(from);
        sys::close(to);
        copied
    }

    fn directory_content(&mut self, from: RawFd, to: RawFd, depth: u32) -> Done {
        if depth == DEEPEST {
            return Err(Errno(libc::ELOOP).into());
        }
        let mut buf = [0; 2048];
        loop {
            let mut entries = sys::entries(from, &mut buf)?;
            let mut any = false;
            while let Some(name) = entries.next() {
                any = true;
                if name == c"." || name == c".." {
                    continue;
                }
                if let Err(fail) = self.entry(from, to, name, depth) {
                    // The innermost name is the one that says most.
                    if self.detail_len == 0 {
                        self.set_detail(name.to_bytes());
                    }
                    return Err(Fail { code: Code::Detail, ..fail });
                }
            }
            if !any {
                return Ok(());
            }
        }
    }

    fn entry(&mut self, from: RawFd, to: RawFd, name: &CStr, depth: u32) -> Done {
        let st = sys::fstatat(from, name, libc::AT_SYMLINK_NOFOLLOW)?;
        match st.mode & libc::S_IFMT {
            libc::S_IFDIR => {
                sys::mkdirat(to, name, 0o700)?;
                let below = sys::openat(from, name, DIRECTORY, 0)?;
                let made = sys::openat(to, name, DIRECTORY, 0)?;
                self.directory_content(below, made, depth + 1)?;
                finish(below, made, &st)
            }
            libc::S_IFREG => regular(from, to, name, &st),
            libc::S_IFLNK => {
                let mut target = [0; PATH_MAX];
                // One byte stays as the end mark.
                sys::readlinkat(from, name, &mut target[..PATH_MAX - 1])?;
                let target = CStr::from_bytes_until_nul(&target).map_err(|_| Errno(libc::ENAMETOOLONG))?;
                sys::symlinkat(target, to, name)?;
                Ok(sys::fchownat(to, name, st.uid, st.gid, 0)?)
            }
            _ => {
                sys::mknodat(to, name, st.mode, st.rdev)?;
                Ok(sys::fchownat(to, name, st.uid, st.gid, 0)?)
            }
        }
    }
}

fn regular(from: RawFd, to: RawFd, name: &CStr, st: &Stat) -> Done {
    let source = sys::openat(from, name, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY, 0)?;
    let copy = sys::openat(to, name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW, 0o600)?;
    while sys::copy_some(source, copy)? > 0 {}
    finish(source, copy, st)
}

/// Owner, attributes and mode, in this order: a change of the owner takes away set-id bits and file capabilities.
fn finish(from: RawFd, to: RawFd, st: &Stat) -> Done {
    sys::fchownat(to, c"", st.uid, st.gid, libc::AT_EMPTY_PATH)?;
    attributes(from, to);
    sys::fchmod(to, st.mode & 0o7777)?;
    sys::close(from);
    sys::close(to);
    Ok(())
}

/// Extended attributes, as far as the tmpfs and the process's rights allow.
fn attributes(from: RawFd, to: RawFd) {
    let mut names = [0; 1024];
    let Ok(n) = sys::flistxattr(from, &mut names) else { return };
    let mut rest = &names[..n];
    while let Ok(name) = CStr::from_bytes_until_nul(rest) {
        let mut value = [0; 1024];
        if let Ok(len) = sys::fgetxattr(from, name, &mut value) {
            let _ = sys::fsetxattr(to, name, &value[..len]);
        }
        rest = &rest[name.to_bytes_with_nul().len()..];
    }
}
