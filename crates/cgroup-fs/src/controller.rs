//! The kernel's resource controllers, sets of them, and which of the two cgroup versions each is used in. Not here: where a hierarchy
//! is mounted (`layout`).

use std::fmt;

/// A resource controller (cgroups(7)). The discriminant is the bit in a [`ControllerSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Controller {
    /// CPU time.
    Cpu,
    /// CPU accounting, a controller of its own in v1 only.
    Cpuacct,
    /// CPUs and memory nodes.
    Cpuset,
    /// Memory.
    Memory,
    /// Block I/O: `blkio` in v1, `io` in v2.
    Io,
    /// Number of tasks.
    Pids,
    /// Huge pages.
    Hugetlb,
    /// RDMA devices.
    Rdma,
    /// Scalar resources.
    Misc,
    /// Device memory, v2 only.
    Dmem,
    /// Device access: files in v1, an eBPF program in v2, where it is no controller that could be missing.
    Devices,
    /// Freezing: a controller in v1, part of the core in v2.
    Freezer,
    /// Network class, v1 only.
    NetCls,
    /// Network priority, v1 only.
    NetPrio,
    /// perf events.
    PerfEvent,
    /// The `cgroup.*` files, which every cgroup has.
    Core,
}

use Controller::{Core, Cpu, Cpuacct, Cpuset, Devices, Dmem, Freezer, Hugetlb, Io, Memory, Misc, NetCls, NetPrio, PerfEvent, Pids, Rdma};

const ALL: [Controller; 16] =
    [Cpu, Cpuacct, Cpuset, Memory, Io, Pids, Hugetlb, Rdma, Misc, Dmem, Devices, Freezer, NetCls, NetPrio, PerfEvent, Core];

/// The version of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy a group of controllers.
    V1,
    /// The unified hierarchy.
    V2,
}

impl Controller {
    /// The kernel's name for it in hierarchies of `version`.
    pub fn name(self, version: Version) -> &'static str {
        match self {
            Cpu => "cpu",
            Cpuacct => "cpuacct",
            Cpuset => "cpuset",
            Memory => "memory",
            Io if version == Version::V1 => "blkio",
            Io => "io",
            Pids => "pids",
            Hugetlb => "hugetlb",
            Rdma => "rdma",
            Misc => "misc",
            Dmem => "dmem",
            Devices => "devices",
            Freezer => "freezer",
            NetCls => "net_cls",
            NetPrio => "net_prio",
            PerfEvent => "perf_event",
            Core => "cgroup",
        }
    }

    /// The controller of that name in either version.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "blkio" {
            return Some(Io);
        }
        ALL.into_iter().find(|c| c.name(Version::V2) == name)
    }

    /// Whether v2 lists it in `cgroup.controllers`, so that it must be enabled from the parent.
    pub(crate) fn is_enabled_by_parent(self) -> bool {
        matches!(self, Cpu | Cpuset | Memory | Io | Pids | Hugetlb | Rdma | Misc | Dmem)
    }
}

/// A set of controllers.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ControllerSet(u16);

impl ControllerSet {
    /// No controller.
    pub const EMPTY: Self = Self(0);

    /// The given controllers.
    pub const fn of(list: &[Controller]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < list.len() {
            bits |= 1 << list[i] as u16;
            i += 1;
        }
        Self(bits)
    }

    /// The controllers named in `text`, separated by white space or commas; unknown words are skipped.
    pub fn parse(text: &str) -> Self {
        let words = text.split([' ', ',', '\n', '\t']);
        words.filter_map(Controller::from_name).fold(Self::EMPTY, |s, c| s.with(c))
    }

    /// This set and `controller`.
    #[must_use]
    pub fn with(self, controller: Controller) -> Self {
        Self(self.0 | 1 << controller as u16)
    }

    /// Whether `controller` is in it.
    pub fn contains(self, controller: Controller) -> bool {
        self.0 & (1 << controller as u16) != 0
    }

    /// Everything of either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this set but not in `other`.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members.
    pub fn iter(self) -> impl Iterator<Item = Controller> {
        ALL.into_iter().filter(move |&c| self.contains(c))
    }
}

impl fmt::Debug for ControllerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Which version serves which controller: what the pure functions need to know of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Controllers that sit in a v1 hierarchy.
    pub v1: ControllerSet,
    /// Whether there is a v2 tree, which then serves all others.
    pub v2: bool,
}

impl Split {
    /// A host with nothing but a v2 tree.
    pub const V2: Self = Self { v1: ControllerSet::EMPTY, v2: true };

    /// The version that `controller` is used in.
    pub fn version(&self, controller: Controller) -> Version {
        if self.v2 && !self.v1.contains(controller) { Version::V2 } else { Version::V1 }
    }

    /// Whether there is only a v2 tree.
    pub fn is_pure_v2(&self) -> bool {
        self.v2 && self.v1.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_the_controller() {
        for c in ALL {
            assert_eq!(Controller::from_name(c.name(Version::V1)), Some(c));
            assert_eq!(Controller::from_name(c.name(Version::V2)), Some(c));
        }
        assert_eq!(Controller::from_name("debug"), None);
    }

    #[test]
    fn sets_parse_both_separators_and_skip_unknown_words() {
        let s = ControllerSet::parse("rw,cpu,cpuacct,xattr");
        assert_eq!(s, ControllerSet::of(&[Cpu, Cpuacct]));
        assert_eq!(ControllerSet::parse("cpuset io\n"), ControllerSet::of(&[Cpuset, Io]));
        assert!(s.minus(ControllerSet::of(&[Cpu])).contains(Cpuacct) && !s.minus(s).contains(Cpu));
    }

    #[test]
    fn a_controller_is_served_by_v1_where_that_has_it() {
        let hybrid = Split { v1: ControllerSet::of(&[Memory]), v2: true };
        assert_eq!(hybrid.version(Memory), Version::V1);
        assert_eq!(hybrid.version(Hugetlb), Version::V2);
        assert_eq!(Split { v1: ControllerSet::EMPTY, v2: false }.version(Hugetlb), Version::V1);
    }
}
