//! `checkpoint`: a container's processes into images. Not here: what is shared with `restore` (`images`), dumping itself.

use super::images::{self, Dirs, NAMESPACES};
use super::{CheckpointOptions, Runtime};
use crate::api::{DumpRequest, ExternalMount};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::facts::{self, Facts};
use crate::id::ContainerId;
use crate::plan::Place;
use crate::plan::external::{self, Content};
use crate::spec::Spec;
use crate::state::{Record, Status, notify};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

impl Runtime {
    /// Writes a running container down as images, and takes it away unless it is to go on.
    ///
    /// # Errors
    /// It does not run, or something of it cannot be dumped. It goes on then.
    pub fn checkpoint(&self, id: &ContainerId, options: &CheckpointOptions) -> Result<()> {
        let checkpointer = self.checkpointer()?;
        let (dir, record) = self.alive(id)?;
        if self.status_of(&dir, &record)? == Status::Created {
            return Err(Error::new(ErrorKind::NotRunning, format!("the container `{id}` is not running: it is `created`")));
        }
        let config = dir.read_config()?;
        let spec = Spec::parse(&config).map_err(|e| e.context("load the configuration"))?;
        let dirs = Dirs::open(&options.image_path, options.work_path.as_deref(), true)?;
        if let Some(parent) = options.parent_path.as_deref().filter(|parent| !dirs.has(parent)) {
            let at = options.image_path.join(parent);
            return Err(Error::sys(libc::ENOENT, format!("open the images of the checkpoint before, `{}`", at.display())));
        }
        dirs.write_descriptors(&record.external_descriptors)?;
        let mounts = external_mounts(id, &record, &spec)?;
        let namespaces = external_namespaces(&record, &spec)?;
        let settings = options.settings.within(&record.cgroup.path);
        let freezer = self.cgroup(&record)?.freezer_dir();
        let config_file = images::config_file(&spec)?;
        tracing::debug!("checkpoint `{id}`: {} external mounts", mounts.len());
        checkpointer.dump(&DumpRequest {
            pid: record.pid,
            dirs: dirs.for_request(),
            settings: &settings,
            pre_dump: options.pre_dump,
            leave_running: options.leave_running,
            parent: options.parent_path.as_deref(),
            page_server: options.page_server.as_ref().map(|(address, port)| (address.as_str(), *port)),
            status_fd: options.status_fd,
            root: &record.root(),
            mounts: &mounts,
            namespaces: &namespaces,
            freezer: freezer.as_deref(),
            config_file: config_file.as_deref(),
        })?;
        if options.leave_running || options.pre_dump {
            return Ok(());
        }
        match self.delete(id, true) {
            // A `run` or `restore` in the foreground deletes what has ended, and may have been quicker.
            Err(e) if e.kind() == ErrorKind::NoContainer => Ok(()),
            r => r,
        }
    }
}

/// Mounts that are the host's: where they are now, and by which name a restore finds them.
fn external_mounts(id: &ContainerId, record: &Record, spec: &Spec<'_>) -> Result<Vec<ExternalMount>> {
    let table = format!("/proc/{}/mountinfo", record.pid);
    let table = std::fs::read_to_string(&table).context(|| format!("read `{table}`"))?;
    let root = PathBuf::from(format!("/proc/{}/root", record.pid));
    let cgroup = (!record.cgroup.path.is_empty()).then_some(&*record.cgroup.manager);
    let place = Place { id, bundle: Path::new(&record.bundle), rootfs: &record.root(), notify: Path::new("") };
    // By where they are: of several at one place the last one counts, which covers the others.
    let mut found = BTreeMap::new();
    let facts = Facts::gather(&facts::open_proc()?, spec, spec.process.as_ref())?;
    for external in external::compile(&images::plan(spec, &facts, cgroup, place)?.steps)? {
        let at = images::resolve(&root, &external.dest);
        if let Content::Path { recursive: true, .. } = external.content {
            for inner in images::below(&table, &at) {
                found.entry(format!("{at}{inner}")).or_insert(format!("{}{inner}", external.dest));
            }
        }
        found.insert(at, external.dest);
    }
    let socket = format!("/{id}/{}", notify::NAME);
    let socket = images::mounts(&table).find(|(inside, _)| inside.ends_with(&socket));
    found.extend(socket.map(|(_, at)| (at, images::NOTIFY.to_owned())));
    Ok(found.into_iter().map(|(path, name)| ExternalMount { name, path }).collect())
}

/// Namespaces that were joined: a restore joins them again, or whatever takes their place.
fn external_namespaces(record: &Record, spec: &Spec<'_>) -> Result<Vec<(&'static str, u64, &'static str)>> {
    let linux = spec.linux();
    let mut found = Vec::new();
    for (kind, word, name) in NAMESPACES {
        if images::joined(&linux, word).is_some() {
            let file = format!("/proc/{}/ns/{kind}", record.pid);
            let inode = rustix::fs::stat(&*file).context(|| format!("stat `{file}`"))?.st_ino;
            found.push((kind, inode, name));
        }
    }
    Ok(found)
}
