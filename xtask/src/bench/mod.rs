//! `cargo xtask bench`: pinnace beside the other runtimes of the machine and beside `floor`, which does the kernel's part of a start alone.
//!
//! Here: the options, the programs, the private view everything runs in. Not here: what is measured (`scenario`), the bundles (`bundle`), the
//! tables (`report`). A round runs every program once, so that what else the machine does meets all of them; what counts are medians of the
//! ratios of a round.

pub mod bundle;
mod report;
mod scenario;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{binaries, host};

/// The word behind which the part in the private view begins.
pub const INNER: &str = "bench-in-view";

const USAGE: &str = "\
usage: cargo xtask bench [--rounds N] [--peer PATH]... [--only WORD] [--json FILE] [--svg FILE] [--bin PATH]
                         [--tell FILE]

  --rounds N    rounds of a scenario (40)
  --peer PATH   one more runtime to compare with, beside crun, runc and youki in $PATH
  --only WORD   scenarios whose name contains it
  --json FILE   writes all figures
  --svg FILE    writes a chart
  --bin PATH    a pinnace that is built already
  --tell FILE   tests/wasm/tell.rs, compiled: adds a scenario for a pinnace with the handler wasmtime
";

/// What the command line says.
pub struct Options {
    rounds: usize,
    only: String,
    json: Option<PathBuf>,
    svg: Option<PathBuf>,
    /// Name and program; pinnace first.
    runtimes: Vec<(String, PathBuf)>,
    floor: PathBuf,
    probe: PathBuf,
    tell: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &[String]) -> Result<u8> {
    let mut inner: Vec<String> = vec!["--rounds".into(), "40".into()];
    let (mut peers, mut own) = (Vec::new(), None);
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value\n{USAGE}"));
        match word.as_str() {
            "--peer" => peers.push(PathBuf::from(value()?)),
            "--bin" => own = Some(PathBuf::from(value()?)),
            "--rounds" | "--only" | "--json" | "--svg" | "--tell" => inner.extend([word.clone(), value()?.clone()]),
            _ => bail!("unknown option {word}\n{USAGE}"),
        }
    }
    peers.extend(["crun", "runc", "youki"].iter().filter_map(|name| host::program(name)));
    let own = match own {
        Some(own) => own,
        None => {
            host::ensure(&host::BUILD.iter().collect::<Vec<_>>())?;
            binaries::pinnace_as_released()?
        }
    };
    let (floor, probe, in_view) = (binaries::floor()?, binaries::probe()?, binaries::in_view()?);
    for (option, path) in [("--pinnace", &own), ("--floor", &floor), ("--probe", &probe)] {
        inner.extend([option.into(), path.display().to_string()]);
    }
    inner.extend(peers.iter().flat_map(|peer| ["--peer".into(), peer.display().to_string()]));
    let status = Command::new(in_view).args(["v2", "--"]).arg(std::env::current_exe()?).arg(INNER).args(inner).status()?;
    Ok(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
}

/// The part in the private view: a pure cgroup v2 layout and a tmpfs for the state.
pub fn run_in_view(args: &[String]) -> Result<u8> {
    let mut o = Options {
        rounds: 40,
        only: String::new(),
        json: None,
        svg: None,
        runtimes: Vec::new(),
        floor: PathBuf::new(),
        probe: PathBuf::new(),
        tell: None,
    };
    for pair in args.chunks_exact(2) {
        let path = || PathBuf::from(&pair[1]);
        match pair[0].as_str() {
            "--rounds" => o.rounds = pair[1].parse().context("--rounds")?,
            "--only" => o.only.clone_from(&pair[1]),
            "--json" => o.json = Some(path()),
            "--svg" => o.svg = Some(path()),
            "--tell" => o.tell = Some(path()),
            "--pinnace" => o.runtimes.insert(0, ("pinnace".into(), path())),
            "--floor" => o.floor = path(),
            "--probe" => o.probe = path(),
            _ => o.runtimes.push((report::version(&path()), path())),
        }
    }
    let dir = PathBuf::from("/run/pinnace-bench");
    std::fs::create_dir(&dir).context("make the bench's directory")?;
    let results = scenario::all(&o, &dir);
    let results = results.and_then(|results| report::write(&o, &results).map(|()| results));
    std::fs::remove_dir_all(&dir).context("remove the bench's directory")?;
    // A runtime that failed may have left its cgroup.
    for entry in std::fs::read_dir("/sys/fs/cgroup")?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("pinnace-bench") {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
    results.map(|_| 0)
}
