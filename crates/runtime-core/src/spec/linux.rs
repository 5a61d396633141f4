//! The `linux` section (config-linux.md) without resources and seccomp, which have files of their own.

use super::resources::Resources;
use super::seccomp::Seccomp;
use super::text::{self, Map, Str};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// `linux`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux<'a> {
    /// `uidMappings` of the user namespace.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// `gidMappings` of the user namespace.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
    /// Kernel parameters set in the container's namespaces.
    #[serde(borrow, default, deserialize_with = "text::nullable", skip_serializing_if = "Map::is_empty")]
    pub sysctl: Map<'a, Str<'a>>,
    /// cgroup limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources<'a>>,
    /// Path of the container's cgroup, in the manager's own syntax.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroups_path: Option<Str<'a>>,
    /// Namespaces, new or joined.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Namespace<'a>>,
    /// Device nodes.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device<'a>>,
    /// Network interfaces to move into the container, by their name on the host.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Map::is_empty")]
    pub net_devices: Map<'a, NetDevice<'a>>,
    /// The section's bytes; [`Linux::seccomp`] parses them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<&'a RawValue>,
    /// `private`, `shared`, `slave` or `unbindable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs_propagation: Option<Str<'a>>,
    /// Paths that become unreadable.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<Str<'a>>,
    /// Paths that become read-only.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub readonly_paths: Vec<Str<'a>>,
    /// SELinux context of the mounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_label: Option<Str<'a>>,
    /// Resource Director Technology.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt<'a>>,
    /// NUMA policy, set_mempolicy(2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy<'a>>,
    /// personality(2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality<'a>>,
    /// Offsets of the time namespace by clock name (`monotonic`, `boottime`).
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Map::is_empty")]
    pub time_offsets: Map<'a, TimeOffset>,
}

impl<'a> Linux<'a> {
    /// Parses the seccomp section; `null` counts as absent.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) with the path below `linux.seccomp`.
    pub fn seccomp(&self) -> Result<Option<Seccomp<'a>>> {
        match self.seccomp {
            None => Ok(None),
            Some(raw) => super::parse::<Option<Seccomp<'a>>>(raw.get().as_bytes()).map_err(|e| e.context("linux.seccomp")),
        }
    }
}

/// A range of an id map (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// Number of ids.
    pub size: u32,
}

/// One entry of `linux.namespaces`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Namespace<'a> {
    /// `mount`, `pid`, `network`, `uts`, `ipc`, `user`, `cgroup` or `time`.
    #[serde(borrow, rename = "type")]
    pub kind: Str<'a>,
    /// Namespace file to join; a new one is made when absent or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Str<'a>>,
}

/// One entry of `linux.devices`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device<'a> {
    /// `c`, `u`, `b` or `p`.
    #[serde(borrow, rename = "type")]
    pub kind: Str<'a>,
    /// Path in the container.
    pub path: Str<'a>,
    /// Major number; not for `p`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// Minor number; not for `p`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// Permission bits; 0666 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// Owner in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// One entry of `linux.netDevices`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct NetDevice<'a> {
    /// Name in the container; the host's when absent.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Str<'a>>,
}

/// `linux.intelRdt`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IntelRdt<'a> {
    /// Class of service; the container id when absent.
    #[serde(borrow, rename = "closID", default, skip_serializing_if = "Option::is_none")]
    pub clos_id: Option<Str<'a>>,
    /// Lines for the `schemata` file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemata: Option<Vec<Str<'a>>>,
    /// `L3:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<Str<'a>>,
    /// `MB:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<Str<'a>>,
    /// Make a monitoring group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_monitoring: Option<bool>,
}

/// `linux.memoryPolicy`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct MemoryPolicy<'a> {
    /// `MPOL_BIND`, …
    #[serde(borrow)]
    pub mode: Str<'a>,
    /// A list such as `0-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Str<'a>>,
    /// `MPOL_F_…`.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Str<'a>>,
}

/// `linux.personality`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Personality<'a> {
    /// `LINUX` or `LINUX32`.
    #[serde(borrow)]
    pub domain: Str<'a>,
    /// None are defined by the specification.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Str<'a>>,
}

/// One clock of `linux.timeOffsets`.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
pub struct TimeOffset {
    /// Seconds.
    #[serde(default, deserialize_with = "text::nullable")]
    pub secs: i64,
    /// Nanoseconds.
    #[serde(default, deserialize_with = "text::nullable")]
    pub nanosecs: u32,
}
