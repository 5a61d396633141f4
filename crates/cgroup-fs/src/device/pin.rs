//! Device programs with a name in the bpf file system, for managers that attach one themselves (systemd's `BPFProgram=`). Not here: our own
//! attachment (`attach`).

use super::{Rule, allows_everything, program};
use crate::files::Sys;
use crate::sys;
use runtime_core::{Error, Result};
use rustix::fd::AsFd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// `BPF_FS_MAGIC` (statfs(2)).
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Whether `path` is in a bpf file system; it need not exist, and its parent need not either.
pub fn can_pin(path: &Path) -> bool {
    let there = path.ancestors().find(|p| p.exists());
    there.and_then(|p| rustix::fs::statfs(p).ok()).is_some_and(|fs| fs.f_type as u64 == BPF_FS_MAGIC)
}

/// Loads the program of `rules` (as [`program()`]) and gives it the name `path`, which an older one loses. Its directory is made.
///
/// # Errors
/// ``pin a device program at `PATH`: …`` where the kernel or the user may not.
pub fn pin(rules: &[Rule], path: &Path) -> Result<()> {
    put(rules, path, None).at(|| what(path))
}

/// Puts the program of other rules in the place of the pinned one, on the cgroup where that is attached and in its name: at no moment is
/// neither in force. Where everything is allowed, it goes. `false` where nothing is pinned.
///
/// # Errors
/// As [`pin`].
pub fn repin(rules: &[Rule], path: &Path, cgroup: &Path) -> Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    if !allows_everything(rules) {
        return put(rules, path, Some(cgroup)).at(|| what(path)).map(|()| true);
    }
    let detached = old(path).and_then(|old| {
        let dir = openat(CWD, cgroup, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        match sys::detach(dir.as_fd(), old.as_fd()) {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    });
    detached.at(|| what(path))?;
    unpin(path).map(|()| true)
}

/// Takes the name away, if it is there. The program goes with the last cgroup that it is attached to.
///
/// # Errors
/// ``remove `PATH`: …``
pub fn unpin(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::sys(e.raw_os_error().unwrap_or(libc::EIO), format!("remove `{}`", path.display())))
        }
        _ => Ok(()),
    }
}

fn what(path: &Path) -> String {
    format!("pin a device program at `{}`", path.display())
}

fn name(path: &Path) -> std::result::Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)
}

fn old(path: &Path) -> std::result::Result<rustix::fd::OwnedFd, Errno> {
    sys::pinned(&name(path)?)
}

fn put(rules: &[Rule], path: &Path, cgroup: Option<&Path>) -> std::result::Result<(), Errno> {
    let new = sys::load_device_program(&program(rules))?;
    if let Some(cgroup) = cgroup {
        let dir = openat(CWD, cgroup, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        match sys::attach(dir.as_fd(), new.as_fd(), Some(old(path)?.as_fd())) {
            // systemd did not attach it, or let go of it.
            Err(Errno::NOENT) => {}
            other => other?,
        }
    }
    if let Some(parent) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(|e| Errno::from_raw_os_error(e.raw_os_error().unwrap_or(libc::EIO)))?;
    }
    match sys::pin(new.as_fd(), &name(path)?) {
        // A name left by a container whose runtime was killed, or the one to be replaced.
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(CWD, path, rustix::fs::AtFlags::empty())?;
            sys::pin(new.as_fd(), &name(path)?)
        }
        other => other,
    }
}
