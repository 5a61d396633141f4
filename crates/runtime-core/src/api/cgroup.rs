//! The cgroup traits: a manager places a process before it exists; a cgroup is what it then lives in. Not here: files, D-Bus.

use super::stats::Stats;
use crate::error::Result;
use crate::id::ContainerId;
use crate::spec::{Map, Resources, Str};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What a manager needs to know to make a container's cgroup.
#[derive(Debug, Clone, Copy)]
pub struct CgroupRequest<'a> {
    /// The container.
    pub id: &'a ContainerId,
    /// `linux.cgroupsPath`; its syntax is the manager's.
    pub cgroups_path: Option<&'a str>,
    /// `linux.resources`.
    pub resources: &'a Resources<'a>,
    /// `annotations`; managers read those of their own.
    pub annotations: &'a Map<'a, Str<'a>>,
    /// The runtime has no privileges on the host: a cgroup that cannot be made is not an error unless limits or a path were asked for.
    pub rootless: bool,
    /// Host uid and gid of the container's root, where the container has a user namespace and a cgroup namespace of its own and so may
    /// manage its subtree (cgroup-v2.rst, "Delegation"): the manager makes it the owner of the delegable files.
    pub owner: Option<(u32, u32)>,
    /// The caller has seen that `/sys/fs/cgroup` is one v2 tree: nobody needs to look again.
    pub unified: bool,
}

/// Told what will be made before any of it is, so that it can be found though its maker is killed; may be told more than once, and the last
/// word counts. What it returns ends the making.
pub type Note<'a> = &'a dyn Fn(&CgroupRecord) -> Result<()>;

/// Where a process that does not exist yet will live.
#[derive(Debug, Default)]
pub struct Placement {
    /// Directory of a v2 cgroup, for `CLONE_INTO_CGROUP` (kernel 5.7). Where the kernel lacks that, the launcher opens `cgroup.procs` in it.
    pub into: Option<OwnedFd>,
    /// `cgroup.procs` files opened for writing, one a v1 hierarchy: the child writes `0` to each, which moves it without any message
    /// to the parent.
    pub join: Vec<OwnedFd>,
    /// The manager moves the process itself in [`CgroupManager::enter`] (systemd does): the child waits for that before it makes a
    /// cgroup namespace.
    pub moved_by_manager: bool,
    /// The cgroup was made for this container: nothing of others' is in it that would have to be looked for.
    pub fresh: bool,
    /// Descriptors that were needed on the way here. The launcher closes them together with its own.
    pub spent: Vec<OwnedFd>,
    /// What the state file keeps.
    pub record: CgroupRecord,
}

/// How the state file names a cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupRecord {
    /// [`CgroupManager::name`].
    pub manager: String,
    /// Path below the root of each hierarchy, with a leading slash; empty where there is no cgroup.
    pub path: String,
    /// systemd unit, where one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Mount point of a named v1 hierarchy that has the cgroup, too, beside the v2 tree: for a systemd in the container that knows no v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<String>,
}

/// Makes, finds and removes cgroups.
pub trait CgroupManager: Send + Sync {
    /// `cgroupfs`, `systemd` or `disabled`; stored in the state file.
    fn name(&self) -> &'static str;

    /// Prepares what can be prepared before the process exists. A manager that needs no pid makes the cgroup and sets the limits here, so
    /// that they are in force from the process's first instruction. `note` is told before.
    ///
    /// # Errors
    /// Nothing is left behind on failure. Texts name the controller and the file.
    fn place(&self, request: &CgroupRequest<'_>, note: Note<'_>) -> Result<Placement>;

    /// Does what the process waits for, once it exists; the limits are in force when this returns.
    ///
    /// # Errors
    /// As [`place`](Self::place); the caller destroys what `place` made, by [`open`](Self::open) on its record.
    fn enter(&self, request: &CgroupRequest<'_>, placement: &Placement, pid: i32) -> Result<Box<dyn Cgroup>>;

    /// Puts the device rules in force, where [`place`](Self::place) and [`enter`](Self::enter) have not. The process is the runtime's still
    /// and prepares itself meanwhile, which no rule keeps it from: the devices of every container are among what it opens, and it may make
    /// any node. What it returns is to be dropped whenever that costs least.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    fn confine(&self, request: &CgroupRequest<'_>, placement: &Placement) -> Result<Option<OwnedFd>> {
        let _ = (request, placement);
        Ok(None)
    }

    /// The cgroup of a container made earlier. Opening one that is gone succeeds; its operations then report nothing to do.
    ///
    /// # Errors
    /// A record that is malformed, or hierarchies that cannot be found.
    fn open(&self, record: &CgroupRecord) -> Result<Box<dyn Cgroup>>;
}

/// A container's cgroup, in one or several hierarchies.
pub trait Cgroup {
    /// Where an additional process (`exec`) will live: the cgroup itself, or `sub` below it, which must exist and must not leave it.
    /// `init` is the container's first process, whose own cgroup is used where the container's root cgroup holds no processes (EBUSY
    /// on v2).
    ///
    /// # Errors
    /// `sub` escapes or does not exist, or the cgroup is gone.
    fn join(&self, sub: Option<&str>, init: i32) -> Result<Placement>;

    /// Changes limits.
    ///
    /// # Errors
    /// Names the file and the value refused.
    fn apply(&self, resources: &Resources<'_>) -> Result<()>;

    /// All processes in the cgroup and below it, in no order.
    ///
    /// # Errors
    /// Reading fails for another reason than the cgroup being gone.
    fn pids(&self) -> Result<Vec<i32>>;

    /// Stops (`true`) or continues all processes, and waits until that has happened.
    ///
    /// # Errors
    /// No freezer, or the state was not reached.
    fn freeze(&self, frozen: bool) -> Result<()>;

    /// Whether the cgroup is frozen; `false` where it is gone.
    ///
    /// # Errors
    /// Reading fails for another reason than the cgroup being gone.
    fn is_frozen(&self) -> Result<bool>;

    /// The directory of the cgroup in the hierarchy that freezes it, for a program that does it by itself; `None` where there is none.
    fn freezer_dir(&self) -> Option<PathBuf>;

    /// Sends `signal` to every process: `cgroup.kill` for SIGKILL where there is one (5.14), else frozen, signalled and thawed.
    ///
    /// # Errors
    /// A process could not be signalled.
    fn kill(&self, signal: i32) -> Result<()>;

    /// How many processes the kernel's OOM killer has ended here; `None` where the kernel does not say.
    ///
    /// # Errors
    /// Reading fails for another reason than the cgroup being gone.
    fn oom_kills(&self) -> Result<Option<u64>>;

    /// What has been used so far. Values that cannot be had are absent; nothing is asked of processes.
    ///
    /// # Errors
    /// Reading fails for another reason than the cgroup or a controller being gone.
    fn stats(&self) -> Result<Stats>;

    /// Kills what is left and removes the cgroup with all below it, depth first, waiting for exiting processes by events, not by sleeping.
    ///
    /// # Errors
    /// Names the pids that keep it busy.
    fn destroy(&self) -> Result<()>;

    /// Removes what the maker of a container that never came to be has left, as [`Note`] was told it: there may be none of it, and the
    /// processes in it may be those of others, which the maker had not seen yet. So none is killed; those of the container end by
    /// themselves without their maker, and `false` says that there are some still.
    ///
    /// # Errors
    /// It cannot be removed for another reason than being in use.
    fn abandon(&self) -> Result<bool>;
}
