//! The checkpoint trait: a container's processes go into a directory of images, and come back from it. Not here: what a container
//! consists of (the engine says that), CRIU.

use crate::error::{Error, Result};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::str::FromStr;

/// What both directions let a caller choose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// Established TCP connections are part of it.
    pub tcp_established: bool,
    /// Connected TCP sockets come back closed. Restore only.
    pub tcp_close: bool,
    /// TCP connections that are not established yet are left out. Dump only.
    pub tcp_skip_in_flight: bool,
    /// Unix sockets may have their other end outside.
    pub ext_unix_sk: bool,
    /// The terminal and the session's leader are outside.
    pub shell_job: bool,
    /// File locks are part of it.
    pub file_locks: bool,
    /// Unlinked files that are still open are linked somewhere. Dump only.
    pub link_remap: bool,
    /// Memory is served, or fetched, page by page on demand.
    pub lazy_pages: bool,
    /// Pages that are written anew are dropped from the parent's images, or from the images once restored.
    pub auto_dedup: bool,
    /// Of the network namespace only that it is one: somebody else sets it up.
    pub empty_network: bool,
    /// How connections are kept still meanwhile.
    pub network_lock: Option<NetworkLock>,
    /// What becomes of cgroups; [`CgroupsMode::Soft`] when absent.
    pub cgroups_mode: Option<CgroupsMode>,
}

impl CheckpointSettings {
    /// The same for a container whose cgroup is `path`: without one, and unless something else is asked for, cgroups are left alone.
    #[must_use]
    pub fn within(&self, path: &str) -> Self {
        let ignored = path.is_empty().then_some(CgroupsMode::Ignore);
        Self { cgroups_mode: self.cgroups_mode.or(ignored), ..self.clone() }
    }
}

/// How connections are kept still while they are dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkLock {
    /// Rules of iptables(8).
    Iptables,
    /// Rules of nft(8).
    Nftables,
    /// They are not.
    Skip,
}

impl FromStr for NetworkLock {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "iptables" => Ok(Self::Iptables),
            "nftables" => Ok(Self::Nftables),
            "skip" => Ok(Self::Skip),
            _ => Err(Error::invalid(format!("unknown network lock method `{word}`: neither iptables, nftables nor skip"))),
        }
    }
}

/// What becomes of cgroups (criu(8), `--manage-cgroups`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupsMode {
    /// Nothing: processes come back in the cgroup they are restored from.
    Ignore,
    /// They are not made; processes are moved.
    None,
    /// They are not made, and get the dumped properties.
    Props,
    /// Those that are made get the dumped properties.
    Soft,
    /// All get them.
    Full,
    /// None may exist before.
    Strict,
}

impl FromStr for CgroupsMode {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "ignore" => Ok(Self::Ignore),
            "none" => Ok(Self::None),
            "props" => Ok(Self::Props),
            "soft" => Ok(Self::Soft),
            "full" => Ok(Self::Full),
            "strict" => Ok(Self::Strict),
            _ => Err(Error::invalid(format!("unknown cgroup mode `{word}`: none of soft, ignore, full, strict, props and none"))),
        }
    }
}

/// A mount whose content is not dumped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalMount {
    /// The name by which a restore finds it.
    pub name: String,
    /// Dump: where it is in the container. Restore: what is mounted there.
    pub path: String,
}

/// Where images and logs go.
#[derive(Debug, Clone, Copy)]
pub struct ImageDirs<'a> {
    /// Directory of the images.
    pub images: BorrowedFd<'a>,
    /// Directory of logs.
    pub work: BorrowedFd<'a>,
    /// Its path, for messages.
    pub work_path: &'a Path,
}

/// What is to be dumped.
#[derive(Debug, Clone, Copy)]
pub struct DumpRequest<'a> {
    /// The container's first process.
    pub pid: i32,
    /// Directories.
    pub dirs: ImageDirs<'a>,
    /// What the caller chose.
    pub settings: &'a CheckpointSettings,
    /// Only the memory, and the processes go on.
    pub pre_dump: bool,
    /// The processes go on.
    pub leave_running: bool,
    /// Images of an earlier dump, relative to the images' directory.
    pub parent: Option<&'a Path>,
    /// Host and port that pages are sent to, or with lazy pages fetched from.
    pub page_server: Option<(&'a str, u16)>,
    /// Gets a zero byte when pages can be fetched.
    pub status_fd: Option<RawFd>,
    /// The container's root file system.
    pub root: &'a Path,
    /// Mounts that are not dumped.
    pub mounts: &'a [ExternalMount],
    /// Namespaces that are not dumped: type, inode and the name by which a restore finds it.
    pub namespaces: &'a [(&'static str, u64, &'static str)],
    /// Directory of the cgroup whose freezer stops the processes.
    pub freezer: Option<&'a Path>,
    /// Configuration file of the program that does it.
    pub config_file: Option<&'a Path>,
}

/// What is to be restored.
#[derive(Clone, Copy)]
pub struct RestoreRequest<'a> {
    /// Directories.
    pub dirs: ImageDirs<'a>,
    /// What the caller chose.
    pub settings: &'a CheckpointSettings,
    /// The container's root file system, a mount.
    pub root: &'a Path,
    /// Mounts that were not dumped.
    pub mounts: &'a [ExternalMount],
    /// Descriptors that take the place of dumped ones, by the names of those.
    pub inherited: &'a [(String, BorrowedFd<'a>)],
    /// Namespaces to join instead of the dumped ones: type and file.
    pub joined: &'a [(&'static str, String)],
    /// Cgroup that takes the place of the container's, below each hierarchy's root.
    pub cgroup: Option<&'a str>,
    /// LSM profile, `TYPE:NAME`.
    pub lsm_profile: Option<&'a str>,
    /// SELinux context of mounts.
    pub lsm_mount_context: Option<&'a str>,
    /// Configuration file of the program that does it.
    pub config_file: Option<&'a Path>,
    /// Called in a thread of its own, which then starts the program that does it and ends: what this changes of the thread, its mount
    /// namespace first of all, is what the program sees.
    pub surroundings: &'a (dyn Fn() -> Result<()> + Sync),
}

/// What happens while a container is restored. An error ends the restore, and every process of it.
pub trait RestoreEvents {
    /// The program that restores runs and waits.
    ///
    /// # Errors
    /// The caller's.
    fn started(&mut self, pid: i32) -> Result<()>;

    /// The container's first process exists, in its namespaces.
    ///
    /// # Errors
    /// The caller's.
    fn namespaces(&mut self, pid: i32) -> Result<()>;

    /// A terminal's master side that has no owner.
    ///
    /// # Errors
    /// The caller's.
    fn terminal(&mut self, master: OwnedFd) -> Result<()>;

    /// All is restored, and the processes do not run yet.
    ///
    /// # Errors
    /// The caller's.
    fn restored(&mut self, pid: i32) -> Result<()>;
}

/// Dumps and restores processes.
pub trait Checkpointer: Send + Sync {
    /// Dumps the processes and ends them, unless they are to go on.
    ///
    /// # Errors
    /// The processes go on then. Texts say which log has more, and the log's own errors.
    fn dump(&self, request: &DumpRequest<'_>) -> Result<()>;

    /// Restores the processes; the first one, a child of the calling process, as this sees its pid.
    ///
    /// # Errors
    /// Nothing runs then, but the first process may wait to be reaped.
    fn restore(&self, request: &RestoreRequest<'_>, events: &mut dyn RestoreEvents) -> Result<i32>;
}
