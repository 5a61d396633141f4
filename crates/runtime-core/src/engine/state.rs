//! `state` and `list`: where containers are in their lives. Not here: printing.

use super::Runtime;
use super::first::is_alive;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::spec::{Map, Str};
use crate::state::{ContainerDir, Gate, Record, Report, Status, Store};
use serde::Deserialize;

/// The one part of the configuration that `state` shows.
#[derive(Deserialize)]
struct Annotated<'a> {
    #[serde(borrow, default)]
    annotations: Option<Map<'a, Str<'a>>>,
}

impl Runtime {
    /// What is known of a container.
    ///
    /// # Errors
    /// There is none, or its files are damaged.
    pub fn state(&self, id: &ContainerId) -> Result<Report> {
        let dir = Store::new(&self.root).open(id)?;
        let mut report = self.report(&dir)?;
        let config = dir.read_config()?;
        let parsed: Annotated<'_> = crate::spec::parse(&config).map_err(|e| e.context("load the configuration"))?;
        let annotations = parsed.annotations.unwrap_or_default();
        report.annotations = annotations.iter().map(|(k, v)| (k.to_owned(), v.to_string())).collect();
        Ok(report)
    }

    /// What is known of all containers, without annotations. One that vanishes meanwhile is passed over; one whose files are damaged is
    /// too, with a warning.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub fn list(&self) -> Result<Vec<Report>> {
        let store = Store::new(&self.root);
        let mut reports = Vec::new();
        for id in store.names()? {
            let Ok(dir) = store.open(&id) else { continue };
            match self.report(&dir) {
                Ok(report) => reports.push(report),
                Err(e) if e.kind() == ErrorKind::NoContainer => {}
                Err(e) => tracing::warn!("container `{id}`: {e}"),
            }
        }
        Ok(reports)
    }

    /// The ids of all containers, sorted.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub fn ids(&self) -> Result<Vec<ContainerId>> {
        Store::new(&self.root).ids()
    }

    fn report(&self, dir: &ContainerDir) -> Result<Report> {
        let record = dir.read_status()?;
        let status = self.status_of(dir, &record)?;
        Ok(Report {
            id: dir.id().clone(),
            pid: if status == Status::Stopped { 0 } else { record.pid },
            status,
            bundle: record.bundle,
            rootfs: record.rootfs,
            created: record.created,
            scope: record.cgroup.scope,
            owner: record.owner,
            annotations: Vec::new(),
        })
    }

    /// Where a container is in its life.
    ///
    /// # Errors
    /// /proc or the cgroup cannot be read.
    pub(crate) fn status_of(&self, dir: &ContainerDir, record: &Record) -> Result<Status> {
        if !is_alive(record)? {
            return Ok(Status::Stopped);
        }
        if Gate::is_closed(dir) {
            return Ok(Status::Created);
        }
        let frozen = match self.cgroup(record) {
            Ok(cgroup) => cgroup.is_frozen()?,
            // Another build of the runtime made it. Whether it is paused cannot be told here; everything else can.
            Err(e) if e.kind() == ErrorKind::Unsupported => false,
            Err(e) => return Err(e),
        };
        Ok(if frozen { Status::Paused } else { Status::Running })
    }

    /// The cgroup of a container.
    ///
    /// # Errors
    /// Its manager is not built in.
    pub(crate) fn cgroup(&self, record: &Record) -> Result<Box<dyn crate::api::Cgroup>> {
        self.backends.cgroup_manager(&record.cgroup.manager)?.open(&record.cgroup)
    }

    /// A container whose process runs, or is paused, or waits for `start`.
    ///
    /// # Errors
    /// [`ErrorKind::NotRunning`] with crun's text when it has ended.
    pub(crate) fn alive(&self, id: &ContainerId) -> Result<(ContainerDir, Record)> {
        let dir = Store::new(&self.root).open(id)?;
        let record = dir.read_status()?;
        if is_alive(&record)? {
            return Ok((dir, record));
        }
        Err(Error::new(ErrorKind::NotRunning, format!("the container `{id}` is not running")))
    }
}
