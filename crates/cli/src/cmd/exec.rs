//! `exec`: another process in a container. Not here: executing.

use super::{Command, Context, create};
use crate::args::{self, Stop, Typed};
use clap::{ArgAction, ArgMatches};
use runtime_core::engine::ExecOptions;
use runtime_core::{ContainerId, Result};
use std::ffi::{OsStr, OsString};

pub(super) const COMMAND: Command = Command { name: "exec", about: "exec a command in a running container", options, run };

/// Options end at the first operand, the container: what follows belongs to the command, whatever it looks like. clap does that for
/// what it takes for a foreign subcommand.
fn options(typed: Typed<'_>) -> clap::Command {
    args::command(typed, "exec", "exec [OPTION]... CONTAINER COMMAND [ARG]...", "Execute a command in a running container")
        .allow_external_subcommands(true)
        .external_subcommand_value_parser(clap::builder::OsStringValueParser::new())
        .args(typed.only(args::value("additional-gids", "GID", "Add a supplementary group").short('g').action(ArgAction::Append)))
        // Shortened as far as crun allows, which has no --additional-gids, --pidfd-socket and --ignore-paused.
        .args(typed.only(args::value("apparmor", "PROFILE", "AppArmor profile of the process").alias("a")))
        .args(typed.only(args::value("cap", "CAP", "Add a capability").short('c').action(ArgAction::Append)))
        .args(typed.only(args::value("cgroup", "PATH", "Cgroup below the container's")))
        .args(typed.only(args::value("console-socket", "SOCKET", "Unix socket that receives the terminal's master side")))
        .args(typed.only(args::value("cwd", "DIR", "Working directory")))
        .args(typed.only(args::flag("detach", "Do not wait for the process").short('d')))
        .args(typed.only(args::value("env", "NAME=VALUE", "Set an environment variable").short('e').action(ArgAction::Append)))
        .args(typed.only(args::flag("ignore-paused", "Execute in a paused container too")))
        .args(typed.only(args::flag("no-new-privs", "Set the no_new_privs attribute")))
        .args(typed.only(args::value("pid-file", "FILE", "File that receives the process's id").aliases(["pi", "pid"])))
        .args(typed.only(args::value("pidfd-socket", "SOCKET", "Unix socket that receives a pidfd of the process")))
        .args(typed.only(args::value("preserve-fds", "N", "Number of descriptors from 3 on that are passed on")))
        .args(typed.only(args::value("process", "FILE", "JSON file that describes the process").short('p')))
        .args(typed.only(args::value("process-label", "LABEL", "SELinux label of the process")))
        .args(typed.only(
            args::value("tty", "BOOL", "Make a terminal").short('t').num_args(0..=1).require_equals(true).default_missing_value("true"),
        ))
        .args(typed.only(args::value("user", "UID[:GID]", "User and group of the process").short('u')))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    let (id, mut options) = exec_options(m)?;
    options.handler = context.handler.clone();
    Ok(context.runtime().exec(&id, &options)?)
}

fn exec_options(m: &ArgMatches) -> Result<(ContainerId, ExecOptions)> {
    let (id, command) = match m.subcommand() {
        Some((id, rest)) => (id, rest.get_many::<OsString>("").unwrap_or_default().cloned().collect()),
        None => ("", Vec::new()),
    };
    let process_file = args::path(m, "process");
    args::count(
        "exec",
        if m.subcommand().is_some() { 1 + command.len() } else { 0 },
        if process_file.is_some() { 1 } else { 2 },
        usize::MAX,
    )?;
    let options = ExecOptions {
        process_file,
        args: command.into_iter().map(|word| args::utf8(word, "exec")).collect::<Result<_>>()?,
        cwd: args::text(m, "cwd")?,
        env: args::texts(m, "env")?,
        tty: args::text(m, "tty")?.is_some_and(|t| !matches!(t.as_str(), "false" | "no")),
        user: args::text(m, "user")?.map(|t| user(&t)).transpose()?,
        additional_gids: args::texts(m, "additional-gids")?.iter().map(|t| gid(t)).collect::<Result<_>>()?,
        caps: args::texts(m, "cap")?,
        no_new_privs: args::is_set(m, "no-new-privs"),
        process_label: args::text(m, "process-label")?,
        apparmor: args::text(m, "apparmor")?,
        cgroup: args::text(m, "cgroup")?,
        console_socket: args::path(m, "console-socket"),
        pidfd_socket: args::path(m, "pidfd-socket"),
        pid_file: args::path(m, "pid-file"),
        preserve_fds: create::preserve_fds(m)?,
        listen_fds: create::listen_fds()?,
        seccomp_receiver: create::variable("RUN_OCI_SECCOMP_RECEIVER")?,
        handler: None,
        detach: args::is_set(m, "detach"),
        ignore_paused: args::is_set(m, "ignore-paused"),
    };
    Ok((args::id(OsStr::new(id))?, options))
}

/// `UID[:GID]`; group 0 where there is none.
fn user(text: &str) -> Result<(u32, u32)> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    number(uid).zip(number(gid)).ok_or_else(|| args::invalid("user", text))
}

fn gid(text: &str) -> Result<u32> {
    number(text).ok_or_else(|| args::invalid("additional-gids", text))
}

/// Digits only: `parse` alone would take a sign. The highest number is no id, it means "leave it" to the kernel.
fn number(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|id| plain && *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{abbreviations, matches};
    use super::*;
    use proptest::prelude::*;

    fn parsed(line: &str) -> (String, ExecOptions) {
        let (id, options) = exec_options(&matches(options, line)).unwrap();
        (id.to_string(), options)
    }

    fn failure(line: &str) -> String {
        exec_options(&matches(options, line)).unwrap_err().to_string()
    }

    #[test]
    fn options_end_at_the_container() {
        for (line, args) in [
            ("ctr ls -l --tty", &["ls", "-l", "--tty"][..]),
            ("--detach ctr ls", &["ls"]),
            ("ctr --detach", &["--detach"]),
            ("ctr -- ls", &["--", "ls"]),
            ("-- ctr -x", &["-x"]),
            ("ctr sh --help", &["sh", "--help"]),
            ("--env --x ctr env", &["env"]),
        ] {
            let (id, options) = parsed(line);
            assert_eq!(id, "ctr", "{line}");
            assert_eq!(options.args, args, "{line}");
            assert!(!options.tty);
        }
    }

    #[test]
    fn engines_spellings() {
        let (id, o) = parsed("--pid-file /p --process /f --detach --console-socket /s --pidfd-socket /x ctr");
        assert_eq!((id.as_str(), o.args.len(), o.detach), ("ctr", 0, true));
        assert_eq!(o.pid_file.unwrap().as_os_str(), "/p");
        assert_eq!(o.process_file.unwrap().as_os_str(), "/f");
        assert_eq!(o.console_socket.unwrap().as_os_str(), "/s");
        assert_eq!(o.pidfd_socket.unwrap().as_os_str(), "/x");
    }

    #[test]
    fn values() {
        let (_, o) =
            parsed("-u 7 -e A=1 -e B -c CAP_KILL --cap CAP_CHOWN -g 3 -g 4 --cwd /w --cgroup /c --preserve-fds 1 --no-new-privs ctr x");
        assert_eq!((o.user, o.additional_gids), (Some((7, 0)), vec![3, 4]));
        assert_eq!((o.env, o.caps), (vec!["A=1".to_owned(), "B".into()], vec!["CAP_KILL".to_owned(), "CAP_CHOWN".into()]));
        assert_eq!((o.cwd.as_deref(), o.cgroup.as_deref(), o.preserve_fds, o.no_new_privs), (Some("/w"), Some("/c"), 1, true));
        assert_eq!(parsed("--user 7:8 ctr x").1.user, Some((7, 8)));
        let (_, o) = parsed("--apparmor p --process-label l --ignore-paused ctr x");
        assert_eq!((o.apparmor.as_deref(), o.process_label.as_deref(), o.ignore_paused), (Some("p"), Some("l"), true));
    }

    #[test]
    fn a_terminal_may_be_refused() {
        for (line, tty) in [
            ("ctr x", false),
            ("-t ctr x", true),
            ("--tty ctr x", true),
            ("--tty=true ctr x", true),
            ("--tty=yes ctr x", true),
            ("--tty=false ctr x", false),
            ("--tty=no ctr x", false),
        ] {
            assert_eq!(parsed(line).1.tty, tty, "{line}");
        }
    }

    proptest! {
        #[test]
        fn users_are_numbers_and_nothing_else(uid in 0..u32::MAX, gid in 0..u32::MAX, text in "[+ -]?[0-9]{0,11}(:[+-]?[0-9]{0,11}){0,2}|[a-z0-9:]{0,6}") {
            prop_assert_eq!(user(&format!("{uid}:{gid}")).unwrap(), (uid, gid));
            prop_assert_eq!(user(&uid.to_string()).unwrap(), (uid, 0));
            match user(&text) {
                Ok((uid, gid)) => {
                    prop_assert!(text.bytes().all(|b| b.is_ascii_digit() || b == b':') && text.matches(':').count() <= 1);
                    prop_assert!(uid != u32::MAX && gid != u32::MAX, "no id");
                }
                Err(e) => prop_assert_eq!(e.to_string(), format!("invalid value for `user`: `{}`", text)),
            }
        }
    }

    #[test]
    fn refusals() {
        assert_eq!(failure(""), "please specify a ID for the container");
        assert_eq!(failure("ctr"), "`exec` requires a minimum of 2 arguments");
        assert_eq!(failure("--process /f"), "please specify a ID for the container");
        assert_eq!(failure("-u root ctr x"), "invalid value for `user`: `root`");
        assert_eq!(failure("-u 1: ctr x"), "invalid value for `user`: `1:`");
        assert_eq!(failure("-u +1 ctr x"), "invalid value for `user`: `+1`");
        assert_eq!(failure("-u 4294967295 ctr x"), "invalid value for `user`: `4294967295`");
        assert_eq!(failure("-g x ctr x"), "invalid value for `additional-gids`: `x`");
        assert_eq!(failure("a/b x"), "invalid character `/` in the container ID `a/b`");
        let words: Vec<OsString> = ["--frobnicate", "ctr", "x"].map(Into::into).to_vec();
        assert!(matches!(args::parse(options, &words), Err(Stop::Usage(t)) if t == "unrecognized option '--frobnicate'"));
    }

    #[test]
    fn crun_abbreviations_keep_their_meaning() {
        abbreviations(
            options,
            &[
                "apparmor=",
                "cgroup=",
                "console-socket=",
                "cwd=",
                "cap=",
                "detach",
                "env=",
                "no-new-privs",
                "pid-file=",
                "preserve-fds=",
                "process-label=",
                "process=",
                "tty",
                "user=",
            ],
        );
    }
}
