//! The process `criu swrk` and the connection with it: a sequence of packets, one message each. Not here: what is said (`request`), which
//! descriptors it inherits (`spawn`).

use crate::proto::{Request, Response};
use crate::spawn;
use prost::Message;
use runtime_core::{Context, Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType, recvmsg, send, socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::cell::{Cell, RefCell};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where it is looked for when there is no PATH, or it is not there: engines start runtimes with very little of an environment.
const USUAL: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/usr/local/bin", "/usr/bin"];
/// How long CRIU may take to say what became of a process that has ended.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// No answer is longer.
const LONGEST: usize = 64 * 1024;

/// A running worker. Dropping it closes the connection, which ends it, and waits for that.
pub(crate) struct Worker {
    socket: Option<OwnedFd>,
    child: RefCell<Child>,
    end: End,
    /// It and its helpers are a process group.
    own_group: bool,
    reaped: Cell<bool>,
    /// A descriptor that came with the last answer.
    came: Cell<Option<OwnedFd>>,
    /// What it restores; CRIU is not its parent and does not learn that it ended.
    watched: RefCell<Option<End>>,
}

/// How the end of a process is noticed.
enum End {
    Pidfd(OwnedFd),
    /// By its number, where there are no pidfds (before kernel 5.3, or under a filter): its state is asked for now and then.
    Number(Pid),
}

/// How often then.
const NOW_AND_THEN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

impl Worker {
    /// Starts it with the descriptors `passed` under their own numbers, and 0 to 2; `own_group` unless it must be a part of the terminal's
    /// job that the caller is. `before` is called in the thread that starts it, which
    /// then ends.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when there is no CRIU; `before`'s.
    pub(crate) fn start(
        program: Option<&Path>,
        passed: &[RawFd],
        own_group: bool,
        before: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<Self> {
        let program = program.map_or_else(find, |p| Ok(p.to_path_buf()))?;
        let (mine, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(std::io::Error::from)
            .context(|| "socketpair")?;
        let mut command = Command::new(&program);
        command.arg("swrk").arg(theirs.as_raw_fd().to_string());
        // They are what the container's descriptors may have been, or are to be.
        command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        spawn::pass(&mut command, passed.iter().copied().filter(|fd| *fd > 2).chain([theirs.as_raw_fd()]).collect());
        if own_group {
            command.process_group(0);
        }
        let mut child: Child = std::thread::scope(|scope| {
            let start = || {
                before()?;
                command.spawn().context(|| format!("execute `{}`", program.display()))
            };
            let thread = std::thread::Builder::new().name("criu".into());
            let thread = thread.spawn_scoped(scope, start).context(|| "start a thread for CRIU")?;
            thread.join().unwrap_or_else(|_| Err(Error::other("the thread that starts CRIU ended")))
        })?;
        let end = match End::of(child.id().cast_signed(), "CRIU") {
            Ok(end) => end,
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(e);
            }
        };
        let (child, reaped) = (RefCell::new(child), Cell::new(false));
        Ok(Self { socket: Some(mine), child, end, own_group, reaped, came: Cell::new(None), watched: RefCell::new(None) })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.child.borrow().id().cast_signed()
    }

    /// From now on an answer that does not come because this process has ended is not waited for.
    ///
    /// # Errors
    /// There is no such process any more.
    pub(crate) fn watch(&self, pid: i32) -> Result<()> {
        self.watched.replace(Some(End::of(pid, "the restored process")?));
        Ok(())
    }

    /// Waits until there is something to read. Helpers of a CRIU that was killed, or crashed over a damaged image, keep its end of the
    /// connection open, so that this has no end by itself.
    fn wait(&self, socket: &OwnedFd) -> Result<()> {
        let watched = self.watched.borrow();
        let ends = || [Some(&self.end), watched.as_ref()].into_iter().flatten();
        let mut fds = vec![PollFd::new(socket, PollFlags::IN)];
        fds.extend(ends().filter_map(|end| end.pidfd()).map(|fd| PollFd::new(fd, PollFlags::IN)));
        let pause = if ends().all(|end| end.pidfd().is_some()) { None } else { Some(&NOW_AND_THEN) };
        while ready(&mut fds, pause)? == 0 && !ends().any(End::came) {}
        // What CRIU has to say of a process that ended comes soon, or never.
        let ended = self.end.came();
        let patience = if ended { Timespec { tv_sec: 0, tv_nsec: 0 } } else { PATIENCE };
        if !fds[0].revents().is_empty() || ready(&mut fds[..1], Some(&patience))? > 0 {
            return Ok(());
        }
        if !ended {
            return Err(Error::other("the restored process ended on the way"));
        }
        Err(self.ended())
    }

    /// Says something and waits for the answer.
    ///
    /// # Errors
    /// It ended, or does not speak the protocol.
    pub(crate) fn ask(&self, request: &Request) -> Result<Response> {
        let Some(socket) = &self.socket else { return Err(Error::other("CRIU is gone")) };
        let bytes = request.encode_to_vec();
        let sent = loop {
            match send(socket, &bytes, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                r => break r,
            }
        };
        match sent {
            // What it ended of says more.
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(self.ended()),
            r => drop(r.map_err(std::io::Error::from).context(|| "send to CRIU")?),
        }
        self.wait(socket)?;
        let answer = self.receive(socket)?;
        if answer.is_empty() {
            return Err(self.ended());
        }
        Response::decode(answer.as_slice()).map_err(|e| Error::other(format!("CRIU's answer is no message of its protocol: {e}")))
    }

    fn receive(&self, socket: &OwnedFd) -> Result<Vec<u8>> {
        let mut answer = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            match recvmsg(socket, &mut [IoSliceMut::new(&mut answer)], &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                // It died with something unread.
                Err(Errno::CONNRESET) => return Ok(Vec::new()),
                r => break r.map_err(std::io::Error::from).context(|| "receive from CRIU")?,
            }
        };
        self.came.set(control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        }));
        answer.truncate(got.bytes);
        Ok(answer)
    }

    /// The descriptor that came with the last answer.
    pub(crate) fn take_descriptor(&self) -> Option<OwnedFd> {
        self.came.take()
    }

    fn ended(&self) -> Error {
        self.end.wait(&PATIENCE);
        let mut child = self.child.borrow_mut();
        // Until it is reaped its number is the group's and nobody else's. After a success the group is not touched: what was restored may
        // be in it.
        if let Some(group) = Pid::from_raw(child.id().cast_signed()).filter(|_| self.own_group && !self.reaped.replace(true)) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let status = child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
        Error::other(format!("CRIU ended without an answer ({status})"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // That there is nobody to speak with any more ends it.
        self.socket = None;
        let _ = self.child.borrow_mut().wait();
    }
}

impl End {
    fn of(pid: i32, whose: &str) -> Result<Self> {
        let pid = Pid::from_raw(pid).ok_or_else(|| Error::other(format!("CRIU does not say the number of {whose}")))?;
        match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::NOSYS) => Ok(Self::Number(pid)),
            r => r.map(Self::Pidfd).map_err(std::io::Error::from).context(|| format!("pidfd_open of {whose}")),
        }
    }

    fn pidfd(&self) -> Option<&OwnedFd> {
        match self {
            Self::Pidfd(fd) => Some(fd),
            Self::Number(_) => None,
        }
    }

    /// Whether it is there. A process whose parent has not asked for its status counts as ended.
    fn came(&self) -> bool {
        match self {
            Self::Pidfd(fd) => ready(&mut [PollFd::new(fd, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|n| n > 0),
            Self::Number(pid) => {
                let stat = std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
                // The state stands behind the name, which may have any bytes in it (proc_pid_stat(5)).
                let state = stat.iter().rposition(|b| *b == b')').and_then(|end| stat.get(end + 2));
                state.is_none_or(|state| matches!(state, b'Z' | b'X'))
            }
        }
    }

    fn wait(&self, patience: &Timespec) {
        if let Self::Pidfd(fd) = self {
            let _ = ready(&mut [PollFd::new(fd, PollFlags::IN)], Some(patience));
            return;
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(patience.tv_sec.unsigned_abs());
        while !self.came() && std::time::Instant::now() < deadline {
            let _ = ready(&mut [], Some(&NOW_AND_THEN));
        }
    }
}

/// Polls, whatever signals come in between.
fn ready(fds: &mut [PollFd<'_>], patience: Option<&Timespec>) -> Result<usize> {
    loop {
        match poll(fds, patience) {
            Err(Errno::INTR) => {}
            r => return r.map_err(std::io::Error::from).context(|| "poll the connection with CRIU"),
        }
    }
}

/// Where CRIU is.
fn find() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).chain(USUAL.iter().map(PathBuf::from));
    let found = dirs.map(|dir| dir.join("criu")).find(|file| file.is_file());
    found.ok_or_else(|| Error::new(ErrorKind::Unsupported, "checkpoint and restore need CRIU, and the program `criu` is not installed"))
}
