//! Builds what tests need, with cargo, and says where the programs are. Not here: running them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::host;
use crate::store::workspace;

/// A target must be named, or these flags would reach procedural macros too, which cannot be static.
const STATIC: &str = "-C target-feature=+crt-static";
const TESTS: &str = "pinnace-tests";

/// The programs of the integration suite.
pub struct Suite {
    /// The test programs: name, path.
    pub tests: Vec<(String, PathBuf)>,
    /// The static program that test containers run.
    pub probe: PathBuf,
    /// The helper that shows a command another cgroup layout.
    pub in_view: PathBuf,
}

/// The runtime as it is released: static, optimised.
pub fn pinnace() -> Result<PathBuf> {
    let arguments = ["build", "--release", "--package", "pinnace-cli", "--bin", "pinnace", "--target", host::triple()?];
    one(&build(&arguments, true)?, "pinnace")
}

/// A static runtime that aborts when the container's child allocates. Its profile has a directory of its own, so that
/// nobody takes this program for an ordinary one.
pub fn trap() -> Result<PathBuf> {
    let arguments = ["build", "--profile", "trap", "--package", "pinnace-cli", "--bin", "pinnace", "--features", "trap-alloc"];
    one(&build(&[&arguments[..], &["--target", host::triple()?]].concat(), true)?, "pinnace")
}

/// The static program that test containers run.
pub fn probe() -> Result<PathBuf> {
    let arguments = ["build", "--release", "--package", TESTS, "--bin", "probe", "--target", host::triple()?];
    one(&build(&arguments, true)?, "probe")
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
    let built = build(&arguments, false)?.into_iter().filter(|program| program.test && program.directory != suite);
    let test = |program: Program| {
        let package = program.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        TestProgram { name: format!("{package}/{}", program.name), path: program.path, directory: program.directory }
    };
    Ok(built.map(test).collect())
}

/// The integration suite and its helpers. With `all`, cargo is asked for the whole workspace, whose packages share their
/// dependencies' features and so what was built for the unit tests; the suite alone needs fewer of them.
pub fn suite(all: bool) -> Result<Suite> {
    let probe = probe()?;
    let arguments: &[&str] = if all { &["test", "--no-run", "--workspace"] } else { &["test", "--no-run", "--package", TESTS] };
    let mut built = build(arguments, false)?;
    let directory = workspace().join("tests");
    built.retain(|program| program.directory == directory);
    let tests = built.iter().filter(|program| program.test && program.kind == "test");
    let tests: Vec<_> = tests.map(|program| (program.name.clone(), program.path.clone())).collect();
    if tests.is_empty() {
        bail!("cargo built no tests of {TESTS}");
    }
    // cargo builds the ordinary programs of a package with its tests.
    Ok(Suite { tests, probe, in_view: one(&built, "in-view")? })
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

/// Runs cargo and returns the programs it built or found built.
fn build(arguments: &[&str], fixed: bool) -> Result<Vec<Program>> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).arg("--message-format=json-render-diagnostics").current_dir(workspace());
    if fixed {
        command.env("RUSTFLAGS", STATIC).env_remove("CARGO_ENCODED_RUSTFLAGS");
        command.env("LIBSECCOMP_LINK_TYPE", "static");
        if let Some(dir) = host::library("libseccomp.a").as_deref().and_then(|path| path.parent()) {
            command.env("LIBSECCOMP_LIB_PATH", dir);
        }
    }
    let output = command.stderr(Stdio::inherit()).output().context("start cargo")?;
    if !output.status.success() {
        bail!("cargo {} ended with {}", arguments.join(" "), output.status);
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(lines.lines().filter_map(|line| program(&serde_json::from_str(line).ok()?)).collect())
}

/// A program from one of cargo's messages; most tell of libraries.
fn program(message: &Value) -> Option<Program> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Program {
        path: message["executable"].as_str().map(PathBuf::from)?,
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
        assert!(program(&json!({"reason": "build-finished", "success": true})).is_none());
    }
}
