//! The manager: places a container in a scope of systemd's. Not here: the verbs on a scope that stands (`cgroup`), D-Bus.

use crate::address::Addresses;
use crate::annotations::Wishes;
use crate::cgroup::SystemdCgroup;
use crate::devices;
use crate::properties;
use crate::systemd::Link;
use crate::unit::Unit;
use cgroup_fs::{Adoption, CgroupfsManager, Controller, Layout, Version, adopt, device, knobs, with_named};
use runtime_core::api::{Cgroup, CgroupManager, CgroupRecord, CgroupRequest, Note, Placement};
use runtime_core::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const NAME: &str = "systemd";
/// How long systemd may take for one operation.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the system's systemd, or that of an unprivileged user, for transient scopes.
#[derive(Debug)]
pub struct SystemdManager {
    link: Arc<Link>,
    files: CgroupfsManager,
}

impl SystemdManager {
    /// A manager for the addresses in the environment. Nothing is connected before the first use. `root` is the runtime's state
    /// directory, where properties are remembered that this systemd does not know.
    pub fn new(root: &Path) -> Self {
        Self::with(root, Addresses::from_environment(), PATIENCE, CgroupfsManager::new())
    }

    /// A manager for given addresses and hierarchies; `patience` is how long systemd may take for one operation.
    pub fn with(root: &Path, addresses: Addresses, patience: Duration, files: CgroupfsManager) -> Self {
        Self { link: Arc::new(Link::new(root, addresses, patience)), files }
    }

    fn layout(&self) -> Result<&Arc<Layout>> {
        self.files.layout()
    }
}

impl CgroupManager for SystemdManager {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Everything that can be refused is refused here, before there is a process. The connection stays open for `enter`.
    fn place(&self, request: &CgroupRequest<'_>, note: Note<'_>) -> Result<Placement> {
        let unit = Unit::resolve(request.cgroups_path, request.id, request.rootless)?;
        let wishes = Wishes::of(request.annotations)?;
        let split = self.layout()?.split();
        knobs::writes(request.resources, &split)?;
        device::parse(&request.resources.devices)?;
        properties::limits(request.resources, &split, request.rootless, true)?;
        let mut talk = self.link.connect(request.rootless)?;
        let root = talk.control_group()?;
        talk.keep();
        let path = format!("{root}{}{}", unit.cgroup(), wishes.subgroup);
        let named = cgroup_fs::named(request.annotations, self.layout()?)?;
        let record = CgroupRecord { manager: NAME.into(), path, scope: Some(unit.scope), named };
        // What fails later destroys the scope, which must be no other's.
        if let Some(pid) = SystemdCgroup::new(self.link.clone(), with_named(self.layout()?, &record), &record)?.occupant()? {
            let scope = record.scope.unwrap_or_default();
            return Err(Error::invalid(format!("linux.cgroupsPath: unit `{scope}` is in use by process {pid}")));
        }
        note(&record)?;
        Ok(Placement { moved_by_manager: true, record, ..Placement::default() })
    }

    fn enter(&self, request: &CgroupRequest<'_>, placement: &Placement, pid: i32) -> Result<Box<dyn Cgroup>> {
        let unit = Unit::resolve(request.cgroups_path, request.id, request.rootless)?;
        let wishes = Wishes::of(request.annotations)?;
        let layout = self.layout()?;
        let split = layout.split();
        let number = u32::try_from(pid).map_err(|_| Error::other(format!("not a process: {pid}")))?;
        let mut list = properties::scope(&unit, number, &split, wishes.properties);
        list.extend(properties::limits(request.resources, &split, request.rootless, true)?);
        if split.version(Controller::Devices) == Version::V2 && !request.rootless {
            let rules = device::parse(&request.resources.devices)?;
            list.extend(devices::program(&rules, &devices::pin_path(&unit.scope)));
        }
        self.link.resume(request.rootless)?.start(&unit.scope, list)?;
        let path = &placement.record.path;
        adopt(&with_named(layout, &placement.record), &Adoption { path, inner: wishes.delegate.as_deref(), pid }, request)?;
        self.open(&placement.record)
    }

    fn open(&self, record: &CgroupRecord) -> Result<Box<dyn Cgroup>> {
        Ok(Box::new(SystemdCgroup::new(self.link.clone(), with_named(self.layout()?, record), record)?))
    }
}
