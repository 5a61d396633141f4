//! `cargo xtask fuzz`: builds the fuzz targets of `fuzz/` with the ordinary toolchain and runs them, each from the examples.
//!
//! The targets have cargo-fuzz's layout and work with it, too. It wants a nightly compiler for the address sanitizer; here the
//! code is Rust without `unsafe`, so libFuzzer with coverage alone finds what there is: panics, broken promises, endless loops.
//! Not here: what a target demands (`fuzz/fuzz_targets`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::host;
use crate::store::{self, target, workspace};

const USAGE: &str = "\
usage: cargo xtask fuzz [--minutes N] [TARGET]...

  --minutes N    how long each target runs, 1 if not given
  TARGET         only these, such as config; all if none is named

What is found is left in fuzz/artifacts/TARGET; the corpus grows in fuzz/corpus/TARGET.
";

/// What cargo-fuzz passes, apart from the sanitizer: coverage by counters, and the operands of comparisons.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Examples that a target starts from, files or directories of the workspace; beside them, `fuzz/seeds/TARGET`.
const EXAMPLES: [(&str, &[&str]); 3] = [
    ("config", &["tests/data/examples/config/good", "tests/data/examples/config/bad"]),
    ("seccomp", &["tests/data/seccomp-engine.json", "crates/seccomp/tests/data"]),
    ("plan", &["tests/data/examples/config/good"]),
];

/// Entry of `cargo xtask fuzz`.
pub fn run(args: &[String]) -> Result<u8> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{USAGE}");
        return Ok(0);
    }
    let (seconds, wanted) = parse(args)?;
    let all = targets()?;
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("there is no target {unknown}, but {}", all.join(", "));
    }
    let chosen = if wanted.is_empty() { all } else { wanted };
    host::ensure(&host::BUILD.iter().collect::<Vec<_>>())?;
    let programs = build()?;
    let mut failed = Vec::new();
    for target in &chosen {
        println!("fuzz {target} for {seconds} s");
        if !one(&programs.join(target), target, seconds)? {
            failed.push(target.as_str());
        }
    }
    match failed.as_slice() {
        [] => println!("{} targets, {seconds} s each, nothing found", chosen.len()),
        some => println!("found something: {} (see fuzz/artifacts)", some.join(", ")),
    }
    Ok(u8::from(!failed.is_empty()))
}

/// Seconds for each target, and the targets that are named.
fn parse(args: &[String]) -> Result<(u64, Vec<String>)> {
    let (mut minutes, mut wanted) = (1.0, Vec::new());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--minutes" => {
                let value = rest.next().with_context(|| format!("{arg} needs a value\n{USAGE}"))?;
                minutes = value.parse::<f64>().ok().filter(|m| (0.01..=10_000.0).contains(m)).with_context(|| format!("{arg} {value}"))?;
            }
            word if word.starts_with('-') => bail!("unknown option {word}\n{USAGE}"),
            word => wanted.push(word.to_owned()),
        }
    }
    Ok(((minutes * 60.0).ceil() as u64, wanted))
}

/// The targets, by their files' names.
fn targets() -> Result<Vec<String>> {
    let dir = workspace().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Builds all targets and says where they are: a directory of their own, since everything is built with other flags.
fn build() -> Result<PathBuf> {
    let to = target().join("fuzz");
    let triple = host::triple()?;
    let mut cargo = Command::new(store::cargo());
    cargo.args(["build", "--release", "--locked", "--bins", "--target", triple, "--target-dir"]).arg(&to);
    // A target must be named, or these flags would reach procedural macros, too.
    cargo.current_dir(workspace().join("fuzz")).env("RUSTFLAGS", FLAGS).env_remove("CARGO_ENCODED_RUSTFLAGS");
    let status = cargo.status().context("start cargo")?;
    if !status.success() {
        bail!("cargo build ended with {status}");
    }
    Ok(to.join(triple).join("release"))
}

/// Runs one target; whether it found nothing.
fn one(program: &Path, target: &str, seconds: u64) -> Result<bool> {
    let fuzz = workspace().join("fuzz");
    let made = |kind: &str| -> Result<PathBuf> {
        let dir = fuzz.join(kind).join(target);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(dir)
    };
    let (corpus, artifacts) = (made("corpus")?, made("artifacts")?);
    seed(target, &corpus)?;
    let mut command = Command::new(program);
    command.arg(&corpus);
    let seeds = fuzz.join("seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", artifacts.display()));
    // One process, so that the machine's other cores stay free; a slow input is one that takes ten seconds.
    command.args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=16384", "-print_final_stats=1", "-verbosity=0"]);
    let dictionary = fuzz.join("dictionaries").join(format!("{target}.txt"));
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    let path = artifacts.join("log");
    let log = fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let status = command.stdin(Stdio::null()).stderr(log).status().with_context(|| format!("start {}", program.display()))?;
    let text = fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let worth =
        |line: &&str| line.contains("number_of_executed_units") || line.contains("panicked at") || line.contains("ERROR: libFuzzer");
    text.lines().filter(worth).for_each(|line| println!("  {line}"));
    Ok(status.success())
}

/// Copies the examples into the corpus, under names that tell where they are from.
fn seed(target: &str, corpus: &Path) -> Result<()> {
    let listed = EXAMPLES.iter().find(|(name, _)| *name == target).map_or(&[][..], |(_, paths)| paths);
    for path in listed {
        let from = workspace().join(path);
        let files: Vec<PathBuf> = if from.is_dir() {
            fs::read_dir(&from).with_context(|| format!("read {}", from.display()))?.flatten().map(|entry| entry.path()).collect()
        } else {
            vec![from]
        };
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "json")) {
            let name = file.strip_prefix(workspace()).unwrap_or(file).to_string_lossy().replace('/', "-");
            fs::copy(file, corpus.join(name)).with_context(|| format!("copy {}", file.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_and_targets() {
        let parse = |line: &str| parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("").unwrap(), (60, vec![]));
        assert_eq!(parse("--minutes 10 config ids").unwrap(), (600, vec!["config".to_owned(), "ids".to_owned()]));
        assert_eq!(parse("ids --minutes 0.1").unwrap().0, 6);
        for bad in ["--minutes", "--minutes x", "--minutes 0", "--hours 1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_target_is_a_program_of_the_manifest_and_every_example_is_there() {
        let manifest = fs::read_to_string(workspace().join("fuzz/Cargo.toml")).unwrap();
        let targets = targets().unwrap();
        assert!(targets.len() >= 11, "{targets:?}");
        for target in &targets {
            assert!(manifest.contains(&format!("name = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"")), "{target}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), targets.len());
        for (target, paths) in EXAMPLES {
            assert!(targets.iter().any(|name| name == target), "{target}");
            assert!(paths.iter().all(|path| workspace().join(path).exists()), "{target}: {paths:?}");
        }
    }
}
