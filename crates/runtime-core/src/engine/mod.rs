//! The parent: one file a verb. Not here: what the child does (`init`), how a container is described on disk (`state`).

mod attach;
mod checkpoint;
mod console;
mod create;
mod delete;
mod exec;
mod failure;
mod first;
mod freeze;
mod handler;
mod hooks;
mod idmap;
mod images;
mod kill;
mod launch;
mod listener;
mod live_mounts;
mod net_devices;
mod notify;
mod options;
mod own_program;
pub(crate) mod profile;
mod ps;
mod rdt;
mod restore;
mod restore_mounts;
mod slots;
mod socket;
mod start;
mod state;
mod subject;
mod supervise;
mod update;

pub use crate::init::in_child;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub use crate::sys::protect_at_entry;
pub use crate::sys::standard_descriptors_are_open;
pub use options::{Backends, CheckpointOptions, CreateOptions, ExecOptions, RestoreOptions, StartOptions};
pub use own_program::{Protection, protect_own_program};
pub use profile::{Phase, Profile, Side};

use std::path::PathBuf;
use std::sync::Arc;

/// A runtime: a state directory and the backends it works with. Cheap to make; all methods take `&self`.
pub struct Runtime {
    /// Directory with one entry a container, mode 0700; made by the first command that writes.
    pub(crate) root: PathBuf,
    pub(crate) backends: Backends,
    /// This process ends with the call.
    last_call: bool,
    profile: Option<Arc<Profile>>,
}

impl Runtime {
    /// A runtime that keeps its containers below `root`.
    pub fn new(root: PathBuf, backends: Backends) -> Self {
        Self { root, backends, last_call: false, profile: None }
    }

    /// The calling process ends when the next call of this runtime returns. What that call then still holds, such as descriptors, memory
    /// and the signal mask of a foreground `run`, is left for the kernel to take back, which does it faster.
    pub fn last_call(self) -> Self {
        Self { last_call: true, ..self }
    }

    /// Has the times of what follows noted in `profile`.
    pub fn profiled(self, profile: Option<Arc<Profile>>) -> Self {
        Self { profile, ..self }
    }

    /// A phase has ended.
    pub(crate) fn mark(&self, phase: &'static str) {
        if let Some(profile) = &self.profile {
            profile.mark(phase);
        }
    }

    /// Lets go of something that nobody needs any more.
    pub(crate) fn leave<T>(&self, done_with: T) {
        if self.last_call {
            std::mem::forget(done_with);
        }
    }
}
