//! Private views of the machine for a command: a pure cgroup v2 or v1 tree, another user with subordinate ids. All of
//! it happens in a mount namespace of the command's own, so the machine stays as it is. `src/bin/in-view.rs` is the
//! program.

use std::ffi::CString;
use std::fs;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// Which cgroup layout the command sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The machine's own.
    Host,
    /// One v2 tree, whatever controllers it has.
    V2,
    /// v1 hierarchies only.
    V1,
}

/// First subordinate id and their number, for the user of [`become_user`].
pub const SUBORDINATE_IDS: (u32, u32) = (600_000, 65_536);

const CGROUP: &str = "/sys/fs/cgroup";

/// Enters a private mount namespace that shows `view`. A fresh tmpfs on /run goes with it, since state kept there was
/// made under another layout. Where the machine already has that layout, only the mount namespace is new.
///
/// # Errors
/// What unshare(2), mount(2) and umount2(2) say, with the step; a v1 view where no v1 hierarchy is mounted.
pub fn enter(view: View) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| step("a private mount namespace", e))?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|e| step("private propagation", e))?;
    let mounted = cgroup_mounts()?;
    let v1 = mounted.iter().any(|(kind, _)| kind == "cgroup");
    match view {
        View::Host => Ok(()),
        View::V2 if !v1 && mounted.len() == 1 => Ok(()),
        View::V2 => {
            for (_, target) in mounted.iter().rev() {
                umount2(target, MntFlags::MNT_DETACH).map_err(|e| step(&format!("umount {}", target.display()), e))?;
            }
            // The tmpfs that held the hierarchies, where there is one.
            let _ = umount2(CGROUP, MntFlags::MNT_DETACH);
            mount(Some("cgroup2"), CGROUP, Some("cgroup2"), MsFlags::empty(), None::<&str>).map_err(|e| step("mount cgroup2", e))?;
            fresh_run()
        }
        View::V1 if !v1 => Err(Error::other("no cgroup v1 hierarchy is mounted here")),
        View::V1 => {
            for (kind, target) in mounted.iter().rev() {
                if kind == "cgroup2" {
                    umount2(target, MntFlags::MNT_DETACH).map_err(|e| step(&format!("umount {}", target.display()), e))?;
                }
            }
            fresh_run()
        }
    }
}

fn fresh_run() -> Result<()> {
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).map_err(|e| step("a tmpfs on /run", e))
}

fn step(what: &str, e: nix::Error) -> Error {
    Error::new(Error::from(e).kind(), format!("{what}: {}", e.desc()))
}

/// Type and target of the cgroup mounts, in the order of mounting.
fn cgroup_mounts() -> Result<Vec<(String, PathBuf)>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let kind = right.split(' ').next()?;
        let target = left.split(' ').nth(4)?;
        kind.starts_with("cgroup").then(|| (kind.to_owned(), PathBuf::from(target)))
    };
    Ok(text.lines().filter_map(parse).collect())
}

/// Becomes the user `uid`, known as `pinnace-test` in private copies of /etc/passwd, /etc/group, /etc/subuid and
/// /etc/subgid. Call it after [`enter`].
///
/// # Errors
/// What the steps say.
pub fn become_user(uid: u32) -> Result<()> {
    let (first, count) = SUBORDINATE_IDS;
    let dir = tempfile::tempdir()?;
    let files = [
        ("/etc/passwd", format!("pinnace-test:x:{uid}:{uid}::/tmp:/bin/sh\n"), true),
        ("/etc/group", format!("pinnace-test:x:{uid}:\n"), true),
        ("/etc/subuid", format!("pinnace-test:{first}:{count}\n"), false),
        ("/etc/subgid", format!("pinnace-test:{first}:{count}\n"), false),
    ];
    for (path, line, keep) in files {
        let name = Path::new(path).file_name().unwrap_or_default();
        let copy = dir.path().join(name);
        let before = if keep { fs::read_to_string(path)? } else { String::new() };
        fs::write(&copy, before + &line)?;
        mount(Some(&copy), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|e| step(&format!("bind a private {path}"), e))?;
    }
    // The bind mounts keep the files; the directory isn't needed any more.
    drop(dir);
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[]).map_err(|e| step("setgroups", e))?;
    setresgid(group, group, group).map_err(|e| step("setresgid", e))?;
    setresuid(user, user, user).map_err(|e| step("setresuid", e))?;
    Ok(())
}

/// Replaces the process by a command, looked up in $PATH.
///
/// # Errors
/// Only returns if it fails.
pub fn exec(command: &[String]) -> Result<std::convert::Infallible> {
    let words: Vec<CString> = command.iter().map(|w| CString::new(w.as_str())).collect::<std::result::Result<_, _>>()?;
    let first = words.first().ok_or_else(|| Error::other("no command"))?;
    nix::unistd::execvp(first, &words).map_err(|e| step(&format!("exec {}", command[0]), e))
}

/// The `in-view` program: `PINNACE_IN_VIEW`, or the one cargo built beside the tests.
///
/// # Panics
/// If there is none.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("PINNACE_IN_VIEW").filter(|v| !v.is_empty()) {
        return path.into();
    }
    let exe = std::env::current_exe().expect("the test's own path");
    let found = exe.ancestors().skip(1).take(2).map(|dir| dir.join("in-view")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no in-view beside {}: set PINNACE_IN_VIEW", exe.display()))
}
