//! What the tests of the commands share, and what holds for all commands.

use super::*;
use runtime_core::state::{Report, Status};
use std::ffi::OsString;

impl Context {
    /// A context that touches nothing.
    pub(super) fn for_tests() -> Self {
        Self {
            persona: Persona::Pinnace,
            root: "/nonexistent/root".into(),
            cgroup_manager: "cgroupfs".into(),
            handler: None,
            logger: pinnace_logging::open(&pinnace_logging::Settings::default()).unwrap(),
            profile: None,
        }
    }
}

/// The parsed form of `line`, which must be acceptable.
pub(super) fn matches(options: fn(Typed<'_>) -> clap::Command, line: &str) -> ArgMatches {
    let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    args::parse(options, &words).unwrap_or_else(|e| panic!("{line}: {e:?}"))
}

/// Checks that every prefix of a long option that is unambiguous among `crun`'s options means the same here, though there are more
/// options here. An option with `=` takes a value.
pub(super) fn abbreviations(options: fn(Typed<'_>) -> clap::Command, crun: &[&str]) {
    let names: Vec<_> = crun.iter().map(|o| o.trim_end_matches('=')).chain(["help", "usage"]).collect();
    for option in crun {
        let name = option.trim_end_matches('=');
        for end in 1..=name.len() {
            let prefix = &name[..end];
            let unambiguous = prefix == name || names.iter().filter(|n| n.starts_with(prefix)).count() == 1;
            if !unambiguous {
                continue;
            }
            let line = if option.ends_with('=') { format!("--{prefix}=7") } else { format!("--{prefix}") };
            let m = matches(options, &line);
            assert_eq!(m.value_source(name), Some(clap::parser::ValueSource::CommandLine), "{line} is not --{name}");
        }
    }
}

#[test]
fn every_command_describes_itself() {
    for command in ALL {
        let built = (command.options)(Typed::ALL);
        assert_eq!(built.get_name(), command.name);
        // Runs clap's own checks: names and short options that stand twice, and the like.
        built.clone().debug_assert();
        let words = [OsString::from("--help")];
        match args::parse(command.options, &words) {
            Err(Stop::Print(text)) => assert!(text.starts_with(&format!("Usage: {}", command.name)), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name));
}

#[test]
fn ids_are_wanted_and_checked_before_anything_is_done() {
    let context = Context::for_tests();
    for command in ALL.iter().filter(|c| !["features", "list", "mounts", "spec"].contains(&c.name)) {
        let failure = |line: &str| match (command.run)(&context, &matches(command.options, line)) {
            Err(Stop::Failed(e)) => e.to_string(),
            other => panic!("{}: {other:?}", command.name),
        };
        assert_eq!(failure(""), "please specify a ID for the container", "{}", command.name);
        if command.name != "exec" {
            assert_eq!(failure("a/b"), "invalid character `/` in the container ID `a/b`", "{}", command.name);
            let many = failure("a b c");
            assert!(many.starts_with(&format!("`{}` requires a maximum of ", command.name)), "{many}");
        }
    }
}

#[test]
fn bad_expressions_are_refused() {
    for name in ["delete", "kill"] {
        let command = ALL.iter().find(|c| c.name == name).unwrap();
        match (command.run)(&Context::for_tests(), &matches(command.options, "--regex (")) {
            Err(Stop::Failed(e)) => assert!(e.to_string().starts_with("invalid regular expression `(`"), "{e}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn formats() {
    for name in ["list", "ps"] {
        let command = ALL.iter().find(|c| c.name == name).unwrap();
        let format = |line: &str| Format::of(&matches(command.options, line)).map_err(|e| e.to_string());
        assert_eq!(format("-f json"), Ok(Format::Json));
        assert_eq!(format("--format=table"), Ok(Format::Table));
        assert_eq!(format(""), Ok(Format::Table));
        assert_eq!(format("-f xml"), Err("invalid format `xml`".into()));
    }
}

/// A running container called `id`, without what is optional.
pub(super) fn report(id: &str) -> Report {
    Report {
        id: ContainerId::new(id).unwrap(),
        pid: 1234,
        status: Status::Running,
        bundle: "/b".into(),
        rootfs: "/b/rootfs".into(),
        created: "2026-09-01T10:11:12.123456Z".into(),
        scope: None,
        owner: None,
        annotations: Vec::new(),
    }
}
