//! `cargo xtask test`: everything that must hold before a change is taken, on this machine.
//!
//! Formatting, lints, the project's own rules, documents, each feature by itself, unit tests, and the integration tests:
//! the real program in real namespaces, with the machine's own cgroups and, in a private mount namespace, with a pure
//! cgroup v2 tree. Here: the options and the order. Not here: counting (`tally.rs`), running a program (`runner.rs`) and
//! the test machines (`cargo xtask vm test`).

mod alone;
mod checks;
mod runner;
mod tally;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::binaries;
use crate::conformance;
use crate::debian;
use crate::host;
use crate::store::{Progress, Store, cargo, workspace};
use runner::Runner;
use tally::{Part, Summary};

const USAGE: &str = "\
usage: cargo xtask test [OPTIONS] [FILTER]...

  FILTER             only tests whose name contains it, and no checks
  -p, --package P    only this package, such as seccomp or tests (the integration tests); may be repeated
  --behaviour        only the integration tests; with RUNTIME=/path/of/a/runtime those that hold for any runtime
  --without CALLS    only the integration tests, as if the kernel lacked these system calls: one or more of openat2, clone3,
                     mount_setattr, open_tree, fsopen, close_range, pidfd_open, with commas between them
  --verbose          print what the tests print
";
/// The integration suite by its package's name.
const SUITE: &str = "pinnace-tests";

/// What to run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    behaviour: bool,
    verbose: bool,
    packages: Vec<String>,
    filters: Vec<String>,
    without: Option<String>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            match arg.as_str() {
                "--behaviour" => options.behaviour = true,
                "--without" => options.without = Some(rest.next().with_context(|| format!("{arg} needs a value\n{USAGE}"))?.clone()),
                "--verbose" | "-v" => options.verbose = true,
                "-p" | "--package" => options.packages.push(package(rest.next().with_context(|| format!("{arg} needs a value\n{USAGE}"))?)),
                word if word.starts_with('-') => bail!("unknown option {word}\n{USAGE}"),
                word => options.filters.push(word.to_owned()),
            }
        }
        Ok(options)
    }

    fn only_integration(&self) -> bool {
        self.behaviour || self.without.is_some()
    }

    /// Checks look at whole packages; someone who names a test wants that test.
    fn checks(&self) -> bool {
        !self.only_integration() && self.filters.is_empty()
    }

    /// The packages whose unit tests run; `None` for no unit tests at all, an empty list for all.
    fn unit(&self) -> Option<Vec<String>> {
        let units: Vec<String> = self.packages.iter().filter(|package| *package != SUITE).cloned().collect();
        (!self.only_integration() && (self.packages.is_empty() || !units.is_empty())).then_some(units)
    }

    fn integration(&self) -> bool {
        self.only_integration() || self.packages.is_empty() || self.packages.iter().any(|package| package == SUITE)
    }
}

/// A package by its full name or by that of its directory.
fn package(word: &str) -> String {
    let short = word == "tests" || workspace().join("crates").join(word).is_dir();
    if short { format!("pinnace-{word}") } else { word.to_owned() }
}

/// Entry of `cargo xtask test`.
pub fn run(args: &[String]) -> Result<u8> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{USAGE}");
        return Ok(0);
    }
    let options = Options::parse(args)?;
    prepare()?;
    let mut summary = Summary::default();
    let runner = Runner::new(options.verbose, &options.filters)?;
    if options.checks() {
        summary.add(checks::run(&options.packages, &runner));
    }
    if let Some(packages) = options.unit() {
        summary.add(unit_tests(&packages, &runner));
        if options.filters.is_empty() {
            summary.add(checks::doc_tests(&packages, &runner));
        }
    }
    if options.integration() {
        let all = options.unit().is_some_and(|packages| packages.is_empty());
        integration(&runner, all, options.without.as_deref(), &mut summary);
    }
    if options.checks() && options.packages.is_empty() {
        let part = conformance(&summary);
        summary.add(part);
    }
    print!("{}", summary.text());
    println!("logs: {}", runner.logs().display());
    println!("{}", summary.last_line());
    Ok(u8::from(!summary.good()))
}

/// Whether all that is promised was shown. Another runtime has not promised it, and an unprivileged user cannot run most of it.
fn conformance(summary: &Summary) -> Part {
    let mut part = Part::new("promises and their tests", "check");
    let start = Instant::now();
    let foreign = std::env::var_os("RUNTIME").is_some_and(|path| !path.is_empty());
    let ran = |name: &str| summary.has_passed("integration", name);
    let whole = !foreign && rustix::process::geteuid().is_root();
    match conformance::check(whole.then_some(&ran as &dyn Fn(&str) -> bool)) {
        Ok(findings) if findings.is_empty() => part.pass("conformance"),
        Ok(findings) => findings.into_iter().for_each(|finding| part.broken(finding)),
        Err(error) => part.broken(format!("{error:#}")),
    }
    part.finish(start)
}

/// Installs what is missing. The build must have its packages; without those of the tests, some tests are skipped by name.
fn prepare() -> Result<()> {
    let build: Vec<&host::Need> = host::BUILD.iter().collect();
    let tests: Vec<&host::Need> = host::TESTS.iter().collect();
    let mut installed = host::ensure(&build)?;
    match host::ensure(&tests) {
        Ok(more) => installed.extend(more),
        Err(error) => eprintln!("xtask: tests that need these will be skipped: {error:#}"),
    }
    if !installed.is_empty() {
        eprintln!("xtask: installed {}", installed.join(" "));
    }
    for (command, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        let found = Command::new(cargo()).args([command, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            bail!("cargo {command} is missing: rustup component add {component}");
        }
    }
    Ok(())
}

fn unit_tests(packages: &[String], runner: &Runner) -> Part {
    let mut part = Part::new("unit tests", "unit");
    let start = Instant::now();
    runner.say("build the unit tests");
    match binaries::unit_tests(packages) {
        Ok(programs) => {
            runner.say("run the unit tests");
            for program in programs {
                let mut command = Command::new(&program.path);
                command.current_dir(&program.directory).env("CARGO_MANIFEST_DIR", &program.directory);
                runner.libtest(command, &program.name, &mut part);
            }
        }
        Err(error) => part.broken(format!("{error:#}")),
    }
    part.finish(start)
}

/// The programs of the integration tests.
struct Programs {
    suite: binaries::Suite,
    /// The runtime under test, by the variable that tells the harness.
    runtime: (&'static str, OsString),
    trap: Option<PathBuf>,
    /// A build that loads libkrun and seccomp notify plugins.
    krun: Option<PathBuf>,
    /// A small Debian to run as a container, where one can be made.
    debian: Option<PathBuf>,
}

fn integration(runner: &Runner, all: bool, without: Option<&str>, summary: &mut Summary) {
    let start = Instant::now();
    runner.say("build the runtime and the integration tests");
    let programs = match build_integration(all) {
        Ok(programs) => programs,
        Err(error) => {
            let mut part = Part::new("integration tests", "integration");
            part.broken(format!("{error:#}"));
            summary.add(part.finish(start));
            return;
        }
    };
    runner.say("run the integration tests");
    summary.add(suite(runner, &programs, None, without));
    if pure_v2() || without.is_some() {
        return;
    }
    runner.say("run the integration tests in a pure cgroup v2 view");
    summary.add(suite(runner, &programs, Some("v2"), None));
}

fn build_integration(all: bool) -> Result<Programs> {
    let foreign = std::env::var_os("RUNTIME").filter(|path| !path.is_empty());
    let (runtime, trap, krun) = match foreign {
        Some(path) => {
            let found = fs::canonicalize(&path).with_context(|| format!("RUNTIME={}", path.display()))?;
            (("RUNTIME", found.into_os_string()), None, None)
        }
        None => (("PINNACE_BIN", binaries::pinnace()?.into_os_string()), Some(binaries::trap()?), Some(binaries::krun()?)),
    };
    Ok(Programs { suite: binaries::suite(all)?, runtime, trap, krun, debian: debian() })
}

/// The root file system for the tests that run a distribution. Without it (no root, no Debian, no mirror) they are skipped by name.
fn debian() -> Option<PathBuf> {
    let make = || -> Result<PathBuf> {
        let store = Store::open()?;
        let _lock = store.lock()?;
        debian::root(&store, &Progress::start())
    };
    make().inspect_err(|error| eprintln!("xtask: no Debian to run as a container: {error:#}")).ok()
}

/// Tests of what a kernel without a call does not have: what is skipped then, and why.
const INHERENT: [(&str, &[&str], &str); 6] = [
    (
        "",
        &["seccomp::a_filter_is_in_force", "seccomp::no_section_no_filter", "system_calls::a_start_needs_few_of_them"],
        "calls are taken away by a filter, which these see, and others are made instead (covered by the run with all calls)",
    ),
    ("clone3", &["seccomp::an_engines_profile_works"], "the call itself is looked at (covered by the run with all calls)"),
    ("open_tree", DETACHED, WITHOUT_DETACHED),
    ("mount_setattr", DETACHED, WITHOUT_DETACHED),
    ("fsopen", DETACHED, WITHOUT_DETACHED),
    (
        "pidfd_open",
        &["seccomp_notify::", "notify::a_pidfd_is_sent", "notify_plugins::"],
        "a pidfd is what is asked for, or what takes a descriptor out of a process (covered by the run with all calls)",
    ),
];

/// Mounts that only the calls for detached ones can make: with id maps, in the namespace of a container that runs, of what a user namespace
/// cannot reach by itself.
const DETACHED: &[&str] = &[
    "checkpoint_rpc::every_option_of_restore_is_its_field",
    "child_memory::exec_child_allocates_nothing",
    "idmapped::",
    "live_mounts::",
    "mounts::what_belongs_to_another_namespace_is_bound_from_the_host",
    "notify::a_user_namespace_reaches_its_socket",
    "own_program::a_moved_one_looks_as_before",
    "own_program::a_writable_one_is_moved_to_a_read_only_mount",
    "own_program::one_with_a_loader_is_moved_too",
    "own_program::where_it_cannot_be_moved_it_is_executed_again",
];
const WITHOUT_DETACHED: &str = "needs the calls for detached mounts (covered by the run with all calls)";

/// The suite once: on the machine as it is, or in a view of it.
fn suite(runner: &Runner, programs: &Programs, view: Option<&str>, without: Option<&str>) -> Part {
    let (title, log) = match view {
        None if without.is_some() => {
            let calls = without.unwrap_or_default();
            (format!("integration tests without {calls}"), format!("integration-without-{calls}"))
        }
        None => ("integration tests, this machine's cgroups".to_owned(), "integration-host".to_owned()),
        Some(view) => (format!("integration tests, pure cgroup {view}"), format!("integration-{view}")),
    };
    let mut part = Part::new(&title, "integration");
    let start = Instant::now();
    if let Some(view) = view
        && let Err(reason) = can_view(&programs.suite.in_view, view)
    {
        match rustix::process::geteuid().is_root() {
            true => part.broken(reason),
            false => part.skip("the whole run", &reason),
        }
        return part.finish(start);
    }
    let path = &programs.suite.integration;
    let mut command = match view {
        None if without.is_some() => {
            let calls = without.unwrap_or_default();
            let mut command = Command::new(&programs.suite.in_view);
            command.args(["host", "--without", calls, "--"]).arg(path);
            for (_, tests, reason) in INHERENT.iter().filter(|(call, ..)| call.is_empty() || calls.split(',').any(|name| name == *call)) {
                command.args(tests.iter().flat_map(|test| ["--skip", test]));
                tests.iter().for_each(|test| part.skip(test, reason));
            }
            command
        }
        Some(view) => {
            let mut command = Command::new(&programs.suite.in_view);
            command.args([view, "--"]).arg(path);
            command
        }
        None => Command::new(path),
    };
    command.current_dir(workspace().join("tests")).env("CARGO_MANIFEST_DIR", workspace().join("tests"));
    command.env_remove("RUNTIME").env(programs.runtime.0, &programs.runtime.1);
    command.env("PINNACE_PROBE", &programs.suite.probe).env("PINNACE_IN_VIEW", &programs.suite.in_view);
    if let Some(debian) = &programs.debian {
        command.env("PINNACE_DEBIAN_ROOT", debian);
    }
    if let Some(trap) = &programs.trap {
        command.env("PINNACE_TRAP_BIN", trap);
    }
    if let Some(krun) = &programs.krun {
        command.env("PINNACE_KRUN_BIN", krun);
        command.env("PINNACE_PLUGINS_BIN", krun);
    }
    runner.libtest(command, &log, &mut part);
    part.finish(start)
}

/// Whether a view can be made here; if not, what it takes.
fn can_view(in_view: &Path, view: &str) -> std::result::Result<(), String> {
    let output = Command::new(in_view).args([view, "--", "true"]).stdin(Stdio::null()).output();
    let said = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(format!("needs root with CAP_SYS_ADMIN, to mount in a namespace of its own ({said})"))
}

/// Whether the machine's only cgroup tree is v2, so that a view of it would show the same.
fn pure_v2() -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let kinds: Vec<&str> = mounts.lines().filter_map(|line| line.split_once(" - ")?.1.split(' ').next()).collect();
    kinds.contains(&"cgroup2") && !kinds.contains(&"cgroup")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Options {
        Options::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).expect("valid options")
    }

    #[test]
    fn without_options_all_is_run() {
        let options = parse(&[]);
        assert!(options.checks() && options.integration());
        assert_eq!(options.unit(), Some(Vec::new()));
    }

    #[test]
    fn a_package_is_known_by_its_directory() {
        let options = parse(&["-p", "seccomp", "--package", "xtask"]);
        assert_eq!(options.unit(), Some(vec!["pinnace-seccomp".to_owned(), "xtask".to_owned()]));
        assert!(options.checks() && !options.integration());
        let options = parse(&["-p", "tests", "cgroups::"]);
        assert!(options.integration() && !options.checks() && options.unit().is_none());
    }

    #[test]
    fn behaviour_is_only_the_integration_tests() {
        let options = parse(&["--behaviour", "hooks"]);
        assert!(options.integration() && !options.checks() && options.unit().is_none());
        assert_eq!(options.filters, ["hooks"]);
    }

    #[test]
    fn without_calls_only_the_integration_tests_run() {
        let options = parse(&["--without", "openat2,clone3", "run::"]);
        assert!(options.integration() && !options.checks() && options.unit().is_none());
        assert_eq!((options.without.as_deref(), options.filters.len()), (Some("openat2,clone3"), 1));
    }

    #[test]
    fn unknown_options_are_refused() {
        assert!(Options::parse(&["--quick".to_owned()]).is_err());
        assert!(Options::parse(&["-p".to_owned()]).is_err());
    }
}
