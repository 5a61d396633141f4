//! `cargo xtask vm test` and `vm engines`: the integration suite, and the tests of engines, in the test machines, as root and as an
//! unprivileged user, with pinnace and with the image's crun.
//!
//! The fast lane runs everything; the full lane runs what the fast lane had to skip because it lacks something (a
//! controller, CRIU), or everything too. Each lane is booted once. What only holds without CAP_SYS_RESOURCE is run as a root
//! without it. Not here: how the programs are built (`binaries.rs`), what is made of their output (`tally.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use vm_agent::Request;

use super::image::USER;
use super::kernel::Which as Kernel;
use super::machine::{Ending, Ground, Lane, Machine, Share};
use super::tally::{self, Outcome, Reader, Role, Tally};
use crate::binaries;
use crate::contain::Interrupted;
use crate::store::{Progress, Scratch, Store, execute, target, workspace};

const USAGE: &str = "usage: cargo xtask vm test|engines [--all] [--lane fast|full] [--kernel stable|backports] [--user root|tester]...\n\
                     \x20                                  [--runtime pinnace|crun]... [FILTER]...";
/// Where the programs are in the guest: shared, and copied to memory, because a shared file is slow to execute.
const SHARED: &str = "/mnt/suite";
const STAGE: &str = "/run/suite";
/// The guest's own root file system without what is mounted in it: a Debian to run as a container.
const DEBIAN: &str = "/run/debian";
/// The build whose child must not allocate. Under a name that begins with `pinnace-` the rest would be a handler's.
const TRAP: &str = "trap-pinnace";
/// The runtime that the image has.
const CRUN: &str = "/usr/bin/crun";
/// Root without the capability to raise limits.
const CONFINED: &str = "confined";
/// The package whose own tests need real cgroups, and its test program.
const CGROUPS: (&str, &str) = ("pinnace-cgroup-fs", "cgroup-fs/real");
/// What tests of engines use where it has been made: by what variable they know it, where it is below cargo's directory, its name on the stage.
const EXTRAS: [(&str, &str, &str); 2] =
    [("PINNACE_HANDLERS", "handlers/pinnace-handlers", "pinnace-handlers"), ("PINNACE_DEB", "dist/out/*.deb", "pinnace.deb")];
/// How thorough the suite is: how long its races last, seconds; at every how manieth system call its faults strike.
const THOROUGH: [&str; 2] = ["PINNACE_RACE_SECONDS", "PINNACE_FAULT_STEP"];
/// One run of a program of tests may take so long.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Which tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The integration suite, and the tests of the cgroup crate.
    Integration,
    /// Those of engines.
    Engines,
}

/// What to run.
struct Options {
    /// `None`: the fast lane, then on the full one what the fast one lacks.
    lane: Option<Lane>,
    /// Everything in both lanes.
    all: bool,
    which: Kernel,
    users: Vec<String>,
    runtimes: Vec<String>,
    filters: Vec<String>,
}

/// A test program as it lies on the stage.
struct Program {
    /// What its tests are called by: empty for the integration suite, whose tests are known by their names alone.
    prefix: String,
    file: String,
    path: PathBuf,
    /// Whether it calls a runtime, and so is run with each.
    calls: bool,
}

/// Entry of `cargo xtask vm test` and `vm engines`.
pub fn run(which: Which, args: &[String]) -> Result<u8> {
    let options = parse(args)?;
    let progress = Progress::start();
    let store = Store::open()?;
    progress.say("build the suite");
    let stage = store.scratch()?;
    let programs = fill_stage(&stage, which, &options.runtimes)?;
    let mut session = Session { store: &store, progress: &progress, stage: &stage, programs: &programs, results: Vec::new() };
    match options.lane {
        Some(lane) => session.lane(lane, &options, None)?,
        None => {
            session.lane(Lane::Fast, &options, None)?;
            let rest = session.lacking();
            if options.all || rest.values().any(|names| !names.is_empty()) {
                session.lane(Lane::Full(options.which), &options, (!options.all).then_some(&rest))?;
            }
        }
    }
    let good = tally::report(&session.results);
    let complete = which == Which::Integration
        && options.lane.is_none()
        && options.filters.is_empty()
        && options.users.len() == 2
        && options.runtimes.contains(&"pinnace".to_owned());
    let covered = !complete || tally::cover_host(&session.results, &host_skips()?);
    Ok(u8::from(!good || !covered))
}

/// The tests that `cargo xtask test` could run nowhere on this machine, with its reasons; nothing if it has not run.
fn host_skips() -> Result<BTreeMap<String, String>> {
    let target = target();
    let read = |file: &str| -> Result<Option<BTreeMap<String, String>>> {
        let file = target.join("test-logs").join(file);
        if !file.with_extension("log").exists() {
            return Ok(None);
        }
        // Nothing was skipped if nothing was written.
        let text =
            if file.exists() { fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))? } else { String::new() };
        Ok(Some(text.lines().filter_map(|line| line.split_once('\t')).map(|(name, why)| (name.to_owned(), why.to_owned())).collect()))
    };
    let mut skips = read("integration-host.skips")?.unwrap_or_default();
    if let Some(view) = read("integration-v2.skips")? {
        skips.retain(|name, _| view.contains_key(name));
    }
    let cgroups = read("cgroup-fs-real.skips")?.unwrap_or_default();
    skips.extend(cgroups.into_iter().map(|(name, why)| (format!("{}: {name}", CGROUPS.1), why)));
    Ok(skips)
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options =
        Options { lane: None, all: false, which: Kernel::Stable, users: Vec::new(), runtimes: Vec::new(), filters: Vec::new() };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().map(String::as_str).with_context(|| format!("{arg} needs a value\n{USAGE}"));
        match arg.as_str() {
            "--all" => options.all = true,
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

/// Builds what the machines need and lays it on the stage.
fn fill_stage(stage: &Scratch, which: Which, runtimes: &[String]) -> Result<Vec<Program>> {
    let suite = binaries::suite(false)?;
    let program = |file: &str, path: PathBuf| Program { prefix: String::new(), file: file.into(), path, calls: true };
    let mut programs = vec![match which {
        Which::Integration => program("integration", suite.integration),
        Which::Engines => program("engines", suite.engines),
    }];
    if which == Which::Integration {
        let own = binaries::unit_tests(&[CGROUPS.0.to_owned()])?.into_iter().find(|program| program.name == CGROUPS.1);
        let own = own.with_context(|| format!("cargo built no {}", CGROUPS.1))?;
        programs.push(Program { prefix: format!("{}: ", own.name), file: own.name.replace('/', "-"), path: own.path, calls: false });
    }
    let mut files: Vec<(&str, &Path)> = programs.iter().map(|program| (program.file.as_str(), program.path.as_path())).collect();
    files.extend([("probe", suite.probe.as_path()), ("in-view", suite.in_view.as_path())]);
    let extras = if which == Which::Engines { extras()? } else { Vec::new() };
    files.extend(extras.iter().map(|(name, path)| (*name, path.as_path())));
    let wanted = runtimes.iter().any(|name| name == "pinnace");
    let built = if wanted { Some((binaries::pinnace()?, binaries::trap()?)) } else { None };
    if let Some((pinnace, trap)) = &built {
        files.extend([("pinnace", pinnace.as_path()), (TRAP, trap.as_path())]);
    }
    for (name, path) in files {
        let place = stage.join(name);
        fs::copy(path, &place).with_context(|| format!("copy {}", path.display()))?;
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
        if path.extension().is_none_or(|extension| extension != "deb") {
            execute(Command::new("strip").arg(&place)).with_context(|| format!("strip {name}"))?;
        }
    }
    Ok(programs)
}

/// Those of [`EXTRAS`] that have been made: the name on the stage, the file.
fn extras() -> Result<Vec<(&'static str, PathBuf)>> {
    let mut found = Vec::new();
    for (_, place, name) in EXTRAS {
        let path = target().join(place);
        match place.strip_suffix("/*.deb") {
            None if path.is_file() => found.push((name, path)),
            Some(directory) if target().join(directory).is_dir() => {
                let entries = fs::read_dir(target().join(directory)).with_context(|| format!("list {directory}"))?;
                let packages =
                    entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|extension| extension == "deb"));
                found.extend(packages.max().map(|package| (name, package)));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The tests that a role could not run for lack of something, by their full names.
type Lacking = BTreeMap<Role, BTreeSet<String>>;

struct Session<'a> {
    store: &'a Store,
    progress: &'a Progress,
    stage: &'a Scratch,
    programs: &'a [Program],
    results: Vec<Outcome>,
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
                let role = Role { user: user.clone(), runtime: runtime.clone() };
                let names = only.map(|only| only.get(&role).cloned().unwrap_or_default());
                self.turn(&mut machine, &ground, &place, role, names.as_ref(), &options.filters)?;
                let confined = self.results.last().map(Outcome::wants_confinement).unwrap_or_default();
                if user == "root" && !confined.is_empty() {
                    let role = Role { user: CONFINED.to_owned(), runtime: runtime.clone() };
                    self.turn(&mut machine, &ground, &place, role, Some(&confined), &[])?;
                }
            }
        }
        Ok(())
    }

    /// One role in one lane. The machine stays for the next one, unless it is lost.
    fn turn(
        &mut self,
        machine: &mut Option<Machine>,
        ground: &Ground,
        place: &str,
        role: Role,
        names: Option<&BTreeSet<String>>,
        filters: &[String],
    ) -> Result<()> {
        if names.is_some_and(BTreeSet::is_empty) {
            return Ok(());
        }
        let mut ready = match machine.take() {
            Some(machine) => machine,
            None => self.boot(ground, place)?,
        };
        self.progress.say(format!("{place}: {role}"));
        let first = !self.results.iter().any(|outcome| outcome.place == place && outcome.role.user == role.user);
        let (outcome, kept) = self.role(&mut ready, place, role, first, names, filters)?;
        self.progress.say(format!("{place}: {}: {}", outcome.role, outcome.summary()));
        self.results.push(outcome);
        *machine = kept.then_some(ready);
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
        let script = format!("set -e; cp -r {SHARED} {STAGE}; mkdir {DEBIAN}; mount --bind / {DEBIAN}");
        let (ending, said) = machine.ask(&shell(&script, ""), Duration::from_secs(120))?;
        if ending != Ending::Exit(0) {
            bail!("preparing the machine for the suite failed: {said}");
        }
        Ok(machine)
    }

    /// Runs the suite for one role; says too whether the machine can go on. `first` is whether this user has run nothing here yet.
    fn role(
        &self,
        machine: &mut Machine,
        place: &str,
        role: Role,
        first: bool,
        names: Option<&BTreeSet<String>>,
        filters: &[String],
    ) -> Result<(Outcome, bool)> {
        let start = Instant::now();
        let log = self.log(place, &role)?;
        let mut outcome = Outcome { place: place.to_owned(), role, tally: Tally::default(), seconds: 0.0, broken: None };
        for program in self.programs.iter().filter(|program| program.calls || first) {
            let chosen = names.map(|names| chosen(names, program, self.programs));
            if chosen.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
            let skips = format!("/tmp/pinnace-skips-{}", outcome.role.user);
            let mut request = request(program, &outcome.role, &skips, chosen.as_deref(), filters);
            if outcome.role.runtime == "pinnace" {
                let extras = EXTRAS.iter().filter(|(.., name)| self.stage.join(name).exists());
                request.environment.extend(extras.map(|(key, _, name)| ((*key).to_owned(), format!("{STAGE}/{name}"))));
            }
            let mut tally = Tally::default();
            let mut reader = Reader::new(&mut tally, &log);
            let ending = machine.run(&request, Some(LIMIT), &mut |stream, bytes| reader.take(stream, bytes));
            reader.finish()?;
            let told = ending.as_ref().ok().map(|_| machine.ask(&shell(&format!("cat {skips}; rm -f {skips}"), &request.user), LIMIT));
            match ending {
                // 101 is libtest's status for failed tests, which are counted.
                Ok(Ending::Exit(0 | 101)) if tally.complete => {}
                Ok(Ending::Exit(status)) => outcome.broken = Some(format!("{} ended with status {status}", program.file)),
                Ok(Ending::TimedOut) => outcome.broken = Some(format!("{} was ended after {} s", program.file, LIMIT.as_secs())),
                Err(error) if error.is::<Interrupted>() => return Err(error),
                Err(error) => outcome.broken = Some(format!("{error:#}")),
            }
            match told {
                Some(Ok((_, text))) => tally.skips(&text),
                Some(Err(error)) => outcome.broken = Some(format!("{error:#}")),
                None => {}
            }
            outcome.tally.add(&program.prefix, tally);
            // Who knows in what state the machine is: the next role gets a fresh one.
            if outcome.broken.is_some() {
                break;
            }
        }
        outcome.seconds = start.elapsed().as_secs_f64();
        let kept = outcome.broken.is_none();
        Ok((outcome, kept))
    }

    fn log(&self, place: &str, role: &Role) -> Result<File> {
        let lane = place.split(',').next().unwrap_or(place);
        let tests = self.programs.first().map_or("test", |program| &program.file);
        let path: PathBuf = self.store.dir("logs")?.join(format!("{tests}-{lane}-{}-{}.log", role.runtime, role.user));
        File::create(&path).with_context(|| format!("create {}", path.display()))
    }

    /// What each role could not run for lack of something that the other lane may have.
    fn lacking(&self) -> Lacking {
        let needs = |outcome: &Outcome| (outcome.role.clone(), outcome.wants_machine());
        self.results.iter().map(needs).collect()
    }
}

fn shell(script: &str, user: &str) -> Request {
    Request { argv: ["sh", "-c", script].map(str::to_owned).to_vec(), user: user.to_owned(), ..Request::default() }
}

/// The names that are this program's, as the program knows them.
fn chosen(names: &BTreeSet<String>, program: &Program, all: &[Program]) -> Vec<String> {
    let owner =
        |name: &str| all.iter().find(|other| !other.prefix.is_empty() && name.starts_with(&other.prefix)).map_or("", |other| &other.prefix);
    names.iter().filter(|name| owner(name) == program.prefix).map(|name| name[program.prefix.len()..].to_owned()).collect()
}

fn request(program: &Program, role: &Role, skips: &str, names: Option<&[String]>, filters: &[String]) -> Request {
    let mut argv = vec![format!("{STAGE}/{}", program.file), "--test-threads=2".to_owned()];
    match names {
        Some(names) => {
            argv.push("--exact".into());
            argv.extend_from_slice(names);
        }
        None => argv.extend_from_slice(filters),
    }
    if role.user == CONFINED {
        let before = ["capsh", "--drop=cap_sys_resource", "--", "-c", "exec \"$0\" \"$@\""];
        argv.splice(0..0, before.map(str::to_owned));
    }
    let binary = if role.runtime == "crun" { CRUN.to_owned() } else { format!("{STAGE}/{}", role.runtime) };
    let environment = [
        ("RUNTIME", binary),
        ("PINNACE_PROBE", format!("{STAGE}/probe")),
        ("PINNACE_IN_VIEW", format!("{STAGE}/in-view")),
        ("PINNACE_TRAP_BIN", format!("{STAGE}/{TRAP}")),
        ("PINNACE_DEBIAN_ROOT", DEBIAN.to_owned()),
        ("PINNACE_TEST_SKIPS", skips.to_owned()),
        // An emulated processor is up to twenty times slower.
        ("PINNACE_TEST_TIMEOUT", "120".to_owned()),
    ];
    let mut environment = environment.map(|(key, value)| (key.to_owned(), value)).to_vec();
    // That is the caller's to say.
    environment.extend(THOROUGH.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))));
    Request { argv, environment, user: if role.user == USER { role.user.clone() } else { String::new() }, ..Request::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_to_their_program() {
        let program = |prefix: &str| Program { prefix: prefix.into(), file: "x".into(), path: "/x".into(), calls: true };
        let all = [program(""), program("cgroup-fs/real: ")];
        let names = ["a::b", "cgroup-fs/real: c"].map(str::to_owned).into();
        assert_eq!(chosen(&names, &all[0], &all), ["a::b"]);
        assert_eq!(chosen(&names, &all[1], &all), ["c"]);
    }

    #[test]
    fn the_confined_root_is_root() {
        let program = Program { prefix: String::new(), file: "integration".into(), path: "/x".into(), calls: true };
        let role = Role { user: CONFINED.into(), runtime: "crun".into() };
        let request = request(&program, &role, "/tmp/s", Some(&["a".to_owned()]), &[]);
        assert!(request.user.is_empty());
        assert_eq!(request.argv[0], "capsh");
        assert_eq!(request.argv[5..], ["/run/suite/integration", "--test-threads=2", "--exact", "a"]);
    }
}
