//! A container on disk: its directory, the status file, the fifo it waits at, its notification socket, and whether its process lives. Not here: what the verbs do
//! with that (`engine`).

mod dir;
mod gate;
pub(crate) mod notify;
mod process;
mod record;
mod store;

pub(crate) use dir::ContainerDir;
pub(crate) use gate::Gate;
#[cfg(any(test, fuzzing))]
pub(crate) use process::parse as parse_stat;
pub(crate) use process::state_of;
pub(crate) use record::Record;
pub(crate) use store::Store;

use crate::id::ContainerId;
use std::fmt;

/// Where a container is in its life (runtime.md, "State"; `paused` is an addition of all runtimes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its process waits for `start`.
    Created,
    /// Its program runs.
    Running,
    /// Its cgroup is frozen.
    Paused,
    /// Its process has ended.
    Stopped,
}

impl Status {
    /// The word of the specification.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What `state` and `list` say of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its id.
    pub id: ContainerId,
    /// Its first process, as the runtime's pid namespace numbers it; 0 when that has ended.
    pub pid: i32,
    /// Where it is in its life.
    pub status: Status,
    /// Absolute path of its bundle.
    pub bundle: String,
    /// Absolute path of its root file system.
    pub rootfs: String,
    /// When it was created, RFC 3339 in UTC with microseconds.
    pub created: String,
    /// systemd unit; empty where another manager made the cgroup.
    pub scope: Option<String>,
    /// Login name of the user that created it.
    pub owner: Option<String>,
    /// `annotations` of its configuration, in the file's order. Empty in the answer of `list`, which reads no configurations.
    pub annotations: Vec<(String, String)>,
}
