//! `delete`. Not here: deleting.

use super::{Command, Context};
use crate::args::{self, Stop, Typed};
use clap::ArgMatches;
use runtime_core::ErrorKind;

pub(super) const COMMAND: Command = Command { name: "delete", about: "remove definition for a container", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    args::with_operands(args::command(typed, "delete", "delete [OPTION]... CONTAINER", "Remove a container that has ended"))
        .args(typed.only(args::flag("force", "Kill it first if it has not; that there is no such container is no error").short('f')))
        .args(typed.only(args::flag("regex", "CONTAINER is a regular expression; all that match are removed").short('r')))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    let force = args::is_set(m, "force");
    let runtime = context.runtime();
    if args::is_set(m, "regex") {
        let pattern = super::pattern(m, "delete", 1)?;
        return super::for_each_match(context, &runtime, &pattern, |id| runtime.delete(id, force));
    }
    match runtime.delete(&args::only_id(m, "delete")?, force) {
        Err(e) if force && e.kind() == ErrorKind::NoContainer => Ok(0),
        result => Ok(result.map(|()| 0)?),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::abbreviations;

    #[test]
    fn crun_abbreviations_keep_their_meaning() {
        abbreviations(super::options, &["force", "regex"]);
    }
}
