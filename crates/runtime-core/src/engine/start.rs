//! `start`: lets a created container go on. Not here: the fifo (`state::gate`).

use super::notify::Proxy;
use super::{Runtime, StartOptions, hooks};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::plan::hooks::Identity;
use crate::spec::Spec;
use crate::state::{Gate, Status};
use std::path::Path;

impl Runtime {
    /// Starts a created container's program. Where a service manager waits to hear that it is ready, so does this.
    ///
    /// # Errors
    /// It is not in the `created` state, or a poststart hook failed; the container is ended then (runtime.md, "Lifecycle", step 9).
    pub fn start(&self, id: &ContainerId, options: &StartOptions) -> Result<()> {
        let (dir, record) = self.alive(id)?;
        let status = self.status_of(&dir, &record)?;
        if status != Status::Created {
            return Err(Error::other(format!("the container `{id}` is not in `created` state: it is `{status}`")));
        }
        // Read before anything happens: a configuration that cannot be read must not leave a container half started.
        let config = dir.read_config()?;
        let spec = Spec::parse(&config).map_err(|e| e.context("load the configuration"))?;
        let proxy = options.notify_socket.as_deref().map_or(Ok(None), |target| Proxy::listen(&dir, target))?;
        let released = Gate::release(&dir).map_err(|e| e.context(format!("start the container `{id}`")))?;
        let poststart = spec.hooks.as_ref().map_or(&[][..], |h| &h.poststart);
        if !poststart.is_empty() {
            released.wait_for_exec()?;
            let who = Identity { id, bundle: Path::new(&record.bundle), rootfs: Path::new(&record.rootfs), annotations: &spec.annotations };
            hooks::run(poststart, &who, "running", record.pid).inspect_err(|_| {
                if let Err(e) = self.kill(id, libc::SIGKILL, true) {
                    tracing::warn!("{e}");
                }
            })?;
        }
        proxy.map_or(Ok(()), |proxy| proxy.until_ready(record.pid).map(drop))
    }
}
