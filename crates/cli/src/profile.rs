//! The times of a command's phases, for whoever sets the variable. Not here: what the phases are (`runtime_core::engine`).
//!
//! `PINNACE_PROFILE=FILE` has them written to FILE when the command is done: as a table, or where the name ends in `.json` as a trace that
//! Chrome's tracing view, Perfetto and others show. The file is replaced.

use runtime_core::engine::{Phase, Profile, Side};
use runtime_core::{Context, Result};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

const VARIABLE: &str = "PINNACE_PROFILE";

/// A profile and where it goes.
pub(crate) struct Wanted {
    pub(crate) profile: Arc<Profile>,
    file: PathBuf,
}

impl Wanted {
    /// What the environment asks for; it begins now.
    pub(crate) fn from_environment() -> Option<Self> {
        let file = std::env::var_os(VARIABLE).filter(|file| !file.is_empty())?;
        Some(Self { profile: Arc::new(Profile::new()), file: file.into() })
    }

    /// Writes it.
    ///
    /// # Errors
    /// Names the file.
    pub(crate) fn write(&self) -> Result<()> {
        let phases = self.profile.phases();
        let json = self.file.extension().is_some_and(|extension| extension == "json");
        let text = if json { trace(&phases).to_string() } else { table(&phases) };
        let what = || format!("{VARIABLE}: write `{}`", self.file.display());
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let mut file = options.open(&self.file).context(what)?;
        file.write_all(text.as_bytes()).context(what)
    }
}

fn who(side: Side) -> &'static str {
    match side {
        Side::Runtime => "runtime",
        Side::Container => "container",
    }
}

/// A line for each phase: its beginning and its length in microseconds, whose it is, what it is.
fn table(phases: &[Phase]) -> String {
    let mut text = format!("{:>10} {:>10} {:<9} PHASE\n", "START/us", "TIME/us", "PROCESS");
    for phase in phases {
        let us = |time: std::time::Duration| time.as_nanos() as f64 / 1000.0;
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:>10.1} {:>10.1} {:<9} {}", us(phase.start), us(phase.length), who(phase.side), phase.name);
    }
    text
}

/// The Trace Event Format: complete events, with a thread for each process.
fn trace(phases: &[Phase]) -> Value {
    let thread = |side| match side {
        Side::Runtime => 1,
        Side::Container => 2,
    };
    let named = |side| json!({ "name": "thread_name", "ph": "M", "pid": 1, "tid": thread(side), "args": { "name": who(side) } });
    let event = |phase: &Phase| {
        let us = |time: std::time::Duration| time.as_nanos() as f64 / 1000.0;
        json!({ "name": phase.name, "ph": "X", "pid": 1, "tid": thread(phase.side), "ts": us(phase.start), "dur": us(phase.length) })
    };
    let events: Vec<Value> = [named(Side::Runtime), named(Side::Container)].into_iter().chain(phases.iter().map(event)).collect();
    json!({ "traceEvents": events, "displayTimeUnit": "ms" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn phases() -> Vec<Phase> {
        let phase = |side, name: &str, start, length| Phase {
            side,
            name: name.into(),
            start: Duration::from_nanos(start),
            length: Duration::from_nanos(length),
        };
        vec![phase(Side::Runtime, "plan", 0, 1_500), phase(Side::Container, "mount `x \"y\"` to `/`", 1_500, 20_050)]
    }

    #[test]
    fn a_table_has_a_line_for_each_phase() {
        let text = table(&phases());
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["START/us", "TIME/us", "PROCESS", "PHASE"]);
        assert_eq!(words[1], ["0.0", "1.5", "runtime", "plan"]);
        assert_eq!(words[2][..5], ["1.5", "20.1", "container", "mount", "`x"]);
    }

    #[test]
    fn a_trace_has_an_event_for_each_phase() {
        let trace = trace(&phases());
        let events: Vec<_> = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X").collect();
        assert_eq!(events.len(), 2);
        assert_eq!(
            (&events[1]["name"], &events[1]["ts"], &events[1]["dur"], &events[1]["tid"]),
            (&json!("mount `x \"y\"` to `/`"), &json!(1.5), &json!(20.05), &json!(2))
        );
    }
}
