//! `exec`: an additional process in a container. Not here: its steps (`plan::compile_join`), which end like those of `run`.

use super::console::Destination;
use super::create::write_pid_file;
use super::launch::{self, Parent, Setup};
use super::listener::{self, Pids};
use super::slots::{self, Sources};
use super::supervise::Supervisor;
use super::{ExecOptions, Runtime, attach, rdt, socket};
use crate::api::{SeccompListener, handler};
use crate::error::{Context, Error, Result};
use crate::facts::{self, Facts};
use crate::id::ContainerId;
use crate::init::wire::Gate;
use crate::plan::hooks::Identity;
use crate::plan::{self, ContainerPlan, Target};
use crate::spec::{Process, Spec, Str};
use crate::state::{ContainerDir, Status, Store};
use crate::validate;
use std::os::fd::OwnedFd;
use std::path::Path;

impl Runtime {
    /// Runs a process in a container. Returns its exit status, 128 + N when signal N ended it, or 0 at once when detached.
    ///
    /// # Errors
    /// Anything on the way; no process is left behind then.
    pub fn exec(&self, id: &ContainerId, options: &ExecOptions) -> Result<i32> {
        let dir = Store::new(&self.root).open(id)?;
        let record = dir.read_status()?;
        match self.status_of(&dir, &record)? {
            Status::Paused if !options.ignore_paused => return Err(Error::other(format!("the container `{id}` is paused"))),
            Status::Stopped => return Err(Error::other(format!("the container `{id}` is not running"))),
            _ => {}
        }
        let config = dir.read_config()?;
        let spec = Spec::parse(&config).map_err(|e| e.context("load the configuration"))?;
        if handler::wanted(options.handler.as_deref(), &spec)?.is_some() {
            return Err(Error::other("the handler does not support exec"));
        }
        let file = options.process_file.as_deref().map(read_process).transpose()?;
        let process = match &file {
            Some(raw) => from_file(raw, spec.process.as_ref(), options)?,
            None => from_options(spec.process.as_ref(), options)?,
        };
        validate::process(&process)?;
        self.mark("read the status and the configuration");
        let proc = facts::open_proc()?;
        let facts = Facts::gather(&proc, &spec, Some(&process))?;
        let linux = spec.linux();
        let target = Target { id, linux: &linux, facts: &facts, rootfs: Path::new(&record.rootfs), annotations: &spec.annotations };
        let plan = plan::compile_join(&target, &process, options)?;
        self.mark("plan");
        let seccomp = self.seccomp(&linux, &spec.annotations, options.seccomp_receiver.as_deref())?;
        let cgroup = self.backends.cgroup_manager(&record.cgroup.manager)?.open(&record.cgroup)?;
        let placement = cgroup.join(options.cgroup.as_deref(), record.pid)?;
        let console = console(&process, options)?;
        let supervisor = if options.detach { None } else { Some(Supervisor::prepare(true)?) };
        let sources = Sources {
            proc: &proc,
            root: &self.root,
            cgroup: &record.cgroup.path,
            console: console.as_ref().map(Destination::socket),
            init: record.pid,
        };
        let slots = slots::open(&plan.opens, &sources)?;
        self.mark("open what the process needs");
        let setup = Setup {
            proc: &proc,
            placement: &placement,
            spent: Vec::new(),
            seccomp,
            gate: Gate::Open,
            slots,
            handler: None,
            foreground: console.as_ref().and_then(Destination::size),
            profile: self.profile.as_deref(),
        };
        let mut launched = launch::launch(&plan, setup)?;
        self.mark("make the process");
        let bundle = Path::new(&record.bundle);
        let who = Identity { id, bundle, rootfs: Path::new(&record.rootfs), annotations: &spec.annotations };
        launched.attend(&mut Attendant { runtime: self, dir: &dir, plan: &plan, proc: &proc, who, init: record.pid })?;
        launched.ready()?;
        launched.executed()?;
        self.mark("wait for the program to be executed");
        let pid = launched.pid();
        tracing::debug!("container `{id}`: additional process {pid}");
        if let Some(path) = &options.pidfd_socket {
            socket::send_pidfd(path, pid)?;
        }
        if let Some(path) = &options.pid_file {
            write_pid_file(path, pid)?;
        }
        launched.keep();
        let mut status = 0;
        if let Some(supervisor) = &supervisor {
            let terminal = console.as_ref().map_or(Ok(None), Destination::receive)?;
            status = supervisor.wait(pid, terminal)?;
        }
        self.mark("wait for its end");
        self.leave(launched);
        self.leave((supervisor, proc, dir, placement, plan));
        Ok(status)
    }
}

struct Attendant<'a> {
    runtime: &'a Runtime,
    dir: &'a ContainerDir,
    plan: &'a ContainerPlan,
    proc: &'a OwnedFd,
    who: Identity<'a>,
    /// First process of the container.
    init: i32,
}

impl Parent for Attendant<'_> {
    fn attach(&mut self, pid: i32) -> Result<()> {
        attach::settings(self.proc, pid, &self.plan.by_parent)?;
        self.plan.by_parent.rdt.as_ref().map_or(Ok(()), |rdt| rdt::join(rdt, pid))
    }
    fn mounted(&mut self, _: i32) -> Result<()> {
        Ok(())
    }
    fn listener(&mut self, listener: &SeccompListener, pid: i32, notify: OwnedFd) -> Result<()> {
        if listener.is_plugins() {
            return listener::serve(self.runtime, self.dir.id(), &self.dir.config_path(), &self.who, notify);
        }
        listener::send(listener, &notify, &self.who, "running", &Pids { process: pid, init: self.init })
    }
}

fn console(process: &Process<'_>, options: &ExecOptions) -> Result<Option<Destination>> {
    match (&options.console_socket, process.terminal) {
        (_, false) => Ok(None),
        (Some(path), true) => Destination::engine(path).map(Some),
        (None, true) if options.detach => Err(Error::invalid("use --console-socket with --detach when a terminal is used")),
        (None, true) => Destination::foreground().map(Some),
    }
}

fn read_process(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).context(|| format!("open `{}`", path.display()))
}

/// The description of a file is complete but for the terminal, which can be added to it, and the priorities, which are the container's
/// where the file says nothing.
fn from_file<'a>(raw: &'a [u8], base: Option<&Process<'a>>, options: &ExecOptions) -> Result<Process<'a>> {
    let mut process: Process<'a> = crate::spec::parse(raw).map_err(|e| e.context("load the process file"))?;
    process.terminal |= options.tty;
    if let Some(base) = base {
        process.scheduler = process.scheduler.or_else(|| base.scheduler.clone());
        process.io_priority = process.io_priority.or_else(|| base.io_priority.clone());
    }
    Ok(process)
}

/// The container's own process, changed by the options.
fn from_options<'a>(base: Option<&Process<'a>>, options: &ExecOptions) -> Result<Process<'a>> {
    let mut p = base.cloned().ok_or_else(|| Error::invalid("block `process` not found"))?;
    let strings = |list: &[String]| list.iter().map(|s| Str::from(s.clone())).collect::<Vec<_>>();
    p.args = strings(&options.args);
    p.terminal = options.tty;
    p.console_size = None;
    for entry in strings(&options.env) {
        let name = entry.split_once('=').map(|(name, _)| format!("{name}="));
        if let Some(name) = name {
            p.env.retain(|old| !old.starts_with(&name));
        }
        p.env.push(entry);
    }
    if let Some(cwd) = &options.cwd {
        p.cwd = cwd.clone().into();
    }
    if let Some((uid, gid)) = options.user {
        (p.user.uid, p.user.gid) = (uid, gid);
        p.user.additional_gids.clear();
    }
    p.user.additional_gids.extend(&options.additional_gids);
    p.no_new_privileges |= options.no_new_privs;
    if let Some(label) = &options.process_label {
        p.selinux_label = Some(label.clone().into());
    }
    if let Some(profile) = &options.apparmor {
        p.apparmor_profile = Some(profile.clone().into());
    }
    if !options.caps.is_empty() {
        // As crun: inheritable stays empty (CVE-2022-29162), so the process's children gain nothing.
        let caps = p.capabilities.get_or_insert_default();
        for set in [&mut caps.bounding, &mut caps.effective, &mut caps.permitted, &mut caps.ambient] {
            *set = strings(&options.caps);
        }
        caps.inheritable.clear();
    }
    Ok(p)
}
