//! `cargo xtask chroot -- CMD`: the test machines' root file system on this machine's kernel, at native speed.
//!
//! The command sees the image below a throw-away layer, an own `/proc`, `/sys`, `/dev`, `/run` and `/tmp`, a pure cgroup
//! v2 tree and the project at its own path, and nothing of the host's mounts. When it ends, so does everything it started;
//! its cgroups are removed. Not here: how the image is built (`vm/image.rs`), how the plan is carried out (`contain.rs`).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::contain::{Plan, Signals, Step, exit_code};
use crate::store::{Progress, Scratch, Store, workspace};
use crate::vm::image::{self, Image};

const USAGE: &str = "usage: cargo xtask chroot [--bind DIR[:PLACE]]... [--env KEY=VALUE]... [--] COMMAND [ARG]...";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Device nodes of the host that a container runtime or its tests may want.
const NODES: [&str; 9] = ["null", "zero", "full", "random", "urandom", "tty", "fuse", "kvm", "net/tun"];

struct Options {
    binds: Vec<(PathBuf, PathBuf)>,
    environment: Vec<(String, String)>,
    command: Vec<String>,
}

/// Entry of `cargo xtask chroot`.
pub fn run(args: &[String]) -> Result<u8> {
    let options = parse(args)?;
    let (program, rest) = options.command.split_first().context(USAGE)?;
    if !rustix::process::geteuid().is_root() {
        bail!("chroot needs root: it mounts a file system");
    }
    let store = Store::open()?;
    let image = {
        let _lock = store.lock()?;
        image::build(&store, &Progress::start())?
    };
    let scratch = store.scratch()?;
    let plan = plan(&image, &scratch, &options.binds)?;
    let mut command = plan.command(program)?;
    command.args(rest).env("PATH", PATH).env("HOME", "/root").env("USER", "root").env_remove("TMPDIR");
    command.envs(options.environment.iter().map(|(key, value)| (key, value)));
    let signals = Signals::block()?;
    let child = command.spawn().context("start the chroot")?;
    Ok(exit_code(signals.supervise(child, Signal::SIGTERM)?))
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options { binds: default_binds()?, environment: Vec::new(), command: Vec::new() };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--bind" => options.binds.push(bind(rest.next().context(USAGE)?)?),
            "--env" => {
                let (key, value) = rest.next().and_then(|pair| pair.split_once('=')).context(USAGE)?;
                options.environment.push((key.to_owned(), value.to_owned()));
            }
            "--" => {
                options.command = rest.cloned().collect();
                return Ok(options);
            }
            word if word.starts_with('-') => bail!("unknown option {word}\n{USAGE}"),
            word => {
                options.command.push(word.to_owned());
                options.command.extend(rest.cloned());
                return Ok(options);
            }
        }
    }
    Ok(options)
}

fn bind(text: &str) -> Result<(PathBuf, PathBuf)> {
    let (from, to) = text.split_once(':').unwrap_or((text, text));
    let from = Path::new(from).canonicalize().with_context(|| format!("resolve {from}"))?;
    let to = if text.contains(':') { PathBuf::from(to) } else { from.clone() };
    if !to.is_absolute() {
        bail!("bind to a relative path: {}", to.display());
    }
    Ok((from, to))
}

/// The project, and cargo's target directory where it lies elsewhere.
fn default_binds() -> Result<Vec<(PathBuf, PathBuf)>> {
    let project = workspace().canonicalize().context("resolve the project's directory")?;
    let mut binds = vec![(project.clone(), project.clone())];
    if let Some(target) = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from)
        && let Ok(target) = target.canonicalize()
        && !target.starts_with(&project)
    {
        binds.push((target.clone(), target));
    }
    Ok(binds)
}

fn plan(image: &Image, scratch: &Scratch, binds: &[(PathBuf, PathBuf)]) -> Result<Plan> {
    let [lower, layer, root] = ["lower", "layer", "root"].map(|name| scratch.join(name));
    let mut plan = Plan::default();
    plan.step(Step::Cgroup(format!("pinnace-chroot-{}", std::process::id()), scratch.join("cgroup")));
    plan.step(Step::Image(image.file.clone(), lower.clone()));
    plan.step(Step::Mount("tmpfs", layer.clone(), "mode=755".into()));
    plan.step(Step::Dir(layer.join("upper"))).step(Step::Dir(layer.join("work")));
    let options = format!("lowerdir={},upperdir={1}/upper,workdir={1}/work", lower.display(), layer.display());
    plan.step(Step::Mount("overlay", root.clone(), options));
    for (kind, place, options) in [
        ("proc", "proc", ""),
        ("sysfs", "sys", ""),
        ("cgroup2", "sys/fs/cgroup", ""),
        ("tmpfs", "run", "mode=755"),
        ("tmpfs", "tmp", "mode=1777"),
        // An overlay cannot be the upper layer of an engine's own overlays.
        ("tmpfs", "var/lib/containers", "mode=755"),
        ("tmpfs", "dev", "mode=755"),
        ("devpts", "dev/pts", "newinstance,ptmxmode=666,mode=620,gid=5"),
        ("tmpfs", "dev/shm", "mode=1777"),
        ("mqueue", "dev/mqueue", ""),
    ] {
        plan.step(Step::Mount(kind, root.join(place), options.into()));
    }
    for node in NODES.iter().map(|node| Path::new("/dev").join(node)).filter(|node| node.exists()) {
        let place = root.join("dev").join(node.strip_prefix("/dev")?);
        plan.step(Step::Bind(node, place));
    }
    for (content, place) in [("pts/ptmx", "ptmx"), ("/proc/self/fd", "fd"), ("fd/0", "stdin"), ("fd/1", "stdout"), ("fd/2", "stderr")] {
        plan.step(Step::Symlink(content.into(), root.join("dev").join(place)));
    }
    for (from, to) in binds {
        plan.step(Step::Bind(from.clone(), root.join(to.strip_prefix("/")?)));
    }
    plan.step(Step::Root(root));
    let here = std::env::current_dir().context("get the current directory")?;
    let bound = binds.iter().any(|(from, to)| from == to && here.starts_with(to));
    plan.step(Step::Work(if bound { here } else { "/root".into() }));
    Ok(plan)
}
