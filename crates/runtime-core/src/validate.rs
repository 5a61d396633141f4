//! Checks of a configuration that need no host: required fields, words, contradictions. Every error names the field's path. Not here:
//! what depends on the host (`plan`) or on a backend (seccomp words, cgroup values).

use crate::error::{Error, Result};
use crate::plan::namespaces::KINDS;
use crate::plan::{net_devices, rdt, schedule};
use crate::spec::{Hook, Linux, Mount, Process, Spec};

/// Checks a configuration from which a container is to be made.
///
/// # Errors
/// The first offence found.
pub(crate) fn validate(spec: &Spec<'_>) -> Result<()> {
    platform(spec)?;
    let root = spec.root.as_ref().ok_or_else(|| Error::invalid("block `root` not found"))?;
    if root.path.is_empty() {
        return Err(Error::invalid("root.path: must not be empty"));
    }
    let process = spec.process.as_ref().ok_or_else(|| Error::invalid("block `process` not found"))?;
    self::process(process)?;
    let linux = spec.linux();
    namespaces(&linux)?;
    names(spec, &linux)?;
    mounts(&spec.mounts)?;
    sysctl(&linux, spec.hostname.is_some())?;
    time_offsets(&linux)?;
    resources(&linux)?;
    net_devices::check(&linux)?;
    rdt::check(&linux)?;
    hooks(spec)
}

/// Checks mounts, of a configuration or for a container that exists.
///
/// # Errors
/// The first offence found.
pub(crate) fn mounts(list: &[Mount<'_>]) -> Result<()> {
    match list.iter().position(|m| m.destination.is_empty() || m.destination.contains('\0')) {
        Some(i) if list[i].destination.is_empty() => Err(Error::invalid(format!("mounts[{i}].destination: must not be empty"))),
        Some(i) => Err(Error::invalid(format!("mounts[{i}].destination: contains a NUL byte"))),
        None => Ok(()),
    }
}

/// A configuration made for another platform only.
fn platform(spec: &Spec<'_>) -> Result<()> {
    let sections = [("freebsd", &spec.freebsd), ("solaris", &spec.solaris), ("windows", &spec.windows), ("zos", &spec.zos)];
    match sections.iter().find(|(_, present)| present.is_some()) {
        Some((name, _)) if spec.linux.is_none() => Err(Error::invalid(format!("{name}: the configuration is for another platform"))),
        _ => Ok(()),
    }
}

/// Checks a process description, of a container or of `exec`.
///
/// # Errors
/// The first offence found.
pub(crate) fn process(p: &Process<'_>) -> Result<()> {
    if p.args.is_empty() {
        return Err(Error::invalid("process.args: must not be empty"));
    }
    if p.args[0].is_empty() {
        return Err(Error::invalid("process.args[0]: cannot find `` in $PATH"));
    }
    if !p.cwd.starts_with('/') {
        return Err(Error::invalid(format!("process.cwd: `{}` is not an absolute path", p.cwd)));
    }
    if let Some(i) = p.env.iter().position(|e| !e.contains('=')) {
        return Err(Error::invalid(format!("process.env[{i}]: `{}` is not NAME=value", p.env[i])));
    }
    if let Some(score) = p.oom_score_adj.filter(|s| !(-1000..=1000).contains(s)) {
        return Err(Error::invalid(format!("process.oomScoreAdj: {score} is not between -1000 and 1000")));
    }
    if let Some(mask) = p.user.umask.filter(|m| *m > 0o777) {
        return Err(Error::invalid(format!("process.user.umask: {mask:#o} is above 0o777")));
    }
    // To the kernel it means "leave it" (setgroups(2) says EINVAL).
    if let Some(i) = p.user.additional_gids.iter().position(|gid| *gid == u32::MAX) {
        return Err(Error::invalid(format!("process.user.additionalGids[{i}]: {} is no valid id", u32::MAX)));
    }
    if let Some(wanted) = &p.exec_cpu_affinity {
        for (list, field) in [(&wanted.initial, "initial"), (&wanted.last, "final")] {
            schedule::cpu_list(list.as_deref().unwrap_or(""), &format!("process.execCPUAffinity.{field}"))?;
        }
    }
    Ok(())
}

fn namespaces(linux: &Linux<'_>) -> Result<()> {
    for (i, n) in linux.namespaces.iter().enumerate() {
        let field = format!("linux.namespaces[{i}]");
        if !KINDS.iter().any(|(kind, _)| *kind == &*n.kind) {
            return Err(Error::invalid(format!("{field}.type: invalid namespace type: `{}`", n.kind)));
        }
        if linux.namespaces[..i].iter().any(|o| o.kind == n.kind) {
            return Err(Error::invalid(format!("{field}.type: duplicate namespace `{}`", n.kind)));
        }
        if n.path.as_deref().is_some_and(|p| !p.is_empty() && !p.starts_with('/')) {
            return Err(Error::invalid(format!("{field}.path: not an absolute path")));
        }
    }
    Ok(())
}

fn has(linux: &Linux<'_>, kind: &str) -> bool {
    linux.namespaces.iter().any(|n| n.kind == kind)
}

/// Host and domain name: their namespace and the kernel's length (uts.h, __NEW_UTS_LEN).
fn names(spec: &Spec<'_>, linux: &Linux<'_>) -> Result<()> {
    for (name, field) in [(&spec.hostname, "hostname"), (&spec.domainname, "domainname")] {
        let Some(name) = name else { continue };
        if !has(linux, "uts") {
            return Err(Error::invalid(format!("{field} requires the UTS namespace")));
        }
        if name.len() > 64 {
            return Err(Error::invalid(format!("{field}: {} bytes, the kernel takes 64", name.len())));
        }
    }
    Ok(())
}

/// A kernel parameter must belong to a namespace of the container's own, or it would change the host.
fn sysctl(linux: &Linux<'_>, hostname: bool) -> Result<()> {
    const IPC: [&str; 9] = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
        "kernel/auto_msgmni",
    ];
    for (key, _) in linux.sysctl.iter() {
        let path = key.replace('.', "/");
        let refuse = |why: &str| Err(Error::invalid(format!("linux.sysctl: the sysctl `{key}` {why}")));
        if path.split('/').any(|part| part.is_empty() || part == "..") {
            return refuse("is malformed");
        }
        let needs = if IPC.contains(&&*path) || path.starts_with("fs/mqueue/") {
            "ipc"
        } else if path == "kernel/domainname" || path == "kernel/hostname" {
            if path == "kernel/hostname" && hostname {
                return refuse("conflicts with `hostname`");
            }
            "uts"
        } else if path.starts_with("net/") {
            "network"
        } else if path.starts_with("user/") {
            "user"
        } else {
            return refuse("is not namespaced");
        };
        if !has(linux, needs) {
            return refuse(&format!("requires a new {needs} namespace"));
        }
    }
    Ok(())
}

fn time_offsets(linux: &Linux<'_>) -> Result<()> {
    for (clock, o) in linux.time_offsets.iter() {
        if clock != "monotonic" && clock != "boottime" {
            return Err(Error::invalid(format!("linux.timeOffsets: unknown clock `{clock}`")));
        }
        if o.nanosecs >= 1_000_000_000 {
            return Err(Error::invalid(format!("linux.timeOffsets.{clock}.nanosecs: {} is not below 1000000000", o.nanosecs)));
        }
        if !linux.namespaces.iter().any(|n| n.kind == "time" && n.path.as_deref().unwrap_or("").is_empty()) {
            return Err(Error::invalid("linux.timeOffsets: require a new time namespace"));
        }
    }
    Ok(())
}

/// What the specification itself says about values, whichever manager sets them.
fn resources(linux: &Linux<'_>) -> Result<()> {
    let Some(r) = &linux.resources else { return Ok(()) };
    for (i, h) in r.hugepage_limits.iter().enumerate() {
        let number = h.page_size.trim_end_matches("KB").trim_end_matches("MB").trim_end_matches("GB");
        let valid = number.len() + 2 == h.page_size.len() && !number.starts_with('0') && !number.is_empty();
        if !valid || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Error::invalid(format!("linux.resources.hugepageLimits[{i}].pageSize: invalid page size `{}`", h.page_size)));
        }
    }
    for (i, d) in r.devices.iter().enumerate() {
        let field = |name: &str| format!("linux.resources.devices[{i}].{name}");
        if let Some(kind) = d.kind.as_deref().filter(|k| !["a", "b", "c", ""].contains(k)) {
            return Err(Error::invalid(format!("{}: invalid device type: `{kind}`", field("type"))));
        }
        if let Some(access) = d.access.as_deref().filter(|a| a.bytes().any(|b| !b"rwm".contains(&b))) {
            return Err(Error::invalid(format!("{}: invalid access `{access}`", field("access"))));
        }
    }
    Ok(())
}

fn hooks(spec: &Spec<'_>) -> Result<()> {
    let Some(h) = &spec.hooks else { return Ok(()) };
    let kinds: [(&str, &[Hook<'_>]); 6] = [
        ("prestart", &h.prestart),
        ("createRuntime", &h.create_runtime),
        ("createContainer", &h.create_container),
        ("startContainer", &h.start_container),
        ("poststart", &h.poststart),
        ("poststop", &h.poststop),
    ];
    for (kind, list) in kinds {
        for (i, hook) in list.iter().enumerate() {
            let field = format!("hooks.{kind}[{i}]");
            if !hook.path.starts_with('/') {
                return Err(Error::invalid(format!("{field}.path: `{}` is not an absolute path", hook.path)));
            }
            // Those that run late must not fail late: the process would run already.
            let texts = [("path", std::slice::from_ref(&hook.path)), ("args", &hook.args), ("env", &hook.env)];
            if let Some((part, _)) = texts.iter().find(|(_, list)| list.iter().any(|text| text.contains('\0'))) {
                return Err(Error::invalid(format!("{field}.{part}: contains a NUL byte")));
            }
            crate::plan::hooks::timeout_ms(hook.timeout).map_err(|e| e.context(format!("{field}.timeout")))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(linux: &str, more: &str) -> String {
        let text = format!(
            r#"{{"ociVersion":"1.0.0","root":{{"path":"r"}},"process":{{"cwd":"/","args":["a"],"user":{{}}}},"linux":{linux}{more}}}"#
        );
        match validate(&Spec::parse(text.as_bytes()).unwrap()) {
            Ok(()) => "ok".into(),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn offences_name_their_field() {
        let uts = r#"{"namespaces":[{"type":"uts"},{"type":"network"}],"sysctl":{"net.ipv4.ip_forward":"1"}}"#;
        assert_eq!(check(uts, r#","hostname":"h""#), "ok");
        for (linux, more, want) in [
            (r#"{"namespaces":[{"type":"bad"}]}"#, "", "linux.namespaces[0].type: invalid namespace type: `bad`"),
            (r#"{"namespaces":[{"type":"pid"},{"type":"pid"}]}"#, "", "linux.namespaces[1].type: duplicate namespace `pid`"),
            ("{}", r#","hostname":"h""#, "hostname requires the UTS namespace"),
            (r#"{"sysctl":{"kernel.panic":"1"}}"#, "", "linux.sysctl: the sysctl `kernel.panic` is not namespaced"),
            (r#"{"sysctl":{"net.x":"1"}}"#, "", "linux.sysctl: the sysctl `net.x` requires a new network namespace"),
            (r#"{"sysctl":{"net...x":"1"}}"#, "", "linux.sysctl: the sysctl `net...x` is malformed"),
            (r#"{"timeOffsets":{"real":{}}}"#, "", "linux.timeOffsets: unknown clock `real`"),
            (r#"{"timeOffsets":{"boottime":{}}}"#, "", "linux.timeOffsets: require a new time namespace"),
            ("{}", r#","hooks":{"poststop":[{"path":"x"}]}"#, "hooks.poststop[0].path: `x` is not an absolute path"),
            ("{}", r#","hooks":{"prestart":[{"path":"/x","timeout":0}]}"#, "hooks.prestart[0].timeout: 0 is not above zero"),
            ("{}", r#","hooks":{"poststart":[{"path":"/x","args":["a\u0000"]}]}"#, "hooks.poststart[0].args: contains a NUL byte"),
            ("{}", r#","mounts":[{"destination":"/a\u0000b"}]"#, "mounts[0].destination: contains a NUL byte"),
            (
                r#"{"resources":{"hugepageLimits":[{"pageSize":"64kB","limit":1}]}}"#,
                "",
                "linux.resources.hugepageLimits[0].pageSize: invalid page size `64kB`",
            ),
        ] {
            assert_eq!(check(linux, more), want);
        }
    }
}
