//! The .deb and the .rpm: the tools that write them, and what shows that they install what they should and leave nothing behind. Not here: what goes
//! into them (`layout.rs`, and the metadata of `crates/cli/Cargo.toml`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::archive;
use super::build::{Build, Link};
use super::layout::Staged;
use crate::host;
use crate::store::{self, Progress, capture, execute, files_below, remove, workspace};

/// A program of a registry that is installed below the target directory, at the version that is known to work.
struct Tool {
    name: &'static str,
    version: &'static str,
}

const CARGO_DEB: Tool = Tool { name: "cargo-deb", version: "3.8.0" };
const CARGO_GENERATE_RPM: Tool = Tool { name: "cargo-generate-rpm", version: "0.21.1" };

impl Tool {
    fn path(&self) -> PathBuf {
        workspace().join("target/tools/bin").join(self.name)
    }

    /// Installs it where it is missing or of another version, and says so.
    fn ensure(&self, progress: &Progress) -> Result<PathBuf> {
        let path = self.path();
        if installed(&path).as_deref() == Some(self.version) {
            return Ok(path);
        }
        let root = workspace().join("target/tools");
        progress.say(format!("install {} {} into {}, once; this takes minutes", self.name, self.version, root.display()));
        let mut cargo = Command::new(store::cargo());
        cargo.args(["install", "--quiet", "--locked", "--force", "--version", self.version, self.name, "--root"]).arg(&root);
        // Not in our own target directory, whose lock it would hold.
        cargo.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS").current_dir(std::env::temp_dir());
        execute(&mut cargo)?;
        match installed(&path) {
            Some(version) if version == self.version => Ok(path),
            other => bail!("{} was installed, but says it is {other:?}, not {}", path.display(), self.version),
        }
    }
}

/// The version that a tool tells: the last word of what it prints.
fn installed(path: &Path) -> Option<String> {
    let output = Command::new(path).arg("--version").stderr(Stdio::null()).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.split_whitespace().last().map(str::to_owned)
}

/// Both tools, installed.
pub struct Tools {
    deb: PathBuf,
    rpm: PathBuf,
}

impl Tools {
    /// Installs what is missing.
    ///
    /// # Errors
    /// A tool does not build, or is of another version than asked for.
    pub fn ensure(progress: &Progress) -> Result<Tools> {
        Ok(Tools { deb: CARGO_DEB.ensure(progress)?, rpm: CARGO_GENERATE_RPM.ensure(progress)? })
    }

    /// Packs what is staged for the static program as a .deb in the directory `out`.
    ///
    /// # Errors
    /// The tool's, whose words are on standard error.
    pub fn deb(&self, build: &Build, out: &Path) -> Result<PathBuf> {
        let path = out.join(format!("pinnace_{}-1_{}.deb", build.version, debian_architecture()));
        let mut tool = self.tool(&self.deb, build);
        tool.args(["--quiet", "--no-build", "--no-strip", "--no-dbgsym", "--target", host::triple()?]);
        tool.arg("--manifest-path").arg(build.source.join("crates/cli/Cargo.toml")).arg("--output").arg(&path);
        execute(&mut tool)?;
        Ok(path)
    }

    /// Packs it as an .rpm.
    ///
    /// # Errors
    /// The tool's, whose words are on standard error.
    pub fn rpm(&self, build: &Build, out: &Path) -> Result<PathBuf> {
        let path = out.join(format!("pinnace-{}-1.{}.rpm", build.version, std::env::consts::ARCH));
        let mut tool = self.tool(&self.rpm, build);
        tool.args(["--package", "crates/cli", "--target", host::triple()?, "--payload-compress", "gzip"]);
        tool.arg("--target-dir").arg(build.target_of(Link::Static)).arg("--output").arg(&path);
        execute(&mut tool)?;
        Ok(path)
    }

    fn tool(&self, path: &Path, build: &Build) -> Command {
        let mut command = Command::new(path);
        command
            .current_dir(&build.source)
            .env("CARGO_TARGET_DIR", build.target_of(Link::Static))
            .env("SOURCE_DATE_EPOCH", build.epoch.to_string());
        command
    }
}

/// Debian's word for the architecture.
fn debian_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Where a package has what is staged.
fn installed_paths(files: &[Staged]) -> BTreeSet<String> {
    files.iter().map(|file| format!("usr/{}", file.to)).collect()
}

/// A .deb has its copyright file besides, which the tool makes.
fn in_deb(files: &[Staged]) -> BTreeSet<String> {
    installed_paths(files).into_iter().chain(["usr/share/doc/pinnace/copyright".to_owned()]).collect()
}

/// That a .deb has just the staged files, with their modes, of root, and no scripts; and, for root, that a scratch system gets them and has
/// nothing left when the package is purged.
///
/// # Errors
/// What is too much, missing or left.
pub fn check_deb(deb: &Path, files: &[Staged], scratch: &Path) -> Result<()> {
    let members = archive::members(piped(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb))?.as_slice())?;
    let of_others = members.iter().find(|member| (member.about.1, member.about.2) != (0, 0));
    if let Some(member) = of_others {
        bail!("{} in {} is not of root", member.path, deb.display());
    }
    let listed: BTreeSet<String> = members.iter().filter(|member| !member.path.ends_with('/')).map(|member| member.path.clone()).collect();
    same(&in_deb(files), &listed, deb)?;
    for file in files {
        let path = format!("usr/{}", file.to);
        let member = members.iter().find(|member| member.path == path).context("it was listed")?;
        let body = fs::read(&file.file).with_context(|| format!("read {}", file.file.display()))?;
        if member.about.0 & 0o7777 != file.mode || member.body != body {
            bail!("{path} in {} is not what was staged", deb.display());
        }
    }
    let control = archive::members(piped(Command::new("dpkg-deb").arg("--ctrl-tarfile").arg(deb))?.as_slice())?;
    let control: BTreeSet<String> = control.into_iter().map(|member| member.path).filter(|path| !path.is_empty() && path != ".").collect();
    if let Some(script) = control.iter().find(|name| !["control", "md5sums"].contains(&name.as_str())) {
        bail!("{} has {script} among its control files", deb.display());
    }
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let root = fresh(scratch)?;
    let admin = root.join("var/lib/dpkg");
    for dir in ["info", "updates"] {
        fs::create_dir_all(admin.join(dir)).with_context(|| format!("create {}", admin.display()))?;
    }
    fs::write(admin.join("status"), "").with_context(|| format!("write {}/status", admin.display()))?;
    let dpkg = || {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", root.display())).args(["--log=/dev/null", "--force-unsafe-io"]);
        dpkg
    };
    execute(dpkg().arg("--install").arg(deb))?;
    same(&in_deb(files), &below(&root, "var/")?, deb)?;
    runs(&root.join("usr/bin/pinnace"))?;
    execute(dpkg().args(["--purge", "pinnace"]))?;
    nothing_left(&root, "var", deb)
}

/// The same of an .rpm.
///
/// # Errors
/// What is too much, missing or left.
pub fn check_rpm(rpm: &Path, files: &[Staged], scratch: &Path) -> Result<()> {
    let query =
        |format: &str| capture(Command::new("rpm").args(["--query", "--nosignature", "--queryformat", format, "--package"]).arg(rpm));
    let mut listed = BTreeSet::new();
    for line in query("[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILENAMES}\\n]")?.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let [perms, "root", "root", path] = words[..] else { bail!("{line} in {} is not of root", rpm.display()) };
        if perms.starts_with('d') {
            continue;
        }
        let file = files.iter().find(|file| path == format!("/usr/{}", file.to)).with_context(|| format!("{path} was not staged"))?;
        let expected = if file.mode == 0o755 { "-rwxr-xr-x" } else { "-rw-r--r--" };
        if perms != expected {
            bail!("{path} in {} has the mode {perms}, not {expected}", rpm.display());
        }
        listed.insert(path.trim_start_matches('/').to_owned());
    }
    same(&installed_paths(files), &listed, rpm)?;
    let scripts = query("%{PREIN}%{POSTIN}%{PREUN}%{PRETRANS}%{POSTTRANS}")?;
    // The one for after the removal takes directories away: what is left shows below.
    if !scripts.replace("(none)", "").is_empty() {
        bail!("{} has scripts: {scripts}", rpm.display());
    }
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let root = fresh(scratch)?;
    // Dependencies on rpm's own features concern the empty database only.
    let tool = || {
        let mut tool = Command::new("rpm");
        tool.arg("--root").arg(&root).args(["--dbpath", "/rpmdb", "--nodeps", "--nosignature"]);
        tool
    };
    execute(tool().arg("--install").arg(rpm))?;
    same(&installed_paths(files), &below(&root, "rpmdb/")?, rpm)?;
    runs(&root.join("usr/bin/pinnace"))?;
    execute(tool().args(["--erase", "pinnace"]))?;
    nothing_left(&root, "rpmdb", rpm)
}

fn fresh(scratch: &Path) -> Result<PathBuf> {
    remove(scratch)?;
    fs::create_dir_all(scratch).with_context(|| format!("create {}", scratch.display()))?;
    scratch.canonicalize().with_context(|| format!("resolve {}", scratch.display()))
}

/// The files below `root`, but for those below `own`, relative to it.
fn below(root: &Path, own: &str) -> Result<BTreeSet<String>> {
    let files = files_below(root)?;
    let relative = files.iter().filter_map(|file| file.strip_prefix(root).ok()?.to_str());
    Ok(relative.filter(|path| !path.starts_with(own)).map(str::to_owned).collect())
}

/// Nothing below `root` is of the package any more: neither files nor directories, but the package manager's own and those that every
/// system has.
fn nothing_left(root: &Path, own: &str, package: &Path) -> Result<()> {
    let files = below(root, &format!("{own}/"))?;
    let mut left: Vec<String> = files.into_iter().collect();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let path = entry?.path();
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if path.is_dir() && name != own {
                if name.contains("pinnace") {
                    left.push(name);
                }
                dirs.push(path);
            }
        }
    }
    match left.is_empty() {
        true => Ok(()),
        false => bail!("{} leaves behind when it is removed: {}", package.display(), left.join(", ")),
    }
}

/// The installed program starts.
fn runs(program: &Path) -> Result<()> {
    let said = capture(Command::new(program).arg("--version"))?;
    if !said.starts_with("pinnace version ") {
        bail!("{} says it is {said}", program.display());
    }
    Ok(())
}

fn same(expected: &BTreeSet<String>, found: &BTreeSet<String>, package: &Path) -> Result<()> {
    let list = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>().join(", ");
    match (list(expected, found), list(found, expected)) {
        (missing, more) if missing.is_empty() && more.is_empty() => Ok(()),
        (missing, more) => bail!("{} lacks [{missing}] and has [{more}] too much", package.display()),
    }
}

/// What a program writes, as bytes.
fn piped(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("start {name}"))?;
    if !output.status.success() {
        bail!("{name} ended with {}", output.status);
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert!(same(&set(&["a", "b"]), &set(&["b", "a"]), Path::new("p")).is_ok());
        let error = same(&set(&["a", "b"]), &set(&["b", "c"]), Path::new("p")).expect_err("they differ");
        assert_eq!(error.to_string(), "p lacks [a] and has [c] too much");
    }

    #[test]
    fn what_is_left_is_named() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("var/lib/dpkg")).expect("make a directory");
        fs::create_dir_all(root.path().join("usr/bin")).expect("make a directory");
        nothing_left(root.path(), "var", Path::new("p")).expect("directories of every system are nobody's");
        fs::create_dir_all(root.path().join("usr/share/pinnace")).expect("make a directory");
        fs::write(root.path().join("usr/bin/x"), "").expect("write");
        let error = nothing_left(root.path(), "var", Path::new("p")).expect_err("two things are left");
        assert_eq!(error.to_string(), "p leaves behind when it is removed: usr/bin/x, usr/share/pinnace");
    }

    #[test]
    fn a_tool_that_is_not_there_has_no_version() {
        assert_eq!(installed(Path::new("/nonexistent/tool")), None);
    }
}
