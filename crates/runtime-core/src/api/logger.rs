//! The `Logger` trait, and the bridge that feeds it from `tracing`, which is how the libraries emit. Not here: where records go (`logging`).

use std::fmt::{self, Write};
use std::sync::Arc;
use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Id, Record as SpanRecord};
use tracing_core::{Event, LevelFilter, Metadata, Subscriber};

/// Severity, least first; crun's three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For developers.
    Debug,
    /// Something was worked around.
    Warning,
    /// The command fails.
    Error,
}

impl Level {
    /// `debug`, `warning` or `error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// One line of the log.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Severity.
    pub level: Level,
    /// The message, without a line end.
    pub message: &'a str,
}

/// Takes the records of a command.
pub trait Logger: Send + Sync {
    /// Whether records of this level are kept; asked before a message is formatted.
    fn enabled(&self, level: Level) -> bool;
    /// Writes one record. Failures are the logger's own affair: a container must not fail because its log does.
    fn log(&self, record: &Record<'_>);
}

/// A `tracing` subscriber that turns events into [`Record`]s: install it globally (as the cli does) or for a scope by
/// `tracing::subscriber::with_default`. `error!` and `warn!` keep their level, everything below is debug; spans are ignored.
pub struct LogBridge(Arc<dyn Logger>);

impl LogBridge {
    /// A bridge to `logger`.
    pub fn new(logger: Arc<dyn Logger>) -> Self {
        Self(logger)
    }
}

fn level(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing_core::Level::ERROR => Level::Error,
        tracing_core::Level::WARN => Level::Warning,
        _ => Level::Debug,
    }
}

impl Subscriber for LogBridge {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && self.0.enabled(level(metadata))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match (self.0.enabled(Level::Debug), self.0.enabled(Level::Warning)) {
            (true, _) => LevelFilter::TRACE,
            (false, true) => LevelFilter::WARN,
            (false, false) => LevelFilter::ERROR,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.log(&Record { level: level(event.metadata()), message: &text.0 });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The message first, other fields behind it as `name=value`.
struct Text(String);

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            let rest = std::mem::take(&mut self.0);
            write!(self.0, "{value:?}{rest}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Kept(Mutex<Vec<(Level, String)>>);
    impl Logger for Kept {
        fn enabled(&self, level: Level) -> bool {
            level >= Level::Warning
        }
        fn log(&self, r: &Record<'_>) {
            self.0.lock().unwrap().push((r.level, r.message.to_owned()));
        }
    }

    #[test]
    fn events_become_records_and_disabled_levels_do_not() {
        let kept = Arc::new(Kept(Mutex::default()));
        tracing::subscriber::with_default(LogBridge::new(kept.clone()), || {
            tracing::debug!("not kept");
            tracing::warn!(unit = "x.scope", "job {} late", 3);
            tracing::error!("plain");
        });
        let got = kept.0.lock().unwrap();
        assert_eq!(*got, [(Level::Warning, "job 3 late unit=x.scope".into()), (Level::Error, "plain".into())]);
    }
}
