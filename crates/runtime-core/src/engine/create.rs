//! `create` and `run`: from a bundle to a container. Not here: the launch itself (`launch`), waiting (`supervise`).

use super::console::Destination;
use super::hooks;
use super::launch::{self, Launched, Parent, Setup};
use super::listener::{self, Pids};
use super::notify::{self, Proxy};
use super::slots::{self, Sources};
use super::supervise::{self, Supervisor};
use super::{CreateOptions, Runtime, attach, net_devices, socket};
use crate::api::{Cgroup, CgroupManager, CgroupRequest, Placement, SECCOMP_RECEIVER, SeccompFilter, SeccompListener, SeccompRequest};
use crate::bundle::Bundle;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::facts::{self, Facts};
use crate::id::ContainerId;
use crate::init::wire;
use crate::plan::hooks::Identity;
use crate::plan::{self, ContainerPlan, Place};
use crate::spec::{Hooks, Linux, Map, Resources, Spec, Str};
use crate::state::{ContainerDir, Gate, Record, Store, notify as notify_socket, start_time};
use crate::time::Timestamp;
use crate::validate;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

impl Runtime {
    /// Makes a container whose process waits for [`start`](Self::start).
    ///
    /// # Errors
    /// Anything on the way; nothing is left behind then.
    pub fn create(&self, id: &ContainerId, options: &CreateOptions) -> Result<()> {
        let proc = facts::open_proc()?;
        let bundle = Bundle::open(&proc, &options.bundle, options.config.as_deref())?;
        let spec = Spec::parse(&bundle.config).map_err(|e| e.context("load the configuration"))?;
        let console = self.console(&spec, options, "use --console-socket with create when a terminal is used")?;
        let container = Container::new(self, id, options, &proc, &bundle, &spec)?;
        container.launch(console.as_ref(), Mode::Created, |_, _, _| Ok(()))
    }

    /// Makes a container and starts it. Returns the exit status of its process, 128 + N when signal N ended it, or 0 at once when
    /// detached; with a service manager's socket, when the service is ready.
    ///
    /// # Errors
    /// Anything on the way; nothing is left behind then.
    pub fn run(&self, id: &ContainerId, options: &CreateOptions) -> Result<i32> {
        let proc = facts::open_proc()?;
        let bundle = Bundle::open(&proc, &options.bundle, options.config.as_deref())?;
        let spec = Spec::parse(&bundle.config).map_err(|e| e.context("load the configuration"))?;
        let console = if options.detach || options.console_socket.is_some() {
            self.console(&spec, options, "use --console-socket with --detach when a terminal is used")?
        } else {
            wants_terminal(&spec).then(Destination::foreground).transpose()?
        };
        let container = Container::new(self, id, options, &proc, &bundle, &spec)?;
        if options.detach {
            let mut status = 0;
            container.launch(console.as_ref(), Mode::Detached, |pid, proxy, _| {
                // As crun: one that ends before it is ready was all this call was for.
                if let Some(proxy) = proxy
                    && !proxy.until_ready(pid)?
                {
                    status = supervise::ended(pid)?;
                }
                Ok(())
            })?;
            return Ok(status);
        }
        let supervisor = Supervisor::prepare(container.plan.clone_flags & libc::CLONE_NEWPID as u64 == 0)?;
        let mut status = 0;
        container.launch(console.as_ref(), Mode::Foreground(&supervisor), |pid, proxy, teardown| {
            let terminal = console.as_ref().map_or(Ok(None), Destination::receive)?;
            status = Proxy::during(proxy, || supervisor.wait(pid, terminal))?;
            if options.keep { Ok(()) } else { teardown() }
        })?;
        Ok(status)
    }

    /// The engine's socket, where a terminal is asked for.
    fn console(&self, spec: &Spec<'_>, options: &CreateOptions, missing: &str) -> Result<Option<Destination>> {
        if !wants_terminal(spec) {
            return Ok(None);
        }
        options.console_socket.as_deref().map_or_else(|| Err(Error::invalid(missing)), Destination::engine).map(Some)
    }
}

fn wants_terminal(spec: &Spec<'_>) -> bool {
    spec.process.as_ref().is_some_and(|p| p.terminal)
}

/// Unix socket that gets a pidfd of the process, as `--pidfd-socket`.
const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";

/// What becomes of the process once it is ready.
#[derive(Clone, Copy)]
enum Mode<'a> {
    /// It waits for `start`.
    Created,
    /// It goes on, and nobody here waits for it.
    Detached,
    /// It goes on, and this process waits for it.
    Foreground(&'a Supervisor),
}

impl Mode<'_> {
    fn waits(self) -> bool {
        matches!(self, Self::Created)
    }
}

/// A container in the making.
struct Container<'a> {
    runtime: &'a Runtime,
    id: &'a ContainerId,
    options: &'a CreateOptions,
    proc: &'a OwnedFd,
    bundle: &'a Bundle,
    spec: &'a Spec<'a>,
    rootfs: std::path::PathBuf,
    facts: Facts,
    plan: ContainerPlan,
}

impl<'a> Container<'a> {
    /// Everything that can be known without touching the host.
    fn new(
        runtime: &'a Runtime,
        id: &'a ContainerId,
        options: &'a CreateOptions,
        proc: &'a OwnedFd,
        bundle: &'a Bundle,
        spec: &'a Spec<'a>,
    ) -> Result<Self> {
        validate::validate(spec)?;
        let facts = Facts::gather(proc, spec)?;
        let rootfs = bundle.rootfs(proc, spec)?;
        let directory = runtime.root.join(id.as_str()).join(notify_socket::NAME);
        let place = Place { id, bundle: &bundle.path, rootfs: &rootfs, notify: &directory };
        if let Some(target) = &options.notify_socket {
            notify::address(target)?;
        }
        let plan = plan::compile(spec, &facts, options, place)?;
        tracing::debug!("bundle `{}`: {} steps for the container's process", bundle.path.display(), plan.steps.len());
        Ok(Self { runtime, id, options, proc, bundle, spec, rootfs, facts, plan })
    }

    /// Makes the container; `then` runs while it lives, with its pid, what passes its notifications on, and what takes it down.
    fn launch(
        self,
        console: Option<&Destination>,
        mode: Mode<'_>,
        then: impl FnOnce(i32, Option<&Proxy>, &mut dyn FnMut() -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let manager = self.runtime.backends.cgroup_manager(&self.options.cgroup_manager)?;
        let dir = Store::new(&self.runtime.root).create(self.id)?;
        let linux = self.spec.linux();
        let seccomp = self.runtime.seccomp(&linux, &self.spec.annotations, self.options.seccomp_receiver.as_deref())?;
        let no_limits = Resources::default();
        let request = self.request(&linux, &no_limits);
        let placement = manager.place(&request)?;
        let mut cgroup = CgroupGuard { manager, placement: &placement, armed: true };
        let proxy = self.notifications(&dir, mode)?;
        let gate = mode.waits().then(|| Gate::make(&dir)).transpose()?;
        let sources = Sources {
            proc: self.proc,
            root: &self.runtime.root,
            cgroup: &placement.record.path,
            console: console.map(Destination::socket),
            init: 0,
        };
        let slots = slots::open(&self.plan.opens, &sources)?;
        let waits_for = gate.as_ref().map_or(wire::Gate::Parent, |gate| wire::Gate::Fifo(gate.reader().as_raw_fd()));
        let setup = Setup {
            proc: self.proc,
            placement: &placement,
            seccomp,
            gate: waits_for,
            slots,
            foreground: console.and_then(Destination::size),
        };
        let mut launched = launch::launch(&self.plan, setup)?;
        let mut parent = Attendant { container: &self, manager, request: &request, placement: &placement, cgroup: None };
        let done = launched.attend(&mut parent).and_then(|()| self.record(&dir, &placement, &mut launched, mode));
        done.map_err(|e| explain(e, parent.cgroup.as_deref(), request.resources))?;
        let pid = launched.keep();
        tracing::debug!("container `{}`: process {pid} in the cgroup `{}`", self.id, placement.record.path);
        cgroup.armed = false;
        let mut dir = Some(dir.keep());
        let mut teardown = || {
            manager.open(&placement.record)?.destroy()?;
            if let Some(dir) = dir.take() {
                dir.remove()?;
            }
            hooks::run_all(&self.hooks().poststop, &self.identity(), "stopped", 0);
            Ok(())
        };
        then(pid, proxy.as_ref(), &mut teardown)
    }

    /// The place of the container's notification socket, and the socket unless it is for `start` to read from.
    fn notifications(&self, dir: &ContainerDir, mode: Mode<'_>) -> Result<Option<Proxy>> {
        let Some(target) = &self.options.notify_socket else { return Ok(None) };
        if !self.spec.linux().namespaces.iter().any(|n| n.kind == "mount") {
            tracing::debug!("NOTIFY_SOCKET: a container without a mount namespace gets no socket");
            return Ok(None);
        }
        notify_socket::make_directory(dir, self.plan.id_maps.as_ref().and_then(plan::ids::IdMaps::root))?;
        if mode.waits() { Ok(None) } else { Proxy::listen(dir, target) }
    }

    fn request<'r>(&'r self, linux: &'r Linux<'r>, none: &'r Resources<'r>) -> CgroupRequest<'r> {
        let own_cgroup = linux.namespaces.iter().any(|n| n.kind == "cgroup");
        CgroupRequest {
            id: self.id,
            cgroups_path: linux.cgroups_path.as_deref(),
            resources: linux.resources.as_ref().unwrap_or(none),
            annotations: &self.spec.annotations,
            rootless: self.facts.rootless(),
            owner: self.plan.id_maps.as_ref().filter(|_| own_cgroup).and_then(plan::ids::IdMaps::root),
        }
    }

    fn identity(&self) -> Identity<'_> {
        Identity { id: self.id, bundle: &self.bundle.path, rootfs: &self.rootfs, annotations: &self.spec.annotations }
    }

    fn hooks(&self) -> std::borrow::Cow<'_, Hooks<'_>> {
        self.spec.hooks.as_ref().map_or_else(Default::default, std::borrow::Cow::Borrowed)
    }

    /// Writes everything down while the process prepares itself, then lets one that is not to wait for `start` execute its program: no
    /// program runs in a container that `state` does not know.
    fn record(&self, dir: &ContainerDir, placement: &Placement, launched: &mut Launched<'_>, mode: Mode<'_>) -> Result<()> {
        let pid = launched.pid();
        dir.write_config(&self.bundle.config)?;
        dir.write_status(&Record {
            pid,
            process_start_time: start_time(pid)?,
            cgroup: placement.record.clone(),
            rootfs: self.rootfs.display().to_string(),
            bundle: self.bundle.path.display().to_string(),
            created: Timestamp::now().to_string(),
            owner: Some(owner(self.facts.euid)),
            detached: !matches!(mode, Mode::Foreground(_)),
            external_descriptors: external_descriptors(self.proc),
        })?;
        if let Mode::Foreground(supervisor) = mode {
            supervisor.uninterrupted()?;
        }
        if !mode.waits() {
            launched.go()?;
        }
        launched.ready()?;
        if !mode.waits() {
            launched.executed()?;
            hooks::run(&self.hooks().poststart, &self.identity(), "running", pid)?;
        }
        let receiver = self.spec.annotations.get(PIDFD_RECEIVER).map(|path| Path::new(&**path));
        for path in self.options.pidfd_socket.as_deref().into_iter().chain(receiver) {
            socket::send_pidfd(path, pid)?;
        }
        self.options.pid_file.as_deref().map_or(Ok(()), |path| write_pid_file(path, pid))
    }
}

/// What the parent does while the child waits.
struct Attendant<'a, 'c> {
    container: &'a Container<'c>,
    manager: &'a dyn CgroupManager,
    request: &'a CgroupRequest<'a>,
    placement: &'a Placement,
    cgroup: Option<Box<dyn Cgroup>>,
}

impl Parent for Attendant<'_, '_> {
    fn attach(&mut self, pid: i32) -> Result<()> {
        let plan = &self.container.plan;
        if let Some(maps) = &plan.id_maps {
            attach::id_maps(self.container.proc, pid, maps)?;
        }
        attach::settings(self.container.proc, pid, &plan.by_parent)?;
        self.net_devices(pid, false)?;
        self.cgroup = Some(self.manager.enter(self.request, self.placement, pid)?);
        Ok(())
    }

    fn mounted(&mut self, pid: i32) -> Result<()> {
        self.net_devices(pid, true)?;
        let hooks = self.container.hooks();
        let who = self.container.identity();
        hooks::run(&hooks.prestart, &who, "created", pid)?;
        hooks::run(&hooks.create_runtime, &who, "created", pid)
    }

    fn listener(&mut self, listener: &SeccompListener, pid: i32, notify: OwnedFd) -> Result<()> {
        listener::send(listener, &notify, &self.container.identity(), "creating", &Pids { process: pid, init: pid })
    }
}

impl Attendant<'_, '_> {
    fn net_devices(&self, pid: i32, late: bool) -> Result<()> {
        let devices = self.container.plan.by_parent.net_devices.as_ref().filter(|devices| devices.late == late);
        devices.map_or(Ok(()), |devices| net_devices::give(self.container.proc, pid, devices))
    }
}

/// Removes the cgroup of a container that did not come to be.
struct CgroupGuard<'a> {
    manager: &'a dyn CgroupManager,
    placement: &'a Placement,
    armed: bool,
}

impl Drop for CgroupGuard<'_> {
    fn drop(&mut self) {
        if self.armed
            && let Err(e) = self.manager.open(&self.placement.record).and_then(|c| c.destroy())
        {
            tracing::warn!("{e}");
        }
    }
}

/// Below this a process cannot even be made, bytes.
const TINY: i64 = 1 << 20;

/// Says so when the kernel ended the process for want of memory, and what the limit is.
fn explain(e: Error, cgroup: Option<&dyn Cgroup>, resources: &Resources<'_>) -> Error {
    let limit = resources.memory.and_then(|m| m.limit).filter(|&l| l >= 0);
    let unified = || resources.unified.get("memory.max").map(|text| format!(": linux.resources.unified[memory.max] is {}", text.trim()));
    let told = limit.map(|l| format!(": linux.resources.memory.limit is {l} bytes")).or_else(unified).unwrap_or_default();
    match cgroup.and_then(|c| c.oom_kills().ok().flatten()) {
        Some(1..) => e.context(format!("OOM: the memory limit could be too low{told}")),
        // The kernel does not say, or the cgroup is gone already.
        _ if limit.is_some_and(|l| l < TINY) => e.context(format!("the memory limit could be too low{told}")),
        _ => e,
    }
}

impl Runtime {
    /// The compiled filter of a configuration, if it has a seccomp section.
    /// `receiver` is who gets the notify descriptor where the configuration does not say it.
    pub(crate) fn seccomp(
        &self,
        linux: &Linux<'_>,
        annotations: &Map<'_, Str<'_>>,
        receiver: Option<&str>,
    ) -> Result<Option<SeccompFilter>> {
        let Some(section) = linux.seccomp.map(serde_json::value::RawValue::get).filter(|s| *s != "null") else { return Ok(None) };
        let missing = || Error::new(ErrorKind::Unsupported, "linux.seccomp: this runtime was built without the feature `seccomp`");
        let compiler = self.backends.seccomp.as_ref().ok_or_else(missing)?;
        let cache = self.root.join(".cache/seccomp");
        let compile = |annotations| compiler.compile(&SeccompRequest { section, annotations, cache: Some(&cache) }).map(Some);
        match receiver.filter(|_| annotations.get(SECCOMP_RECEIVER).is_none()) {
            None => compile(annotations),
            Some(receiver) => {
                let mut entries = annotations.0.clone();
                entries.push((SECCOMP_RECEIVER.into(), receiver.to_owned().into()));
                compile(&Map(entries))
            }
        }
    }
}

/// Login name of the user, or its number.
fn owner(euid: u32) -> String {
    if euid == 0 { "root".to_owned() } else { facts::login_name(euid).unwrap_or_else(|| euid.to_string()) }
}

/// Where the standard descriptors lead, for a later restore (CRIU's `--external`).
fn external_descriptors(proc: &OwnedFd) -> Vec<String> {
    let link = |fd: i32| rustix::fs::readlinkat(proc, format!("self/fd/{fd}"), Vec::new());
    (0..3).map(|fd| link(fd).map_or_else(|_| "/dev/null".to_owned(), |l| l.to_string_lossy().into_owned())).collect()
}

/// The pid in decimal, without a line end: engines parse the whole content.
pub(crate) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    std::fs::write(path, pid.to_string()).context(|| format!("write the pid file `{}`", path.display()))
}
