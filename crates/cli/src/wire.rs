//! Which backends the program has; the one place that asks for cargo features. Not here: using them.

use runtime_core::api::Handler;
use runtime_core::engine::Backends;
use std::path::Path;

/// All backends that are built in. Making them costs nothing; each looks at the system when it is used. `root` is the state directory.
#[cfg_attr(not(feature = "cgroup-systemd"), expect(unused_variables))]
pub(crate) fn backends(root: &Path) -> Backends {
    #[cfg_attr(not(any(feature = "cgroup-fs", feature = "criu", feature = "seccomp")), expect(unused_mut))]
    let mut backends = Backends { handlers: handlers(), ..Backends::default() };
    #[cfg(feature = "cgroup-fs")]
    {
        backends.cgroup_managers.push(Box::new(cgroup_fs::CgroupfsManager::new()));
        backends.cgroup_managers.push(Box::new(cgroup_fs::DisabledManager));
    }
    #[cfg(feature = "cgroup-systemd")]
    backends.cgroup_managers.push(Box::new(cgroup_systemd::SystemdManager::new(root)));
    #[cfg(feature = "seccomp")]
    {
        backends.seccomp = Some(Box::new(pinnace_seccomp::Generator::new()));
    }
    #[cfg(feature = "notify-plugins")]
    {
        backends.seccomp_plugins = Some(Box::new(pinnace_notify_plugins::NotifyPlugins));
    }
    #[cfg(feature = "criu")]
    {
        backends.checkpointer = Some(Box::new(pinnace_criu::Criu::new()));
    }
    backends
}

/// The handlers; the first of a name that several have, such as `wasm`, is the one that is meant by it where it can be used.
pub(crate) fn handlers() -> Vec<Box<dyn Handler>> {
    #[cfg_attr(not(any(feature = "krun", feature = "wasm")), expect(unused_mut))]
    let mut handlers: Vec<Box<dyn Handler>> = Vec::new();
    #[cfg(feature = "wasm")]
    handlers.extend(pinnace_wasm::handlers());
    #[cfg(feature = "krun")]
    handlers.extend([Box::new(pinnace_krun::Krun) as Box<dyn Handler>]);
    handlers
}

/// What is built in, as crun names it.
pub(crate) fn tags() -> Vec<String> {
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
    if cfg!(feature = "criu") {
        tags.push("+CRIU");
    }
    let tags = tags.into_iter().map(str::to_owned);
    tags.chain(handlers().iter().map(|handler| format!("+{}", handler.tag()))).collect()
}
