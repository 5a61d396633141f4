//! A running test machine: boot it once, run many commands, end it with all that belongs to it.
//!
//! [`Ground`] is what a lane needs, built; [`Machine`] is one boot of it. Everything that waits has a limit, and an error
//! carries the end of the machine's console. Dropping a machine ends it. Not here: how a lane starts (`qemu.rs`,
//! `uml.rs`), the command line (`mod.rs`).

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vm_agent::{Request, Setup, ToGuest, ToHost};

use super::image::{self, Image};
use super::kernel::{self, Kernel, Which};
use super::{qemu, uml};
use crate::contain::{Interrupted, Signals};
use crate::store::{Progress, Scratch, Store};

/// How many directories of the host a machine can have.
pub const MAX_SHARES: usize = 4;
/// A killed command gets this long to be gone; then the agent counts as lost.
const KILL_LIMIT: Duration = Duration::from_secs(20);
/// After so long a silence during a command the agent is asked whether it is there; it must answer in the second time.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(60));
/// A boot takes 6 s on an idle machine.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
const SETUP_LIMIT: Duration = Duration::from_secs(60);
/// Input that the guest has not taken is held back from this size on.
const HIGH_WATER: usize = 1 << 20;
/// Bytes: room for the stacks of tasks that are blocked.
const CONSOLE_TAIL: usize = 16 << 10;

/// Which machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// User-mode-linux: native speed, newest kernel.
    Fast,
    /// QEMU with trixie's kernel or that of its backports: every controller, CRIU, networks.
    Full(Which),
}

/// A directory of the host in the guest.
#[derive(Debug, Clone)]
pub struct Share {
    /// Absolute path on the host.
    pub host: PathBuf,
    /// Absolute path in the guest.
    pub guest: String,
}

/// All that a lane needs, built.
pub struct Ground {
    /// The root file system.
    pub image: Image,
    /// The kernel with its modules.
    pub kernel: Kernel,
    /// The saved machine of the full lane.
    pub snapshot: Option<qemu::Snapshot>,
}

impl Ground {
    /// Builds what is missing.
    pub fn build(store: &Store, lane: Lane, progress: &Progress) -> Result<Ground> {
        let _lock = store.lock()?;
        let image = image::build(store, progress)?;
        let which = match lane {
            Lane::Fast => Which::UserMode,
            Lane::Full(which) => which,
        };
        let kernel = kernel::build(store, which, progress)?;
        let snapshot = match lane {
            Lane::Fast => None,
            Lane::Full(_) => Some(qemu::snapshot(store, &image, &kernel, progress)?),
        };
        Ok(Ground { image, kernel, snapshot })
    }
}

/// What starting a lane gives.
pub struct Process {
    /// The process to end.
    pub child: Child,
    /// The line to the agent.
    pub link: UnixStream,
    /// The file with the console's output.
    pub console: PathBuf,
    /// Whether it cleans up when asked by SIGTERM; otherwise it is just killed.
    pub gentle: bool,
}

impl Process {
    /// An error with what the machine said last.
    pub fn fail(&self, error: anyhow::Error) -> anyhow::Error {
        let errors = self.console.with_file_name("errors");
        let said: Vec<String> = [&self.console, &errors]
            .into_iter()
            .filter_map(|file| fs::read(file).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(CONSOLE_TAIL)..]).into_owned())
            .filter(|text| !text.trim().is_empty())
            .collect();
        let said = if said.is_empty() { "its console is empty".to_owned() } else { said.join("\n") };
        anyhow!("{error:#}; the end of the machine's console:\n{said}")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors mean that it has ended by itself.
        if self.gentle
            && let Ok(pid) = i32::try_from(self.child.id())
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let deadline = Instant::now() + Duration::from_secs(5);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a command's output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Output,
    /// Standard error.
    Error,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this status; 128 + N for signal N.
    Exit(i32),
    /// It was killed because its time was up; the machine can go on.
    TimedOut,
}

/// Called with every piece of output.
pub type Sink<'a> = dyn FnMut(Stream, &[u8]) -> Result<()> + 'a;

/// One boot of a lane.
pub struct Machine {
    process: Process,
    incoming: Vec<u8>,
    outgoing: VecDeque<u8>,
    signals: Signals,
    /// How long an agent may be silent, and how long it may then take to answer.
    pub patience: (Duration, Duration),
    // Dropped after the process, whose files are there.
    _scratch: Scratch,
}

enum Event {
    Message(ToHost),
    Input,
    Resized,
    Late,
}

impl Machine {
    /// Boots or restores a machine and prepares it for commands.
    pub fn boot(store: &Store, ground: &Ground, shares: &[Share]) -> Result<Machine> {
        Machine::boot_with(store, ground, shares, &[], BOOT_LIMIT)
    }

    /// The same with additions to the kernel's command line, which a restored machine has no use for, and another limit.
    pub fn boot_with(store: &Store, ground: &Ground, shares: &[Share], words: &[&str], limit: Duration) -> Result<Machine> {
        if shares.len() > MAX_SHARES {
            bail!("more than {MAX_SHARES} shared directories");
        }
        let scratch = store.scratch()?;
        let (process, mounts, restored) = match &ground.snapshot {
            None => {
                let process = uml::start(&ground.image, &ground.kernel, &scratch, shares, words)?;
                (process, uml::mounts(shares), false)
            }
            Some(snapshot) => {
                let process = qemu::restore(ground, snapshot, &scratch, shares)?;
                (process, qemu::mounts(shares), true)
            }
        };
        let mut machine = Machine::adopt(process, scratch)?;
        if restored {
            machine.send(&ToGuest::Ping)?;
        }
        machine.await_ready(limit)?;
        // A restored clock has stood still since the snapshot; the fast lane's is the host's.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
        let time = restored.then_some((now.as_secs(), now.subsec_nanos()));
        machine.send(&ToGuest::Setup(Setup { time, mounts }))?;
        machine.await_ready(SETUP_LIMIT).context("mount the shared directories")?;
        Ok(machine)
    }

    /// Takes a started process over.
    pub fn adopt(process: Process, scratch: Scratch) -> Result<Machine> {
        process.link.set_nonblocking(true).context("make the line non-blocking")?;
        let signals = Signals::block()?;
        Ok(Machine { process, incoming: Vec::new(), outgoing: VecDeque::new(), signals, patience: PATIENCE, _scratch: scratch })
    }

    /// Waits for the agent's word.
    pub fn await_ready(&mut self, limit: Duration) -> Result<()> {
        let deadline = Some(Instant::now() + limit);
        loop {
            match self.next(deadline, None)? {
                Event::Message(ToHost::Ready) => return Ok(()),
                Event::Message(ToHost::Failed(text)) => return Err(self.process.fail(anyhow!(text))),
                Event::Late => {
                    let error = anyhow!("no word from the agent in {} seconds", limit.as_secs());
                    return Err(self.process.fail(error));
                }
                Event::Message(_) | Event::Input | Event::Resized => {}
            }
        }
    }

    /// Waits for the machine to end by itself.
    pub fn await_end(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while self.process.child.try_wait().context("wait for the machine")?.is_none() {
            if Instant::now() > deadline {
                return Err(self.process.fail(anyhow!("the machine does not end")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Runs a command without input.
    pub fn run(&mut self, request: &Request, limit: Option<Duration>, sink: &mut Sink) -> Result<Ending> {
        self.drive(request, limit, None, sink)
    }

    /// Runs a command without input and returns what it said on either stream.
    pub fn ask(&mut self, request: &Request, limit: Duration) -> Result<(Ending, String)> {
        let mut said = Vec::new();
        let ending = self.run(request, Some(limit), &mut |_, bytes| {
            said.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok((ending, String::from_utf8_lossy(&said).into_owned()))
    }

    /// Runs a command with our standard input as its own; with a terminal, that one follows ours in size.
    pub fn run_with_input(&mut self, request: &Request, limit: Option<Duration>, sink: &mut Sink) -> Result<Ending> {
        let request = Request { input: true, ..request.clone() };
        self.drive(&request, limit, Some(rustix::stdio::stdin()), sink)
    }

    fn drive(&mut self, request: &Request, limit: Option<Duration>, mut input: Option<BorrowedFd>, sink: &mut Sink) -> Result<Ending> {
        let mut deadline = limit.map(|limit| Instant::now() + limit);
        let mut late = false;
        let mut heard = Instant::now();
        let mut asked = None;
        self.send(&ToGuest::Run(request.clone()))?;
        loop {
            let alarm = asked.map_or(heard + self.patience.0, |asked| asked + self.patience.1);
            let event = self.next(Some(deadline.map_or(alarm, |deadline| deadline.min(alarm))), input)?;
            if let Event::Message(_) = event {
                (heard, asked) = (Instant::now(), None);
            }
            match event {
                Event::Message(ToHost::Output(bytes)) => sink(Stream::Output, &bytes)?,
                Event::Message(ToHost::ErrorOutput(bytes)) => sink(Stream::Error, &bytes)?,
                Event::Message(ToHost::Exit(_)) if late => return Ok(Ending::TimedOut),
                Event::Message(ToHost::Exit(status)) => return Ok(Ending::Exit(status)),
                Event::Message(ToHost::Failed(text)) => bail!("run {:?} in the machine: {text}", request.argv),
                Event::Message(ToHost::Ready) => {}
                Event::Input => {
                    let mut buffer = vec![0; 16 << 10];
                    let count = rustix::io::read(rustix::stdio::stdin(), &mut buffer).unwrap_or(0);
                    if count == 0 {
                        input = None;
                    }
                    buffer.truncate(count);
                    self.send(&ToGuest::Input(buffer))?;
                }
                Event::Resized => self.resize(request)?,
                Event::Late if deadline.is_none_or(|deadline| Instant::now() < deadline) => {
                    if asked.is_some() {
                        let error = anyhow!("the agent is lost: it does not answer during {:?}", request.argv);
                        return Err(self.process.fail(error));
                    }
                    asked = Some(Instant::now());
                    self.send(&ToGuest::Ping)?;
                }
                Event::Late if late => {
                    return Err(self.process.fail(anyhow!("the agent is lost: {:?} cannot be killed", request.argv)));
                }
                Event::Late => {
                    late = true;
                    deadline = Some(Instant::now() + KILL_LIMIT);
                    self.send(&ToGuest::Kill)?;
                }
            }
        }
    }

    /// Tells the command's terminal the size of ours.
    fn resize(&mut self, request: &Request) -> Result<()> {
        if request.terminal.is_some()
            && let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin())
        {
            self.send(&ToGuest::Resize(size.ws_row, size.ws_col))?;
        }
        Ok(())
    }

    fn send(&mut self, message: &ToGuest) -> Result<()> {
        message.write(&mut self.outgoing).context("encode a message")
    }

    /// The next thing that happens. A signal that asks us to end is an error.
    fn next(&mut self, deadline: Option<Instant>, input: Option<BorrowedFd>) -> Result<Event> {
        loop {
            if let Some(message) = self.message()? {
                return Ok(Event::Message(message));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(Event::Late);
            }
            let (link, signal, input) = self.wait(left, input)?;
            if signal {
                match self.signals.take()? {
                    Some(Signal::SIGWINCH) => return Ok(Event::Resized),
                    Some(signal @ (Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP)) => {
                        return Err(Interrupted(signal).into());
                    }
                    _ => {}
                }
            }
            if link {
                self.exchange()?;
            } else if input {
                return Ok(Event::Input);
            }
        }
    }

    /// Polls; says whether the line, the signals and the input are ready.
    fn wait(&self, left: Option<Duration>, input: Option<BorrowedFd>) -> Result<(bool, bool, bool)> {
        let mut wanted = PollFlags::IN;
        if !self.outgoing.is_empty() {
            wanted |= PollFlags::OUT;
        }
        let signals = self.signals.as_fd();
        let mut fds = vec![PollFd::new(&self.process.link, wanted), PollFd::new(&signals, PollFlags::IN)];
        if let Some(input) = &input
            && self.outgoing.len() < HIGH_WATER
        {
            fds.push(PollFd::new(input, PollFlags::IN));
        }
        let timeout = left.map(Timespec::try_from).transpose().context("time limit")?;
        rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref())).context("wait for the machine")?;
        let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok((ready(0), ready(1), ready(2)))
    }

    /// Moves bytes between the line and the buffers.
    fn exchange(&mut self) -> Result<()> {
        while !self.outgoing.is_empty() {
            let (chunk, _) = self.outgoing.as_slices();
            match self.process.link.write(chunk) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(self.process.fail(anyhow!(error).context("write to the agent"))),
            }
        }
        let mut buffer = [0; 64 << 10];
        match self.process.link.read(&mut buffer) {
            Ok(0) => Err(self.process.fail(anyhow!("the machine ended"))),
            Ok(count) => {
                self.incoming.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(self.process.fail(anyhow!(error).context("read from the agent"))),
        }
    }

    /// A complete message of what has come in.
    fn message(&mut self) -> Result<Option<ToHost>> {
        let mut rest = self.incoming.as_slice();
        let before = rest.len();
        match ToHost::read(&mut rest) {
            Ok(message) => {
                let used = before - rest.len();
                self.incoming.drain(..used);
                Ok(Some(message))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(self.process.fail(anyhow!(error).context("understand the agent"))),
        }
    }
}
