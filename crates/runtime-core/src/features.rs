//! What the runtime can do, as the specification's features document (features.md, features-linux.md). Not here: asking the host; the
//! document describes the runtime and the backends it was given.

use crate::api::annotations::ANNOTATIONS;
use crate::engine::Backends;
use crate::plan::schedule::{MEMORY_FLAGS, MEMORY_MODES};
use serde::Serialize;

/// Lowest `ociVersion` a configuration may state.
pub const OCI_VERSION_MIN: &str = "1.0.0";
/// The version of the specification that the model follows.
pub const OCI_VERSION_MAX: &str = "1.3.0";

const HOOKS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

/// capabilities(7), by number. The specification wants the names the runtime recognises, whatever the kernel knows.
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Annotations in a configuration that reach beyond the container, as names or prefixes.
fn unsafe_annotations() -> Vec<&'static str> {
    let listed = ANNOTATIONS.iter().filter_map(|annotation| annotation.potentially_unsafe);
    let mut all: Vec<_> = listed.collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The features document.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// Lowest supported version of the specification.
    pub oci_version_min: &'static str,
    /// Highest.
    pub oci_version_max: &'static str,
    /// Hook kinds.
    pub hooks: &'static [&'static str],
    /// Mount option words.
    pub mount_options: Vec<&'static str>,
    /// `linux`.
    pub linux: LinuxFeatures,
    /// Facts about the runtime itself, name to value, in this order.
    #[serde(serialize_with = "as_object", skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<(String, String)>,
    /// Names and prefixes of annotations that an engine should not take from strangers.
    pub potentially_unsafe_config_annotations: Vec<&'static str>,
}

/// `linux` of the features document.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxFeatures {
    /// Namespace types.
    pub namespaces: &'static [&'static str],
    /// Capability names.
    pub capabilities: &'static [&'static str],
    /// cgroup layouts and managers.
    pub cgroup: CgroupFeatures,
    /// Seccomp.
    pub seccomp: SeccompSection,
    /// `process.apparmorProfile` is honoured.
    pub apparmor: Enabled,
    /// `process.selinuxLabel` and `linux.mountLabel` are honoured.
    pub selinux: Enabled,
    /// Extensions of `mounts`.
    pub mount_extensions: MountExtensions,
    /// `linux.intelRdt`.
    pub intel_rdt: IntelRdtFeatures,
    /// `linux.netDevices` is honoured.
    pub net_devices: Enabled,
    /// `linux.memoryPolicy`.
    pub memory_policy: MemoryPolicyFeatures,
}

/// `linux.memoryPolicy` of the features document.
#[derive(Debug, Clone, Serialize)]
pub struct MemoryPolicyFeatures {
    /// `MPOL_…`.
    pub modes: Vec<&'static str>,
    /// `MPOL_F_…`.
    pub flags: Vec<&'static str>,
}

/// `linux.intelRdt` of the features document.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct IntelRdtFeatures {
    /// It is honoured, where the hardware is there.
    pub enabled: bool,
    /// Its field `schemata` is.
    pub schemata: bool,
    /// Its field `enableMonitoring` is.
    pub monitoring: bool,
}

/// One switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Enabled {
    /// Whether it is there.
    pub enabled: bool,
}

/// `linux.cgroup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CgroupFeatures {
    /// Version 1 hierarchies.
    pub v1: bool,
    /// The version 2 tree.
    pub v2: bool,
    /// The system's systemd makes cgroups.
    pub systemd: bool,
    /// The user's systemd makes cgroups.
    pub systemd_user: bool,
    /// `linux.resources.rdma`.
    pub rdma: bool,
}

/// `linux.seccomp`; the lists are absent without a compiler.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompSection {
    /// There is a compiler.
    pub enabled: bool,
    /// `SCMP_ACT_…`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<&'static str>,
    /// `SCMP_CMP_…`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<&'static str>,
    /// `SCMP_ARCH_…`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub archs: Vec<&'static str>,
    /// Filter flags known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known_flags: Vec<&'static str>,
    /// Filter flags this kernel takes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supported_flags: Vec<&'static str>,
}

/// `linux.mountExtensions`.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MountExtensions {
    /// Idmapped mounts.
    pub idmap: Enabled,
}

impl Features {
    /// The document of a runtime with `backends`; `annotations` are the program's own facts (its version), put first.
    pub fn of(backends: &Backends, annotations: Vec<(String, String)>) -> Self {
        let has = |name: &str| backends.cgroup_managers.iter().any(|m| m.name() == name);
        let (fs, systemd) = (has("cgroupfs"), has("systemd"));
        let mut features = Self {
            oci_version_min: OCI_VERSION_MIN,
            oci_version_max: OCI_VERSION_MAX,
            hooks: &HOOKS,
            mount_options: crate::plan::mount_flags::words().collect(),
            linux: LinuxFeatures {
                namespaces: &NAMESPACES,
                capabilities: &CAPABILITIES,
                cgroup: CgroupFeatures { v1: fs || systemd, v2: fs || systemd, systemd, systemd_user: systemd, rdma: fs || systemd },
                seccomp: SeccompSection::default(),
                apparmor: Enabled { enabled: true },
                selinux: Enabled { enabled: true },
                mount_extensions: MountExtensions { idmap: Enabled { enabled: true } },
                intel_rdt: IntelRdtFeatures { enabled: true, schemata: true, monitoring: true },
                net_devices: Enabled { enabled: true },
                memory_policy: MemoryPolicyFeatures {
                    modes: MEMORY_MODES.iter().map(|(word, _)| *word).collect(),
                    flags: MEMORY_FLAGS.iter().map(|(word, _)| *word).collect(),
                },
            },
            annotations,
            potentially_unsafe_config_annotations: unsafe_annotations(),
        };
        if let Some(compiler) = &backends.seccomp {
            let s = compiler.features();
            features.linux.seccomp = SeccompSection {
                enabled: true,
                actions: s.actions,
                operators: s.operators,
                archs: s.archs,
                known_flags: s.known_flags,
                supported_flags: s.supported_flags,
            };
            if let Some(version) = s.library_version {
                features.annotations.push(("io.github.seccomp.libseccomp.version".to_owned(), version));
            }
        }
        features
    }
}

fn as_object<S: serde::Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(k, v)| (k, v)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{SeccompCompiler, SeccompFeatures, SeccompFilter, SeccompRequest};
    use crate::error::{Error, Result};

    struct Compiler;
    impl SeccompCompiler for Compiler {
        fn compile(&self, _: &SeccompRequest<'_>) -> Result<SeccompFilter> {
            Err(Error::other("not asked for here"))
        }
        fn features(&self) -> SeccompFeatures {
            SeccompFeatures { actions: vec!["SCMP_ACT_KILL"], library_version: Some("2.5.4".into()), ..SeccompFeatures::default() }
        }
    }

    #[test]
    fn backends_decide_what_is_enabled() {
        let none = serde_json::to_value(Features::of(&Backends::default(), Vec::new())).unwrap();
        assert_eq!(none["linux"]["seccomp"], serde_json::json!({"enabled": false}));
        assert_eq!(
            none["linux"]["cgroup"],
            serde_json::json!({"v1": false, "v2": false, "systemd": false, "systemdUser": false, "rdma": false})
        );
        assert_eq!(none.get("annotations"), None);

        let backends = Backends { seccomp: Some(Box::new(Compiler)), ..Backends::default() };
        let some = serde_json::to_value(Features::of(&backends, vec![("a".into(), "b".into())])).unwrap();
        assert_eq!(some["linux"]["seccomp"], serde_json::json!({"enabled": true, "actions": ["SCMP_ACT_KILL"]}));
        assert_eq!(some["annotations"], serde_json::json!({"a": "b", "io.github.seccomp.libseccomp.version": "2.5.4"}));
    }

    #[test]
    fn another_reader_of_the_specification_takes_it() {
        let text = serde_json::to_string(&Features::of(&Backends::default(), Vec::new())).unwrap();
        let f: oci_spec::runtime::Features = serde_json::from_str(&text).unwrap();
        assert_eq!(f.oci_version_max(), OCI_VERSION_MAX);
        assert_eq!(f.hooks().clone().unwrap().len(), 6);
        assert_eq!(f.linux().clone().unwrap().capabilities().clone().unwrap().len(), 41);
    }

    #[test]
    fn no_word_stands_twice() {
        for words in
            [&crate::plan::mount_flags::words().collect::<Vec<_>>()[..], &CAPABILITIES, &HOOKS, &NAMESPACES, &unsafe_annotations()[..]]
        {
            let mut sorted = words.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), words.len());
        }
    }
}
