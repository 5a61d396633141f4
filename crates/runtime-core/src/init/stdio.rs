//! Descriptors the process keeps, and its terminal. Not here: the parent's side of the terminal (`engine::console`).

use super::{Child, Done, Fail, resolve, wire::Code};
use crate::sys::{self, Errno};
use std::os::fd::RawFd;

/// Marks everything from `first` on close-on-exec: what the runtime's caller left open does not reach the container.
pub(super) fn close_on_exec(first: u32) -> Done {
    Ok(sys::close_from(first, true)?)
}

/// A standard descriptor that is the host's null device is replaced by the container's, whose owner and label fit; others are given to the
/// user of the process, as far as that is possible.
pub(super) fn prepare(uid: u32, gid: u32, fresh_dev: bool) -> Done {
    let mut null = None;
    for fd in 0..3 {
        let Ok(st) = sys::fstat(fd) else { continue };
        if st.is_char(1, 3) {
            if null.is_none() {
                null = open_null(fresh_dev);
            }
            if let Some(container) = null {
                sys::dup_to(container, fd)?;
            }
        } else if st.uid != uid && !st.is_char_device() {
            // EINVAL: the owner is not mapped; EPERM, EROFS: not ours to change.
            let _ = sys::fchownat(fd, c"", uid, gid, libc::AT_EMPTY_PATH);
        }
    }
    Ok(())
}

/// The container's null device, if it has a real one: never through a symbolic link (CVE-2026-88265), type and number verified before and
/// after the open. In a `/dev` that was made here there is only what was made there, and of that name nothing else.
fn open_null(fresh_dev: bool) -> Option<RawFd> {
    const PATH: &std::ffi::CStr = c"/dev/null";
    let is_null = |st: sys::Stat| st.is_char(1, 3);
    if !fresh_dev {
        sys::fstatat(libc::AT_FDCWD, PATH, libc::AT_SYMLINK_NOFOLLOW).ok().filter(|st| is_null(*st))?;
    }
    let fd = sys::openat(libc::AT_FDCWD, PATH, libc::O_RDWR | libc::O_NOFOLLOW | libc::O_NONBLOCK, 0).ok()?;
    if fresh_dev || sys::fstat(fd).is_ok_and(is_null) {
        Some(fd)
    } else {
        sys::close(fd);
        None
    }
}

impl Child<'_> {
    /// Opens a terminal of the container's own devpts, sends its master side away and makes the other side the process's.
    pub(super) fn terminal(&mut self, console: RawFd, size: (u16, u16), uid: u32, bind_console: bool) -> Done {
        let ptmx = open_ptmx()?;
        let peer = sys::pty_peer(ptmx)?;
        if self.wire.foreground.is_some() {
            // Line ends are completed by the terminal that shows them; what goes to a file or a pipe has none to complete.
            sys::bare_newlines(peer)?;
        }
        let size = if size == (0, 0) { self.wire.foreground.unwrap_or(size) } else { size };
        if size != (0, 0) {
            sys::set_window_size(peer, size.0, size.1)?;
        }
        if uid != 0 {
            sys::fchownat(peer, c"", uid, u32::MAX, libc::AT_EMPTY_PATH)?;
        }
        if bind_console {
            bind_to_console(self, peer)?;
        }
        sys::send_fd(console, ptmx, b" ")?;
        sys::set_controlling_terminal(peer)?;
        for fd in 0..3 {
            sys::dup_to(peer, fd)?;
        }
        sys::close(ptmx);
        Ok(())
    }
}

/// The multiplexer of the devpts instance itself; /dev/ptmx may be a device node of another one.
fn open_ptmx() -> Result<RawFd, Fail> {
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    let fd = sys::openat(libc::AT_FDCWD, c"/dev/pts/ptmx", libc::O_RDWR | libc::O_NOCTTY | libc::O_NOFOLLOW, 0)?;
    if sys::fstatfs_type(fd)? == DEVPTS_SUPER_MAGIC { Ok(fd) } else { Err(Fail::new(libc::ENODEV, Code::Unsafe)) }
}

/// Binds the terminal over /dev/console, by descriptor on both sides and never through a symbolic link (CVE-2025-52565, CVE-2026-88264).
fn bind_to_console(child: &mut Child<'_>, peer: RawFd) -> Done {
    let dev = sys::openat(libc::AT_FDCWD, c"/dev", libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?;
    let target = match resolve::make_file(dev, c"console") {
        Err(Errno(libc::EEXIST)) => {
            let fd = sys::openat(dev, c"console", libc::O_PATH | libc::O_NOFOLLOW, 0)?;
            let st = sys::fstat(fd)?;
            if !st.is_regular() && !st.is_char_device() {
                return Err(Fail::new(libc::EEXIST, Code::WrongType));
            }
            fd
        }
        // A read-only /dev without the file: the container does without.
        Err(Errno(libc::EROFS)) => return Ok(()),
        r => r?,
    };
    child.bind(peer, target)
}
