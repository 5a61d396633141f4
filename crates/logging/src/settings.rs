//! What a command line says about the log, parsed. Not here: opening it.

use runtime_core::api::Level;
use runtime_core::{Error, Result};
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard error.
    Stderr,
    /// A file that records are appended to.
    File(PathBuf),
    /// The systemd journal. Its field ID is the container's id, as crun's is, or this word where the command has no container.
    Journald(OsString),
    /// syslog(3), with this identifier; empty for the container's id, or the program's name where the command has no container.
    Syslog(OsString),
}

/// What a record looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The message and a line end; on a terminal with time and colour.
    Text,
    /// `{"msg":…,"level":…,"time":…}` and a line end.
    Json,
}

/// All there is to choose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to.
    pub target: Target,
    /// How.
    pub format: Format,
    /// The least severe level that is kept.
    pub level: Level,
    /// The id of the container that the command is about, as it was given, once it is known. Only targets that
    /// [name records](Target::names_records) use it.
    pub container: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { target: Target::Stderr, format: Format::Text, level: Level::Error, container: None }
    }
}

impl Settings {
    /// What the records of the journal and of syslog are named by, if by anything.
    #[cfg_attr(not(any(feature = "journald", feature = "syslog", test)), expect(dead_code))]
    pub(crate) fn name(&self) -> Option<Cow<'_, str>> {
        let container = self.container.as_deref().unwrap_or_default();
        let name = match &self.target {
            Target::Stderr | Target::File(_) => return None,
            Target::Journald(word) if container.is_empty() => word.to_string_lossy(),
            Target::Syslog(word) if !word.is_empty() => word.to_string_lossy(),
            Target::Journald(_) | Target::Syslog(_) => container.into(),
        };
        (!name.is_empty()).then_some(name)
    }
}

impl Target {
    /// Whether records say which container they are about, so that its id matters.
    pub fn names_records(&self) -> bool {
        matches!(self, Self::Journald(_) | Self::Syslog(_))
    }

    /// Parses `PATH`, `file:PATH`, `journald:ID` or `syslog:ID`. A colon behind a slash belongs to a path.
    ///
    /// # Errors
    /// ``unknown log type `X` `` for another word before the colon; an empty path.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let bytes = text.as_bytes();
        let path = |p: &[u8]| match p {
            [] => Err(Error::invalid("the log file's path is empty")),
            p => Ok(Self::File(OsStr::from_bytes(p).into())),
        };
        match bytes.iter().position(|b| b":/".contains(b)) {
            Some(at) if bytes[at] == b':' => {
                let rest = OsStr::from_bytes(&bytes[at + 1..]);
                match &bytes[..at] {
                    b"file" => path(rest.as_bytes()),
                    b"journald" => Ok(Self::Journald(rest.to_owned())),
                    b"syslog" => Ok(Self::Syslog(rest.to_owned())),
                    _ => Err(Error::invalid(format!("unknown log type `{}`", text.display()))),
                }
            }
            _ => path(bytes),
        }
    }
}

impl Format {
    /// Parses `text` or `json`.
    ///
    /// # Errors
    /// ``unknown log format type `X` ``.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Error::invalid(format!("unknown log format type `{text}`"))),
        }
    }
}

/// Parses `error`, `warning` or `debug`.
///
/// # Errors
/// ``unknown log level `X` ``.
pub fn parse_level(text: &str) -> Result<Level> {
    match text {
        "error" => Ok(Level::Error),
        "warning" => Ok(Level::Warning),
        "debug" => Ok(Level::Debug),
        _ => Err(Error::invalid(format!("unknown log level `{text}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let file = |p: &str| Target::File(p.into());
        for (text, target) in [
            ("log", file("log")),
            ("/run/x/log.json", file("/run/x/log.json")),
            ("/run/a:b/log", file("/run/a:b/log")),
            ("./journald:x", file("./journald:x")),
            ("file:log", file("log")),
            ("file:/a:b", file("/a:b")),
            ("journald:ctr", Target::Journald("ctr".into())),
            ("journald:", Target::Journald("".into())),
            ("syslog:a:b", Target::Syslog("a:b".into())),
        ] {
            assert_eq!(Target::parse(OsStr::new(text)).unwrap(), target, "{text}");
        }
    }

    #[test]
    fn names_of_records() {
        let name = |target: &str, container: Option<&str>| {
            let target = Target::parse(OsStr::new(target)).unwrap();
            let settings = Settings { target, container: container.map(str::to_owned), ..Settings::default() };
            settings.name().map(Cow::into_owned)
        };
        for (target, with_container, without) in [
            ("journald:word", Some("ctr"), Some("word")),
            ("journald:", Some("ctr"), None),
            ("syslog:word", Some("word"), Some("word")),
            ("syslog:", Some("ctr"), None),
            ("log", None, None),
        ] {
            assert_eq!(name(target, Some("ctr")).as_deref(), with_container, "{target}");
            assert_eq!(name(target, None).as_deref(), without, "{target}");
            assert_eq!(name(target, Some("")).as_deref(), without, "{target}");
        }
    }

    #[test]
    fn refusals() {
        let target = |t: &str| Target::parse(OsStr::new(t)).unwrap_err().to_string();
        assert_eq!(target("foo:bar"), "unknown log type `foo:bar`");
        assert_eq!(target(":x"), "unknown log type `:x`");
        assert_eq!(target(""), "the log file's path is empty");
        assert_eq!(target("file:"), "the log file's path is empty");
        assert_eq!(Format::parse("xml").unwrap_err().to_string(), "unknown log format type `xml`");
        assert_eq!(parse_level("info").unwrap_err().to_string(), "unknown log level `info`");
    }

    #[test]
    fn formats_and_levels() {
        assert_eq!(Format::parse("json").unwrap(), Format::Json);
        assert_eq!(Format::parse("text").unwrap(), Format::Text);
        assert_eq!(parse_level("warning").unwrap(), Level::Warning);
    }
}
