//! `memory`. Not here: reading the usage that `checkBeforeUpdate` compares with.

use super::convert::or_max;
use super::{Check, Sink, invalid};
use crate::controller::Controller::Memory as Ctl;
use crate::controller::Version;
use runtime_core::spec::{Memory, Resources};
use runtime_core::{Error, Result};

pub(super) fn put(out: &mut Sink, r: &Resources<'_>) -> Result<()> {
    let Some(m) = &r.memory else { return Ok(()) };
    let version = out.version(Ctl);
    // On v1 the kernel wants limit <= limit + swap at any moment: which of the two goes first depends on what was there.
    if let Some(limit) = m.limit {
        out.put(Ctl, "memory.limit", ("memory.limit_in_bytes", limit.to_string()), ("memory.max", or_max(limit))).settle();
    }
    if let Some(value) = swap(m, version)? {
        out.put(Ctl, "memory.swap", ("memory.memsw.limit_in_bytes", value.clone()), ("memory.swap.max", value)).settle().absent_ok();
    }
    if let Some(soft) = m.reservation {
        out.put(Ctl, "memory.reservation", ("memory.soft_limit_in_bytes", soft.to_string()), ("memory.low", or_max(soft)));
    }
    if version == Version::V2 { only_v1(m) } else { v1(out, m) }
}

/// What the swap file gets. OCI counts memory plus swap, as v1 does; v2 counts swap alone.
fn swap(m: &Memory, version: Version) -> Result<Option<String>> {
    let Some(both) = m.swap else { return Ok(None) };
    if both < 0 {
        return Ok(Some(if version == Version::V1 { both.to_string() } else { "max".into() }));
    }
    if both == 0 {
        // v1 takes no 0 here, since the limit counts memory too; writers mean "unset" by it.
        return Ok((version == Version::V2).then(|| "0".into()));
    }
    if m.limit.is_some_and(|limit| limit < 0 || both < limit) {
        return Err(Error::invalid("cannot set memory+swap limit less than the memory limit").context("linux.resources.memory.swap"));
    }
    match (version, m.limit) {
        (Version::V1, _) => Ok(Some(both.to_string())),
        (Version::V2, Some(limit)) => Ok(Some((both - limit).to_string())),
        (Version::V2, None) => Err(Error::invalid("cannot set swap limit without the memory limit").context("linux.resources.memory.swap")),
    }
}

/// Fields without a counterpart on v2 are errors, unless they say what v2 does anyway.
fn only_v1(m: &Memory) -> Result<()> {
    let refused = [
        (m.kernel.is_some_and(|v| v >= 0), "kernel"),
        (m.kernel_tcp.is_some_and(|v| v >= 0), "kernelTCP"),
        (m.swappiness.is_some(), "swappiness"),
        (m.disable_oom_killer == Some(true), "disableOOMKiller"),
        (m.use_hierarchy == Some(false), "useHierarchy"),
    ];
    match refused.iter().find(|f| f.0) {
        Some((_, field)) => Err(invalid(&format!("memory.{field}"), "not supported on cgroupv2")),
        None => Ok(()),
    }
}

fn v1(out: &mut Sink, m: &Memory) -> Result<()> {
    let mut put = |field: &'static str, file: &'static str, value: String| {
        // Kernels since 5.16 no longer limit kernel memory apart; runtimes pass over that.
        out.put(Ctl, field, (file, value), ("", String::new())).unsupported_ok();
    };
    if let Some(v) = m.use_hierarchy {
        put("memory.useHierarchy", "memory.use_hierarchy", u8::from(v).to_string());
    }
    if let Some(v) = m.kernel {
        put("memory.kernel", "memory.kmem.limit_in_bytes", v.to_string());
    }
    if let Some(v) = m.kernel_tcp {
        put("memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", v.to_string());
    }
    if let Some(v) = m.disable_oom_killer.filter(|&v| v) {
        put("memory.disableOOMKiller", "memory.oom_control", u8::from(v).to_string());
    }
    if let Some(v) = m.swappiness {
        put("memory.swappiness", "memory.swappiness", v.to_string());
    }
    Ok(())
}

pub(super) fn checks(r: &Resources<'_>, version: Version) -> Vec<Check> {
    let Some(m) = r.memory.filter(|m| m.check_before_update == Some(true)) else { return Vec::new() };
    let positive = |v: Option<i64>| v.and_then(|v| u64::try_from(v).ok());
    let (limit, both) = (positive(m.limit), positive(m.swap).filter(|&v| v > 0));
    let (memory, swap, swap_limit) = match version {
        Version::V1 => ("memory.usage_in_bytes", "memory.memsw.usage_in_bytes", both),
        Version::V2 => ("memory.current", "memory.swap.current", both.zip(limit).and_then(|(b, l)| b.checked_sub(l))),
    };
    let check = |usage, limit: Option<u64>| limit.map(|limit| Check { version, usage, limit });
    check(memory, limit).into_iter().chain(check(swap, swap_limit)).collect()
}
