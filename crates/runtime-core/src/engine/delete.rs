//! `delete`: takes a container away with all that belongs to it. Not here: what a failed `create` undoes, which its guards do.

use super::first::FirstProcess;
use super::{Runtime, hooks};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::plan::hooks::Identity;
use crate::spec::Spec;
use crate::state::{ContainerDir, Record, Status, Store};
use std::path::Path;

/// How long a killed process may take to end, in milliseconds. One that waits for a dead file server takes longer; deleting it is not
/// possible then, and the caller had better know.
const KILL_TIMEOUT: i32 = 10_000;

impl Runtime {
    /// Removes a container that has ended or was never started; with `force` it is killed first, whatever it does.
    ///
    /// # Errors
    /// It runs and `force` is not set, or something cannot be removed. The container stays then and can be deleted again.
    pub fn delete(&self, id: &ContainerId, force: bool) -> Result<()> {
        let dir = Store::new(&self.root).open(id)?;
        let record = match dir.read_status() {
            // A container in the making that was interrupted, or a damaged file: nothing more can be known of it.
            Err(e) if force => {
                tracing::debug!("delete `{id}` without its status: {e}");
                return dir.remove();
            }
            r => r?,
        };
        if !force && !matches!(self.status_of(&dir, &record)?, Status::Created | Status::Stopped) {
            return Err(Error::other(format!("the container `{id}` is not in `created` or `stopped` state")));
        }
        tracing::debug!("delete the container `{id}` with the cgroup `{}`", record.cgroup.path);
        self.end(&record)?;
        self.forget(dir, &record)
    }

    /// Ends every process of the container and removes its cgroup.
    fn end(&self, record: &Record) -> Result<()> {
        let first = FirstProcess::of(record)?;
        if let Some(first) = &first {
            first.signal(libc::SIGKILL).or_else(|e| if e.kind() == crate::ErrorKind::NotRunning { Ok(()) } else { Err(e) })?;
        }
        // A paused process does not die before its cgroup is thawed, which this does.
        self.cgroup(record)?.destroy()?;
        first.map_or(Ok(()), |f| f.wait(KILL_TIMEOUT))
    }

    /// Removes the state and runs the hooks that come after everything (runtime.md, "Lifecycle", step 13).
    fn forget(&self, dir: ContainerDir, record: &Record) -> Result<()> {
        let config = dir.read_config();
        let id = dir.id().clone();
        dir.remove()?;
        let Ok(config) = config.inspect_err(|e| tracing::warn!("no poststop hooks: {e}")) else { return Ok(()) };
        let Ok(spec) = Spec::parse(&config).inspect_err(|e| tracing::warn!("no poststop hooks: {e}")) else { return Ok(()) };
        let who =
            Identity { id: &id, bundle: Path::new(&record.bundle), rootfs: Path::new(&record.rootfs), annotations: &spec.annotations };
        if let Some(all) = &spec.hooks {
            hooks::run_all(&all.poststop, &who, "stopped", 0);
        }
        Ok(())
    }
}
