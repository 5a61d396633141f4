//! The checks that are no tests: formatting, the project's rules, lints, documents, and each feature by itself.

use std::process::Command;
use std::time::Instant;

use super::alone;
use super::runner::Runner;
use super::tally::Part;
use crate::store::{cargo, workspace};
use crate::tidy;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo());
    command.args(arguments).env("CARGO_TERM_COLOR", "never");
    command
}

/// `-p A -p B`, or what stands for the whole workspace.
fn selection<'a>(packages: &'a [String], all: &'a str) -> Vec<&'a str> {
    match packages {
        [] => vec![all],
        some => some.iter().flat_map(|package| ["--package", package.as_str()]).collect(),
    }
}

/// Runs all checks, for some packages or for the workspace.
pub fn run(packages: &[String], runner: &Runner) -> Part {
    let mut part = Part::new("checks", "check");
    let start = Instant::now();
    runner.say("check the formatting and the project's rules");
    let fmt = [&["fmt", "--check"], &selection(packages, "--all")[..]].concat();
    runner.check(command(&fmt), "format", &mut part);
    tidy(&mut part);
    runner.say("run the lints");
    let clippy = [&["clippy", "--all-targets"], &selection(packages, "--workspace")[..], &["--", "-D", "warnings"]].concat();
    runner.check(command(&clippy), "lints", &mut part);
    runner.say("build the documents");
    let doc = [&["doc", "--no-deps", "--document-private-items"], &selection(packages, "--workspace")[..]].concat();
    let mut doc = command(&doc);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    runner.check(doc, "documents", &mut part);
    if packages.is_empty() {
        runner.say("check each feature by itself");
        features(runner, &mut part);
        runner.say("build the crate of cgroups without the rest, and run its example");
        alone::check(runner, &mut part);
    }
    part.finish(start)
}

fn tidy(part: &mut Part) {
    match tidy::check() {
        Ok((findings, _)) if findings.is_empty() => part.pass("tidy"),
        Ok((findings, _)) => {
            for finding in &findings {
                eprintln!("{finding}");
            }
            part.fail("tidy");
        }
        Err(error) => part.broken(format!("tidy: {error:#}")),
    }
}

/// The interface without the engine, the program without its backends and with each alone, the trapping allocator.
fn features(runner: &Runner, part: &mut Part) {
    for (package, features) in [
        ("pinnace-runtime-core", ""),
        ("pinnace-cli", ""),
        ("pinnace-cli", "cgroup-fs"),
        ("pinnace-cli", "cgroup-systemd"),
        ("pinnace-cli", "seccomp"),
        ("pinnace-cli", "journald"),
        ("pinnace-cli", "syslog"),
        ("pinnace-cli", "notify-plugins"),
        ("pinnace-cli", "cgroup-fs,seccomp,trap-alloc"),
    ] {
        let mut check = command(&["clippy", "--package", package, "--no-default-features", "--features", features]);
        check.args(["--", "-D", "warnings"]);
        let name = if features.is_empty() { format!("{package} without features") } else { format!("{package} with {features}") };
        runner.check(check, &name, part);
    }
}

/// The examples in the documents. A package without a library has none.
pub fn doc_tests(packages: &[String], runner: &Runner) -> Part {
    let mut part = Part::new("examples in the documents", "unit");
    let start = Instant::now();
    let directory = |package: &String| workspace().join("crates").join(package.trim_start_matches("pinnace-"));
    let libraries: Vec<String> = packages.iter().filter(|package| directory(package).join("src/lib.rs").is_file()).cloned().collect();
    if packages.is_empty() || !libraries.is_empty() {
        runner.say("run the examples in the documents");
        let words = [&["test", "--doc"], &selection(&libraries, "--workspace")[..]].concat();
        let mut test = command(&words);
        test.current_dir(workspace());
        runner.libtest(test, "documents", &mut part);
    }
    part.finish(start)
}
