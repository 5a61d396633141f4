//! A connection to the bus: blocking, without a thread, every wait with a deadline. Not here: what is said (`systemd`), bytes of messages
//! (`wire`).
//!
//! zbus's own connection wants an executor, and one that outlives its `block_on` starts a thread; at the moment of clone none may be
//! alive. What is needed here is one socket, one call at a time and one signal.

use crate::wire::{self, Body, Incoming, Method, Object, PRELUDE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, shutdown, socket_with,
};
use serde::Serialize;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use zbus::ObjectPath;
use zbus::wire::DynamicType;

/// The bus itself.
const BUS: Object = Object { destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };
/// The one signal that is wanted.
const JOB_REMOVED: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
/// Longest answer to the authentication.
const LONGEST_LINE: usize = 4096;
/// More finished jobs than this are not kept: those of others on a busy system.
const KEPT_JOBS: usize = 256;

/// A socket to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) socket: OsString,
    /// Its name is in the abstract name space (unix(7)).
    pub(crate) is_abstract: bool,
    /// A bus, on which one introduces oneself and asks for signals; otherwise systemd itself.
    pub(crate) is_bus: bool,
}

impl Endpoint {
    pub(crate) fn bus_at(path: PathBuf) -> Self {
        Self { socket: path.into_os_string(), is_abstract: false, is_bus: true }
    }

    fn address(&self) -> Result<SocketAddrUnix, Errno> {
        if self.is_abstract {
            SocketAddrUnix::new_abstract_name(self.socket.as_bytes())
        } else {
            SocketAddrUnix::new(self.socket.as_os_str())
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}{}`", if self.is_abstract { "@" } else { "" }, self.socket.display())
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The answer is an error.
    Refused { name: String, text: String },
    /// The deadline passed.
    TimedOut,
    /// The other side hung up.
    Closed,
    /// Not understood, or not understandable.
    Garbled(String),
    /// A system call failed.
    System(Errno),
}

/// The deadline of an operation, and since when it runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    patience: Duration,
}

impl Clock {
    pub(crate) fn start(patience: Duration) -> Self {
        Self { start: Instant::now(), patience }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// What is left; a socket without a time limit would be one with a limit of zero.
    fn left(&self) -> Result<Duration, Failure> {
        let left = self.patience.saturating_sub(self.elapsed());
        if left < Duration::from_micros(1) { Err(Failure::TimedOut) } else { Ok(left) }
    }
}

/// A job that systemd is done with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Its object path.
    pub(crate) job: String,
    /// `done`, `failed`, `canceled`, `timeout`, `dependency`, `skipped`.
    pub(crate) result: String,
}

/// A connection. The child of a clone gets a copy of its descriptor, so the end of the connection is said to the socket itself.
#[derive(Debug)]
pub(crate) struct Bus {
    socket: OwnedFd,
    serial: u32,
    /// Calls not sent yet.
    out: Vec<u8>,
    /// Bytes not read yet.
    inbox: Vec<u8>,
    finished: Vec<Finished>,
    /// Serials of the calls that the connection depends on.
    greeting: Vec<u32>,
}

impl Drop for Bus {
    fn drop(&mut self) {
        // Nothing is lost if the other side was faster.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }
}

impl Bus {
    /// Connects and authenticates. The greeting that a bus wants goes out with the first call, and is not awaited.
    pub(crate) fn connect(to: &Endpoint, clock: &Clock) -> Result<Self, Failure> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(Failure::System)?;
        // For connect(2), which waits where the backlog is full.
        set_socket_timeout(&socket, Timeout::Send, Some(clock.left()?)).map_err(Failure::System)?;
        let address = to.address().map_err(Failure::System)?;
        match retry_on_intr(|| connect(&socket, &address)) {
            Err(Errno::AGAIN) => return Err(Failure::TimedOut),
            other => other.map_err(Failure::System)?,
        }
        let mut bus = Self { socket, serial: 0, out: Vec::new(), inbox: Vec::new(), finished: Vec::new(), greeting: Vec::new() };
        // The uid is left to the kernel's word, which knows it across user namespaces.
        bus.out.extend_from_slice(b"\0AUTH EXTERNAL\r\nDATA\r\n");
        bus.authenticated(clock)?;
        bus.out.extend_from_slice(b"BEGIN\r\n");
        if to.is_bus {
            let hello = bus.post(&BUS.method("Hello"), &())?;
            let signals = bus.post(&BUS.method("AddMatch"), &(JOB_REMOVED,))?;
            bus.greeting = vec![hello, signals];
        }
        Ok(bus)
    }

    /// Reads `DATA`, `OK guid`.
    fn authenticated(&mut self, clock: &Clock) -> Result<(), Failure> {
        self.flush(clock)?;
        loop {
            let end = match self.inbox.windows(2).position(|w| w == b"\r\n") {
                Some(end) => end,
                None if self.inbox.len() > LONGEST_LINE => {
                    return Err(Failure::Garbled("the bus answers the authentication with a line without an end".into()));
                }
                None => {
                    self.receive(clock)?;
                    continue;
                }
            };
            let line: Vec<u8> = self.inbox.drain(..end + 2).take(end).collect();
            match line.as_slice() {
                b"DATA" => {}
                ok if ok == b"OK" || ok.starts_with(b"OK ") => return Ok(()),
                other => {
                    let text = String::from_utf8_lossy(other).escape_debug().to_string();
                    return Err(Failure::Garbled(format!("the bus refuses the authentication: `{text}`")));
                }
            }
        }
    }

    /// Calls a method and waits for its answer.
    pub(crate) fn call<B: Serialize + DynamicType>(&mut self, method: &Method, body: &B, clock: &Clock) -> Result<Body, Failure> {
        let serial = self.post(method, body)?;
        self.flush(clock)?;
        loop {
            match self.next(clock)? {
                Incoming::Return { serial: n, body } if n == serial => return Ok(body),
                Incoming::Error { serial: n, name, text } if n == serial || self.greeting.contains(&n) => {
                    return Err(Failure::Refused { name, text });
                }
                _ => {}
            }
        }
    }

    /// Appends a call to what is to be sent.
    fn post<B: Serialize + DynamicType>(&mut self, method: &Method, body: &B) -> Result<u32, Failure> {
        self.serial += 1;
        let bytes = wire::call(self.serial, method, body).map_err(|e| Failure::Garbled(format!("a call cannot be encoded: {e}")))?;
        self.out.extend_from_slice(&bytes);
        Ok(self.serial)
    }

    /// Waits for the end of a job and gives its result. Ends that came before are known.
    pub(crate) fn job(&mut self, job: &str, clock: &Clock) -> Result<String, Failure> {
        loop {
            if let Some(at) = self.finished.iter().position(|f| f.job == job) {
                return Ok(self.finished.swap_remove(at).result);
            }
            self.next(clock)?;
        }
    }

    /// The bytes of the next message.
    fn take(&mut self, clock: &Clock) -> Result<Vec<u8>, Failure> {
        let length = loop {
            if let Some(prelude) = self.inbox.first_chunk::<PRELUDE>() {
                break wire::length(prelude).map_err(Failure::Garbled)?.max(PRELUDE);
            }
            self.receive(clock)?;
        };
        while self.inbox.len() < length {
            self.receive(clock)?;
        }
        let rest = self.inbox.split_off(length);
        Ok(std::mem::replace(&mut self.inbox, rest))
    }

    /// The next message; ends of jobs are kept.
    fn next(&mut self, clock: &Clock) -> Result<Incoming, Failure> {
        let message = wire::read(self.take(clock)?).map_err(Failure::Garbled)?;
        if let Incoming::Signal { member, body } = &message
            && member == "JobRemoved"
            && let Some((_, job, _, result)) = body.read::<(u32, ObjectPath<'_>, &str, &str)>()
        {
            if self.finished.len() >= KEPT_JOBS {
                self.finished.remove(0);
            }
            self.finished.push(Finished { job: job.as_str().to_owned(), result: result.to_owned() });
        }
        Ok(message)
    }

    /// Sends what was posted.
    fn flush(&mut self, clock: &Clock) -> Result<(), Failure> {
        let bytes = std::mem::take(&mut self.out);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match send(&self.socket, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::AGAIN) => self.ready(PollFlags::OUT, clock)?,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(Failure::Closed),
                Err(e) => return Err(Failure::System(e)),
            }
        }
        Ok(())
    }

    /// Waits for bytes and appends them to the inbox.
    fn receive(&mut self, clock: &Clock) -> Result<(), Failure> {
        let mut buffer = [0; 4096];
        loop {
            self.ready(PollFlags::IN, clock)?;
            match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(Failure::Closed),
                Ok((_, n)) => {
                    self.inbox.extend_from_slice(&buffer[..n]);
                    return Ok(());
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Err(Failure::Closed),
                Err(e) => return Err(Failure::System(e)),
            }
        }
    }

    fn ready(&self, wanted: PollFlags, clock: &Clock) -> Result<(), Failure> {
        let left = clock.left()?;
        let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.socket, wanted)], Some(&time)) {
            Ok(0) => Err(Failure::TimedOut),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(Failure::System(e)),
        }
    }
}

/// For tests: the life of a service.
#[cfg(test)]
impl Bus {
    pub(crate) fn own_name(&mut self, name: &str, clock: &Clock) -> Result<(), Failure> {
        self.call(&BUS.method("RequestName"), &(name, 0_u32), clock).map(drop)
    }

    pub(crate) fn next_bytes(&mut self, clock: &Clock) -> Result<Vec<u8>, Failure> {
        self.take(clock)
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8], clock: &Clock) -> Result<(), Failure> {
        self.out.extend_from_slice(bytes);
        self.flush(clock)
    }
}
