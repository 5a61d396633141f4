//! `run`: `create` and `start` in one, waiting for the process. Not here: the options shared with `create`.

use super::{Command, Context, create};
use crate::args::{self, Stop, Typed};
use clap::ArgMatches;
use runtime_core::Result;
use runtime_core::engine::CreateOptions;

pub(super) const COMMAND: Command = Command { name: "run", about: "run a container", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    create::with_options(typed, args::command(typed, "run", "run [OPTION]... CONTAINER", "Create and start a container, and wait for it"))
        .args(typed.only(args::flag("detach", "Do not wait").short('d')))
        .args(typed.only(args::flag("keep", "Keep the container's state when its process has ended")))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    let id = args::only_id(m, "run")?;
    Ok(context.runtime().run(&id, &run_options(context, m)?)?)
}

fn run_options(context: &Context, m: &ArgMatches) -> Result<CreateOptions> {
    Ok(CreateOptions { detach: args::is_set(m, "detach"), keep: args::is_set(m, "keep"), ..create::create_options(context, m)? })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{abbreviations, matches};
    use super::*;

    #[test]
    fn its_own_options() {
        let o = run_options(&Context::for_tests(), &matches(options, "-d --keep -b /b ctr")).unwrap();
        assert!(o.detach && o.keep && o.bundle.as_os_str() == "/b");
        let o = run_options(&Context::for_tests(), &matches(options, "ctr")).unwrap();
        assert!(!o.detach && !o.keep);
    }

    #[test]
    fn crun_abbreviations_keep_their_meaning() {
        abbreviations(
            options,
            &[
                "bundle=",
                "config=",
                "console-socket=",
                "detach",
                "keep",
                "no-new-keyring",
                "no-pivot",
                "no-subreaper",
                "pid-file=",
                "preserve-fds=",
            ],
        );
    }
}
