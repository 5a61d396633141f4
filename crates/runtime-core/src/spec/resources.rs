//! The `linux.resources` section (config-linux.md "Control groups"), which `update` reads on its own too. Not here: what file gets
//! which value (`cgroup-fs`).

use super::text::{self, Map, Str};
use serde::{Deserialize, Serialize};

/// `linux.resources`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources<'a> {
    /// cgroup v2 files by name, `\n` separates lines.
    #[serde(borrow, default, deserialize_with = "text::nullable", skip_serializing_if = "Map::is_empty")]
    pub unified: Map<'a, Str<'a>>,
    /// Device rules, in order.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceRule<'a>>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu<'a>>,
    /// Number of tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<Pids>,
    /// Block I/O.
    #[serde(rename = "blockIO", default, skip_serializing_if = "Option::is_none")]
    pub block_io: Option<BlockIo>,
    /// Huge pages by size.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub hugepage_limits: Vec<HugepageLimit<'a>>,
    /// v1 network controllers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network<'a>>,
    /// RDMA by device name.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Map::is_empty")]
    pub rdma: Map<'a, Rdma>,
}

/// A device cgroup rule; `None` is a wildcard.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct DeviceRule<'a> {
    /// Allowed or denied.
    pub allow: bool,
    /// `a` (all), `c` or `b`.
    #[serde(borrow, rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Str<'a>>,
    /// Major number; -1 is a wildcard too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// Minor number; -1 is a wildcard too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// Any of `r`, `w`, `m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Str<'a>>,
}

/// `memory`; bytes, -1 for unlimited.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Hard limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// Soft limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<i64>,
    /// Memory plus swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<i64>,
    /// v1 kernel memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<i64>,
    /// v1 kernel TCP memory.
    #[serde(rename = "kernelTCP", default, skip_serializing_if = "Option::is_none")]
    pub kernel_tcp: Option<i64>,
    /// v1, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swappiness: Option<u64>,
    /// v1.
    #[serde(rename = "disableOOMKiller", default, skip_serializing_if = "Option::is_none")]
    pub disable_oom_killer: Option<bool>,
    /// v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_hierarchy: Option<bool>,
    /// Refuse a limit below the current usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_before_update: Option<bool>,
}

/// `cpu`; times in microseconds.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu<'a> {
    /// Relative weight, 2 to 262144.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// Time per period; negative for unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// Accumulated time beyond the quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// Length of a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realtime_runtime: Option<i64>,
    /// v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realtime_period: Option<u64>,
    /// A list such as `0-3,7`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Str<'a>>,
    /// A list of memory nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mems: Option<Str<'a>>,
    /// 1 for SCHED_IDLE treatment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<i64>,
}

/// `pids`.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
pub struct Pids {
    /// Negative for unlimited; 0 leaves it untouched, as crun does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// `blockIO`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    /// 10 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// v1, 10 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
    /// Weight by device.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub weight_device: Vec<WeightDevice>,
    /// Bytes per second.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes per second.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Operations per second.
    #[serde(rename = "throttleReadIOPSDevice", default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Operations per second.
    #[serde(rename = "throttleWriteIOPSDevice", default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// A device's weight.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// 10 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
}

/// A device's rate.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Bytes or operations per second.
    #[serde(default, deserialize_with = "text::nullable")]
    pub rate: u64,
}

/// One entry of `hugepageLimits`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HugepageLimit<'a> {
    /// `2MB`, `1GB`, …
    #[serde(borrow)]
    pub page_size: Str<'a>,
    /// Bytes.
    pub limit: u64,
}

/// `network` (v1).
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Network<'a> {
    /// net_cls.classid.
    #[serde(rename = "classID", default, skip_serializing_if = "Option::is_none")]
    pub class_id: Option<u32>,
    /// net_prio.ifpriomap.
    #[serde(borrow, default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<InterfacePriority<'a>>,
}

/// A network interface's priority.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct InterfacePriority<'a> {
    /// Interface name.
    #[serde(borrow)]
    pub name: Str<'a>,
    /// Priority.
    pub priority: u32,
}

/// An RDMA device's limits.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rdma {
    /// HCA handles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<u32>,
    /// HCA objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hca_objects: Option<u32>,
}
