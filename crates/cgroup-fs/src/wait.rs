//! Waiting with a deadline: for a line of `cgroup.events`, for the end of processes, for a state that the kernel announces nowhere.
//! Not here: what to do when the deadline has passed.

use crate::files::Dir;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::{Errno, pread};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::time::{Duration, Instant};

/// The first look for an event, which may have happened: each further one comes after twice the time, up to [`LAST_LOOK`].
const FIRST_LOOK: Duration = Duration::from_micros(100);

/// How soon it is noticed that a cgroup was removed while it was waited for.
const LAST_LOOK: Duration = Duration::from_millis(20);

/// The point in time when waiting ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(wait: Duration) -> Self {
        Self(Instant::now() + wait)
    }

    pub(crate) fn has_passed(self) -> bool {
        Instant::now() >= self.0
    }

    /// What is left, at most `most`.
    fn left(self, most: Duration) -> Timespec {
        let left = self.0.saturating_duration_since(Instant::now()).min(most);
        Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
    }
}

/// Waits until a v2 cgroup's `cgroup.events` has the line `wanted`; `false` when the deadline passed. A cgroup that is gone has
/// whatever is wanted.
pub(crate) fn event(dir: &Dir<'_>, wanted: &str, deadline: Deadline) -> Result<bool, Errno> {
    let file = match dir.open("cgroup.events", OFlags::RDONLY) {
        Err(Errno::NOENT | Errno::NODEV) => return Ok(true),
        other => other?,
    };
    let mut look = FIRST_LOOK;
    loop {
        let mut buffer = [0; 256];
        let n = match pread(&file, &mut buffer, 0) {
            Err(Errno::NODEV) => return Ok(true),
            other => other?,
        };
        if buffer[..n].split(|&b| b == b'\n').any(|line| line == wanted.as_bytes()) {
            return Ok(true);
        }
        if deadline.has_passed() {
            return Ok(false);
        }
        // The event counter is taken at the read, so nothing is lost between it and the poll. But the kernel tells of a file's events no more
        // than once in 10 ms (`CGROUP_FILE_NOTIFY_MIN_INTV`), and of the removal of the file not at all.
        ready(&mut [PollFd::new(&file, PollFlags::PRI)], deadline, look)?;
        look = (look * 2).min(LAST_LOOK);
    }
}

/// Waits until all of `pids` have ended or the deadline has passed.
pub(crate) fn exits(pids: &[i32], deadline: Deadline) -> Result<(), Errno> {
    let mut open: Vec<OwnedFd> = Vec::new();
    for pid in pids.iter().filter_map(|&p| Pid::from_raw(p)) {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => open.push(fd),
            Err(Errno::SRCH) => {}
            // Kernels before 5.3, or out of descriptors: look again soon.
            Err(_) => {
                pause(deadline, Duration::from_millis(5));
                break;
            }
        }
    }
    for fd in open {
        if deadline.has_passed() {
            break;
        }
        ready(&mut [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)], deadline, Duration::MAX)?;
    }
    Ok(())
}

/// Sleeps, where there is no event to wait for.
pub(crate) fn pause(deadline: Deadline, time: Duration) {
    // An interrupted sleep is a shorter one.
    let _ = ready(&mut [], deadline, time);
}

fn ready(fds: &mut [PollFd<'_>], deadline: Deadline, most: Duration) -> Result<(), Errno> {
    match poll(fds, Some(&deadline.left(most))) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e),
    }
}
