//! `ps`: the processes of a container. Not here: finding them.

use super::{Command, Context, Format};
use crate::args::{self, Stop, Typed};
use crate::output;
use clap::ArgMatches;
use runtime_core::Result;
use std::fmt::Write;

pub(super) const COMMAND: Command = Command { name: "ps", about: "show the processes in the container", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    args::with_operands(args::command(
        typed,
        "ps",
        "ps [OPTION]... CONTAINER",
        "Print the process ids of a container's processes, as the host sees them",
    ))
    .args(typed.only(args::value("format", "FORMAT", "table (default) or json").short('f')))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    let id = args::only_id(m, "ps")?;
    let format = Format::of(m)?;
    output::print(&text(&context.runtime().pids(&id)?, format)?)?;
    Ok(0)
}

fn text(pids: &[i32], format: Format) -> Result<String> {
    match format {
        Format::Json => Ok(output::pretty(&pids)? + "\n"),
        Format::Table => Ok(pids.iter().fold("PID\n".to_owned(), |mut out, pid| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{pid}");
            out
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        assert_eq!(text(&[1, 23], Format::Table).unwrap(), "PID\n1\n23\n");
        assert_eq!(text(&[1, 23], Format::Json).unwrap(), "[\n  1,\n  23\n]\n");
        assert_eq!(text(&[], Format::Table).unwrap(), "PID\n");
        assert_eq!(text(&[], Format::Json).unwrap(), "[]\n");
    }
}
