//! The fifo a created container's process waits at. Not here: the waiting (`init::exec`).

use super::ContainerDir;
use crate::error::{Context, Error, ErrorKind, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, mknodat, openat, unlinkat};
use std::os::fd::OwnedFd;

const FIFO: &str = "exec.fifo";

/// The fifo's reading end, which the process inherits.
pub(crate) struct Gate(OwnedFd);

impl Gate {
    /// Makes the fifo, mode 0600. It is opened before the process exists, so that `start` always finds a reader.
    ///
    /// # Errors
    /// The directory takes none.
    pub(crate) fn make(dir: &ContainerDir) -> Result<Self> {
        let name = || format!("make the fifo `{}`", dir.file(FIFO));
        mknodat(dir.fd(), FIFO, FileType::Fifo, Mode::from_raw_mode(0o600), 0).context(name)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(dir.fd(), FIFO, flags, Mode::empty()).context(name).map(Self)
    }

    /// What the process reads from.
    pub(crate) fn reader(&self) -> &OwnedFd {
        &self.0
    }

    /// Whether the container still waits.
    pub(crate) fn is_closed(dir: &ContainerDir) -> bool {
        rustix::fs::accessat(dir.fd(), FIFO, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// Lets the process go on. Of two callers at the same time one succeeds: it is the one that takes the fifo's name away.
    ///
    /// # Errors
    /// It was let go before, or has ended.
    pub(crate) fn release(dir: &ContainerDir) -> Result<Released> {
        let gone = |errno, text| Error::sys(errno, format!("open `{}`: {text}", dir.file(FIFO)));
        let writer = match openat(dir.fd(), FIFO, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Err(gone(libc::ENOENT, "the container was started before")),
            Err(rustix::io::Errno::NXIO) => return Err(gone(libc::ENXIO, "its process has ended").with_kind(ErrorKind::NotRunning)),
            r => r.context(|| format!("open `{}`", dir.file(FIFO)))?,
        };
        match unlinkat(dir.fd(), FIFO, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) => return Err(gone(libc::ENOENT, "the container was started before")),
            r => r.context(|| format!("unlink `{}`", dir.file(FIFO)))?,
        }
        match rustix::io::write(&writer, b"\0") {
            Err(rustix::io::Errno::PIPE) => Err(gone(libc::ENXIO, "its process has ended").with_kind(ErrorKind::NotRunning)),
            r => r.context(|| format!("write `{}`", dir.file(FIFO))).map(|_| Released(writer)),
        }
    }
}

/// A gate that was opened.
pub(crate) struct Released(OwnedFd);

impl Released {
    /// Waits until the process has executed its program or ended: either closes the last reading end.
    ///
    /// # Errors
    /// Waiting fails.
    pub(crate) fn wait_for_exec(&self) -> Result<()> {
        use rustix::event::{PollFd, PollFlags, poll};
        loop {
            let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e).context(|| "poll the fifo of the container"),
                Ok(_) if fds[0].revents().contains(PollFlags::ERR) => return Ok(()),
                Ok(_) => {}
            }
        }
    }
}
