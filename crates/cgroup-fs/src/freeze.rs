//! Freezing and thawing: `cgroup.freeze` of v2, which is part of the core, else the v1 freezer. Not here: signals.

use crate::apply::gone;
use crate::controller::{Controller, Version};
use crate::files::{Dir, Sys};
use crate::homes::{Home, Homes};
use crate::wait::{Deadline, event, pause};
use runtime_core::{Error, ErrorKind, Result};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
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
/// No freezer, nothing to freeze any more, or the state was not reached in ten seconds; a cgroup that did not freeze is thawed again.
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

/// Where it can be frozen.
pub(crate) fn place(homes: &Homes) -> Option<PathBuf> {
    let home = homes.v2.as_ref().or_else(|| homes.find(Controller::Freezer, Version::V1))?;
    Some(home.path.clone())
}

/// Whether it is itself, or is about to be, frozen in either version.
pub(crate) fn is_set(homes: &Homes) -> Result<bool> {
    if let Some(home) = &homes.v2
        && says(home, V2, "1")?
    {
        return Ok(true);
    }
    homes.find(Controller::Freezer, Version::V1).map_or(Ok(false), |home| says(home, "freezer.self_freezing", "1"))
}

/// Whether a cgroup above keeps this one frozen; it names that. Directly below the root of a hierarchy, which has no freezer, nothing is
/// asked.
pub(crate) fn above(homes: &Homes) -> Result<Option<PathBuf>> {
    if let Some(home) = homes.v2.as_ref().filter(|h| is_nested(h)) {
        // The kernel says of each cgroup whether all of it is frozen, for whichever reason: one read where it is not.
        if says(home, "cgroup.events", "frozen 1")? {
            for path in parents(home) {
                if Dir::new(path).read(V2).is_ok_and(|t| t.trim() == "1") {
                    return Ok(Some(path.to_owned()));
                }
            }
        }
    }
    above_v1(homes)
}

fn above_v1(homes: &Homes) -> Result<Option<PathBuf>> {
    let Some(home) = homes.find(Controller::Freezer, Version::V1).filter(|h| is_nested(h)) else { return Ok(None) };
    if !says(home, "freezer.parent_freezing", "1")? {
        return Ok(None);
    }
    let itself = |path: &&Path| Dir::new(path).read("freezer.self_freezing").is_ok_and(|t| t.trim() == "1");
    Ok(parents(home).find(itself).or(home.path.parent()).map(Path::to_owned))
}

/// An error where a process in this cgroup would stand still because of one above.
///
/// # Errors
/// ``cgroup `CHILD` is frozen by `PARENT` above it``
pub(crate) fn refuse_above(homes: &Homes) -> Result<()> {
    above(homes)?.map_or(Ok(()), |path| Err(frozen_by(homes, &path)))
}

/// An error where a process in this cgroup could not even die: in the v1 freezer, but not in v2.
///
/// # Errors
/// As [`refuse_above`].
pub(crate) fn refuse_undying(homes: &Homes) -> Result<()> {
    above_v1(homes)?.map_or(Ok(()), |path| Err(frozen_by(homes, &path)))
}

fn frozen_by(homes: &Homes, path: &Path) -> Error {
    let own = homes.holder().map(|(_, h)| h.path.display().to_string()).unwrap_or_default();
    Error::other(format!("cgroup `{own}` is frozen by `{}` above it", path.display()))
}

fn is_nested(home: &Home) -> bool {
    home.path.parent() != Some(&home.mount)
}

/// The cgroups above, the next first, without the root.
fn parents(home: &Home) -> impl Iterator<Item = &Path> {
    home.path.ancestors().skip(1).take_while(|p| *p != home.mount && p.starts_with(&home.mount))
}

/// Whether a file has a line; one that is not there has none.
fn says(home: &Home, file: &str, line: &str) -> Result<bool> {
    match home.dir().read(file) {
        Ok(text) => Ok(text.lines().any(|l| l == line)),
        Err(Errno::NOENT | Errno::NODEV) => Ok(false),
        Err(e) => Err(e).at(|| format!("read `{}`", home.dir().file(file).display())),
    }
}

fn unified(dir: &Dir<'_>, frozen: bool) -> Result<()> {
    let what = || format!("write `{}`", dir.file(V2).display());
    match dir.write(V2, if frozen { "1" } else { "0" }) {
        // A kernel before 5.2 has no such file, and a cgroup that is gone has none either.
        Err(Errno::NOENT) if frozen && dir.path.exists() => {
            return Err(Error::new(ErrorKind::Unsupported, format!("this kernel has no `{}`", dir.file(V2).display())));
        }
        Err(Errno::NOENT | Errno::NODEV) if frozen => return Err(gone(dir)),
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
            Err(Errno::NOENT | Errno::NODEV) => return Err(gone(dir)),
            other => other.at(|| format!("write `{}`", dir.file(V1).display()))?,
        }
        match dir.read(V1) {
            Ok(state) if state.trim() == "FROZEN" => return Ok(()),
            Ok(_) => {}
            Err(Errno::NOENT | Errno::NODEV) => return Err(gone(dir)),
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
