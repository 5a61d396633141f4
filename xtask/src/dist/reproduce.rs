//! `cargo xtask dist --check`: the packages made twice, of copies of the sources in two directories with two target directories, and compared byte by
//! byte. Not here: making them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::archive::{self, Member};
use super::build::{Build, Link};
use super::packages::Tools;
use crate::store::{Progress, capture, remove};

/// The directories, different in length and depth.
const PLACES: [&str; 2] = ["a", "another/and-deeper"];

/// Makes the static tarball, the .deb and the .rpm twice; gives the lines that say what differs.
///
/// # Errors
/// Something does not build.
pub fn differences(here: &Build, tools: &Tools, progress: &Progress) -> Result<Vec<String>> {
    let room = here.target.join("dist/check");
    let mut made = Vec::new();
    for place in PLACES {
        let place = room.join(place);
        remove(&place)?;
        let (source, out) = (place.join("sources"), place.join("out"));
        copy_sources(&here.source, &source)?;
        fs::create_dir_all(&out).with_context(|| format!("create {}", out.display()))?;
        progress.say(format!("build in {}", place.display()));
        let build = here.elsewhere(source, place.join("target"));
        let paperwork = build.paperwork()?;
        let (tarball, _) = super::tarball(&build, Link::Static, &paperwork, &out)?;
        made.push([tarball, tools.deb(&build, &out)?, tools.rpm(&build, &out)?]);
    }
    let mut lines = Vec::new();
    let [one, two] = &made[..] else { bail!("two builds were to be made") };
    for (a, b) in one.iter().zip(two) {
        lines.extend(compare(a, b)?);
    }
    // What differs is kept to be looked at.
    if lines.is_empty() {
        remove(&room)?;
    }
    Ok(lines)
}

/// Copies the files that git knows, as they are now.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    let list = capture(Command::new("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(from))?;
    for name in list.split('\0').filter(|name| !name.is_empty()) {
        let (source, target) = (from.join(name), to.join(name));
        // One that is deleted but still in the index is no source.
        if !source.is_file() {
            continue;
        }
        let parent = target.parent().unwrap_or(to);
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        fs::copy(&source, &target).with_context(|| format!("copy {name}"))?;
    }
    Ok(())
}

/// Lines about two files that should be equal; none if they are.
fn compare(a: &Path, b: &Path) -> Result<Vec<String>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let name = a.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (x, y) = (read(a)?, read(b)?);
    if x == y {
        return Ok(Vec::new());
    }
    let mut lines = match name.ends_with(".tar.gz") {
        true => members(&name, &archive::read(a)?, &archive::read(b)?),
        false => Vec::new(),
    };
    if lines.is_empty() {
        lines.push(format!("{name}: {}", at(&x, &y)));
    }
    Ok(lines)
}

/// What differs between the members of two tarballs.
fn members(name: &str, a: &[Member], b: &[Member]) -> Vec<String> {
    let mut lines = Vec::new();
    let find = |all: &[Member], path: &str| all.iter().find(|member| member.path == path).cloned();
    for member in a {
        match find(b, &member.path) {
            None => lines.push(format!("{name}: {} is only in the first", member.path)),
            Some(other) if other.about != member.about => lines.push(format!("{name}: mode, owner or time of {}", member.path)),
            Some(other) if other.body != member.body => lines.push(format!("{name}: {}, {}", member.path, at(&member.body, &other.body))),
            Some(_) => {}
        }
    }
    let more = b.iter().filter(|member| find(a, &member.path).is_none());
    lines.extend(more.map(|member| format!("{name}: {} is only in the second", member.path)));
    if lines.is_empty() && a.iter().map(|member| &member.path).ne(b.iter().map(|member| &member.path)) {
        lines.push(format!("{name}: the order of the members"));
    }
    lines
}

/// Where two contents part.
fn at(a: &[u8], b: &[u8]) -> String {
    let first = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
    let differing = a.iter().zip(b).filter(|(a, b)| a != b).count();
    format!("{} and {} bytes, from byte {first} on, {differing} of them", a.len(), b.len())
}

/// Where a failed check left its builds.
pub fn left_in(build: &Build) -> PathBuf {
    build.target.join("dist/check")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(path: &str, mode: u32, body: &str) -> Member {
        Member { path: path.to_owned(), about: (mode, 0, 0, 7), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn what_differs_is_named() {
        let a = [member("x", 0o644, "same"), member("y", 0o644, "abcd"), member("z", 0o755, ""), member("gone", 0o644, "")];
        let b = [member("x", 0o644, "same"), member("y", 0o644, "abXd"), member("z", 0o644, ""), member("new", 0o644, "")];
        assert!(members("t", &a, &a).is_empty());
        assert_eq!(
            members("t", &a, &b),
            [
                "t: y, 4 and 4 bytes, from byte 2 on, 1 of them",
                "t: mode, owner or time of z",
                "t: gone is only in the first",
                "t: new is only in the second",
            ]
        );
        let turned: Vec<Member> = a.iter().rev().cloned().collect();
        assert_eq!(members("t", &a, &turned), ["t: the order of the members"]);
    }

    #[test]
    fn files_that_differ_are_told_by_their_first_byte() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str, body: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
            fs::write(&path, body).expect("write");
            path
        };
        let (a, b, c) = (path("1/p.deb", "abc"), path("2/p.deb", "abcd"), path("3/p.deb", "abc"));
        assert!(compare(&a, &c).expect("read").is_empty());
        assert_eq!(compare(&a, &b).expect("read"), ["p.deb: 3 and 4 bytes, from byte 3 on, 0 of them"]);
    }

    #[test]
    fn sources_are_what_git_knows() {
        let dir = tempfile::tempdir().expect("a directory");
        copy_sources(&crate::store::workspace(), dir.path()).expect("copy");
        assert!(dir.path().join("xtask/src/dist/reproduce.rs").is_file() && dir.path().join("Cargo.lock").is_file());
        assert!(!dir.path().join("target").exists() && !dir.path().join(".git").exists());
    }
}
