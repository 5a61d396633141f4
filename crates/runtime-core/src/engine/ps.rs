//! `ps`: the processes of a container. Not here: printing.

use super::Runtime;
use crate::error::{Error, Result};
use crate::id::ContainerId;

impl Runtime {
    /// The pids of a container's processes as the runtime's pid namespace numbers them, sorted.
    ///
    /// # Errors
    /// It has ended, or has no cgroup.
    pub fn pids(&self, id: &ContainerId) -> Result<Vec<i32>> {
        let (_, record) = self.alive(id)?;
        if record.cgroup.path.is_empty() {
            return Err(Error::other(format!("the container `{id}` is not using cgroups")));
        }
        let mut pids = self.cgroup(&record)?.pids()?;
        pids.sort_unstable();
        Ok(pids)
    }
}
