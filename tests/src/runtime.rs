//! Which runtime is under test: its path, its kind and what its `spec` writes. Running it is in `command`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::executable;

/// Whose runtime it is, by the first word of `--version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The project's own.
    Pinnace,
    /// crun, the oracle.
    Crun,
    /// Any other.
    Other,
}

/// The runtime under test.
#[derive(Debug)]
pub struct Runtime {
    /// Absolute path of the binary.
    pub path: PathBuf,
    /// Whose it is.
    pub kind: Kind,
    /// The first line of `--version`.
    pub version: String,
}

impl Runtime {
    /// The runtime, looked up at the first call.
    ///
    /// # Panics
    /// Where there is none or it doesn't print a version: no test could say anything then.
    pub fn get() -> &'static Runtime {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        RUNTIME.get_or_init(|| Runtime::at(&find()))
    }

    /// Describes the runtime at `path`.
    ///
    /// # Panics
    /// If it can't be run.
    pub fn at(path: &Path) -> Runtime {
        let path = path.canonicalize().unwrap_or_else(|e| panic!("the runtime {}: {e}", path.display()));
        let _starting = executable::starting();
        let out = Command::new(&path).arg("--version").output().unwrap_or_else(|e| panic!("{} --version: {e}", path.display()));
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let version = text.lines().next().unwrap_or_default().to_owned();
        let kind = match version.split(' ').next() {
            Some("pinnace") => Kind::Pinnace,
            Some("crun") => Kind::Crun,
            Some(_) if !version.is_empty() => Kind::Other,
            _ => panic!("{} --version printed no version: {out:?}", path.display()),
        };
        Runtime { path, kind, version }
    }

    /// What `spec` of this runtime writes, as a template for the tests' bundles.
    ///
    /// # Panics
    /// If it fails or isn't JSON.
    pub fn default_spec(&self) -> Value {
        static SPEC: OnceLock<Value> = OnceLock::new();
        SPEC.get_or_init(|| {
            let dir = tempfile::tempdir().expect("a directory for the default spec");
            let _starting = executable::starting();
            let out = Command::new(&self.path).arg("spec").current_dir(dir.path()).output().expect("run `spec`");
            assert!(out.status.success(), "`spec` failed: {out:?}");
            let text = std::fs::read(dir.path().join("config.json")).expect("`spec` writes config.json");
            serde_json::from_slice(&text).expect("`spec` writes JSON")
        })
        .clone()
    }
}

fn find() -> PathBuf {
    for variable in ["RUNTIME", "PINNACE_BIN"] {
        if let Some(path) = std::env::var_os(variable).filter(|v| !v.is_empty()) {
            return path.into();
        }
    }
    let target = target_dir();
    let candidates = ["x86_64-unknown-linux-gnu/release", "x86_64-unknown-linux-gnu/debug", "release", "debug"];
    candidates
        .iter()
        .map(|dir| target.join(dir).join("pinnace"))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
        .unwrap_or_else(|| panic!("no runtime to test: set RUNTIME or PINNACE_BIN, or build pinnace (looked below {})", target.display()))
}

/// The library that stands in for libkrun: `PINNACE_KRUN_STAND_IN`, or the one cargo built with the tests.
///
/// # Panics
/// If there is none.
pub fn krun_stand_in() -> PathBuf {
    if let Some(path) = std::env::var_os("PINNACE_KRUN_STAND_IN").filter(|v| !v.is_empty()) {
        return path.into();
    }
    let exe = std::env::current_exe().expect("the test's own path");
    let found = exe.ancestors().skip(1).take(2).map(|dir| dir.join("examples/libkrun_stand_in.so")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no stand-in for libkrun near {}: set PINNACE_KRUN_STAND_IN", exe.display()))
}

/// The cargo target directory, from the place of the running test (`TARGET/[TRIPLE/]PROFILE/deps/NAME`).
pub(crate) fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("the test's own path");
    exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists()).map_or_else(|| PathBuf::from("target"), Path::to_path_buf)
}
