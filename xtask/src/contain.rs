//! Processes that cannot outlive us or leave anything on the host: private mounts, an own PID namespace, an own cgroup.
//!
//! A [`Plan`] is a list of steps and a command. It is carried out by this same program, started twice more: the *outer*
//! process asks to be killed when its parent dies, makes the namespaces and waits; the *inner* one is PID 1 of the new
//! PID namespace, carries out the steps and starts the command. When any of them dies, the kernel ends all that is
//! below, takes the mounts away and releases the loop devices. Being re-executed keeps this free of `unsafe`: nothing
//! runs between fork and exec.
//!
//! Not here: which mounts make a chroot (`chroot.rs`) or a user-mode-linux (`vm/uml.rs`).

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// The hidden command word of the outer process.
pub const OUTER: &str = "__contain";
/// The hidden command word of the inner process.
pub const INNER: &str = "__contained";

/// Between the fields of an encoded step: no path or mount option holds it.
const FIELD: char = '\u{1f}';
const END_OF_STEPS: &str = "--";

/// One preparation before the command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a directory and its parents.
    Dir(PathBuf),
    /// Mount a new file system: type, target, options.
    Mount(&'static str, PathBuf, String),
    /// Mount a directory or file, without the mounts below it, at another place, which is made.
    Bind(PathBuf, PathBuf),
    /// Mount an image of a file system, read-only.
    Image(PathBuf, PathBuf),
    /// Make a symbolic link: content, place.
    Symlink(PathBuf, PathBuf),
    /// Make a directory the root, take the old root away.
    Root(PathBuf),
    /// Make a directory the root, without a change to the mounts.
    Chroot(PathBuf),
    /// Change the working directory.
    Work(PathBuf),
    /// Move into a cgroup of its own with this name below the unified hierarchy; its parent becomes the root of a new
    /// cgroup namespace. The directory is a place where the hierarchy can be mounted. Removed at the end.
    Cgroup(String, PathBuf),
    /// Only die with the parent: no namespaces are made.
    Bare,
}

const FILE_SYSTEMS: [&str; 8] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2", "overlay", "hugetlbfs"];

impl Step {
    fn encode(&self) -> Result<String> {
        let text = |path: &Path| -> Result<String> {
            path.to_str().map(str::to_owned).ok_or_else(|| anyhow!("path is not UTF-8: {}", path.display()))
        };
        let fields = match self {
            Step::Dir(path) => vec!["dir".into(), text(path)?],
            Step::Mount(kind, target, options) => vec!["mount".into(), (*kind).into(), text(target)?, options.clone()],
            Step::Bind(from, to) => vec!["bind".into(), text(from)?, text(to)?],
            Step::Image(from, to) => vec!["image".into(), text(from)?, text(to)?],
            Step::Symlink(from, to) => vec!["symlink".into(), text(from)?, text(to)?],
            Step::Root(path) => vec!["root".into(), text(path)?],
            Step::Chroot(path) => vec!["chroot".into(), text(path)?],
            Step::Work(path) => vec!["work".into(), text(path)?],
            Step::Cgroup(name, place) => vec!["cgroup".into(), name.clone(), text(place)?],
            Step::Bare => vec!["bare".into()],
        };
        Ok(fields.join(&FIELD.to_string()))
    }

    fn decode(encoded: &str) -> Result<Step> {
        let fields: Vec<&str> = encoded.split(FIELD).collect();
        Ok(match fields.as_slice() {
            ["dir", path] => Step::Dir(path.into()),
            ["mount", kind, target, options] => {
                let kind = FILE_SYSTEMS.iter().find(|known| *known == kind);
                let kind = kind.with_context(|| format!("unknown file system in {encoded:?}"))?;
                Step::Mount(kind, target.into(), (*options).to_owned())
            }
            ["bind", from, to] => Step::Bind(from.into(), to.into()),
            ["image", from, to] => Step::Image(from.into(), to.into()),
            ["symlink", from, to] => Step::Symlink(from.into(), to.into()),
            ["root", path] => Step::Root(path.into()),
            ["chroot", path] => Step::Chroot(path.into()),
            ["work", path] => Step::Work(path.into()),
            ["cgroup", name, place] => Step::Cgroup((*name).to_owned(), place.into()),
            ["bare"] => Step::Bare,
            _ => bail!("unknown step {encoded:?}"),
        })
    }

    fn carry_out(&self) -> Result<()> {
        match self {
            Step::Dir(path) => fs::create_dir_all(path).with_context(|| format!("create {}", path.display())),
            Step::Mount(kind, target, options) => mount_new(kind, target, options),
            Step::Bind(from, to) => bind(from, to),
            Step::Image(from, to) => mount_image(from, to),
            Step::Symlink(content, place) => {
                std::os::unix::fs::symlink(content, place).with_context(|| format!("create symbolic link {}", place.display()))
            }
            Step::Root(path) => change_root(path),
            Step::Chroot(path) => {
                nix::unistd::chroot(path).with_context(|| format!("chroot to {}", path.display()))?;
                std::env::set_current_dir("/").context("change directory to /")
            }
            Step::Work(path) => std::env::set_current_dir(path).with_context(|| format!("change directory to {}", path.display())),
            Step::Cgroup(name, place) => enter_cgroup(&place.join(name)),
            Step::Bare => Ok(()),
        }
    }
}

/// Steps and, later, a command.
#[derive(Debug, Default)]
pub struct Plan {
    steps: Vec<Step>,
}

impl Plan {
    /// Only die with the parent; the command shares every namespace with us.
    pub fn bare() -> Plan {
        Plan { steps: vec![Step::Bare] }
    }

    /// Adds a step.
    pub fn step(&mut self, step: Step) -> &mut Plan {
        self.steps.push(step);
        self
    }

    /// The command that carries out the plan and then runs `program`. Arguments added to it go to `program`.
    ///
    /// It must be started by a thread that lives as long as it should: the kernel's parent-death signal looks at the
    /// thread, not the process.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(OUTER).arg(std::process::id().to_string());
        for step in &self.steps {
            command.arg(step.encode()?);
        }
        command.arg(END_OF_STEPS).arg(program);
        Ok(command)
    }
}

/// Entry of the hidden commands: `__contain PARENT STEP... -- PROGRAM ARG...` and `__contained STEP... -- PROGRAM ARG...`.
pub fn run(command: &str, args: &[String]) -> Result<u8> {
    // The process that starts us may read its signals from a descriptor: what we run gets them the usual way.
    SigSet::all().thread_unblock().context("unblock signals")?;
    if command == OUTER {
        let (parent, rest) = args.split_first().context("no parent")?;
        // The outer process has a cgroup to remove, so it is asked to end; everything else is just ended.
        let farewell = if rest.iter().any(|step| step == "bare") { Signal::SIGKILL } else { Signal::SIGTERM };
        set_pdeathsig(farewell).context("ask to die with the parent")?;
        if nix::unistd::getppid().to_string() != *parent {
            bail!("the parent ended");
        }
        return outer(rest);
    }
    set_pdeathsig(Signal::SIGKILL).context("ask to die with the parent")?;
    inner(args)
}

fn split(args: &[String]) -> Result<(Vec<Step>, &String, &[String])> {
    let end = args.iter().position(|arg| arg == END_OF_STEPS).context("no command")?;
    let steps = args[..end].iter().map(|step| Step::decode(step)).collect::<Result<Vec<_>>>()?;
    let (program, rest) = args[end + 1..].split_first().context("no command")?;
    Ok((steps, program, rest))
}

fn outer(args: &[String]) -> Result<u8> {
    let (steps, program, rest) = split(args)?;
    if steps.contains(&Step::Bare) {
        return Err(Command::new(program).args(rest).exec()).with_context(|| format!("execute {program}"));
    }
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID).context("make a mount and a PID namespace")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make the mounts private")?;
    let cgroup = steps.iter().find_map(|step| match step {
        Step::Cgroup(name, place) => Some((name, place)),
        _ => None,
    });
    if let Some((name, place)) = cgroup {
        mount_new("cgroup2", place, "")?;
        remove_stale_cgroups(place, name)?;
        fs::create_dir(place.join(name)).with_context(|| format!("create cgroup {name}"))?;
    }
    let signals = Signals::block()?;
    let child = Command::new("/proc/self/exe").arg(INNER).args(args).spawn().context("start the first process")?;
    // A killed first process takes the whole namespace with it.
    let status = signals.supervise(child, Signal::SIGKILL)?;
    if let Some((name, place)) = cgroup {
        remove_cgroup(&place.join(name))?;
    }
    Ok(exit_code(status))
}

fn inner(args: &[String]) -> Result<u8> {
    let (steps, program, rest) = split(args)?;
    // Changing the root moves the root of every process of the mount namespace: the outer one keeps its own.
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    for step in &steps {
        step.carry_out()?;
    }
    let child = Command::new(program).args(rest).spawn().with_context(|| format!("execute {program}"))?;
    let child = Pid::from_raw(i32::try_from(child.id()).context("process id")?);
    loop {
        // Orphans of the namespace become our children: collect them all, stop at the one we started.
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => return Ok(u8::try_from(code).unwrap_or(1)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                return Ok(u8::try_from(128 + signal as i32).unwrap_or(255));
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait for the command"),
        }
    }
}

/// The error of having been asked to end by a signal.
#[derive(Debug)]
pub struct Interrupted(
    /// Which one.
    pub Signal,
);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ended by {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// SIGINT, SIGTERM, SIGHUP, SIGCHLD and SIGWINCH, read from a descriptor instead of being delivered.
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks them in this thread and in those started after.
    pub fn block() -> Result<Signals> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD, Signal::SIGWINCH] {
            set.add(signal);
        }
        set.thread_block().context("block signals")?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).context("open a signal descriptor")?;
        Ok(Signals { fd })
    }

    /// Waits for a signal and takes it.
    pub fn take(&self) -> Result<Option<Signal>> {
        let Some(info) = self.fd.read_signal().context("read a signal")? else { return Ok(None) };
        let number = i32::try_from(info.ssi_signo).context("signal number")?;
        Ok(Signal::try_from(number).ok())
    }

    /// Waits for a child that was started after [`Signals::block`]. SIGTERM and SIGHUP are passed to it as `farewell`;
    /// SIGINT is left to it, because a terminal sends it to every process of the foreground.
    pub fn supervise(&self, mut child: Child, farewell: Signal) -> Result<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(child.id()).context("process id")?);
        loop {
            if let Some(status) = child.try_wait().context("wait for the child")? {
                return Ok(status);
            }
            if matches!(self.take()?, Some(Signal::SIGTERM | Signal::SIGHUP)) {
                // It may have ended in between; then there is nothing to tell it.
                let _ = kill(pid, farewell);
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The exit code a shell would report.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(255)
}

fn mount_new(kind: &str, target: &Path, options: &str) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("create {}", target.display()))?;
    let mut flags = MsFlags::empty();
    if !matches!(kind, "overlay" | "tmpfs" | "devpts") {
        flags |= MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    }
    mount(Some(kind), target, Some(kind), flags, Some(options)).with_context(|| format!("mount {kind} at {}", target.display()))
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let meta = fs::metadata(from).with_context(|| format!("look at {}", from.display()))?;
    if meta.is_dir() {
        fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    } else if !to.exists() {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        fs::write(to, "").with_context(|| format!("create {}", to.display()))?;
    }
    let none: Option<&str> = None;
    mount(Some(from), to, none, MsFlags::MS_BIND, none).with_context(|| format!("bind {} at {}", from.display(), to.display()))
}

/// `mount -o loop` finds a free loop device and sets it to go away with the mount.
fn mount_image(image: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("create {}", target.display()))?;
    let status = Command::new("mount").args(["-t", "ext4", "-o", "ro,loop"]).arg(image).arg(target).status();
    match status.context("start mount")? {
        status if status.success() => Ok(()),
        status => bail!("mount of {} ended with {status}", image.display()),
    }
}

fn change_root(root: &Path) -> Result<()> {
    std::env::set_current_dir(root).with_context(|| format!("change directory to {}", root.display()))?;
    // With both places the same, the old root ends up below the new one's mount point (pivot_root(2), "NOTES").
    nix::unistd::pivot_root(".", ".").with_context(|| format!("make {} the root", root.display()))?;
    umount2(".", MntFlags::MNT_DETACH).context("take the old root away")?;
    std::env::set_current_dir("/").context("change directory to /")
}

/// Moves into `cgroup/init` with `cgroup` as the root of the namespace: so processes live in a leaf, and controllers can
/// be enabled for siblings (the rule against processes in inner cgroups, cgroups(7)).
fn enter_cgroup(cgroup: &Path) -> Result<()> {
    let join = |dir: &Path| {
        let file = dir.join("cgroup.procs");
        fs::write(&file, "0").with_context(|| format!("write {}", file.display()))
    };
    let leaf = cgroup.join("init");
    fs::create_dir(&leaf).with_context(|| format!("create {}", leaf.display()))?;
    join(cgroup)?;
    unshare(CloneFlags::CLONE_NEWCGROUP).context("make a cgroup namespace")?;
    join(&leaf)
}

/// Ends what runs in a cgroup and removes it with all below; a process that dies slowly gets two seconds.
fn remove_cgroup(cgroup: &Path) -> Result<()> {
    fs::write(cgroup.join("cgroup.kill"), "1").with_context(|| format!("kill cgroup {}", cgroup.display()))?;
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match remove_cgroup_tree(cgroup) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("remove cgroup {}", cgroup.display()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Removes what killed processes left: cgroups that are named like ours, for processes that are gone.
fn remove_stale_cgroups(root: &Path, name: &str) -> Result<()> {
    let Some((prefix, _)) = name.rsplit_once('-') else { return Ok(()) };
    for entry in fs::read_dir(root).with_context(|| format!("read {}", root.display()))? {
        let entry = entry?.file_name().to_string_lossy().into_owned();
        if let Some((other, pid)) = entry.rsplit_once('-')
            && other == prefix
            && pid.parse::<u32>().is_ok()
            && !Path::new("/proc").join(pid).exists()
        {
            remove_cgroup(&root.join(entry))?;
        }
    }
    Ok(())
}

fn remove_cgroup_tree(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_survive_the_command_line() {
        let steps = [
            Step::Dir("/a b".into()),
            Step::Mount("tmpfs", "/t".into(), "size=1m,mode=755".into()),
            Step::Bind("/x".into(), "/y".into()),
            Step::Image("/i".into(), "/m".into()),
            Step::Symlink("pts/ptmx".into(), "/dev/ptmx".into()),
            Step::Root("/r".into()),
            Step::Chroot("/c".into()),
            Step::Work("/w".into()),
            Step::Cgroup("name".into(), "/cg".into()),
            Step::Bare,
        ];
        for step in steps {
            let encoded = step.encode().expect("encode");
            assert_eq!(Step::decode(&encoded).expect("decode"), step);
        }
    }

    #[test]
    fn unknown_steps_are_refused() {
        for bad in ["", "dir", "mount\u{1f}nfs\u{1f}/t\u{1f}", "root\u{1f}/a\u{1f}/b"] {
            assert!(Step::decode(bad).is_err(), "{bad:?}");
        }
    }
}
