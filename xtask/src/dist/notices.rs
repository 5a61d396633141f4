//! The licences of what the program is linked from, which whoever passes it on passes on, too: one text for packages, taken from the sources of
//! each dependency. Not here: whether a licence may be used (`deny.toml`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::build::Build;
use crate::host;
use crate::store::capture;

/// The file's name.
pub const NAME: &str = "THIRD-PARTY";

/// How the names of files with licences begin, in capitals.
const FILES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

const HEAD: &str = "\
The program is linked from these packages of other authors, beside the C library and libseccomp, which are under the GNU Lesser General Public
License 2.1 and are part of the static program; their sources are your distribution's. Each text below is named by the packages that carry it.
";

/// A dependency.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    /// Its licence as SPDX has it.
    licence: String,
    texts: Vec<String>,
}

/// Writes the texts of everything that the program with its default features is linked from into `directory`.
///
/// # Errors
/// cargo does not tell what that is, or a package tells no licence.
pub fn write(build: &Build, directory: &Path) -> Result<()> {
    let target = host::triple()?;
    let mut tree = build.cargo();
    tree.args(["tree", "--locked", "--package", "pinnace-cli", "--edges", "normal,no-proc-macro", "--prefix", "none", "--target", target]);
    let linked = linked(&capture(&mut tree)?);
    let mut metadata = build.cargo();
    metadata.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", target]);
    let metadata: Value = serde_json::from_str(&capture(&mut metadata)?).context("read cargo metadata")?;
    let mut packages = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        // Without a source it is one of ours.
        if package["source"].is_null() || !linked.contains(&(text("name"), text("version"))) {
            continue;
        }
        let manifest = text("manifest_path");
        let texts = texts(Path::new(&manifest).parent().unwrap_or(Path::new("/")))?;
        packages.push(Package { name: text("name"), version: text("version"), licence: text("license"), texts });
    }
    if packages.is_empty() {
        bail!("cargo tells of no dependency");
    }
    packages.sort();
    let path = directory.join(NAME);
    fs::write(&path, compose(&packages)?).with_context(|| format!("write {}", path.display()))
}

/// Names and versions from the lines of `cargo tree --prefix none`: `name vVERSION …`.
fn linked(tree: &str) -> BTreeSet<(String, String)> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    };
    tree.lines().filter_map(line).collect()
}

/// The texts in a package's directory, sorted by the files' names.
fn texts(directory: &Path) -> Result<Vec<String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if entry.file_type()?.is_file() && FILES.iter().any(|start| name.starts_with(start)) {
            let text = fs::read(entry.path()).with_context(|| format!("read {}", entry.path().display()))?;
            found.insert(name, String::from_utf8_lossy(&text).into_owned());
        }
    }
    Ok(found.into_values().collect())
}

/// The list of packages, and each text once, whatever its white space.
fn compose(packages: &[Package]) -> Result<String> {
    let mut out = HEAD.to_owned() + "\n";
    // The words of a text, with the packages that have it and the text as the first of them writes it.
    let mut texts: BTreeMap<String, (Vec<String>, &str)> = BTreeMap::new();
    for package in packages {
        let name = format!("{} {}", package.name, package.version);
        if package.licence.is_empty() && package.texts.is_empty() {
            bail!("{name} tells no licence");
        }
        out += &format!("{name}: {}\n", package.licence);
        for text in &package.texts {
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            texts.entry(words).or_insert_with(|| (Vec::new(), text)).0.push(name.clone());
        }
    }
    let mut all: Vec<_> = texts.into_values().collect();
    all.sort();
    for (names, text) in all {
        out += &format!("\n{}\n{}\n\n{}\n", "-".repeat(80), names.join(", "), text.trim_end());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, licence: &str, texts: &[&str]) -> Package {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        Package { name: name.to_owned(), version: "1.0.0".to_owned(), licence: licence.to_owned(), texts }
    }

    #[test]
    fn each_text_stands_once_with_all_who_have_it() {
        let packages = [
            package("a", "MIT", &["Be  good.\n"]),
            package("b", "MIT OR Apache-2.0", &["Be\ngood.", "Or else."]),
            package("c", "ISC", &[]),
        ];
        let text = compose(&packages).expect("all tell a licence");
        assert!(text.contains("\na 1.0.0: MIT\nb 1.0.0: MIT OR Apache-2.0\nc 1.0.0: ISC\n"), "{text}");
        let line = "-".repeat(80);
        assert!(text.ends_with(&format!("\n{line}\na 1.0.0, b 1.0.0\n\nBe  good.\n\n{line}\nb 1.0.0\n\nOr else.\n")), "{text}");
    }

    #[test]
    fn one_that_tells_none_is_an_error() {
        assert_eq!(compose(&[package("a", "", &[])]).expect_err("no licence").to_string(), "a 1.0.0 tells no licence");
    }

    #[test]
    fn what_is_linked_is_read_off_the_tree() {
        let found = linked("pinnace-cli v0.1.0 (/x)\nserde v1.0.2\nserde v1.0.2 (*)\n\n");
        let pair = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [pair("pinnace-cli", "0.1.0"), pair("serde", "1.0.2")]);
    }

    #[test]
    fn licences_are_found_by_their_names() {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in [("LICENSE-MIT", "b"), ("license-apache", "a"), ("README.md", "no"), ("lib.rs", "no")] {
            fs::write(dir.path().join(name), text).expect("write");
        }
        fs::create_dir(dir.path().join("LICENSES")).expect("make a directory");
        assert_eq!(texts(dir.path()).expect("read"), ["a", "b"]);
    }
}
