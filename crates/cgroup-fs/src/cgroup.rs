//! A container's cgroup and what the verbs do with it. Not here: making it (`place`).

use crate::apply;
use crate::controller::{Controller, ControllerSet, Split, Version};
use crate::destroy;
use crate::device;
use crate::enable::enable;
use crate::files::{Sys, keyed, read_proc};
use crate::freeze;
use crate::homes::{Home, Homes};
use crate::knobs;
use crate::layout::Layout;
use crate::manager::NAME;
use crate::path::normalise;
use crate::stats;
use runtime_core::api::{Cgroup, CgroupRecord, Placement, Stats};
use runtime_core::spec::Resources;
use runtime_core::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::path::PathBuf;
use std::sync::Arc;

/// A cgroup below the roots of a host's hierarchies.
#[derive(Debug, Clone)]
pub struct FsCgroup {
    layout: Arc<Layout>,
    record: CgroupRecord,
}

impl FsCgroup {
    /// The cgroup of a record, which need not exist. An empty path is a container without a cgroup: there is nothing to do for it.
    ///
    /// # Errors
    /// A path that is not normalised or leads out of the hierarchies.
    pub fn new(layout: Arc<Layout>, record: CgroupRecord) -> Result<Self> {
        if !record.path.is_empty() && normalise("cgroup path", &record.path)? != record.path {
            return Err(Error::invalid(format!("cgroup path: not normalised: `{}`", record.path.escape_debug())));
        }
        Ok(Self { layout, record })
    }

    /// Whether it exists in any hierarchy.
    pub fn exists(&self) -> bool {
        self.homes().is_some_and(|h| h.all().any(|(_, home)| home.path.exists()))
    }

    /// Its directory in the v2 tree, where there is one; it need not exist.
    pub fn unified(&self) -> Option<PathBuf> {
        self.homes()?.v2.map(|home| home.path)
    }

    /// What [`Cgroup::apply`] would refuse before it writes anything: values that contradict each other, or that are below what is in use
    /// (`checkBeforeUpdate`).
    ///
    /// # Errors
    /// As [`knobs::writes`]; `cannot set the memory limit lower than its current usage`.
    pub fn check(&self, resources: &Resources<'_>) -> Result<()> {
        let split = self.layout.split();
        knobs::writes(resources, &split)?;
        device::parse(&resources.devices)?;
        self.homes().map_or(Ok(()), |homes| apply::check_all(&homes, &knobs::checks(resources, &split)))
    }

    fn homes(&self) -> Option<Homes> {
        (!self.record.path.is_empty()).then(|| Homes::of(&self.layout, &self.record.path))
    }

    fn placement(&self) -> Placement {
        Placement { record: self.record.clone(), ..Placement::default() }
    }

    /// The path below the root of v2 where a further process goes.
    fn landing(&self, root: &Home, init: i32) -> Result<String> {
        // Controllers enabled for its children keep a cgroup from having processes of its own: whoever did that moved init away.
        if root.dir().read("cgroup.subtree_control").unwrap_or_default().trim().is_empty() {
            return Ok(self.record.path.clone());
        }
        let file = format!("/proc/{init}/cgroup");
        let text = read_proc(&file).at(|| format!("read `{file}`"))?;
        let path = text.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or_default();
        match path.strip_prefix(self.record.path.as_str()) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Ok(path.to_owned()),
            _ => Err(Error::other(format!("process {init} is in cgroup `{path}`, outside of `{}`", self.record.path))),
        }
    }
}

/// The directory for `CLONE_INTO_CGROUP`, which takes an `O_PATH` descriptor.
pub(crate) fn open_dir(home: &Home) -> std::result::Result<OwnedFd, Errno> {
    openat(CWD, &home.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Sets limits in directories that exist. `fresh` says that they have just been made.
///
/// # Errors
/// See [`knobs::writes`], [`enable`], [`apply::write_all`].
pub(crate) fn limit(homes: &Homes, split: &Split, writes: &[knobs::Write], r: &Resources<'_>, fresh: bool) -> Result<Vec<OwnedFd>> {
    let mut spent = Vec::new();
    let v2_writes = || writes.iter().filter(|w| w.version == Version::V2);
    if let Some(home) = homes.v2.as_ref().filter(|_| fresh || v2_writes().next().is_some()) {
        enable(home, v2_writes().fold(ControllerSet::EMPTY, |set, w| set.with(w.controller)), &mut spent)?;
    }
    if !fresh {
        apply::check_all(homes, &knobs::checks(r, split))?;
    }
    apply::write_all(homes, writes)?;
    Ok(spent)
}

/// Puts device rules in force on v2; those of v1 are limits as others. `dir` is the cgroup's directory, where somebody has it open. `fresh` says
/// that it has just been made, `lenient` that device rules may be beyond the caller's rights.
///
/// # Errors
/// See [`device::enforce`].
pub(crate) fn confine(
    homes: &Homes,
    dir: Option<BorrowedFd<'_>>,
    split: &Split,
    r: &Resources<'_>,
    fresh: bool,
    lenient: bool,
) -> Result<Option<OwnedFd>> {
    let Some(home) = homes.v2.as_ref().filter(|_| !r.devices.is_empty() && split.version(Controller::Devices) == Version::V2) else {
        return Ok(None);
    };
    let opened;
    let dir = match dir.or(home.fd.as_ref().map(AsFd::as_fd)) {
        Some(dir) => dir,
        None => {
            opened = open_dir(home).at(|| format!("open cgroup `{}`", home.path.display()))?;
            opened.as_fd()
        }
    };
    device::enforce(dir, &r.devices, fresh, lenient, &home.path.display().to_string())
}

impl Cgroup for FsCgroup {
    fn join(&self, sub: Option<&str>, init: i32) -> Result<Placement> {
        let mut placement = self.placement();
        let Some(homes) = self.homes() else { return Ok(placement) };
        // v2 and v1 know neither symbolic links nor `..` in names, so a checked path stays below.
        let sub = sub.map(|s| normalise("cgroup of the process", s)).transpose()?;
        let target = match &sub {
            Some(s) => Homes::of(&self.layout, &format!("{}{s}", self.record.path)),
            None => homes,
        };
        if let Some(root) = &target.v2 {
            let at = if sub.is_none() { self.landing(root, init)? } else { String::new() };
            let moved = (sub.is_none() && at != self.record.path).then(|| Homes::of(&self.layout, &at));
            let home = moved.as_ref().and_then(|h| h.v2.as_ref()).unwrap_or(root);
            placement.into = match open_dir(home) {
                Ok(fd) => Some(fd),
                // It may be in the v1 hierarchies alone.
                Err(Errno::NOENT) if !target.v1.is_empty() => None,
                Err(e) => return Err(e).at(|| format!("open cgroup `{}`", home.path.display())),
            };
        }
        for home in &target.v1 {
            match home.dir().open("cgroup.procs", OFlags::WRONLY) {
                Ok(fd) => placement.join.push(fd),
                Err(Errno::NOENT) if sub.is_some() => {
                    let whole = Homes::of(&self.layout, &self.record.path);
                    let same = whole.v1.iter().find(|h| h.mount == home.mount);
                    placement.join.extend(same.and_then(|h| h.dir().open("cgroup.procs", OFlags::WRONLY).ok()));
                }
                Err(Errno::NOENT) => {}
                Err(e) => return Err(e).at(|| format!("open `{}`", home.dir().file("cgroup.procs").display())),
            }
        }
        let found = |h: &Home| h.path.exists();
        if placement.into.is_none() && !target.v1.iter().any(found) {
            let path = target.holder().map(|(_, h)| h.path.display().to_string()).unwrap_or_default();
            return Err(Error::sys(libc::ENOENT, format!("open cgroup `{path}`")));
        }
        Ok(placement)
    }

    fn apply(&self, resources: &Resources<'_>) -> Result<()> {
        let split = self.layout.split();
        let writes = knobs::writes(resources, &split)?;
        match self.homes() {
            Some(homes) => {
                limit(&homes, &split, &writes, resources, false)?;
                confine(&homes, None, &split, resources, false, !rustix::process::geteuid().is_root()).map(drop)
            }
            None => crate::disabled::refuse_limits(resources),
        }
    }

    fn pids(&self) -> Result<Vec<i32>> {
        match self.homes().as_ref().and_then(Homes::holder) {
            Some((_, home)) => destroy::pids(home),
            None => Ok(Vec::new()),
        }
    }

    fn freeze(&self, frozen: bool) -> Result<()> {
        let Some(homes) = self.homes() else { return Ok(()) };
        freeze::set(&homes, frozen)?;
        if frozen { Ok(()) } else { freeze::refuse_above(&homes) }
    }

    fn is_frozen(&self) -> Result<bool> {
        let Some(homes) = self.homes() else { return Ok(false) };
        Ok(freeze::is_set(&homes)? || freeze::above(&homes)?.is_some())
    }

    fn freezer_dir(&self) -> Option<PathBuf> {
        self.homes().and_then(|homes| freeze::place(&homes))
    }

    fn kill(&self, signal: i32) -> Result<()> {
        self.homes().map_or(Ok(()), |h| destroy::signal(&h, signal))
    }

    fn oom_kills(&self) -> Result<Option<u64>> {
        let Some(homes) = self.homes() else { return Ok(None) };
        let version = self.layout.split().version(Controller::Memory);
        let Some(home) = homes.find(Controller::Memory, version) else { return Ok(None) };
        let file = if version == Version::V2 { "memory.events" } else { "memory.oom_control" };
        match home.dir().read(file) {
            Ok(text) => Ok(keyed(&text, "oom_kill")),
            Err(Errno::NOENT | Errno::NODEV) => Ok(None),
            Err(e) => Err(e).at(|| format!("read `{}`", home.dir().file(file).display())),
        }
    }

    fn stats(&self) -> Result<Stats> {
        self.homes().map_or(Ok(Stats::default()), |h| stats::read(&h, &self.layout.split()))
    }

    fn destroy(&self) -> Result<()> {
        self.homes().map_or(Ok(()), |h| destroy::destroy(&h))
    }

    fn abandon(&self) -> Result<bool> {
        self.homes().map_or(Ok(true), |h| destroy::abandon(&h))
    }
}

/// A record of this manager.
pub(crate) fn record(path: String) -> CgroupRecord {
    CgroupRecord { manager: NAME.into(), path, ..CgroupRecord::default() }
}
