//! `kill`. Not here: signal names (`runtime_core::signals`), sending.

use super::{Command, Context};
use crate::args::{self, Stop, Typed};
use clap::ArgMatches;
use runtime_core::{Result, signals};
use std::ffi::OsString;

pub(super) const COMMAND: Command = Command { name: "kill", about: "send a signal to the container init process", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    args::with_operands(args::command(
        typed,
        "kill",
        "kill [OPTION]... CONTAINER [SIGNAL]",
        "Send a signal, TERM by default, to a container's process",
    ))
    .args(typed.only(args::flag("all", "Send it to all processes of the container").short('a')))
    .args(typed.only(args::flag("regex", "CONTAINER is a regular expression; all that match get the signal").short('r')))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    let words = args::operands(m, "kill", 1, 2)?;
    let signal = signal(words.get(1))?;
    let all = args::is_set(m, "all");
    let runtime = context.runtime();
    if args::is_set(m, "regex") {
        let pattern = super::pattern(m, "kill", 2)?;
        return super::for_each_match(context, &runtime, &pattern, |id| runtime.kill(id, signal, all));
    }
    runtime.kill(&args::id(&words[0])?, signal, all)?;
    Ok(0)
}

fn signal(word: Option<&OsString>) -> Result<i32> {
    signals::parse(&word.map_or("TERM".into(), |w| w.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{abbreviations, matches};
    use super::*;

    #[test]
    fn engines_spellings() {
        for (line, expected, all) in [
            ("ctr", libc::SIGTERM, false),
            ("ctr KILL", libc::SIGKILL, false),
            ("-a ctr 9", libc::SIGKILL, true),
            ("--all ctr 15", libc::SIGTERM, true),
            ("ctr SIGUSR1 --all", libc::SIGUSR1, true),
        ] {
            let m = matches(options, line);
            let words = args::operands(&m, "kill", 1, 2).unwrap();
            assert_eq!((signal(words.get(1)).unwrap(), args::is_set(&m, "all")), (expected, all), "{line}");
        }
        assert_eq!(signal(Some(&"FOO".into())).unwrap_err().to_string(), "unknown signal `FOO`");
    }

    #[test]
    fn crun_abbreviations_keep_their_meaning() {
        abbreviations(options, &["all", "regex"]);
    }
}
