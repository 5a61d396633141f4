//! Builds what tests need, with cargo, and says where the programs are. Not here: running them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::store::{self, execute, workspace};
use crate::{host, order};

/// A target must be named, or these flags would reach procedural macros too, which cannot be static.
pub const STATIC: &str = "-C target-feature=+crt-static";
const TESTS: &str = "pinnace-tests";

/// The programs of the tests of behaviour.
pub struct Suite {
    /// The integration tests.
    pub integration: PathBuf,
    /// The tests of engines, for the test machines.
    pub engines: PathBuf,
    /// The static program that test containers run.
    pub probe: PathBuf,
    /// The helper that shows a command another cgroup layout.
    pub in_view: PathBuf,
}

/// The runtime in release mode: static, optimised.
pub fn pinnace() -> Result<PathBuf> {
    one(&build(&[&["build"], &release()?[..]].concat(), Build::Static)?, "pinnace")
}

/// The same as packages have it, linked twice ([`order`]).
pub fn pinnace_as_released() -> Result<PathBuf> {
    let program = released()?;
    order::link(releasing, &release()?, &workspace(), &program)?;
    Ok(program)
}

/// The same, linked once and with all symbols.
pub fn pinnace_with_names() -> Result<PathBuf> {
    execute(releasing().arg("rustc").args(release()?).args(["--", "-Cstrip=none"]))?;
    released()
}

fn release() -> Result<[&'static str; 7]> {
    Ok(["--release", "--package", "pinnace-cli", "--bin", "pinnace", "--target", host::triple()?])
}

fn released() -> Result<PathBuf> {
    Ok(store::target().join(host::triple()?).join("release/pinnace"))
}

/// A cargo whose programs are static and have names that can be told apart.
fn releasing() -> Command {
    let mut command = Command::new(store::cargo());
    command.current_dir(workspace());
    command.env("RUSTFLAGS", format!("{STATIC} {}", order::FLAGS)).env_remove("CARGO_ENCODED_RUSTFLAGS");
    static_libseccomp(&mut command);
    command
}

/// A static runtime that aborts when the container's child allocates. Its profile has a directory of its own, so that
/// nobody takes this program for an ordinary one.
pub fn trap() -> Result<PathBuf> {
    let arguments = ["build", "--profile", "trap", "--package", "pinnace-cli", "--bin", "pinnace", "--features", "trap-alloc"];
    one(&build(&[&arguments[..], &["--target", host::triple()?]].concat(), Build::Static)?, "pinnace")
}

/// A runtime that loads libkrun and seccomp notify plugins, which a static one cannot. It is not optimised: nothing is measured with it.
pub fn krun() -> Result<PathBuf> {
    let built = one(
        &build(&["build", "--package", "pinnace-cli", "--bin", "pinnace", "--features", "krun,notify-plugins"], Build::Plain)?,
        "pinnace",
    )?;
    // The next ordinary build takes that place. A name of its own would choose a handler.
    let kept = built.with_file_name("krun").join("pinnace");
    std::fs::create_dir_all(kept.with_file_name("")).context("make a directory for it")?;
    std::fs::copy(&built, &kept).with_context(|| format!("copy {}", built.display()))?;
    Ok(kept)
}

/// What of the workspace has engines, with all of them, for the tests: compiled once, by clippy, which is the compiler with lints. A check of
/// its own would read the engines' sources a second time.
const ENGINES: [&str; 4] = [
    "--profile",
    "handlers",
    "--features",
    "pinnace-cli/handlers,pinnace-wasm/wamr,pinnace-wasm/wasmedge,pinnace-wasm/wasmer,pinnace-wasm/wasmi,pinnace-wasm/wasmtime",
];

/// The runtime with all handlers.
pub fn handlers() -> Result<PathBuf> {
    let arguments = [&["build", "--package", "pinnace-cli", "--package", "pinnace-wasm"][..], &ENGINES].concat();
    one(&build(&arguments, Build::Linted)?, "pinnace")
}

/// The library that stands in for Wasmer's.
pub fn wasmer_stand_in() -> Result<PathBuf> {
    // Both packages, so that their dependencies are those of the runtime, built already.
    let arguments =
        [&["build", "--package", "pinnace-cli", "--package", "pinnace-wasm", "--example", "wasmer-stand-in"][..], &ENGINES].concat();
    one(&build(&arguments, Build::Linted)?, "wasmer-stand-in")
}

/// The unit tests of the engines.
pub fn engine_tests() -> Result<Vec<TestProgram>> {
    let arguments = [&["test", "--no-run", "--package", "pinnace-cli", "--package", "pinnace-wasm"][..], &ENGINES].concat();
    let built = build(&arguments, Build::Linted)?.into_iter().filter(|program| program.test);
    Ok(built.map(|program| TestProgram { name: program.name, path: program.path, directory: program.directory }).collect())
}

/// The static program that test containers run.
pub fn probe() -> Result<PathBuf> {
    let arguments = ["build", "--release", "--package", TESTS, "--bin", "probe", "--target", host::triple()?];
    one(&build(&arguments, Build::Static)?, "probe")
}

/// The static program that does the kernel's part of a start alone.
pub fn floor() -> Result<PathBuf> {
    let arguments = ["build", "--release", "--package", TESTS, "--bin", "floor", "--target", host::triple()?];
    one(&build(&arguments, Build::Static)?, "floor")
}

/// The helper that shows a command another cgroup layout.
pub fn in_view() -> Result<PathBuf> {
    one(&build(&["build", "--package", TESTS, "--bin", "in-view"], Build::Plain)?, "in-view")
}

/// A test program of cargo's, and the directory that cargo would run it in.
pub struct TestProgram {
    /// The package's directory name and the target's name.
    pub name: String,
    /// The program.
    pub path: PathBuf,
    /// The package's directory.
    pub directory: PathBuf,
}

/// The test programs of some packages, of the whole workspace if none is named; without the integration suite's.
pub fn unit_tests(packages: &[String]) -> Result<Vec<TestProgram>> {
    let mut arguments = vec!["test", "--no-run"];
    match packages {
        [] => arguments.push("--workspace"),
        some => arguments.extend(some.iter().flat_map(|package| ["--package", package.as_str()])),
    }
    let suite = workspace().join("tests");
    let built = build(&arguments, Build::Plain)?.into_iter().filter(|program| program.test && program.directory != suite);
    let test = |program: Program| {
        let package = program.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        TestProgram { name: format!("{package}/{}", program.name), path: program.path, directory: program.directory }
    };
    Ok(built.map(test).collect())
}

/// The tests of behaviour and their helpers. With `all`, cargo is asked for the whole workspace, whose packages share their
/// dependencies' features and so what was built for the unit tests; the suite alone needs fewer of them.
pub fn suite(all: bool) -> Result<Suite> {
    let probe = probe()?;
    let arguments: &[&str] = if all { &["test", "--no-run", "--workspace"] } else { &["test", "--no-run", "--package", TESTS] };
    let mut built = build(arguments, Build::Plain)?;
    let directory = workspace().join("tests");
    built.retain(|program| program.directory == directory);
    let test = |name: &str| {
        let found = built.iter().find(|program| program.test && program.kind == "test" && program.name == name);
        Ok::<_, anyhow::Error>(found.with_context(|| format!("cargo built no tests {name} of {TESTS}"))?.path.clone())
    };
    // cargo builds the ordinary programs of a package with its tests.
    Ok(Suite { integration: test("integration")?, engines: test("engines")?, probe, in_view: one(&built, "in-view")? })
}

struct Program {
    name: String,
    kind: String,
    test: bool,
    path: PathBuf,
    directory: PathBuf,
}

fn one(programs: &[Program], name: &str) -> Result<PathBuf> {
    let found = programs.iter().find(|program| program.name == name && !program.test);
    Ok(found.with_context(|| format!("cargo built no {name}"))?.path.clone())
}

/// How cargo is run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Build {
    Plain,
    /// Programs without libraries.
    Static,
    /// A lint is an error.
    Linted,
}

/// Runs cargo and returns the programs it built or found built.
fn build(arguments: &[&str], how: Build) -> Result<Vec<Program>> {
    let mut command = Command::new(store::cargo());
    command.args(arguments).arg("--message-format=json-render-diagnostics").current_dir(workspace());
    if how == Build::Linted {
        // What `cargo clippy -- -D warnings` tells it (clippy's own driver reads the variable).
        command.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver").env("CLIPPY_ARGS", "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__");
    }
    if how == Build::Static {
        command.env("RUSTFLAGS", STATIC).env_remove("CARGO_ENCODED_RUSTFLAGS");
        static_libseccomp(&mut command);
    }
    let output = command.stderr(Stdio::inherit()).output().context("start cargo")?;
    if !output.status.success() {
        bail!("cargo {} ended with {}", arguments.join(" "), output.status);
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(lines.lines().filter_map(|line| program(&serde_json::from_str(line).ok()?)).collect())
}

/// Has a cargo link libseccomp statically.
pub fn static_libseccomp(command: &mut Command) {
    command.env("LIBSECCOMP_LINK_TYPE", "static");
    if let Some(dir) = host::library("libseccomp.a").as_deref().and_then(|path| path.parent()) {
        command.env("LIBSECCOMP_LIB_PATH", dir);
    }
}

/// A program from one of cargo's messages; most tell of libraries.
fn program(message: &Value) -> Option<Program> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    // A library for programs in C is one, too.
    let library = || message["filenames"][0].as_str().filter(|_| message["target"]["crate_types"][0] == "cdylib");
    Some(Program {
        path: message["executable"].as_str().or_else(library).map(PathBuf::from)?,
        name: text(&message["target"]["name"])?,
        kind: text(&message["target"]["kind"][0])?,
        test: message["profile"]["test"].as_bool()?,
        directory: message["manifest_path"].as_str().map(Path::new)?.parent()?.to_path_buf(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_programs_are_taken_from_the_messages() {
        let test = json!({"reason": "compiler-artifact", "executable": "/t/x-1", "manifest_path": "/p/Cargo.toml", "target": {"name": "x", "kind": ["test"]},
            "profile": {"test": true}});
        let found = program(&test).expect("a program");
        assert_eq!((found.name.as_str(), found.kind.as_str(), found.test), ("x", "test", true));
        let library = json!({"reason": "compiler-artifact", "executable": null, "manifest_path": "/p/Cargo.toml", "target": {"name": "x", "kind": ["lib"]},
            "profile": {"test": false}});
        assert!(program(&library).is_none());
        let library = json!({"reason": "compiler-artifact", "executable": null, "filenames": ["/t/libx.so"], "manifest_path": "/p/Cargo.toml",
            "target": {"name": "x", "kind": ["example"], "crate_types": ["cdylib"]}, "profile": {"test": false}});
        assert_eq!(program(&library).expect("a library for C").path, Path::new("/t/libx.so"));
        assert!(program(&json!({"reason": "build-finished", "success": true})).is_none());
    }
}
