//! `create` and `run`: from a bundle to a container. Not here: the launch itself (`launch`), waiting (`supervise`).

use super::console::Destination;
use super::hooks;
use super::launch::{self, Launched, Parent, Setup};
use super::listener::{self, Pids};
use super::notify::{self, Proxy};
use super::slots::{self, Sources};
use super::subject::Subject;
use super::supervise::{self, Supervisor};
use super::{CreateOptions, Runtime, attach, net_devices, rdt, socket};
use crate::api::annotations::{PIDFD_RECEIVER, SECCOMP_PLUGINS, SECCOMP_RECEIVER};
use crate::api::{
    Cgroup, CgroupManager, CgroupRequest, Handler, HandlerProcess, HandlerRequest, Placement, SeccompFilter, SeccompListener,
    SeccompPlugins, SeccompRequest,
};
use crate::bundle::Bundle;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::facts::{self, Facts};
use crate::id::ContainerId;
use crate::init::wire;
use crate::plan::{self, Handled, Place};
use crate::spec::{Linux, Map, Resources, Spec, Str};
use crate::state::{ContainerDir, Gate, Store, notify as notify_socket};
use crate::sys;
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
        let mut spec = Spec::parse(&bundle.config).map_err(|e| e.context("load the configuration"))?;
        self.mark("read the configuration");
        let handler = self.handler(options.handler.as_deref(), &mut spec)?;
        let console = self.console(&spec, options, "use --console-socket with create when a terminal is used")?;
        let container = Container::new(self, id, options, (&proc, &bundle, &spec), handler)?;
        container.launch(console.as_ref(), Mode::Created, |_, _, _| Ok(()))?;
        self.leave(spec);
        self.leave((bundle, proc));
        Ok(())
    }

    /// Makes a container and starts it. Returns the exit status of its process, 128 + N when signal N ended it, or 0 at once when
    /// detached; with a service manager's socket, when the service is ready.
    ///
    /// # Errors
    /// Anything on the way; nothing is left behind then.
    pub fn run(&self, id: &ContainerId, options: &CreateOptions) -> Result<i32> {
        let proc = facts::open_proc()?;
        let bundle = Bundle::open(&proc, &options.bundle, options.config.as_deref())?;
        let mut spec = Spec::parse(&bundle.config).map_err(|e| e.context("load the configuration"))?;
        self.mark("read the configuration");
        let handler = self.handler(options.handler.as_deref(), &mut spec)?;
        let console = if options.detach || options.console_socket.is_some() {
            self.console(&spec, options, "use --console-socket with --detach when a terminal is used")?
        } else {
            wants_terminal(&spec).then(Destination::foreground).transpose()?
        };
        let container = Container::new(self, id, options, (&proc, &bundle, &spec), handler)?;
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
            self.leave(spec);
            self.leave((bundle, proc));
            return Ok(status);
        }
        let supervisor = Supervisor::prepare(container.of.plan.clone_flags & libc::CLONE_NEWPID as u64 == 0)?;
        let mut status = 0;
        container.launch(console.as_ref(), Mode::Foreground(&supervisor), |pid, proxy, teardown| {
            let terminal = console.as_ref().map_or(Ok(None), Destination::receive)?;
            status = Proxy::during(proxy, || supervisor.wait(pid, terminal))?;
            self.mark("wait for its end");
            let done = if options.keep { Ok(()) } else { teardown() };
            self.mark("take everything down");
            done
        })?;
        self.leave(spec);
        self.leave((bundle, proc, supervisor));
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

pub(super) fn wants_terminal(spec: &Spec<'_>) -> bool {
    spec.process.as_ref().is_some_and(|p| p.terminal)
}

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
    options: &'a CreateOptions,
    of: Subject<'a>,
    handler: Option<Box<dyn HandlerProcess>>,
}

impl<'a> Container<'a> {
    /// Everything that can be known without touching the host.
    fn new(
        runtime: &'a Runtime,
        id: &'a ContainerId,
        options: &'a CreateOptions,
        (proc, bundle, spec): (&'a OwnedFd, &'a Bundle, &'a Spec<'a>),
        handler: Option<&dyn Handler>,
    ) -> Result<Self> {
        validate::validate(spec)?;
        let facts = Facts::gather(proc, spec, spec.process.as_ref())?;
        let in_tree = plan::may_live_in_tree(spec, &facts, options)? && sys::has_tree_namespaces();
        let facts = Facts { tree_namespaces: in_tree, ..facts };
        let rootfs = bundle.rootfs(proc, spec)?;
        let directory = runtime.root.join(id.as_str()).join(notify_socket::NAME);
        runtime.mark("look at the host");
        let place = Place { id, bundle: &bundle.path, rootfs: &rootfs, notify: &directory };
        if let Some(target) = &options.notify_socket {
            notify::address(target)?;
        }
        let cache = runtime.root.join(".cache");
        let request = HandlerRequest { spec, config: &bundle.config, rootfs: &rootfs, cache: &cache };
        let process = handler.map(|handler| handler.prepare(&request)).transpose()?;
        let handled =
            handler.zip(process.as_ref()).map(|(h, process)| Handled { name: h.name(), program: h.program(), files: process.files() });
        let plan = plan::compile(spec, &facts, options, place, handled.as_ref())?;
        runtime.mark("plan");
        tracing::debug!("bundle `{}`: {} steps for the container's process", bundle.path.display(), plan.steps.len());
        Ok(Self { runtime, options, of: Subject { id, proc, bundle, spec, rootfs, facts, plan }, handler: process })
    }

    /// Makes the container; `then` runs while it lives, with its pid, what passes its notifications on, and what takes it down.
    fn launch(
        mut self,
        console: Option<&Destination>,
        mode: Mode<'_>,
        then: impl FnOnce(i32, Option<&Proxy>, &mut dyn FnMut() -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let mut handler = self.handler.take();
        let manager = self.runtime.backends.cgroup_manager(&self.options.cgroup_manager)?;
        let dir = Store::new(&self.runtime.root).create(self.of.id)?;
        let linux = self.of.spec.linux();
        if linux.intel_rdt.is_some() {
            // By which the groups are found if this is interrupted.
            dir.write_config(&self.of.bundle.config)?;
        }
        self.runtime.mark("make the state directory");
        let seccomp = self.runtime.seccomp(&linux, &self.of.spec.annotations, self.options.seccomp_receiver.as_deref())?;
        self.runtime.mark("compile the seccomp section, or find it compiled");
        let no_limits = Resources::default();
        let request = self.of.request(&linux, &no_limits);
        let mut placement = manager.place(&request, &|record| dir.note(record))?;
        self.runtime.mark("make the cgroup");
        let spent = std::mem::take(&mut placement.spent);
        let mut cgroup = CgroupGuard { manager, placement: &placement, armed: true };
        let proxy = self.notifications(&dir, mode)?;
        let gate = mode.waits().then(|| Gate::make(&dir)).transpose()?;
        let sources = Sources {
            proc: self.of.proc,
            root: &self.runtime.root,
            cgroup: &placement.record.path,
            console: console.map(Destination::socket),
            init: 0,
        };
        let slots = slots::open(&self.of.plan.opens, &sources)?;
        self.runtime.mark("open what the process needs");
        let waits_for = gate.as_ref().map_or(wire::Gate::Parent, |gate| wire::Gate::Fifo(gate.reader().as_raw_fd()));
        let setup = Setup {
            proc: self.of.proc,
            placement: &placement,
            spent,
            seccomp,
            gate: waits_for,
            slots,
            handler: handler.as_deref_mut(),
            foreground: console.and_then(Destination::size),
            profile: self.runtime.profile.as_deref(),
        };
        let mut launched = launch::launch(&self.of.plan, setup)?;
        self.runtime.mark("make the process");
        let mut parent =
            Attendant { container: &self, manager, request: &request, placement: &placement, cgroup: None, rdt: None, spent: None };
        let done = launched.attend(&mut parent).and_then(|()| self.record(&dir, &placement, &mut launched, mode));
        done.map_err(|e| explain(e, parent.cgroup.as_deref(), request.resources))?;
        let pid = launched.keep();
        if let Some(Err(e)) = handler.map(|mut handler| handler.loaded()) {
            tracing::debug!("keep what the handler made: {e}");
        }
        if let Some(groups) = parent.rdt.take() {
            groups.keep();
        }
        let spent = parent.spent.take();
        tracing::debug!("container `{}`: process {pid} in the cgroup `{}`", self.of.id, placement.record.path);
        cgroup.armed = false;
        let mut dir = dir.keep();
        let mut teardown = || {
            manager.open(&placement.record)?.destroy()?;
            rdt::remove(&linux, self.of.id);
            dir.remove()?;
            hooks::run_all(&self.of.hooks().poststop, &self.of.identity(), "stopped", 0);
            Ok(())
        };
        then(pid, proxy.as_ref(), &mut teardown)?;
        self.runtime.leave((launched, spent));
        drop(cgroup);
        self.runtime.leave((dir, placement, gate, self.of.plan, self.of.facts));
        Ok(())
    }

    /// The place of the container's notification socket, and the socket unless it is for `start` to read from.
    fn notifications(&self, dir: &ContainerDir, mode: Mode<'_>) -> Result<Option<Proxy>> {
        let Some(target) = &self.options.notify_socket else { return Ok(None) };
        if !self.of.spec.linux().namespaces.iter().any(|n| n.kind == "mount") {
            tracing::debug!("NOTIFY_SOCKET: a container without a mount namespace gets no socket");
            return Ok(None);
        }
        notify_socket::make_directory(dir, self.of.plan.id_maps.as_ref().and_then(plan::ids::IdMaps::root))?;
        if mode.waits() { Ok(None) } else { Proxy::listen(dir, target) }
    }

    /// Writes everything down while the process prepares itself, then lets it go, to its program or to wait for `start`: no program runs in
    /// a container that `state` does not know, and none waits in one, which would be for ever if this process were killed.
    fn record(&self, dir: &ContainerDir, placement: &Placement, launched: &mut Launched<'_>, mode: Mode<'_>) -> Result<()> {
        let pid = launched.pid();
        self.runtime.mark("do what the process waits for");
        self.of.write_down(dir, pid, placement, !matches!(mode, Mode::Foreground(_)))?;
        self.runtime.mark("write the container down");
        if let Mode::Foreground(supervisor) = mode {
            supervisor.uninterrupted()?;
        }
        launched.go()?;
        if mode.waits() {
            launched.ready()?;
            self.runtime.mark("wait for the process to be ready");
        } else {
            launched.executed()?;
            self.runtime.mark("wait for the program to be executed");
            hooks::run(&self.of.hooks().poststart, &self.of.identity(), "running", pid)?;
        }
        let receiver = self.of.spec.annotations.get(PIDFD_RECEIVER).map(|path| Path::new(&**path));
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
    rdt: Option<rdt::Guard>,
    spent: Option<OwnedFd>,
}

impl Parent for Attendant<'_, '_> {
    fn attach(&mut self, pid: i32) -> Result<()> {
        let plan = &self.container.of.plan;
        if let Some(maps) = &plan.id_maps {
            attach::id_maps(self.container.of.proc, pid, maps)?;
        }
        attach::settings(self.container.of.proc, pid, &plan.by_parent)?;
        self.net_devices(pid, false)?;
        self.cgroup = Some(self.manager.enter(self.request, self.placement, pid)?);
        self.rdt = plan.by_parent.rdt.as_ref().map(|groups| rdt::place(groups, pid)).transpose()?;
        Ok(())
    }

    fn attached(&mut self) -> Result<()> {
        self.spent = self.manager.confine(self.request, self.placement)?;
        Ok(())
    }

    fn mounted(&mut self, pid: i32) -> Result<()> {
        self.net_devices(pid, true)?;
        self.container.of.early_hooks(pid)
    }

    fn listener(&mut self, listener: &SeccompListener, pid: i32, notify: OwnedFd) -> Result<()> {
        let of = &self.container.of;
        if listener.is_plugins() {
            let config = of.bundle.config_path(self.container.options.config.as_deref());
            return listener::serve(self.container.runtime, of.id, &config, &of.identity(), notify);
        }
        listener::send(listener, &notify, &of.identity(), "creating", &Pids { process: pid, init: pid })
    }
}

impl Attendant<'_, '_> {
    fn net_devices(&self, pid: i32, late: bool) -> Result<()> {
        let devices = self.container.of.plan.by_parent.net_devices.as_ref().filter(|devices| devices.late == late);
        devices.map_or(Ok(()), |devices| net_devices::give(self.container.of.proc, pid, devices))
    }
}

/// Removes the cgroup of a container that did not come to be.
pub(super) struct CgroupGuard<'a> {
    pub manager: &'a dyn CgroupManager,
    pub placement: &'a Placement,
    pub armed: bool,
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
pub(super) fn explain(e: Error, cgroup: Option<&dyn Cgroup>, resources: &Resources<'_>) -> Error {
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
    /// What loads seccomp notify plugins.
    ///
    /// # Errors
    /// [`ErrorKind::NoHandler`] when it was not compiled in.
    pub(crate) fn plugins(&self) -> Result<&dyn SeccompPlugins> {
        let missing = || format!("annotation `{SECCOMP_PLUGINS}`: this build cannot load seccomp notify plugins");
        self.backends.seccomp_plugins.as_deref().ok_or_else(|| Error::new(ErrorKind::NoHandler, missing()))
    }

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
        if let Some(list) = annotations.get(SECCOMP_PLUGINS) {
            self.plugins()?.check(list).map_err(|e| e.context(format!("annotation `{SECCOMP_PLUGINS}`")))?;
        }
        let cache = self.root.join(".cache/seccomp");
        let compile = |annotations| compiler.compile(&SeccompRequest { section, annotations, cache: Some(&cache) }).map(Some);
        match receiver.filter(|_| annotations.get(SECCOMP_RECEIVER).is_none() && annotations.get(SECCOMP_PLUGINS).is_none()) {
            None => compile(annotations),
            Some(receiver) => {
                let mut entries = annotations.0.clone();
                entries.push((SECCOMP_RECEIVER.into(), receiver.to_owned().into()));
                compile(&Map(entries))
            }
        }
    }
}

/// The pid in decimal, without a line end: engines parse the whole content.
pub(crate) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    std::fs::write(path, pid.to_string()).context(|| format!("write the pid file `{}`", path.display()))
}
