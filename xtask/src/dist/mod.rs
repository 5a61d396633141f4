//! `cargo xtask dist`: tarballs, a .deb and an .rpm of what is released, each looked at before it counts as made.
//!
//! Here: the order. Not here: the builds (`build.rs`), the licences of dependencies (`notices.rs`), the table of what is installed (`layout.rs`), tarballs (`archive.rs`), packages and their
//! tools (`packages.rs`), the comparison of two builds (`reproduce.rs`).

mod archive;
mod build;
#[cfg(test)]
mod engines;
mod layout;
mod notices;
mod packages;
mod reproduce;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host::{self, Need, Sign};
use crate::store::{Progress, capture, remove};
use build::{Build, Link};
use layout::Staged;
use packages::Tools;

const USAGE: &str = "\
usage: cargo xtask dist [--out DIR] [--check]

  --out DIR   where the packages go; target/dist/out by default
  --check     instead, makes them twice in different directories and says what differs
";

/// What packages are made and looked at with, beside what the build needs.
const NEEDS: [Need; 2] = [
    Need::new(Sign::Program("dpkg"), "looks at the .deb", "dpkg", "dpkg"),
    Need::new(Sign::Program("rpm"), "looks at the .rpm", "rpm", "rpm"),
];

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Help,
    Check,
    Make { out: Option<PathBuf> },
}

fn parse(args: &[String]) -> Result<Wish> {
    let mut wish = Wish::Make { out: None };
    let mut rest = args.iter();
    while let Some(word) = rest.next() {
        wish = match (word.as_str(), wish) {
            ("--help" | "-h", _) => return Ok(Wish::Help),
            ("--check", Wish::Make { out: None }) => Wish::Check,
            ("--out", Wish::Make { out: None }) => Wish::Make { out: Some(rest.next().context("--out wants a directory")?.into()) },
            (other, _) => bail!("{other} is not understood here\n{USAGE}"),
        };
    }
    Ok(wish)
}

/// Entry of `cargo xtask dist`.
pub fn run(args: &[String]) -> Result<u8> {
    let wish = parse(args)?;
    if wish == Wish::Help {
        print!("{USAGE}");
        return Ok(0);
    }
    host::ensure(&host::BUILD.iter().chain(&NEEDS).collect::<Vec<_>>())?;
    let progress = Progress::start();
    let build = Build::here()?;
    let tools = Tools::ensure(&progress)?;
    match wish {
        Wish::Help => Ok(0),
        Wish::Check => check(&build, &tools, &progress),
        Wish::Make { out } => make(&build, &tools, out, &progress).map(|()| 0),
    }
}

fn check(build: &Build, tools: &Tools, progress: &Progress) -> Result<u8> {
    let lines = reproduce::differences(build, tools, progress)?;
    for line in &lines {
        println!("{line}");
    }
    match lines.is_empty() {
        true => progress.say("tarball, .deb and .rpm are the same from both directories"),
        false => progress.say(format!("they differ; both builds are in {}", reproduce::left_in(build).display())),
    }
    Ok(u8::from(!lines.is_empty()))
}

fn make(build: &Build, tools: &Tools, out: Option<PathBuf>, progress: &Progress) -> Result<()> {
    let out = out.unwrap_or_else(|| build.target.join("dist/out"));
    fs::create_dir_all(&out).with_context(|| format!("create {}", out.display()))?;
    let out = out.canonicalize().with_context(|| format!("resolve {}", out.display()))?;
    if !uncommitted(build)?.is_empty() {
        progress.say("the tree has changes that no commit has: the packages will name a commit that they are not of");
    }
    progress.say("write manual pages and completions");
    let paperwork = build.paperwork()?;
    progress.say("build the dynamic program");
    let (dynamic, _) = tarball(build, Link::Dynamic, &paperwork, &out)?;
    progress.say("build the static program");
    let (fixed, files) = tarball(build, Link::Static, &paperwork, &out)?;
    progress.say("pack and look at the packages");
    let deb = tools.deb(build, &out)?;
    let rpm = tools.rpm(build, &out)?;
    let scratch = build.target.join("dist/scratch");
    packages::check_deb(&deb, &files, &scratch.join("deb"))?;
    packages::check_rpm(&rpm, &files, &scratch.join("rpm"))?;
    remove(&scratch)?;
    if !rustix::process::geteuid().is_root() {
        progress.say("only root can install into a scratch directory: the packages were read, not installed");
    }
    let names: Vec<String> =
        [&dynamic, &fixed, &deb, &rpm].into_iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
    let sums = capture(Command::new("sha256sum").args(&names).current_dir(&out))?;
    fs::write(out.join("SHA256SUMS"), &sums).context("write SHA256SUMS")?;
    for name in &names {
        let length = fs::metadata(out.join(name)).with_context(|| format!("look at {name}"))?.len();
        println!("{} {length}", out.join(name).display());
    }
    progress.say("done");
    Ok(())
}

/// Builds the program, stages what a package has, and packs it: the tarball, and the staged files, which the packages are made of next.
fn tarball(build: &Build, link: Link, paperwork: &Path, out: &Path) -> Result<(PathBuf, Vec<Staged>)> {
    let program = build.program(link)?;
    let files = layout::stage(build, &program, paperwork, &build.release_dir(link)?.join("package"))?;
    let name = format!("pinnace-{}-{}-linux-{}", build.version, std::env::consts::ARCH, link.name());
    let path = out.join(format!("{name}.tar.gz"));
    archive::write(&files, &name, build.epoch, &path)?;
    Ok((path, files))
}

/// What git calls changed; nothing where there is no git.
fn uncommitted(build: &Build) -> Result<String> {
    if !build.source.join(".git").exists() {
        return Ok(String::new());
    }
    capture(Command::new("git").args(["status", "--porcelain"]).current_dir(&build.source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood_or_refused() {
        let parsed = |line: &str| parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parsed("").expect("fine"), Wish::Make { out: None });
        assert_eq!(parsed("--out /x").expect("fine"), Wish::Make { out: Some("/x".into()) });
        assert_eq!(parsed("--check").expect("fine"), Wish::Check);
        assert_eq!(parsed("--out /x --help").expect("fine"), Wish::Help);
        for line in ["--out", "--check --out /x", "--out /x --check", "--out /x --out /y", "deb"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
