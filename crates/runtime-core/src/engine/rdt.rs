//! Resource groups of cache and memory bandwidth in the resctrl file system (Documentation/filesystems/resctrl.rst): made, joined, changed
//! and removed. Not here: what goes into them (`plan::rdt`).

use super::Runtime;
use crate::error::{Context, Error, Result};
use crate::id::ContainerId;
use crate::plan::rdt::{self, Rdt};
use crate::spec::{Linux, Spec};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
use std::os::fd::{AsFd, OwnedFd};

const MOUNT_POINT: &str = "/sys/fs/resctrl";

impl Runtime {
    /// Changes the container's share of caches and memory bandwidth; a schema that is not given stays.
    ///
    /// # Errors
    /// It has ended, its configuration has no `linux.intelRdt`, or the kernel refuses a value.
    pub fn update_intel_rdt(&self, id: &ContainerId, l3_cache: Option<&str>, mem_bw: Option<&str>) -> Result<()> {
        let text = rdt::update(l3_cache, mem_bw)?;
        let (dir, _) = self.alive(id)?;
        let config = dir.read_config()?;
        let spec = Spec::parse(&config).map_err(|e| e.context("load the configuration"))?;
        let Some(rdt) = Rdt::compile(&spec.linux(), id) else {
            return Err(Error::invalid(format!("the container `{id}` has no linux.intelRdt")));
        };
        Groups::open()?.write(&rdt, &text)
    }
}

/// Groups that were made for a container and go again unless it comes to be.
pub(super) struct Guard {
    groups: Groups,
    /// The last one first.
    made: Vec<String>,
}

impl Guard {
    /// They stay.
    pub(super) fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        for group in &self.made {
            if let Err(e) = unlinkat(&self.groups.root, &**group, AtFlags::REMOVEDIR) {
                tracing::warn!("remove `{}`: {e}", shown(group));
            }
        }
    }
}

/// Makes the groups of a new container, writes its schemata and puts its process `pid` there.
///
/// # Errors
/// No resctrl file system; a class without schemata that does not exist, or one that exists with others (config-linux.md, "IntelRdt"); what
/// the kernel says. No group that was made is left then.
pub(super) fn place(rdt: &Rdt, pid: i32) -> Result<Guard> {
    let mut guard = Guard { groups: Groups::open()?, made: Vec::new() };
    let groups = &guard.groups;
    if !rdt.own && rdt.schemata.is_empty() {
        groups.find(&rdt.group)?;
    } else if !rdt.group.is_empty() && groups.make(&rdt.group)? {
        guard.made.insert(0, rdt.group.clone());
    } else if !rdt.own {
        groups.compare(rdt)?;
    }
    if rdt.own || !guard.made.is_empty() {
        groups.write(rdt, &rdt.schemata)?;
    }
    if let Some(monitoring) = &rdt.monitoring {
        let path = below(&rdt.group, monitoring);
        if groups.make(&path)? {
            guard.made.insert(0, path);
        }
    }
    groups.enter(rdt, pid)?;
    Ok(guard)
}

/// Puts an additional process into a container's groups.
///
/// # Errors
/// They are gone, or what the kernel says.
pub(super) fn join(rdt: &Rdt, pid: i32) -> Result<()> {
    Groups::open()?.enter(rdt, pid)
}

/// Removes what [`place`] made for a container: its monitoring group, and the class of service if it bears the container's name. Others
/// may be in a class with a name of its own, so that stays, as it does under crun and runc.
pub(super) fn remove(linux: &Linux<'_>, id: &ContainerId) {
    let Some(rdt) = Rdt::compile(linux, id) else { return };
    let Ok(Groups { root }) = Groups::open().inspect_err(|e| tracing::warn!("{e}")) else { return };
    let class = rdt.own.then(|| rdt.group.clone());
    let monitoring = rdt.monitoring.map(|name| below(&rdt.group, &name));
    for path in monitoring.into_iter().chain(class) {
        match unlinkat(&root, &*path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(e) => tracing::warn!("remove `{}`: {e}", shown(&path)),
        }
    }
}

/// The file system's root.
struct Groups {
    root: OwnedFd,
}

impl Groups {
    fn open() -> Result<Self> {
        let none = || Error::other(format!("linux.intelRdt: no resctrl file system is mounted at `{MOUNT_POINT}`"));
        let root = openat(CWD, MOUNT_POINT, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|_| none())?;
        rustix::fs::accessat(&root, "schemata", rustix::fs::Access::EXISTS, AtFlags::empty()).map_err(|_| none())?;
        Ok(Self { root })
    }

    /// Makes a group unless it is there.
    fn make(&self, path: &str) -> Result<bool> {
        match mkdirat(&self.root, path, Mode::from_raw_mode(0o755)) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            // NOSPC: the hardware has only so many classes.
            Err(e) => Err(e).context(|| format!("linux.intelRdt: make the group `{}`{}", shown(path), self.reason())),
        }
    }

    fn find(&self, group: &str) -> Result<()> {
        let path = below(group, "schemata");
        rustix::fs::accessat(&self.root, &*path, rustix::fs::Access::EXISTS, AtFlags::empty())
            .map_err(|_| Error::invalid(format!("linux.intelRdt.closID: the resctrl group `{group}` does not exist")))
    }

    fn compare(&self, rdt: &Rdt) -> Result<()> {
        let path = below(&rdt.group, "schemata");
        let there = self.open_file(&path, OFlags::RDONLY).and_then(|file| std::io::read_to_string(std::fs::File::from(file)));
        let there = there.context(|| format!("read `{}`", shown(&path)))?;
        if rdt::agrees(&there, &rdt.schemata) {
            return Ok(());
        }
        let name = if rdt.group.is_empty() { "/" } else { &rdt.group };
        let now = there.split_whitespace().collect::<Vec<_>>().join(" ");
        Err(Error::invalid(format!("linux.intelRdt: the resctrl group `{name}` has a different configuration: {now}")))
    }

    fn write(&self, rdt: &Rdt, schemata: &str) -> Result<()> {
        // Nothing is no line, which the kernel refuses.
        if schemata.is_empty() { Ok(()) } else { self.put(&below(&rdt.group, "schemata"), schemata) }
    }

    /// The class comes first: the kernel takes a process into a monitoring group only from the class above it.
    fn enter(&self, rdt: &Rdt, pid: i32) -> Result<()> {
        let class = below(&rdt.group, "tasks");
        let monitoring = rdt.monitoring.as_ref().map(|name| below(&rdt.group, &below(name, "tasks")));
        [Some(class), monitoring].into_iter().flatten().try_for_each(|path| self.put(&path, &format!("{pid}\n")))
    }

    /// These files take a whole text in one write.
    fn put(&self, path: &str, text: &str) -> Result<()> {
        let file = self.open_file(path, OFlags::WRONLY | OFlags::TRUNC);
        let written = file.and_then(|file| Ok(rustix::io::write(&file, text.as_bytes())?));
        let what = || format!("linux.intelRdt: write `{}` to `{}`{}", text.trim_end().replace('\n', " "), shown(path), self.reason());
        written.context(what).map(drop)
    }

    fn open_file(&self, path: &str, flags: OFlags) -> std::io::Result<OwnedFd> {
        Ok(openat(self.root.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// The kernel's own words on the last failure, in brackets.
    fn reason(&self) -> String {
        let file = self.open_file("info/last_cmd_status", OFlags::RDONLY);
        let text = file.and_then(|file| std::io::read_to_string(std::fs::File::from(file))).unwrap_or_default();
        match text.trim() {
            "" | "ok" => String::new(),
            words => format!(" ({words})"),
        }
    }
}

/// A path below a group; the root's is empty.
fn below(group: &str, name: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{group}/{name}") }
}

fn shown(path: &str) -> String {
    format!("{MOUNT_POINT}/{path}")
}
