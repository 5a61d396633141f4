//! What the running kernel takes in seccomp(2). The only `unsafe` of the crate: neither rustix nor nix has the call.

#![allow(unsafe_code)]

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: seccomp(2) returns a notify descriptor.
pub const FLAG_NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
/// `SECCOMP_FILTER_FLAG_TSYNC_ESRCH`: a failed TSYNC gives ESRCH, which leaves the return value to the descriptor.
pub const FLAG_TSYNC_ESRCH: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u32;

/// Whether the kernel knows a flag. It looks at the flags before it reads the filter, so that a filter at the null
/// address tells: EFAULT for flags it knows, EINVAL for others (seccomp(2), "SECCOMP_SET_MODE_FILTER").
pub(crate) fn supports(flag: u32) -> bool {
    const WAIT_KILLABLE_RECV: u32 = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32;
    // This one alone is refused by every kernel.
    let flags = if flag == WAIT_KILLABLE_RECV { flag | FLAG_NEW_LISTENER } else { flag };
    let filter = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: seccomp(2) only reads through its third argument, and reports a bad address by EFAULT; without a filter
    // that it could read, nothing of the process changes.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, filter) };
    result == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// Whether the kernel knows an action, `SECCOMP_RET_…` (seccomp(2), "SECCOMP_GET_ACTION_AVAIL"; Linux 4.14). One that it does not know
/// would end the thread.
pub(crate) fn takes_action(action: u32) -> bool {
    // SAFETY: seccomp(2) reads the number behind its third argument, which lives until after the call; nothing of the process changes.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    result == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_flags_are_known_and_future_ones_are_not() {
        assert!(supports(libc::SECCOMP_FILTER_FLAG_TSYNC as u32));
        assert!(supports(libc::SECCOMP_FILTER_FLAG_LOG as u32));
        assert!(!supports(1 << 31));
    }

    #[test]
    fn actions_of_today_are_known_and_others_are_not() {
        assert!(takes_action(libc::SECCOMP_RET_ALLOW));
        assert!(takes_action(libc::SECCOMP_RET_KILL_PROCESS));
        assert!(!takes_action(0x1234_0000));
    }
}
