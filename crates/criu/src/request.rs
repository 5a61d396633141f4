//! What the engine wants → the options CRIU gets. Pure. Not here: the connection (`worker`).

use crate::proto::{CgroupMode, CgroupRoot, ExternalMount, InheritFd, JoinNamespace, NetworkLock, Opts, PageServer};
use runtime_core::api::{self, CgroupsMode, CheckpointSettings, DumpRequest, ImageDirs, RestoreRequest};
use runtime_core::{Error, Result};
use std::os::fd::AsRawFd;
use std::path::Path;

/// Names of the logs in the work directory, as crun's.
pub(crate) const DUMP_LOG: &str = "dump.log";
/// See [`DUMP_LOG`].
pub(crate) const RESTORE_LOG: &str = "restore.log";
/// Everything: the log is the only way to tell why something failed.
const LOG_LEVEL: i32 = 4;

/// The options of a dump.
///
/// # Errors
/// A path is not UTF-8, which the protocol demands.
pub(crate) fn dump(r: &DumpRequest<'_>) -> Result<Opts> {
    let s = r.settings;
    let named = |m: &api::ExternalMount| ExternalMount { key: m.path.clone(), val: m.name.clone() };
    Ok(Opts {
        pid: Some(r.pid),
        leave_running: on(r.leave_running || r.pre_dump),
        track_mem: on(r.pre_dump || r.parent.is_some()),
        parent_img: r.parent.map(text).transpose()?,
        ps: r.page_server.map(|(address, port)| PageServer { address: Some(address.to_owned()), port: Some(port.into()) }),
        status_fd: r.status_fd,
        root: Some(text(r.root)?),
        ext_mnt: r.mounts.iter().map(named).collect(),
        external: r.namespaces.iter().map(|(kind, inode, name)| format!("{kind}[{inode}]:{name}")).collect(),
        freeze_cgroup: r.freezer.map(text).transpose()?,
        tcp_skip_in_flight: on(s.tcp_skip_in_flight),
        link_remap: on(s.link_remap),
        ..common(s, &r.dirs, r.config_file, DUMP_LOG)?
    })
}

/// The options of a restore.
///
/// # Errors
/// See [`dump`].
pub(crate) fn restore(r: &RestoreRequest<'_>) -> Result<Opts> {
    Ok(Opts {
        notify_scripts: Some(true),
        rst_sibling: Some(true),
        root: Some(text(r.root)?),
        ext_mnt: r.mounts.iter().map(|m| ExternalMount { key: m.name.clone(), val: m.path.clone() }).collect(),
        inherit_fd: r.inherited.iter().map(|(key, fd)| InheritFd { key: key.clone(), fd: fd.as_raw_fd() }).collect(),
        join_ns: r.joined.iter().map(|(kind, path)| JoinNamespace { ns: (*kind).to_owned(), ns_file: path.clone() }).collect(),
        cg_root: r.cgroup.into_iter().map(|path| CgroupRoot { ctrl: None, path: path.to_owned() }).collect(),
        lsm_profile: r.lsm_profile.map(str::to_owned),
        lsm_mount_context: r.lsm_mount_context.map(str::to_owned),
        tcp_close: on(r.settings.tcp_close),
        ..common(r.settings, &r.dirs, r.config_file, RESTORE_LOG)?
    })
}

fn common(s: &CheckpointSettings, dirs: &ImageDirs<'_>, config: Option<&Path>, log: &str) -> Result<Opts> {
    let mode = match s.cgroups_mode.unwrap_or(CgroupsMode::Soft) {
        CgroupsMode::Ignore => CgroupMode::Ignore,
        CgroupsMode::None => CgroupMode::CgNone,
        CgroupsMode::Props => CgroupMode::Props,
        CgroupsMode::Soft => CgroupMode::Soft,
        CgroupsMode::Full => CgroupMode::Full,
        CgroupsMode::Strict => CgroupMode::Strict,
    };
    let lock = s.network_lock.map(|lock| match lock {
        api::NetworkLock::Iptables => NetworkLock::Iptables,
        api::NetworkLock::Nftables => NetworkLock::Nftables,
        api::NetworkLock::Skip => NetworkLock::Skip,
    });
    Ok(Opts {
        images_dir_fd: dirs.images.as_raw_fd(),
        work_dir_fd: Some(dirs.work.as_raw_fd()),
        log_file: Some(log.to_owned()),
        log_level: Some(LOG_LEVEL),
        tcp_established: on(s.tcp_established),
        ext_unix_sk: on(s.ext_unix_sk),
        shell_job: on(s.shell_job),
        file_locks: on(s.file_locks),
        lazy_pages: on(s.lazy_pages),
        auto_dedup: on(s.auto_dedup),
        empty_ns: s.empty_network.then_some(libc::CLONE_NEWNET.cast_unsigned()),
        network_lock: lock.map(Into::into),
        // Without the mode the flag means all or nothing, and with it still has to be set.
        manage_cgroups: Some(true),
        manage_cgroups_mode: Some(mode.into()),
        orphan_pts_master: Some(true),
        config_file: config.map(text).transpose()?,
        ..Opts::default()
    })
}

/// What is not wanted is not said: a configuration file may want it.
fn on(wanted: bool) -> Option<bool> {
    wanted.then_some(true)
}

fn text(path: &Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::invalid(format!("`{}`: not UTF-8, which CRIU's protocol demands", path.display())))
}
