//! Device nodes and the links in /dev. Not here: which of them a cgroup lets the container open.

use super::Context;
use super::mounts::{c_string, inside};
use super::step::{DeviceStep, Step};
use crate::error::{Error, Result};
use crate::spec::{Device, Mount};

/// Nodes every container has (config-linux.md, "Default Devices").
const DEFAULT: [(&str, u32, u32); 6] = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("tty", 5, 0), ("random", 1, 8), ("urandom", 1, 9)];

/// Links every container has: name, target. An entry that is there is left alone.
const LINKS: [(&str, &str); 5] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("dev/core", "/proc/kcore"),
];

/// The steps for default devices, configured devices and links.
pub(crate) fn compile(cx: &Context<'_>) -> Result<Vec<Step>> {
    let mut steps = Vec::with_capacity(cx.spec.linux().devices.len() + DEFAULT.len() + LINKS.len() + 1);
    for (i, d) in cx.spec.linux().devices.iter().enumerate() {
        steps.push(Step::Device(Box::new(configured(cx, i, d)?)));
    }
    let mounts = &cx.spec.mounts;
    if dev_is_the_hosts(mounts) {
        return Ok(steps);
    }
    for (name, major, minor) in DEFAULT {
        let dest = format!("dev/{name}");
        let replaced = steps.iter().any(|s| matches!(s, Step::Device(d) if d.dest.to_bytes() == dest.as_bytes()));
        if !replaced && !mounted_over(mounts, &dest) {
            steps.push(Step::Device(Box::new(DeviceStep {
                bind: cx.binds_devices().then(|| c_string(&format!("/{dest}"), || dest.clone())).transpose()?,
                dest: c_string(&dest, || dest.clone())?,
                mode: libc::S_IFCHR | 0o666,
                rdev: libc::makedev(major, minor),
                uid: 0,
                gid: 0,
            })));
        }
    }
    let ptmx = [("dev/ptmx", "pts/ptmx")];
    for (name, target) in LINKS.iter().chain(&ptmx) {
        if !mounted_over(mounts, name) {
            steps.push(Step::Symlink { target: c_string(target, String::new)?, dest: c_string(name, String::new)? });
        }
    }
    Ok(steps)
}

/// /dev is a bind mount: what is in it is the host's, and nothing may be made there.
fn dev_is_the_hosts(mounts: &[Mount<'_>]) -> bool {
    let dev = mounts.iter().rfind(|m| m.destination.trim_end_matches('/') == "/dev");
    dev.is_some_and(|m| {
        let words = m.options.iter().flatten().any(|w| *w == "bind" || *w == "rbind");
        words || m.fstype.as_deref().is_none_or(|t| t == "bind")
    })
}

fn mounted_over(mounts: &[Mount<'_>], dest: &str) -> bool {
    mounts.iter().any(|m| m.destination.trim_matches('/') == dest)
}

fn configured(cx: &Context<'_>, i: usize, d: &Device<'_>) -> Result<DeviceStep> {
    let field = |name: &str| format!("linux.devices[{i}].{name}");
    let number = |n: Option<i64>, name: &str| -> Result<u32> {
        let n = n.ok_or_else(|| Error::invalid(format!("{}: missing", field(name))))?;
        n.try_into().map_err(|_| Error::invalid(format!("{}: {n} is out of range", field(name))))
    };
    let (kind, rdev) = match &*d.kind {
        "c" | "u" => (libc::S_IFCHR, libc::makedev(number(d.major, "major")?, number(d.minor, "minor")?)),
        "b" => (libc::S_IFBLK, libc::makedev(number(d.major, "major")?, number(d.minor, "minor")?)),
        "p" => (libc::S_IFIFO, 0),
        other => return Err(Error::invalid(format!("{}: invalid device type: `{other}`", field("type")))),
    };
    let mode = d.file_mode.unwrap_or(0o666);
    // The type may be said in it as well, as stat(2) gives it, but no other.
    if mode & !0o7777 != 0 && mode & !0o7777 != kind {
        return Err(Error::invalid(format!("{}: {mode} has bits beyond 07777", field("fileMode"))));
    }
    let dest = inside(&d.path, || field("path"))?;
    if dest.is_empty() {
        return Err(Error::invalid(format!("{}: `{}` is no path of a device", field("path"), d.path)));
    }
    Ok(DeviceStep {
        bind: (cx.binds_devices() && kind != libc::S_IFIFO).then(|| c_string(&d.path, || field("path"))).transpose()?,
        dest,
        mode: kind | mode & 0o7777,
        rdev,
        uid: d.uid.unwrap_or(0),
        gid: d.gid.unwrap_or(0),
    })
}
