//! The loggers. Not here: what a line looks like, and what the journal and syslog are told (`journald`, `syslog`).

use crate::format::line;
#[cfg(feature = "journald")]
use crate::journald::Journal;
use crate::settings::{Format, Settings, Target};
#[cfg(feature = "syslog")]
use crate::syslog::Syslog;
use runtime_core::Timestamp;
use runtime_core::api::{Level, Logger, Record};
use runtime_core::{Context, Result};
#[cfg(not(all(feature = "journald", feature = "syslog")))]
use runtime_core::{Error, ErrorKind};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Opens the log. Relative paths are taken from the working directory at this moment. The journal and syslog are looked for when there is
/// a record, and it is no error, now or then, that they are not there.
///
/// # Errors
/// The file cannot be opened (`open log file …`); `ErrorKind::Unsupported` for a target that is not built in.
pub fn open(settings: &Settings) -> Result<Arc<dyn Logger>> {
    let (level, format) = (settings.level, settings.format);
    match &settings.target {
        Target::Stderr => Ok(Arc::new(StderrLogger { level, format })),
        Target::File(path) => Ok(Arc::new(Beside { level, sink: FileSink { format, file: append(path)? } })),
        #[cfg(feature = "journald")]
        Target::Journald(_) => Ok(Arc::new(Beside { level, sink: Journal::new(settings.name().map(Into::into)) })),
        #[cfg(feature = "syslog")]
        Target::Syslog(_) => Ok(Arc::new(Beside { level, sink: Syslog::new(settings.name().as_deref()) })),
        #[cfg(not(feature = "journald"))]
        Target::Journald(_) => absent("journald"),
        #[cfg(not(feature = "syslog"))]
        Target::Syslog(_) => absent("syslog"),
    }
}

#[cfg(not(all(feature = "journald", feature = "syslog")))]
fn absent(name: &str) -> Result<Arc<dyn Logger>> {
    Err(Error::new(ErrorKind::Unsupported, format!("log type `{name}` is not built in")))
}

/// A place for records other than standard error.
pub(crate) trait Sink: Send + Sync {
    /// Writes one record. A log that cannot be written stops nothing.
    fn put(&self, record: &Record<'_>);
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).open(path).context(|| format!("open log file `{}`", path.display()))
}

/// A record is one write, so that lines of several processes do not mix. A log that cannot be written stops nothing.
fn emit(mut to: impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes());
}

fn to_stderr(record: &Record<'_>, format: Format) {
    let terminal = format == Format::Text && rustix::termios::isatty(rustix::stdio::stderr());
    emit(std::io::stderr().lock(), &line(record, format, terminal, Timestamp::now));
}

struct StderrLogger {
    level: Level,
    format: Format,
}

impl Logger for StderrLogger {
    fn enabled(&self, level: Level) -> bool {
        level >= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.level) {
            to_stderr(record, self.format);
        }
    }
}

struct FileSink {
    format: Format,
    file: File,
}

impl Sink for FileSink {
    fn put(&self, record: &Record<'_>) {
        emit(&self.file, &line(record, self.format, false, Timestamp::now));
    }
}

/// Errors go to standard error too, as text: whoever called sees them without knowing of the log.
struct Beside<S> {
    level: Level,
    sink: S,
}

impl<S: Sink> Logger for Beside<S> {
    fn enabled(&self, level: Level) -> bool {
        level >= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.level) {
            return;
        }
        self.sink.put(record);
        if record.level == Level::Error {
            to_stderr(record, Format::Text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_core::api::LogBridge;
    use std::fs;

    fn settings(path: &Path, format: Format, level: Level) -> Settings {
        Settings { target: Target::File(path.into()), format, level, container: None }
    }

    #[test]
    fn a_file_is_appended_to_and_keeps_only_its_level() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let logger = open(&settings(&path, Format::Text, Level::Warning)).unwrap();
        logger.log(&Record { level: Level::Debug, message: "debug" });
        logger.log(&Record { level: Level::Warning, message: "warning" });
        open(&settings(&path, Format::Text, Level::Debug)).unwrap().log(&Record { level: Level::Debug, message: "second" });
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nwarning\nsecond\n");
    }

    #[test]
    fn events_of_libraries_arrive_as_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let logger = open(&settings(&path, Format::Json, Level::Debug)).unwrap();
        tracing::subscriber::with_default(LogBridge::new(logger), || tracing::debug!(pid = 3, "made"));
        let text = fs::read_to_string(&path).unwrap();
        let v: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((v["msg"].as_str(), v["level"].as_str()), (Some("made pid=3"), Some("debug")));
        assert!(text.ends_with("Z\"}\n"), "{text}");
    }

    #[test]
    fn failures_to_open_name_the_file_or_the_type() {
        let open = |target| open(&Settings { target, ..Settings::default() }).err().map(|e| e.to_string());
        let file = open(Target::File("/nonexistent/log".into()));
        assert_eq!(file.as_deref(), Some("open log file `/nonexistent/log`: No such file or directory"));
        let absent = |name: &str, built_in: bool| (!built_in).then(|| format!("log type `{name}` is not built in"));
        assert_eq!(open(Target::Journald("x".into())), absent("journald", cfg!(feature = "journald")));
        assert_eq!(open(Target::Syslog("x".into())), absent("syslog", cfg!(feature = "syslog")));
    }
}
