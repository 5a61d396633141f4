//! Rules for every text of the project: it names no place of the machine it was written on, and what its documents
//! point to exists.
//!
//! Not here: rules for Rust code (`rust.rs`).

use std::path::{Component, Path, PathBuf};

use super::{Finding, Source};

/// Texts that others wrote.
const FOREIGN: [&str; 5] = ["Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT", "tests/data/", "crates/seccomp/tests/data/"];
/// Directories of the file hierarchy standard: a clone may lie there without its text being about this machine.
const COMMON: [&str; 10] = ["/", "/home", "/root", "/tmp", "/var/tmp", "/opt", "/srv", "/mnt", "/usr/src", "/usr/local/src"];

/// Directories of this machine that no text may name.
pub struct MachinePlaces(Vec<String>);

impl MachinePlaces {
    /// The clone, the directory around it, the home directory, cargo's target directory.
    pub fn here(root: &Path) -> MachinePlaces {
        let mut places = vec![root.to_path_buf()];
        places.extend(["HOME", "CARGO_TARGET_DIR", "CARGO_HOME", "RUSTUP_HOME"].iter().filter_map(std::env::var_os).map(PathBuf::from));
        let text = |path: PathBuf| path.to_str().map(|path| path.trim_end_matches('/').to_owned());
        let mut places: Vec<String> = places.into_iter().filter_map(text).collect();
        // What lies beside the clone is of this machine, too; the bare name of the directory around it may be a word.
        let around = root.parent().and_then(Path::to_str).filter(|around| !COMMON.contains(around));
        places.retain(|place| place.starts_with('/') && !COMMON.contains(&place.as_str()));
        places.extend(around.map(|around| format!("{around}/")));
        places.sort();
        places.dedup();
        MachinePlaces(places)
    }
}

/// Applies the rules to one text.
pub fn check(source: &Source, root: &Path, places: &MachinePlaces, findings: &mut Vec<Finding>) {
    if FOREIGN.iter().any(|foreign| source.path.starts_with(foreign)) {
        return;
    }
    check_places(source, places, findings);
    if source.path.ends_with(".md") {
        check_links(source, root, findings);
    }
    if source.path == "ARCHITECTURE.md" {
        check_named_paths(source, root, findings);
    }
}

fn check_places(source: &Source, places: &MachinePlaces, findings: &mut Vec<Finding>) {
    for (number, line) in source.text.lines().enumerate() {
        let named = places.0.iter().find(|place| {
            line.match_indices(place.as_str()).any(|(at, _)| {
                let part = |c: Option<char>, more: &str| c.is_some_and(|c| c.is_alphanumeric() || "_-".contains(c) || more.contains(c));
                let (before, after) = (line[..at].chars().next_back(), line[at + place.len()..].chars().next());
                !part(before, ".})") && (place.ends_with('/') || !part(after, ""))
            })
        });
        if let Some(place) = named {
            findings.push(Finding::new(&source.path, number + 1, format!("names {place}, a directory of this machine")));
        }
    }
}

/// `[text](target)`: a relative target must exist, and a fragment must be a heading of its document.
fn check_links(source: &Source, root: &Path, findings: &mut Vec<Finding>) {
    let dir = Path::new(&source.path).parent().unwrap_or(Path::new(""));
    for (number, line) in prose(&source.text) {
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            let Some(target) = rest.split([')', ' ']).next().filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
            else {
                continue;
            };
            let (file, fragment) = target.split_once('#').map_or((target, None), |(file, fragment)| (file, Some(fragment)));
            let path = if file.is_empty() { PathBuf::from(&source.path) } else { normal(&dir.join(file)) };
            if !file.is_empty() && !root.join(&path).exists() {
                findings.push(Finding::new(&source.path, number, format!("the link to {target} leads nowhere")));
                continue;
            }
            let Some(fragment) = fragment else { continue };
            let body = if file.is_empty() { source.text.clone() } else { std::fs::read_to_string(root.join(&path)).unwrap_or_default() };
            if !prose(&body).any(|(_, line)| line.starts_with('#') && slug(line) == fragment) {
                findings.push(Finding::new(&source.path, number, format!("{} has no heading #{fragment}", path.display())));
            }
        }
    }
}

/// The lines outside fenced blocks, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((number + 1, line))
    })
}

/// The anchor that GitHub makes of a heading.
fn slug(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Paths between backticks: from the root, from `crates/`, or within the core.
fn check_named_paths(source: &Source, root: &Path, findings: &mut Vec<Finding>) {
    const BASES: [&str; 3] = ["", "crates", "crates/runtime-core/src"];
    for (number, line) in prose(&source.text) {
        for word in line.split('`').skip(1).step_by(2).filter(|word| is_path(word)) {
            for path in alternatives(word) {
                if !BASES.iter().any(|base| root.join(base).join(&path).exists()) {
                    findings.push(Finding::new(&source.path, number, format!("`{path}` does not exist")));
                }
            }
        }
    }
}

fn is_path(word: &str) -> bool {
    let looks = word.contains('/') || word.ends_with(".rs") || word.ends_with(".md") || word.ends_with(".toml");
    looks && !word.starts_with('/') && !word.contains([' ', '*', '<', ':']) && !word.ends_with(".json")
}

/// `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn alternatives(word: &str) -> Vec<String> {
    match word.split_once('{').and_then(|(head, rest)| Some((head, rest.split_once('}')?))) {
        Some((head, (list, tail))) => list.split(',').map(|middle| format!("{head}{}{tail}", middle.trim())).collect(),
        None => vec![word.to_owned()],
    }
}

fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::workspace;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let places = MachinePlaces(vec!["/clones/pinnace".into()]);
        check(&Source { path: path.to_owned(), text: text.to_owned() }, &workspace(), &places, &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_place_of_the_machine_is_found() {
        let found = findings("docs/x.md", "fine\nsee /clones/pinnace/docs\n");
        assert_eq!(found, ["docs/x.md:2: names /clones/pinnace, a directory of this machine"]);
        assert!(findings("docs/x.md", "see /clones/pinnace-old or my/clones/pinnace").is_empty());
    }

    #[test]
    fn what_lies_beside_the_clone_is_found_but_not_its_bare_name() {
        let places = MachinePlaces::here(Path::new("/clones/pinnace"));
        assert!(places.0.contains(&"/clones/".to_owned()) && !places.0.contains(&"/clones".to_owned()), "{:?}", places.0);
    }

    #[test]
    fn common_directories_are_no_secret() {
        let places = MachinePlaces::here(Path::new("/tmp/pinnace"));
        assert!(places.0.contains(&"/tmp/pinnace".to_owned()) && !places.0.contains(&"/tmp".to_owned()), "{:?}", places.0);
    }

    #[test]
    fn a_broken_link_is_found() {
        assert_eq!(findings("docs/x.md", "[a](nothing.md)"), ["docs/x.md:1: the link to nothing.md leads nowhere"]);
        assert!(findings("docs/x.md", "[a](../ARCHITECTURE.md) [b](https://example.org/)\n```\n[c](nothing.md)\n```\n").is_empty());
    }

    #[test]
    fn a_missing_heading_is_found() {
        assert!(findings("docs/x.md", "# One Two: three\n[a](#one-two-three)").is_empty());
        assert_eq!(findings("docs/x.md", "# One\n[a](#two)"), ["docs/x.md:2: docs/x.md has no heading #two"]);
    }

    #[test]
    fn a_path_that_the_architecture_invents_is_found() {
        assert!(findings("ARCHITECTURE.md", "`plan/{step,mod}.rs`, `cli/src/cmd/`, `xtask/src/main.rs`, `/proc/PID`, `a b/c`").is_empty());
        assert_eq!(findings("ARCHITECTURE.md", "a\n`plan/{step,nothing}.rs`"), ["ARCHITECTURE.md:2: `plan/nothing.rs` does not exist"]);
    }
}
