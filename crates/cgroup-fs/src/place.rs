//! Making a container's cgroup in every hierarchy, with its limits, before the container exists. Not here: the limits' files (`knobs`).

use crate::cgroup::{limit, open_dir, record};
use crate::controller::{Controller, Version};
use crate::files::{Dir, Sys, read_proc};
use crate::freeze;
use crate::homes::{Home, Homes};
use crate::knobs::{self, Write};
use crate::layout::Layout;
use crate::tree;
use runtime_core::api::{CgroupRequest, Placement};
use runtime_core::{Error, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, chownat, mkdirat};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// Files to hand to the owner of a delegated cgroup where the kernel does not list them (`/sys/kernel/cgroup/delegate`, 4.15).
const DELEGATED: &str = "cgroup.procs cgroup.threads cgroup.subtree_control";

/// How often somebody else may remove what has just been made.
const RETRIES: usize = 8;

/// Makes `path` everywhere and sets the limits. An empty cgroup may be removed by others at any moment (systemd does, and a runtime that
/// deletes a container above it): it is made again.
///
/// # Errors
/// Everything made is removed again.
pub(crate) fn place(layout: &Layout, path: &str, request: &CgroupRequest<'_>) -> Result<Placement> {
    let mut result = once(layout, path, request);
    for _ in 0..RETRIES {
        match &result {
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENODEV)) => result = once(layout, path, request),
            _ => break,
        }
    }
    result
}

fn once(layout: &Layout, path: &str, request: &CgroupRequest<'_>) -> Result<Placement> {
    let split = layout.split();
    let writes = knobs::writes(request.resources, &split)?;
    crate::device::parse(&request.resources.devices)?;
    let mut homes = Homes::of(layout, path);
    let mut made = Made::default();
    let mut old = false;
    homes.v1 = make_v1(homes.v1, &writes, request.rootless, &mut made, &mut old)?;
    if let Some(home) = &mut homes.v2 {
        old |= !made.mkdir(home)?;
        home.fd = Some(open_dir(home).at(|| format!("open cgroup `{}`", home.path.display()))?);
    }
    if old {
        refuse_used(&homes)?;
    }
    freeze::refuse_above(&homes).map_err(|e| e.context("linux.cgroupsPath"))?;
    let spent = limit(&homes, &split, &writes, request.resources, !old)?;
    if let (Some(home), Some((uid, gid))) = (&homes.v2, request.owner) {
        delegate(home, uid, gid)?;
    }
    let mut join = Vec::with_capacity(homes.v1.len());
    for home in &homes.v1 {
        let fd = home.dir().open("cgroup.procs", OFlags::WRONLY);
        join.push(fd.at(|| format!("open `{}`", home.dir().file("cgroup.procs").display()))?);
    }
    made.keep();
    let into = homes.v2.and_then(|h| h.fd);
    Ok(Placement { into, join, moved_by_manager: false, fresh: !old, record: record(path.to_owned()), spent })
}

/// The v1 directories. Without privileges a hierarchy that cannot be written, and that nothing was asked of, is done without.
pub(crate) fn make_v1(all: Vec<Home>, writes: &[Write], rootless: bool, made: &mut Made, old: &mut bool) -> Result<Vec<Home>> {
    let mut out = Vec::with_capacity(all.len());
    for home in all {
        let needed = writes.iter().any(|w| w.version == Version::V1 && home.controllers.contains(w.controller));
        match make_one_v1(&home, made) {
            Ok(new) => *old |= !new,
            Err(e) if rootless && !needed => {
                tracing::debug!("no cgroup in `{}`: {e}", home.mount.display());
                continue;
            }
            Err(e) => return Err(e),
        }
        out.push(home);
    }
    Ok(out)
}

fn make_one_v1(home: &Home, made: &mut Made) -> Result<bool> {
    let new = made.mkdir(home)?;
    if home.controllers.contains(Controller::Cpuset) {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            inherit(home, &home.path, file, new)?;
        }
    }
    Ok(new)
}

/// Copies a v1 cpuset's list from the parent, which needs one itself: without CPUs and memory nodes no process can enter. Returns the
/// list; `empty` says that there is none yet.
fn inherit(home: &Home, path: &Path, file: &str, empty: bool) -> Result<String> {
    let dir = Dir::new(path);
    if !empty || path == home.mount {
        let list = dir.read(file).at(|| format!("read `{}`", dir.file(file).display()))?;
        if !list.trim().is_empty() || path == home.mount {
            return Ok(list);
        }
    }
    let list = inherit(home, path.parent().unwrap_or(&home.mount), file, false)?;
    dir.write(file, list.trim()).at(|| format!("initialize cpuset: write `{}` to `{}`", list.trim(), dir.file(file).display()))?;
    Ok(list)
}

/// A cgroup that exists is used if it is idle: whatever runs in it would be counted, limited and in the end killed with the container,
/// and in a frozen one the container would never run.
fn refuse_used(homes: &Homes) -> Result<()> {
    for (_, home) in homes.all() {
        let pids = crate::destroy::pids(home)?;
        if let Some(first) = pids.first() {
            let more = pids.len() - 1;
            let others = if more > 0 { format!(" and {more} more") } else { String::new() };
            let text = format!("cgroup `{}` is in use by process {first}{others}", home.path.display());
            return Err(Error::invalid(text).context("linux.cgroupsPath"));
        }
    }
    if freeze::is_set(homes)? {
        let path = homes.holder().map(|(_, h)| h.path.display().to_string()).unwrap_or_default();
        return Err(Error::invalid(format!("cgroup `{path}` is frozen")).context("linux.cgroupsPath"));
    }
    Ok(())
}

/// Hands a v2 cgroup to the root user of a container (cgroup-v2.rst, "Model of Delegation").
pub(crate) fn delegate(home: &Home, uid: u32, gid: u32) -> Result<()> {
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    let Some(fd) = &home.fd else { return Ok(()) };
    let own = |fd: &OwnedFd, file: &str| match chownat(fd.as_fd(), file, owner.0, owner.1, AtFlags::EMPTY_PATH) {
        // What the kernel lists in general need not be in this cgroup.
        Err(Errno::NOENT) => Ok(()),
        other => other.at(|| format!("change the owner of `{}` to {uid}:{gid}", home.path.join(file).display())),
    };
    let listed = read_proc("/sys/kernel/cgroup/delegate").unwrap_or_else(|_| DELEGATED.into());
    own(fd, "")?;
    listed.split_whitespace().filter(|f| !f.contains('/')).try_for_each(|file| own(fd, file))
}

/// The cgroup beside the one the runtime is in, for a user who may not make one at the root but owns a part of the v2 tree.
pub(crate) fn sibling(name: &str) -> Result<Option<String>> {
    let own = read_proc("/proc/self/cgroup").at(|| "read `/proc/self/cgroup`".into())?;
    Ok(beside(&own, name))
}

fn beside(own: &str, name: &str) -> Option<String> {
    let path = own.lines().find_map(|l| l.strip_prefix("0::"))?;
    let (parent, _) = path.trim_end_matches('/').rsplit_once('/')?;
    (!parent.is_empty() && !parent.contains("..")).then(|| format!("{parent}/{name}"))
}

/// Directories to remove again, in the order they were made.
#[derive(Default)]
pub(crate) struct Made(Vec<PathBuf>);

impl Made {
    /// Everything went well: nothing is removed.
    pub(crate) fn keep(&mut self) {
        self.0.clear();
    }

    /// Makes a cgroup, and its parents where they are missing; `false` where it was there.
    pub(crate) fn mkdir(&mut self, home: &Home) -> Result<bool> {
        let what = |p: &Path| format!("create cgroup directory `{}`", p.display());
        let mut result = self.one(&home.path);
        // A parent may vanish with the last container in it at any moment.
        for _ in 0..8 {
            if result != Err(Errno::NOENT) {
                break;
            }
            let mut parents: Vec<&Path> =
                home.path.ancestors().skip(1).take_while(|p| *p != home.mount && p.starts_with(&home.mount)).collect();
            parents.reverse();
            for parent in parents {
                match self.one(parent) {
                    Ok(_) | Err(Errno::NOENT) => {}
                    Err(e) => return Err(e).at(|| what(parent)),
                }
            }
            result = self.one(&home.path);
        }
        result.at(|| what(&home.path))
    }

    fn one(&mut self, path: &Path) -> std::result::Result<bool, Errno> {
        match mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                self.0.push(path.to_owned());
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            if let Err(e) = tree::rmdir(path) {
                tracing::debug!("remove cgroup `{}` again: {e}", path.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings() {
        let own = |p: &str| format!("1:cpu:/x\n0::{p}\n");
        assert_eq!(beside(&own("/user.slice/app.slice/a.scope"), "c1").as_deref(), Some("/user.slice/app.slice/c1"));
        for none in ["/", "/a", "/../../b/c"] {
            assert_eq!(beside(&own(none), "c1"), None, "{none}");
        }
        assert_eq!(beside("1:cpu:/x/y\n", "c1"), None);
    }
}
