//! `mounts add` and `mounts remove`: mounts of a container that exists. Not here: making them.

use super::{Command, Context};
use crate::args::{self, Stop};
use clap::ArgMatches;
use runtime_core::Error;
use std::path::Path;

pub(super) const COMMAND: Command = Command { name: "mounts", about: "add or remove mounts of a container", options, run };

fn options() -> clap::Command {
    args::with_operands(args::command(
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
