//! Signals to a whole cgroup, and its removal. Not here: walking (`tree`), freezing (`freeze`).

use crate::controller::{Controller, Version};
use crate::files::Sys;
use crate::freeze;
use crate::homes::{Home, Homes};
use crate::sys;
use crate::tree;
use crate::wait::{self, Deadline};
use runtime_core::{Error, Result};
use rustix::io::Errno;
use std::time::Duration;

/// Longest wait for killed processes to be gone, for all hierarchies together.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts at a cgroup that is busy without a process to wait for: it is being populated or emptied.
const AGAIN: Duration = Duration::from_millis(2);

/// Sends `signal` to every process. SIGKILL goes by `cgroup.kill` where there is one; other signals, and SIGKILL on v1, by freezing, so
/// that nothing forks away, signalling and thawing. What was frozen before stays so, unless it is to die.
///
/// # Errors
/// A process that could not be signalled.
pub(crate) fn signal(homes: &Homes, signal: i32) -> Result<()> {
    let Some((version, home)) = homes.holder() else { return Ok(()) };
    if signal == libc::SIGKILL && version == Version::V2 {
        match home.dir().write("cgroup.kill", "1") {
            Ok(()) => return thaw(homes),
            Err(Errno::NODEV) => return Ok(()),
            // Gone, before 5.14, or threaded: one by one.
            Err(_) => {}
        }
    }
    let was_frozen = freeze::is_set(homes)?;
    if !was_frozen && let Err(e) = freeze::set(homes, true) {
        tracing::debug!("signal cgroup without freezing it: {e}");
    }
    let sent = each(home, signal);
    if !was_frozen || signal == libc::SIGKILL {
        freeze::set(homes, false).or_else(|e| if sent.is_ok() { Err(e) } else { Ok(()) })?;
    }
    sent
}

/// A frozen v1 cgroup does not even die.
fn thaw(homes: &Homes) -> Result<()> {
    match homes.find(Controller::Freezer, Version::V1) {
        Some(home) => freeze::thaw_v1(&home.dir()),
        None => Ok(()),
    }
}

fn each(home: &Home, signal: i32) -> Result<()> {
    let mut failed = None;
    for pid in pids(home)? {
        match sys::kill(pid, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(e) => failed = failed.or(Some((pid, e))),
        }
    }
    match failed {
        Some((pid, e)) => Err(Error::sys(e.raw_os_error(), format!("send signal {signal} to process {pid}"))),
        None => Ok(()),
    }
}

pub(crate) fn pids(home: &Home) -> Result<Vec<i32>> {
    tree::pids(&home.path).at(|| format!("list the processes of cgroup `{}`", home.path.display()))
}

/// Removes the cgroup from every hierarchy where nothing is in it; `false` where something is.
///
/// # Errors
/// Names the cgroup.
pub(crate) fn abandon(homes: &Homes) -> Result<bool> {
    // Where there are processes it is another container's, with all below it.
    for (_, home) in homes.all() {
        if tree::pids(&home.path).is_ok_and(|pids| !pids.is_empty()) {
            return Ok(false);
        }
    }
    let mut gone = true;
    for (_, home) in homes.all() {
        match tree::remove(&home.path) {
            Err(Errno::BUSY | Errno::NOTEMPTY) => gone = false,
            other => other.at(|| format!("remove cgroup `{}`", home.path.display()))?,
        }
    }
    Ok(gone)
}

/// Removes the cgroup from every hierarchy, killing what is in it.
///
/// # Errors
/// Names the pids that keep it busy after ten seconds. The other hierarchies are cleaned all the same.
pub(crate) fn destroy(homes: &Homes) -> Result<()> {
    let deadline = Deadline::after(PATIENCE);
    let mut failed = None;
    for (version, home) in homes.all() {
        if let Err(e) = remove(homes, version, home, deadline) {
            failed = failed.or(Some(e));
        }
    }
    failed.map_or(Ok(()), Err)
}

fn remove(homes: &Homes, version: Version, home: &Home, deadline: Deadline) -> Result<()> {
    let what = || format!("remove cgroup `{}`", home.path.display());
    let mut result = tree::rmdir(&home.path);
    while let Err(Errno::BUSY | Errno::NOTEMPTY) = result {
        empty(homes, version, home, deadline)?;
        result = tree::remove(&home.path);
        if result.is_err() && deadline.has_passed() {
            return Err(busy(home));
        }
        if result.is_err() {
            wait::pause(deadline, AGAIN);
        }
    }
    result.at(what)
}

/// Kills everything in one hierarchy and waits for its end.
fn empty(homes: &Homes, version: Version, home: &Home, deadline: Deadline) -> Result<()> {
    thaw(homes)?;
    if version == Version::V1 {
        // Nothing in it can die, so there is nothing to wait for.
        freeze::refuse_undying(homes).map_err(|e| e.context(format!("remove cgroup `{}`", home.path.display())))?;
    }
    let dir = home.dir();
    if version == Version::V1 || dir.write("cgroup.kill", "1").is_err() {
        let list = pids(home)?;
        each(home, libc::SIGKILL)?;
        if version == Version::V1 {
            return wait::exits(&list, deadline).at(|| format!("wait for the processes of cgroup `{}`", home.path.display()));
        }
        if freeze::is_set(homes)? {
            freeze::set(homes, false)?;
        }
    }
    wait::event(&dir, "populated 0", deadline).at(|| format!("wait for `{}`", dir.file("cgroup.events").display()))?;
    Ok(())
}

fn busy(home: &Home) -> Error {
    let list = pids(home).unwrap_or_default();
    let shown: Vec<String> = list.iter().take(20).map(i32::to_string).collect();
    let who = if shown.is_empty() { "by none that can be seen".into() } else { format!("by processes {}", shown.join(", ")) };
    Error::sys(libc::EBUSY, format!("remove cgroup `{}`: still in use {who}", home.path.display()))
}
