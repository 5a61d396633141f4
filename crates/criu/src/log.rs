//! What CRIU's log says of a failure. Not here: where the log is (`request`).

use rustix::fs::{Mode, OFlags, openat};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::BorrowedFd;

/// As much of the end as is looked at, bytes.
const END: u64 = 256 * 1024;
/// Most lines that are shown, the last ones.
const LINES: usize = 8;

/// The errors in a log, each on a line of its own behind a heading; nothing where there are none, or no log.
pub(crate) fn excerpt(dir: BorrowedFd<'_>, file: &str) -> String {
    let text = end(dir, file).unwrap_or_default();
    let errors = errors(&text);
    if errors.is_empty() {
        return String::new();
    }
    format!("\n--- excerpt from CRIU log\n{}", errors.join("\n"))
}

/// `(00.123456) Error (criu/file.c:12): text`: the lines of that kind, the last ones of them.
fn errors(text: &str) -> Vec<&str> {
    let found: Vec<&str> = text.lines().map(str::trim_end).filter(|line| line.contains("Error (") || line.contains("Error: ")).collect();
    found[found.len().saturating_sub(LINES)..].to_vec()
}

fn end(dir: BorrowedFd<'_>, file: &str) -> std::io::Result<String> {
    let fd = openat(dir, file, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mut log = File::from(fd);
    let size = log.metadata()?.len();
    log.seek(SeekFrom::Start(size.saturating_sub(END)))?;
    let mut bytes = Vec::new();
    log.take(END).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn only_errors_and_not_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let fd = File::open(dir.path()).unwrap();
        assert_eq!(excerpt(fd.as_fd(), "dump.log"), "");
        std::fs::write(dir.path().join("dump.log"), "(00.1) fine\n(00.2) Warn  (criu/a.c:1): well\n").unwrap();
        assert_eq!(excerpt(fd.as_fd(), "dump.log"), "");
        let many: String = (0..20).map(|n| format!("(00.{n}) Error (criu/a.c:{n}): no\n(00.{n}) and so on\n")).collect();
        std::fs::write(dir.path().join("dump.log"), &many).unwrap();
        let text = excerpt(fd.as_fd(), "dump.log");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[1]), (2 + LINES, "--- excerpt from CRIU log"));
        assert_eq!((lines[2], lines[9]), ("(00.12) Error (criu/a.c:12): no", "(00.19) Error (criu/a.c:19): no"));
        // Only the end of a long one is read.
        std::fs::write(dir.path().join("dump.log"), "x".repeat(1 << 20) + "\n(01.0) Error (criu/b.c:1): late\n").unwrap();
        assert!(excerpt(fd.as_fd(), "dump.log").ends_with("\n(01.0) Error (criu/b.c:1): late"));
    }
}
