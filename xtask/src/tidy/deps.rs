//! Rules for what depends on what: the arrows between the crates, what the core and the program pull in, and that each
//! dependency has its row in docs/dependencies.md.
//!
//! Not here: licences, advisories and sources, which cargo-deny checks by deny.toml.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Finding, Source};
use crate::store;

/// Every arrow between packages of the workspace, by the directory below which they are. `*` is every library.
const ARROWS: [(&str, &[&str]); 7] = [
    ("pinnace-runtime-core", &[]),
    ("pinnace-cgroup-fs", &["pinnace-runtime-core"]),
    ("pinnace-cgroup-systemd", &["pinnace-runtime-core", "pinnace-cgroup-fs"]),
    ("pinnace-cli", &["*"]),
    ("pinnace-tests", &[]),
    ("xtask", &["pinnace-vm-agent"]),
    ("pinnace-vm-agent", &[]),
];
/// The arrows of a backend that the list does not name.
const BACKEND: &[&str] = &["pinnace-runtime-core"];

const DOCUMENT: &str = "docs/dependencies.md";
const CORE: &str = "pinnace-runtime-core";
const PROGRAM: &str = "pinnace-cli";
/// What only the engine of the core may need: the interface alone does not compile it.
const ENGINE_ONLY: [&str; 5] = ["libc", "netlink-packet-core", "netlink-packet-route", "nix", "rustix"];

/// Applies the rules.
pub fn check(root: &Path, sources: &[Source], findings: &mut Vec<Finding>) -> Result<()> {
    let metadata = cargo(root, &["metadata", "--format-version", "1", "--no-deps", "--locked"]);
    let metadata = match metadata {
        Ok(text) => text,
        Err(error) => {
            findings.push(Finding::new("Cargo.lock", 0, format!("cargo metadata --locked: {error:#}")));
            return Ok(());
        }
    };
    let packages = packages(&metadata)?;
    check_arrows(&packages, findings);
    check_lints(root, &packages, findings);
    let document = sources.iter().find(|source| source.path == DOCUMENT).map(|source| source.text.as_str());
    check_document(document, &packages, findings);
    let interface = cargo(root, &["tree", "--locked", "-p", CORE, "--no-default-features", "-e", "normal", "--prefix", "none"])?;
    check_interface(&interface, findings);
    let program = cargo(root, &["tree", "--locked", "-p", PROGRAM, "-e", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe"])?;
    check_versions(&program, findings);
    Ok(())
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<String> {
    let program = store::cargo();
    let output = Command::new(program).args(arguments).current_dir(root).output().context("start cargo")?;
    if !output.status.success() {
        bail!("cargo {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A package of the workspace.
struct Package {
    name: String,
    /// Its Cargo.toml, relative to the workspace.
    manifest: String,
    /// The names of what it depends on, with whether that is only for tests.
    needs: Vec<(String, bool)>,
}

fn packages(metadata: &str) -> Result<Vec<Package>> {
    let metadata: Value = serde_json::from_str(metadata).context("read cargo metadata")?;
    let root = metadata["workspace_root"].as_str().context("no workspace_root")?.to_owned() + "/";
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let package = |value: &Value| {
        let need = |need: &Value| (text(&need["name"]), need["kind"] == "dev");
        Package {
            name: text(&value["name"]),
            manifest: text(&value["manifest_path"]).trim_start_matches(&root).to_owned(),
            needs: value["dependencies"].as_array().into_iter().flatten().map(need).collect(),
        }
    };
    let packages: Vec<Package> = metadata["packages"].as_array().into_iter().flatten().map(package).collect();
    if packages.is_empty() {
        bail!("cargo metadata lists no packages");
    }
    Ok(packages)
}

fn check_arrows(packages: &[Package], findings: &mut Vec<Finding>) {
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    for package in packages {
        let listed = ARROWS.iter().find(|(name, _)| *name == package.name);
        let allowed = listed.map_or(BACKEND, |(_, allowed)| allowed);
        for (need, _) in package.needs.iter().filter(|(need, _)| ours.contains(need.as_str())) {
            let library = packages.iter().any(|other| other.name == *need && other.manifest.starts_with("crates/"));
            let known = allowed.contains(&need.as_str()) || allowed.contains(&"*") && library;
            if !known {
                let what = format!("{} depends on {need}: ARCHITECTURE.md has no such arrow", package.name);
                findings.push(Finding::new(&package.manifest, 0, what));
            }
        }
    }
}

/// Each package forbids `unsafe` or demands a reason for each block; the crates take the workspace's lints whole.
fn check_lints(root: &Path, packages: &[Package], findings: &mut Vec<Finding>) {
    for package in packages {
        let manifest = std::fs::read_to_string(root.join(&package.manifest)).unwrap_or_default();
        let words: String = manifest.split_whitespace().collect();
        let whole = words.contains("[lints]workspace=true");
        let own = ["unsafe_code=\"deny\"", "unsafe_code=\"forbid\"", "undocumented_unsafe_blocks=\"deny\""];
        if !whole && (package.manifest.starts_with("crates/") || !own.iter().any(|lint| words.contains(lint))) {
            findings.push(Finding::new(&package.manifest, 0, "does not take the workspace's lints"));
        }
    }
}

/// A row of the document begins with the dependency's name in backticks.
fn check_document(document: Option<&str>, packages: &[Package], findings: &mut Vec<Finding>) {
    let Some(document) = document else {
        findings.push(Finding::new(DOCUMENT, 0, "is missing"));
        return;
    };
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let rows: BTreeSet<&str> = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut missing = BTreeMap::new();
    for package in packages {
        for (need, _) in package.needs.iter().filter(|(need, _)| !ours.contains(need.as_str()) && !rows.contains(need.as_str())) {
            missing.insert(need.as_str(), package.name.as_str());
        }
    }
    for (need, package) in missing {
        findings.push(Finding::new(DOCUMENT, 0, format!("has no row for {need}, which {package} depends on")));
    }
}

/// The lines of `cargo tree --prefix none`: `name vVERSION …`.
fn crates(tree: &str) -> impl Iterator<Item = (&str, &str)> {
    tree.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?))
    })
}

fn check_interface(tree: &str, findings: &mut Vec<Finding>) {
    let found: BTreeSet<&str> = crates(tree).map(|(name, _)| name).filter(|name| ENGINE_ONLY.contains(name)).collect();
    for name in found {
        let what = format!("without the feature `engine` it still depends on {name}, which only the engine may");
        findings.push(Finding::new("crates/runtime-core/Cargo.toml", 0, what));
    }
}

fn check_versions(tree: &str, findings: &mut Vec<Finding>) {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, version) in crates(tree) {
        versions.entry(name).or_default().insert(version);
    }
    for (name, versions) in versions.into_iter().filter(|(_, versions)| versions.len() > 1) {
        let list = versions.into_iter().collect::<Vec<_>>().join(" and ");
        findings.push(Finding::new("Cargo.lock", 0, format!("the program has {name} twice: {list}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, manifest: &str, needs: &[&str]) -> Package {
        let needs = needs.iter().map(|need| ((*need).to_owned(), false)).collect();
        Package { name: name.to_owned(), manifest: manifest.to_owned(), needs }
    }

    fn workspace_of(core_needs: &[&str]) -> Vec<Package> {
        vec![
            package(CORE, "crates/runtime-core/Cargo.toml", core_needs),
            package("pinnace-seccomp", "crates/seccomp/Cargo.toml", &[CORE, "libseccomp"]),
            package(PROGRAM, "crates/cli/Cargo.toml", &[CORE, "pinnace-seccomp"]),
        ]
    }

    fn texts(findings: &[Finding]) -> String {
        findings.iter().map(|finding| format!("{finding}\n")).collect()
    }

    #[test]
    fn a_new_arrow_is_found() {
        let mut findings = Vec::new();
        check_arrows(&workspace_of(&["serde"]), &mut findings);
        assert!(findings.is_empty(), "{}", texts(&findings));
        check_arrows(&workspace_of(&["pinnace-seccomp"]), &mut findings);
        assert_eq!(texts(&findings).matches("depends on pinnace-seccomp: ARCHITECTURE.md has no such arrow").count(), 1);
    }

    #[test]
    fn a_dependency_without_a_row_is_found() {
        let mut findings = Vec::new();
        let document = "| `libseccomp` | x |\n| `serde` | x |\n";
        check_document(Some(document), &workspace_of(&["serde"]), &mut findings);
        assert!(findings.is_empty(), "{}", texts(&findings));
        check_document(Some(document), &workspace_of(&["nix"]), &mut findings);
        assert_eq!(texts(&findings), "docs/dependencies.md: has no row for nix, which pinnace-runtime-core depends on\n");
        findings.clear();
        check_document(None, &[], &mut findings);
        assert_eq!(findings.len(), 1);
    }

    #[test]
    fn an_interface_that_needs_the_system_is_found() {
        let mut findings = Vec::new();
        check_interface("pinnace-runtime-core v0.1.0 (/x)\nserde v1.0.2\n", &mut findings);
        assert!(findings.is_empty());
        check_interface("pinnace-runtime-core v0.1.0 (/x)\nnix v0.31.0\nnix v0.31.0 (*)\n", &mut findings);
        assert!(texts(&findings).contains("still depends on nix"), "{}", texts(&findings));
    }

    #[test]
    fn a_crate_with_two_versions_is_found() {
        let mut findings = Vec::new();
        check_versions("a v1.0.0\nb v1.0.0\na v1.0.0\n", &mut findings);
        assert!(findings.is_empty());
        check_versions("a v1.0.0\na v2.0.0\n", &mut findings);
        assert_eq!(texts(&findings), "Cargo.lock: the program has a twice: v1.0.0 and v2.0.0\n");
    }

    #[test]
    fn a_crate_without_lints_is_found() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut findings = Vec::new();
        // xtask has lints of its own, which is enough outside crates/.
        check_lints(dir, &[package("xtask", "Cargo.toml", &[])], &mut findings);
        assert!(findings.is_empty(), "{}", texts(&findings));
        check_lints(dir, &[package("x", "crates/none/Cargo.toml", &[])], &mut findings);
        assert_eq!(findings.len(), 1);
    }
}
