//! What the child knows beside its steps, and the fixed-size messages between child and parent. Not here: words (`engine::failure`).

use crate::sys::{self, Errno};
use std::ffi::CString;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a launch gives its child beside the plan. Everything is made before the clone and only read after it.
#[derive(Debug)]
pub(crate) struct Wire {
    /// The child's end of the socket pair to the parent (SOCK_SEQPACKET).
    pub socket: RawFd,
    /// The parent's end, which the child has no use for: with a copy of it open it would never learn that its parent has died.
    pub parents: RawFd,
    /// Other descriptors of the parent's that are closed before anything else: the first number and the last.
    pub tree: Option<(RawFd, RawFd)>,
    /// A trusted procfs, opened by the parent.
    pub proc: RawFd,
    /// `cgroup.procs` files to write `0` to.
    pub join: Vec<RawFd>,
    /// Path of the container's cgroup below each hierarchy's mount point; empty for none of its own.
    pub cgroup: CString,
    /// Wait at `AwaitParent`.
    pub await_parent: bool,
    /// What is waited for before the program is executed.
    pub gate: Gate,
    /// Compiled seccomp program and flags.
    pub seccomp: Option<(Vec<u8>, u32)>,
    /// The terminal's other side is the runtime's user's own terminal: its rows and columns, 0 where unknown.
    pub foreground: Option<(u16, u16)>,
    /// Once the gate is passed nobody reads the socket: failures go to standard error, in these words, one a step.
    pub late_texts: Vec<Option<CString>>,
    /// Texts for the memory that the kernel shows as this process's arguments and environment.
    pub forget: Vec<(sys::Shown, Vec<u8>)>,
    /// Descriptors that stay open for a handler.
    pub keep: Vec<RawFd>,
    /// Where the time is noted at which each step ended.
    pub times: Option<Times>,
    /// Break the rule that nothing is allocated, to show that a test notices.
    #[cfg(feature = "trap-alloc")]
    pub plant_allocation: bool,
}

/// When the process began, and when each of its steps had ended, by CLOCK_MONOTONIC in nanoseconds; 0 for what has not. The memory is shared.
pub(crate) type Times = &'static [AtomicU64];

/// Notes that a step has ended, or with 0 that the process has begun.
pub(crate) fn note(times: Option<Times>, step: usize) {
    if let Some(time) = times.and_then(|times| times.get(step)) {
        time.store(sys::monotonic(), Ordering::Relaxed);
    }
}

/// What stands between a prepared process and its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Nothing.
    Open,
    /// The parent's word: the container is to be written down first.
    Parent,
    /// The same, and then a byte from exec.fifo, whose reading end this is.
    Fifo(RawFd),
}

/// Size of a message in bytes.
pub(crate) const MESSAGE_SIZE: usize = 320;
const HEADER: usize = 24;
/// Room for a detail, such as a missing interpreter's path.
pub(crate) const DETAIL_SIZE: usize = MESSAGE_SIZE - HEADER;

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The step failed.
    Failed,
    /// A user namespace was made; its maps are to be written.
    Unshared,
    /// The process continues under the pid in `value`.
    Forked,
    /// The mounts are made.
    Mounted,
    /// The seccomp filter comes next, and its notify descriptor will have the number in `value`.
    Listening,
    /// Everything but the execution is done.
    Ready,
    /// Parent to child: go on.
    Go,
}

/// Why a step failed, where the error number does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Plain,
    /// A hook ended with the status in `value`.
    HookStatus,
    /// A hook was killed by the signal in `value`.
    HookSignal,
    HookTimeout,
    NotInPath,
    NotExecutable,
    NotRegular,
    /// The ELF interpreter in the detail is missing.
    ElfInterpreter,
    /// The `#!` interpreter in the detail is missing.
    ScriptInterpreter,
    /// The kernel's own words in the detail (fsopen(2)'s log).
    Detail,
    /// The path leads out of the container or is not what it must be.
    Unsafe,
    /// An object of another kind is in the way.
    WrongType,
    /// Before the first step: the signal mask could not be emptied.
    SignalMask,
}

const KINDS: [Kind; 7] = [Kind::Failed, Kind::Unshared, Kind::Forked, Kind::Mounted, Kind::Listening, Kind::Ready, Kind::Go];
const CODES: [Code; 13] = [
    Code::Plain,
    Code::HookStatus,
    Code::HookSignal,
    Code::HookTimeout,
    Code::NotInPath,
    Code::NotExecutable,
    Code::NotRegular,
    Code::ElfInterpreter,
    Code::ScriptInterpreter,
    Code::Detail,
    Code::Unsafe,
    Code::WrongType,
    Code::SignalMask,
];

/// A message; plain bytes on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message {
    pub kind: Kind,
    pub code: Code,
    pub step: u16,
    pub errno: i32,
    pub value: i64,
    detail: [u8; DETAIL_SIZE],
    detail_len: u16,
}

impl Message {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, code: Code::Plain, step: 0, errno: 0, value: 0, detail: [0; DETAIL_SIZE], detail_len: 0 }
    }

    /// The detail's bytes.
    pub(crate) fn detail(&self) -> &[u8] {
        &self.detail[..usize::from(self.detail_len).min(DETAIL_SIZE)]
    }

    /// Keeps as much of `bytes` as there is room for.
    pub(crate) fn set_detail(&mut self, bytes: &[u8]) {
        let n = bytes.len().min(DETAIL_SIZE);
        self.detail[..n].copy_from_slice(&bytes[..n]);
        self.detail_len = n as u16;
    }

    fn encode(&self) -> [u8; MESSAGE_SIZE] {
        let mut out = [0; MESSAGE_SIZE];
        out[0] = KINDS.iter().position(|k| *k == self.kind).unwrap_or(0) as u8;
        out[1] = CODES.iter().position(|c| *c == self.code).unwrap_or(0) as u8;
        out[2..4].copy_from_slice(&self.step.to_ne_bytes());
        out[4..8].copy_from_slice(&self.errno.to_ne_bytes());
        out[8..16].copy_from_slice(&self.value.to_ne_bytes());
        out[16..18].copy_from_slice(&self.detail_len.to_ne_bytes());
        out[HEADER..].copy_from_slice(&self.detail);
        out
    }

    fn decode(b: &[u8; MESSAGE_SIZE]) -> Option<Self> {
        let mut m = Self::new(*KINDS.get(usize::from(b[0]))?);
        m.code = *CODES.get(usize::from(b[1]))?;
        m.step = u16::from_ne_bytes([b[2], b[3]]);
        m.errno = i32::from_ne_bytes([b[4], b[5], b[6], b[7]]);
        m.value = i64::from_ne_bytes([b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]);
        m.detail_len = u16::from_ne_bytes([b[16], b[17]]).min(DETAIL_SIZE as u16);
        m.detail.copy_from_slice(&b[HEADER..]);
        Some(m)
    }

    /// Sends the message; short ones travel without their unused detail.
    pub(crate) fn send(&self, socket: RawFd) -> Result<(), Errno> {
        let used = HEADER + usize::from(self.detail_len);
        sys::send(socket, &self.encode()[..used])
    }

    /// Waits for a message; `None` when the other side is gone.
    pub(crate) fn recv(socket: RawFd) -> Result<Option<Self>, Errno> {
        Self::recv_or_reset(socket).map(|(message, _)| message)
    }

    /// [`recv`](Self::recv), and whether the other end was closed with a message unread.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn recv_or_reset(socket: RawFd) -> Result<(Option<Self>, bool), Errno> {
        let mut buf = [0; MESSAGE_SIZE];
        // ECONNRESET: the other end was closed with a message unread. The kernel says so once, and before it hands out what that end had
        // sent. Zero: the end is closed, but a wait that began before its last message may return so with the message still there
        // (`__skb_wait_for_more_packets` looks at the queue first and at the shutdown later). At most one of each comes first.
        let (mut reset, mut end) = (false, false);
        let got = loop {
            match sys::recv(socket, &mut buf) {
                Err(Errno(libc::ECONNRESET)) if !reset => reset = true,
                Ok(0) if !end => end = true,
                got => break got,
            }
        };
        match got {
            Ok(n) if n >= HEADER => Self::decode(&buf).map(|message| (Some(message), reset)).ok_or(Errno(libc::EBADMSG)),
            Ok(0) | Err(Errno(libc::ECONNRESET)) => Ok((None, reset)),
            Ok(_) => Err(Errno(libc::EBADMSG)),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_arrive_though_nobody_read_ours() {
        use std::os::fd::AsRawFd;
        let (mine, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        Message::new(Kind::Go).send(mine.as_raw_fd()).unwrap();
        Message::new(Kind::Failed).send(theirs.as_raw_fd()).unwrap();
        drop(theirs);
        let (message, reset) = Message::recv_or_reset(mine.as_raw_fd()).unwrap();
        assert_eq!((message.map(|m| m.kind), reset), (Some(Kind::Failed), true));
        assert!(Message::recv(mine.as_raw_fd()).unwrap().is_none());
    }

    #[test]
    fn messages_survive_the_wire() {
        for kind in KINDS {
            for code in CODES {
                let mut m = Message::new(kind);
                (m.code, m.step, m.errno, m.value) = (code, 513, -7, i64::MIN);
                m.set_detail(b"/lib64/ld-linux");
                let got = Message::decode(&m.encode()).unwrap();
                assert_eq!((got.kind, got.code, got.step, got.errno, got.value), (kind, code, 513, -7, i64::MIN));
                assert_eq!(got.detail(), b"/lib64/ld-linux");
            }
        }
    }

    #[test]
    fn a_detail_is_cut_to_its_room_and_a_bad_kind_refused() {
        let mut m = Message::new(Kind::Ready);
        m.set_detail(&[b'x'; 4096]);
        assert_eq!(m.detail().len(), DETAIL_SIZE);
        let mut bytes = m.encode();
        bytes[0] = 200;
        assert!(Message::decode(&bytes).is_none());
    }
}
