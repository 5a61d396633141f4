//! What this machine has for a build, and its package manager for what it lacks.
//!
//! Here: the host's target triple, where its static libraries are, and the installation of missing packages on Debian
//! and Fedora and what derives from them. Not here: the packages of the test machines (`vm/apt.rs`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::store::capture;

/// How a need shows that it is met.
#[derive(Debug, Clone, Copy)]
pub enum Sign {
    /// A program in `$PATH` or among the administrator's.
    Program(&'static str),
    /// The same, linked statically, so that it runs in a root file system without libraries.
    Static(&'static str),
    /// A file that the C compiler's linker finds, such as `libseccomp.a`.
    Library(&'static str),
    /// A file by its path.
    File(&'static str),
    /// The standard library for one of these targets, of the distribution's Rust compiler.
    RustTarget(&'static [&'static str]),
}

/// Something the work needs, by the packages that bring it.
#[derive(Debug)]
pub struct Need {
    sign: Sign,
    /// What for, to be read by a person.
    why: &'static str,
    apt: &'static str,
    dnf: &'static str,
}

impl Need {
    /// A need by how it shows, what it is for, and its packages.
    pub const fn new(sign: Sign, why: &'static str, apt: &'static str, dnf: &'static str) -> Need {
        Need { sign, why, apt, dnf }
    }

    fn met(&self) -> bool {
        match self.sign {
            Sign::Program(name) => program(name).is_some(),
            Sign::Static(name) => static_program(name).is_some(),
            Sign::Library(name) => library(name).is_some(),
            Sign::File(path) => Path::new(path).is_file(),
            Sign::RustTarget(names) => names.iter().any(|name| rust_target(name)),
        }
    }

    fn package(&self, manager: Manager) -> &'static str {
        match manager {
            Manager::Apt => self.apt,
            Manager::Dnf => self.dnf,
        }
    }
}

/// What the build of the static binary needs.
pub const BUILD: [Need; 4] = [
    Need::new(Sign::Program("cc"), "links", "gcc", "gcc"),
    Need::new(Sign::Library("libc.a"), "the static C library", "libc6-dev", "glibc-static"),
    Need::new(Sign::Library("libseccomp.a"), "compiles seccomp filters, linked statically", "libseccomp-dev", "libseccomp-static"),
    Need::new(Sign::Library("libseccomp.so"), "the same for development builds", "libseccomp-dev", "libseccomp-devel"),
];

/// What tests need beside the build. A test whose program is missing is skipped by name, so these may be refused.
pub const TESTS: [Need; 4] = [
    Need::new(Sign::Program("strace"), "counts system calls", "strace", "strace"),
    Need::new(Sign::Program("newuidmap"), "maps the ids of unprivileged users", "uidmap", "shadow-utils"),
    Need::new(Sign::Program("setpriv"), "becomes another user", "util-linux", "util-linux"),
    Need::new(Sign::Program("unshare"), "asks for namespaces", "util-linux", "util-linux"),
];

/// The machine's package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Debian and its kin.
    Apt,
    /// Fedora and its kin.
    Dnf,
}

impl Manager {
    /// The one that is installed.
    pub fn find() -> Option<Manager> {
        [("apt-get", Manager::Apt), ("dnf", Manager::Dnf)].into_iter().find(|(name, _)| program(name).is_some()).map(|(_, found)| found)
    }

    /// The command that installs packages, as a person would type it.
    fn words(self, packages: &[&str]) -> Vec<String> {
        let fixed: &[&str] = match self {
            Manager::Apt => &["apt-get", "install", "--yes", "--no-install-recommends"],
            Manager::Dnf => &["dnf", "install", "--assumeyes", "--setopt=install_weak_deps=False"],
        };
        fixed.iter().chain(packages).map(|word| (*word).to_owned()).collect()
    }

    fn install(self, packages: &[&str]) -> Result<()> {
        let words = self.words(packages);
        eprintln!("xtask: {}", words.join(" "));
        if quiet(&words)?.is_ok() {
            return Ok(());
        }
        // A new machine's lists of packages may be missing or old.
        if self == Manager::Apt {
            let update = ["apt-get".to_owned(), "update".to_owned()];
            eprintln!("xtask: {}", update.join(" "));
            quiet(&update)?.map_err(|said| anyhow::anyhow!("apt-get update failed:\n{said}"))?;
        }
        quiet(&words)?.map_err(|said| anyhow::anyhow!("{} failed:\n{said}", words.join(" ")))
    }
}

/// Runs a command without a terminal; what it said if it fails.
fn quiet(words: &[String]) -> Result<std::result::Result<(), String>> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    let output = command.output().with_context(|| format!("start {}", words[0]))?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    Ok(Err(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)))
}

/// Sees to it that all of `needs` are met, and says what was installed.
///
/// # Errors
/// When something is missing and cannot be installed: the text says what a person has to do.
pub fn ensure(needs: &[&Need]) -> Result<Vec<String>> {
    let missing: Vec<&Need> = needs.iter().copied().filter(|need| !need.met()).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let list =
        |package: &dyn Fn(&Need) -> String| missing.iter().map(|need| format!("  {} ({})\n", package(need), need.why)).collect::<String>();
    let Some(manager) = Manager::find() else {
        let names = list(&|need| match need.sign {
            Sign::Program(name) | Sign::Static(name) | Sign::Library(name) | Sign::File(name) => name.to_owned(),
            Sign::RustTarget(names) => names.join(" or "),
        });
        bail!("this machine has neither apt-get nor dnf, and lacks:\n{names}");
    };
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package(manager)).collect();
    packages.sort_unstable();
    packages.dedup();
    if !rustix::process::geteuid().is_root() {
        let words = manager.words(&packages).join(" ");
        bail!("these packages are missing:\n{}install them: sudo {words}", list(&|need| need.package(manager).to_owned()));
    }
    manager.install(&packages)?;
    if let Some(need) = missing.iter().find(|need| !need.met()) {
        bail!("the package {} was installed, but {:?} is still missing", need.package(manager), need.sign);
    }
    Ok(packages.iter().map(|name| (*name).to_owned()).collect())
}

/// The path of a program, looked up as a shell with an administrator's path would.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/usr/bin:/bin";
    path.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

/// The path of a program that is linked statically.
pub fn static_program(name: &str) -> Option<PathBuf> {
    program(name).filter(|path| is_static(path))
}

/// The path of a library's file for the linker. The C compiler is asked, as each architecture has its own directories.
pub fn library(name: &str) -> Option<PathBuf> {
    let output = Command::new("cc").arg(format!("-print-file-name={name}")).stderr(Stdio::null()).output().ok()?;
    // An unknown name is printed as it is.
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    path.is_absolute().then(|| path.canonicalize().ok()).flatten()
}

/// Whether the distribution's Rust compiler has the standard library for a target.
pub fn rust_target(name: &str) -> bool {
    Path::new("/usr/lib/rustlib").join(name).join("lib").is_dir()
}

/// The triple that rustc builds for by default, such as `x86_64-unknown-linux-gnu`.
pub fn triple() -> Result<&'static str> {
    static TRIPLE: OnceLock<String> = OnceLock::new();
    if let Some(known) = TRIPLE.get() {
        return Ok(known);
    }
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = capture(Command::new(rustc).arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    Ok(TRIPLE.get_or_init(|| host.to_owned()))
}

/// A 64-bit little-endian ELF program without an interpreter (elf(5): no PT_INTERP among the program headers).
pub fn is_static(path: &Path) -> bool {
    let Ok(body) = std::fs::read(path) else { return false };
    let bytes = |at: usize, count: usize| body.get(at..at + count);
    let half = |at: usize| bytes(at, 2).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    if !body.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let Some(start) = bytes(32, 8).and_then(|b| usize::try_from(u64::from_le_bytes(b.try_into().ok()?)).ok()) else { return false };
    let (size, count) = (half(54), half(56));
    const PT_INTERP: [u8; 4] = [3, 0, 0, 0];
    !(0..count).any(|n| start.checked_add(n * size).and_then(|at| bytes(at, 4)) == Some(&PT_INTERP[..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_dynamic_and_its_text_no_program() {
        assert!(!is_static(Path::new("/proc/self/exe")));
        assert!(!is_static(&Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")));
    }

    #[test]
    fn the_host_triple_names_this_architecture() {
        assert!(triple().expect("rustc runs").starts_with(std::env::consts::ARCH));
    }

    #[test]
    fn commands_are_those_of_the_distribution() {
        assert_eq!(Manager::Apt.words(&["a", "b"]).join(" "), "apt-get install --yes --no-install-recommends a b");
        assert_eq!(Manager::Dnf.words(&["a"]).join(" "), "dnf install --assumeyes --setopt=install_weak_deps=False a");
    }

    #[test]
    fn a_met_need_installs_nothing() {
        let need = Need::new(Sign::Program("sh"), "", "none", "none");
        assert!(ensure(&[&need]).expect("nothing to do").is_empty());
    }
}
