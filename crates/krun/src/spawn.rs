//! What a started program is given between fork and exec: a network namespace, one descriptor, and no blocked signal. Not here: starting it
//! (`passt`).
#![allow(unsafe_code)]

use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has the program start in the network namespace, if one is given, with `kept` open under its own number. The caller holds both open until
/// it is started.
pub(crate) fn prepare(command: &mut Command, namespace: Option<RawFd>, kept: RawFd) {
    let before_exec = move || {
        // A runtime in the foreground has its signals blocked, and this program lives on.
        // SAFETY: an all-zero set is a valid one, filled by the call before it is used.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        }
        // SAFETY: takes numbers only.
        if namespace.is_some_and(|fd| unsafe { libc::setns(fd, libc::CLONE_NEWNET) } < 0) {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: takes numbers only.
        if unsafe { libc::fcntl(kept, libc::F_SETFD, 0) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only, which are async-signal-safe, and allocates nothing;
    // `last_os_error` reads errno.
    unsafe { command.pre_exec(before_exec) };
}
