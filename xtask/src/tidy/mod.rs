//! `cargo xtask tidy`: the rules of ARCHITECTURE.md and CONTRIBUTING.md that no compiler or lint checks.
//!
//! Here: the list of files, the findings and their printing. Not here: the rules, which are in `rust.rs` (each Rust
//! file by itself), `text.rs` (every text) and `deps.rs` (what depends on what).

mod deps;
mod rust;
mod scan;
mod text;

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::store::workspace;

/// A violation of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, relative to the workspace.
    file: String,
    /// Its line, from 1; 0 for the whole file.
    line: usize,
    what: String,
}

impl Finding {
    fn new(file: &str, line: usize, what: impl Into<String>) -> Finding {
        Finding { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// A file of the project that is text.
struct Source {
    /// Relative to the workspace, with `/`.
    path: String,
    text: String,
}

/// Entry of `cargo xtask tidy`.
pub fn run(args: &[String]) -> Result<u8> {
    if let Some(arg) = args.first() {
        bail!("tidy takes no arguments, but got {arg}");
    }
    let (findings, files) = check()?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("{files} files are tidy"),
        count => println!("{count} violations in {files} files"),
    }
    Ok(u8::from(!findings.is_empty()))
}

/// All findings, and how many files were looked at.
pub fn check() -> Result<(Vec<Finding>, usize)> {
    let root = workspace().canonicalize().context("resolve the project's directory")?;
    let sources = sources(&root)?;
    let mut findings = Vec::new();
    let places = text::MachinePlaces::here(&root);
    for source in &sources {
        if source.path.ends_with(".rs") {
            rust::check(source, &mut findings);
        }
        text::check(source, &root, &places, &mut findings);
    }
    deps::check(&root, &sources, &mut findings)?;
    findings.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    Ok((findings, sources.len()))
}

/// The project's text files: those that git knows or would take.
fn sources(root: &Path) -> Result<Vec<Source>> {
    let mut command = Command::new("git");
    command.args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]).current_dir(root).stderr(Stdio::piped());
    let output = command.output().context("start git")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let mut sources = Vec::new();
    for path in String::from_utf8_lossy(&output.stdout).split('\0').filter(|path| !path.is_empty()) {
        // A file may be deleted but not yet committed, or may be no text.
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            sources.push(Source { path: path.to_owned(), text });
        }
    }
    if sources.is_empty() {
        bail!("git knows no files in {}", root.display());
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_this_file() {
        let sources = sources(&workspace()).expect("git lists the files");
        assert!(sources.iter().any(|source| source.path == "xtask/src/tidy/mod.rs"));
        assert!(sources.iter().all(|source| !source.path.starts_with("target/")));
    }
}
