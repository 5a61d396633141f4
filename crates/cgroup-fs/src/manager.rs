//! The cgroupfs manager. Not here: how it makes a cgroup (`place`) and what it does with one (`cgroup`).

use crate::cgroup::{FsCgroup, confine, record};
use crate::homes::Homes;
use crate::knobs;
use crate::layout::Layout;
use crate::named;
use crate::path;
use crate::place;
use runtime_core::api::{Cgroup, CgroupManager, CgroupRecord, CgroupRequest, Note, Placement};
use runtime_core::{ErrorKind, Result};
use rustix::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};

pub(crate) const NAME: &str = "cgroupfs";

/// Makes cgroups by mkdir(2) and write(2) in the cgroup file systems of the host, whichever they are. Making one of these costs nothing;
/// the host is asked at the first use.
#[derive(Debug, Default)]
pub struct CgroupfsManager {
    layout: OnceLock<Arc<Layout>>,
}

impl CgroupfsManager {
    /// A manager for the hierarchies mounted in the caller's mount namespace.
    pub fn new() -> Self {
        Self::default()
    }

    /// A manager for given hierarchies.
    pub fn with_layout(layout: Layout) -> Self {
        Self { layout: OnceLock::from(Arc::new(layout)) }
    }

    /// The host's hierarchies.
    ///
    /// # Errors
    /// See [`Layout::detect`].
    pub fn layout(&self) -> Result<&Arc<Layout>> {
        if let Some(known) = self.layout.get() {
            return Ok(known);
        }
        let found = Arc::new(Layout::detect()?);
        Ok(self.layout.get_or_init(|| found))
    }

    fn make(&self, request: &CgroupRequest<'_>, path: &str, note: Note<'_>) -> Result<Placement> {
        let layout = if request.unified { self.layout.get_or_init(|| Arc::new(Layout::usual())) } else { self.layout()? };
        let named = named::named(request.annotations, layout)?;
        if named.is_some() {
            let layout = named::with_named(layout, &CgroupRecord { named: named.clone(), ..CgroupRecord::default() });
            note(&CgroupRecord { named: named.clone(), ..record(path.to_owned()) })?;
            let mut placement = place::place(&layout, path, request)?;
            placement.record.named = named;
            return Ok(placement);
        }
        let may_move = request.cgroups_path.is_none_or(str::is_empty) && layout.v1.is_empty();
        note(&record(path.to_owned()))?;
        match place::place(layout, path, request) {
            Err(e) if may_move && matches!(e.errno(), Some(libc::EACCES | libc::EPERM | libc::EROFS)) => {
                match place::sibling(request.id)? {
                    Some(beside) => {
                        note(&record(beside.clone()))?;
                        place::place(layout, &beside, request)
                    }
                    None => Err(e),
                }
            }
            other => other,
        }
    }
}

impl CgroupManager for CgroupfsManager {
    fn name(&self) -> &'static str {
        NAME
    }

    fn place(&self, request: &CgroupRequest<'_>, note: Note<'_>) -> Result<Placement> {
        let path = path::resolve(request.cgroups_path, request.id)?;
        let indifferent = request.rootless && request.cgroups_path.is_none_or(str::is_empty) && knobs::asked(request.resources).is_none();
        match self.make(request, &path, note) {
            Err(e) if indifferent && e.kind() != ErrorKind::Invalid => {
                tracing::debug!("the container stays in the cgroup of its runtime: {e}");
                Ok(Placement { record: record(String::new()), ..Placement::default() })
            }
            other => other,
        }
    }

    fn enter(&self, _: &CgroupRequest<'_>, placement: &Placement, _: i32) -> Result<Box<dyn Cgroup>> {
        self.open(&placement.record)
    }

    fn confine(&self, request: &CgroupRequest<'_>, placement: &Placement) -> Result<Option<OwnedFd>> {
        let Some(dir) = &placement.into else { return Ok(None) };
        let layout = self.layout()?;
        let homes = Homes::of(layout, &placement.record.path);
        confine(&homes, Some(dir.as_fd()), &layout.split(), request.resources, placement.fresh, request.rootless)
    }

    fn open(&self, record: &CgroupRecord) -> Result<Box<dyn Cgroup>> {
        let layout = if record.path.is_empty() { Arc::default() } else { named::with_named(self.layout()?, record) };
        Ok(Box::new(FsCgroup::new(layout, record.clone())?))
    }
}
