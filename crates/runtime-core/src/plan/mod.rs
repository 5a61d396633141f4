//! Specification + facts + options → an immutable plan. Everything here is pure: no system call, no clock, no environment. Not here:
//! doing any of it.

pub(crate) mod devices;
pub(crate) mod external;
pub(crate) mod hooks;
pub(crate) mod idmap;
pub(crate) mod ids;
pub(crate) mod live;
mod lsm;
pub(crate) mod mount_flags;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod net_devices;
pub(crate) mod opens;
pub(crate) mod process;
pub(crate) mod rdt;
pub(crate) mod schedule;
pub(crate) mod step;
pub(crate) mod words;

#[cfg(any(test, fuzzing))]
pub(crate) mod proptests;

use crate::api::annotations::{KEEP_ORIGINAL_GROUPS, SECCOMP_PLUGINS, SECCOMP_RECEIVER, is_on};
use crate::api::handler::{Program, RootFile};
use crate::engine::{CreateOptions, ExecOptions};
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::spec::{Hooks, Linux, Map, Process, Spec, Str};
use hooks::Identity;
use ids::IdMaps;
use namespaces::Namespaces;
use net_devices::NetDevices;
use opens::{Open, Opens};
use process::{ByParent, Surroundings};
use rdt::Rdt;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use step::{FileStep, HookOutput, Masks, Pivot, Step};

/// Everything a launch needs; nothing changes it.
#[derive(Debug)]
pub(crate) struct ContainerPlan {
    /// Flags of the clone.
    pub clone_flags: u64,
    /// What the child does, in order.
    pub steps: Vec<Step>,
    /// Descriptors the parent opens before the clone; a step's slot is an index into them.
    pub opens: Vec<Open>,
    /// Maps of a new user namespace.
    pub id_maps: Option<IdMaps>,
    /// What the parent sets on the child.
    pub by_parent: ByParent,
}

/// What runs the program in place of execve, and what that asks for.
#[derive(Debug, Clone)]
pub(crate) struct Handled {
    pub name: &'static str,
    pub program: Program,
    /// Made when all mounts are.
    pub files: Vec<RootFile>,
}

/// Where the container's files are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub id: &'a str,
    /// Absolute.
    pub bundle: &'a Path,
    /// Absolute.
    pub rootfs: &'a Path,
    /// Directory of the notification socket, which exists where one is asked for.
    pub notify: &'a Path,
}

/// What the files of this module know.
pub(crate) struct Context<'a> {
    pub spec: &'a Spec<'a>,
    pub facts: &'a Facts,
    pub place: Place<'a>,
    /// The process lives in another user namespace than the runtime.
    pub user_namespace: bool,
    pub cgroup_namespace: bool,
    /// Maps of a new user namespace.
    pub id_maps: Option<&'a IdMaps>,
    /// The `disabled` manager: there is no directory to bind.
    pub no_cgroup: bool,
    /// The cgroup is made when there is a process for it: there is no directory yet that the parent could open.
    pub late_cgroup: bool,
    /// Sources of bind mounts are opened by the privileged parent.
    pub parent_opens_sources: bool,
    /// The child's mount namespace is made of the rootfs alone.
    pub in_tree: bool,
}

impl Context<'_> {
    /// In any user namespace but the first nobody can make device nodes; the host's are bound instead. An engine without privileges starts
    /// its runtime as root of a namespace of its own.
    pub(crate) fn binds_devices(&self) -> bool {
        self.user_namespace || !self.facts.initial_userns
    }
}

const MOUNT: u64 = libc::CLONE_NEWNS as u64;

/// The plan of a new container. `spec` has passed `validate`.
///
/// # Errors
/// Contradictions between the configuration and this host, with the field's path.
pub(crate) fn compile(
    spec: &Spec<'_>,
    facts: &Facts,
    options: &CreateOptions,
    place: Place<'_>,
    handler: Option<&Handled>,
) -> Result<ContainerPlan> {
    let linux = spec.linux();
    let process = spec.process.as_ref().ok_or_else(|| Error::invalid("block `process` not found"))?;
    let id_maps = new_id_maps(&linux, facts)?;
    let setgroups_denied = facts.setgroups_denied || id_maps.as_ref().is_some_and(|m| m.deny_setgroups);
    let mut opens = Opens::default();
    let keep_groups = keeps_groups(&spec.annotations);
    let ns = namespaces::compile(&linux, id_maps.is_some(), !setgroups_denied && !keep_groups, &mut opens);
    let user_namespace = ns.has(libc::CLONE_NEWUSER as u64);
    let in_tree = facts.tree_namespaces && ns.clone_flags & MOUNT != 0 && may_live_in_tree(spec, facts, options)?;
    let cx = Context {
        spec,
        facts,
        place,
        user_namespace,
        cgroup_namespace: ns.has(libc::CLONE_NEWCGROUP as u64),
        id_maps: id_maps.as_ref(),
        no_cgroup: options.cgroup_manager == "disabled",
        late_cgroup: makes_cgroups_late(options),
        parent_opens_sources: user_namespace && (!facts.rootless() || facts.copies_trees) || in_tree,
        in_tree,
    };
    let mut steps = Vec::with_capacity(expected_steps(spec));
    steps.push(Step::JoinCgroups);
    let own_mounts = ns.has(libc::CLONE_NEWNS as u64);
    let new_network = ns.new & libc::CLONE_NEWNET as u64 != 0;
    let clone_flags = if in_tree { ns.clone_flags & !MOUNT } else { ns.clone_flags };
    let net_devices = NetDevices::compile(&linux, &ns);
    surroundings(&mut steps, &cx, ns, options, new_network)?;
    root_file_system(&mut steps, &cx, own_mounts, options, &mut opens)?;
    steps.extend(files(handler)?);
    let who = Identity { id: place.id, bundle: place.bundle, rootfs: place.rootfs, annotations: &spec.annotations };
    let none = Hooks::default();
    let hooks = spec.hooks.as_ref().unwrap_or(&none);
    let any = !(hooks.create_container.is_empty() && hooks.start_container.is_empty());
    let output = if any { hooks::output(&spec.annotations, &mut opens) } else { HookOutput::default() };
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() || net_devices.as_ref().is_some_and(|d| d.late) {
        steps.push(Step::Mounted);
    }
    change_root(&mut steps, &cx, own_mounts, options, hooks, &who, output)?;
    let start = hooks::compile(&hooks.start_container, "startContainer", &hooks::state(&who, "starting", 0), output)?;
    let around = Surroundings {
        preserve_fds: options.preserve_fds,
        listen_fds: options.listen_fds,
        notify_socket: options.notify_socket.as_deref().filter(|_| own_mounts).map(|name| format!("{}/notify", mounts::notify_place(name))),
        setgroups_denied,
        lsm: facts.lsm,
        keep_groups,
        user_namespace,
        ids: facts.ids_to_keep(user_namespace),
        personality: linux.personality.as_ref(),
        console: process.terminal.then(|| opens.add(Open::Console)),
        bind_console: own_mounts,
        seccomp: linux.seccomp.is_some_and(|s| s.get() != "null"),
        listener: may_listen(&linux, &spec.annotations, options.seccomp_receiver.as_deref()),
        // In new namespaces nobody else could make use of it.
        unprivileged_parent: facts.rootless() && id_maps.is_some() && clone_flags & libc::CLONE_NEWPID as u64 != 0,
        handler,
    };
    steps.extend(process::compile(process, &around, start, &mut opens)?);
    let rdt = Rdt::compile(&linux, place.id);
    let by_parent = ByParent { net_devices, rdt, ..ByParent::compile(process, user_namespace)? };
    Ok(ContainerPlan { clone_flags, steps, opens: opens.0, id_maps, by_parent })
}

/// About how many steps a container takes: a list that grows is copied, and leaves memory behind that the container's process has, too.
fn expected_steps(spec: &Spec<'_>) -> usize {
    const OF_EACH: usize = 60;
    let linux = spec.linux();
    OF_EACH + spec.mounts.len() + linux.devices.len() + linux.masked_paths.len() + linux.readonly_paths.len() + linux.sysctl.0.len()
}

/// The files of a handler.
fn files(handler: Option<&Handled>) -> Result<Vec<Step>> {
    let file = |f: &RootFile| {
        let dest = mounts::inside(&f.path, || format!("the handler's file `{}`", f.path))?;
        Ok(Step::File(Box::new(FileStep { dest, mode: f.mode, content: f.content.clone() })))
    };
    handler.map_or(&[][..], |h| &h.files).iter().map(file).collect()
}

/// An unprivileged user without a user namespace in the configuration gets one all the same.
fn automatic_user_namespace(linux: &Linux<'_>, facts: &Facts) -> bool {
    facts.euid != 0 && !linux.namespaces.iter().any(|n| n.kind == "user")
}

/// The maps of a user namespace that is made for the container; `None` where it joins one or has none.
///
/// # Errors
/// The configuration's maps are not acceptable, with the field's path.
pub(crate) fn new_id_maps(linux: &Linux<'_>, facts: &Facts) -> Result<Option<IdMaps>> {
    let new = |n: &crate::spec::Namespace<'_>| n.kind == "user" && n.path.as_deref().unwrap_or("").is_empty();
    let wanted = automatic_user_namespace(linux, facts) || linux.namespaces.iter().any(new);
    wanted.then(|| IdMaps::compile(linux, facts)).transpose()
}

/// Namespaces and what is set in them before any mount.
fn surroundings(steps: &mut Vec<Step>, cx: &Context<'_>, ns: Namespaces, options: &CreateOptions, new_network: bool) -> Result<()> {
    steps.extend(ns.steps);
    // The runtime may have been started on some CPUs only; which of them are the container's is for its cgroup to say.
    steps.push(Step::Affinity { cpus: schedule::all_cpus(), field: None });
    steps.extend(memory_policy(&cx.spec.linux())?);
    steps.push(Step::Umask(0));
    if !options.no_new_keyring {
        let label = cx.spec.process.as_ref().map(|p| lsm::selinux(p, cx.facts.lsm)).transpose()?.flatten();
        steps.push(Step::JoinKeyring { name: mounts::c_string(cx.place.id, || "id".into())?, label });
    }
    if new_network {
        steps.push(Step::Loopback);
    }
    if let Some(name) = &cx.spec.hostname {
        steps.push(Step::Hostname(mounts::c_string(name, || "hostname".into())?));
    }
    if let Some(name) = &cx.spec.domainname {
        steps.push(Step::Domainname(mounts::c_string(name, || "domainname".into())?));
    }
    for (key, value) in cx.spec.linux().sysctl.iter() {
        let field = || format!("linux.sysctl.{key}");
        let path = mounts::c_string(&key.replace('.', "/"), field)?;
        steps.push(Step::Sysctl { path, value: mounts::c_string(value, field)? });
    }
    Ok(())
}

fn root_file_system(steps: &mut Vec<Step>, cx: &Context<'_>, own_mounts: bool, options: &CreateOptions, opens: &mut Opens) -> Result<()> {
    let rootfs = CString::new(cx.place.rootfs.as_os_str().as_bytes()).map_err(|_| Error::invalid("root.path: contains a NUL byte"))?;
    if !own_mounts {
        if !cx.spec.mounts.is_empty() {
            return Err(Error::invalid("mounts: need a mount namespace"));
        }
        steps.push(Step::RootDirectory { path: rootfs });
        return Ok(());
    }
    let linux = cx.spec.linux();
    let flags = propagation(&linux)?;
    if cx.in_tree {
        let slot = opens.add(Open::RootNamespace { path: rootfs.clone() });
        steps.push(Step::RootNamespace { path: rootfs, slot });
    } else {
        root_of_its_own(steps, rootfs, flags);
    }
    let (mounts, late) = mounts::compile(cx, opens)?;
    steps.extend(mounts);
    if let Some(name) = &options.notify_socket {
        steps.push(mounts::notify(cx, name, opens)?);
    }
    steps.extend(devices::compile(cx)?);
    for (i, path) in linux.readonly_paths.iter().enumerate() {
        steps.push(Step::ReadonlyPath { dest: mounts::inside(path, || format!("linux.readonlyPaths[{i}]"))? });
    }
    let masked = linux.masked_paths.iter().enumerate();
    let masked = masked.map(|(i, path)| mounts::inside(path, || format!("linux.maskedPaths[{i}]")));
    let mut masked = masked.collect::<Result<Vec<_>>>()?;
    // Those in /proc together: the child reads that directory once, as long as nothing else is mounted.
    masked.sort_by_key(|dest| !dest.as_bytes().starts_with(b"proc/"));
    for dest in masked {
        let by = (!cx.facts.rootless()).then(|| Masks { null: opens.once(Open::Null), empty: opens.once(Open::EmptyDirectory) });
        steps.push(Step::Mask { dest, by });
    }
    steps.extend(late);
    Ok(())
}

/// Whether the container could live in a mount namespace that is made of its rootfs alone, where the kernel has such ones. It spares copying all
/// of the host's mounts and leaving them again. What looks at the process before its root has changed needs the other way: hooks that run
/// by then, whose root is the host's; and so does what wants something else than a private root, or a mount of a cgroup that the parent cannot
/// open yet.
///
/// # Errors
/// An invalid propagation.
pub(crate) fn may_live_in_tree(spec: &Spec<'_>, facts: &Facts, options: &CreateOptions) -> Result<bool> {
    let linux = spec.linux();
    let early = |h: &Hooks<'_>| !(h.prestart.is_empty() && h.create_runtime.is_empty() && h.create_container.is_empty());
    let kinds = |kind: &str| linux.namespaces.iter().any(|n| n.kind == kind);
    let hooks = spec.hooks.as_ref().is_some_and(early);
    let privately = propagation(&linux)? == libc::MS_PRIVATE;
    // Layouts are known where the container mounts cgroups.
    let late = makes_cgroups_late(options) && !kinds("cgroup") && facts.cgroups.is_some();
    Ok(kinds("mount") && !kinds("user") && !facts.rootless() && !hooks && privately && !options.no_pivot && !late)
}

/// Whether the manager makes a cgroup for a process that is there: systemd's scopes are made of processes.
fn makes_cgroups_late(options: &CreateOptions) -> bool {
    options.cgroup_manager == "systemd"
}

/// A root that is attached in a copy of the host's mounts.
fn root_of_its_own(steps: &mut Vec<Step>, rootfs: CString, flags: u64) {
    // Of an unbindable tree no root could be made; the root becomes unbindable when it is in place.
    let before = if flags == libc::MS_UNBINDABLE { libc::MS_PRIVATE } else { flags };
    steps.push(Step::Propagation { flags: before | libc::MS_REC });
    steps.push(Step::Root { path: rootfs, private_parents: flags == libc::MS_SHARED });
}

/// `linux.rootfsPropagation` as a mount flag; private when absent.
fn propagation(linux: &Linux<'_>) -> Result<u64> {
    let word = linux.rootfs_propagation.as_deref().unwrap_or("");
    match word {
        "" | "private" | "rprivate" => Ok(libc::MS_PRIVATE),
        "slave" | "rslave" => Ok(libc::MS_SLAVE),
        "shared" | "rshared" => Ok(libc::MS_SHARED),
        "unbindable" | "runbindable" => Ok(libc::MS_UNBINDABLE),
        _ => Err(Error::invalid(format!("linux.rootfsPropagation: invalid value `{word}`"))),
    }
}

/// The hooks that see the mounts in place, then the change of the root.
fn change_root(
    steps: &mut Vec<Step>,
    cx: &Context<'_>,
    own_mounts: bool,
    options: &CreateOptions,
    hooks: &Hooks<'_>,
    who: &Identity<'_>,
    output: HookOutput,
) -> Result<()> {
    let create = hooks::compile(&hooks.create_container, "createContainer", &hooks::state(who, "created", 0), output)?;
    steps.extend(create.into_iter().map(|hook| Step::Hook(Box::new(hook))));
    let cwd = cx.spec.process.as_ref().map_or("", |p| &p.cwd);
    let cwd = mounts::inside(cwd, || "process.cwd".into())?;
    if !cwd.is_empty() {
        steps.push(Step::Directory { path: cwd });
    }
    if own_mounts && cx.spec.root.as_ref().is_some_and(|r| r.readonly) {
        steps.push(Step::RootReadonly);
    }
    if cx.in_tree {
        steps.push(Step::GoToRoot);
        return Ok(());
    }
    let how = match (own_mounts, options.no_pivot) {
        (false, _) => Pivot::Chroot,
        (true, true) => Pivot::Move,
        (true, false) => Pivot::Root,
    };
    let flags = if own_mounts { propagation(&cx.spec.linux())? } else { libc::MS_PRIVATE };
    steps.push(Step::Pivot { how, propagation: flags });
    Ok(())
}

/// What `exec` joins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub id: &'a str,
    pub linux: &'a Linux<'a>,
    pub facts: &'a Facts,
    /// Root of a container without a mount namespace.
    pub rootfs: &'a Path,
    pub annotations: &'a Map<'a, Str<'a>>,
}

/// The plan of an additional process in a container.
///
/// # Errors
/// A process description that is not acceptable, with the field's path.
pub(crate) fn compile_join(target: &Target<'_>, process: &Process<'_>, options: &ExecOptions) -> Result<ContainerPlan> {
    let mut opens = Opens::default();
    let user = automatic_user_namespace(target.linux, target.facts) || target.linux.namespaces.iter().any(|n| n.kind == "user");
    let flags = namespaces::flags(target.linux, user);
    let by_parent = ByParent { rdt: Rdt::compile(target.linux, target.id), ..ByParent::compile(process, user)? };
    let (before, after) = affinity(process)?;
    let mut steps = Vec::from_iter(before);
    // What the parent sets on this process is inherited by the one it forks, but for a scheduling policy that ends with a fork.
    let late = by_parent.scheduler.is_some();
    steps.extend((!late).then_some(Step::AwaitParent));
    steps.extend([Step::Undumpable, Step::JoinCgroups]);
    steps.extend(after);
    steps.extend(join_steps(flags, &mut opens));
    if flags & libc::CLONE_NEWPID as u64 != 0 {
        steps.push(Step::Fork);
    }
    steps.extend(late.then_some(Step::AwaitParent));
    // Which of the container's maps deny setgroups shows only inside; the child then skips an empty list by itself.
    let setgroups_denied = target.facts.setgroups_denied;
    if user {
        steps.push(Step::BecomeRoot { clear_groups: false });
    }
    steps.extend(memory_policy(target.linux)?);
    steps.push(Step::Umask(0));
    if flags & libc::CLONE_NEWNS as u64 == 0 {
        let path = CString::new(target.rootfs.as_os_str().as_bytes()).map_err(|_| Error::invalid("rootfs: contains a NUL byte"))?;
        steps.extend([Step::RootDirectory { path }, Step::Pivot { how: Pivot::Chroot, propagation: libc::MS_PRIVATE }]);
    }
    let around = Surroundings {
        preserve_fds: options.preserve_fds,
        listen_fds: options.listen_fds,
        notify_socket: None,
        setgroups_denied,
        lsm: target.facts.lsm,
        keep_groups: keeps_groups(target.annotations),
        user_namespace: user,
        ids: target.facts.ids_to_keep(user),
        personality: target.linux.personality.as_ref(),
        console: process.terminal.then(|| opens.add(Open::Console)),
        bind_console: false,
        seccomp: target.linux.seccomp.is_some_and(|s| s.get() != "null"),
        listener: may_listen(target.linux, target.annotations, options.seccomp_receiver.as_deref()),
        unprivileged_parent: false,
        handler: None,
    };
    steps.extend(process::compile(process, &around, Vec::new(), &mut opens)?);
    Ok(ContainerPlan { clone_flags: 0, steps, opens: opens.0, id_maps: None, by_parent })
}

/// `process.execCPUAffinity`: what is set before the process joins the container's cgroup and what after it. A process for which neither
/// is asked gets all CPUs of the cgroup, as the container's own did.
fn affinity(process: &Process<'_>) -> Result<(Option<Step>, Option<Step>)> {
    let wanted = process.exec_cpu_affinity.as_ref();
    let step = |list: Option<&Str<'_>>, field| {
        let cpus = list.map(|text| schedule::cpu_list(text, field)).transpose();
        cpus.map(|cpus| cpus.flatten().map(|cpus| Step::Affinity { cpus, field: Some(field) }))
    };
    let before = step(wanted.and_then(|w| w.initial.as_ref()), "process.execCPUAffinity.initial")?;
    let after = step(wanted.and_then(|w| w.last.as_ref()), "process.execCPUAffinity.final")?;
    let all = (before.is_none() && after.is_none()).then(|| Step::Affinity { cpus: schedule::all_cpus(), field: None });
    Ok((before, after.or(all)))
}

/// Whether the seccomp section, which is not parsed here, could have a listener. `launch` holds a filter that has one to it.
fn may_listen(linux: &Linux<'_>, annotations: &Map<'_, Str<'_>>, receiver: Option<&str>) -> bool {
    let named = linux.seccomp.is_some_and(|s| s.get().contains("listenerPath") || s.get().contains("\\u"));
    named || receiver.is_some() || [SECCOMP_RECEIVER, SECCOMP_PLUGINS].iter().any(|name| annotations.get(name).is_some())
}

/// Whether the caller's supplementary groups stay.
fn keeps_groups(annotations: &Map<'_, Str<'_>>) -> bool {
    annotations.get(KEEP_ORIGINAL_GROUPS).is_some_and(|value| is_on(value))
}

/// `linux.memoryPolicy`, which concerns all processes of the container.
fn memory_policy(linux: &Linux<'_>) -> Result<Option<Step>> {
    let policy = linux.memory_policy.as_ref().map(schedule::memory_policy).transpose()?;
    Ok(policy.map(|(mode, nodes)| Step::MemoryPolicy { mode, nodes }))
}

/// One call by pidfd (kernel 5.8).
fn join_steps(flags: u64, opens: &mut Opens) -> Vec<Step> {
    if flags == 0 {
        return Vec::new();
    }
    vec![Step::SetNsOf { pidfd: opens.add(Open::InitPidfd), flags }]
}
