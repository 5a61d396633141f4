//! The first process of a container that exists: holding on to it without mistaking another for it. Not here: making it (`launch`).

use crate::error::{Context, Error, ErrorKind, Result};
use crate::state::{Record, state_of};
use crate::sys::{self, Errno};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::os::fd::{AsRawFd, OwnedFd};

/// A container's first process, alive when this was made. The descriptor keeps its number from passing to another process.
pub(crate) struct FirstProcess {
    handle: Handle,
    pid: i32,
    start_time: u64,
}

/// What keeps the number of a process from being taken for another's.
enum Handle {
    Pidfd(OwnedFd),
    /// Without pidfd_open (before kernel 5.3, or under a filter) its directory in /proc, which pidfd_send_signal takes as well.
    Directory(OwnedFd),
}

impl FirstProcess {
    /// The process of a record; `None` when it has ended. The descriptor is opened first and the start time is compared then, so that a
    /// number which passed to another process in between is noticed.
    ///
    /// # Errors
    /// The kernel does not let us look.
    pub(crate) fn of(record: &Record) -> Result<Option<Self>> {
        let pid = record.pid;
        let handle = match sys::pidfd(pid) {
            Err(Errno(libc::ESRCH)) => return Ok(None),
            Err(Errno(libc::ENOSYS)) => match directory(pid)? {
                Some(directory) => Handle::Directory(directory),
                None => return Ok(None),
            },
            r => Handle::Pidfd(r.context(|| format!("pidfd_open {pid}"))?),
        };
        Ok(is_alive(record)?.then_some(Self { handle, pid, start_time: record.process_start_time }))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// [`ErrorKind::NotRunning`] with the words of every engine when it has ended meanwhile.
    pub(crate) fn signal(&self, signal: i32) -> Result<()> {
        let (Handle::Pidfd(fd) | Handle::Directory(fd)) = &self.handle;
        match sys::pidfd_send_signal(fd.as_raw_fd(), signal) {
            Err(Errno(libc::ESRCH)) => Err(not_running()),
            // Before kernel 5.1 there is the number only.
            Err(Errno(libc::ENOSYS)) if lives(self.pid, self.start_time)? => sys::kill(self.pid, signal).context(|| "kill container"),
            r => r.context(|| "kill container"),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It still lives after `timeout` milliseconds.
    pub(crate) fn wait(&self, timeout: i32) -> Result<()> {
        let what = || "poll the container's process";
        match &self.handle {
            Handle::Pidfd(fd) if sys::poll_in(fd.as_raw_fd(), timeout).context(what)? => return Ok(()),
            Handle::Pidfd(_) => {}
            Handle::Directory(_) => {
                const PAUSE: i32 = 2;
                for _ in 0..timeout / PAUSE {
                    if !lives(self.pid, self.start_time)? {
                        return Ok(());
                    }
                    sys::poll_in(-1, PAUSE).context(what)?;
                }
            }
        }
        Err(Error::other(format!("process {} was killed and has not ended after {} seconds", self.pid, timeout / 1000)))
    }
}

/// `/proc/PID`, if there is such a process.
fn directory(pid: i32) -> Result<Option<OwnedFd>> {
    let path = format!("/proc/{pid}");
    match openat(CWD, &*path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => Ok(None),
        r => r.context(|| format!("open `{path}`")).map(Some),
    }
}

/// Whether the process of a record still runs.
///
/// # Errors
/// /proc cannot be read.
pub(crate) fn is_alive(record: &Record) -> Result<bool> {
    lives(record.pid, record.process_start_time)
}

fn lives(pid: i32, start_time: u64) -> Result<bool> {
    Ok(state_of(pid)?.is_some_and(|p| p.lives() && p.start_time == start_time))
}

/// The text for a process that has ended: crun's prefix, then what containerd, podman and CRI-O look for, in the case they do.
pub(crate) fn not_running() -> Error {
    Error::new(ErrorKind::NotRunning, "kill container: container not running: no such process")
}
