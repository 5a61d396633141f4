//! The parent: one file a verb. Not here: what the child does (`init`), how a container is described on disk (`state`).

mod attach;
mod console;
mod failure;
mod hooks;
mod launch;
mod options;
mod slots;
mod socket;
mod supervise;

pub use options::{Backends, CreateOptions, ExecOptions};

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
