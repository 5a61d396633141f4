//! A container's scope: its files are cgroup-fs's affair, its unit is systemd's. Not here: making it (`manager`).

use crate::devices::pin_path;
use crate::properties;
use crate::systemd::Link;
use crate::unit::scope_part;
use cgroup_fs::{FsCgroup, Layout, device};
use runtime_core::api::{Cgroup, CgroupRecord, Placement, Stats};
use runtime_core::spec::Resources;
use runtime_core::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// A scope, and the container's cgroup in it.
#[derive(Debug)]
pub(crate) struct SystemdCgroup {
    link: Arc<Link>,
    layout: Arc<Layout>,
    scope: String,
    /// The unit is the user's manager's.
    user: bool,
    /// The cgroup of the unit.
    whole: FsCgroup,
    /// The container's, the same or below.
    own: FsCgroup,
}

impl SystemdCgroup {
    /// The scope of a record, which need not stand.
    ///
    /// # Errors
    /// A record without a unit, or whose path does not lead through it.
    pub(crate) fn new(link: Arc<Link>, layout: Arc<Layout>, record: &CgroupRecord) -> Result<Self> {
        let scope = record.scope.clone().filter(|s| !s.is_empty()).ok_or_else(|| Error::invalid("the state names no systemd unit"))?;
        let part = scope_part(&record.path, &scope)
            .ok_or_else(|| Error::invalid(format!("the cgroup path `{}` does not lead through unit `{scope}`", record.path)))?;
        // Units of the system are never below a user's manager.
        let user = part.split('/').any(|dir| dir.starts_with("user@") && dir.ends_with(".service"));
        let whole = FsCgroup::new(layout.clone(), CgroupRecord { path: part.to_owned(), ..record.clone() })?;
        let own = FsCgroup::new(layout.clone(), record.clone())?;
        Ok(Self { link, layout, scope, user, whole, own })
    }

    /// A process in the scope, if there is one.
    pub(crate) fn occupant(&self) -> Result<Option<i32>> {
        if self.whole.exists() { Ok(self.whole.pids()?.first().copied()) } else { Ok(None) }
    }

    fn stop(&self) -> Result<()> {
        if self.link.is_silent() {
            return Err(Error::other(format!("stop unit `{}`: systemd did not answer before", self.scope)));
        }
        self.link.connect(self.user)?.stop(&self.scope)
    }
}

impl Cgroup for SystemdCgroup {
    fn join(&self, sub: Option<&str>, init: i32) -> Result<Placement> {
        self.own.join(sub, init)
    }

    fn apply(&self, resources: &Resources<'_>) -> Result<()> {
        self.own.check(resources)?;
        let list = properties::limits(resources, &self.layout.split(), self.user, false)?;
        if !list.is_empty() {
            self.link.connect(self.user)?.set(&self.scope, list)?;
        }
        if !self.user
            && !resources.devices.is_empty()
            && let Some(dir) = self.whole.unified()
        {
            device::repin(&device::parse(&resources.devices)?, &pin_path(&self.scope), &dir)?;
        }
        self.own.apply(resources)
    }

    fn pids(&self) -> Result<Vec<i32>> {
        self.own.pids()
    }

    fn freeze(&self, frozen: bool) -> Result<()> {
        self.own.freeze(frozen)
    }

    fn is_frozen(&self) -> Result<bool> {
        self.own.is_frozen()
    }

    fn freezer_dir(&self) -> Option<PathBuf> {
        self.own.freezer_dir()
    }

    fn kill(&self, signal: i32) -> Result<()> {
        self.own.kill(signal)
    }

    fn oom_kills(&self) -> Result<Option<u64>> {
        self.own.oom_kills()
    }

    fn stats(&self) -> Result<Stats> {
        self.own.stats()
    }

    /// The processes are killed first: systemd would ask them to end, and wait. A systemd that does not answer keeps nobody from removing
    /// a cgroup; it forgets the unit when it sees that.
    fn destroy(&self) -> Result<()> {
        if self.link.is_foreign(&self.scope) {
            return Ok(());
        }
        // On v1 a frozen process does not die. What keeps it frozen from above is for the removal to tell.
        if self.own.exists()
            && self.own.is_frozen()?
            && let Err(e) = self.own.freeze(false)
        {
            tracing::debug!("{e}");
        }
        if self.whole.exists() {
            self.whole.kill(libc::SIGKILL)?;
        }
        let stopped = self.stop();
        self.whole.destroy()?;
        if !self.user {
            device::unpin(&pin_path(&self.scope))?;
        }
        if let Err(e) = stopped {
            tracing::warn!("{e}");
        }
        Ok(())
    }

    /// systemd forgets a scope that is empty by itself, but not the device program that was pinned for it.
    fn abandon(&self) -> Result<bool> {
        if !self.whole.abandon()? {
            return Ok(false);
        }
        if !self.user && !self.link.is_foreign(&self.scope) {
            device::unpin(&pin_path(&self.scope))?;
        }
        Ok(true)
    }
}
