//! The crate of cgroups without the rest of the workspace: it and the interface it implements are copied out, built, and its example is
//! run. What another program would do that embeds it. Not here: its tests.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::runner::Runner;
use super::tally::Part;
use crate::store::{Store, cargo, workspace};

/// What is copied. The first one has the example.
const CRATES: [&str; 2] = ["crates/cgroup-fs", "crates/runtime-core"];
const PACKAGE: &str = "pinnace-cgroup-fs";
const EXAMPLE: &str = "limits";

/// Adds the check to `part`.
pub fn check(runner: &Runner, part: &mut Part) {
    let name = format!("{PACKAGE} alone, with its example");
    if !rustix::process::geteuid().is_root() {
        part.skip(&name, "needs to make cgroups (covered by the run as root)");
        return;
    }
    let copied = Store::open().and_then(|store| store.scratch()).and_then(|dir| copy(dir.path()).map(|()| dir));
    let copy = match copied {
        Ok(dir) => dir,
        Err(error) => return part.broken(format!("{name}: {error:#}")),
    };
    let mut command = Command::new(cargo());
    // The lock file of the workspace knows all versions; what the copy does not need is dropped from its own.
    command.args(["run", "--offline", "--package", PACKAGE, "--example", EXAMPLE]).current_dir(copy.path());
    command.env("CARGO_TERM_COLOR", "never").env("CARGO_TARGET_DIR", copy.path().join("target"));
    runner.check(command, &name, part);
}

fn copy(to: &Path) -> Result<()> {
    for dir in CRATES {
        tree(&workspace().join(dir), &to.join(dir))?;
    }
    for file in ["Cargo.lock", "Cargo.toml"] {
        fs::copy(workspace().join(file), to.join(file)).with_context(|| format!("copy {file}"))?;
    }
    let manifest = fs::read_to_string(to.join("Cargo.toml")).context("read Cargo.toml")?;
    fs::write(to.join("Cargo.toml"), only(&manifest)?).context("write Cargo.toml")?;
    let first = to.join(CRATES[0]).join("Cargo.toml");
    let manifest = fs::read_to_string(&first).with_context(|| format!("read {}", first.display()))?;
    fs::write(&first, without_tests(&manifest)).with_context(|| format!("write {}", first.display()))
}

/// A manifest without what only tests need, which an embedder does not compile.
fn without_tests(manifest: &str) -> String {
    let mut kept = true;
    let mut out = String::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            kept = line != "[dev-dependencies]";
        }
        if kept {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// The workspace's manifest with the copied members only.
fn only(manifest: &str) -> Result<String> {
    let mut out = String::new();
    let mut replaced = false;
    for line in manifest.lines() {
        let name = line.split('=').next().unwrap_or_default().trim();
        match name {
            "members" => {
                out.push_str(&format!("members = {CRATES:?}\n"));
                replaced = true;
            }
            "default-members" => {}
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    if !replaced {
        bail!("Cargo.toml names no members");
    }
    Ok(out)
}

fn tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_copied_crates_are_members() {
        let manifest = "[workspace]\nmembers = [\"crates/*\", \"xtask\"]\ndefault-members = [\"crates/cli\"]\n\n[profile.dev]\n";
        let made = only(manifest).unwrap();
        assert_eq!(made, "[workspace]\nmembers = [\"crates/cgroup-fs\", \"crates/runtime-core\"]\n\n[profile.dev]\n");
        assert!(only("[workspace]\n").is_err());
        let manifest = "[package]\nname = \"x\"\n[dev-dependencies]\ny = \"1\"\n[features]\n";
        assert_eq!(without_tests(manifest), "[package]\nname = \"x\"\n[features]\n");
    }
}
