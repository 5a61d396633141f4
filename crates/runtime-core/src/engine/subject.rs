//! A container that is being made of a bundle, by `create` or by `restore`: what is known of it, and what both tell others of it. Not here:
//! making it.

use super::hooks;
use crate::api::{CgroupRequest, Placement};
use crate::bundle::Bundle;
use crate::error::Result;
use crate::facts::{self, CgroupLayout, Facts};
use crate::id::ContainerId;
use crate::plan::hooks::Identity;
use crate::plan::{ContainerPlan, ids::IdMaps};
use crate::spec::{Hooks, Linux, Resources, Spec};
use crate::state::{ContainerDir, Record};
use crate::time::Timestamp;
use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The container.
pub(super) struct Subject<'a> {
    pub id: &'a ContainerId,
    /// A trusted procfs.
    pub proc: &'a OwnedFd,
    pub bundle: &'a Bundle,
    pub spec: &'a Spec<'a>,
    pub rootfs: PathBuf,
    pub facts: Facts,
    pub plan: ContainerPlan,
}

impl Subject<'_> {
    /// What it asks of a cgroup manager; `none` stands in for limits that the configuration does not have.
    pub(super) fn request<'r>(&'r self, linux: &'r Linux<'r>, none: &'r Resources<'r>) -> CgroupRequest<'r> {
        let own_cgroup = linux.namespaces.iter().any(|n| n.kind == "cgroup");
        CgroupRequest {
            id: self.id,
            cgroups_path: linux.cgroups_path.as_deref(),
            resources: linux.resources.as_ref().unwrap_or(none),
            annotations: &self.spec.annotations,
            rootless: self.facts.rootless(),
            owner: self.plan.id_maps.as_ref().filter(|_| own_cgroup).and_then(IdMaps::root),
            unified: self.facts.cgroups == Some(CgroupLayout::Unified),
        }
    }

    /// What hooks are told.
    pub(super) fn identity(&self) -> Identity<'_> {
        Identity { id: self.id, bundle: &self.bundle.path, rootfs: &self.rootfs, annotations: &self.spec.annotations }
    }

    pub(super) fn hooks(&self) -> Cow<'_, Hooks<'_>> {
        self.spec.hooks.as_ref().map_or_else(Default::default, Cow::Borrowed)
    }

    /// Runs the hooks that come when the process `pid` is in its namespaces (runtime.md, "Lifecycle", steps 3 and 4).
    ///
    /// # Errors
    /// The first hook that fails.
    pub(super) fn early_hooks(&self, pid: i32) -> Result<()> {
        let (hooks, who) = (self.hooks(), self.identity());
        hooks::run(&hooks.prestart, &who, "created", pid)?;
        hooks::run(&hooks.create_runtime, &who, "created", pid)
    }

    /// Writes everything down; from then on `state` knows it.
    ///
    /// # Errors
    /// The process has ended, or a file cannot be written.
    pub(super) fn write_down(&self, dir: &ContainerDir, pid: i32, placement: &Placement, detached: bool) -> Result<()> {
        dir.write_config(&self.bundle.config)?;
        dir.write_status(&Record {
            pid,
            process_start_time: dir.start_time(pid)?,
            cgroup: placement.record.clone(),
            rootfs: self.rootfs.display().to_string(),
            bundle: self.bundle.path.display().to_string(),
            created: Timestamp::now().to_string(),
            owner: Some(owner(self.facts.euid)),
            detached,
            external_descriptors: external_descriptors(self.proc),
        })
    }
}

/// Login name of the user, or its number.
fn owner(euid: u32) -> String {
    if euid == 0 { "root".to_owned() } else { facts::login_name(euid).unwrap_or_else(|| euid.to_string()) }
}

/// Where the standard descriptors lead, for a later restore (CRIU's `--external`).
fn external_descriptors(proc: &OwnedFd) -> Vec<String> {
    let link = |fd: i32| rustix::fs::readlinkat(proc, format!("self/fd/{fd}"), Vec::new());
    (0..3).map(|fd| link(fd).map_or_else(|_| "/dev/null".to_owned(), |l| l.to_string_lossy().into_owned())).collect()
}
