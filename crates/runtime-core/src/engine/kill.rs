//! `kill`: signals to a container's first process or to all. Not here: names of signals (`signals`).

use super::Runtime;
use super::first::{FirstProcess, not_running};
use crate::error::Result;
use crate::id::ContainerId;
use crate::state::Store;

impl Runtime {
    /// Sends a signal to a container's first process, or to every process in its cgroup.
    ///
    /// # Errors
    /// [`ErrorKind::NotRunning`](crate::ErrorKind::NotRunning) when the first process has ended and `all` is not set.
    pub fn kill(&self, id: &ContainerId, signal: i32, all: bool) -> Result<()> {
        let record = Store::new(&self.root).open(id)?.read_status()?;
        tracing::debug!("signal {signal} to container `{id}`{}", if all { ", all processes" } else { "" });
        // Without a cgroup the first process is all that is known.
        if all && !record.cgroup.path.is_empty() {
            return self.cgroup(&record)?.kill(signal).map_err(|e| e.context("kill container"));
        }
        FirstProcess::of(&record)?.ok_or_else(not_running)?.signal(signal)
    }
}
