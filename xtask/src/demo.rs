//! `cargo xtask demo`: from a fresh checkout to a running container, with what a curious person wants to see of it.
//!
//! Here: the bundle, the tour and the clock. Not here: installing packages (`host.rs`), building (`binaries.rs`).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::binaries;
use crate::host::{self, Need, Sign};
use crate::store::{Progress, Scratch, Store};

const USAGE: &str = "usage: cargo xtask demo\n";
const SHELL: Need = Need::new(Sign::Static("busybox"), "the container's shell and tools", "busybox-static", "busybox");
/// The programs that busybox plays in the container.
const APPLETS: [&str; 12] = ["sh", "ps", "hostname", "id", "cat", "mount", "grep", "head", "sort", "ls", "wc", "echo"];
/// Starts for the median.
const STARTS: usize = 31;

const MEMORY: u64 = 64 << 20;
const PROCESSES: i64 = 32;
/// Half a CPU, in microseconds of each period.
const QUOTA: i64 = 50_000;
const PERIOD: u64 = 100_000;

/// Entry of `cargo xtask demo`.
pub fn run(args: &[String]) -> Result<u8> {
    if let Some(word) = args.first() {
        if word == "--help" || word == "-h" {
            print!("{USAGE}");
            return Ok(0);
        }
        bail!("unknown word {word}\n{USAGE}");
    }
    let needs: Vec<&Need> = host::BUILD.iter().chain([&SHELL]).collect();
    let progress = Progress::start();
    progress.say("look for what the build needs");
    match host::ensure(&needs)? {
        installed if installed.is_empty() => progress.say("everything is there"),
        installed => progress.say(format!("installed {}", installed.join(" "))),
    }
    progress.say("build pinnace (release, static) and a program that tells the time");
    let pinnace = binaries::pinnace()?;
    let clock = binaries::probe()?;
    let demo = Demo::prepare(pinnace, &clock)?;
    progress.say("run a container");
    demo.tour()?;
    demo.time()?;
    println!("\nThe program is {}; try `{} --help`.", demo.pinnace.display(), demo.pinnace.display());
    Ok(0)
}

/// A bundle and the runtime for it.
struct Demo {
    pinnace: PathBuf,
    scratch: Scratch,
    root: bool,
}

impl Demo {
    fn prepare(pinnace: PathBuf, clock: &Path) -> Result<Demo> {
        let scratch = Store::open()?.scratch()?;
        let rootfs = scratch.join("bundle/rootfs");
        for dir in ["bin", "etc", "proc", "dev", "sys", "tmp"] {
            fs::create_dir_all(rootfs.join(dir)).with_context(|| format!("create {dir}"))?;
        }
        let shell = host::static_program("busybox").context("find a static busybox")?;
        for (program, place) in [(shell.as_path(), "bin/busybox"), (clock, "bin/clock")] {
            fs::copy(program, rootfs.join(place)).with_context(|| format!("copy {}", program.display()))?;
            fs::set_permissions(rootfs.join(place), fs::Permissions::from_mode(0o755)).context("make it executable")?;
        }
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet)).with_context(|| format!("link {applet}"))?;
        }
        fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").context("write etc/passwd")?;
        Ok(Demo { pinnace, scratch, root: rustix::process::geteuid().is_root() })
    }

    /// What `pinnace spec` writes, with other arguments and limits.
    fn configure(&self, args: &[&str], limits: &Value) -> Result<()> {
        let bundle = self.scratch.join("bundle");
        let file = bundle.join("config.json");
        if file.exists() {
            fs::remove_file(&file).context("remove config.json")?;
        }
        let mut spec = self.pinnace();
        spec.arg("spec").args((!self.root).then_some("--rootless")).current_dir(&bundle);
        succeed(&mut spec)?;
        let text = fs::read(&file).context("read config.json")?;
        let mut config: Value = serde_json::from_slice(&text).context("parse config.json")?;
        config["process"]["args"] = json!(args);
        config["process"]["terminal"] = json!(false);
        config["hostname"] = json!("pinnace-demo");
        for (name, limit) in limits.as_object().into_iter().flatten() {
            config["linux"]["resources"][name] = limit.clone();
        }
        fs::write(&file, serde_json::to_vec_pretty(&config)?).context("write config.json")
    }

    fn pinnace(&self) -> Command {
        let mut command = Command::new(&self.pinnace);
        command.arg("--root").arg(self.scratch.join("state")).stdin(Stdio::null());
        command
    }

    fn run(&self) -> Command {
        let mut command = self.pinnace();
        command.arg("run").arg("--bundle").arg(self.scratch.join("bundle")).arg(format!("demo-{}", std::process::id()));
        command
    }

    fn tour(&self) -> Result<()> {
        let (limits, shown) = if self.root { limits() } else { (json!({}), Vec::new()) };
        let mut script = String::from(
            "echo \"Inside, this shell is process $$ of $(hostname):\"; ps; echo; id; echo; \
             echo \"$(mount | wc -l) mounts:\"; mount | head -40; echo; echo 'Capabilities:'; grep Cap /proc/self/status; echo",
        );
        for (name, file, wanted) in &shown {
            script += &format!("; echo \"{name}: asked for {wanted}, in force: $(cat {file})\"");
        }
        if shown.is_empty() {
            script += match self.root {
                true => "; echo 'No limits: this machine has no controller for memory, CPU or processes mounted.'",
                false => "; echo 'No limits: they need root, or a cgroup that was delegated to you.'",
            };
        }
        fs::write(self.scratch.join("bundle/rootfs/bin/tour"), script).context("write the tour")?;
        self.configure(&["sh", "/bin/tour"], &limits)?;
        println!("\n$ pinnace run --bundle {} demo\n", self.scratch.join("bundle").display());
        succeed(&mut self.run())
    }

    /// From just before the runtime's program is started to the main function of the container's, and the same without a container in
    /// between: what starting any static program costs here.
    fn time(&self) -> Result<()> {
        self.configure(&["/bin/clock", "now"], &json!({}))?;
        let clock = self.scratch.join("bundle/rootfs/bin/clock");
        let (mut contained, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..STARTS {
            bare.push(until_told(Command::new(&clock).arg("now"))?);
            contained.push(until_told(&mut self.run())?);
        }
        println!("\nFrom the exec of pinnace to the first instructions of the container's program, {STARTS} starts:");
        for (what, times) in [("in a container", &mut contained), ("without one, the same program", &mut bare)] {
            times.sort_unstable();
            let [fastest, median, slowest] = [0, STARTS / 2, STARTS - 1].map(|n| times[n] as f64 / 1e6);
            println!("  {what:30} {median:6.2} ms in the median, {fastest:.2} at best, {slowest:.2} at worst");
        }
        Ok(())
    }
}

/// Nanoseconds until a program that tells the time first looked at the clock.
fn until_told(command: &mut Command) -> Result<u64> {
    let before = now();
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("start {}", command.get_program().display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let told: u64 = text.trim().parse().with_context(|| format!("{} said {text:?}", command.get_program().display()))?;
    Ok(told.saturating_sub(before))
}

/// CLOCK_MONOTONIC in nanoseconds, the same clock inside and outside.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Runs a command that prints for itself.
fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{:?} ended with {status}", command.get_args().collect::<Vec<_>>());
    }
    Ok(())
}

/// What is asked for, the file that shows it in the container, the value there.
type Shown = (&'static str, String, String);

/// Limits for the controllers that this machine has, where it has them.
fn limits() -> (Value, Vec<Shown>) {
    let (mut asked, mut shown) = (json!({}), Vec::new());
    let available = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let v2 = |name: &str| available.split_whitespace().any(|c| c == name);
    let v1 = |name: &str| Path::new("/sys/fs/cgroup").join(name).join("tasks").exists();
    let cpu = format!("{QUOTA} of {PERIOD} µs");
    for (name, field, limit, new, old, value) in [
        ("memory", "memory", json!({ "limit": MEMORY }), "/sys/fs/cgroup/memory.max", "memory/memory.limit_in_bytes", MEMORY.to_string()),
        ("cpu", "cpu", json!({ "quota": QUOTA, "period": PERIOD }), "/sys/fs/cgroup/cpu.max", "cpu/cpu.cfs_quota_us", cpu),
        ("pids", "pids", json!({ "limit": PROCESSES }), "/sys/fs/cgroup/pids.max", "pids/pids.max", PROCESSES.to_string()),
    ] {
        let file = match (v2(name), v1(name)) {
            (true, _) => new.to_owned(),
            (_, true) => format!("/sys/fs/cgroup/{old}"),
            _ => continue,
        };
        asked[field] = limit;
        shown.push((name, file, value));
    }
    (asked, shown)
}
