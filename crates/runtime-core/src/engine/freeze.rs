//! `pause` and `resume`. Not here: the freezer (the managers' affair).

use super::Runtime;
use crate::error::{Error, Result};
use crate::id::ContainerId;

impl Runtime {
    /// Stops all processes of a container until [`resume`](Self::resume).
    ///
    /// # Errors
    /// It has ended, or has no cgroup.
    pub fn pause(&self, id: &ContainerId) -> Result<()> {
        self.freeze(id, true)
    }

    /// Lets the processes of a paused container go on; for one that is not paused there is nothing to do.
    ///
    /// # Errors
    /// It has ended, or has no cgroup.
    pub fn resume(&self, id: &ContainerId) -> Result<()> {
        self.freeze(id, false)
    }

    fn freeze(&self, id: &ContainerId, frozen: bool) -> Result<()> {
        let (_, record) = self.alive(id)?;
        if record.cgroup.path.is_empty() {
            return Err(Error::other(format!("cannot {} a container without a cgroup", if frozen { "pause" } else { "resume" })));
        }
        self.cgroup(&record)?.freeze(frozen)
    }
}
