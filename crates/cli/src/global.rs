//! The options before the command. Not here: acting on them (`app`).

use crate::args::{self, Stop, Typed};
use crate::cmd;
use crate::persona::Persona;
use clap::{ArgAction, ArgMatches, Command};
use pinnace_logging::{Format, Settings, Target, parse_level};
use runtime_core::api::Level;
use runtime_core::{Error, Result};
use std::ffi::OsString;
use std::path::PathBuf;

/// The command line, cut at the command.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) options: ArgMatches,
    /// The command's name and the words behind it.
    pub(crate) command: Option<(String, Vec<OsString>)>,
}

/// The global options.
pub(crate) fn definition(persona: Persona, typed: Typed<'_>) -> Command {
    let usage = match persona {
        Persona::Pinnace => "pinnace [OPTION...] COMMAND [OPTION...]",
        Persona::Crun => "crun [OPTION...] COMMAND [OPTION...]",
    };
    args::command(typed, persona.name(), usage, "")
        .help_template("Usage: {usage}\n\nCOMMANDS:\n{before-help}{options}\n")
        .allow_external_subcommands(true)
        .external_subcommand_value_parser(clap::builder::OsStringValueParser::new())
        .args(typed.only(args::value("cgroup-manager", "MANAGER", "cgroupfs, systemd or disabled")))
        .args(typed.only(args::flag("debug", "Log at level debug")))
        .args(
            typed.only(args::value("log", "[file:]PATH|journald:ID|syslog:ID", "Where to log; standard error otherwise").short_alias('l')),
        )
        .args(typed.only(args::value("log-format", "FORMAT", "text or json")))
        .args(typed.only(args::value("log-level", "LEVEL", "error, warning or debug")))
        .args(typed.only(args::value("root", "DIR", "Directory for the state of containers").short_alias('r')))
        .args(typed.only(args::value("rootless", "VALUE", "Accepted for compatibility, without effect")))
        .args(typed.only(args::flag("systemd-cgroup", "The same as --cgroup-manager=systemd").short_alias('s')))
        .args(typed.only(args::flag("version", "Print the version").short('V').short_alias('v').action(ArgAction::SetTrue)))
}

/// Reads the options up to the command.
///
/// # Errors
/// [`Stop::Usage`] for options there are not, [`Stop::Print`] for `--help` and `--usage`.
pub(crate) fn parse(persona: Persona, words: &[OsString]) -> Result<Invocation, Stop> {
    let mut options = args::parse(|typed| definition(persona, typed), words).map_err(|stop| match stop {
        Stop::Print(text) if text.contains("COMMANDS:") => Stop::Print(help(persona)),
        other => other,
    })?;
    let command = options.remove_subcommand().map(|(name, mut m)| (name, m.remove_many("").unwrap_or_default().collect()));
    Ok(Invocation { options, command })
}

/// The help text with the list of commands, which is only put together when it is asked for.
fn help(persona: Persona) -> String {
    let list: Vec<_> = cmd::ALL.iter().map(|c| format!("  {:<12}{}", c.name, c.about)).collect();
    definition(persona, Typed::ALL).before_help(list.join("\n")).render_help().to_string()
}

/// What the log is to be.
///
/// # Errors
/// Unknown words.
pub(crate) fn log_settings(m: &ArgMatches) -> Result<Settings> {
    let target = match args::value_of(m, "log") {
        Some(text) => Target::parse(text)?,
        None => Target::Stderr,
    };
    let format = args::text(m, "log-format")?.map_or(Ok(Format::Text), |t| Format::parse(&t))?;
    let level = args::text(m, "log-level")?.map_or(Ok(Level::Error), |t| parse_level(&t))?;
    Ok(Settings { target, format, level: if args::is_set(m, "debug") { Level::Debug } else { level }, container: None })
}

/// Name of the cgroup manager for new containers.
///
/// # Errors
/// ``unknown cgroup manager `X` ``.
pub(crate) fn cgroup_manager(m: &ArgMatches) -> Result<String> {
    match args::text(m, "cgroup-manager")? {
        Some(name) if matches!(name.as_str(), "cgroupfs" | "systemd" | "disabled") => Ok(name),
        Some(name) => Err(Error::invalid(format!("unknown cgroup manager `{name}`"))),
        None if args::is_set(m, "systemd-cgroup") => Ok("systemd".to_owned()),
        None => Ok("cgroupfs".to_owned()),
    }
}

/// The state directory.
pub(crate) fn root(m: &ArgMatches, persona: Persona) -> PathBuf {
    args::path(m, "root").unwrap_or_else(|| persona.default_root(std::env::var_os("XDG_RUNTIME_DIR")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parsed(line: &str) -> Result<Invocation, Stop> {
        let words: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        parse(Persona::Pinnace, &words)
    }

    fn failure(line: &str) -> String {
        match parsed(line) {
            Err(Stop::Usage(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_command_ends_the_global_options() {
        let i = parsed("--root /r --debug create --bundle b --root x -- -a").unwrap();
        let (name, rest) = i.command.unwrap();
        assert_eq!(name, "create");
        assert_eq!(rest, ["--bundle", "b", "--root", "x", "--", "-a"]);
        assert_eq!(root(&i.options, Persona::Pinnace), Path::new("/r"));
        assert!(parsed("--version").unwrap().command.is_none());
    }

    #[test]
    fn engines_spellings() {
        for (line, format, manager) in [
            ("--log-format=json --log=/x/oci-log --cgroup-manager disabled state a", Format::Json, "disabled"),
            ("--root /r --log /l --log-format json --systemd-cgroup create a", Format::Json, "systemd"),
            ("--rootless true --root=/r list", Format::Text, "cgroupfs"),
            ("-s -r /r -l /l state a", Format::Text, "systemd"),
            ("--sys --cgroup-manager cgroupfs list", Format::Text, "cgroupfs"),
        ] {
            let i = parsed(line).unwrap();
            assert_eq!(log_settings(&i.options).unwrap().format, format, "{line}");
            assert_eq!(cgroup_manager(&i.options).unwrap(), manager, "{line}");
        }
    }

    #[test]
    fn levels() {
        let level = |line| log_settings(&parsed(line).unwrap().options).map(|s| s.level);
        assert_eq!(level("list").unwrap(), Level::Error);
        assert_eq!(level("--log-level warning list").unwrap(), Level::Warning);
        assert_eq!(level("--debug --log-level error list").unwrap(), Level::Debug);
        assert_eq!(level("--log-level loud list").unwrap_err().to_string(), "unknown log level `loud`");
    }

    #[test]
    fn refusals() {
        assert_eq!(failure("--foo list"), "unrecognized option '--foo'");
        assert_eq!(failure("--ro /x list"), "option '--ro' is ambiguous; possibilities: '--root' '--rootless'");
        assert_eq!(failure("--root"), "option '--root' requires an argument");
        let e = cgroup_manager(&parsed("--cgroup-manager foo list").unwrap().options).unwrap_err();
        assert_eq!(e.to_string(), "unknown cgroup manager `foo`");
    }

    #[test]
    fn help_lists_the_commands() {
        match parsed("--help") {
            Err(Stop::Print(text)) => {
                assert!(text.starts_with("Usage: pinnace [OPTION...] COMMAND [OPTION...]\n\nCOMMANDS:\n"), "{text}");
                assert!(!text.contains("\n\n\n"), "{text}");
                assert!(cmd::ALL.iter().all(|c| text.contains(&format!("\n  {} ", c.name))), "{text}");
                assert!(text.contains("--cgroup-manager"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}
