//! The fast lane: a machine that is a process, Debian's user-mode-linux.
//!
//! It runs at native speed and has the newest kernel, but one processor and no CRIU. Each start is a boot. It lives in a
//! mount and a PID namespace of its own, in a root with the C library it was built for; what it may see of the host is
//! bound into that root at fixed places. Not here: what is said to its agent (`machine.rs`).

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use vm_agent::Mount;

use super::image::Image;
use super::kernel::Kernel;
use super::machine::{MAX_SHARES, Process, Share};
use crate::contain::{Plan, Step};
use crate::store::Scratch;

/// Where things are in the root that user-mode-linux runs in.
const IMAGE: &str = "/disk/root.ext4";
const MODULES: &str = "/disk/modules.ext4";
const INITRAMFS: &str = "/disk/initramfs.cpio";
/// Its memory is a file there, so it must be large enough.
const MEMORY: &str = "2048M";

/// Boot time that only the full lane has to spend, once: there is no hardware to find here.
const MASKED: [&str; 3] = ["systemd-udev-trigger.service", "modprobe@drm.service", "netavark-dhcp-proxy.service"];

fn share_place(index: usize) -> String {
    format!("/share/{index}")
}

/// Makes the places once, so that a start need not write to the root.
pub fn make_places(root: &Path) -> Result<()> {
    for dir in ["proc", "dev", "tmp", "cow", "disk"] {
        fs::create_dir_all(root.join(dir)).with_context(|| format!("create {dir}"))?;
    }
    for file in [IMAGE, MODULES, INITRAMFS] {
        File::create(inside(root, file)).with_context(|| format!("create {file}"))?;
    }
    for index in 0..MAX_SHARES {
        let place = inside(root, &share_place(index));
        fs::create_dir_all(&place).with_context(|| format!("create {}", place.display()))?;
    }
    Ok(())
}

fn inside(root: &Path, place: &str) -> PathBuf {
    root.join(place.trim_start_matches('/'))
}

/// Boots a machine; its agent will say that it is ready. `words` go first on the kernel's command line.
pub fn start(image: &Image, kernel: &Kernel, scratch: &Scratch, shares: &[Share], words: &[&str]) -> Result<Process> {
    let root = kernel.user_mode_root();
    let cow = scratch.join("cow");
    fs::create_dir_all(&cow).with_context(|| format!("create {}", cow.display()))?;
    let mut plan = Plan::default();
    plan.step(Step::Mount("proc", root.join("proc"), String::new()));
    plan.step(Step::Bind("/dev".into(), root.join("dev")));
    plan.step(Step::Mount("tmpfs", root.join("tmp"), "size=4g,mode=1777".into()));
    plan.step(Step::Bind(cow, root.join("cow")));
    for (file, place) in [(&image.file, IMAGE), (&kernel.modules(), MODULES), (&kernel.initramfs, INITRAMFS)] {
        plan.step(Step::Bind(file.clone(), inside(&root, place)));
    }
    for (index, share) in shares.iter().enumerate() {
        plan.step(Step::Bind(share.host.clone(), inside(&root, &share_place(index))));
    }
    plan.step(Step::Chroot(root));
    let mut command = plan.command("/usr/bin/linux.uml")?;
    command.arg(format!("mem={MEMORY}")).arg(format!("ubd0=/cow/layer,{IMAGE}")).arg(format!("ubd1r={MODULES}"));
    command.arg(format!("initrd={INITRAMFS}"));
    // Standard input is the agent's line, standard output the console.
    command.args(["con=null", "con0=null,fd:1", "ssl=null", "ssl0=fd:0", "umid=vm", "uml_dir=/tmp/", "seccomp=auto"]);
    command.args(words).args(["pinnace.root=/dev/ubda", "pinnace.modules=/dev/ubdb", "rw", "quiet", "systemd.show_status=0"]);
    command.args(["apparmor=1", "security=apparmor", "panic=-1"]);
    command.args(MASKED.map(|unit| format!("systemd.mask={unit}")));
    let console = scratch.join("console");
    let output = File::create(&console).with_context(|| format!("create {}", console.display()))?;
    let (link, guest) = UnixStream::pair().context("make a pair of sockets")?;
    command.env_clear().env("PATH", "/usr/bin:/bin").env("TMPDIR", "/tmp");
    command.stdin(OwnedFd::from(guest)).stdout(output.try_clone()?).stderr(output);
    let child = command.spawn().context("start user-mode-linux")?;
    Ok(Process { child, link, console, gentle: true })
}

/// How the guest mounts the shares.
pub fn mounts(shares: &[Share]) -> Vec<Mount> {
    let mount = |(index, share): (usize, &Share)| Mount {
        kind: "hostfs".into(),
        source: "none".into(),
        target: share.guest.clone(),
        // With mount(2) the options are the path itself.
        options: share_place(index),
    };
    shares.iter().enumerate().map(mount).collect()
}
