//! The parent: one file a verb. Not here: what the child does (`init`), how a container is described on disk (`state`).

mod attach;
mod console;
mod create;
mod delete;
mod exec;
mod failure;
mod first;
mod freeze;
mod hooks;
mod idmap;
mod kill;
mod launch;
mod listener;
mod live_mounts;
mod net_devices;
mod notify;
mod options;
mod ps;
mod slots;
mod socket;
mod start;
mod state;
mod supervise;
mod update;

pub use crate::init::in_child;
pub use options::{Backends, CreateOptions, ExecOptions, StartOptions};

use std::path::PathBuf;

/// A runtime: a state directory and the backends it works with. Cheap to make; all methods take `&self`.
pub struct Runtime {
    /// Directory with one entry a container, mode 0700; made by the first command that writes.
    pub(crate) root: PathBuf,
    pub(crate) backends: Backends,
}

impl Runtime {
    /// A runtime that keeps its containers below `root`.
    pub fn new(root: PathBuf, backends: Backends) -> Self {
        Self { root, backends }
    }
}
