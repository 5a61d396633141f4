//! The first process of a container that exists: holding on to it without mistaking another for it. Not here: making it (`launch`).

use crate::error::{Context, Error, ErrorKind, Result};
use crate::state::{Record, state_of};
use crate::sys::{self, Errno};
use std::os::fd::{AsRawFd, OwnedFd};

/// A container's first process, alive when this was made. The descriptor keeps its number from passing to another process.
pub(crate) struct FirstProcess {
    pidfd: OwnedFd,
    pid: i32,
}

impl FirstProcess {
    /// The process of a record; `None` when it has ended. The descriptor is opened first and the start time is compared then, so that a
    /// number which passed to another process in between is noticed.
    ///
    /// # Errors
    /// The kernel does not let us look.
    pub(crate) fn of(record: &Record) -> Result<Option<Self>> {
        let pid = record.pid;
        let pidfd = match sys::pidfd(pid) {
            Err(Errno(libc::ESRCH)) => return Ok(None),
            r => r.context(|| format!("pidfd_open {pid}"))?,
        };
        Ok(is_alive(record)?.then_some(Self { pidfd, pid }))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// [`ErrorKind::NotRunning`] with the words of every engine when it has ended meanwhile.
    pub(crate) fn signal(&self, signal: i32) -> Result<()> {
        match sys::pidfd_send_signal(self.pidfd.as_raw_fd(), signal) {
            Err(Errno(libc::ESRCH)) => Err(not_running()),
            r => r.context(|| "kill container"),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It still lives after `timeout` milliseconds.
    pub(crate) fn wait(&self, timeout: i32) -> Result<()> {
        if sys::poll_in(self.pidfd.as_raw_fd(), timeout).context(|| "poll the container's process")? {
            return Ok(());
        }
        Err(Error::other(format!("process {} was killed and has not ended after {} seconds", self.pid, timeout / 1000)))
    }
}

/// Whether the process of a record still runs.
///
/// # Errors
/// /proc cannot be read.
pub(crate) fn is_alive(record: &Record) -> Result<bool> {
    let now = state_of(record.pid)?;
    Ok(now.is_some_and(|p| p.lives() && p.start_time == record.process_start_time))
}

/// The text for a process that has ended: crun's prefix, then what containerd, podman and CRI-O look for, in the case they do.
pub(crate) fn not_running() -> Error {
    Error::new(ErrorKind::NotRunning, "kill container: container not running: no such process")
}
