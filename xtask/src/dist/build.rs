//! Builds for packages: the program, static or dynamic, and its man pages and completions, in whatever directory the sources are, without a trace
//! of that directory. Not here: builds for tests (`binaries.rs`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::notices;
use crate::binaries;
use crate::store::{self, capture, execute, remove, workspace};
use crate::{host, order};

/// Where packages show the sources to be, whoever builds them: for panics and debuggers.
const SHOWN: &str = "/usr/src/pinnace";

/// How the program is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Static,
    Dynamic,
}

impl Link {
    /// Its word in names of files.
    pub fn name(self) -> &'static str {
        match self {
            Link::Static => "static",
            Link::Dynamic => "dynamic",
        }
    }
}

/// Sources to be built, and what makes equal sources equal programs.
#[derive(Debug, Clone)]
pub struct Build {
    /// The project's directory.
    pub source: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
    /// The version of the program.
    pub version: String,
    /// The time that files get, in seconds since 1970: `SOURCE_DATE_EPOCH` where it is set, else the commit's.
    pub epoch: u64,
    /// The commit that the program shows.
    commit: String,
    /// Cargo's directory of registries.
    home: PathBuf,
}

impl Build {
    /// The project as it is here.
    ///
    /// # Errors
    /// There is neither git nor `SOURCE_DATE_EPOCH` to tell a time.
    pub fn here() -> Result<Build> {
        let source = workspace().canonicalize().context("resolve the project's directory")?;
        let mut cargo = cargo(&source);
        let said = capture(cargo.args(["metadata", "--format-version", "1", "--no-deps", "--locked"]))?;
        let metadata: Value = serde_json::from_str(&said).context("read cargo metadata")?;
        let target = metadata["target_directory"].as_str().context("cargo metadata tells no target_directory")?.into();
        let mut packages = metadata["packages"].as_array().into_iter().flatten();
        let cli = packages.find(|package| package["name"] == "pinnace-cli").context("cargo metadata tells of no pinnace-cli")?;
        let version = cli["version"].as_str().context("pinnace-cli has no version")?.to_owned();
        let git = |words: &[&str]| capture(Command::new("git").args(words).current_dir(&source)).map(|said| said.trim().to_owned());
        let given = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let epoch = match given("SOURCE_DATE_EPOCH") {
            Some(text) => text,
            None => git(&["log", "-1", "--format=%ct"]).context("no SOURCE_DATE_EPOCH is set, and git tells no commit")?,
        };
        let epoch = epoch.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {epoch}, not a number of seconds"))?;
        let commit = match given("PINNACE_COMMIT") {
            Some(commit) => commit,
            None => git(&["rev-parse", "HEAD"]).unwrap_or_else(|_| "unknown".to_owned()),
        };
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home =
            home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"))).context("neither CARGO_HOME nor HOME is set")?;
        Ok(Build { source, target, version, epoch, commit, home })
    }

    /// The same sources in another directory, with a target directory of their own.
    pub fn elsewhere(&self, source: PathBuf, target: PathBuf) -> Build {
        Build { source, target, ..self.clone() }
    }

    /// The target directory of one way to link: where paths are remapped, cargo does not tell builds with different flags apart, and each would
    /// throw the other's away.
    pub fn target_of(&self, link: Link) -> PathBuf {
        self.target.join("dist").join(link.name())
    }

    /// What it has for the machine's own architecture.
    ///
    /// # Errors
    /// rustc does not tell the architecture.
    pub fn release_dir(&self, link: Link) -> Result<PathBuf> {
        Ok(self.target_of(link).join(host::triple()?).join("release"))
    }

    /// Builds the program with its default features.
    ///
    /// # Errors
    /// It does not build, or is not linked as it was to be.
    pub fn program(&self, link: Link) -> Result<PathBuf> {
        let arguments = ["--locked", "--release", "--package", "pinnace-cli", "--bin", "pinnace", "--target", host::triple()?];
        let cargo = || {
            let mut command = self.cargo();
            command.env("CARGO_TARGET_DIR", self.target_of(link));
            command.env("CARGO_ENCODED_RUSTFLAGS", self.flags(link).join("\x1f")).env_remove("RUSTFLAGS");
            command
        };
        let program = self.release_dir(link)?.join("pinnace");
        match link {
            Link::Static => {
                let cargo = || {
                    let mut command = cargo();
                    binaries::static_libseccomp(&mut command);
                    command
                };
                order::link(cargo, &arguments, &self.source, &program)?;
            }
            Link::Dynamic => execute(cargo().arg("build").args(arguments))?,
        }
        if host::is_static(&program) != (link == Link::Static) {
            bail!("{} was to be {}, and is not", program.display(), link.name());
        }
        Ok(program)
    }

    /// Flags for rustc: how it links, and what it shows in place of directories of this machine. The last that fits counts.
    fn flags(&self, link: Link) -> Vec<String> {
        let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
        let mut flags = vec![
            remap(&self.home.join("registry/src"), "/usr/share/cargo/registry"),
            remap(&self.source, SHOWN),
            remap(&self.target_of(link), &format!("{SHOWN}/target")),
        ];
        if link == Link::Static {
            flags.extend(binaries::STATIC.split(' ').chain(order::FLAGS.split(' ')).map(str::to_owned));
        }
        flags
    }

    /// Writes man pages, completions and the licences of others, and gives their directory.
    ///
    /// # Errors
    /// The program that writes the first two does not build or fails, or a dependency tells no licence.
    pub fn paperwork(&self) -> Result<PathBuf> {
        let directory = self.target.join("dist/paperwork");
        remove(&directory)?;
        fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        let mut command = self.cargo();
        command.args(["run", "--quiet", "--locked", "--package", "pinnace-cli", "--example", "paperwork", "--"]).arg(&directory);
        execute(&mut command)?;
        notices::write(self, &directory)?;
        Ok(directory)
    }

    /// A cargo in these sources.
    pub fn cargo(&self) -> Command {
        let mut command = cargo(&self.source);
        command.env("CARGO_TARGET_DIR", &self.target);
        command.env("SOURCE_DATE_EPOCH", self.epoch.to_string()).env("PINNACE_COMMIT", &self.commit);
        command
    }
}

fn cargo(directory: &Path) -> Command {
    let mut command = Command::new(store::cargo());
    command.current_dir(directory);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build() -> Build {
        let path = PathBuf::from;
        Build { source: path("/s"), target: path("/s/t"), version: "1.2.3".into(), epoch: 7, commit: "c".into(), home: path("/h") }
    }

    #[test]
    fn directories_of_the_machine_are_shown_as_others() {
        let expected = [
            "--remap-path-prefix=/h/registry/src=/usr/share/cargo/registry",
            "--remap-path-prefix=/s=/usr/src/pinnace",
            "--remap-path-prefix=/s/t/dist/dynamic=/usr/src/pinnace/target",
        ];
        assert_eq!(build().flags(Link::Dynamic), expected);
        assert_eq!(build().flags(Link::Static)[3..], ["-C", "target-feature=+crt-static", "-C", "symbol-mangling-version=v0"]);
    }

    #[test]
    fn a_copy_is_the_same_build_in_other_directories() {
        let copy = build().elsewhere("/a".into(), "/b".into());
        assert_eq!((copy.source.as_path(), copy.target.as_path()), (Path::new("/a"), Path::new("/b")));
        assert_eq!((copy.epoch, copy.commit.as_str(), copy.version.as_str()), (7, "c", "1.2.3"));
    }
}
