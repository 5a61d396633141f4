//! What callers choose: backends, and the options of `create`, `run` and `exec`. Not here: command lines (`cli`).

use crate::api::{CgroupManager, CheckpointSettings, Checkpointer, Handler, SeccompCompiler, SeccompPlugins};
use crate::error::{Error, ErrorKind, Result};
use std::os::fd::RawFd;
use std::path::PathBuf;

/// The backends a runtime was given. A missing one gives an error that names it when a container needs it.
#[derive(Default)]
pub struct Backends {
    /// By name: the one used for new containers is chosen in [`CreateOptions::cgroup_manager`], that of an existing container by its
    /// state file.
    pub cgroup_managers: Vec<Box<dyn CgroupManager>>,
    /// Compiles seccomp sections.
    pub seccomp: Option<Box<dyn SeccompCompiler>>,
    /// Answers the notifications of seccomp filters.
    pub seccomp_plugins: Option<Box<dyn SeccompPlugins>>,
    /// Dumps and restores processes.
    pub checkpointer: Option<Box<dyn Checkpointer>>,
    /// What runs programs in place of execve, chosen by name; the first of a name has it.
    pub handlers: Vec<Box<dyn Handler>>,
}

impl Backends {
    /// The cgroup manager called `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when it was not compiled in.
    pub fn cgroup_manager(&self, name: &str) -> Result<&dyn CgroupManager> {
        self.cgroup_managers
            .iter()
            .find(|m| m.name() == name)
            .map(|m| &**m)
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, format!("cgroup manager `{name}` is not built in")))
    }
}

/// Options of `create` and `run`.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// Bundle directory.
    pub bundle: PathBuf,
    /// Configuration file instead of `config.json` in the bundle; relative to the bundle.
    pub config: Option<PathBuf>,
    /// Name of the cgroup manager: `cgroupfs`, `systemd` or `disabled`.
    pub cgroup_manager: String,
    /// Name of the handler for a configuration that names none; one that does is refused.
    pub handler: Option<String>,
    /// Unix socket that gets the terminal's master side.
    pub console_socket: Option<PathBuf>,
    /// Unix socket that gets a pidfd of the container's process.
    pub pidfd_socket: Option<PathBuf>,
    /// Number of inherited descriptors from 3 on that the container's process keeps.
    pub preserve_fds: u32,
    /// Number of descriptors from 3 on that a service manager passed (`LISTEN_FDS`, sd_listen_fds(3)); the process gets them too.
    pub listen_fds: u32,
    /// The service manager's socket (`NOTIFY_SOCKET`, sd_notify(3)): the container gets one of its own, from which messages are passed on.
    pub notify_socket: Option<String>,
    /// Unix socket that receives the notify descriptor of a seccomp filter where the configuration names none
    /// (`RUN_OCI_SECCOMP_RECEIVER`).
    pub seccomp_receiver: Option<String>,
    /// Change the root by MS_MOVE and chroot instead of pivot_root.
    pub no_pivot: bool,
    /// Do not join a new session keyring.
    pub no_new_keyring: bool,
    /// File that gets the process's pid, decimal, without a line end.
    pub pid_file: Option<PathBuf>,
    /// `run` only: do not wait for the process.
    pub detach: bool,
    /// `run` only: keep the state directory when the process has ended.
    pub keep: bool,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            bundle: PathBuf::from("."),
            config: None,
            cgroup_manager: "cgroupfs".to_owned(),
            handler: None,
            console_socket: None,
            pidfd_socket: None,
            preserve_fds: 0,
            listen_fds: 0,
            notify_socket: None,
            seccomp_receiver: None,
            no_pivot: false,
            no_new_keyring: false,
            pid_file: None,
            detach: false,
            keep: false,
        }
    }
}

/// Options of `start`.
#[derive(Debug, Clone, Default)]
pub struct StartOptions {
    /// As [`CreateOptions::notify_socket`], for a container that was created with one: `start` then waits until the service is ready.
    pub notify_socket: Option<String>,
}

/// Options of `exec`. Either `process_file` describes the process wholly, or `args` and the fields behind it change the container's own.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// JSON file with an OCI `process`.
    pub process_file: Option<PathBuf>,
    /// argv.
    pub args: Vec<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// `NAME=value` each, merged into the container's environment.
    pub env: Vec<String>,
    /// Make a terminal.
    pub tty: bool,
    /// uid and gid.
    pub user: Option<(u32, u32)>,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// Capabilities added to the bounding, effective, permitted and ambient sets.
    pub caps: Vec<String>,
    /// Set no_new_privs.
    pub no_new_privs: bool,
    /// SELinux label.
    pub process_label: Option<String>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// Sub-cgroup of the container's.
    pub cgroup: Option<String>,
    /// Unix socket that gets the terminal's master side.
    pub console_socket: Option<PathBuf>,
    /// Unix socket that gets a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// File that gets the pid.
    pub pid_file: Option<PathBuf>,
    /// Number of inherited descriptors kept.
    pub preserve_fds: u32,
    /// As [`CreateOptions::listen_fds`].
    pub listen_fds: u32,
    /// Unix socket that receives the notify descriptor of a seccomp filter where the configuration names none
    /// (`RUN_OCI_SECCOMP_RECEIVER`).
    pub seccomp_receiver: Option<String>,
    /// As [`CreateOptions::handler`].
    pub handler: Option<String>,
    /// Do not wait for the process.
    pub detach: bool,
    /// Execute in a paused container too; the process starts when it is resumed.
    pub ignore_paused: bool,
}

/// Options of `checkpoint`.
#[derive(Debug, Clone, Default)]
pub struct CheckpointOptions {
    /// Directory for the images; made where it is missing.
    pub image_path: PathBuf,
    /// Directory for logs, the images' by default; made where it is missing.
    pub work_path: Option<PathBuf>,
    /// Images of the checkpoint before, relative to the images' directory: what has not changed since is not written again.
    pub parent_path: Option<PathBuf>,
    /// Only the memory, and the container goes on: the checkpoint after it, which names this one as its parent, takes less time.
    pub pre_dump: bool,
    /// The container goes on.
    pub leave_running: bool,
    /// Host and port of a page server: memory goes there, or with lazy pages is fetched there.
    pub page_server: Option<(String, u16)>,
    /// Gets a zero byte when pages can be fetched.
    pub status_fd: Option<RawFd>,
    /// What is part of it.
    pub settings: CheckpointSettings,
}

/// Options of `restore`.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Directory with the images.
    pub image_path: PathBuf,
    /// Directory for logs, the images' by default; made where it is missing.
    pub work_path: Option<PathBuf>,
    /// Bundle directory.
    pub bundle: PathBuf,
    /// Name of the cgroup manager: `cgroupfs`, `systemd` or `disabled`.
    pub cgroup_manager: String,
    /// Unix socket that gets the terminal's master side.
    pub console_socket: Option<PathBuf>,
    /// The service manager's socket, see [`CreateOptions::notify_socket`].
    pub notify_socket: Option<String>,
    /// File that gets the process's pid, decimal, without a line end.
    pub pid_file: Option<PathBuf>,
    /// Do not wait for the process.
    pub detach: bool,
    /// LSM profile of the processes, `TYPE:NAME`, in place of the dumped one.
    pub lsm_profile: Option<String>,
    /// SELinux context of the mounts, in place of the dumped one.
    pub lsm_mount_context: Option<String>,
    /// What is part of it.
    pub settings: CheckpointSettings,
}
