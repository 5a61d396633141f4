//! `start`. Not here: starting.

use super::{Command, Context, create};
use crate::args::{self, Stop, Typed};
use clap::ArgMatches;
use runtime_core::engine::StartOptions;

pub(super) const COMMAND: Command = Command { name: "start", about: "start a container", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    args::with_operands(args::command(typed, "start", "start CONTAINER", "Start the process of a container that was created"))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    let id = args::only_id(m, "start")?;
    context.runtime().start(&id, &StartOptions { notify_socket: create::variable("NOTIFY_SOCKET")? })?;
    Ok(0)
}
