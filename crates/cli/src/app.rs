//! From the command line to the exit status. Not here: what each command does (`cmd`).

use crate::args::{self, Stop};
use crate::cmd::{self, Context};
use crate::global;
use crate::handover;
use crate::output;
use crate::persona::Persona;
use crate::profile::Wanted;
use crate::version;
use crate::wire;
use pinnace_logging::{Format, Settings, Target};
use runtime_core::api::{Level, LogBridge, Logger, Record};
use runtime_core::engine::protect_own_program;
use runtime_core::{Error, ErrorKind, Result};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

/// Exit status of a command that failed.
const FAILURE: i32 = 1;
/// Exit status for a command line that is wrong.
const USAGE: i32 = 64;

/// Runs the program; `words` is argv.
pub(crate) fn run(words: impl IntoIterator<Item = OsString>) -> i32 {
    let mut words = words.into_iter();
    let argv0 = words.next().unwrap_or_default();
    let persona = Persona::of(Some(&argv0));
    let words: Vec<_> = words.collect();
    let mut log = Log { logger: None, json_on_stderr: false };
    match dispatch(&argv0, &words, &mut log) {
        Ok(status) => status,
        Err((at, Stop::Print(text))) => {
            // The help of a command knows its own name only.
            let program = at.map_or(String::new(), |_| format!("{} ", persona.name()));
            match output::print(&text.replacen("Usage: ", &format!("Usage: {program}"), 1)) {
                Ok(()) => 0,
                Err(e) => log.fail(&e),
            }
        }
        Err((_, Stop::Failed(e))) => log.fail(&e),
        Err((at, Stop::Usage(message))) => log.usage(persona, at, &message),
    }
}

/// What went wrong, and in which command's options, if not in the global ones.
type Failure = (Option<&'static str>, Stop);

/// The commands that become a container's process.
const ENTERING: [&str; 3] = ["create", "run", "exec"];

fn dispatch(argv0: &OsStr, words: &[OsString], log: &mut Log) -> Result<i32, Failure> {
    let wanted = Wanted::from_environment();
    // Before anything is opened, since it may begin anew, and before the arguments are looked at closely: the less of the program is in memory by
    // then, the less is mapped again. A container that is called like a command is protected from for nothing.
    let protection = words.iter().any(|word| ENTERING.iter().any(|name| word == name)).then(protect_own_program);
    let persona = Persona::of(Some(argv0));
    let global = |stop| (None, stop);
    let failed = |e: Error| (None, Stop::Failed(e));
    let invocation = global::parse(persona, words).map_err(global)?;
    let options = &invocation.options;
    if args::is_set(options, "version") {
        return Err(global(Stop::Print(version::text(persona, &global::root(options, persona)))));
    }
    let settings = global::log_settings(options).map_err(failed)?;
    let mut logger = log.open(&settings).map_err(failed)?;
    let Some((name, rest)) = &invocation.command else {
        return Err(failed(Error::invalid("please specify a command")));
    };
    let Some(command) = cmd::ALL.iter().find(|c| c.name == name) else {
        return Err(failed(Error::invalid(format!("unknown command {name}"))));
    };
    let matches = args::parse(command.options, rest).map_err(|stop| (Some(command.name), stop))?;
    if settings.target.names_records() {
        let container = args::container(&matches).map(|id| id.to_string_lossy().into_owned());
        logger = log.open(&Settings { container, ..settings }).map_err(failed)?;
    }
    // The libraries' events; nothing else in this process subscribes, so this cannot fail.
    let _ = tracing::subscriber::set_global_default(LogBridge::new(logger.clone()));
    if let Some(protection) = protection.filter(|_| ENTERING.contains(&command.name)) {
        tracing::debug!("the runtime's own program is protected: {:?}", protection.map_err(failed)?);
    }
    let context = Context {
        persona,
        root: global::root(options, persona),
        cgroup_manager: global::cgroup_manager(options).map_err(failed)?,
        handler: Persona::handler(Some(argv0)),
        logger,
        profile: wanted.as_ref().map(|wanted| wanted.profile.clone()),
    };
    if let Some(profile) = &context.profile {
        profile.mark("read the arguments");
    }
    let done = (command.run)(&context, &matches);
    if let Some(Err(e)) = wanted.map(|wanted| wanted.write()) {
        context.logger.log(&Record { level: Level::Error, message: &e.to_string() });
    }
    done.map_err(|stop| match stop {
        // The program that others hand containers over to hands none on.
        Stop::Failed(e) if e.kind() == ErrorKind::NoHandler && wire::handlers().is_empty() => {
            failed(handover::to_handlers(argv0, words, &e))
        }
        stop => (Some(command.name), stop),
    })
}

/// The log, from the moment it is open; before that, standard error.
struct Log {
    logger: Option<Arc<dyn Logger>>,
    json_on_stderr: bool,
}

impl Log {
    fn open(&mut self, settings: &Settings) -> Result<Arc<dyn Logger>> {
        let logger = pinnace_logging::open(settings)?;
        self.json_on_stderr = settings.target == Target::Stderr && settings.format == Format::Json;
        self.logger = Some(logger.clone());
        Ok(logger)
    }

    fn fail(&self, e: &Error) -> i32 {
        self.error(&e.to_string());
        FAILURE
    }

    fn error(&self, message: &str) {
        match &self.logger {
            Some(logger) => logger.log(&Record { level: Level::Error, message }),
            None => output::complain(&format!("{message}\n")),
        }
    }

    /// One error record, and on standard error the hint that getopt's programs give, unless records are what is read there.
    fn usage(&self, persona: Persona, command: Option<&'static str>, message: &str) -> i32 {
        let program = command.unwrap_or(persona.name());
        self.error(&format!("{program}: {message}"));
        if !self.json_on_stderr {
            output::complain(&args::hint(&match command {
                Some(name) => format!("{} {name}", persona.name()),
                None => persona.name().to_owned(),
            }));
        }
        USAGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(line: &str) -> i32 {
        run(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn exit_statuses() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().display();
        for (line, expected) in [
            (format!("pinnace --log {dir}/log spec --bundle {dir}"), 0),
            (format!("pinnace spec --bundle {dir}"), FAILURE),
            ("pinnace".to_owned(), FAILURE),
            ("pinnace frobnicate".to_owned(), FAILURE),
            ("pinnace spec operand".to_owned(), FAILURE),
            ("pinnace --log-format xml features".to_owned(), FAILURE),
            ("pinnace --log foo:bar features".to_owned(), FAILURE),
            ("pinnace --cgroup-manager none features".to_owned(), FAILURE),
            ("pinnace --frobnicate".to_owned(), USAGE),
            ("pinnace spec --frobnicate".to_owned(), USAGE),
            ("pinnace spec --bundle".to_owned(), USAGE),
        ] {
            assert_eq!(status(&line), expected, "{line}");
        }
    }

    #[test]
    fn what_needs_no_container_needs_no_state_directory() {
        for (line, start) in [
            ("--root /nonexistent/x --version list", "crun version "),
            ("-v", "crun version "),
            ("--help", "Usage: crun "),
            ("--usage", "Usage: crun "),
            ("spec --help", "Usage: spec "),
            ("--root /nonexistent/x exec -?", "Usage: exec "),
        ] {
            let words: Vec<_> = line.split_whitespace().map(OsString::from).collect();
            match dispatch(OsStr::new("crun"), &words, &mut Log { logger: None, json_on_stderr: false }) {
                Err((_, Stop::Print(text))) => assert!(text.starts_with(start), "{line}: {text}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_failure_is_exactly_one_record() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        for (line, message) in [
            ("frobnicate", "unknown command frobnicate"),
            ("spec --frobnicate", "spec: unrecognized option '--frobnicate'"),
            ("spec --file /nonexistent/x", "open `/nonexistent/x`: No such file or directory"),
        ] {
            status(&format!("pinnace --log {} --log-format json {line}", log.display()));
            let text = std::fs::read_to_string(&log).unwrap();
            let v: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((v["level"].as_str(), v["msg"].as_str()), (Some("error"), Some(message)));
            std::fs::remove_file(&log).unwrap();
        }
    }
}
