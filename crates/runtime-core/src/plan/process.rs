//! The process: the one tail of steps that `run`, `create` and `exec` share. Not here: the container around it.

use super::Handled;
use super::lsm::{self, Label};
use super::mounts::c_string;
use super::net_devices::NetDevices;
use super::opens::{Open, Opens};
use super::rdt::Rdt;
use super::schedule;
use super::step::{Caps, Credentials, HookStep, Lookup, Slot, Step};
use super::words::{RLIMITS, capability_set};
use crate::api::handler::Program;
use crate::error::{Error, Result};
use crate::facts::Lsm;
use crate::spec::{Capabilities, Personality, Process, Rlimit};
use crate::sys::{Argv, SchedAttr};
use std::ffi::CString;

/// Used where the environment has no PATH, and for the same reason given to hooks' helpers: CRI-O starts a runtime without one.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Room for the steps of a process that has a bit of everything.
const USUAL: usize = 24;

/// What the process section alone does not say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings<'a> {
    /// Descriptors from 3 on that stay open.
    pub preserve_fds: u32,
    /// setgroups(2) is denied in the user namespace.
    pub setgroups_denied: bool,
    /// The security modules in force.
    pub lsm: Lsm,
    /// The supplementary groups stay as they are.
    pub keep_groups: bool,
    /// Descriptors from 3 on that a service manager passed, the first of those that stay open (sd_listen_fds(3)).
    pub listen_fds: u32,
    /// Path of the container's notification socket.
    pub notify_socket: Option<String>,
    /// The process lives in a user namespace: what that gives no right to, the parent sets.
    pub user_namespace: bool,
    /// The uid and gid that the process begins with and keeps, all kinds of them.
    pub ids: Option<(u32, u32)>,
    /// `linux.personality`.
    pub personality: Option<&'a Personality<'a>>,
    /// Where the terminal goes.
    pub console: Option<Slot>,
    /// Bind the terminal over /dev/console.
    pub bind_console: bool,
    /// A seccomp program will be there.
    pub seccomp: bool,
    /// It may have a listener, to which the parent sends its descriptor before anyone is told that the process is ready.
    pub listener: bool,
    /// The parent has no rights over the process but those of its user.
    pub unprivileged_parent: bool,
    /// What runs the program in place of execve.
    pub handler: Option<&'a Handled>,
}

/// The steps from a changed root to execve. `start_hooks` run in the container after the gate.
///
/// The order is a matter of security: descriptors and labels before ids, the seccomp program before the capabilities are dropped unless
/// no_new_privs is set, in which case it needs none and comes last, or with a listener last before the gate; the executable is looked up with the final ids.
/// A handler takes the place of execve and so does what that would do: the capabilities are those execve would leave, the labels are set at the
/// end for the process itself, and nothing of the runtime stays to be seen.
pub(crate) fn compile(p: &Process<'_>, s: &Surroundings<'_>, start_hooks: Vec<HookStep>, opens: &mut Opens) -> Result<Vec<Step>> {
    let argv = strings(&p.args, "process.args")?;
    let Some(name) = argv.first().cloned() else {
        return Err(Error::invalid("process.args: must not be empty"));
    };
    let envp = environment(p, s)?;
    let path = || c_string(&p.cwd, || "process.cwd".into());
    let first = s.preserve_fds.saturating_add(s.listen_fds).saturating_add(3);
    let mut steps = Vec::with_capacity(USUAL);
    steps.extend([Step::CloseOnExec { first }, Step::Setsid]);
    if s.handler.is_some() {
        // Without execve the memory is the runtime's: other processes of the container's user must not read it, nor change what is loaded.
        steps.extend([Step::Forget, Step::Undumpable]);
    }
    if let Some(p) = s.personality {
        steps.push(Step::Personality(schedule::personality(p)?));
    }
    match s.console {
        Some(console) => steps.push(terminal(p, console, s.bind_console)),
        None => steps.push(Step::Stdio { uid: p.user.uid, gid: p.user.gid }),
    }
    if !s.user_namespace {
        for (resource, soft, hard, name) in limits(&p.rlimits)? {
            steps.push(Step::Rlimit { resource, soft, hard, name });
        }
        if let Some(score) = p.oom_score_adj {
            steps.push(Step::OomScoreAdj(c_string(&score.to_string(), || "process.oomScoreAdj".into())?));
        }
    }
    let mut keep: Vec<Slot> = start_hooks.first().map_or_else(Vec::new, |hook| hook.output.slots().collect());
    let (mut before, mut end) = (Vec::new(), Vec::new());
    for Label { file, label } in lsm::labels(p, s.lsm, s.handler.is_some())? {
        if s.handler.is_none() {
            steps.push(Step::Label { file, label });
            continue;
        }
        // Behind the gate there is no procfs any more, and with the label, which may deny anything, the process may not get past the gate.
        let slot = opens.add(Open::Late);
        before.push(Step::LabelFile { file, slot });
        end.push(Step::LateLabel { slot, label });
        keep.push(slot);
    }
    // The change of the root left the process there.
    let elsewhere = p.cwd != "/";
    if elsewhere {
        steps.push(Step::Cwd { path: path()?, last: false });
    }
    steps.push(Step::Umask(p.user.umask.unwrap_or(0o022)));
    let seccomp = |wanted: bool| if wanted { seccomp(s) } else { Vec::new() };
    steps.extend(seccomp(!p.no_new_privileges));
    steps.push(Step::Credentials(Box::new(credentials(p, s)?)));
    if elsewhere {
        steps.push(Step::Cwd { path: path()?, last: true });
    }
    if p.no_new_privileges {
        steps.push(Step::NoNewPrivs);
    }
    let what = s.handler.map_or(Program::Executable, |handler| handler.program);
    steps.push(Step::Lookup(Box::new(lookup(p, name, what)?)));
    let home = envp.reserved().is_some().then_some(Step::Home { uid: p.user.uid });
    let (argv, envp) = (Box::new(Argv::new(argv)), Box::new(envp));
    match s.handler.map(|handler| handler.name) {
        // What it loads is no program to wait for: a bad one is told before the container is there.
        Some(handler) => {
            steps.extend(home);
            steps.push(Step::Load { handler, argv, envp });
            end.push(Step::Handle { handler, first });
        }
        None => {
            end.extend(home);
            end.push(Step::Exec { argv, envp });
        }
    }
    steps.extend(before);
    steps.extend(seccomp(p.no_new_privileges && s.listener));
    steps.push(Step::Gate { first, keep });
    steps.extend(seccomp(p.no_new_privileges && !s.listener));
    steps.extend(start_hooks.into_iter().map(|hook| Step::Hook(Box::new(hook))));
    steps.extend(end);
    Ok(steps)
}

fn seccomp(s: &Surroundings<'_>) -> Vec<Step> {
    let dumpable = (s.listener && s.unprivileged_parent).then_some(Step::Dumpable);
    if s.seccomp { dumpable.into_iter().chain([Step::Seccomp]).collect() } else { Vec::new() }
}

fn strings(list: &[crate::spec::Str<'_>], field: &str) -> Result<Vec<CString>> {
    list.iter().enumerate().map(|(i, s)| c_string(s, || format!("{field}[{i}]"))).collect()
}

/// The environment: the configured one, then what the service manager's descriptors and socket ask for, then a place for HOME.
fn environment(p: &Process<'_>, s: &Surroundings<'_>) -> Result<Argv> {
    let mut env = strings(&p.env, "process.env")?;
    if let Some(path) = &s.notify_socket {
        // Whatever the configuration names is no socket that leads out of the container.
        env.retain(|e| !e.as_bytes().starts_with(b"NOTIFY_SOCKET="));
        env.push(c_string(&format!("NOTIFY_SOCKET={path}"), || "NOTIFY_SOCKET".into())?);
    }
    let has = |name: &str| p.env.iter().any(|e| e.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')));
    let mut add = |name: &str, value: String| -> Result<()> {
        if !has(name) {
            env.push(c_string(&format!("{name}={value}"), || name.to_owned())?);
        }
        Ok(())
    };
    if s.listen_fds > 0 {
        add("LISTEN_FDS", s.listen_fds.to_string())?;
        add("LISTEN_PID", "1".to_owned())?;
    }
    // As crun: `/` where the container's passwd file does not know the user.
    Ok(if has("HOME") { Argv::new(env) } else { Argv::with_reserved(env, c"HOME=/".into()) })
}

fn terminal(p: &Process<'_>, console: Slot, bind_console: bool) -> Step {
    let size = p.console_size.unwrap_or_default();
    let short = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    Step::Terminal { console, rows: short(size.height), columns: short(size.width), uid: p.user.uid, bind_console }
}

/// The limits as setrlimit(2) takes them.
///
/// # Errors
/// An unknown name, a duplicate, or a soft limit above the hard one, with the field's path.
pub(crate) fn limits(list: &[Rlimit<'_>]) -> Result<Vec<(u32, u64, u64, &'static str)>> {
    let mut out: Vec<(u32, u64, u64, &'static str)> = Vec::with_capacity(list.len());
    for (i, l) in list.iter().enumerate() {
        let known = RLIMITS.iter().find(|(name, _)| *name == &*l.kind);
        let (name, number) = known.ok_or_else(|| Error::invalid(format!("process.rlimits[{i}].type: invalid rlimit `{}`", l.kind)))?;
        if out.iter().any(|(n, ..)| n == number) {
            return Err(Error::invalid(format!("process.rlimits[{i}].type: duplicate rlimit `{name}`")));
        }
        if l.soft > l.hard {
            return Err(Error::invalid(format!("process.rlimits[{i}]: the soft limit {} exceeds the hard limit {}", l.soft, l.hard)));
        }
        out.push((*number, l.soft, l.hard, name));
    }
    Ok(out)
}

/// What the parent sets on its child while that waits.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ByParent {
    pub limits: Vec<(u32, u64, u64, &'static str)>,
    pub oom_score_adj: Option<i64>,
    pub scheduler: Option<SchedAttr>,
    pub io_priority: Option<u32>,
    pub net_devices: Option<NetDevices>,
    pub rdt: Option<Rdt>,
}

impl ByParent {
    /// A user namespace gives no right to raise limits and scores; priorities are never the container's to choose.
    pub(crate) fn compile(p: &Process<'_>, user_namespace: bool) -> Result<Self> {
        Ok(Self {
            limits: if user_namespace { limits(&p.rlimits)? } else { Vec::new() },
            oom_score_adj: p.oom_score_adj.filter(|_| user_namespace),
            scheduler: p.scheduler.as_ref().map(schedule::scheduler).transpose()?,
            io_priority: p.io_priority.as_ref().map(schedule::io_priority).transpose()?,
            net_devices: None,
            rdt: None,
        })
    }

    /// Nothing to do, so nothing to wait for.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn credentials(p: &Process<'_>, s: &Surroundings<'_>) -> Result<Credentials> {
    // As crun: whoever keeps the old ones gets no new ones.
    let groups = (!s.keep_groups).then(|| p.user.additional_gids.clone());
    if s.setgroups_denied && groups.as_ref().is_some_and(|list| !list.is_empty()) {
        return Err(Error::invalid("process.user.additionalGids: setgroups is denied in this user namespace"));
    }
    for (id, field) in [(p.user.uid, "uid"), (p.user.gid, "gid")] {
        if id == u32::MAX {
            return Err(Error::invalid(format!("process.user.{field}: {id} is no valid id")));
        }
    }
    Ok(Credentials {
        uid: p.user.uid,
        gid: p.user.gid,
        ids_are_set: s.ids == Some((p.user.uid, p.user.gid)),
        groups: groups.filter(|_| !s.setgroups_denied),
        caps: caps(p.capabilities.as_ref()).map(|caps| if s.handler.is_some() { after_execve(caps, p.user.uid) } else { caps })?,
    })
}

/// What execve(2) of a file without capabilities of its own would leave of the sets (capabilities(7), "Transformation of capabilities during
/// execve"), as far as a process can have it without one: root's sets don't grow.
fn after_execve(caps: Caps, uid: u32) -> Caps {
    let left = if uid == 0 { caps.permitted & (caps.inheritable | caps.bounding) } else { caps.ambient };
    Caps { permitted: left, effective: left, ..caps }
}

/// The five sets; without the section all are empty, as in crun.
fn caps(c: Option<&Capabilities<'_>>) -> Result<Caps> {
    let Some(c) = c else { return Ok(Caps::default()) };
    let set = |list, name: &str| capability_set(list, &format!("process.capabilities.{name}"));
    let (permitted, inheritable) = (set(&c.permitted, "permitted")?, set(&c.inheritable, "inheritable")?);
    Ok(Caps {
        bounding: set(&c.bounding, "bounding")?,
        effective: set(&c.effective, "effective")?,
        permitted,
        inheritable,
        // The kernel raises only what is permitted and inheritable (capabilities(7)); crun too leaves the rest out.
        ambient: set(&c.ambient, "ambient")? & permitted & inheritable,
    })
}

fn lookup(p: &Process<'_>, name: CString, what: Program) -> Result<Lookup> {
    let path = p.env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let dirs = if name.to_bytes().contains(&b'/') {
        Vec::new()
    } else {
        // An empty entry is the current directory (execvp(3)).
        let dir = |d: &str| if d.is_empty() { "./".to_owned() } else { format!("{d}/") };
        path.split(':').map(|d| c_string(&dir(d), || "process.env".into())).collect::<Result<_>>()?
    };
    Ok(Lookup { name, dirs, what })
}
