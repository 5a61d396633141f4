//! Kernels from Debian's packages: what boots, a disk with the modules, an initramfs.
//!
//! The full lane's kernel is the generic one (the cloud flavour lacks 9p), uncompressed, because an emulated processor
//! takes seconds to unpack it, and with the modules of `xtask/vm/modules` only. The fast lane's is user-mode-linux, a
//! program, of Debian unstable; it needs that suite's C library beside it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::apt::{self, Apt, KERNEL_TOOLS};
use super::image::{self, make_ext4, path_with_sbin};
use super::{agent, uml};
use crate::store::{Key, Progress, Store, execute, files_below, remove, workspace};

const FORMAT: u32 = 1;
/// What the initramfs of the full lane loads, with what these depend on. systemd would load some of them later, but a
/// restored machine must have them, and here it costs least.
const EARLY: [&str; 10] = [
    "virtio_pci",
    "virtio_blk",
    // ext4 asks for it by the name of the algorithm; since 6.14 it is a part of the kernel
    "crc32c_generic",
    "ext4",
    "virtio_console",
    "virtio_rng",
    "9pnet_virtio",
    "9p",
    "overlay",
    "fuse",
];
/// Not even unpacked: most of the package's size.
const SKIPPED: [&str; 6] = ["drivers/gpu", "drivers/net/wireless", "drivers/net/ethernet", "drivers/media", "sound", "drivers/scsi"];

/// Which kernel a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The full lane's: trixie's own.
    Stable,
    /// The full lane's on demand: the newest of trixie-backports.
    Backports,
    /// The fast lane's: user-mode-linux of unstable.
    UserMode,
}

impl Which {
    /// A word for file names.
    pub fn name(self) -> &'static str {
        match self {
            Which::Stable => "stable",
            Which::Backports => "backports",
            Which::UserMode => "usermode",
        }
    }

    fn suite(self) -> &'static str {
        match self {
            Which::Stable => image::SUITE,
            Which::Backports => "trixie-backports",
            Which::UserMode => "sid",
        }
    }
}

/// A kernel ready to boot.
pub struct Kernel {
    /// Which one.
    pub which: Which,
    /// Its directory in the store.
    pub dir: PathBuf,
    /// What it was made of, the agent included.
    pub key: String,
    /// Its release, as `uname -r` has it.
    pub release: String,
    /// The initramfs with the present agent.
    pub initramfs: PathBuf,
}

impl Kernel {
    /// The kernel as an ELF file (full lane).
    pub fn vmlinux(&self) -> PathBuf {
        self.dir.join("vmlinux")
    }

    /// The directory that user-mode-linux runs in (fast lane).
    pub fn user_mode_root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// The disk with the modules.
    pub fn modules(&self) -> PathBuf {
        self.dir.join("modules.ext4")
    }
}

/// Returns a kernel, built if its inputs changed. The caller holds the store's lock.
pub fn build(store: &Store, which: Which, progress: &Progress) -> Result<Kernel> {
    let wanted = workspace().join("xtask/vm/modules");
    let wanted = fs::read_to_string(&wanted).with_context(|| format!("read {}", wanted.display()))?;
    let prefix = format!("kernel-{}", which.name());
    let mut key = Key::new(&prefix, FORMAT);
    key.text(which.suite());
    key.text(&wanted);
    EARLY.iter().for_each(|module| key.text(module));
    let dir = store.path(format!("{prefix}-{}", key.finish()));
    let done = dir.join("release");
    if !done.exists() {
        apt::ensure_tools(store, &KERNEL_TOOLS, progress)?;
        remove(&dir)?;
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let release = match which {
            Which::UserMode => build_user_mode(store, which, &dir, progress)?,
            Which::Stable | Which::Backports => build_full(store, which, &dir, &image::list(&wanted), progress)?,
        };
        fs::write(&done, release).with_context(|| format!("write {}", done.display()))?;
        store.remove_others(&prefix, &dir)?;
    }
    let release = fs::read_to_string(&done).with_context(|| format!("read {}", done.display()))?;
    key.text(&agent::key()?);
    let key = key.finish();
    let initramfs = dir.join(format!("initramfs-{key}.cpio"));
    if !initramfs.exists() {
        progress.say(format!("kernel {release}: build the agent and the initramfs"));
        for stale in files_below(&dir)?.iter().filter(|file| is_initramfs(file)) {
            remove(stale)?;
        }
        agent::write_initramfs(store, &early_modules(&dir)?, &initramfs)?;
    }
    Ok(Kernel { which, dir, key, release, initramfs })
}

fn is_initramfs(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("initramfs-"))
}

fn build_full(store: &Store, which: Which, dir: &Path, wanted: &[&str], progress: &Progress) -> Result<String> {
    progress.say(format!("kernel: download from {}", which.suite()));
    let apt = Apt::open(store, which.suite(), &[which.suite()])?;
    let versioned = |name: &str, kinds: &[&str]| {
        kinds.iter().any(|kind| name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
    };
    let dependencies = apt.dependencies("linux-image-amd64")?;
    let image = dependencies.into_iter().find(|name| versioned(name, &["linux-image-"]));
    let image = image.context("linux-image-amd64 depends on no kernel")?;
    let mut packages = vec![image.clone()];
    // Since 7.x the image package is empty and these hold the kernel and its modules.
    packages.extend(apt.dependencies(&image)?.into_iter().filter(|name| versioned(name, &["linux-binary-", "linux-modules-"])));
    let scratch = store.scratch()?;
    let root = scratch.join("root");
    fs::create_dir_all(&root).context("create a directory for the kernel")?;
    let debs = apt.download(&packages)?;
    progress.say(format!("kernel: unpack {image}"));
    for deb in debs {
        let excludes: Vec<String> = SKIPPED.iter().map(|dir| format!("--exclude=*/kernel/{dir}")).collect();
        unpack(&deb, &root, &excludes)?;
    }
    let modules = root.join("usr/lib/modules");
    let release = only_entry(&modules)?;
    let tree = modules.join(&release);
    prune(&tree.join("kernel"), wanted)?;
    for leftover in ["build", "source"] {
        remove(&tree.join(leftover))?;
    }
    // Since 7.x it lies beside the modules.
    let boot = root.join("boot");
    let kernel = if boot.is_dir() { files_below(&boot)? } else { vec![tree.join("vmlinuz")] };
    let kernel = kernel.into_iter().find(|file| file.is_file() && file.to_string_lossy().contains("/vmlinu"));
    let kernel = kernel.with_context(|| format!("no kernel in {image}"))?;
    let vmlinux = dir.join("vmlinux");
    fs::write(&vmlinux, extract_vmlinux(&kernel)?).with_context(|| format!("write {}", vmlinux.display()))?;
    remove(&kernel)?;
    depmod(&root, &release)?;
    let early = load_order(&tree, &EARLY)?;
    let place = dir.join("early");
    fs::create_dir_all(&place).with_context(|| format!("create {}", place.display()))?;
    for (index, module) in early.iter().enumerate() {
        let (name, bytes) = decompressed(&tree.join(module))?;
        fs::write(place.join(format!("{index:02}-{name}")), bytes).with_context(|| format!("write {name}"))?;
    }
    make_ext4(&modules, &dir.join("modules.ext4"), "512M")?;
    progress.say(format!("kernel: {release}"));
    Ok(release)
}

fn build_user_mode(store: &Store, which: Which, dir: &Path, progress: &Progress) -> Result<String> {
    progress.say(format!("user-mode-linux: download from {}", which.suite()));
    let apt = Apt::open(store, which.suite(), &[which.suite()])?;
    let packages = ["user-mode-linux", "libc6", "libgcc-s1"].map(str::to_owned);
    let root = dir.join("root");
    fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
    for deb in apt.download(&packages)? {
        unpack(&deb, &root, &["--exclude=./usr/share".to_owned()])?;
    }
    for link in ["lib", "lib64"] {
        let place = root.join(link);
        if !place.exists() {
            std::os::unix::fs::symlink(format!("usr/{link}"), &place).with_context(|| format!("create {link}"))?;
        }
    }
    let modules = root.join("usr/lib/uml/modules");
    let release = only_entry(&modules)?;
    make_ext4(&modules, &dir.join("modules.ext4"), "512M")?;
    remove(&modules)?;
    uml::make_places(&root)?;
    progress.say(format!("user-mode-linux: {release}"));
    Ok(release)
}

fn unpack(deb: &Path, root: &Path, options: &[String]) -> Result<()> {
    let mut reader = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb).stdout(Stdio::piped()).spawn()?;
    let pipe = reader.stdout.take().context("no pipe from dpkg-deb")?;
    let mut tar = Command::new("tar");
    tar.args(["-x", "--no-same-owner", "--keep-directory-symlink", "-C"]).arg(root).args(options).stdin(pipe);
    execute(&mut tar).with_context(|| format!("unpack {}", deb.display()))?;
    match reader.wait()? {
        status if status.success() => Ok(()),
        status => bail!("dpkg-deb of {} ended with {status}", deb.display()),
    }
}

fn only_entry(dir: &Path) -> Result<String> {
    let mut names = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let name = names.next().with_context(|| format!("nothing in {}", dir.display()))??.file_name();
    Ok(name.to_string_lossy().into_owned())
}

/// Removes the modules that are below none of the wanted directories (or are none of the wanted files).
fn prune(kernel: &Path, wanted: &[&str]) -> Result<()> {
    for file in files_below(kernel)? {
        let name = file.strip_prefix(kernel)?.to_string_lossy().into_owned();
        let keep = wanted.iter().any(|place| name.strip_prefix(place).is_some_and(|rest| rest.starts_with('/') || rest.starts_with(".ko")));
        if !keep {
            remove(&file)?;
        }
    }
    Ok(())
}

fn depmod(root: &Path, release: &str) -> Result<()> {
    // trixie's modules are below /usr/lib, an older depmod looks below /lib.
    let lib = root.join("lib");
    if !lib.exists() {
        std::os::unix::fs::symlink("usr/lib", &lib).context("link lib")?;
    }
    execute(Command::new("depmod").env("PATH", path_with_sbin()).arg("-b").arg(root).arg(release))
}

/// The files of `modules` and of all that they depend on, dependencies first, from depmod's `modules.dep`.
fn load_order(tree: &Path, modules: &[&str]) -> Result<Vec<String>> {
    let table = fs::read_to_string(tree.join("modules.dep")).context("read modules.dep")?;
    let mut order: Vec<String> = Vec::new();
    for module in modules {
        let found = table.lines().filter_map(|line| line.split_once(':')).find(|(path, _)| module_name(path) == *module);
        // Not found means built into the kernel.
        let Some((path, dependencies)) = found else { continue };
        // A line names all dependencies, the deepest last.
        for each in dependencies.split_whitespace().rev().chain([path]) {
            if !order.iter().any(|known| known == each) {
                order.push(each.to_owned());
            }
        }
    }
    Ok(order)
}

/// `kernel/fs/9p/9p.ko.xz` → `9p`, with `-` as `_`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn decompressed(module: &Path) -> Result<(String, Vec<u8>)> {
    let bytes = fs::read(module).with_context(|| format!("read {}", module.display()))?;
    let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (name, bytes) = match name.rsplit_once('.') {
        Some((plain, "xz")) => (plain.to_owned(), filter(&["xz", "-dc"], &bytes)?),
        Some((plain, "zst")) => (plain.to_owned(), filter(&["zstd", "-dcq"], &bytes)?),
        _ => (name, bytes),
    };
    Ok((name, bytes))
}

fn early_modules(dir: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let place = dir.join("early");
    let files = if place.exists() { files_below(&place)? } else { Vec::new() };
    let read = |file: &PathBuf| -> Result<(String, Vec<u8>)> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, fs::read(file).with_context(|| format!("read {}", file.display()))?))
    };
    files.iter().map(read).collect()
}

/// Takes the ELF file out of a bzImage (the kernel's `x86/boot.rst`: `setup_sects`, `payload_offset`, `payload_length`).
fn extract_vmlinux(kernel: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(kernel).with_context(|| format!("read {}", kernel.display()))?;
    let word = |at: usize| -> Option<usize> {
        let field: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(field)).ok()
    };
    let header = || -> Option<&[u8]> {
        let sectors = match bytes.get(0x1f1)? {
            0 => 4,
            sectors => usize::from(*sectors),
        };
        let start = (sectors + 1) * 512 + word(0x248)?;
        // The last four bytes are the size of the unpacked file.
        bytes.get(start..start + word(0x24c)?.checked_sub(4)?)
    };
    if bytes.get(0x202..0x206) != Some(b"HdrS") {
        bail!("{} is no bzImage", kernel.display());
    }
    let payload = header().with_context(|| format!("{} has no payload", kernel.display()))?;
    let program: &[&str] = match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => &["zstd", "-dcq"],
        [0xfd, b'7', b'z', ..] => &["xz", "-dc", "--single-stream"],
        _ => bail!("{} is compressed in an unknown way", kernel.display()),
    };
    let vmlinux = filter(program, payload)?;
    if !vmlinux.starts_with(b"\x7fELF") {
        bail!("{} holds no ELF file", kernel.display());
    }
    Ok(vmlinux)
}

/// Sends bytes through a program.
fn filter(argv: &[&str], bytes: &[u8]) -> Result<Vec<u8>> {
    let (program, args) = argv.split_first().context("no program")?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {program}"))?;
    let mut input = child.stdin.take().context("no pipe")?;
    let output = std::thread::scope(|scope| {
        // A program that has all it wants may close its input: its status is what counts.
        scope.spawn(move || input.write_all(bytes));
        child.wait_with_output()
    })?;
    if !output.status.success() {
        bail!("{program} ended with {}", output.status);
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names_have_no_path_and_no_dash() {
        assert_eq!(module_name("kernel/drivers/char/hw_random/virtio-rng.ko.xz"), "virtio_rng");
        assert_eq!(module_name("kernel/fs/9p/9p.ko"), "9p");
    }
}
