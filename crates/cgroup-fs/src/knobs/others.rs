//! `pids`, `hugepageLimits`, `network`, `rdma`. Not here: devices.

use super::convert::or_max;
use super::{Sink, invalid};
use crate::controller::Controller::{Hugetlb, NetCls, NetPrio, Pids, Rdma};
use crate::controller::Version;
use runtime_core::Result;
use runtime_core::spec::Resources;

/// 0 leaves the file untouched, as crun does: engines write it for "no limit".
pub(super) fn pids(out: &mut Sink, r: &Resources<'_>) -> Result<()> {
    if let Some(limit) = r.pids.and_then(|p| p.limit).filter(|&l| l != 0) {
        out.put(Pids, "pids.limit", ("pids.max", or_max(limit)), ("pids.max", or_max(limit)));
    }
    Ok(())
}

pub(super) fn hugepages(out: &mut Sink, r: &Resources<'_>) -> Result<()> {
    for (i, h) in r.hugepage_limits.iter().enumerate() {
        let size = &*h.page_size;
        if size.is_empty() || !size.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(invalid(&format!("hugepageLimits[{i}].pageSize"), format!("not a size such as 2MB: `{}`", size.escape_debug())));
        }
        let value = h.limit.to_string();
        let files = (format!("hugetlb.{size}.limit_in_bytes"), format!("hugetlb.{size}.max"));
        out.put(Hugetlb, format!("hugepageLimits[{i}].limit"), (files.0, value.clone()), (files.1, value));
    }
    Ok(())
}

/// v1 only.
pub(super) fn network(out: &mut Sink, r: &Resources<'_>) -> Result<()> {
    let Some(n) = &r.network else { return Ok(()) };
    let refuse = |field: &str| Err(invalid(field, "not supported on cgroupv2"));
    if let Some(id) = n.class_id {
        if out.version(NetCls) == Version::V2 {
            return refuse("network.classID");
        }
        out.put(NetCls, "network.classID", ("net_cls.classid", id.to_string()), ("", String::new()));
    }
    for (i, p) in n.priorities.iter().enumerate() {
        let field = format!("network.priorities[{i}]");
        if out.version(NetPrio) == Version::V2 {
            return refuse(&field);
        }
        out.put(NetPrio, field, ("net_prio.ifpriomap", format!("{} {}", p.name, p.priority)), ("", String::new()));
    }
    Ok(())
}

pub(super) fn rdma(out: &mut Sink, r: &Resources<'_>) -> Result<()> {
    for (device, limits) in r.rdma.iter() {
        let mut value = device.to_owned();
        if let Some(n) = limits.hca_handles {
            value.push_str(&format!(" hca_handle={n}"));
        }
        if let Some(n) = limits.hca_objects {
            value.push_str(&format!(" hca_object={n}"));
        }
        if value.len() > device.len() {
            out.put(Rdma, format!("rdma.{device}"), ("rdma.max", value.clone()), ("rdma.max", value));
        }
    }
    Ok(())
}
