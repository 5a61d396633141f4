//! Which backends the program has; the one place that asks for cargo features. Not here: using them.

use runtime_core::engine::Backends;

/// All backends that are built in.
pub(crate) fn backends() -> Backends {
    Backends::default()
}

/// What is built in, as crun names it.
pub(crate) fn tags() -> Vec<&'static str> {
    let mut tags = vec!["+SELINUX", "+APPARMOR", "+CAP"];
    if cfg!(feature = "seccomp") {
        tags.push("+SECCOMP");
    }
    if cfg!(feature = "cgroup-fs") {
        tags.push("+EBPF");
    }
    tags
}
