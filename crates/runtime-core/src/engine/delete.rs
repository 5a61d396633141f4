//! `delete`: takes a container away with all that belongs to it. Not here: what a failed `create` undoes, which its guards do.

use super::first::FirstProcess;
use super::{Runtime, hooks};
use crate::error::{Context, Error, Result};
use crate::id::ContainerId;
use crate::plan::hooks::Identity;
use crate::spec::Spec;
use crate::state::{ContainerDir, Record, Status, Store};
use crate::sys;
use std::path::Path;

/// How long a killed process may take to end, in milliseconds. One that waits for a dead file server takes longer; deleting it is not
/// possible then, and the caller had better know.
const KILL_TIMEOUT: i32 = 10_000;
/// Between two looks at a cgroup that is not empty, in milliseconds.
const AGAIN: i32 = 2;

impl Runtime {
    /// Removes a container that has ended or was never started; with `force` it is killed first, whatever it does.
    ///
    /// # Errors
    /// It runs and `force` is not set, or something cannot be removed. The container stays then and can be deleted again.
    pub fn delete(&self, id: &ContainerId, force: bool) -> Result<()> {
        let mut dir = Store::new(&self.root).open(id)?;
        let record = match dir.read_status() {
            // A container in the making that was interrupted, or a damaged file: nothing more can be known of it.
            Err(e) if force => match self.clear_up(&dir)? {
                Some(record) => record,
                None => {
                    tracing::debug!("delete `{id}` without its status: {e}");
                    return dir.remove();
                }
            },
            r => r?,
        };
        if !force && !matches!(self.status_of(&dir, &record)?, Status::Created | Status::Stopped) {
            return Err(Error::other(format!("the container `{id}` is not in `created` or `stopped` state")));
        }
        tracing::debug!("delete the container `{id}` with the cgroup `{}`", record.cgroup.path);
        self.end(&record)?;
        self.forget(dir, &record)
    }

    /// Removes what is outside of the directory of a container whose making was interrupted, or its damaged status says nothing of: its maker
    /// noted where that is, and its process ends without its maker. `Some` when it was made after all meanwhile.
    fn clear_up(&self, dir: &ContainerDir) -> Result<Option<Record>> {
        let deadline = std::time::Instant::now() + std::time::Duration::from_millis(KILL_TIMEOUT as u64);
        if let Ok(config) = dir.read_config()
            && let Ok(spec) = Spec::parse(&config)
        {
            super::rdt::remove(&spec.linux(), dir.id());
        }
        let Some(noted) = dir.noted() else { return Ok(None) };
        let cgroup = self.backends.cgroup_manager(&noted.manager)?.open(&noted)?;
        while !cgroup.abandon()? {
            if let Ok(record) = dir.read_status() {
                return Ok(Some(record));
            }
            if std::time::Instant::now() > deadline {
                let text = format!("the cgroup `{}` of a container that was not made is in use by {:?}", noted.path, cgroup.pids()?);
                return Err(Error::other(text));
            }
            sys::poll_in(-1, AGAIN).context(|| "wait for the end of a process")?;
        }
        Ok(None)
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
    fn forget(&self, mut dir: ContainerDir, record: &Record) -> Result<()> {
        let config = dir.read_config();
        let id = dir.id().clone();
        let spec = config.as_ref().map_err(ToString::to_string).and_then(|raw| Spec::parse(raw).map_err(|e| e.to_string()));
        // Before the directory, by which it is found.
        if let Ok(spec) = &spec {
            super::rdt::remove(&spec.linux(), &id);
        }
        dir.remove()?;
        let Ok(spec) = spec.inspect_err(|e| tracing::warn!("cannot read its configuration: {e}")) else { return Ok(()) };
        let who =
            Identity { id: &id, bundle: Path::new(&record.bundle), rootfs: Path::new(&record.rootfs), annotations: &spec.annotations };
        if let Some(all) = &spec.hooks {
            hooks::run_all(&all.poststop, &who, "stopped", 0);
        }
        Ok(())
    }
}
