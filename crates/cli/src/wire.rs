//! Which backends the program has; the one place that asks for cargo features. Not here: using them.

use runtime_core::engine::Backends;
use std::path::Path;

/// All backends that are built in. Making them costs nothing; each looks at the system when it is used. `root` is the state directory.
#[cfg_attr(not(feature = "cgroup-systemd"), expect(unused_variables))]
pub(crate) fn backends(root: &Path) -> Backends {
    #[cfg_attr(not(any(feature = "cgroup-fs", feature = "seccomp")), expect(unused_mut))]
    let mut backends = Backends::default();
    #[cfg(feature = "cgroup-fs")]
    {
        backends.cgroup_managers.push(Box::new(cgroup_fs::CgroupfsManager::new()));
        backends.cgroup_managers.push(Box::new(cgroup_fs::DisabledManager));
    }
    #[cfg(feature = "cgroup-systemd")]
    backends.cgroup_managers.push(Box::new(cgroup_systemd::SystemdManager::new(root)));
    #[cfg(feature = "seccomp")]
    {
        backends.seccomp = Some(Box::new(pinnace_seccomp::Libseccomp::new()));
    }
    backends
}

/// What is built in, as crun names it.
pub(crate) fn tags() -> Vec<&'static str> {
    let mut tags = Vec::new();
    if cfg!(feature = "cgroup-systemd") {
        tags.push("+SYSTEMD");
    }
    tags.extend(["+SELINUX", "+APPARMOR", "+CAP"]);
    if cfg!(feature = "seccomp") {
        tags.push("+SECCOMP");
    }
    if cfg!(feature = "cgroup-fs") {
        tags.push("+EBPF");
    }
    tags
}
