//! `resume`. Not here: resuming.

use super::{Command, Context};
use crate::args::{self, Stop, Typed};
use clap::ArgMatches;

pub(super) const COMMAND: Command = Command { name: "resume", about: "unpause the processes in the container", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    args::with_operands(args::command(typed, "resume", "resume CONTAINER", "Let the processes of a paused container go on"))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    let id = args::only_id(m, "resume")?;
    context.runtime().resume(&id)?;
    Ok(0)
}
