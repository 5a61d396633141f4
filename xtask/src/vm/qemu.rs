//! The full lane: QEMU without hardware help, restored from a memory snapshot.
//!
//! The snapshot is a migration of a booted machine to a file, with the disk's changes so far in an overlay. A restored
//! machine must have the same devices as the saved one, so there are always [`MAX_SHARES`] directories, empty ones for
//! those not asked for, and they are mounted after the restore (a mounted one cannot be migrated). The agent's line and
//! QEMU's monitor are its standard input and output: sockets with no name that could be too long or left behind.
//! Not here: what is said to the agent (`machine.rs`).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use vm_agent::{Mount, Request};

use super::apt::{self, QEMU_TOOLS};
use super::image::{Image, disk_usage};
use super::kernel::Kernel;
use super::machine::{Ground, MAX_SHARES, Machine, Process, Share};
use crate::contain::Plan;
use crate::store::{Key, Progress, Scratch, Store, capture, execute, remove};

const PROGRAM: &str = "qemu-system-x86_64";
const FORMAT: u32 = 1;
/// The translated code of a busy guest fills the default's eighth quickly.
const MACHINE: [&str; 8] = ["-machine", "pc", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max", "-smp", "2"];
const MEMORY: &str = "2048";
const KERNEL_LINE: &str = "pinnace.root=/dev/vda pinnace.modules=/dev/vdb console=ttyS0 net.ifnames=0 mitigations=off \
    nokaslr audit=0 quiet systemd.show_status=0 no_timer_check tsc=reliable panic=-1";
/// What a fresh machine runs once before it is saved, so that the first command finds the caches warm.
const WARM_UP: &str = "systemctl is-system-running --wait; for c in crun runc 'podman info' 'python3 -c 1' 'systemd-run --wait true'; \
    do $c --version || $c; done; sync";
const MONITOR_LIMIT: Duration = Duration::from_secs(60);
const SAVE_LIMIT: Duration = Duration::from_secs(300);

/// A saved machine.
pub struct Snapshot {
    /// Its directory in the store.
    pub dir: PathBuf,
}

impl Snapshot {
    /// The memory.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// What was written to the disk.
    pub fn overlay(&self) -> PathBuf {
        self.dir.join("overlay.qcow2")
    }
}

enum Disk<'a> {
    /// The overlay to be saved, written to.
    Saved(&'a Snapshot),
    /// A throw-away layer over the saved overlay, memory from the saved state.
    Restored(&'a Snapshot),
}

/// Returns the snapshot of a machine with this image and kernel, made if there is none. The caller holds the lock.
pub fn snapshot(store: &Store, image: &Image, kernel: &Kernel, progress: &Progress) -> Result<Snapshot> {
    apt::ensure_tools(store, &QEMU_TOOLS, progress)?;
    let mut key = Key::new("snapshot", FORMAT);
    key.text(&capture(Command::new(PROGRAM).arg("--version"))?);
    for text in [&image.key, &kernel.key, KERNEL_LINE, MEMORY, WARM_UP] {
        key.text(text);
    }
    MACHINE.iter().for_each(|word| key.text(word));
    // One snapshot for each kernel stays.
    let prefix = format!("snapshot-{}", kernel.which.name());
    let dir = store.path(format!("{prefix}-{}", key.finish()));
    let snapshot = Snapshot { dir };
    if snapshot.state().exists() {
        return Ok(snapshot);
    }
    progress.say(format!("snapshot: boot Linux {} under QEMU", kernel.release));
    remove(&snapshot.dir)?;
    fs::create_dir_all(&snapshot.dir).with_context(|| format!("create {}", snapshot.dir.display()))?;
    let image_name = image.file.file_name().unwrap_or_default();
    let mut create = Command::new("qemu-img");
    // Relative, so that the store may be moved.
    create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(Path::new("..").join(image_name));
    execute(create.arg(snapshot.overlay())).context("make the overlay")?;
    save(store, kernel, &snapshot, progress)?;
    store.remove_others(&prefix, &snapshot.dir)?;
    Ok(snapshot)
}

fn save(store: &Store, kernel: &Kernel, snapshot: &Snapshot, progress: &Progress) -> Result<()> {
    let scratch = store.scratch()?;
    let (process, monitor) = launch(kernel, &scratch, &Disk::Saved(snapshot), &[])?;
    let mut machine = Machine::adopt(process, scratch)?;
    machine.await_ready(Duration::from_secs(300))?;
    progress.say("snapshot: the agent is there, warm up");
    let argv = ["sh", "-c", WARM_UP].map(str::to_owned).to_vec();
    let mut quiet = |_, _: &[u8]| Ok(());
    machine.run(&Request { argv, ..Request::default() }, Some(Duration::from_secs(300)), &mut quiet)?;
    // Let what the warm-up left come to rest.
    std::thread::sleep(Duration::from_secs(1));
    let mut monitor = Monitor::open(monitor)?;
    monitor.execute("stop", json!({}))?;
    monitor.execute("migrate-set-parameters", json!({ "max-bandwidth": 1_u64 << 40 }))?;
    let draft = snapshot.dir.join("state.draft");
    monitor.execute("migrate", json!({ "uri": format!("file:{}", draft.display()) }))?;
    let deadline = Instant::now() + SAVE_LIMIT;
    loop {
        let status = monitor.execute("query-migrate", json!({}))?;
        match status["status"].as_str() {
            Some("completed") => break,
            Some("failed") => bail!("saving the machine failed: {status}"),
            _ if Instant::now() > deadline => bail!("saving the machine takes too long: {status}"),
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    // The overlay is complete only when QEMU has closed it.
    monitor.execute("quit", json!({}))?;
    machine.await_end(Duration::from_secs(30))?;
    fs::rename(&draft, snapshot.state()).context("keep the state")?;
    let size = disk_usage(&snapshot.state())? + disk_usage(&snapshot.overlay())?;
    progress.say(format!("snapshot: done, {} MiB", size >> 20));
    Ok(())
}

/// Restores a machine; its agent answers.
pub fn restore(ground: &Ground, snapshot: &Snapshot, scratch: &Scratch, shares: &[Share]) -> Result<Process> {
    let (process, monitor) = launch(&ground.kernel, scratch, &Disk::Restored(snapshot), shares)?;
    let running = Monitor::open(monitor).and_then(|mut monitor| {
        let deadline = Instant::now() + MONITOR_LIMIT;
        // The machine was saved stopped, so it waits to be continued.
        while monitor.execute("query-status", json!({}))?["status"] == "inmigrate" {
            if Instant::now() > deadline {
                bail!("the saved state is not read in time");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        monitor.execute("cont", json!({}))
    });
    match running {
        Ok(_) => Ok(process),
        Err(error) => Err(process.fail(error)),
    }
}

fn launch(kernel: &Kernel, scratch: &Scratch, disk: &Disk, shares: &[Share]) -> Result<(Process, UnixStream)> {
    let console = scratch.join("console");
    let empty = scratch.join("empty");
    fs::create_dir_all(&empty).with_context(|| format!("create {}", empty.display()))?;
    let mut command = Plan::bare().command(PROGRAM)?;
    command.args(MACHINE).args(["-m", MEMORY, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args(["-rtc", "base=utc,clock=host", "-append", KERNEL_LINE, "-device", "virtio-rng-pci"]);
    command.arg("-kernel").arg(kernel.vmlinux()).arg("-initrd").arg(&kernel.initramfs);
    command.arg("-serial").arg(format!("file:{}", quoted(&console)?));
    command.args(["-chardev", "socket,id=agent,fd=0", "-device", "virtio-serial-pci"]);
    command.args(["-device", "virtserialport,chardev=agent,name=pinnace"]);
    command.args(["-chardev", "socket,id=monitor,fd=1", "-mon", "chardev=monitor,mode=control"]);
    let (snapshot, throw_away) = match disk {
        // Nothing is written to the files below the layer on top, so several machines may stand on them at a time.
        Disk::Saved(snapshot) => (snapshot, ",backing.file.locking=off"),
        Disk::Restored(snapshot) => (snapshot, ",snapshot=on,file.locking=off,backing.file.locking=off"),
    };
    let overlay = quoted(&snapshot.overlay())?;
    command.arg("-drive").arg(format!("file={overlay},format=qcow2,if=none,id=root,cache=unsafe{throw_away}"));
    let modules = quoted(&kernel.modules())?;
    command.arg("-drive").arg(format!("file={modules},format=raw,if=none,id=modules,read-only=on"));
    command.args(["-device", "virtio-blk-pci,drive=root", "-device", "virtio-blk-pci,drive=modules"]);
    for index in 0..MAX_SHARES {
        let path = quoted(shares.get(index).map_or(empty.as_path(), |share| &share.host))?;
        command.arg("-fsdev").arg(format!("local,id=share{index},path={path},security_model=none,multidevs=remap"));
        command.arg("-device").arg(format!("virtio-9p-pci,fsdev=share{index},mount_tag={}", tag(index)));
    }
    if let Disk::Restored(snapshot) = disk {
        command.arg("-incoming").arg(format!("file:{}", quoted(&snapshot.state())?));
    }
    // The throw-away layer is a file there.
    command.env("TMPDIR", scratch.path());
    let (link, agent) = UnixStream::pair().context("make a pair of sockets")?;
    let (monitor, control) = UnixStream::pair().context("make a pair of sockets")?;
    let errors = fs::File::create(scratch.join("errors")).context("create a file for QEMU's messages")?;
    command.stdin(OwnedFd::from(agent)).stdout(OwnedFd::from(control)).stderr(errors);
    let child = command.spawn().context("start QEMU")?;
    Ok((Process { child, link, console, gentle: false }, monitor))
}

/// A path as a value in one of QEMU's lists of options, where a comma is doubled.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| anyhow!("path is not UTF-8: {}", path.display()))?;
    Ok(text.replace(',', ",,"))
}

fn tag(index: usize) -> String {
    format!("share{index}")
}

/// How the guest mounts the shares.
pub fn mounts(shares: &[Share]) -> Vec<Mount> {
    let mount = |(index, share): (usize, &Share)| Mount {
        kind: "9p".into(),
        source: tag(index),
        target: share.guest.clone(),
        // cache=mmap reads ten times as fast as cache=none and lets programs be executed.
        options: "trans=virtio,version=9p2000.L,msize=512000,cache=mmap".into(),
    };
    shares.iter().enumerate().map(mount).collect()
}

/// QEMU's monitor, in the form for programs (QMP).
struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Monitor {
    fn open(stream: UnixStream) -> Result<Monitor> {
        stream.set_read_timeout(Some(MONITOR_LIMIT)).context("set a time limit")?;
        let writer = stream.try_clone().context("duplicate the monitor's socket")?;
        let mut monitor = Monitor { reader: BufReader::new(stream), writer };
        monitor.line().context("QEMU does not greet")?;
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line).context("read QEMU's answer")? == 0 {
            bail!("QEMU ended");
        }
        serde_json::from_str(&line).with_context(|| format!("understand QEMU's {line:?}"))
    }

    /// Executes a command and returns its answer; events in between are passed over.
    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.writer.write_all(format!("{request}\n").as_bytes()).with_context(|| format!("tell QEMU to {command}"))?;
        loop {
            let mut answer = self.line().with_context(|| format!("QEMU's {command}"))?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU's {command}: {error}");
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_paths_are_doubled() {
        assert_eq!(quoted(Path::new("/a,b/c")).expect("quote"), "/a,,b/c");
    }
}
