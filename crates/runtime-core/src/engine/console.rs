//! The terminal of a foreground container: raw mode, window size, and the copying between the two terminals. Not here: opening the
//! container's one (`init::stdio`).

use super::socket;
use crate::error::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The master side of the container's terminal, connected to the runtime's standard input and output. Dropping it puts the runtime's own
/// terminal back as it was.
pub(crate) struct Console {
    master: OwnedFd,
    saved: Option<Termios>,
    to_container: Buffer,
    to_user: Buffer,
    stdin_open: bool,
    master_open: bool,
}

/// Bytes on their way; a slow reader makes it fill up, and then nothing more is read, so that none is lost.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
}

/// Where the terminal of a process goes.
pub(crate) struct Destination {
    socket: OwnedFd,
    /// This process's end, when it is the one that gets it.
    here: Option<OwnedFd>,
}

impl Destination {
    /// To an engine's socket.
    ///
    /// # Errors
    /// Nobody listens.
    pub(crate) fn engine(path: &Path) -> Result<Self> {
        Ok(Self { socket: socket::connect(path)?, here: None })
    }

    /// To this process, which is in the foreground.
    ///
    /// # Errors
    /// No descriptors are left.
    pub(crate) fn foreground() -> Result<Self> {
        let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        pair.context(|| "socketpair").map(|(socket, here)| Self { socket, here: Some(here) })
    }

    /// What the child sends it to.
    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Rows and columns of the user's terminal, in the foreground; 0 where there is none.
    pub(crate) fn size(&self) -> Option<(u16, u16)> {
        self.here.as_ref().map(|_| tcgetwinsize(stdin()).map_or((0, 0), |size| (size.ws_row, size.ws_col)))
    }

    /// Takes it in, in the foreground.
    ///
    /// # Errors
    /// The child sent none.
    pub(crate) fn receive(&self) -> Result<Option<OwnedFd>> {
        self.here.as_ref().map(socket::recv_fd).transpose()
    }
}

/// Adds a descriptor to the polled ones; its index. One that is not to be polled must stay out: a hang-up is reported whatever was asked.
fn watch<'f>(wanted: bool, fds: &mut Vec<PollFd<'f>>, fd: BorrowedFd<'f>, flags: PollFlags) -> Option<usize> {
    wanted.then(|| {
        fds.push(PollFd::from_borrowed_fd(fd, flags));
        fds.len() - 1
    })
}

const CAPACITY: usize = 32 * 1024;

impl Buffer {
    fn has_room(&self) -> bool {
        self.bytes.len() < CAPACITY
    }

    /// Reads what is there; `false` at the end of the input.
    fn fill(&mut self, from: BorrowedFd<'_>) -> bool {
        let start = self.bytes.len();
        self.bytes.resize(CAPACITY, 0);
        let got = rustix::io::read(from, &mut self.bytes[start..]);
        self.bytes.truncate(start + *got.as_ref().unwrap_or(&0));
        // EIO: all users of the other side of the terminal are gone.
        !matches!(got, Ok(0) | Err(Errno::IO | Errno::BADF))
    }

    /// Writes what can be written; `false` when nobody reads any more.
    fn drain(&mut self, to: BorrowedFd<'_>) -> bool {
        match rustix::io::write(to, &self.bytes) {
            Ok(n) => {
                self.bytes.drain(..n);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => {
                self.bytes.clear();
                false
            }
        }
    }
}

impl Console {
    /// Takes over the master side. Where standard input is no terminal nothing is changed about it.
    ///
    /// # Errors
    /// The terminal's settings cannot be changed.
    pub(crate) fn new(master: OwnedFd) -> Result<Self> {
        rustix::io::ioctl_fionbio(&master, true).context(|| "make the terminal non-blocking")?;
        let mut console =
            Self { master, saved: None, to_container: Buffer::default(), to_user: Buffer::default(), stdin_open: true, master_open: true };
        if isatty(stdin()) {
            let before = tcgetattr(stdin()).context(|| "tcgetattr")?;
            let mut raw = before.clone();
            raw.make_raw();
            // The container's terminal sends bare line ends (`init::stdio`), which this one completes.
            raw.output_modes |= OutputModes::OPOST;
            tcsetattr(stdin(), OptionalActions::Now, &raw).context(|| "tcsetattr")?;
            console.saved = Some(before);
        }
        Ok(console)
    }

    /// Gives the container's terminal the size of the runtime's.
    pub(crate) fn resize(&self) {
        if let Ok(size) = tcgetwinsize(stdin()) {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// Copies until `wake` is readable, or, with `finish`, until everything the container has written is out.
    ///
    /// # Errors
    /// poll(2) fails.
    pub(crate) fn copy(&mut self, wake: Option<BorrowedFd<'_>>, finish: bool) -> Result<()> {
        loop {
            let mut master = PollFlags::empty();
            master.set(PollFlags::IN, self.master_open && self.to_user.has_room());
            master.set(PollFlags::OUT, self.master_open && !self.to_container.bytes.is_empty());
            let reading = self.stdin_open && !finish && self.to_container.has_room();
            let mut fds = vec![PollFd::from_borrowed_fd(self.master.as_fd(), master)];
            let input = watch(reading, &mut fds, stdin(), PollFlags::IN);
            let output = watch(!self.to_user.bytes.is_empty(), &mut fds, stdout(), PollFlags::OUT);
            let signal = wake.and_then(|fd| watch(true, &mut fds, fd, PollFlags::IN));
            if finish && output.is_none() && !self.master_open {
                return Ok(());
            }
            let patience = finish.then_some(rustix::time::Timespec { tv_sec: 0, tv_nsec: if output.is_some() { 100_000_000 } else { 0 } });
            match poll(&mut fds, patience.as_ref()) {
                Ok(0) if finish && output.is_none() => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e).context(|| "poll"),
            }
            let happened = |i: Option<usize>| i.is_some_and(|i| !fds[i].revents().is_empty());
            let (master, input, output, signal) = (fds[0].revents(), happened(input), happened(output), happened(signal));
            self.move_bytes(master, input, output);
            if signal {
                return Ok(());
            }
        }
    }

    fn move_bytes(&mut self, master: PollFlags, input: bool, output: bool) {
        if master.intersects(PollFlags::IN | PollFlags::HUP) && self.to_user.has_room() {
            self.master_open = self.to_user.fill(self.master.as_fd());
        }
        if master.contains(PollFlags::OUT) {
            self.to_container.drain(self.master.as_fd());
        }
        if input {
            self.stdin_open = self.to_container.fill(stdin());
        }
        if output {
            self.to_user.drain(stdout());
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(before) = &self.saved {
            let _ = tcsetattr(stdin(), OptionalActions::Flush, before);
        }
    }
}
