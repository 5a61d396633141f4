//! `restore`: from images to a container that goes on. Not here: what is shared with `checkpoint` (`images`), what is the host's
//! (`restore_mounts`), restoring itself.

use super::console::Destination;
use super::create::{CgroupGuard, explain, wants_terminal, write_pid_file};
use super::images::{self, Dirs, NAMESPACES};
use super::notify::{self, Proxy};
use super::restore_mounts::{self, Surroundings};
use super::subject::Subject;
use super::supervise::Supervisor;
use super::{RestoreOptions, Runtime, hooks, rdt, socket};
use crate::api::{CgroupManager, CgroupRequest, CgroupsMode, Placement, RestoreEvents, RestoreRequest};
use crate::bundle::Bundle;
use crate::error::{Context, Error, Result};
use crate::facts::{self, Facts};
use crate::id::ContainerId;
use crate::plan::{Place, ids::IdMaps};
use crate::spec::{Linux, Resources, Spec};
use crate::state::{ContainerDir, Store, notify as notify_socket};
use crate::{sys, validate};
use rustix::fs::{Mode, OFlags, openat};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{tcgetwinsize, tcsetwinsize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Namespaces that are joined by their files; the configuration calls them as the kernel does.
const JOINED: [&str; 3] = ["time", "ipc", "uts"];

impl Runtime {
    /// Makes a container of a checkpoint. Returns the exit status of its process, 128 + N when signal N ended it, or 0 at once when
    /// detached.
    ///
    /// # Errors
    /// Anything on the way; nothing is left behind then, but for the log.
    pub fn restore(&self, id: &ContainerId, options: &RestoreOptions) -> Result<i32> {
        self.checkpointer()?;
        let proc = facts::open_proc()?;
        let bundle = Bundle::open(&proc, &options.bundle, None)?;
        let spec = Spec::parse(&bundle.config).map_err(|e| e.context("load the configuration"))?;
        validate::validate(&spec)?;
        let facts = Facts::gather(&proc, &spec, spec.process.as_ref())?;
        let rootfs = bundle.rootfs(&proc, &spec)?;
        let place = Place { id, bundle: &bundle.path, rootfs: &rootfs, notify: Path::new("") };
        let plan = images::plan(&spec, &facts, Some(&options.cgroup_manager), place)?;
        if let Some(target) = &options.notify_socket {
            notify::address(target)?;
        }
        let descriptors = Dirs::open(&options.image_path, options.work_path.as_deref(), false)?.read_descriptors()?;
        let console = match (&options.console_socket, wants_terminal(&spec)) {
            (Some(path), true) => Some(Destination::engine(path)?),
            (None, true) if options.detach && !options.settings.shell_job => {
                return Err(Error::invalid("use --console-socket with --detach when a terminal is used"));
            }
            _ => None,
        };
        let of = Subject { id, proc: &proc, bundle: &bundle, spec: &spec, rootfs, facts, plan };
        Restore { runtime: self, options, of, descriptors, console }.run()
    }
}

/// A container that is to come back.
struct Restore<'a> {
    runtime: &'a Runtime,
    options: &'a RestoreOptions,
    of: Subject<'a>,
    /// Where the descriptors 0 to 2 led to.
    descriptors: Vec<String>,
    console: Option<Destination>,
}

impl Restore<'_> {
    fn run(self) -> Result<i32> {
        let linux = self.of.spec.linux();
        let namespaces = external_namespaces(&linux)?;
        let manager = self.runtime.backends.cgroup_manager(&self.options.cgroup_manager)?;
        let dir = Store::new(&self.runtime.root).create(self.of.id)?;
        let no_limits = Resources::default();
        let request = self.of.request(&linux, &no_limits);
        let placement = manager.place(&request, &|record| dir.note(record))?;
        let mut guard = CgroupGuard { manager, placement: &placement, armed: true };
        manager.confine(&request, &placement)?;
        notify_socket::make_directory(&dir, self.of.plan.id_maps.as_ref().and_then(IdMaps::root))?;
        let proxy = self.options.notify_socket.as_deref().map_or(Ok(None), |target| Proxy::listen(&dir, target))?;
        let supervisor = (!self.options.detach).then(|| Supervisor::prepare(false)).transpose()?;
        let mut events = Events {
            restore: &self,
            dir: &dir,
            manager,
            request: &request,
            placement: &placement,
            supervisor: supervisor.as_ref(),
            terminal: None,
            rdt: None,
            process: Process(None),
        };
        let pid = self.by_checkpointer(&namespaces, &mut events).map_err(|e| {
            let cgroup = manager.open(&placement.record).ok();
            explain(e, cgroup.as_deref(), request.resources)
        })?;
        hooks::run(&self.of.hooks().poststart, &self.of.identity(), "running", pid)?;
        self.options.pid_file.as_deref().map_or(Ok(()), |path| write_pid_file(path, pid))?;
        tracing::debug!("container `{}`: process {pid} in the cgroup `{}`", self.of.id, placement.record.path);
        let terminal = events.terminal.take();
        if let Some(groups) = events.rdt.take() {
            groups.keep();
        }
        events.process.0 = None;
        drop(events);
        guard.armed = false;
        let mut dir = dir.keep();
        if let Some(proxy) = &proxy {
            proxy.announce(self.options.detach.then_some(pid));
        }
        let Some(supervisor) = supervisor else { return Ok(0) };
        let status = Proxy::during(proxy.as_ref(), || supervisor.wait(pid, terminal))?;
        manager.open(&placement.record)?.destroy()?;
        rdt::remove(&linux, self.of.id);
        dir.remove()?;
        hooks::run_all(&self.of.hooks().poststop, &self.of.identity(), "stopped", 0);
        Ok(status)
    }

    /// What is the host's is found, and the rest is asked for.
    fn by_checkpointer(&self, namespaces: &[(String, OwnedFd)], events: &mut Events<'_>) -> Result<i32> {
        let linux = self.of.spec.linux();
        let record = &events.placement.record;
        let settings = self.options.settings.within(&record.path);
        let state = self.runtime.root.join(self.of.id.as_str());
        let host = restore_mounts::Host { root: &self.runtime.root, state: &state, rootfs: &self.of.rootfs, cgroup: &record.path };
        let wanted = host.wanted(&self.of.plan.steps)?;
        restore_mounts::make_points(&self.of.rootfs, &self.of.plan.steps)?;
        let standard: [BorrowedFd<'_>; 3] = [stdin(), stdout(), stderr()];
        // Other things come back by themselves, or not at all.
        let pipes = self.descriptors.iter().zip(standard).filter(|(name, _)| name.starts_with("pipe:"));
        let mut inherited: Vec<(String, BorrowedFd<'_>)> = pipes.map(|(name, fd)| (name.clone(), fd)).collect();
        inherited.extend(namespaces.iter().map(|(name, fd)| (name.clone(), fd.as_fd())));
        let joined = |kind: &&'static str| images::joined(&linux, kind).map(|path| (*kind, path.to_owned()));
        let joined: Vec<_> = JOINED.iter().filter_map(joined).collect();
        let config_file = images::config_file(self.of.spec)?;
        let root = state.join(restore_mounts::ROOT);
        let (images, work) = (self.options.image_path.as_path(), self.options.work_path.as_deref());
        // A mount point must be reached by a descriptor of the namespace it is in.
        let (surroundings, dirs) = Surroundings::make(&host, wanted, || Dirs::open(images, work, false))?;
        let request = RestoreRequest {
            dirs: dirs.for_request(),
            settings: &settings,
            root: &root,
            mounts: &surroundings.mounts,
            inherited: &inherited,
            joined: &joined,
            cgroup: (!record.path.is_empty()).then_some(record.path.as_str()),
            lsm_profile: self.options.lsm_profile.as_deref(),
            lsm_mount_context: self.options.lsm_mount_context.as_deref(),
            config_file: config_file.as_deref(),
            surroundings: &|| surroundings.enter(),
        };
        let done = self.runtime.checkpointer()?.restore(&request, events);
        Surroundings::clear(&state);
        let pid = done?;
        events.process.0 = Some(pid);
        Ok(pid)
    }
}

/// Files of namespaces that were not dumped, by their names in the images.
fn external_namespaces(linux: &Linux<'_>) -> Result<Vec<(String, OwnedFd)>> {
    let mut found = Vec::new();
    for (_, word, name) in NAMESPACES {
        if let Some(path) = images::joined(linux, word) {
            let fd = openat(rustix::fs::CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            found.push((name.to_owned(), fd.context(|| format!("open the {word} namespace `{path}`"))?));
        }
    }
    Ok(found)
}

/// The container's first process, this one's child. Dropping it kills and reaps it.
struct Process(Option<i32>);

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = sys::kill(pid, libc::SIGKILL);
            let _ = sys::wait4(pid, 0);
        }
    }
}

/// What the runtime does while the processes come back.
struct Events<'a> {
    restore: &'a Restore<'a>,
    dir: &'a ContainerDir,
    manager: &'a dyn CgroupManager,
    request: &'a CgroupRequest<'a>,
    placement: &'a Placement,
    supervisor: Option<&'a Supervisor>,
    terminal: Option<OwnedFd>,
    rdt: Option<rdt::Guard>,
    process: Process,
}

impl RestoreEvents for Events<'_> {
    /// Processes are made in their cgroup, which has its limits. But a manager that makes it of a process needs one that is there, and
    /// where cgroups are not managed the processes stay where their maker is.
    fn started(&mut self, pid: i32) -> Result<()> {
        if self.placement.moved_by_manager {
            self.manager.enter(self.request, self.placement, pid)?;
        } else if self.restore.options.settings.cgroups_mode == Some(CgroupsMode::Ignore) {
            let what = || "move CRIU to the container's cgroup";
            let opened = |dir| openat(dir, c"cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
            let unified = self.placement.into.as_ref().map(opened).transpose().context(what)?;
            for procs in self.placement.join.iter().chain(&unified) {
                rustix::io::write(procs, pid.to_string().as_bytes()).context(what)?;
            }
        }
        Ok(())
    }

    fn namespaces(&mut self, pid: i32) -> Result<()> {
        // Before there are others, which then are in the same group.
        self.rdt = self.restore.of.plan.by_parent.rdt.as_ref().map(|groups| rdt::place(groups, pid)).transpose()?;
        self.restore.of.early_hooks(pid)
    }

    fn terminal(&mut self, master: OwnedFd) -> Result<()> {
        if let Some(console) = &self.restore.console {
            return socket::send_fd(console.socket(), &master).context(|| "send the terminal to the console socket");
        }
        // It is to be as large as the user's own, if there is one.
        if let Ok(size) = tcgetwinsize(stdin()) {
            let _ = tcsetwinsize(&master, size);
        }
        self.terminal = Some(master);
        Ok(())
    }

    fn restored(&mut self, pid: i32) -> Result<()> {
        self.process.0 = Some(pid);
        self.restore.of.write_down(self.dir, pid, self.placement, self.restore.options.detach)?;
        self.supervisor.map_or(Ok(()), Supervisor::uninterrupted)
    }
}
