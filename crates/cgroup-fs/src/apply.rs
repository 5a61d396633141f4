//! Carrying out writes: order, fallbacks, and errors that name field, value and file. Not here: what is written (`knobs`).

use crate::controller::{Controller, Version};
use crate::files::{Dir, number, put};
use crate::homes::Homes;
use crate::knobs::{Check, Write};
use runtime_core::{Error, ErrorKind, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::path::Path;

/// The kernel's ENOTSUPP, which is no POSIX number and yet reaches user space from some v1 files.
const ENOTSUPP: i32 = 524;

/// Refuses limits below what is in use.
///
/// # Errors
/// `cannot set the memory limit lower than its current usage`. Files that do not exist are passed over.
pub(crate) fn check_all(homes: &Homes, checks: &[Check]) -> Result<()> {
    for check in checks {
        let Some(home) = homes.find(Controller::Memory, check.version) else { continue };
        let usage = home.dir().read(check.usage).ok().and_then(|t| number(&t));
        if usage.is_some_and(|usage| check.limit < usage) {
            return Err(Error::invalid("cannot set the memory limit lower than its current usage"));
        }
    }
    Ok(())
}

/// Writes everything in order. Runs of writes that the kernel checks against each other are repeated until all are taken or none of the
/// rest is.
///
/// # Errors
/// `linux.resources.FIELD: write ``VALUE`` to ``FILE``: …`, or which controller or file is not there.
pub(crate) fn write_all(homes: &Homes, writes: &[Write]) -> Result<()> {
    let mut at = 0;
    let mut open = Open::default();
    while let Some(first) = writes.get(at) {
        let run = if first.policy.settle {
            writes[at..].iter().take_while(|w| w.policy.settle && w.controller == first.controller).count()
        } else {
            1
        };
        settle(homes, &mut open, &writes[at..at + run])?;
        at += run;
    }
    Ok(())
}

fn settle(homes: &Homes, open: &mut Open, run: &[Write]) -> Result<()> {
    let mut left: Vec<&Write> = run.iter().collect();
    loop {
        let before = left.len();
        let mut refused = Vec::new();
        let mut failure = None;
        for write in left {
            match one(homes, open, write) {
                Ok(()) => {}
                Err(e) if write.policy.settle && e.errno() == Some(libc::EINVAL) => {
                    refused.push(write);
                    failure = failure.or(Some(e));
                }
                Err(e) => return Err(e),
            }
        }
        match failure {
            None => return Ok(()),
            Some(e) if refused.len() == before => return Err(e),
            Some(_) => left = refused,
        }
    }
}

/// The file written last: lists of device rules and of throttled devices go through one descriptor.
#[derive(Default)]
struct Open(Option<(Controller, String, OwnedFd)>);

fn one(homes: &Homes, open: &mut Open, w: &Write) -> Result<()> {
    let Some(home) = homes.find(w.controller, w.version) else {
        return Err(unavailable(w, Path::new("/proc/self/mountinfo")));
    };
    let dir = home.dir();
    let known = open.0.as_ref().is_some_and(|(c, file, _)| *c == w.controller && *file == w.file);
    if !known {
        match dir.open(&w.file, OFlags::WRONLY) {
            Ok(fd) => open.0 = Some((w.controller, w.file.to_string(), fd)),
            Err(Errno::NOENT) => return absent(&dir, w),
            Err(e) => return Err(refused(&dir, w, &w.file, &w.value, e)),
        }
    }
    let Some((.., fd)) = &open.0 else { return Ok(()) };
    match put(fd.as_fd(), &w.value) {
        Ok(()) => Ok(()),
        Err(e) if w.policy.unsupported_ok && matches!(e.raw_os_error(), libc::EOPNOTSUPP | ENOTSUPP) => {
            tracing::debug!("linux.resources.{}: this kernel has given up `{}`", w.field, w.file);
            Ok(())
        }
        Err(e) => Err(refused(&dir, w, &w.file, &w.value, e)),
    }
}

/// The file does not exist: another one may do, or it may not matter; else the controller is missing, or the kernel has no such file.
fn absent(dir: &Dir<'_>, w: &Write) -> Result<()> {
    if let Some((file, value)) = &w.policy.alias {
        match dir.write(file, value) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(refused(dir, w, file, value, e)),
        }
    }
    if !dir.path.exists() {
        return Err(gone(dir).context(format!("linux.resources.{}", w.field)));
    }
    if w.version == Version::V2 && w.controller.is_enabled_by_parent() {
        let listed = dir.read("cgroup.controllers").unwrap_or_default();
        if !listed.split_whitespace().any(|c| c == w.controller.name(Version::V2)) {
            return Err(unavailable(w, &dir.file("cgroup.controllers")));
        }
    }
    if w.policy.absent_ok {
        tracing::debug!("linux.resources.{}: there is no `{}`", w.field, dir.file(&w.file).display());
        return Ok(());
    }
    let text = format!("linux.resources.{}: this kernel has no `{}`", w.field, dir.file(&w.file).display());
    Err(Error::new(ErrorKind::Unsupported, text))
}

/// A cgroup that somebody removed.
pub(crate) fn gone(dir: &Dir<'_>) -> Error {
    Error::sys(libc::ENOENT, format!("cgroup `{}` is gone", dir.path.display()))
}

fn unavailable(w: &Write, place: &Path) -> Error {
    missing(w.controller, w.version, place).context(format!("linux.resources.{}", w.field))
}

/// A controller that is not where it should be.
pub(crate) fn missing(controller: Controller, version: Version, place: &Path) -> Error {
    Error::new(ErrorKind::Unsupported, format!("controller `{}` is not available under {}", controller.name(version), place.display()))
}

fn refused(dir: &Dir<'_>, w: &Write, file: &str, value: &str, e: Errno) -> Error {
    let text = format!("linux.resources.{}: write `{}` to `{}`", w.field, value.escape_debug(), dir.file(file).display());
    Error::sys(e.raw_os_error(), text)
}
