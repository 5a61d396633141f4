//! What a parent does for its child while that waits: id maps, resource limits, priorities. Not here: cgroups (the managers' affair).

use crate::error::{Context, Error, Result};
use crate::plan::ids::{self, IdMaps};
use crate::plan::process::{ByParent, DEFAULT_PATH};
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
    let mut command = Command::new(&path);
    command.arg(pid.to_string()).args(args).stdin(Stdio::null());
    sys::inherit_little(&mut command);
    let out = command.output().context(|| format!("execute `{path}`"))?;
    if out.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&out.stderr);
    Err(Error::other(format!("`{path}` failed ({}): {}", out.status, words.trim())))
}

/// Sets what the child has no right to set itself.
///
/// # Errors
/// Names the setting.
pub(crate) fn settings(proc: &OwnedFd, pid: i32, wanted: &ByParent) -> Result<()> {
    for (resource, soft, hard, name) in &wanted.limits {
        sys::set_rlimit(pid, *resource, *soft, *hard).context(|| format!("setrlimit `{name}`"))?;
    }
    if let Some(score) = wanted.oom_score_adj {
        write(proc, pid, "oom_score_adj", &score.to_string())?;
    }
    if let Some(attr) = &wanted.scheduler {
        sys::set_scheduler(pid, attr).context(|| "sched_setattr (process.scheduler)")?;
    }
    if let Some(priority) = wanted.io_priority {
        sys::set_io_priority(pid, priority).context(|| "ioprio_set (process.ioPriority)")?;
    }
    Ok(())
}
