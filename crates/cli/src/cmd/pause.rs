//! `pause`. Not here: pausing.

use super::{Command, Context};
use crate::args::{self, Stop, Typed};
use clap::ArgMatches;

pub(super) const COMMAND: Command = Command { name: "pause", about: "pause all the processes in the container", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    args::with_operands(args::command(typed, "pause", "pause CONTAINER", "Stop all processes of a container, until \"resume\""))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    let id = args::only_id(m, "pause")?;
    context.runtime().pause(&id)?;
    Ok(0)
}
