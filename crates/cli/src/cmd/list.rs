//! `list`: all containers of the state directory. Not here: finding them.

use super::{Command, Context, Format};
use crate::args::{self, Stop, Typed};
use crate::output;
use clap::ArgMatches;
use runtime_core::Result;
use runtime_core::state::Report;
use serde::Serialize;
use std::fmt::Write;

pub(super) const COMMAND: Command = Command { name: "list", about: "list known containers", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    args::with_operands(args::command(typed, "list", "list [OPTION]...", "List the containers"))
        .args(typed.only(args::value("format", "FORMAT", "table (default) or json").short('f')))
        .args(typed.only(args::flag("quiet", "Print ids only").short('q')))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    args::operands(m, "list", 0, 0)?;
    let format = Format::of(m)?;
    let runtime = context.runtime();
    let text = if args::is_set(m, "quiet") {
        runtime.ids()?.iter().fold(String::new(), |out, id| out + id + "\n")
    } else {
        let reports = runtime.list()?;
        match format {
            Format::Table => table(&reports),
            Format::Json => output::pretty(&reports.iter().map(Entry::of).collect::<Vec<_>>())? + "\n",
        }
    };
    output::print(&text)?;
    Ok(0)
}

/// One container in the JSON form.
#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    pid: i32,
    status: &'a str,
    bundle: &'a str,
    created: &'a str,
    owner: &'a str,
}

impl<'a> Entry<'a> {
    fn of(r: &'a Report) -> Self {
        Self {
            id: &r.id,
            pid: r.pid,
            status: r.status.as_str(),
            bundle: &r.bundle,
            created: &r.created,
            owner: r.owner.as_deref().unwrap_or_default(),
        }
    }
}

/// The columns of crun's table; only the first one grows with its content.
fn table(reports: &[Report]) -> String {
    let width = reports.iter().map(|r| r.id.len()).max().unwrap_or(0).max("NAME".len()) + 1;
    let mut out = String::new();
    let mut row = |name: &str, pid: &str, status: &str, bundle: &str, created: &str, owner: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<width$}{pid:<10}{status:<8} {bundle:<39} {created:<30} {owner}");
    };
    row("NAME", "PID", "STATUS", "BUNDLE PATH", "CREATED", "OWNER");
    for r in reports {
        let e = Entry::of(r);
        row(e.id, &e.pid.to_string(), e.status, e.bundle, e.created, e.owner);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::{abbreviations, report};
    use super::*;

    #[test]
    fn crun_columns() {
        let head = "NAME PID       STATUS   BUNDLE PATH                             CREATED                        OWNER\n";
        assert_eq!(table(&[]), head);
        let mut reports = [report("a"), report("quite-long")];
        reports[0].owner = Some("root".into());
        let want = "\
NAME       PID       STATUS   BUNDLE PATH                             CREATED                        OWNER
a          1234      running  /b                                      2026-09-01T10:11:12.123456Z    root
quite-long 1234      running  /b                                      2026-09-01T10:11:12.123456Z    \n";
        assert_eq!(table(&reports), want);
    }

    #[test]
    fn json() {
        let v = serde_json::to_string(&Entry::of(&report("a"))).unwrap();
        let want = r#"{"id":"a","pid":1234,"status":"running","bundle":"/b","created":"2026-09-01T10:11:12.123456Z","owner":""}"#;
        assert_eq!(v, want);
    }

    #[test]
    fn crun_abbreviations_keep_their_meaning() {
        abbreviations(options, &["format=", "quiet"]);
    }
}
