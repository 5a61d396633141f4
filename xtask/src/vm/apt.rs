//! Debian's packages without touching the machine's own package sources: a private apt configuration for every suite.
//!
//! Here: which mirror the machine uses, `apt-get update` and `download` for a suite into the store, and the installation
//! of the few tools that the build needs. Not here: what is made of the packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::store::{Progress, Store, capture, execute};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const PUBLIC_MIRROR: &str = "http://deb.debian.org/debian";

/// The Debian mirror that the machine itself uses, or the public one.
pub fn mirror() -> Result<String> {
    let targets = capture(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)"]))?;
    let own = targets.lines().filter_map(|line| line.split_once(' ')).find_map(|(uri, release)| {
        let debian = uri.trim_end_matches('/').ends_with("/debian");
        (debian && !release.contains('-')).then(|| uri.trim_end_matches('/').to_owned())
    });
    Ok(own.unwrap_or_else(|| PUBLIC_MIRROR.to_owned()))
}

/// A line for a list of sources.
pub fn source(mirror: &str, suite: &str) -> String {
    format!("deb [signed-by={KEYRING}] {mirror} {suite} main")
}

/// One or more suites with lists of their own in the store.
pub struct Apt {
    config: PathBuf,
    debs: PathBuf,
}

impl Apt {
    /// Writes the configuration for `suites` under the name `name` and fetches their lists.
    pub fn open(store: &Store, name: &str, suites: &[&str]) -> Result<Apt> {
        let mirror = mirror()?;
        let dir = store.dir(format!("apt/{name}"))?;
        for sub in ["lists/partial", "cache/archives/partial", "preferences.d"] {
            store.dir(format!("apt/{name}/{sub}"))?;
        }
        let sources: String = suites.iter().map(|suite| source(&mirror, suite) + "\n").collect();
        write(&dir.join("sources.list"), &sources)?;
        let config = dir.join("apt.conf");
        let text = format!(
            "Dir::Etc::sourcelist \"{0}/sources.list\";\nDir::Etc::sourceparts \"-\";\nDir::Etc::preferencesparts \"{0}/preferences.d\";\n\
             Dir::State::lists \"{0}/lists\";\nDir::Cache \"{0}/cache\";\nAcquire::Languages \"none\";\n\
             APT::Install-Recommends \"false\";\nAPT::Sandbox::User \"root\";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n",
            dir.display()
        );
        write(&config, &text)?;
        let apt = Apt { config, debs: store.dir(format!("debs/{name}"))? };
        execute(apt.command("apt-get").args(["-qq", "update"])).with_context(|| format!("fetch the lists of {name}"))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.config).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
        command
    }

    /// The packages that `package` depends on, first choices only.
    pub fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let shown = capture(self.command("apt-cache").args(["show", "--no-all-versions", package]))?;
        let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap_or_default();
        let first = |entry: &str| entry.split(['|', '(']).next().unwrap_or_default().trim().to_owned();
        Ok(depends.split(',').map(first).filter(|name| !name.is_empty()).collect())
    }

    /// Downloads packages into the store's cache, unless they are there, and returns the files.
    pub fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        packages.iter().map(|package| self.download_one(package)).collect()
    }

    fn download_one(&self, package: &str) -> Result<PathBuf> {
        let uris = capture(self.command("apt-get").args(["-qq", "download", "--print-uris", package]))?;
        // 'http://…/libc6_2.41_amd64.deb' libc6_2.41_amd64.deb 123456 SHA256:…
        let name = uris.split_whitespace().nth(1).with_context(|| format!("no download for {package}"))?;
        let file = self.debs.join(name);
        if !file.exists() {
            let mut command = self.command("apt-get");
            execute(command.args(["-qq", "download", package]).current_dir(&self.debs)).with_context(|| format!("download {package}"))?;
        }
        if !file.exists() {
            bail!("apt-get download {package} left no {}", file.display());
        }
        Ok(file)
    }

    fn install(&self, packages: &[&str], release: Option<&str>) -> Result<()> {
        let mut command = self.command("apt-get");
        command.args(["-qq", "-y", "-o", "Dpkg::Use-Pty=0", "install", "--no-install-recommends"]);
        if let Some(release) = release {
            command.args(["-t", release]);
        }
        let log = self.config.with_file_name("install.log");
        let file = fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        command.args(packages).stdout(file.try_clone()?).stderr(file);
        if !command.status().context("start apt-get")?.success() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            bail!("install {}:\n{said}", packages.join(" "));
        }
        Ok(())
    }
}

/// A program the build calls and the package that has it.
type Tool = (&'static str, &'static str);

/// What the root file system needs.
pub const IMAGE_TOOLS: [Tool; 2] = [("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs")];
/// What the kernels need.
pub const KERNEL_TOOLS: [Tool; 3] = [("zstd", "zstd"), ("xz", "xz-utils"), ("depmod", "kmod")];
/// What the full lane needs.
pub const QEMU_TOOLS: [Tool; 2] = [("qemu-system-x86_64", "qemu-system-x86"), ("qemu-img", "qemu-utils")];

/// Installs the packages of the tools that are missing.
///
/// QEMU must be 8.2 or newer (migration to a file), so on Debian 12 it comes from bookworm-backports.
pub fn ensure_tools(store: &Store, tools: &[Tool], progress: &Progress) -> Result<()> {
    let missing: Vec<&str> = tools.iter().filter(|(tool, _)| !on_path(tool)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!("missing {}: install them, or run this as root", missing.join(" "));
    }
    progress.say(format!("apt-get install {}", missing.join(" ")));
    let codename = codename()?;
    let backports = format!("{codename}-backports");
    let old = codename == "bookworm";
    let suites = if old { vec![codename.as_str(), backports.as_str()] } else { vec![codename.as_str()] };
    let apt = Apt::open(store, "tools", &suites)?;
    let of_qemu = missing.iter().any(|package| package.starts_with("qemu"));
    apt.install(&missing, (old && of_qemu).then_some(backports.as_str()))
}

fn codename() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let name = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.context("no VERSION_CODENAME in /etc/os-release: the build installs its tools on Debian only")?.to_owned())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').any(|dir| Path::new(dir).join(program).is_file())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
