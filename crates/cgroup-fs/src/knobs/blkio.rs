//! `blockIO`: `blkio` on v1, `io` on v2. Not here: anything else.

use super::convert::io_weight;
use super::{Sink, invalid};
use crate::controller::Controller::Io;
use crate::controller::Version;
use runtime_core::Result;
use runtime_core::spec::{BlockIo, Resources, ThrottleDevice};

pub(super) fn put(out: &mut Sink, r: &Resources<'_>) -> Result<()> {
    let Some(io) = &r.block_io else { return Ok(()) };
    let version = out.version(Io);
    if let Some(w) = io.weight.filter(|&w| w > 0) {
        // Which file there is depends on the I/O scheduler: BFQ brings its own.
        let write = out.put(Io, "blockIO.weight", ("blkio.weight", w.to_string()), ("io.bfq.weight", w.to_string()));
        match version {
            Version::V1 => write.or_alias("blkio.bfq.weight", w.to_string()),
            Version::V2 => write.or_alias("io.weight", io_weight(w).to_string()),
        };
    }
    leaf_weights(out, io, version)?;
    for (i, d) in io.weight_device.iter().enumerate() {
        if let Some(w) = d.weight {
            let value = format!("{}:{} {w}", d.major, d.minor);
            let field = format!("blockIO.weightDevice[{i}].weight");
            let write = out.put(Io, field, ("blkio.weight_device", value.clone()), ("io.bfq.weight", value.clone()));
            if version == Version::V1 {
                write.or_alias("blkio.bfq.weight_device", value);
            }
        }
    }
    for (field, v1, key, list) in [
        ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps", &io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps", &io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops", &io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops", &io.throttle_write_iops_device),
    ] {
        throttle(out, field, v1, key, list);
    }
    Ok(())
}

fn leaf_weights(out: &mut Sink, io: &BlockIo, version: Version) -> Result<()> {
    let refuse = |field: &str| Err(invalid(field, "not supported on cgroupv2"));
    if let Some(w) = io.leaf_weight.filter(|&w| w > 0) {
        if version == Version::V2 {
            return refuse("blockIO.leafWeight");
        }
        out.put(Io, "blockIO.leafWeight", ("blkio.leaf_weight", w.to_string()), ("", String::new()));
    }
    for (i, d) in io.weight_device.iter().enumerate() {
        if let Some(w) = d.leaf_weight.filter(|&w| w > 0) {
            let field = format!("blockIO.weightDevice[{i}].leafWeight");
            if version == Version::V2 {
                return refuse(&field);
            }
            out.put(Io, field, ("blkio.leaf_weight_device", format!("{}:{} {w}", d.major, d.minor)), ("", String::new()));
        }
    }
    Ok(())
}

/// Rate 0 lifts a limit on v1; v2 spells that `max` and refuses 0.
fn throttle(out: &mut Sink, field: &str, v1: &'static str, key: &str, list: &[ThrottleDevice]) {
    for (i, d) in list.iter().enumerate() {
        let rate = if d.rate == 0 { "max".into() } else { d.rate.to_string() };
        let (old, new) = (format!("{}:{} {}", d.major, d.minor, d.rate), format!("{}:{} {key}={rate}", d.major, d.minor));
        out.put(Io, format!("blockIO.{field}[{i}]"), (v1, old), ("io.max", new));
    }
}
