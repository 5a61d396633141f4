//! The proxy between a container's notification socket and the service manager's (sd_notify(3)): which messages pass, and what the runtime
//! adds. Not here: making the socket (`state::notify`).

use super::socket;
use crate::error::{Context, Error, Result};
use crate::state::{self, ContainerDir};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What a container may tell the service manager, as conmon has it. The rest could make the manager store descriptors, watch another
/// process or stop the service (sd_notify(3): `FDSTORE`, `MAINPID`, `NOTIFYACCESS`, …).
const ALLOWED: [&str; 8] = ["READY", "RELOADING", "STOPPING", "WATCHDOG", "STATUS", "ERRNO", "BUSERROR", "MONOTONIC_USEC"];

/// Longest message (systemd's NOTIFY_BUFFER_MAX); longer ones are dropped.
const LONGEST: usize = 4096;

/// How long the manager may take for the messages before the runtime ends.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// The container's socket and where its messages go.
pub(crate) struct Proxy {
    socket: UnixDatagram,
    target: SocketAddr,
}

/// The lines of a message that may pass, and whether one of them says that the service is ready.
fn filter(message: &[u8]) -> (Vec<u8>, bool) {
    let passes = |line: &&[u8]| {
        let name = line.split(|b| *b == b'=').next().unwrap_or_default();
        name.len() < line.len() && ALLOWED.iter().any(|known| known.as_bytes() == name)
    };
    let lines: Vec<&[u8]> = message.split(|b| *b == b'\n').filter(passes).collect();
    (lines.join(&b'\n'), lines.contains(&&b"READY=1"[..]))
}

/// The address in `$NOTIFY_SOCKET`: a path, or a name after `@`.
///
/// # Errors
/// It is neither.
pub(crate) fn address(text: &str) -> Result<SocketAddr> {
    let what = || format!("NOTIFY_SOCKET: `{text}`");
    match text.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).context(what),
        [b'/', ..] => SocketAddr::from_pathname(text).context(what),
        _ => Err(Error::invalid(format!("{}: neither an absolute path nor an abstract name", what()))),
    }
}

impl Proxy {
    /// Listens on the container's socket. `None` for a container that was created without one.
    ///
    /// # Errors
    /// The socket cannot be made, or `target` is no address.
    pub(crate) fn listen(dir: &ContainerDir, target: &str) -> Result<Option<Self>> {
        let target = address(target)?;
        let Some(socket) = state::notify::bind(dir)? else { return Ok(None) };
        socket.set_nonblocking(true).context(|| "make the notification socket non-blocking")?;
        Ok(Some(Self { socket, target }))
    }

    /// Passes messages on while `work` is done.
    pub(crate) fn during<R>(proxy: Option<&Self>, work: impl FnOnce() -> R) -> R {
        let Some(proxy) = proxy else { return work() };
        let (stop, stopper) = match rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC) {
            Ok(ends) => ends,
            Err(e) => {
                tracing::warn!("pipe: {e}");
                return work();
            }
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("notify".into());
            if let Err(e) = thread.spawn_scoped(scope, || while !proxy.wait(Some(&stop)).ended {}) {
                tracing::warn!("start the thread for notifications: {e}");
            }
            let result = work();
            // What the process said last is passed on before the thread ends.
            drop(stopper);
            result
        })
    }

    /// Passes messages on until the service is ready or its process ends: whether it is ready. This process has nothing more to do with it
    /// then, so the manager is told which one to watch.
    ///
    /// # Errors
    /// The process cannot be watched.
    pub(crate) fn until_ready(&self, pid: i32) -> Result<bool> {
        let process = match crate::sys::pidfd(pid) {
            Err(crate::sys::Errno(libc::ESRCH)) => return Ok(false),
            // Before kernel 5.3, or under a filter.
            Err(crate::sys::Errno(libc::ENOSYS)) => None,
            r => Some(r.context(|| format!("pidfd_open {pid}"))?),
        };
        loop {
            // A process without a descriptor to wait for is looked at first: what it said before it ended is there then.
            let gone = process.is_none() && !state::state_of(pid)?.is_some_and(|p| p.lives());
            let mut seen = self.wait(process.as_ref());
            seen.ended |= gone;
            if seen.ready {
                self.send(format!("MAINPID={pid}").as_bytes());
                self.barrier();
            }
            if seen.ready || seen.ended {
                return Ok(seen.ready);
            }
        }
    }

    /// Says in the container's place that it is ready: it was before it was checkpointed, and doesn't know of the manager. With `main` that
    /// process is the one to watch from now on.
    pub(crate) fn announce(&self, main: Option<i32>) {
        let main = main.map_or(String::new(), |pid| format!("MAINPID={pid}\n"));
        if self.send(format!("{main}READY=1").as_bytes()) {
            self.barrier();
        }
    }

    /// Waits for messages and passes them on, or until `end` is readable or hung up; without one for a moment.
    fn wait(&self, end: Option<&OwnedFd>) -> Seen {
        const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let mut fds = [
            PollFd::new(&self.socket, PollFlags::IN),
            PollFd::from_borrowed_fd(end.map_or(self.socket.as_fd(), AsFd::as_fd), PollFlags::IN),
        ];
        if let Err(e) = poll(&mut fds, if end.is_none() { Some(&MOMENT) } else { None })
            && e != Errno::INTR
        {
            tracing::warn!("poll the notification socket: {e}");
            return Seen { ready: false, ended: true };
        }
        let ended = end.is_some() && !fds[1].revents().is_empty();
        let mut ready = false;
        let mut message = [0; LONGEST + 1];
        // Descriptors that come along (FDSTORE, BARRIER) are dropped by the kernel, which is the answer a barrier waits for.
        while let Ok(n) = self.socket.recv(&mut message) {
            let (lines, says_ready) = filter(&message[..n]);
            if n <= LONGEST && !lines.is_empty() {
                let sent = self.send(&lines);
                ready |= says_ready && sent;
            }
        }
        Seen { ready, ended }
    }

    /// Whether the manager took it. A service does not end because of one that is gone.
    fn send(&self, message: &[u8]) -> bool {
        let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(message, &self.target));
        if let Err(e) = &sent {
            tracing::warn!("notify the service manager: {e}");
        }
        sent.is_ok()
    }

    /// Waits until the manager has read what was sent (sd_notify_barrier(3)): of a process that is gone it can't tell the service.
    fn barrier(&self) {
        let done = || -> std::io::Result<()> {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&self.target)?;
            socket::send_with_fd(&socket, b"BARRIER=1", write.as_fd())?;
            drop(write);
            let mut fds = [PollFd::new(&read, PollFlags::empty())];
            match poll(&mut fds, Some(&PATIENCE))? {
                0 => Err(Errno::TIMEDOUT.into()),
                _ => Ok(()),
            }
        };
        if let Err(e) = done() {
            tracing::debug!("the service manager didn't confirm the notifications: {e}");
        }
    }
}

/// What came while waiting.
struct Seen {
    ready: bool,
    ended: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_lines_pass() {
        for (message, passes, ready) in [
            ("READY=1", "READY=1", true),
            ("READY=0", "READY=0", false),
            ("READY", "", false),
            ("MAINPID=1\nSTATUS=a=b\nREADY=1\n", "STATUS=a=b\nREADY=1", true),
            ("FDSTORE=1\nFDNAME=x", "", false),
            ("XREADY=1\nready=1\n=1\n", "", false),
            ("BARRIER=1", "", false),
            ("RELOADING=1\nMONOTONIC_USEC=5", "RELOADING=1\nMONOTONIC_USEC=5", false),
            ("", "", false),
        ] {
            let (lines, is_ready) = filter(message.as_bytes());
            assert_eq!((std::str::from_utf8(&lines).unwrap(), is_ready), (passes, ready), "{message:?}");
        }
    }

    #[test]
    fn addresses() {
        assert!(address("/run/s").unwrap().as_pathname().is_some());
        assert_eq!(address("@x").unwrap().as_abstract_name(), Some(&b"x"[..]));
        for bad in ["", "x", "vsock:2:1"] {
            assert_eq!(
                address(bad).unwrap_err().to_string(),
                format!("NOTIFY_SOCKET: `{bad}`: neither an absolute path nor an abstract name")
            );
        }
    }
}
