//! The root file system of the test machines: Debian trixie with the packages of `xtask/vm/packages`, as an ext4 image.
//!
//! One image serves both lanes and the chroot, always read-only with something writable above it. It holds no kernel, no
//! modules and no agent: those come from `kernel.rs`, so that a change to them does not build the system anew.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::{self, IMAGE_TOOLS};
use crate::contain::{Plan, Step};
use crate::store::{Key, Progress, Store, capture, execute, files_below, remove, workspace};

/// The Debian suite of the image.
pub const SUITE: &str = "trixie";
/// The unprivileged user of the test machines.
pub const USER: &str = "tester";
/// That user's id.
pub const USER_ID: u32 = 1000;
/// Changes when the code here makes something else of the same inputs.
const FORMAT: u32 = 1;
/// The image is sparse: this bounds what tests may write, not what the file takes.
const SIZE: &str = "8G";

/// A built root file system.
pub struct Image {
    /// The ext4 file.
    pub file: PathBuf,
    /// What it was made of.
    pub key: String,
    /// A file with one `package version` a line.
    pub manifest: PathBuf,
}

/// Returns the image, built if its inputs changed. The caller holds the store's lock.
pub fn build(store: &Store, progress: &Progress) -> Result<Image> {
    let inputs = workspace().join("xtask/vm");
    let mut key = Key::new("image", FORMAT);
    key.text(SUITE);
    key.text(SIZE);
    for list in ["packages", "masked-units"] {
        key.text(&read(&inputs.join(list))?);
    }
    key.tree(&inputs.join("guest"))?;
    let key = key.finish();
    let file = store.path(format!("image-{key}.ext4"));
    let manifest = store.path(format!("image-{key}.ext4.manifest"));
    let image = Image { file, key, manifest };
    if image.file.exists() && image.manifest.exists() {
        return Ok(image);
    }
    apt::ensure_tools(store, &IMAGE_TOOLS, progress)?;
    let scratch = store.scratch()?;
    let root = scratch.join("root");
    progress.say(format!("image {}: install {} from {SUITE}", image.key, "the packages"));
    bootstrap(store, &root, &list(&read(&inputs.join("packages"))?))?;
    progress.say("image: configure");
    customise(&root, &inputs)?;
    let versions = capture(Command::new("chroot").arg(&root).args(["dpkg-query", "-W", "-f", "${Package} ${Version}\\n"]))?;
    for heavy in ["var/cache/apt", "var/lib/apt/lists", "var/log/apt", "boot"] {
        remove(&root.join(heavy))?;
    }
    progress.say("image: write the file system");
    let draft = scratch.join("image.ext4");
    make_ext4(&root, &draft, SIZE)?;
    // The image counts as built when the manifest is there too: it is written first, the image moved last.
    fs::write(&image.manifest, versions).with_context(|| format!("write {}", image.manifest.display()))?;
    fs::rename(&draft, &image.file).with_context(|| format!("write {}", image.file.display()))?;
    store.remove_others("image", &image.file)?;
    let _ = fs::remove_dir_all(&root);
    progress.say(format!("image: done, {} MiB", disk_usage(&image.file)? >> 20));
    Ok(image)
}

/// Makes an ext4 image without a journal: it is never written to after a crash.
pub fn make_ext4(root: &Path, file: &Path, size: &str) -> Result<()> {
    // mke2fs remarks on a file that it has to make itself.
    fs::File::create(file).with_context(|| format!("create {}", file.display()))?;
    let mut command = Command::new("mke2fs");
    command.env("PATH", path_with_sbin()).args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0"]);
    command.args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", "-d"]).arg(root).arg(file).arg(size);
    execute(&mut command)
}

/// The bytes a sparse file takes.
pub fn disk_usage(file: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(file).with_context(|| format!("look at {}", file.display()))?;
    Ok(meta.blocks() * 512)
}

/// `PATH` with the directories of system programs, which an ordinary user's lacks.
pub fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// The words of a list with `#` comments.
pub fn list(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Makes a root file system of the suite's smallest variant and `packages`: mmdebstrap, where its mounts and maintainer scripts cannot
/// reach the host, with the downloads kept in the store.
pub fn bootstrap(store: &Store, root: &Path, packages: &[&str]) -> Result<()> {
    let debs = store.dir(format!("debs/{SUITE}"))?;
    let mut plan = Plan::default();
    plan.step(Step::Mount("proc", "/proc".into(), String::new()));
    let mut command = plan.command("mmdebstrap")?;
    command.args(["-q", "--mode=root", "--variant=minbase", "--format=directory"]);
    command.arg(format!("--include={}", packages.join(",")));
    for option in ["APT::Install-Recommends \"false\"", "Acquire::Languages \"none\""] {
        command.arg(format!("--aptopt={option}"));
    }
    for unread in ["doc", "man", "locale", "info"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{unread}/*"));
    }
    // The result is thrown away if anything fails, so nothing needs to reach the disk in order.
    command.arg("--dpkgopt=force-unsafe-io");
    command.arg("--skip=essential/unlink,cleanup/apt,download/empty");
    let debs = debs.display();
    command.arg("--setup-hook=mkdir -p \"$1\"/var/cache/apt/archives");
    command.arg(format!("--setup-hook=cp -n {debs}/*.deb \"$1\"/var/cache/apt/archives/ 2>/dev/null || true"));
    command.arg(format!("--customize-hook=cp -n \"$1\"/var/cache/apt/archives/*.deb {debs}/"));
    command.arg(SUITE).arg(root).arg(apt::source(&apt::mirror()?, SUITE));
    execute(&mut command)
}

fn customise(root: &Path, inputs: &Path) -> Result<()> {
    // Only the plumbing of AppArmor stays: its abstractions and tunables are what the test profile includes.
    for entry in fs::read_dir(root.join("etc/apparmor.d")).context("read apparmor.d")? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            remove(&entry.path())?;
        }
    }
    let guest = inputs.join("guest");
    for file in files_below(&guest)? {
        let target = root.join(file.strip_prefix(&guest)?);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        remove(&target)?;
        fs::copy(&file, &target).with_context(|| format!("write {}", target.display()))?;
        let mode = if target.starts_with(root.join("etc/sudoers.d")) { 0o440 } else { 0o644 };
        fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
    }
    for unit in list(&read(&inputs.join("masked-units"))?) {
        let place = root.join("etc/systemd/system").join(unit);
        remove(&place)?;
        symlink("/dev/null", &place).with_context(|| format!("mask {unit}"))?;
    }
    let default = root.join("etc/systemd/system/default.target");
    remove(&default)?;
    symlink("/usr/lib/systemd/system/multi-user.target", &default).context("set the default target")?;
    for name in ["etc/resolv.conf", "var/log/dpkg.log", "var/log/bootstrap.log"] {
        remove(&root.join(name))?;
    }
    add_user(root)?;
    // The modules are another disk, mounted here.
    fs::create_dir_all(root.join("usr/lib/modules")).context("create the modules' mount point")
}

fn add_user(root: &Path) -> Result<()> {
    let mut command = Command::new("chroot");
    command.arg(root).args(["useradd", "-m", "-s", "/bin/bash", "-u", &USER_ID.to_string(), USER]);
    execute(&mut command)?;
    for file in ["etc/subuid", "etc/subgid"] {
        fs::write(root.join(file), format!("{USER}:100000:65536\n")).with_context(|| format!("write {file}"))?;
    }
    execute(Command::new("chroot").arg(root).args(["passwd", "-q", "-d", "root"]))
}
