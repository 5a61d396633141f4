//! What a parent does for its child while that waits: id maps and resource limits. Not here: cgroups (the managers' affair).

use crate::error::{Context, Error, Result};
use crate::plan::ids::{self, IdMaps};
use crate::plan::process::DEFAULT_PATH;
use crate::spec::IdMapping;
use crate::sys;
use rustix::fs::{Mode, OFlags, openat};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

/// Writes the maps of the user namespace `pid` has made.
///
/// # Errors
/// A map was refused, or a helper program is missing or failed; its words are in the text.
pub(crate) fn id_maps(proc: &OwnedFd, pid: i32, maps: &IdMaps) -> Result<()> {
    if maps.deny_setgroups {
        write(proc, pid, "setgroups", "deny")?;
    }
    if maps.by_helper {
        helper("newgidmap", pid, &maps.gids)?;
        helper("newuidmap", pid, &maps.uids)
    } else {
        write(proc, pid, "gid_map", &ids::text(&maps.gids))?;
        write(proc, pid, "uid_map", &ids::text(&maps.uids))
    }
}

fn write(proc: &OwnedFd, pid: i32, file: &str, text: &str) -> Result<()> {
    let path = format!("{pid}/{file}");
    let name = || format!("write `/proc/{path}`");
    let fd = openat(proc, &*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).context(name)?;
    rustix::io::write(&fd, text.as_bytes()).context(name).map(drop)
}

/// Runs newuidmap(1) or newgidmap(1), found without the caller's PATH: they are setuid programs, and CRI-O passes no PATH at all.
fn helper(program: &str, pid: i32, map: &[IdMapping]) -> Result<()> {
    let args = map.iter().flat_map(|m| [m.container_id, m.host_id, m.size]).map(|n| n.to_string());
    let dirs = DEFAULT_PATH.split(':').map(|d| format!("{d}/{program}"));
    let path = dirs.into_iter().find(|p| std::path::Path::new(p).exists());
    let path = path.ok_or_else(|| Error::sys(libc::ENOENT, format!("`{program}` is needed to write the id maps and not installed")))?;
    let out = Command::new(&path).arg(pid.to_string()).args(args).stdin(Stdio::null()).output().context(|| format!("execute `{path}`"))?;
    if out.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&out.stderr);
    Err(Error::other(format!("`{path}` failed ({}): {}", out.status, words.trim())))
}

/// Sets resource limits of the child, which its user namespace would not let it raise.
///
/// # Errors
/// Names the limit.
pub(crate) fn limits(pid: i32, limits: &[(u32, u64, u64, &'static str)]) -> Result<()> {
    for (resource, soft, hard, name) in limits {
        sys::set_rlimit(pid, *resource, *soft, *hard).context(|| format!("setrlimit `{name}`"))?;
    }
    Ok(())
}
