//! The configuration that the `spec` command writes. Not here: defaults that apply where a configuration leaves something out (`plan`).

use super::{Capabilities, DeviceRule, Linux, Mount, Namespace, Process, Resources, Rlimit, Root, Spec, Str};

/// What the default configuration depends on.
#[derive(Debug, Clone, Copy)]
pub struct DefaultSpec<'a> {
    /// The container's host name.
    pub hostname: &'a str,
    /// For a caller without privileges: with a user namespace, without a group for terminals (group 5 is not mapped).
    pub rootless: bool,
    /// The host has the unified cgroup tree: with a cgroup namespace.
    pub cgroup_namespace: bool,
}

const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
const ENV: [&str; 2] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"];

fn list<'a>(words: &[&'a str]) -> Vec<Str<'a>> {
    words.iter().map(|&w| w.into()).collect()
}

fn mount<'a>(destination: &'a str, fstype: &'a str, source: &'a str, options: &[&'a str]) -> Mount<'a> {
    Mount {
        destination: destination.into(),
        fstype: Some(fstype.into()),
        source: Some(source.into()),
        options: if options.is_empty() { None } else { Some(list(options)) },
        ..Mount::default()
    }
}

fn mounts(rootless: bool) -> Vec<Mount<'static>> {
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", if rootless { &pts[..5] } else { &pts }),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

fn process() -> Process<'static> {
    Process {
        terminal: true,
        args: list(&["sh"]),
        env: list(&ENV),
        cwd: "/".into(),
        capabilities: Some(Capabilities {
            bounding: list(&CAPABILITIES),
            effective: list(&CAPABILITIES),
            inheritable: Vec::new(),
            permitted: list(&CAPABILITIES),
            ambient: list(&CAPABILITIES),
        }),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 1024, soft: 1024 }],
        no_new_privileges: true,
        ..Process::default()
    }
}

impl DefaultSpec<'_> {
    /// The configuration: a shell on a terminal, in a read-only root file system `rootfs`, with three capabilities.
    pub fn build(&self) -> Spec<'_> {
        let mut namespaces = vec!["pid", "network", "ipc", "uts"];
        if self.rootless {
            namespaces.push("user");
        }
        if self.cgroup_namespace {
            namespaces.push("cgroup");
        }
        namespaces.push("mount");
        Spec {
            oci_version: "1.0.0".into(),
            process: Some(process()),
            root: Some(Root { path: "rootfs".into(), readonly: true }),
            hostname: Some(self.hostname.into()),
            mounts: mounts(self.rootless),
            linux: Some(Linux {
                resources: Some(Resources {
                    devices: vec![DeviceRule { allow: false, access: Some("rwm".into()), ..DeviceRule::default() }],
                    ..Resources::default()
                }),
                namespaces: namespaces.into_iter().map(|kind| Namespace { kind: kind.into(), path: None }).collect(),
                masked_paths: list(&MASKED),
                readonly_paths: list(&READONLY),
                ..Linux::default()
            }),
            ..Spec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(rootless: bool, cgroup_namespace: bool) -> String {
        serde_json::to_string_pretty(&DefaultSpec { hostname: "host", rootless, cgroup_namespace }.build()).unwrap()
    }

    fn namespaces(text: &str) -> Vec<String> {
        let spec = Spec::parse(text.as_bytes()).unwrap();
        spec.linux.unwrap().namespaces.iter().map(|n| n.kind.to_string()).collect()
    }

    #[test]
    fn the_namespaces_follow_the_caller_and_the_host() {
        assert_eq!(namespaces(&written(false, false)), ["pid", "network", "ipc", "uts", "mount"]);
        assert_eq!(namespaces(&written(true, false)), ["pid", "network", "ipc", "uts", "user", "mount"]);
        assert_eq!(namespaces(&written(true, true)), ["pid", "network", "ipc", "uts", "user", "cgroup", "mount"]);
    }

    #[test]
    fn a_terminal_group_only_with_privileges() {
        assert!(written(false, false).contains("\"gid=5\""));
        assert!(!written(true, false).contains("\"gid=5\""));
    }

    #[test]
    fn another_reader_of_the_specification_takes_it() {
        for rootless in [false, true] {
            let spec: oci_spec::runtime::Spec = serde_json::from_str(&written(rootless, true)).unwrap();
            let process = spec.process().clone().unwrap();
            assert_eq!(process.args().clone().unwrap(), ["sh"]);
            assert_eq!(process.no_new_privileges(), Some(true));
            assert_eq!(process.capabilities().clone().unwrap().inheritable().clone().unwrap_or_default().len(), 0);
            assert_eq!(process.capabilities().clone().unwrap().ambient().clone().unwrap().len(), 3);
            assert_eq!(spec.mounts().clone().unwrap().len(), 7);
            assert_eq!(spec.root().clone().unwrap().readonly(), Some(true));
            assert!(!spec.linux().clone().unwrap().resources().clone().unwrap().devices().clone().unwrap()[0].allow());
        }
    }

    #[test]
    fn required_fields_are_written_even_when_they_are_zero() {
        let v: serde_json::Value = serde_json::from_str(&written(false, false)).unwrap();
        assert_eq!(v["process"]["user"], serde_json::json!({"uid": 0, "gid": 0}));
        assert_eq!(v["process"]["capabilities"]["inheritable"], serde_json::json!([]));
        assert_eq!(v["linux"]["resources"]["devices"], serde_json::json!([{"allow": false, "access": "rwm"}]));
        assert_eq!(v["mounts"][0], serde_json::json!({"destination": "/proc", "type": "proc", "source": "proc"}));
    }
}
