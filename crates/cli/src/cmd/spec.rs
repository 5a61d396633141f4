//! `spec`: writes a default configuration. Not here: what it says (`runtime_core::spec::DefaultSpec`).

use super::{Command, Context};
use crate::args::{self, Stop, Typed};
use crate::output;
use clap::ArgMatches;
use runtime_core::spec::DefaultSpec;
use runtime_core::{Context as _, ErrorKind, Result};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

pub(super) const COMMAND: Command = Command { name: "spec", about: "generate a configuration file", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    args::with_operands(args::command(typed, "spec", "spec [OPTION]...", "Write a default configuration"))
        .args(typed.only(args::value("bundle", "DIR", "Bundle directory, \".\" by default").short('b')))
        .args(typed.only(args::value("file", "PATH", "File to write, relative to the bundle; \"config.json\" by default").short('f')))
        .args(typed.only(args::flag("rootless", "For a user without privileges")))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    args::operands(m, "spec", 0, 0)?;
    let bundle = args::path(m, "bundle").unwrap_or_else(|| ".".into());
    let file = args::path(m, "file").unwrap_or_else(|| "config.json".into());
    let spec = DefaultSpec {
        hostname: context.persona.name(),
        rootless: args::is_set(m, "rootless"),
        cgroup_namespace: is_unified(Path::new("/sys/fs/cgroup")),
    };
    write(&bundle, &file, &(output::pretty(&spec.build())? + "\n"))?;
    Ok(0)
}

/// Whether the cgroup tree is version 2 alone.
fn is_unified(mount_point: &Path) -> bool {
    const CGROUP2_SUPER_MAGIC: rustix::fs::FsWord = 0x6367_7270;
    rustix::fs::statfs(mount_point).is_ok_and(|s| s.f_type == CGROUP2_SUPER_MAGIC)
}

/// Writes a file that must not exist yet.
fn write(bundle: &Path, file: &Path, text: &str) -> Result<()> {
    let path = bundle.join(file);
    let mut to = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(runtime_core::Error::new(ErrorKind::AlreadyExists, format!("`{}` already exists", file.display())));
        }
        opened => opened.context(|| format!("open `{}`", path.display()))?,
    };
    to.write_all(text.as_bytes()).context(|| format!("write `{}`", path.display())).inspect_err(|_| {
        // Half a configuration helps nobody, and would be in the way of the next try.
        let _ = std::fs::remove_file(&path);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), Path::new("config.json"), "1").unwrap();
        let e = write(dir.path(), Path::new("config.json"), "2").unwrap_err();
        assert_eq!(e.to_string(), "`config.json` already exists");
        assert_eq!(std::fs::read_to_string(dir.path().join("config.json")).unwrap(), "1");
    }

    #[test]
    fn a_missing_bundle_is_named() {
        let e = write(Path::new("/nonexistent"), Path::new("config.json"), "").unwrap_err();
        assert_eq!(e.to_string(), "open `/nonexistent/config.json`: No such file or directory");
    }

    #[test]
    fn the_unified_tree_is_told_by_its_file_system() {
        assert!(!is_unified(Path::new("/proc")));
        assert!(!is_unified(Path::new("/nonexistent")));
    }
}
