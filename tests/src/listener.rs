//! Answering the notifications of a seccomp filter, whose descriptor came over a [`ConsoleSocket`](crate::ConsoleSocket).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The notify descriptor.
pub struct Listener(pub OwnedFd);

impl Listener {
    /// Waits for a notification: its id and the number of the system call; `None` when no process has the filter any more.
    ///
    /// # Panics
    /// If the descriptor is no listener.
    pub fn next(&self) -> Option<(u64, i32)> {
        let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::NONE).expect("poll the listener");
        if !ready[0].revents().is_some_and(|flags| flags.contains(PollFlags::POLLIN)) {
            return None;
        }
        // SAFETY: the structure is plain old data, and zero as the kernel demands.
        let mut seen: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: a valid pointer to what the ioctl fills.
        let got = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &mut seen) };
        let gone = got < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT);
        assert!(gone || got == 0, "no notification: {}", std::io::Error::last_os_error());
        (!gone).then_some((seen.id, seen.data.nr))
    }

    /// Lets the system call return `value`; a caller that is gone needs no answer.
    ///
    /// # Panics
    /// If the descriptor is no listener.
    pub fn answer(&self, id: u64, value: i64) {
        let response = libc::seccomp_notif_resp { id, val: value, error: 0, flags: 0 };
        // SAFETY: a valid pointer to what the ioctl reads.
        let got = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &response) };
        let gone = got < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT);
        assert!(gone || got == 0, "not answered: {}", std::io::Error::last_os_error());
    }
}
