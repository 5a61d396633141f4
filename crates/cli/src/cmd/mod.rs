//! The commands, one a file: each says what its options are and what it does with them. Not here: the global options.

mod features;
mod spec;

use crate::args::Stop;
use crate::persona::Persona;
use clap::ArgMatches;
use runtime_core::api::Logger;
use std::path::PathBuf;
use std::sync::Arc;

/// A command.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// One line for the help.
    pub(crate) about: &'static str,
    /// Its options; called for the command in hand only, since building all of them would be most of the program's work.
    pub(crate) options: fn() -> clap::Command,
    /// Does it and gives the exit status.
    pub(crate) run: fn(&Context, &ArgMatches) -> Result<i32, Stop>,
}

/// What the global options say.
pub(crate) struct Context {
    pub(crate) persona: Persona,
    pub(crate) root: PathBuf,
    pub(crate) cgroup_manager: String,
    pub(crate) logger: Arc<dyn Logger>,
}

/// All commands, in the help's order.
pub(crate) const ALL: &[Command] = &[spec::COMMAND, features::COMMAND];
