//! `create`, and the options it shares with `run`. Not here: creating.

use super::{Command, Context};
use crate::args::{self, Stop, Typed};
use clap::ArgMatches;
use runtime_core::Result;
use runtime_core::engine::CreateOptions;

pub(super) const COMMAND: Command = Command { name: "create", about: "create a container", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    with_options(typed, args::command(typed, "create", "create [OPTION]... CONTAINER", "Create a container, to be started by \"start\""))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    let id = args::only_id(m, "create")?;
    context.runtime().create(&id, &create_options(context, m)?)?;
    Ok(0)
}

/// The options of `create` and `run`.
pub(super) fn with_options(typed: Typed<'_>, command: clap::Command) -> clap::Command {
    args::with_operands(command)
        .args(typed.only(args::value("bundle", "DIR", "Bundle directory, \".\" by default").short('b')))
        .args(typed.only(args::value("config", "FILE", "Configuration to use instead of the bundle's config.json").short('f')))
        .args(typed.only(args::value("console-socket", "SOCKET", "Unix socket that receives the terminal's master side")))
        .args(typed.only(args::value("pidfd-socket", "SOCKET", "Unix socket that receives a pidfd of the container's process")))
        .args(typed.only(args::value("preserve-fds", "N", "Number of descriptors from 3 on that are passed to the container")))
        // Shortened as far as crun allows, which has no --pidfd-socket.
        .args(typed.only(args::value("pid-file", "FILE", "File that receives the process's id").aliases(["pi", "pid"])))
        .args(typed.only(args::flag("no-pivot", "Do not use pivot_root")))
        .args(typed.only(args::flag("no-subreaper", "Accepted for compatibility, without effect")))
        .args(typed.only(args::flag("no-new-keyring", "Keep the caller's session keyring")))
}

/// What the options say; `detach` and `keep` are left alone.
pub(super) fn create_options(context: &Context, m: &ArgMatches) -> Result<CreateOptions> {
    Ok(CreateOptions {
        bundle: args::path(m, "bundle").unwrap_or_else(|| ".".into()),
        config: args::path(m, "config"),
        cgroup_manager: context.cgroup_manager.clone(),
        handler: context.handler.clone(),
        console_socket: args::path(m, "console-socket"),
        pidfd_socket: args::path(m, "pidfd-socket"),
        preserve_fds: preserve_fds(m)?,
        listen_fds: listen_fds()?,
        notify_socket: variable("NOTIFY_SOCKET")?,
        seccomp_receiver: variable("RUN_OCI_SECCOMP_RECEIVER")?,
        no_pivot: args::is_set(m, "no-pivot"),
        no_new_keyring: args::is_set(m, "no-new-keyring"),
        pid_file: args::path(m, "pid-file"),
        ..CreateOptions::default()
    })
}

/// `--preserve-fds`.
///
/// # Errors
/// It is no number.
pub(super) fn preserve_fds(m: &ArgMatches) -> Result<u32> {
    Ok(args::number::<u32>(m, "preserve-fds")?.unwrap_or(0))
}

/// How many descriptors a service manager passed (sd_listen_fds(3)). `LISTEN_PID` is not looked at: it names the engine.
///
/// # Errors
/// It is no number.
pub(super) fn listen_fds() -> Result<u32> {
    let value = std::env::var("LISTEN_FDS").ok().filter(|n| !n.is_empty());
    value.map_or(Ok(0), |n| n.parse().map_err(|_| args::invalid("LISTEN_FDS", &n)))
}

/// A variable of the environment, if it is set to anything.
///
/// # Errors
/// It is not UTF-8.
pub(super) fn variable(name: &str) -> Result<Option<String>> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(|value| args::utf8(value, name)).transpose()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{abbreviations, matches};
    use super::*;
    use std::path::{Path, PathBuf};

    #[test]
    fn engines_spellings() {
        let context = Context::for_tests();
        for line in [
            "--bundle /b --pid-file /p --no-pivot --no-new-keyring --preserve-fds 2 --console-socket /s --pidfd-socket /f ctr",
            "ctr --bundle=/b --pid-file=/p --no-pivot --no-new-keyring --preserve-fds=2 --console-socket=/s --pidfd-socket=/f",
            "-b /b --pid /p --no-p --no-n --pr 2 --cons /s -no-subreaper --pidfd /f ctr",
        ] {
            let m = matches(options, line);
            let o = create_options(&context, &m).unwrap();
            assert_eq!(args::only_id(&m, "create").unwrap().as_str(), "ctr");
            assert_eq!((o.bundle.as_path(), o.pid_file), (Path::new("/b"), Some(PathBuf::from("/p"))), "{line}");
            assert_eq!((o.console_socket, o.pidfd_socket), (Some("/s".into()), Some("/f".into())), "{line}");
            assert_eq!((o.no_pivot, o.no_new_keyring, o.preserve_fds), (true, true, 2), "{line}");
        }
    }

    #[test]
    fn without_options_it_is_the_working_directory() {
        let o = create_options(&Context::for_tests(), &matches(options, "ctr")).unwrap();
        assert_eq!((o.bundle.as_path(), o.config, o.cgroup_manager.as_str()), (Path::new("."), None, "cgroupfs"));
        assert_eq!((o.no_pivot, o.no_new_keyring, o.preserve_fds, o.detach), (false, false, 0, false));
    }

    #[test]
    fn a_number_that_is_none() {
        let e = create_options(&Context::for_tests(), &matches(options, "--preserve-fds x ctr")).unwrap_err();
        assert_eq!(e.to_string(), "invalid value for `preserve-fds`: `x`");
    }

    #[test]
    fn crun_abbreviations_keep_their_meaning() {
        abbreviations(
            options,
            &["bundle=", "console-socket=", "config=", "no-new-keyring", "no-pivot", "no-subreaper", "pid-file=", "preserve-fds="],
        );
    }
}
