//! The commands, one a file: each says what its options are and what it does with them. Not here: the global options.

mod checkpoint;
mod create;
mod delete;
mod exec;
mod features;
mod kill;
mod list;
mod mounts;
mod pause;
mod ps;
mod restore;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod update;

use crate::args::{self, Stop, Typed};
use crate::persona::Persona;
use crate::regex::Regex;
use crate::wire;
use clap::ArgMatches;
use runtime_core::api::{Level, Logger, Record};
use runtime_core::engine::{Profile, Runtime};
use runtime_core::{ContainerId, Context as _, Error, ErrorKind, Result};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A command.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// One line for the help.
    pub(crate) about: &'static str,
    /// Its options; called for the command in hand only, and for those of its options that are typed, since building all of them would be most of
    /// the program's work.
    pub(crate) options: fn(Typed<'_>) -> clap::Command,
    /// Does it and gives the exit status.
    pub(crate) run: fn(&Context, &ArgMatches) -> Result<i32, Stop>,
}

/// All commands, in the help's order.
pub(crate) const ALL: &[Command] = &[
    checkpoint::COMMAND,
    create::COMMAND,
    delete::COMMAND,
    exec::COMMAND,
    features::COMMAND,
    kill::COMMAND,
    list::COMMAND,
    mounts::COMMAND,
    pause::COMMAND,
    ps::COMMAND,
    restore::COMMAND,
    resume::COMMAND,
    run::COMMAND,
    spec::COMMAND,
    start::COMMAND,
    state::COMMAND,
    update::COMMAND,
];

/// What the global options say.
pub(crate) struct Context {
    pub(crate) persona: Persona,
    pub(crate) root: PathBuf,
    pub(crate) cgroup_manager: String,
    /// The handler that the program was called for.
    pub(crate) handler: Option<String>,
    pub(crate) logger: Arc<dyn Logger>,
    pub(crate) profile: Option<Arc<Profile>>,
}

impl Context {
    fn runtime(&self) -> Runtime {
        Runtime::new(self.root.clone(), wire::backends(&self.root)).last_call().profiled(self.profile.clone())
    }
}

/// Layout of `list` and `ps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Table,
    Json,
}

impl Format {
    /// ``invalid format `X` `` for other words.
    fn of(m: &ArgMatches) -> Result<Self> {
        match args::text(m, "format")?.as_deref() {
            None | Some("table") => Ok(Self::Table),
            Some("json") => Ok(Self::Json),
            Some(other) => Err(Error::invalid(format!("invalid format `{other}`"))),
        }
    }
}

/// Reads a file, or standard input for `-`; gives its name for messages too.
fn read_file(path: &Path) -> Result<(String, Vec<u8>)> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).context(|| "read standard input")?;
        return Ok(("-".to_owned(), bytes));
    }
    let bytes = std::fs::read(path).context(|| format!("open `{}`", path.display()))?;
    Ok((path.display().to_string(), bytes))
}

/// The first operand as a regular expression.
fn pattern(m: &ArgMatches, name: &str, max: usize) -> Result<Regex> {
    let mut words = args::operands(m, name, 1, max)?;
    Regex::new(&args::utf8(words.swap_remove(0), "regex")?)
}

/// Does `act` to every container whose id matches. A failure is logged and the rest is done all the same; the exit status tells of it.
/// A container that goes away meanwhile is no failure.
fn for_each_match(context: &Context, runtime: &Runtime, pattern: &Regex, act: impl Fn(&ContainerId) -> Result<()>) -> Result<i32, Stop> {
    let mut status = 0;
    for id in runtime.ids()?.iter().filter(|id| pattern.is_match(id)) {
        match act(id) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NoContainer => {}
            Err(e) => {
                status = 1;
                context.logger.log(&Record { level: Level::Error, message: &e.to_string() });
            }
        }
    }
    Ok(status)
}

#[cfg(test)]
mod tests;
