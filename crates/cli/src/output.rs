//! Standard output and error. Not here: what is printed, and the log.

use runtime_core::{Context, Error, Result};
use std::os::fd::BorrowedFd;

/// Writes all of `text` to standard output, unbuffered: nothing flushes buffers at exit, since Rust's start-up code does not run.
pub(crate) fn print(text: &str) -> Result<()> {
    write(rustix::stdio::stdout(), text).context(|| "write to standard output")
}

/// Writes to standard error; that failing is nobody's business.
pub(crate) fn complain(text: &str) {
    let _ = write(rustix::stdio::stderr(), text);
}

fn write(fd: BorrowedFd<'_>, text: &str) -> rustix::io::Result<()> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(fd, rest) {
            Ok(n) => rest = &rest[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// JSON for people: two spaces a level.
pub(crate) fn pretty(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::other(format!("write JSON: {e}")))
}
