//! `linux.resources` → what to write into which file, without touching the host: v1 and v2 side by side. Not here: writing (`apply`),
//! device programs (`device`).

mod blkio;
mod convert;
mod cpu;
mod devices;
mod memory;
mod others;
mod unified;

pub use convert::{io_weight, weight_from_shares};

use crate::controller::{Controller, ControllerSet, Split, Version};
use runtime_core::spec::Resources;
use runtime_core::{Error, Result};
use std::borrow::Cow;

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Whose file it is.
    pub controller: Controller,
    /// In which hierarchy: that of the controller, or the v2 tree.
    pub version: Version,
    /// Name in the cgroup's directory.
    pub file: Cow<'static, str>,
    /// What write(2) gets.
    pub value: String,
    /// Where it comes from, below `linux.resources.`.
    pub field: Cow<'static, str>,
    /// What to do when it fails.
    pub policy: Policy,
}

/// What a failing write means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// File and value to use where the file does not exist.
    pub alias: Option<(&'static str, String)>,
    /// A file that does not exist is no error: the kernel was built or booted without the feature, and the value would change nothing
    /// that it could enforce.
    pub absent_ok: bool,
    /// A kernel that has given the feature up (EOPNOTSUPP) is no error.
    pub unsupported_ok: bool,
    /// The kernel checks the file against its siblings: refused values (EINVAL) are tried again after the others of the same run.
    pub settle: bool,
}

/// A limit that must not be below what is in use, for `checkBeforeUpdate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// In which hierarchy of the memory controller.
    pub version: Version,
    /// File with the usage in bytes.
    pub usage: &'static str,
    /// The limit, in bytes.
    pub limit: u64,
}

/// Everything but device programs, in the order to write it.
///
/// # Errors
/// [`ErrorKind::Invalid`](runtime_core::ErrorKind::Invalid) for values that contradict each other or that the version in use has no
/// file for.
pub fn writes(resources: &Resources<'_>, split: &Split) -> Result<Vec<Write>> {
    let mut out = Sink { split: *split, out: Vec::new() };
    let order: &[fn(&mut Sink, &Resources<'_>) -> Result<()>] = if split.is_pure_v2() {
        &[memory::put, others::pids, cpu::time, cpu::set, blkio::put, others::hugepages, others::network, others::rdma, unified::put]
    } else {
        &[
            blkio::put,
            others::network,
            others::hugepages,
            devices::put,
            memory::put,
            others::pids,
            cpu::time,
            cpu::set,
            others::rdma,
            unified::put,
        ]
    };
    for put in order {
        put(&mut out, resources)?;
    }
    Ok(out.out)
}

/// The checks that `checkBeforeUpdate` asks for.
pub fn checks(resources: &Resources<'_>, split: &Split) -> Vec<Check> {
    memory::checks(resources, split.version(Controller::Memory))
}

/// The controllers whose files `writes` name.
pub fn needed(writes: &[Write]) -> ControllerSet {
    writes.iter().fold(ControllerSet::EMPTY, |set, w| set.with(w.controller))
}

/// The first field that limits something, if any does; device rules are not counted.
pub fn asked(r: &Resources<'_>) -> Option<&'static str> {
    let memory = r.memory.is_some_and(|m| m.limit.or(m.swap).or(m.reservation).or(m.kernel).or(m.kernel_tcp).is_some());
    let memory = memory || r.memory.is_some_and(|m| m.swappiness.is_some() || m.disable_oom_killer == Some(true));
    let cpu = r.cpu.as_ref().is_some_and(|c| {
        c.shares.or(c.burst).or(c.period).or(c.realtime_period).is_some()
            || c.quota.or(c.realtime_runtime).or(c.idle).is_some()
            || c.cpus.as_ref().or(c.mems.as_ref()).is_some()
    });
    let io = r.block_io.as_ref().is_some_and(|b| {
        b.weight.or(b.leaf_weight).is_some()
            || !b.weight_device.is_empty()
            || [&b.throttle_read_bps_device, &b.throttle_write_bps_device, &b.throttle_read_iops_device, &b.throttle_write_iops_device]
                .iter()
                .any(|l| !l.is_empty())
    });
    let network = r.network.as_ref().is_some_and(|n| n.class_id.is_some() || !n.priorities.is_empty());
    let fields = [
        (memory, "memory"),
        (cpu, "cpu"),
        (r.pids.and_then(|p| p.limit).is_some_and(|l| l != 0), "pids"),
        (io, "blockIO"),
        (!r.hugepage_limits.is_empty(), "hugepageLimits"),
        (network, "network"),
        (!r.rdma.is_empty(), "rdma"),
        (!r.unified.is_empty(), "unified"),
    ];
    fields.iter().find(|f| f.0).map(|f| f.1)
}

/// An error about a field below `linux.resources`.
fn invalid(field: &str, text: impl std::fmt::Display) -> Error {
    Error::invalid(format!("linux.resources.{field}: {text}"))
}

/// Collects writes.
struct Sink {
    split: Split,
    out: Vec<Write>,
}

impl Sink {
    fn version(&self, controller: Controller) -> Version {
        self.split.version(controller)
    }

    /// `v1` or `v2` as file and value, by the version that serves the controller.
    fn put(
        &mut self,
        controller: Controller,
        field: impl Into<Cow<'static, str>>,
        v1: (impl Into<Cow<'static, str>>, String),
        v2: (impl Into<Cow<'static, str>>, String),
    ) -> &mut Write {
        let version = self.version(controller);
        let (file, value) = if version == Version::V1 { (v1.0.into(), v1.1) } else { (v2.0.into(), v2.1) };
        self.push(Write { controller, version, file, value, field: field.into(), policy: Policy::default() })
    }

    fn push(&mut self, write: Write) -> &mut Write {
        self.out.push(write);
        let last = self.out.len() - 1;
        &mut self.out[last]
    }
}

impl Write {
    fn or_alias(&mut self, file: &'static str, value: String) -> &mut Self {
        self.policy.alias = Some((file, value));
        self
    }

    fn absent_ok(&mut self) -> &mut Self {
        self.policy.absent_ok = true;
        self
    }

    fn unsupported_ok(&mut self) -> &mut Self {
        self.policy.unsupported_ok = true;
        self
    }

    fn settle(&mut self) -> &mut Self {
        self.policy.settle = true;
        self
    }
}

#[cfg(test)]
mod tests;
