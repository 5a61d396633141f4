//! `update`: changes a container's limits. Not here: which files they are written to (the managers' affair).

use super::Runtime;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::spec::Resources;

impl Runtime {
    /// Applies the limits that `resources` names; the others stay.
    ///
    /// # Errors
    /// It has ended, has no cgroup, or the kernel refuses a value.
    pub fn update(&self, id: &ContainerId, resources: &Resources<'_>) -> Result<()> {
        let (_, record) = self.alive(id)?;
        if record.cgroup.path.is_empty() {
            return Err(Error::other(format!("cannot update the limits of the container `{id}`: it has no cgroup")));
        }
        self.cgroup(&record)?.apply(resources)
    }
}
