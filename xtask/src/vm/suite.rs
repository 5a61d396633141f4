//! `cargo xtask vm test`: the integration suite in the test machines, as root and as an unprivileged user, with pinnace
//! and with the image's crun.
//!
//! The fast lane runs everything; the full lane runs what the fast lane had to skip because it lacks something (a
//! controller, CRIU). Each lane is booted once. A test that is skipped everywhere is named at the end with its reason.
//! Not here: how the programs are built (`binaries.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use vm_agent::Request;

use super::image::USER;
use super::kernel::Which;
use super::machine::{Ending, Ground, Lane, Machine, Share, Stream};
use crate::binaries::{self, Suite};
use crate::contain::Interrupted;
use crate::store::{Progress, Scratch, Store, execute, workspace};

const USAGE: &str = "usage: cargo xtask vm test [--lane fast|full] [--kernel stable|backports] [--user root|tester]...\n\
                     \x20                         [--runtime pinnace|crun]... [FILTER]...";
/// Where the programs are in the guest: shared, and copied to memory, because a shared file is slow to execute.
const SHARED: &str = "/mnt/suite";
const STAGE: &str = "/run/suite";
/// The runtime that the image has.
const CRUN: &str = "/usr/bin/crun";
/// One run of the suite may take so long.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// What to run.
struct Options {
    /// `None`: the fast lane, then the rest on the full one.
    lane: Option<Lane>,
    which: Which,
    users: Vec<String>,
    runtimes: Vec<String>,
    filters: Vec<String>,
}

/// Entry of `cargo xtask vm test`.
pub fn run(args: &[String]) -> Result<u8> {
    let options = parse(args)?;
    let progress = Progress::start();
    let store = Store::open()?;
    progress.say("build the suite");
    let suite = binaries::suite(false)?;
    let stage = store.scratch()?;
    fill_stage(&stage, &suite, &options.runtimes)?;
    let mut session = Session { store: &store, progress: &progress, stage: &stage, suite: &suite, results: Vec::new() };
    match options.lane {
        Some(lane) => session.lane(lane, &options, None)?,
        None => {
            session.lane(Lane::Fast, &options, None)?;
            let rest = session.lacking();
            if rest.values().any(|names| !names.is_empty()) {
                session.lane(Lane::Full(options.which), &options, Some(&rest))?;
            }
        }
    }
    Ok(u8::from(!report(&session.results)))
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options { lane: None, which: Which::Stable, users: Vec::new(), runtimes: Vec::new(), filters: Vec::new() };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().map(String::as_str).with_context(|| format!("{arg} needs a value\n{USAGE}"));
        match arg.as_str() {
            "--lane" => match value()? {
                "fast" => options.lane = Some(Lane::Fast),
                "full" => options.lane = Some(Lane::Full(options.which)),
                other => bail!("unknown lane {other}\n{USAGE}"),
            },
            "--kernel" => {
                options.which = super::kernel_named(value()?)?;
                options.lane = Some(Lane::Full(options.which));
            }
            "--user" => match value()? {
                user @ ("root" | USER) => options.users.push(user.to_owned()),
                other => bail!("no user {other} in the image\n{USAGE}"),
            },
            "--runtime" => match value()? {
                runtime @ ("pinnace" | "crun") => options.runtimes.push(runtime.to_owned()),
                other => bail!("unknown runtime {other}\n{USAGE}"),
            },
            word if word.starts_with('-') => bail!("unknown option {word}\n{USAGE}"),
            word => options.filters.push(word.to_owned()),
        }
    }
    for (list, all) in [(&mut options.users, ["root", USER]), (&mut options.runtimes, ["pinnace", "crun"])] {
        if list.is_empty() {
            list.extend(all.map(str::to_owned));
        }
    }
    Ok(options)
}

fn fill_stage(stage: &Scratch, suite: &Suite, runtimes: &[String]) -> Result<()> {
    let mut programs: Vec<(&str, &Path)> = suite.tests.iter().map(|(name, path)| (name.as_str(), path.as_path())).collect();
    programs.extend([("probe", suite.probe.as_path()), ("in-view", suite.in_view.as_path())]);
    let pinnace = if runtimes.iter().any(|name| name == "pinnace") { Some(binaries::pinnace()?) } else { None };
    programs.extend(pinnace.as_deref().map(|path| ("pinnace", path)));
    let trap = if pinnace.is_some() { Some(binaries::trap()?) } else { None };
    programs.extend(trap.as_deref().map(|path| ("pinnace-trap", path)));
    for (name, path) in programs {
        let place = stage.join(name);
        fs::copy(path, &place).with_context(|| format!("copy {}", path.display()))?;
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
        execute(Command::new("strip").arg(&place)).with_context(|| format!("strip {name}"))?;
    }
    Ok(())
}

/// Who runs the suite with which runtime.
type Role = (String, String);

/// The tests that a role could not run for lack of something.
type Lacking = BTreeMap<Role, BTreeSet<String>>;

struct Session<'a> {
    store: &'a Store,
    progress: &'a Progress,
    stage: &'a Scratch,
    suite: &'a Suite,
    results: Vec<Outcome>,
}

/// One run of the suite.
struct Outcome {
    place: String,
    role: Role,
    tally: Tally,
    seconds: f64,
    /// Why it did not come to its end.
    broken: Option<String>,
}

impl Session<'_> {
    /// All roles in one lane, in one boot unless the machine is lost.
    fn lane(&mut self, lane: Lane, options: &Options, only: Option<&Lacking>) -> Result<()> {
        let ground = Ground::build(self.store, lane, self.progress)?;
        let place = match lane {
            Lane::Fast => format!("fast, Linux {}", ground.kernel.release),
            Lane::Full(_) => format!("full, Linux {}", ground.kernel.release),
        };
        let mut machine = None;
        for runtime in &options.runtimes {
            for user in &options.users {
                let role = (user.clone(), runtime.clone());
                let names: Option<Vec<String>> = only.map(|only| only.get(&role).into_iter().flatten().cloned().collect());
                if names.as_ref().is_some_and(Vec::is_empty) {
                    continue;
                }
                let mut ready = match machine.take() {
                    Some(machine) => machine,
                    None => self.boot(&ground, &place)?,
                };
                self.progress.say(format!("{place}: {runtime} as {user}"));
                let (outcome, kept) = self.role(&mut ready, &place, role, names.as_deref(), &options.filters)?;
                self.progress.say(format!("{place}: {runtime} as {user}: {}", outcome.summary()));
                self.results.push(outcome);
                machine = kept.then_some(ready);
            }
        }
        Ok(())
    }

    fn boot(&self, ground: &Ground, place: &str) -> Result<Machine> {
        self.progress.say(format!("{place}: start"));
        let project = workspace().canonicalize().context("resolve the project's directory")?;
        let guest = project.to_string_lossy().into_owned();
        let shares = [
            Share { host: self.stage.path().to_path_buf(), guest: SHARED.into() },
            // Tests read data of the project by its path.
            Share { host: project, guest },
        ];
        let mut machine = Machine::boot(self.store, ground, &shares)?;
        let argv = ["cp", "-r", SHARED, STAGE].map(str::to_owned).to_vec();
        let mut said = Vec::new();
        let ending = machine.run(&Request { argv, ..Request::default() }, Some(Duration::from_secs(120)), &mut |_, bytes| {
            said.extend_from_slice(bytes);
            Ok(())
        })?;
        if ending != Ending::Exit(0) {
            bail!("copying the suite into the machine failed: {}", String::from_utf8_lossy(&said));
        }
        Ok(machine)
    }

    /// Runs the suite for one role; says too whether the machine can go on.
    fn role(
        &self,
        machine: &mut Machine,
        place: &str,
        role: Role,
        names: Option<&[String]>,
        filters: &[String],
    ) -> Result<(Outcome, bool)> {
        let start = Instant::now();
        let log = self.log(place, &role)?;
        let mut outcome = Outcome { place: place.to_owned(), role, tally: Tally::default(), seconds: 0.0, broken: None };
        let mut usable = true;
        for (test, _) in &self.suite.tests {
            let request = request(test, &outcome.role, names, filters);
            let mut reader = Reader { tally: &mut outcome.tally, log: &log, partial: BTreeMap::new() };
            let ending = machine.run(&request, Some(LIMIT), &mut |stream, bytes| reader.take(stream, bytes));
            reader.finish();
            match ending {
                // 101 is libtest's status for failed tests, which are counted.
                Ok(Ending::Exit(0 | 101)) if outcome.tally.complete => {}
                Ok(Ending::Exit(status)) => outcome.broken = Some(format!("{test} ended with status {status}")),
                Ok(Ending::TimedOut) => outcome.broken = Some(format!("{test} was ended after {} s", LIMIT.as_secs())),
                Err(error) if error.is::<Interrupted>() => return Err(error),
                Err(error) => {
                    outcome.broken = Some(format!("{error:#}"));
                    usable = false;
                }
            }
            outcome.tally.complete = false;
        }
        outcome.seconds = start.elapsed().as_secs_f64();
        Ok((outcome, usable))
    }

    fn log(&self, place: &str, (user, runtime): &Role) -> Result<File> {
        let lane = place.split(',').next().unwrap_or(place);
        let path: PathBuf = self.store.dir("logs")?.join(format!("test-{lane}-{runtime}-{user}.log"));
        File::create(&path).with_context(|| format!("create {}", path.display()))
    }

    fn lacking(&self) -> Lacking {
        let needs = |outcome: &Outcome| {
            let names = outcome.tally.skipped.iter().filter(|(_, reason)| reason.starts_with("needs ")).map(|(name, _)| name);
            (outcome.role.clone(), names.cloned().collect())
        };
        self.results.iter().map(needs).collect()
    }
}

fn request(test: &str, (user, runtime): &Role, names: Option<&[String]>, filters: &[String]) -> Request {
    let mut argv = vec![format!("{STAGE}/{test}"), "--test-threads=2".to_owned()];
    match names {
        Some(names) => {
            argv.push("--exact".into());
            argv.extend_from_slice(names);
        }
        None => argv.extend_from_slice(filters),
    }
    let binary = if runtime == "crun" { CRUN.to_owned() } else { format!("{STAGE}/{runtime}") };
    let environment = [
        ("RUNTIME", binary),
        ("PINNACE_PROBE", format!("{STAGE}/probe")),
        ("PINNACE_IN_VIEW", format!("{STAGE}/in-view")),
        ("PINNACE_TRAP_BIN", format!("{STAGE}/pinnace-trap")),
        // An emulated processor is up to twenty times slower.
        ("PINNACE_TEST_TIMEOUT", "120".to_owned()),
    ];
    Request {
        argv,
        environment: environment.map(|(key, value)| (key.to_owned(), value)).to_vec(),
        user: if user == "root" { String::new() } else { user.clone() },
        ..Request::default()
    }
}

/// What libtest and the harness said.
#[derive(Default)]
struct Tally {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    ignored: BTreeSet<String>,
    /// Test, reason: the harness says so and the test returns, which libtest takes for passed.
    skipped: BTreeMap<String, String>,
    /// libtest's last line was there.
    complete: bool,
}

impl Tally {
    fn line(&mut self, line: &str) {
        if let Some((name, reason)) = line.strip_prefix("SKIPPED ").and_then(|rest| rest.split_once(": ")) {
            self.skipped.insert(name.to_owned(), reason.to_owned());
        } else if line.starts_with("test result: ") {
            self.complete = true;
        } else if let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            let name = name.split(" - ").next().unwrap_or(name).to_owned();
            match result.split([' ', ',']).next() {
                Some("ok") => self.passed.insert(name),
                Some("ignored") => self.ignored.insert(name),
                _ => self.failed.insert(name),
            };
        }
    }

    fn passed(&self) -> usize {
        self.passed.iter().filter(|name| !self.skipped.contains_key(*name)).count()
    }
}

/// Splits output into lines, for the log and the tally.
struct Reader<'a> {
    tally: &'a mut Tally,
    log: &'a File,
    partial: BTreeMap<bool, Vec<u8>>,
}

impl Reader<'_> {
    fn take(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        self.log.write_all(bytes).context("write the log")?;
        let partial = self.partial.entry(stream == Stream::Error).or_default();
        for byte in bytes {
            if *byte == b'\n' {
                let line = String::from_utf8_lossy(partial).into_owned();
                partial.clear();
                self.tally.line(&line);
            } else {
                partial.push(*byte);
            }
        }
        Ok(())
    }

    fn finish(self) {
        for rest in self.partial.values() {
            self.tally.line(&String::from_utf8_lossy(rest));
        }
    }
}

impl Outcome {
    fn good(&self) -> bool {
        self.broken.is_none() && self.tally.failed.is_empty()
    }

    fn summary(&self) -> String {
        let tally = &self.tally;
        let (passed, failed, skipped) = (tally.passed(), tally.failed.len(), tally.skipped.len() + tally.ignored.len());
        format!("{passed} passed, {failed} failed, {skipped} skipped, {:.0} s", self.seconds)
    }
}

/// Prints the counts of each place, what failed and what ran nowhere. Whether all is well.
fn report(results: &[Outcome]) -> bool {
    println!("\n{:<34} {:<8} {:<8} {:>6} {:>6} {:>7} {:>6}", "place", "runtime", "user", "passed", "failed", "skipped", "s");
    for outcome in results {
        let (user, runtime) = &outcome.role;
        let tally = &outcome.tally;
        println!(
            "{:<34} {runtime:<8} {user:<8} {:>6} {:>6} {:>7} {:>6.0}",
            outcome.place,
            tally.passed(),
            tally.failed.len(),
            tally.skipped.len() + tally.ignored.len(),
            outcome.seconds
        );
    }
    for outcome in results {
        let (user, runtime) = &outcome.role;
        for name in &outcome.tally.failed {
            println!("failed: {name} ({}, {runtime} as {user})", outcome.place);
        }
        if let Some(broken) = &outcome.broken {
            println!("broken: {}, {runtime} as {user}: {broken}", outcome.place);
        }
    }
    let passed: BTreeSet<&String> =
        results.iter().flat_map(|outcome| outcome.tally.passed.iter().filter(|name| !outcome.tally.skipped.contains_key(*name))).collect();
    let skipped: BTreeMap<&String, &String> = results.iter().flat_map(|outcome| &outcome.tally.skipped).collect();
    for (name, reason) in skipped.iter().filter(|(name, _)| !passed.contains(*name)) {
        println!("not run in any machine: {name}: {reason}");
    }
    results.iter().all(Outcome::good) && !results.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_libtest_and_harness_are_counted() {
        let mut tally = Tally::default();
        for line in [
            "running 5 tests",
            "test a::x ... ok",
            "SKIPPED a::y: needs the cgroup controller cpuset (covered by x: y)",
            "test a::y ... ok",
            "test a::z ... FAILED",
            "test a::i ... ignored, why",
            "test a::p - should panic ... ok",
            "test result: FAILED. 3 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            tally.line(line);
        }
        assert_eq!((tally.passed(), tally.failed.len(), tally.skipped.len(), tally.ignored.len()), (2, 1, 1, 1));
        assert_eq!(tally.skipped["a::y"], "needs the cgroup controller cpuset (covered by x: y)");
        assert!(tally.complete);
    }
}
