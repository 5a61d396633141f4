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
            let cgroup = self.cgroup(&record)?;
            // Somebody may have moved it out of its cgroup, which is then empty or gone.
            let outside = FirstProcess::of(&record)?.filter(|_| !cgroup.pids().is_ok_and(|list| list.contains(&record.pid)));
            cgroup.kill(signal).map_err(|e| e.context("kill container"))?;
            return outside.map_or(Ok(()), |first| first.signal(signal));
        }
        FirstProcess::of(&record)?.ok_or_else(not_running)?.signal(signal)
    }
}
