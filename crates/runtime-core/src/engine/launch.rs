//! From a plan to a process that waits at the gate or executes its program. Not here: what the parent does for it meanwhile (`attach`,
//! `hooks`), state files.

use super::failure;
use super::handler;
use super::profile::Profile;
use super::slots::Slots;
use crate::api::{HandlerProcess, Placement, SeccompFilter, SeccompListener};
use crate::error::{Context, Error, Result};
use crate::init::{self, wire::Gate, wire::Kind, wire::Message, wire::Wire};
use crate::plan::ContainerPlan;
use crate::plan::ids::IdMaps;
use crate::plan::namespaces::Attach;
use crate::plan::step::Step;
use crate::sys::{self, Errno, Side, Together};
use rustix::fs::{Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Everything a launch uses beside the plan.
pub(crate) struct Setup<'a> {
    pub proc: &'a OwnedFd,
    pub placement: &'a Placement,
    /// What else is to be closed after the clone.
    pub spent: Vec<OwnedFd>,
    pub seccomp: Option<SeccompFilter>,
    /// What the process waits for before it executes its program.
    pub gate: Gate,
    pub slots: Slots,
    /// What runs the program in place of execve.
    pub handler: Option<&'a mut (dyn HandlerProcess + 'static)>,
    /// Size of the user's terminal when this process puts itself between that and the container's.
    pub foreground: Option<(u16, u16)>,
    pub profile: Option<&'a Profile>,
}

/// What the parent does at the moments the child waits for it, and after the first.
pub(crate) trait Parent {
    /// The child exists: id maps, limits, the manager's part.
    fn attach(&mut self, pid: i32) -> Result<()>;
    /// It goes on: what need not be done before, but before anything is executed in the container.
    fn attached(&mut self) -> Result<()> {
        Ok(())
    }
    /// The mounts are made: hooks.
    fn mounted(&mut self, pid: i32) -> Result<()>;
    /// The seccomp filter is installed: who answers its notifications gets this descriptor.
    fn listener(&mut self, listener: &SeccompListener, pid: i32, notify: OwnedFd) -> Result<()>;
}

/// A process that was launched. Dropping it kills and reaps the process, so that a failure anywhere leaves none behind.
pub(crate) struct Launched<'a> {
    plan: &'a ContainerPlan,
    pid: i32,
    socket: OwnedFd,
    tree: Option<Together>,
    await_parent: bool,
    listener: Option<SeccompListener>,
    /// The child said so already: after a fork its successor may speak before it does.
    ready: bool,
    /// It had ended when it was told to go on.
    unheard: bool,
    /// The step it failed at.
    failed: usize,
    kept: bool,
}

/// Clones the child.
///
/// # Errors
/// No process could be made.
pub(crate) fn launch<'a>(plan: &'a ContainerPlan, setup: Setup<'_>) -> Result<Launched<'a>> {
    // The lower number is the child's, so that it is closed here together with the slots.
    let (theirs, mine) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context(|| "socketpair")?;
    let listener = setup.seccomp.as_ref().and_then(|filter| filter.listener.clone());
    let at = |wanted: fn(&Step) -> bool| plan.steps.iter().position(wanted);
    if listener.is_some() && at(|s| matches!(s, Step::Seccomp)) > at(|s| matches!(s, Step::Gate { .. })) {
        return Err(Error::invalid("linux.seccomp: the listener is not named in plain words"));
    }
    let await_parent = plan.id_maps.is_some() || !plan.by_parent.is_empty() || setup.placement.moved_by_manager;
    let (keep, forget) = match &setup.handler {
        Some(process) => (handler::kept(&**process)?, handler::forgotten(setup.proc, &plan.steps)?),
        None => Default::default(),
    };
    // Closing it takes the kernel a moment, which is none where the process prepares itself meanwhile. But then nobody may see that process: a pid
    // namespace with others in it could have somebody with root's capabilities.
    let tree = sys::tree_at_entry().filter(|_| plan.clone_flags & libc::CLONE_NEWPID as u64 != 0);
    let mut wire = Wire {
        socket: theirs.as_raw_fd(),
        parents: mine.as_raw_fd(),
        tree: tree.as_ref().and_then(|tree| Some((tree.numbers().min()?, tree.numbers().max()?))),
        proc: setup.proc.as_raw_fd(),
        join: setup.placement.join.iter().map(AsRawFd::as_raw_fd).collect(),
        cgroup: CString::new(&*setup.placement.record.path).map_err(|_| Error::other("the cgroup's path contains a NUL byte"))?,
        await_parent,
        gate: setup.gate,
        seccomp: setup.seccomp.map(|f| (f.program, f.flags)),
        foreground: setup.foreground,
        late_texts: if matches!(setup.gate, Gate::Fifo(_)) { failure::late_texts(&plan.steps) } else { Vec::new() },
        forget,
        keep,
        times: setup.profile.map(|profile| profile.times(&plan.steps)).transpose()?,
        #[cfg(feature = "trap-alloc")]
        plant_allocation: std::env::var_os("PINNACE_TEST_PLANT_ALLOC").is_some(),
    };
    let mut slots = setup.slots;
    let mut procs = None;
    let pid = match clone(plan.clone_flags, setup.placement, &mut wire, &mut procs)? {
        Side::Child => init::run(&plan.steps, &wire, &mut slots.raw, setup.handler),
        Side::Parent(pid) => pid,
    };
    drop(slots.and(setup.spent.into_iter().chain([theirs])));
    Ok(Launched { plan, pid, socket: mine, tree, await_parent, listener, ready: false, unheard: false, failed: 0, kept: false })
}

/// clone3 into the cgroup; on kernels or filters without one or the other, the child joins by a write and the older call is used.
/// `procs` keeps the file that is written then, for the child as well, which returns from here, too.
fn clone(flags: u64, placement: &Placement, wire: &mut Wire, procs: &mut Option<OwnedFd>) -> Result<Side> {
    let mut into = placement.into.as_ref();
    loop {
        match sys::clone3(flags, libc::SIGCHLD, into.map(AsRawFd::as_raw_fd)) {
            // E2BIG: the kernel's clone_args has no cgroup yet (before 5.7). ENOSYS: before 5.3, or a filter. EBUSY, EOPNOTSUPP: a
            // cgroup that takes no process this way; the write says why.
            Err(Errno(libc::E2BIG | libc::ENOSYS | libc::EINVAL | libc::EBUSY | libc::EOPNOTSUPP)) if into.is_some() => {
                let file = into.map(|dir| openat(dir, c"cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()));
                *procs = file.transpose().context(|| "open `cgroup.procs`")?;
                wire.join.extend(procs.as_ref().map(AsRawFd::as_raw_fd));
                into = None;
            }
            Err(Errno(libc::ENOSYS)) => return sys::clone_legacy(flags, libc::SIGCHLD).context(|| "clone"),
            r => return r.context(|| "clone"),
        }
    }
}

impl Launched<'_> {
    /// The process's pid, as the runtime sees it.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Does what the child waits for, as long as it waits for anything but its gate.
    ///
    /// # Errors
    /// What the child reports, or what `parent` does. The process is gone then.
    pub(crate) fn attend(&mut self, parent: &mut dyn Parent) -> Result<()> {
        let has = |wanted: fn(&Step) -> bool| self.plan.steps.iter().any(wanted);
        let moment = Attach::of(&self.plan.steps);
        let mut unshares = moment == Attach::Unshared;
        let mut forks = has(|s| matches!(s, Step::Fork));
        let mut mounts = has(|s| matches!(s, Step::Mounted));
        let mut listens = self.listener.is_some() && has(|s| matches!(s, Step::Seccomp));
        if moment == Attach::Cloned {
            self.attach(parent)?;
        }
        // Before anything is executed in the container.
        self.tree = None;
        let mut early = None;
        while unshares || forks || mounts || listens {
            let m = match early.take_if(|_| !forks) {
                Some(m) => m,
                None => self.next()?,
            };
            match m.kind {
                // The second process, which now waits, was quicker than the first, which tells of it.
                Kind::Mounted | Kind::Listening if forks => early = Some(m),
                Kind::Unshared => {
                    self.attach(parent)?;
                    unshares = false;
                }
                Kind::Forked => {
                    self.forked(&m)?;
                    forks = false;
                    if moment == Attach::Forked {
                        self.attach(parent)?;
                    }
                }
                Kind::Mounted => {
                    parent.mounted(self.pid)?;
                    self.go()?;
                    mounts = false;
                }
                Kind::Listening => {
                    let notify = self.take_listener(m.value as RawFd)?;
                    if let Some(listener) = &self.listener {
                        parent.listener(listener, self.pid, notify)?;
                    }
                    self.go()?;
                    listens = false;
                }
                Kind::Failed => {
                    while let (true, Some(m)) = (forks, Message::recv(self.socket.as_raw_fd()).ok().flatten()) {
                        if let Kind::Forked = m.kind {
                            self.forked(&m)?;
                            forks = false;
                        }
                    }
                    return Err(self.failure(&m));
                }
                Kind::Ready => self.ready = true,
                Kind::Go => {}
            }
        }
        Ok(())
    }

    /// The first process has nothing left to do; its end leaves no zombie.
    fn forked(&mut self, m: &Message) -> Result<()> {
        sys::wait4(self.pid, 0).context(|| "waitpid")?;
        self.pid = m.value as i32;
        Ok(())
    }

    /// Takes the notify descriptor as soon as the child has it. Until it is told to go on the child makes no other.
    fn take_listener(&mut self, number: RawFd) -> Result<OwnedFd> {
        let what = || "take the seccomp notify descriptor (pidfd_getfd)";
        let pidfd = sys::pidfd(self.pid).context(what)?;
        loop {
            match sys::taken_from(&pidfd, number) {
                Err(Errno(libc::EBADF)) => {}
                r => return r.context(what),
            }
            if sys::poll_in(self.socket.as_raw_fd(), 1).context(what)? {
                let m = self.next()?;
                return Err(self.failure(&m));
            }
        }
    }

    /// Waits until the child is past everything but a fifo and the execution.
    ///
    /// # Errors
    /// What the child reports; the process is gone then.
    pub(crate) fn ready(&mut self) -> Result<()> {
        while !self.ready {
            let m = self.next()?;
            match m.kind {
                Kind::Ready => self.ready = true,
                Kind::Failed => return Err(self.failure(&m)),
                _ => {}
            }
        }
        Ok(())
    }

    fn attach(&mut self, parent: &mut dyn Parent) -> Result<()> {
        parent.attach(self.pid)?;
        if self.await_parent {
            self.go()?;
        }
        parent.attached()
    }

    /// Lets the child go on.
    ///
    /// # Errors
    /// The socket fails. That the child has ended is none; what it had to say comes later.
    pub(crate) fn go(&mut self) -> Result<()> {
        match Message::new(Kind::Go).send(self.socket.as_raw_fd()) {
            Ok(()) => Ok(()),
            // It died; what it had to say is in the socket.
            Err(Errno(libc::EPIPE)) => {
                self.unheard = true;
                Ok(())
            }
            Err(e) => Err(e).context(|| "send to the container's process"),
        }
    }

    fn next(&mut self) -> Result<Message> {
        match Message::recv(self.socket.as_raw_fd()).context(|| "receive from the container's process")? {
            Some(m) => Ok(m),
            None => Err(self.died()),
        }
    }

    fn died(&mut self) -> Error {
        self.kept = true;
        match sys::wait4(self.pid, 0) {
            Ok((_, status)) if libc::WIFSIGNALED(status) => {
                Error::other(format!("the container's process was killed by signal {} before it was ready", libc::WTERMSIG(status)))
            }
            Ok((_, status)) => Error::other(format!("the container's process ended with status {status:#x} before it was ready")),
            Err(_) => Error::other("the container's process ended before it was ready"),
        }
    }

    /// Waits until the program is executed, or learns why that failed. A process that has not taken the last [`go`](Self::go) died before.
    ///
    /// # Errors
    /// What the child reports; the process is gone then.
    pub(crate) fn executed(&mut self) -> Result<()> {
        match Message::recv_or_reset(self.socket.as_raw_fd()).context(|| "receive from the container's process")? {
            (Some(m), _) => Err(self.failure(&m)),
            (None, reset) if reset || self.unheard => Err(self.died()),
            (None, _) => Ok(()),
        }
    }

    fn failure(&mut self, m: &Message) -> Error {
        self.failed = usize::from(m.step);
        let root = self.plan.id_maps.as_ref().and_then(IdMaps::root);
        let user = root.map_or_else(|| rustix::process::geteuid().as_raw(), |(uid, _)| uid);
        failure::word(&self.plan.steps, m, user)
    }

    /// Index of the step that the child reported as failed; 0 before that.
    pub(crate) fn failed(&self) -> usize {
        self.failed
    }

    /// The process stays; its owner waits for it from now on.
    pub(crate) fn keep(&mut self) -> i32 {
        self.kept = true;
        self.pid
    }
}

impl Drop for Launched<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let _ = sys::kill(self.pid, libc::SIGKILL);
            let _ = sys::wait4(self.pid, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Pids that were told.
    #[derive(Default)]
    struct Told(Vec<i32>);

    impl Parent for Told {
        fn attach(&mut self, _: i32) -> Result<()> {
            Ok(())
        }
        fn mounted(&mut self, pid: i32) -> Result<()> {
            self.0.push(pid);
            Ok(())
        }
        fn listener(&mut self, _: &SeccompListener, _: i32, _: OwnedFd) -> Result<()> {
            Ok(())
        }
    }

    /// Attends two processes, of which the second says `second` before the first tells of it; the second's pid.
    fn overtaken(second: Kind, told: &mut Told) -> (i32, i32, Result<()>) {
        let plan = ContainerPlan {
            clone_flags: 0,
            steps: vec![Step::Fork, Step::Mounted],
            opens: Vec::new(),
            id_maps: None,
            by_parent: Default::default(),
        };
        let child = |program: &str| Command::new(program).arg("100").spawn().unwrap().id().cast_signed();
        let (one, two) = (child("true"), child("sleep"));
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        Message::new(second).send(theirs.as_raw_fd()).unwrap();
        let mut forked = Message::new(Kind::Forked);
        forked.value = two.into();
        forked.send(theirs.as_raw_fd()).unwrap();
        drop(theirs);
        let mut launched = Launched {
            plan: &plan,
            pid: one,
            socket,
            tree: None,
            await_parent: false,
            listener: None,
            ready: false,
            unheard: false,
            failed: 0,
            kept: false,
        };
        let done = launched.attend(told);
        (two, launched.pid(), done)
    }

    #[test]
    fn the_second_process_may_speak_before_the_first_tells_of_it() {
        let mut told = Told::default();
        let (two, pid, done) = overtaken(Kind::Mounted, &mut told);
        done.unwrap();
        assert_eq!((told.0, pid), (vec![two], two));
        // Nothing of a failed one is left, either.
        let (two, pid, done) = overtaken(Kind::Failed, &mut Told::default());
        done.unwrap_err();
        assert_eq!(pid, two);
        assert!(crate::state::state_of(two).unwrap().is_none());
    }
}
