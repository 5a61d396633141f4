//! Records for syslog(3): facility `user` and no process id, as crun's. Not here: when a record is kept, and its copy on standard error
//! (`sink`).
//!
//! The C library finds /dev/log, connects again when the daemon was restarted, and knows the local time of the line. It is only called
//! when there is something to say.

use crate::sink::Sink;
use nix::syslog::{Facility, LogFlags, Priority, Severity, openlog, syslog};
use runtime_core::api::{Level, Record};
use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::sync::{Mutex, PoisonError};

/// The C library has one identifier for the whole process; loggers take turns.
static TURN: Mutex<()> = Mutex::new(());

/// syslog with an identifier of this logger's own.
pub(crate) struct Syslog {
    /// Lives as long as the process, since openlog(3) keeps the pointer; none for the program's name.
    identifier: Option<&'static CStr>,
}

impl Syslog {
    /// Lines that begin with `identifier`, or with the name of the program.
    pub(crate) fn new(identifier: Option<&str>) -> Self {
        Self { identifier: identifier.map(|text| &*Box::leak(c_string(text).into_boxed_c_str())) }
    }
}

impl Sink for Syslog {
    /// Writes a line. Where nothing listens it is dropped, as by crun: the message of an error is on standard error, too.
    fn put(&self, record: &Record<'_>) {
        let severity = match record.level {
            Level::Error => Severity::LOG_ERR,
            Level::Warning => Severity::LOG_WARNING,
            Level::Debug => Severity::LOG_DEBUG,
        };
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // Neither fails: identifier and message have no NUL.
        let _ = openlog(self.identifier, LogFlags::empty(), Facility::LOG_USER);
        let _ = syslog(Priority::new(severity, Facility::LOG_USER), without_nul(record.message).as_ref());
    }
}

/// The text, with `\0` for a NUL byte, which would end it.
fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\\0")) } else { Cow::Borrowed(text) }
}

fn c_string(text: &str) -> CString {
    CString::new(without_nul(text).into_owned()).unwrap_or_default()
}
