//! Statistics: which file of v1 and of v2 has what, side by side. Not here: the files' formats (`parse`).
//!
//! cgroups-rs reads statistics too, and is what the tests compare with; docs/dependencies.md says why it does not serve here.

mod parse;

use crate::controller::{Controller, Split, Version};
use crate::files::{Dir, Sys, keyed, number};
use crate::homes::{Home, Homes};
use runtime_core::Result;
use runtime_core::api::{CpuStats, HugetlbStats, IoStats, MemoryStats, PidsStats, Pressure, Stats, Throttling, Usage};
use rustix::io::Errno;

/// Nanoseconds in the microseconds of v2.
const MICRO: u64 = 1000;

/// Reads everything there is.
///
/// # Errors
/// A file cannot be read for another reason than that it, the cgroup or the feature is not there.
pub(crate) fn read(homes: &Homes, split: &Split) -> Result<Stats> {
    let home = |controller| homes.find(controller, split.version(controller)).map(Files);
    let v2 = |controller| split.version(controller) == Version::V2;
    let pressure = |file| homes.v2.as_ref().map_or(Ok(None), |h| Files(h).pressure(file));
    let mut stats = Stats {
        cpu: cpu(homes, split)?,
        memory: match home(Controller::Memory) {
            Some(files) if v2(Controller::Memory) => memory_v2(&files)?,
            Some(files) => memory_v1(&files)?,
            None => None,
        },
        io: match home(Controller::Io) {
            Some(files) if v2(Controller::Io) => {
                files.text("io.stat")?.map(|t| IoStats { devices: parse::io_stat(&t), ..IoStats::default() })
            }
            Some(files) => blkio(&files)?,
            None => None,
        },
        pids: home(Controller::Pids).map_or(Ok(None), |files| pids(&files))?,
        hugetlb: home(Controller::Hugetlb).map_or(Ok(Vec::new()), |files| hugetlb(&files, v2(Controller::Hugetlb)))?,
    };
    // On a hybrid host v2 knows the pressure although v1 has the controllers.
    if let Some(cpu) = &mut stats.cpu {
        cpu.pressure = pressure("cpu.pressure")?;
    }
    if let Some(memory) = &mut stats.memory {
        memory.pressure = pressure("memory.pressure")?;
    }
    if let Some(io) = &mut stats.io {
        io.pressure = pressure("io.pressure")?;
    }
    Ok(stats)
}

/// The files of one cgroup directory.
struct Files<'a>(&'a Home);

impl Files<'_> {
    fn dir(&self) -> Dir<'_> {
        self.0.dir()
    }

    /// `None` where the file does not exist, went away, or belongs to a feature that is switched off.
    fn text(&self, file: &str) -> Result<Option<String>> {
        match self.dir().read(file) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(e) => Err(e).at(|| format!("read `{}`", self.dir().file(file).display())),
        }
    }

    fn number(&self, file: &str) -> Result<Option<u64>> {
        Ok(self.text(file)?.as_deref().and_then(number))
    }

    fn limit(&self, file: &str) -> Result<Option<u64>> {
        Ok(self.text(file)?.as_deref().and_then(parse::limit))
    }

    fn pressure(&self, file: &str) -> Result<Option<Pressure>> {
        Ok(self.text(file)?.as_deref().and_then(parse::pressure))
    }

    /// An amount of v1, whose files are called `STEM.usage_in_bytes` and so on.
    fn usage_v1(&self, stem: &str) -> Result<Option<Usage>> {
        let Some(current) = self.number(&format!("{stem}.usage_in_bytes"))? else { return Ok(None) };
        Ok(Some(Usage {
            current,
            peak: self.number(&format!("{stem}.max_usage_in_bytes"))?,
            limit: self.limit(&format!("{stem}.limit_in_bytes"))?,
            failures: self.number(&format!("{stem}.failcnt"))?.unwrap_or_default(),
        }))
    }

    /// An amount of v2, whose files are called `STEM.current` and so on; `event` counts how often the limit was met.
    fn usage_v2(&self, stem: &str, event: &str) -> Result<Option<Usage>> {
        let Some(current) = self.number(&format!("{stem}.current"))? else { return Ok(None) };
        let events = self.text(&format!("{stem}.events"))?.unwrap_or_default();
        Ok(Some(Usage {
            current,
            peak: self.number(&format!("{stem}.peak"))?,
            limit: self.limit(&format!("{stem}.max"))?,
            failures: keyed(&events, event).unwrap_or_default(),
        }))
    }
}

/// The v2 tree counts time whether the controller is enabled or not; where v1 has `cpuacct`, that is the more exact one.
fn cpu(homes: &Homes, split: &Split) -> Result<Option<CpuStats>> {
    let Some(home) = homes.find(Controller::Cpuacct, split.version(Controller::Cpuacct)) else { return Ok(None) };
    let files = Files(home);
    let mut out = if split.version(Controller::Cpuacct) == Version::V1 {
        let Some(usage) = files.number("cpuacct.usage")? else { return Ok(None) };
        let list = files.text("cpuacct.usage_percpu")?.unwrap_or_default();
        CpuStats {
            usage,
            user: files.number("cpuacct.usage_user")?.unwrap_or_default(),
            system: files.number("cpuacct.usage_sys")?.unwrap_or_default(),
            per_cpu: list.split_whitespace().filter_map(|n| n.parse().ok()).collect(),
            ..CpuStats::default()
        }
    } else {
        let Some(text) = files.text("cpu.stat")? else { return Ok(None) };
        let time = |key| keyed(&text, key).unwrap_or_default().saturating_mul(MICRO);
        CpuStats { usage: time("usage_usec"), user: time("user_usec"), system: time("system_usec"), ..CpuStats::default() }
    };
    let version = split.version(Controller::Cpu);
    if let Some(home) = homes.find(Controller::Cpu, version) {
        out.throttling = Files(home).text("cpu.stat")?.and_then(|text| throttling(&text, version));
    }
    Ok(Some(out))
}

fn throttling(text: &str, version: Version) -> Option<Throttling> {
    let (throttled, burst, unit) = match version {
        Version::V1 => ("throttled_time", "burst_time", 1),
        Version::V2 => ("throttled_usec", "burst_usec", MICRO),
    };
    let get = |key| keyed(text, key);
    Some(Throttling {
        periods: get("nr_periods")?,
        throttled_periods: get("nr_throttled").unwrap_or_default(),
        throttled: get(throttled).unwrap_or_default().saturating_mul(unit),
        bursts: get("nr_bursts").unwrap_or_default(),
        burst: get(burst).unwrap_or_default().saturating_mul(unit),
    })
}

fn memory_v2(files: &Files<'_>) -> Result<Option<MemoryStats>> {
    let Some(memory) = files.usage_v2("memory", "max")? else { return Ok(None) };
    let events = files.text("memory.events")?.unwrap_or_default();
    let raw = raw(files)?;
    Ok(Some(MemoryStats {
        memory,
        // Absent where the kernel was started without accounting of swap.
        swap: files.usage_v2("memory.swap", "max")?,
        kernel: raw.iter().find(|(k, _)| k == "kernel").map(|(_, v)| *v),
        oom_kills: keyed(&events, "oom_kill"),
        raw,
        ..MemoryStats::default()
    }))
}

fn memory_v1(files: &Files<'_>) -> Result<Option<MemoryStats>> {
    let Some(memory) = files.usage_v1("memory")? else { return Ok(None) };
    let control = files.text("memory.oom_control")?.unwrap_or_default();
    Ok(Some(MemoryStats {
        memory,
        memory_and_swap: files.usage_v1("memory.memsw")?,
        kernel: files.number("memory.kmem.usage_in_bytes")?,
        kernel_tcp: files.number("memory.kmem.tcp.usage_in_bytes")?,
        oom_kills: keyed(&control, "oom_kill"),
        raw: raw(files)?,
        ..MemoryStats::default()
    }))
}

fn raw(files: &Files<'_>) -> Result<Vec<(String, u64)>> {
    let text = files.text("memory.stat")?.unwrap_or_default();
    Ok(parse::flat(&text).map(|(key, value)| (key.to_owned(), value)).collect())
}

/// With BFQ as scheduler the counts are in files of its own, and those of the throttling layer stay empty.
fn blkio(files: &Files<'_>) -> Result<Option<IoStats>> {
    let mut there = false;
    for stem in ["blkio.bfq", "blkio.throttle"] {
        let Some(bytes) = files.text(&format!("{stem}.io_service_bytes_recursive"))? else { continue };
        there = true;
        let operations = files.text(&format!("{stem}.io_serviced_recursive"))?.unwrap_or_default();
        let devices = parse::blkio(&bytes, &operations);
        if !devices.is_empty() {
            return Ok(Some(IoStats { devices, ..IoStats::default() }));
        }
    }
    Ok(there.then(IoStats::default))
}

/// The files are called the same on v1.
fn pids(files: &Files<'_>) -> Result<Option<PidsStats>> {
    let Some(current) = files.number("pids.current")? else { return Ok(None) };
    let events = files.text("pids.events")?.unwrap_or_default();
    Ok(Some(PidsStats {
        current,
        peak: files.number("pids.peak")?,
        limit: files.limit("pids.max")?,
        failures: keyed(&events, "max").unwrap_or_default(),
    }))
}

fn hugetlb(files: &Files<'_>, v2: bool) -> Result<Vec<HugetlbStats>> {
    let suffix = if v2 { "current" } else { "usage_in_bytes" };
    let names = match files.dir().names() {
        Err(Errno::NOENT | Errno::NODEV) => Vec::new(),
        other => other.at(|| format!("list cgroup `{}`", files.0.path.display()))?,
    };
    let mut sizes: Vec<&str> = names.iter().filter_map(|n| parse::page_size(n, suffix)).collect();
    sizes.sort_unstable();
    let mut out = Vec::with_capacity(sizes.len());
    for size in sizes {
        let stem = format!("hugetlb.{size}");
        let usage = if v2 { files.usage_v2(&stem, "max")? } else { files.usage_v1(&stem)? };
        out.extend(usage.map(|usage| HugetlbStats { page_size: size.to_owned(), usage }));
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
