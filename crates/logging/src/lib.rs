//! Loggers of the runtime: standard error and file, as text and as JSON lines; the systemd journal (feature `journald`) and syslog(3)
//! (feature `syslog`), both built in by default. Not here: the `Logger` trait and its bridge from `tracing`
//! (`runtime_core::api`), which is how libraries emit.
//!
//! ```
//! use pinnace_logging::{Settings, Target, open};
//! use runtime_core::api::{Level, Record};
//!
//! let logger = open(&Settings { target: Target::Stderr, level: Level::Error, ..Settings::default() })?;
//! assert!(!logger.enabled(Level::Debug));
//! logger.log(&Record { level: Level::Error, message: "open `/x`: No such file or directory" });
//! # Ok::<(), runtime_core::Error>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod format;
#[cfg(feature = "journald")]
mod journald;
mod settings;
mod sink;
#[cfg(feature = "syslog")]
mod syslog;

pub use settings::{Format, Settings, Target, parse_level};
pub use sink::open;
