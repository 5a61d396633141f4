//! Limits as properties of the scope, and what else the scope gets; pure. Not here: device rules (`devices`), sending (`systemd`).
//!
//! The kernel's files have the last word and are written in the container's own cgroup, with every unit and digit as configured. The
//! properties say the same of the scope, so that systemd, `systemctl show` and a `daemon-reload` agree with them.

use crate::devices;
use crate::unit::Unit;
use cgroup_fs::{Controller, Split, Version, device, knobs};
use runtime_core::spec::{BlockIo, Cpu, Memory, Resources};
use runtime_core::{Error, Result};
use std::borrow::Cow;
use zbus::Variant;

/// "No limit", in the limits of systemd.
const INFINITY: u64 = u64::MAX;
/// The kernel's default period, microseconds.
const DEFAULT_PERIOD: u64 = 100_000;
/// systemd keeps CPU time a second in steps of this many microseconds.
const QUOTA_STEP: u64 = 10_000;
/// Highest CPU or memory node that a mask is made for; the kernel's files take or refuse others.
const MAX_BIT: usize = 8191;

/// Where a property comes from, which says what its refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// There is no scope without it.
    Needed,
    /// A limit or a nicety that the cgroup's files enforce, or nobody misses.
    Limit,
    /// The user's own wish.
    Annotation,
}

/// A unit property.
#[derive(Debug, PartialEq)]
pub(crate) struct Property {
    pub(crate) name: Cow<'static, str>,
    pub(crate) value: Variant<'static>,
    pub(crate) origin: Origin,
}

impl Property {
    fn new(name: &'static str, value: impl Into<Variant<'static>>, origin: Origin) -> Self {
        Self { name: name.into(), value: value.into(), origin }
    }
}

/// What a new scope gets besides its limits. `wishes` stand before the runtime's own and win over its description.
pub(crate) fn scope(unit: &Unit, pid: u32, split: &Split, wishes: Vec<Property>) -> Vec<Property> {
    let described = wishes.iter().any(|p| p.name == "Description");
    let mut out = vec![Property::new("Slice", unit.slice.clone(), Origin::Needed)];
    out.push(Property::new("DefaultDependencies", false, Origin::Limit));
    let overridden = |name: &str| wishes.iter().any(|p| p.name == name);
    let io = if split.version(Controller::Io) == Version::V2 { "IOAccounting" } else { "BlockIOAccounting" };
    for name in ["CPUAccounting", "MemoryAccounting", io, "TasksAccounting"] {
        if !overridden(name) {
            out.push(Property::new(name, true, Origin::Limit));
        }
    }
    out.extend(wishes);
    if !described {
        // What crun says, which tools look for.
        out.push(Property::new("Description", "libcrun container", Origin::Limit));
    }
    out.push(Property::new("PIDs", vec![pid], Origin::Needed));
    out.push(Property::new("Delegate", true, Origin::Needed));
    out
}

/// The limits; `fresh` for a new scope, otherwise for one that has limits already. `user` is the user's manager, which enforces no
/// device rules.
///
/// # Errors
/// `cannot set both cpu.idle and cpu.shares` (or `cpu.weight`); malformed device rules. Other values that make no sense are left to the
/// cgroup's files, whose errors name them.
pub(crate) fn limits(r: &Resources<'_>, split: &Split, user: bool, fresh: bool) -> Result<Vec<Property>> {
    let mut out = Vec::new();
    let v2 = |c| split.version(c) == Version::V2;
    if let Some(m) = &r.memory {
        memory(m, v2(Controller::Memory), &mut out);
    }
    if let Some(limit) = r.pids.as_ref().and_then(|p| p.limit).filter(|&l| l != 0) {
        put(&mut out, "TasksMax", or_infinity(limit));
    }
    if let Some(c) = &r.cpu {
        cpu(c, r, v2(Controller::Cpu), &mut out)?;
    }
    if let Some(io) = r.block_io.as_ref().filter(|_| v2(Controller::Io)) {
        block_io(io, &mut out);
    }
    if split.is_pure_v2() {
        for (key, value) in &r.unified.0 {
            unified(key, value.trim(), &mut out);
        }
    }
    if !user {
        devices::properties(&device::parse(&r.devices)?, fresh, &mut out);
    }
    Ok(out)
}

fn put(out: &mut Vec<Property>, name: &'static str, value: impl Into<Variant<'static>>) {
    let value = value.into();
    // Of two values the later one counts, as in the files.
    match out.iter_mut().find(|p| p.name == name) {
        Some(known) => known.value = value,
        None => out.push(Property { name: name.into(), value, origin: Origin::Limit }),
    }
}

fn or_infinity(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(INFINITY)
}

fn memory(m: &Memory, v2: bool, out: &mut Vec<Property>) {
    if let Some(limit) = m.limit {
        put(out, if v2 { "MemoryMax" } else { "MemoryLimit" }, or_infinity(limit));
    }
    if !v2 {
        return;
    }
    if let Some(low) = m.reservation {
        put(out, "MemoryLow", or_infinity(low));
    }
    // OCI counts memory and swap together.
    match (m.swap, m.limit) {
        (Some(..0), _) => put(out, "MemorySwapMax", INFINITY),
        (Some(0), _) => put(out, "MemorySwapMax", 0_u64),
        (Some(both), Some(limit)) if both >= limit && limit >= 0 => put(out, "MemorySwapMax", (both - limit) as u64),
        _ => {}
    }
}

fn cpu(c: &Cpu<'_>, r: &Resources<'_>, v2: bool, out: &mut Vec<Property>) -> Result<()> {
    let idle = v2 && c.idle.is_some_and(|v| v > 0);
    let shares = c.shares.filter(|&s| s > 0);
    if idle {
        for (given, name) in [(shares.is_some(), "cpu.shares"), (r.unified.get("cpu.weight").is_some(), "cpu.weight")] {
            if given {
                return Err(Error::invalid(format!("cannot set both cpu.idle and {name}")).context("linux.resources.cpu"));
            }
        }
        put(out, "CPUWeight", 0_u64);
    } else if let Some(shares) = shares {
        match knobs::weight_from_shares(shares).filter(|_| v2) {
            Some(weight) => put(out, "CPUWeight", weight),
            None => put(out, "CPUShares", shares),
        }
    }
    quota(out, c.quota.filter(|&q| q != 0), c.period.filter(|&p| p > 0));
    if v2 {
        for (name, list) in [("AllowedCPUs", &c.cpus), ("AllowedMemoryNodes", &c.mems)] {
            if let Some(mask) = list.as_deref().and_then(mask) {
                put(out, name, mask);
            }
        }
    }
    Ok(())
}

/// CPU time a second, rounded up: a scope must not be tighter than the container in it.
fn quota(out: &mut Vec<Property>, quota: Option<i64>, period: Option<u64>) {
    match (quota, period.unwrap_or(DEFAULT_PERIOD)) {
        (Some(..0), _) => put(out, "CPUQuotaPerSecUSec", INFINITY),
        (Some(quota), period) => {
            let Some(scaled) = (quota as u64).checked_mul(1_000_000) else { return };
            let second = (scaled / period).div_ceil(QUOTA_STEP) * QUOTA_STEP;
            put(out, "CPUQuotaPerSecUSec", second.max(QUOTA_STEP));
        }
        (None, _) => {}
    }
    if let Some(period) = period {
        put(out, "CPUQuotaPeriodUSec", period);
    }
}

fn block_io(io: &BlockIo, out: &mut Vec<Property>) {
    if let Some(w) = io.weight.filter(|&w| w > 0) {
        put(out, "IOWeight", io_weight(w));
    }
    let devices: Vec<(String, u64)> = io
        .weight_device
        .iter()
        .filter_map(|d| Some((format!("/dev/block/{}:{}", d.major, d.minor), io_weight(d.weight.filter(|&w| w > 0)?))))
        .collect();
    if !devices.is_empty() {
        put(out, "IODeviceWeight", devices);
    }
}

/// The weight from which systemd computes this one for BFQ (1 to 1000 there, 1 to 10000 in systemd; 100 is the default of both).
fn io_weight(w: u16) -> u64 {
    let w = u64::from(w);
    if w <= 100 { w } else { 100 + (w - 100) * 9900 / 900 }
}

/// Keys of `unified` that a property covers.
fn unified(key: &str, value: &str, out: &mut Vec<Property>) {
    let number = || if value == "max" { Some(INFINITY) } else { value.parse().ok() };
    let name = match key {
        "memory.min" => "MemoryMin",
        "memory.low" => "MemoryLow",
        "memory.high" => "MemoryHigh",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "memory.zswap.max" => "MemoryZSwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "cpu.idle" => match value {
            "1" => return put(out, "CPUWeight", 0_u64),
            _ => return,
        },
        "cpu.max" => return cpu_max(value, out),
        "cpuset.cpus" | "cpuset.mems" => {
            let name = if key == "cpuset.cpus" { "AllowedCPUs" } else { "AllowedMemoryNodes" };
            return mask(value).into_iter().for_each(|m| put(out, name, m));
        }
        _ => return,
    };
    if let Some(n) = number() {
        put(out, name, n);
    }
}

/// `cpu.max`: `QUOTA|max [PERIOD]`.
fn cpu_max(value: &str, out: &mut Vec<Property>) {
    let mut words = value.split_whitespace();
    let first = match words.next() {
        Some("max") => Some(-1),
        Some(text) => text.parse().ok().filter(|&q: &i64| q > 0),
        None => None,
    };
    let period = words.next().map(str::parse::<u64>);
    if let (Some(first), None | Some(Ok(1..))) = (first, &period) {
        quota(out, Some(first), period.and_then(|p| p.ok()));
    }
}

/// A list such as `0-3,8` as bits, the lowest first; `None` where it is malformed or empty.
fn mask(list: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > MAX_BIT {
            return None;
        }
        if bytes.len() <= last / 8 {
            bytes.resize(last / 8 + 1, 0_u8);
        }
        (first..=last).for_each(|bit| bytes[bit / 8] |= 1 << (bit % 8));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
