//! The messages of CRIU's RPC (criu.org/RPC), as far as they are used here; fields that are not listed are skipped by the decoder.
//! Written by hand against the field numbers of CRIU 4, which only ever grow. Not here: who fills them (`request`).

use prost::{Enumeration, Message};

/// `criu_req_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// No request at all.
    Empty = 0,
    /// Dump a tree of processes.
    Dump = 1,
    /// Restore one.
    Restore = 2,
    /// CRIU reports a stage, and is told to go on.
    Notify = 6,
    /// Ask for the version.
    Version = 10,
    /// Dump the memory only, once.
    SinglePreDump = 13,
}

/// `criu_req`.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// A [`Kind`].
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub kind: i32,
    /// For all but `Notify` and `Version`.
    #[prost(message, optional, tag = "2")]
    pub opts: Option<Opts>,
    /// The answer to a notification.
    #[prost(bool, optional, tag = "3")]
    pub notify_success: Option<bool>,
    /// More requests follow.
    #[prost(bool, optional, tag = "4")]
    pub keep_open: Option<bool>,
}

/// `criu_opts`. Descriptors are numbers in CRIU's own table.
#[derive(Clone, PartialEq, Message)]
pub struct Opts {
    /// Directory of the images.
    #[prost(int32, required, tag = "1")]
    pub images_dir_fd: i32,
    /// Root of the tree to dump.
    #[prost(int32, optional, tag = "2")]
    pub pid: Option<i32>,
    /// The processes go on after the dump.
    #[prost(bool, optional, tag = "3")]
    pub leave_running: Option<bool>,
    /// Unix sockets whose other end is outside may be dumped.
    #[prost(bool, optional, tag = "4")]
    pub ext_unix_sk: Option<bool>,
    /// Established TCP connections too.
    #[prost(bool, optional, tag = "5")]
    pub tcp_established: Option<bool>,
    /// The session's leader and its terminal are outside.
    #[prost(bool, optional, tag = "7")]
    pub shell_job: Option<bool>,
    /// File locks too.
    #[prost(bool, optional, tag = "8")]
    pub file_locks: Option<bool>,
    /// 0 to 4.
    #[prost(int32, optional, tag = "9")]
    pub log_level: Option<i32>,
    /// Name of the log in the work directory.
    #[prost(string, optional, tag = "10")]
    pub log_file: Option<String>,
    /// Where pages are sent to.
    #[prost(message, optional, tag = "11")]
    pub ps: Option<PageServer>,
    /// Report the stages.
    #[prost(bool, optional, tag = "12")]
    pub notify_scripts: Option<bool>,
    /// Root of the container's file system.
    #[prost(string, optional, tag = "13")]
    pub root: Option<String>,
    /// Images of an earlier dump, relative to the images' directory.
    #[prost(string, optional, tag = "14")]
    pub parent_img: Option<String>,
    /// Watch which pages change from now on.
    #[prost(bool, optional, tag = "15")]
    pub track_mem: Option<bool>,
    /// Drop pages from the parent's images that are written anew.
    #[prost(bool, optional, tag = "16")]
    pub auto_dedup: Option<bool>,
    /// Directory of logs and scratch files.
    #[prost(int32, optional, tag = "17")]
    pub work_dir_fd: Option<i32>,
    /// Link unlinked files that are still open.
    #[prost(bool, optional, tag = "18")]
    pub link_remap: Option<bool>,
    /// External mounts.
    #[prost(message, repeated, tag = "23")]
    pub ext_mnt: Vec<ExternalMount>,
    /// Handle cgroups at all.
    #[prost(bool, optional, tag = "24")]
    pub manage_cgroups: Option<bool>,
    /// Where the tree's cgroups begin when restored.
    #[prost(message, repeated, tag = "25")]
    pub cg_root: Vec<CgroupRoot>,
    /// The restored process is a child of CRIU's parent.
    #[prost(bool, optional, tag = "26")]
    pub rst_sibling: Option<bool>,
    /// Descriptors that take the place of dumped ones.
    #[prost(message, repeated, tag = "27")]
    pub inherit_fd: Vec<InheritFd>,
    /// How cgroups are handled.
    #[prost(enumeration = "CgroupMode", optional, tag = "34")]
    pub manage_cgroups_mode: Option<i32>,
    /// External resources of other kinds.
    #[prost(string, repeated, tag = "37")]
    pub external: Vec<String>,
    /// Flags of namespaces whose content is not dumped.
    #[prost(uint32, optional, tag = "38")]
    pub empty_ns: Option<u32>,
    /// Namespaces to join instead of restoring them.
    #[prost(message, repeated, tag = "39")]
    pub join_ns: Vec<JoinNamespace>,
    /// Directory of the cgroup whose freezer stops the processes.
    #[prost(string, optional, tag = "44")]
    pub freeze_cgroup: Option<String>,
    /// Connections that are not established yet are left out.
    #[prost(bool, optional, tag = "46")]
    pub tcp_skip_in_flight: Option<bool>,
    /// Pages are served, or fetched, on demand.
    #[prost(bool, optional, tag = "48")]
    pub lazy_pages: Option<bool>,
    /// Gets a zero byte when CRIU is ready to serve.
    #[prost(int32, optional, tag = "49")]
    pub status_fd: Option<i32>,
    /// Hand over the master side of a terminal that has no owner.
    #[prost(bool, optional, tag = "50")]
    pub orphan_pts_master: Option<bool>,
    /// Configuration file.
    #[prost(string, optional, tag = "51")]
    pub config_file: Option<String>,
    /// Restore connected sockets as closed ones.
    #[prost(bool, optional, tag = "52")]
    pub tcp_close: Option<bool>,
    /// Profile for the restored processes.
    #[prost(string, optional, tag = "53")]
    pub lsm_profile: Option<String>,
    /// SELinux context of restored mounts.
    #[prost(string, optional, tag = "63")]
    pub lsm_mount_context: Option<String>,
    /// How connections are kept still meanwhile.
    #[prost(enumeration = "NetworkLock", optional, tag = "64")]
    pub network_lock: Option<i32>,
}

/// `criu_page_server_info`.
#[derive(Clone, PartialEq, Message)]
pub struct PageServer {
    /// Host.
    #[prost(string, optional, tag = "1")]
    pub address: Option<String>,
    /// Port.
    #[prost(int32, optional, tag = "2")]
    pub port: Option<i32>,
}

/// `ext_mount_map`.
#[derive(Clone, PartialEq, Message)]
pub struct ExternalMount {
    /// Dump: the mount point in the container. Restore: the name given then.
    #[prost(string, required, tag = "1")]
    pub key: String,
    /// Dump: a name. Restore: what is mounted.
    #[prost(string, required, tag = "2")]
    pub val: String,
}

/// `cgroup_root`.
#[derive(Clone, PartialEq, Message)]
pub struct CgroupRoot {
    /// Controllers; all when absent.
    #[prost(string, optional, tag = "1")]
    pub ctrl: Option<String>,
    /// Path below the hierarchy's root.
    #[prost(string, required, tag = "2")]
    pub path: String,
}

/// `inherit_fd`.
#[derive(Clone, PartialEq, Message)]
pub struct InheritFd {
    /// What the dumped descriptor led to, or the name of an external resource.
    #[prost(string, required, tag = "1")]
    pub key: String,
    /// Number in CRIU's table.
    #[prost(int32, required, tag = "2")]
    pub fd: i32,
}

/// `join_namespace`.
#[derive(Clone, PartialEq, Message)]
pub struct JoinNamespace {
    /// `net`, `uts`, `ipc`, `time`, …
    #[prost(string, required, tag = "1")]
    pub ns: String,
    /// Its file.
    #[prost(string, required, tag = "2")]
    pub ns_file: String,
}

/// `criu_cg_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum CgroupMode {
    /// Where CRIU is, the processes are.
    Ignore = 0,
    /// Cgroups are neither made nor changed.
    CgNone = 1,
    /// Those that exist get the dumped properties.
    Props = 2,
    /// Those that are made get them.
    Soft = 3,
    /// All get them.
    Full = 4,
    /// None may exist before.
    Strict = 5,
}

/// `criu_network_lock_method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum NetworkLock {
    /// Rules of iptables.
    Iptables = 1,
    /// Rules of nftables.
    Nftables = 2,
    /// None.
    Skip = 3,
}

/// `criu_resp`.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// A [`Kind`].
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub kind: i32,
    /// Whether it was done.
    #[prost(bool, required, tag = "2")]
    pub success: bool,
    /// Of `Restore`.
    #[prost(message, optional, tag = "4")]
    pub restore: Option<Restored>,
    /// Of `Notify`.
    #[prost(message, optional, tag = "5")]
    pub notify: Option<Notification>,
    /// Error number of a failure.
    #[prost(int32, optional, tag = "7")]
    pub cr_errno: Option<i32>,
    /// Its words.
    #[prost(string, optional, tag = "9")]
    pub cr_errmsg: Option<String>,
    /// Of `Version`.
    #[prost(message, optional, tag = "10")]
    pub version: Option<Version>,
}

/// `criu_restore_resp`.
#[derive(Clone, PartialEq, Message)]
pub struct Restored {
    /// The first process, as CRIU sees it.
    #[prost(int32, required, tag = "1")]
    pub pid: i32,
}

/// `criu_notify`.
#[derive(Clone, PartialEq, Message)]
pub struct Notification {
    /// The stage.
    #[prost(string, optional, tag = "1")]
    pub script: Option<String>,
    /// The first process.
    #[prost(int32, optional, tag = "2")]
    pub pid: Option<i32>,
}

/// `criu_version`.
#[derive(Clone, PartialEq, Message)]
pub struct Version {
    /// The first number.
    #[prost(int32, required, tag = "1")]
    pub major_number: i32,
    /// The second.
    #[prost(int32, required, tag = "2")]
    pub minor_number: i32,
}
