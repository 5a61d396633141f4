//! The service: reads messages from the host, runs one command at a time, sends its output.
//!
//! Everything is one loop over poll(2), so that a command's output, its input and an order to kill it never wait for each
//! other. Writes to the host may block: the host always reads.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use rustix::termios::OptionalActions;
use rustix::time::{ClockId, Timespec};
use vm_agent::{Setup, ToGuest, ToHost};

use crate::job::Job;

/// The lines to the host: a virtio port under QEMU, a serial line in user-mode-linux.
const LINES: [&str; 2] = ["/dev/virtio-ports/pinnace", "/dev/ttyS0"];
/// Output of processes that outlive the command is waited for this long.
const LINGER: Duration = Duration::from_secs(3);
const CHUNK: usize = 64 << 10;

/// Serves until the machine ends.
pub fn run() -> io::Result<()> {
    let mut line = open_line()?;
    ToHost::Ready.write(&mut line)?;
    loop {
        let message = ToGuest::read(&mut line)?;
        let answer = match message {
            ToGuest::Ping => ToHost::Ready,
            ToGuest::Setup(setup) => answer(set_up(&setup).map(|()| ToHost::Ready)),
            ToGuest::Run(request) => match Job::start(&request) {
                Ok(job) => answer(Session::new(job).run(&mut line)),
                Err(error) => ToHost::Failed(format!("start the command: {error}")),
            },
            // Left over from a command that has ended.
            ToGuest::Input(_) | ToGuest::Resize(..) | ToGuest::Kill => continue,
        };
        answer.write(&mut line)?;
    }
}

fn answer(outcome: io::Result<ToHost>) -> ToHost {
    outcome.unwrap_or_else(|error| ToHost::Failed(error.to_string()))
}

/// The byte stream to the host.
struct Line {
    fd: OwnedFd,
}

impl io::Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(&self.fd, &mut *buffer) {
                // A virtio port without a host on the other side reads as ended: it will have one again.
                Ok(0) => std::thread::sleep(Duration::from_millis(20)),
                Err(rustix::io::Errno::INTR) => {}
                outcome => return Ok(outcome?),
            }
        }
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, bytes))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open_line() -> io::Result<Line> {
    let deadline = Instant::now() + Duration::from_secs(60);
    // Under QEMU /dev/ttyS0 is the console, so the port is waited for unless this is user-mode-linux.
    let uml = fs::read_to_string("/proc/cmdline")?.contains("ubd0");
    let path = LINES[usize::from(uml)];
    while !Path::new(path).exists() {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("no line to the host: {path}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let fd = rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    if rustix::termios::isatty(&fd) {
        let mut mode = rustix::termios::tcgetattr(&fd)?;
        mode.make_raw();
        rustix::termios::tcsetattr(&fd, OptionalActions::Now, &mode)?;
    }
    Ok(Line { fd })
}

fn set_up(setup: &Setup) -> io::Result<()> {
    if let Some((seconds, nanoseconds)) = setup.time {
        let seconds = i64::try_from(seconds).map_err(io::Error::other)?;
        rustix::time::clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() })?;
    }
    for mount in &setup.mounts {
        fs::create_dir_all(&mount.target)?;
        let options = CString::new(mount.options.as_str())?;
        rustix::mount::mount(&mount.source, &mount.target, &mount.kind, MountFlags::empty(), options.as_c_str())
            .map_err(|error| io::Error::other(format!("mount {} at {}: {error}", mount.source, mount.target)))?;
    }
    Ok(())
}

/// Has the kernel write to the console where its blocked tasks wait (admin-guide/sysrq.rst, `w`): a command that is killed took too long, and perhaps cannot
/// be killed. What cannot be written is not told.
fn show_blocked_tasks() {
    // First all levels, or only the headline is shown.
    for key in ["9", "w"] {
        let _ = fs::write("/proc/sysrq-trigger", key);
    }
}

/// A command and the input that it has not taken yet.
struct Session {
    job: Job,
    pending: VecDeque<u8>,
    no_more_input: bool,
    status: Option<i32>,
    deadline: Option<Instant>,
}

enum Source {
    Line,
    Ended,
    Output,
    Error,
    Input,
}

impl Session {
    fn new(job: Job) -> Session {
        Session { job, pending: VecDeque::new(), no_more_input: false, status: None, deadline: None }
    }

    /// Until the command has ended and its output is at its end.
    fn run(mut self, line: &mut Line) -> io::Result<ToHost> {
        loop {
            if let Some(status) = self.status {
                let silent = self.job.output.is_none() && self.job.error.is_none();
                if silent || self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Ok(ToHost::Exit(status));
                }
            }
            for source in self.wait(line)? {
                match source {
                    Source::Line => self.obey(ToGuest::read(line)?, line)?,
                    Source::Ended => {
                        self.status = Some(self.job.status()?);
                        self.deadline = Some(Instant::now() + LINGER);
                    }
                    Source::Output => pass(&mut self.job.output, ToHost::Output, line)?,
                    Source::Error => pass(&mut self.job.error, ToHost::ErrorOutput, line)?,
                    Source::Input => self.feed(),
                }
            }
        }
    }

    fn wait(&self, line: &Line) -> io::Result<Vec<Source>> {
        let mut sources = vec![Source::Line];
        let mut fds = vec![PollFd::new(&line.fd, PollFlags::IN)];
        if self.status.is_none() {
            sources.push(Source::Ended);
            fds.push(PollFd::new(&self.job.ended, PollFlags::IN));
        }
        for (fd, source) in [(&self.job.output, Source::Output), (&self.job.error, Source::Error)] {
            if let Some(fd) = fd {
                sources.push(source);
                fds.push(PollFd::new(fd, PollFlags::IN));
            }
        }
        if let (Some(input), false) = (&self.job.input, self.pending.is_empty()) {
            sources.push(Source::Input);
            fds.push(PollFd::new(input, PollFlags::OUT));
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timeout)))?;
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        // A virtio port that lost its host reports only a hang-up: there is nothing to read then.
        let line_ready = fds[0].revents().contains(PollFlags::IN);
        let mut index = 0;
        sources.retain(|_| {
            let keep = if index == 0 { line_ready } else { ready[index] };
            index += 1;
            keep
        });
        Ok(sources)
    }

    fn obey(&mut self, message: ToGuest, line: &mut Line) -> io::Result<()> {
        match message {
            ToGuest::Input(bytes) if bytes.is_empty() => {
                self.no_more_input = true;
                self.feed();
                Ok(())
            }
            ToGuest::Input(bytes) => {
                self.pending.extend(bytes);
                self.feed();
                Ok(())
            }
            ToGuest::Resize(rows, columns) => self.job.resize(rows, columns),
            ToGuest::Kill => {
                show_blocked_tasks();
                self.job.kill()
            }
            ToGuest::Ping => ToHost::Ready.write(line),
            ToGuest::Setup(_) | ToGuest::Run(_) => Err(io::Error::other("a command is running")),
        }
    }

    /// Writes what the command takes now.
    fn feed(&mut self) {
        while let (Some(input), false) = (&self.job.input, self.pending.is_empty()) {
            let (chunk, _) = self.pending.as_slices();
            match rustix::io::write(input.as_fd(), chunk) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(rustix::io::Errno::AGAIN) => return,
                // The command has closed its input: what is left has no reader.
                Err(_) => {
                    self.pending.clear();
                    self.job.input = None;
                }
            }
        }
        // A terminal's input ends with a character that the user types, not by closing it.
        if self.no_more_input && self.pending.is_empty() && !self.job.terminal {
            self.job.input = None;
        }
    }
}

/// Reads what is there and sends it; at the end the descriptor is closed.
fn pass(from: &mut Option<OwnedFd>, kind: fn(Vec<u8>) -> ToHost, line: &mut Line) -> io::Result<()> {
    let Some(fd) = from else { return Ok(()) };
    let mut buffer = vec![0; CHUNK];
    match rustix::io::read(fd.as_fd(), &mut buffer) {
        Ok(count) if count > 0 => {
            buffer.truncate(count);
            kind(buffer).write(line)
        }
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(()),
        // A terminal whose last user is gone gives EIO.
        Ok(_) | Err(_) => {
            *from = None;
            Ok(())
        }
    }
}
