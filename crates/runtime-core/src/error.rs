//! The one error type of the workspace. Not here: the wording of child failures (`engine::failure`), logging.

use std::fmt;

/// What went wrong, as far as a caller branches on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No container of that id under this state directory.
    NoContainer,
    /// The id is taken.
    AlreadyExists,
    /// The container's process has ended, or was never started.
    NotRunning,
    /// The configuration, an id, an option or a state file is not acceptable.
    Invalid,
    /// Compiled without the backend, or the kernel lacks the feature.
    Unsupported,
    /// The container asks for a handler, or for seccomp notify plugins, which this runtime does not have and a dynamic one may have.
    NoHandler,
    /// Everything else.
    Other,
}

/// An error with a chain of context, printed `outer: inner: strerror`.
///
/// The type is one pointer wide. The error number, if a system call caused the failure, is kept apart so that a
/// caller can branch on it and so that the text ends in the C library's wording, which engines match on.
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    errno: Option<i32>,
    /// Outermost last.
    messages: Vec<String>,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that no system call caused.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, errno: None, messages: vec![message.into()] }))
    }

    /// Shorthand for [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Shorthand for [`ErrorKind::Other`].
    pub fn other(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Other, message)
    }

    /// A failed system call: `errno` is the raw error number, `message` says what was tried on which object.
    pub fn sys(errno: i32, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind: ErrorKind::Other, errno: Some(errno), messages: vec![message.into()] }))
    }

    /// The same error with another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Adds an outer message.
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        self.0.messages.push(message.into());
        self
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The error number of the system call that failed, if one did.
    pub fn errno(&self) -> Option<i32> {
        self.0.errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, m) in self.0.messages.iter().rev().enumerate() {
            if i > 0 {
                f.write_str(": ")?;
            }
            f.write_str(m)?;
        }
        if let Some(n) = self.0.errno {
            write!(f, ": {}", strerror(n))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}, {self})", self.0.kind)
    }
}

impl std::error::Error for Error {}

/// The C library's text for an error number, without a number behind it ("No such file or directory").
pub fn strerror(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// Something that carries an error number: the errors of std, nix and rustix.
pub trait Errno {
    /// The raw error number; 0 where the error did not come from the system.
    fn raw(&self) -> i32;
    /// The text to use when there is no error number.
    fn text(&self) -> String;
}

impl Errno for std::io::Error {
    fn raw(&self) -> i32 {
        self.raw_os_error().unwrap_or(0)
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

#[cfg(feature = "engine")]
impl Errno for rustix::io::Errno {
    fn raw(&self) -> i32 {
        self.raw_os_error()
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

#[cfg(feature = "engine")]
impl Errno for nix::errno::Errno {
    fn raw(&self) -> i32 {
        *self as i32
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

/// Turns results of system calls and of this crate into [`Result`] with a message; the closure runs on failure only.
pub trait Context<T> {
    /// Says what was tried on which object.
    fn context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: Errno> Context<T> for std::result::Result<T, E> {
    fn context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|e| match e.raw() {
            0 => Error::other(e.text()).context(message()),
            n => Error::sys(n, message()),
        })
    }
}

impl<T> Context<T> for Result<T> {
    fn context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|e| e.context(message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_is_printed_outermost_first_and_ends_in_strerror() {
        let e = Error::sys(2, "open `/x`").context("bind mount");
        assert_eq!(e.to_string(), "bind mount: open `/x`: No such file or directory");
        assert_eq!(e.errno(), Some(2));
    }

    #[test]
    fn io_errors_without_a_number_keep_their_text() {
        let r: std::result::Result<(), _> = Err(std::io::Error::other("odd"));
        assert_eq!(Context::context(r, || "reading").unwrap_err().to_string(), "reading: odd");
    }
}
