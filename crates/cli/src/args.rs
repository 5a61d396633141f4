//! Command lines read the GNU way, by clap. Not here: which options there are (`global`, `cmd`).
//!
//! Long options may be shortened as far as they stay unambiguous, values follow in the same or the next word whatever they start with,
//! options and operands mix. Errors read as getopt_long(3) words them, since people and scripts know those.

use clap::builder::OsStringValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use runtime_core::{ContainerId, Error, Result};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// There was only something to print: exit status 0.
    Print(String),
    /// The command line is wrong: exit status 64, `EX_USAGE` of sysexits.h.
    Usage(String),
    /// The command failed: exit status 1.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

/// Words of a command line, by which is known which options it has use for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Typed<'w>(Option<&'w [OsString]>);

impl<'w> Typed<'w> {
    /// Any option may come.
    pub(crate) const ALL: Self = Self(None);

    /// The options that a word could mean, in full or shortened, alone or with others: all but those can be left out, and what is understood is
    /// understood as with all of them.
    pub(crate) fn by(words: &'w [OsString]) -> Self {
        Self(Some(words))
    }

    /// The option, if it is to be there.
    pub(crate) fn only(self, option: Arg) -> Option<Arg> {
        let Some(words) = self.0 else { return Some(option) };
        words.iter().any(|word| could_mean(word.as_encoded_bytes(), &option)).then_some(option)
    }
}

fn could_mean(word: &[u8], option: &Arg) -> bool {
    if let Some(name) = word.strip_prefix(b"--") {
        let name = name.split(|b| *b == b'=').next().unwrap_or_default();
        let longs = option.get_long().into_iter().chain(option.get_all_aliases().into_iter().flatten());
        return longs.into_iter().any(|long| long.as_bytes().starts_with(name));
    }
    let Some(letters) = word.strip_prefix(b"-") else { return false };
    let shorts = option.get_short().into_iter().chain(option.get_all_short_aliases().into_iter().flatten());
    shorts.into_iter().any(|short| u8::try_from(short).is_ok_and(|short| letters.contains(&short)))
}

/// An empty command with the options every command has.
pub(crate) fn command(typed: Typed<'_>, name: &'static str, usage: &'static str, about: &'static str) -> Command {
    let help =
        Arg::new("help").short('?').short_alias('h').long("help").action(ArgAction::Help).help("Print this help").display_order(1000);
    Command::new(name)
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args_override_self(true)
        .infer_long_args(true)
        .override_usage(usage)
        .about(about)
        .help_template("Usage: {usage}\n{about}\n\n{options}\n")
        .args(typed.only(help))
        .args(typed.only(flag("usage", "Print a short usage message").display_order(1001)))
}

/// The last value of an option, if it was given.
pub(crate) fn value_of<'m>(m: &'m ArgMatches, long: &str) -> Option<&'m OsString> {
    m.try_get_one(long).ok().flatten()
}

/// Whether a flag was given.
pub(crate) fn is_set(m: &ArgMatches, long: &str) -> bool {
    m.try_get_one(long).ok().flatten().copied().unwrap_or(false)
}

/// `--long`, without a value.
pub(crate) fn flag(long: &'static str, help: &'static str) -> Arg {
    Arg::new(long).long(long).action(ArgAction::SetTrue).help(help)
}

/// `--long=VALUE` or `--long VALUE`; the last one counts.
pub(crate) fn value(long: &'static str, name: &'static str, help: &'static str) -> Arg {
    Arg::new(long).long(long).value_name(name).value_parser(OsStringValueParser::new()).allow_hyphen_values(true).help(help)
}

/// Any number of operands; [`operands`] counts them.
pub(crate) fn with_operands(command: Command) -> Command {
    command.arg(Arg::new(OPERANDS).num_args(0..).action(ArgAction::Append).value_parser(OsStringValueParser::new()).hide(true))
}

/// What is no option among the matches.
pub(crate) const OPERANDS: &str = "operands";

/// Parses `words`, the command line behind the command's name. Which options there are is asked for with those that are typed, and, where that is not
/// understood or help is wanted, with all.
pub(crate) fn parse(options: impl Fn(Typed<'_>) -> Command, words: &[OsString]) -> Result<ArgMatches, Stop> {
    match options(Typed::by(words)).try_get_matches_from(words) {
        Ok(m) if !is_set(&m, "usage") => Ok(m),
        _ => parse_all(options(Typed::ALL), words),
    }
}

fn parse_all(mut command: Command, words: &[OsString]) -> Result<ArgMatches, Stop> {
    let matches = command.try_get_matches_from_mut(words).or_else(|e| match with_two_dashes(&e, words) {
        Some(words) => command.try_get_matches_from_mut(words),
        None => Err(e),
    });
    match matches {
        Ok(m) if is_set(&m, "usage") => Err(Stop::Print(format!("{}\n", command.render_usage()))),
        Ok(m) => Ok(m),
        Err(e) => Err(stop(&e, &command)),
    }
}

/// The words with `-no-subreaper` as `--no-subreaper`, where that is what was not understood: the library that containerd calls runtimes
/// with writes this one option with one dash.
fn with_two_dashes(e: &clap::Error, words: &[OsString]) -> Option<Vec<OsString>> {
    const WORD: &str = "-no-subreaper";
    let unknown = e.kind() == ErrorKind::UnknownArgument && words.iter().any(|w| w == WORD);
    unknown.then(|| words.iter().map(|w| if w == WORD { format!("-{WORD}").into() } else { w.clone() }).collect())
}

fn stop(e: &clap::Error, command: &Command) -> Stop {
    if e.kind() == ErrorKind::DisplayHelp {
        return Stop::Print(e.render().to_string());
    }
    let text = |kind| match e.get(kind) {
        Some(ContextValue::String(s)) => s.as_str(),
        _ => "",
    };
    // An option as clap shows it: `--bundle <DIR>`, `-b <DIR>`, `--tty[=<TTY>]`.
    let shown = text(ContextKind::InvalidArg);
    let option = shown.split([' ', '=', '[']).next().unwrap_or_default();
    Stop::Usage(match e.kind() {
        ErrorKind::UnknownArgument => unknown(option, command),
        ErrorKind::InvalidValue => format!("option '{option}' requires an argument"),
        ErrorKind::TooManyValues => format!("option '{option}' doesn't allow an argument"),
        ErrorKind::InvalidUtf8 => "an argument is not valid UTF-8".to_owned(),
        _ => e.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    })
}

fn unknown(option: &str, command: &Command) -> String {
    let Some(name) = option.strip_prefix("--") else {
        return format!("invalid option -- '{}'", option.trim_start_matches('-'));
    };
    let candidates: Vec<_> = command.get_arguments().filter_map(Arg::get_long).filter(|l| l.starts_with(name)).collect();
    if candidates.len() > 1 {
        let list: String = candidates.iter().map(|c| format!(" '--{c}'")).collect();
        return format!("option '{option}' is ambiguous; possibilities:{list}");
    }
    format!("unrecognized option '{option}'")
}

/// The operands, of which there must be `min` to `max`.
///
/// # Errors
/// crun's texts: `please specify a ID for the container`, ``\`NAME\` requires a maximum of N arguments``.
pub(crate) fn operands(m: &ArgMatches, name: &str, min: usize, max: usize) -> Result<Vec<OsString>> {
    let words: Vec<OsString> = m.get_many::<OsString>(OPERANDS).unwrap_or_default().cloned().collect();
    count(name, words.len(), min, max)?;
    Ok(words)
}

/// Checks a number of operands, as [`operands`] does.
pub(crate) fn count(name: &str, n: usize, min: usize, max: usize) -> Result<()> {
    if n < min {
        return Err(Error::invalid(match n {
            0 => "please specify a ID for the container".to_owned(),
            _ => format!("`{name}` requires a minimum of {min} arguments"),
        }));
    }
    if n > max {
        return Err(Error::invalid(format!("`{name}` requires a maximum of {max} arguments")));
    }
    Ok(())
}

/// The single operand of most commands: a container's id.
pub(crate) fn only_id(m: &ArgMatches, name: &str) -> Result<ContainerId> {
    let words = operands(m, name, 1, 1)?;
    id(words.first().map_or(OsStr::new(""), |w| w))
}

/// The container a command line is about, as it was given: the first operand, whatever it is.
pub(crate) fn container(m: &ArgMatches) -> Option<&OsStr> {
    // Where options end at the first operand, that is what clap calls a subcommand.
    let name = m.subcommand_name().map(OsStr::new);
    name.or_else(|| m.try_get_many::<OsString>(OPERANDS).ok().flatten()?.next().map(OsString::as_os_str))
}

/// A container's id.
pub(crate) fn id(word: &OsStr) -> Result<ContainerId> {
    ContainerId::new(&word.to_string_lossy())
}

/// The value of an option that is a path.
pub(crate) fn path(m: &ArgMatches, long: &str) -> Option<PathBuf> {
    value_of(m, long).map(PathBuf::from)
}

/// The value of an option that is text.
///
/// # Errors
/// It is not UTF-8.
pub(crate) fn text(m: &ArgMatches, long: &str) -> Result<Option<String>> {
    value_of(m, long).map(|v| utf8(v.clone(), long)).transpose()
}

/// All values of an option that may be repeated.
///
/// # Errors
/// One is not UTF-8.
pub(crate) fn texts(m: &ArgMatches, long: &str) -> Result<Vec<String>> {
    m.try_get_many::<OsString>(long).ok().flatten().unwrap_or_default().map(|v| utf8(v.clone(), long)).collect()
}

/// `word` as text; `what` it is, for the error.
pub(crate) fn utf8(word: OsString, what: &str) -> Result<String> {
    word.into_string().map_err(|w| Error::invalid(format!("the value for `{what}` is not valid UTF-8: `{}`", w.display())))
}

/// The value of an option that is a number.
///
/// # Errors
/// ``invalid value for `OPTION`: `X` ``.
pub(crate) fn number<T: std::str::FromStr>(m: &ArgMatches, long: &str) -> Result<Option<T>> {
    let Some(text) = text(m, long)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| invalid(long, &text))
}

/// The error for a value that is not what an option takes.
pub(crate) fn invalid(long: &str, value: &str) -> Error {
    Error::invalid(format!("invalid value for `{long}`: `{value}`"))
}

/// Where to find help with `program`, as getopt's programs say it.
pub(crate) fn hint(program: &str) -> String {
    format!("Try `{program} --help' or `{program} --usage' for more information.\n")
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
