//! `mounts add` and `mounts remove`: mounts of a container that exists. Not here: the steps (`plan::live`).

use super::Runtime;
use super::launch::{self, Launched, Parent, Setup};
use super::slots::{self, Sources};
use crate::api::{Placement, SeccompListener};
use crate::error::{Context as _, Error, Result};
use crate::facts::{self, Facts};
use crate::id::ContainerId;
use crate::init::wire::Gate;
use crate::plan::ids::IdMaps;
use crate::plan::{self, ContainerPlan, Context, Place, live};
use crate::spec::{Mount, Spec};
use crate::state::Record;
use crate::{sys, validate};
use std::os::fd::OwnedFd;
use std::path::Path;

impl Runtime {
    /// Adds mounts to a container that runs, is paused or waits for `start`. All of them, or none.
    ///
    /// `raw` is a JSON array of mounts as in config.json (config.md, "Mounts"); relative sources are looked up in the bundle.
    ///
    /// # Errors
    /// The array is not acceptable, or a mount fails.
    pub fn add_mounts(&self, id: &ContainerId, raw: &[u8]) -> Result<()> {
        self.with_target(id, raw, |target| {
            let plan = live::add(&target.context())?;
            let Err((e, done)) = target.execute(&plan) else { return Ok(()) };
            let undone = live::undo(&target.context(), &plan.steps[..done]).and_then(|undo| target.execute(&undo).map_err(|(e, _)| e));
            match undone {
                Ok(()) => Err(e),
                Err(more) => Err(Error::other(format!("{e}; the mounts before it stay: {more}"))),
            }
        })
    }

    /// Removes what is mounted at the destinations of such an array, the last one first; everything else in it is ignored.
    ///
    /// # Errors
    /// The array is not acceptable, or nothing is mounted at a destination; those behind it are removed then.
    pub fn remove_mounts(&self, id: &ContainerId, raw: &[u8]) -> Result<()> {
        self.with_target(id, raw, |target| {
            let plan = live::remove(&target.context(), &target.spec.mounts)?;
            target.execute(&plan).map_err(|(e, _)| e)
        })
    }

    fn with_target(&self, id: &ContainerId, raw: &[u8], deed: impl FnOnce(&Target<'_>) -> Result<()>) -> Result<()> {
        let (dir, record) = self.alive(id)?;
        let config = dir.read_config()?;
        let mounts: Vec<Mount<'_>> = crate::spec::parse(raw).map_err(|e| e.context("load the mounts"))?;
        validate::mounts(&mounts)?;
        let spec = Spec::parse(&config).map_err(|e| e.context("load the configuration"))?;
        let proc = facts::open_proc()?;
        let facts = Facts::gather(&proc, &spec, None)?;
        let id_maps = plan::new_id_maps(&spec.linux(), &facts)?;
        let spec = Spec { mounts, ..spec };
        deed(&Target { root: &self.root, id, record: &record, proc: &proc, facts: &facts, spec: &spec, id_maps: id_maps.as_ref() })
    }
}

/// The container, and the mounts in question in place of its own.
struct Target<'a> {
    root: &'a Path,
    id: &'a ContainerId,
    record: &'a Record,
    proc: &'a OwnedFd,
    facts: &'a Facts,
    spec: &'a Spec<'a>,
    id_maps: Option<&'a IdMaps>,
}

impl Target<'_> {
    fn context(&self) -> Context<'_> {
        let linux = self.spec.linux();
        let has = |kind: &str| linux.namespaces.iter().any(|n| n.kind == kind);
        let bundle = Path::new(&self.record.bundle);
        Context {
            spec: self.spec,
            facts: self.facts,
            place: Place { id: self.id, bundle, rootfs: Path::new(&self.record.rootfs), notify: bundle },
            user_namespace: self.id_maps.is_some() || has("user"),
            cgroup_namespace: has("cgroup"),
            id_maps: self.id_maps,
            no_cgroup: self.record.cgroup.path.is_empty(),
            late_cgroup: false,
            parent_opens_sources: true,
            in_tree: false,
        }
    }

    /// Lets a process go through the steps; on failure, how many of them were done.
    fn execute(&self, plan: &ContainerPlan) -> std::result::Result<(), (Error, usize)> {
        let placement = Placement { record: self.record.cgroup.clone(), ..Placement::default() };
        let sources = Sources { proc: self.proc, root: self.root, cgroup: &placement.record.path, console: None, init: self.record.pid };
        let launched = slots::open(&plan.opens, &sources).and_then(|slots| {
            let (spent, gate) = (Vec::new(), Gate::Open);
            let setup = Setup {
                proc: self.proc,
                placement: &placement,
                spent,
                seccomp: None,
                gate,
                slots,
                handler: None,
                foreground: None,
                profile: None,
            };
            launch::launch(plan, setup)
        });
        let mut launched = launched.map_err(|e| (e, 0))?;
        let done = launched.attend(&mut Bystander).and_then(|()| launched.executed());
        done.map_err(|e| (e, launched.failed()))?;
        ended(launched).map_err(|e| (e, 0))
    }
}

/// There is nothing a parent must do for it.
struct Bystander;

impl Parent for Bystander {
    fn attach(&mut self, _: i32) -> Result<()> {
        Ok(())
    }
    fn mounted(&mut self, _: i32) -> Result<()> {
        Ok(())
    }
    fn listener(&mut self, _: &SeccompListener, _: i32, _: OwnedFd) -> Result<()> {
        Ok(())
    }
}

fn ended(mut launched: Launched<'_>) -> Result<()> {
    match sys::wait4(launched.keep(), 0).context(|| "waitpid")?.1 {
        0 => Ok(()),
        status => Err(Error::other(format!("the process that changes the mounts ended with status {status:#x}"))),
    }
}
