//! `mounts add` and `mounts remove`: mounts of a container that exists. Not here: making them.

use super::{Command, Context};
use crate::args::{self, Stop, Typed};
use clap::ArgMatches;
use runtime_core::Error;
use std::path::Path;

pub(super) const COMMAND: Command = Command { name: "mounts", about: "add or remove mounts of a container", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    args::with_operands(args::command(
        typed,
        "mounts",
        "mounts [add|remove] CONTAINER FILE",
        "Add mounts to a container that exists, or remove them. FILE is a JSON array as in config.json, \"-\" standard input",
    ))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    let words = args::operands(m, "mounts", 3, 3)?;
    let add = match words[0].to_str() {
        Some("add") => true,
        Some("remove") => false,
        _ => return Err(Error::invalid(format!("unknown command {}", words[0].display())).into()),
    };
    let id = args::id(&words[1])?;
    let (_, mounts) = super::read_file(Path::new(&words[2]))?;
    let runtime = context.runtime();
    if add {
        runtime.add_mounts(&id, &mounts)?
    } else {
        runtime.remove_mounts(&id, &mounts)?
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::matches;
    use super::*;

    #[test]
    fn three_words_are_wanted_and_checked_before_anything_is_done() {
        let context = Context::for_tests();
        let failure = |line: &str| match run(&context, &matches(options, line)) {
            Err(Stop::Failed(e)) => e.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(failure("add ctr"), "`mounts` requires a minimum of 3 arguments");
        assert_eq!(failure("add ctr file more"), "`mounts` requires a maximum of 3 arguments");
        assert_eq!(failure("change ctr file"), "unknown command change");
        assert_eq!(failure("add a/b file"), "invalid character `/` in the container ID `a/b`");
        assert_eq!(failure("remove ctr /nonexistent"), "open `/nonexistent`: No such file or directory");
    }
}
