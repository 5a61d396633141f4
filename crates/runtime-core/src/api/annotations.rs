//! The annotations of a configuration that this runtime and its backends heed: each name stands here and nowhere else, with what it means,
//! what holds without it, and whether an engine had better keep it from strangers. Not here: heeding them.

/// Configuration file of CRIU's.
pub const CRIU_CONFIG: &str = "org.criu.config";
/// Unit property of a container's scope, by the prefix and the property's name.
pub const SYSTEMD_PROPERTY: &str = "org.systemd.property.";
/// Cgroup below the scope that is the container's.
pub const SYSTEMD_SUBGROUP: &str = "run.oci.systemd.subgroup";
/// Cgroup below the container's that its process goes to.
pub const DELEGATE_CGROUP: &str = "run.oci.delegate-cgroup";
/// Mount point of a named v1 hierarchy beside the v2 tree.
pub const FORCE_CGROUP_V1: &str = "run.oci.systemd.force_cgroup_v1";
/// File that hooks' standard output is appended to.
pub const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";
/// File that hooks' standard error is appended to.
pub const HOOKS_STDERR: &str = "run.oci.hooks.stderr";
/// Name of what runs the program in place of execve.
pub const HANDLER: &str = "run.oci.handler";
/// Whether an image is WebAssembly.
pub const WASM_VARIANT: &str = "module.wasm.image/variant";
/// What a container is in a Kubernetes pod.
pub const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";
/// The supplementary groups of the caller stay.
pub const KEEP_ORIGINAL_GROUPS: &str = "run.oci.keep_original_groups";
/// Mount option that carries `linux.mountLabel`.
pub const MOUNT_CONTEXT_TYPE: &str = "run.oci.mount_context_type";
/// Unix socket that gets a pidfd of the process, as `--pidfd-socket`.
pub const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";
/// Unix socket that receives the notify descriptor of a filter whose section names none.
pub const SECCOMP_RECEIVER: &str = "run.oci.seccomp.receiver";
/// Shared objects that answer notifications.
pub const SECCOMP_PLUGINS: &str = "run.oci.seccomp.plugins";
/// Unknown system call names are errors.
pub const SECCOMP_FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";
/// Whether calls newer than the profile are answered by ENOSYS.
pub const SECCOMP_ENOSYS_STUB: &str = "run.pinnace.seccomp_enosys_stub";
/// A whole filter in base64, used in place of what the section describes.
pub const SECCOMP_BPF_DATA: &str = "run.oci.seccomp_bpf_data";

/// Virtual processors of a machine that the handler `krun` makes.
pub const KRUN_CPUS: &str = "krun.cpus";
/// Its memory.
pub const KRUN_RAM_MIB: &str = "krun.ram_mib";
/// Its GPU.
pub const KRUN_GPU_FLAGS: &str = "krun.gpu_flags";
/// Its network.
pub const KRUN_USE_PASST: &str = "krun.use_passt";
/// Whether it can have guests itself.
pub const KRUN_NESTED_VIRT: &str = "krun.nested_virt";
/// The build of libkrun that makes it.
pub const KRUN_VARIANT: &str = "krun.variant";

/// One annotation, or several with a common prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Annotation {
    /// Its name; one that ends with a dot is a prefix.
    pub name: &'static str,
    /// What its value is and does.
    pub meaning: &'static str,
    /// What holds without it.
    pub default: &'static str,
    /// The entry of `potentiallyUnsafeConfigAnnotations` in the features document that covers it (features.md): a configuration with it
    /// reaches beyond the container, so an engine that takes annotations from strangers, such as an image's, filters it. `None`: harmless.
    pub potentially_unsafe: Option<&'static str>,
}

const OURS: Option<&str> = Some("run.oci.");
const KRUN: Option<&str> = Some("krun.");

const fn entry(name: &'static str, meaning: &'static str, default: &'static str, listed: Option<&'static str>) -> Annotation {
    Annotation { name, meaning, default, potentially_unsafe: listed }
}

/// All of them.
pub const ANNOTATIONS: [Annotation; 24] = [
    entry(
        CRIU_CONFIG,
        "CRIU's configuration file for checkpoint and restore",
        "/etc/criu/crun.conf, else /etc/criu/runc.conf, where there is one",
        Some("org.criu."),
    ),
    entry(
        SYSTEMD_PROPERTY,
        "property of the scope's unit, as text of GVariant; NAME ending in Sec is in seconds",
        "none",
        Some("org.systemd.property."),
    ),
    entry(KRUN_CPUS, "virtual processors of the machine, 1 to 16", "those the process may run on, 16 at most", KRUN),
    entry(KRUN_GPU_FLAGS, "the machine has a GPU: flags of virglrenderer, decimal or after `0x`", "no GPU", KRUN),
    entry(KRUN_NESTED_VIRT, "`1` or `true`: the machine can have guests itself", "`0`", KRUN),
    entry(KRUN_RAM_MIB, "memory of the machine in MiB, 128 or more", "linux.resources.memory.limit, else 1024", KRUN),
    entry(KRUN_USE_PASST, "`1` or `true`: the machine's network is passt's", "`0`: libkrun's", KRUN),
    entry(KRUN_VARIANT, "`sev` or `aws-nitro`: the build of libkrun", "what the image asks for", KRUN),
    entry(DELEGATE_CGROUP, "cgroup below the container's for its process, the root of its cgroup namespace (v2)", "the container's", OURS),
    entry(HANDLER, "name of what runs the program in place of execve, such as `wasm` or `krun`", "execve", OURS),
    entry(
        WASM_VARIANT,
        "`compat`: the program is WebAssembly; `compat-smart`: it is where its name ends with .wasm or .wat",
        "execve",
        Some(WASM_VARIANT),
    ),
    entry(CONTAINER_TYPE, "`sandbox`: no handler, whatever asks for one", "none", Some(CONTAINER_TYPE)),
    entry(HOOKS_STDERR, "file that hooks' standard error is appended to, mode 0700", "the runtime's own", OURS),
    entry(HOOKS_STDOUT, "file that hooks' standard output is appended to, mode 0700", "nowhere", OURS),
    entry(
        KEEP_ORIGINAL_GROUPS,
        "any value but `0`: the caller's supplementary groups stay, process.user.additionalGids count for nothing",
        "`0`",
        OURS,
    ),
    entry(MOUNT_CONTEXT_TYPE, "`context`, `fscontext`, `defcontext` or `rootcontext`: the option with linux.mountLabel", "`context`", OURS),
    entry(PIDFD_RECEIVER, "unix socket that gets a pidfd of the process", "none", OURS),
    entry(SECCOMP_BPF_DATA, "filter in base64 in place of linux.seccomp, not cached", "linux.seccomp", OURS),
    entry(SECCOMP_FAIL_UNKNOWN, "any value but `0`: unknown names of system calls are errors", "`0`: they are ignored", OURS),
    entry(SECCOMP_PLUGINS, "`A:B`: shared objects that answer notifications, in dynamic builds; not with a receiver", "none", OURS),
    entry(SECCOMP_RECEIVER, "absolute path of a unix socket that gets the notify descriptor", "linux.seccomp.listenerPath", OURS),
    // It only chooses between two ways to refuse.
    entry(
        SECCOMP_ENOSYS_STUB,
        "`0`: system calls newer than the profile get its default action",
        "they get ENOSYS where that action is an error or ends the process",
        None,
    ),
    entry(FORCE_CGROUP_V1, "mount point of a named v1 hierarchy on a host with nothing but v2", "none", OURS),
    entry(SYSTEMD_SUBGROUP, "cgroup below the scope that is the container's; empty for the scope itself", "`container`", OURS),
];

/// Whether an annotation with a switch's value is on: any value but `0`, as in crun.
pub fn is_on(value: &str) -> bool {
    value != "0"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_covered_by_its_entry_and_named_once() {
        for (i, a) in ANNOTATIONS.iter().enumerate() {
            assert!(a.potentially_unsafe.is_none_or(|listed| a.name.starts_with(listed)), "{}", a.name);
            assert!(ANNOTATIONS[..i].iter().all(|other| other.name != a.name), "{}", a.name);
            assert!(!a.meaning.is_empty() && !a.default.is_empty(), "{}", a.name);
        }
        assert!(is_on("1") && is_on("") && is_on("false") && !is_on("0"));
    }
}
