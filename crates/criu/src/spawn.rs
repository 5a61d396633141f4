//! What a started program inherits: these descriptors, and no blocked signal. Not here: starting it (`worker`).
#![allow(unsafe_code)]

use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets the program have these descriptors, and beside 0 to 2 no others. The caller holds them open until it is started.
pub(crate) fn pass(command: &mut Command, fds: Vec<RawFd>) {
    let mark = move || {
        // A runtime in the foreground has its signals blocked, and CRIU lives on SIGCHLD.
        // SAFETY: an all-zero set is a valid one, filled by the call before it is used.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        }
        // Before kernel 5.11 there remain those that this process was given open; everything of its own is marked already.
        // SAFETY: takes numbers only.
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        for fd in &fds {
            // SAFETY: takes numbers only.
            if unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only, which are async-signal-safe, and allocates nothing;
    // `last_os_error` reads errno.
    unsafe { command.pre_exec(mark) };
}
