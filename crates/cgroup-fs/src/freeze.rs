//! Freezing and thawing: `cgroup.freeze` of v2, which is part of the core, else the v1 freezer. Not here: signals.

use crate::controller::{Controller, Version};
use crate::files::{Dir, Sys};
use crate::homes::Homes;
use crate::wait::{Deadline, event, pause};
use runtime_core::{Error, ErrorKind, Result};
use rustix::io::Errno;
use std::time::Duration;

/// Longest wait for a state. A process in an uninterruptible sleep freezes when that ends.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between looks at the state of the v1 freezer, which announces nothing.
const LOOK: Duration = Duration::from_millis(2);
const V2: &str = "cgroup.freeze";
const V1: &str = "freezer.state";

/// Stops or continues all processes and waits for it. Thawing thaws in both versions: whatever froze it, it shall run.
///
/// # Errors
/// No freezer, or the state was not reached in ten seconds; a cgroup that did not freeze is thawed again.
pub(crate) fn set(homes: &Homes, frozen: bool) -> Result<()> {
    let v1 = homes.find(Controller::Freezer, Version::V1).map(|h| h.dir());
    let v2 = homes.v2.as_ref().map(|h| h.dir());
    let done = match (&v2, &v1) {
        (Some(dir), Some(old)) if !frozen => unified(dir, false).and_then(|()| thaw_v1(old)),
        (Some(dir), _) => unified(dir, frozen),
        (None, Some(dir)) if frozen => freeze_v1(dir),
        (None, Some(dir)) => thaw_v1(dir),
        (None, None) => return Err(Error::new(ErrorKind::Unsupported, "no freezer: neither cgroup v2 nor the v1 freezer is mounted")),
    };
    if done.is_err() && frozen {
        // Half frozen is worse than running; the first error is the one to tell.
        let _ = set(homes, false);
    }
    done
}

/// Whether it is, or is about to be, frozen in either version.
pub(crate) fn is_set(homes: &Homes) -> Result<bool> {
    if let Some(home) = &homes.v2 {
        match home.dir().read(V2) {
            Ok(text) if text.trim() == "1" => return Ok(true),
            Ok(_) | Err(Errno::NOENT | Errno::NODEV) => {}
            Err(e) => return Err(e).at(|| format!("read `{}`", home.dir().file(V2).display())),
        }
    }
    let Some(home) = homes.find(Controller::Freezer, Version::V1) else { return Ok(false) };
    match home.dir().read("freezer.self_freezing") {
        Ok(text) => Ok(text.trim() == "1"),
        Err(Errno::NOENT | Errno::NODEV) => Ok(false),
        Err(e) => Err(e).at(|| format!("read `{}`", home.dir().file(V1).display())),
    }
}

fn unified(dir: &Dir<'_>, frozen: bool) -> Result<()> {
    let what = || format!("write `{}`", dir.file(V2).display());
    match dir.write(V2, if frozen { "1" } else { "0" }) {
        // A kernel before 5.2 has no such file, and a cgroup that is gone has none either.
        Err(Errno::NOENT) if frozen && dir.path.exists() => {
            return Err(Error::new(ErrorKind::Unsupported, format!("this kernel has no `{}`", dir.file(V2).display())));
        }
        Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
        other => other.at(what)?,
    }
    // Below a frozen parent it stays frozen whatever is written here, and there is nothing to wait for.
    if !frozen {
        return Ok(());
    }
    let reached = event(dir, "frozen 1", Deadline::after(PATIENCE)).at(|| format!("wait for `{}`", dir.file("cgroup.events").display()))?;
    if reached { Ok(()) } else { Err(timed_out(dir)) }
}

fn freeze_v1(dir: &Dir<'_>) -> Result<()> {
    let deadline = Deadline::after(PATIENCE);
    loop {
        // Writing again also catches what was forked while the first pass went on.
        match dir.write(V1, "FROZEN") {
            Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
            other => other.at(|| format!("write `{}`", dir.file(V1).display()))?,
        }
        match dir.read(V1) {
            Ok(state) if state.trim() == "FROZEN" => return Ok(()),
            Ok(_) => {}
            Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
            Err(e) => return Err(e).at(|| format!("read `{}`", dir.file(V1).display())),
        }
        if deadline.has_passed() {
            return Err(timed_out(dir));
        }
        pause(deadline, LOOK);
    }
}

/// v1 thaws at once, unless a parent is frozen.
pub(crate) fn thaw_v1(dir: &Dir<'_>) -> Result<()> {
    match dir.write(V1, "THAWED") {
        Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        other => other.at(|| format!("write `{}`", dir.file(V1).display())),
    }
}

fn timed_out(dir: &Dir<'_>) -> Error {
    Error::other(format!("cgroup `{}` did not freeze within {} s", dir.path.display(), PATIENCE.as_secs()))
}
