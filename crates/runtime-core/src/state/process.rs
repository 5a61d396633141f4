//! Whether a recorded process still is the one it was. Not here: signals, waiting.

use crate::error::{Context, Error, Result};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::os::fd::OwnedFd;

/// The fields of /proc/PID/stat that tell processes apart (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessState {
    /// One letter, field 3.
    pub state: u8,
    /// Clock ticks after boot, field 22: with the pid it names a process for as long as the machine is up.
    pub start_time: u64,
}

impl ProcessState {
    /// Neither a zombie nor dead: it can still execute something.
    pub(crate) fn lives(self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Reads a line of /proc/PID/stat. The program's name, field 2, may hold anything, spaces and parentheses too; the last `)` ends it.
    fn parse(line: &[u8]) -> Option<Self> {
        let end = line.iter().rposition(|&b| b == b')')?;
        let rest = std::str::from_utf8(line.get(end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        // `fields` now stands at field 4.
        let start_time = fields.nth(22 - 4)?.parse().ok()?;
        Some(Self { state, start_time })
    }
}

/// [`ProcessState::parse`] for the fuzz target.
#[cfg(any(test, fuzzing))]
pub(crate) fn parse(line: &[u8]) -> Option<ProcessState> {
    ProcessState::parse(line)
}

/// What the kernel says of `pid`; `None` when there is no such process.
///
/// # Errors
/// /proc cannot be read, or shows something else than a process's line.
pub(crate) fn state_of(pid: i32) -> Result<Option<ProcessState>> {
    read_state(pid).map(|found| found.map(|(state, _)| state))
}

/// As [`state_of`], with the file, to be closed by the caller.
fn read_state(pid: i32) -> Result<Option<(ProcessState, OwnedFd)>> {
    let path = format!("/proc/{pid}/stat");
    let name = || format!("read `{path}`");
    let fd = match openat(CWD, &*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        // The second is the answer where the directory was found, and the process has ended since (`proc_pid_permission`).
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::SRCH) => return Ok(None),
        r => r.context(name)?,
    };
    // The name is cut to 15 bytes (TASK_COMM_LEN; 64 for kernel threads) and 50 numbers follow.
    let mut line = [0; 2048];
    let length = match rustix::io::read(&fd, &mut line) {
        // It ended after the open.
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        r => r.context(name)?,
    };
    match ProcessState::parse(&line[..length]) {
        Some(state) => Ok(Some((state, fd))),
        None => Err(Error::other(format!("`{path}` is not a process's state"))),
    }
}

/// The start time of a process that is known to exist, and the file that says so.
///
/// # Errors
/// It does not.
pub(super) fn start_time(pid: i32) -> Result<(u64, OwnedFd)> {
    let found = read_state(pid)?;
    let (state, file) = found.ok_or_else(|| Error::sys(libc::ESRCH, format!("read the start time of process {pid}")))?;
    Ok((state.start_time, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: &str = "1 2 2 0 -1 4194560 100 0 0 0 3 4 0 0 20 0 1 0 7654321 8192 100 18446744073709551615";

    #[test]
    fn names_cannot_shift_the_fields() {
        for (name, state) in [("cat", 'S'), ("a) Z (b", 'R'), (") X 9 9 9", 'Z'), ("", 'X')] {
            let line = format!("42 ({name}) {state} {NUMBERS}\n");
            let got = ProcessState::parse(line.as_bytes()).unwrap();
            assert_eq!(got, ProcessState { state: state as u8, start_time: 7_654_321 }, "{name}");
            assert_eq!(got.lives(), "SR".contains(state), "{name}");
        }
    }

    #[test]
    fn names_may_be_any_bytes() {
        let mut line = b"42 (\xff\xfe) S ".to_vec();
        line.extend(NUMBERS.bytes());
        assert_eq!(ProcessState::parse(&line).unwrap().start_time, 7_654_321);
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for bad in
            ["", "42", "42 (cat", "42 (cat)", "42 (cat) S", "42 (cat) S 1 2 3", &format!("42 (cat) S {}", NUMBERS.replace("7654321", "x"))]
        {
            assert_eq!(ProcessState::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn this_process_lives_and_keeps_its_start_time() {
        let me = std::process::id().cast_signed();
        assert!(state_of(me).unwrap().unwrap().lives());
        assert_eq!(start_time(me).unwrap().0, start_time(me).unwrap().0);
        assert_eq!(state_of(i32::MAX).unwrap(), None);
        assert_eq!(start_time(i32::MAX).map(drop).unwrap_err().errno(), Some(libc::ESRCH));
    }
}
