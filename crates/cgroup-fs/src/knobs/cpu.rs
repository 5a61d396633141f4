//! `cpu`: time, and the CPUs and memory nodes of cpuset. Not here: the initial values a v1 cpuset needs (`manager`).

use super::convert::weight_from_shares;
use super::{Sink, invalid};
use crate::controller::Controller::{Cpu as Ctl, Cpuset};
use crate::controller::Version;
use runtime_core::Result;
use runtime_core::spec::{Cpu, Resources};

/// `cpu.max` without a period given (the kernel's default), microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// Shares, quota, burst, idle, real time. The kernel checks quota, period and burst against each other and against the parent, and refuses
/// a weight for an idle group, so all of them settle.
pub(super) fn time(out: &mut Sink, r: &Resources<'_>) -> Result<()> {
    let Some(cpu) = &r.cpu else { return Ok(()) };
    if let Some((shares, weight)) = cpu.shares.and_then(|s| Some((s, weight_from_shares(s)?))) {
        out.put(Ctl, "cpu.shares", ("cpu.shares", shares.to_string()), ("cpu.weight", weight.to_string())).settle();
    }
    let period = cpu.period.filter(|&p| p > 0);
    let quota = cpu.quota.filter(|&q| q != 0);
    match out.version(Ctl) {
        Version::V1 => v1(out, cpu, period, quota),
        Version::V2 => v2(out, cpu, period, quota)?,
    }
    if let Some(burst) = cpu.burst {
        out.put(Ctl, "cpu.burst", ("cpu.cfs_burst_us", burst.to_string()), ("cpu.max.burst", burst.to_string())).settle();
    }
    if let Some(idle) = cpu.idle {
        out.put(Ctl, "cpu.idle", ("cpu.idle", idle.to_string()), ("cpu.idle", idle.to_string())).settle();
    }
    Ok(())
}

fn v1(out: &mut Sink, cpu: &Cpu<'_>, period: Option<u64>, quota: Option<i64>) {
    let mut put = |field: &'static str, file: &'static str, value: Option<String>| {
        if let Some(value) = value {
            out.put(Ctl, field, (file, value), ("", String::new())).settle();
        }
    };
    put("cpu.period", "cpu.cfs_period_us", period.map(|v| v.to_string()));
    put("cpu.quota", "cpu.cfs_quota_us", quota.map(|v| v.max(-1).to_string()));
    put("cpu.realtimePeriod", "cpu.rt_period_us", cpu.realtime_period.map(|v| v.to_string()));
    put("cpu.realtimeRuntime", "cpu.rt_runtime_us", cpu.realtime_runtime.map(|v| v.to_string()));
}

fn v2(out: &mut Sink, cpu: &Cpu<'_>, period: Option<u64>, quota: Option<i64>) -> Result<()> {
    if cpu.realtime_period.is_some_and(|v| v != 0) {
        return Err(invalid("cpu.realtimePeriod", "realtime period not supported on cgroupv2"));
    }
    if cpu.realtime_runtime.is_some_and(|v| v != 0) {
        return Err(invalid("cpu.realtimeRuntime", "realtime runtime not supported on cgroupv2"));
    }
    if period.is_some() || quota.is_some() {
        let value = format!("{} {}", super::convert::or_max(quota.unwrap_or(-1)), period.unwrap_or(DEFAULT_PERIOD));
        let field = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
        out.put(Ctl, field, ("", String::new()), ("cpu.max", value)).settle();
    }
    Ok(())
}

/// CPUs and memory nodes; an empty list is no list.
pub(super) fn set(out: &mut Sink, r: &Resources<'_>) -> Result<()> {
    let Some(cpu) = &r.cpu else { return Ok(()) };
    for (field, file, list) in [("cpu.cpus", "cpuset.cpus", &cpu.cpus), ("cpu.mems", "cpuset.mems", &cpu.mems)] {
        if let Some(list) = list.as_ref().filter(|l| !l.is_empty()) {
            out.put(Cpuset, field, (file, list.to_string()), (file, list.to_string()));
        }
    }
    Ok(())
}
