//! Properties of whole plans: configurations of arbitrary parts, accepted ones compiled. Not here: what a single field becomes, which the
//! tests beside each part say.

use super::opens::Open;
use super::step::{KEPT_SLOTS, MountKind, Step};
use super::{ContainerPlan, Handled, Place, Target, compile, compile_join};
use crate::api::handler::{Program, RootFile};
use crate::engine::{CreateOptions, ExecOptions};
use crate::facts::{AppArmor, CgroupLayout, Facts, Hierarchy, Lsm, Subordinate};
use crate::spec::Spec;
use crate::validate::validate;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use std::path::Path;

/// One of the words, seldom something else.
fn word(words: &'static [&'static str]) -> BoxedStrategy<Value> {
    prop_oneof![60 => select(words).prop_map(Value::from), 1 => "[a-zA-Z_/.\u{0}]{0,8}".prop_map(Value::from)].boxed()
}

/// A list of such words.
fn words(list: &'static [&'static str], most: usize) -> BoxedStrategy<Value> {
    prop::collection::vec(word(list), 0..=most).prop_map(Value::from).boxed()
}

/// The fields that are chosen to be there.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields.into_iter().map(|(name, value)| prop::option::of(value).prop_map(move |v| (name, v))).collect();
    fields.prop_map(|list| list.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?))).collect::<serde_json::Map<_, _>>().into()).boxed()
}

/// Two objects in one; the fields of the second one count.
fn merged(a: BoxedStrategy<Value>, b: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    (a, b)
        .prop_map(|(mut a, b)| {
            if let (Value::Object(a), Value::Object(b)) = (&mut a, b) {
                a.extend(b);
            }
            a
        })
        .boxed()
}

const PATHS: &[&str] =
    &["/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/null", "/sys/fs/cgroup", "/a/b", "a", "/../x", "/a/../../b", "/./a//c/"];

fn path() -> BoxedStrategy<Value> {
    prop_oneof![6 => word(PATHS), 1 => "(/(\\.\\.|[a-z.]{0,3})){1,4}".prop_map(Value::from)].boxed()
}

fn number(most: i64) -> BoxedStrategy<Value> {
    (0..=most).prop_map(Value::from).boxed()
}

fn mount() -> BoxedStrategy<Value> {
    let options = words(
        &[
            "ro",
            "rw",
            "rro",
            "nosuid",
            "bind",
            "rbind",
            "rprivate",
            "shared",
            "remount",
            "tmpcopyup",
            "size=1k",
            "noatime",
            "idmap",
            "sync",
        ],
        4,
    );
    let fields = object(vec![
        ("type", word(&["proc", "sysfs", "tmpfs", "bind", "mqueue", "devpts", "cgroup", "cgroup2", "none"])),
        ("source", path()),
        ("options", options),
    ]);
    merged(fields, path().prop_map(|p| json!({ "destination": p })).boxed())
}

fn process() -> BoxedStrategy<Value> {
    let names = &["CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN"];
    let sets = ["bounding", "effective", "inheritable", "permitted", "ambient"].map(|set| (set, words(names, 3)));
    let limit = (select(vec!["RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_AS"]), 0u64..9, 8u64..99);
    let limits = prop::collection::vec(limit, 0..2)
        .prop_map(|l| l.into_iter().map(|(kind, soft, hard)| json!({ "type": kind, "soft": soft, "hard": hard })).collect());
    let user = object(vec![("uid", number(9)), ("gid", number(9)), ("umask", number(0o777)), ("additionalGids", Just(json!([7])).boxed())]);
    let fields = object(vec![
        ("terminal", any::<bool>().prop_map(Value::from).boxed()),
        ("user", user),
        ("env", words(&["A=b", "HOME=/", "PATH=/a::b", "PATH="], 3)),
        ("capabilities", object(sets.into())),
        ("rlimits", limits.boxed()),
        ("noNewPrivileges", any::<bool>().prop_map(Value::from).boxed()),
        ("apparmorProfile", word(&["p", ""])),
        ("oomScoreAdj", (-1000i64..1000).prop_map(Value::from).boxed()),
        ("scheduler", Just(json!({ "policy": "SCHED_BATCH", "nice": 3 })).boxed()),
        ("ioPriority", Just(json!({ "class": "IOPRIO_CLASS_BE", "priority": 4 })).boxed()),
        ("execCPUAffinity", Just(json!({ "initial": "0-1", "final": "1" })).boxed()),
    ]);
    let rest = (words(&["sh", "/bin/x", "-c"], 2), word(&["/", "/a", "/a/../b"]));
    merged(
        fields,
        rest.prop_map(|(mut args, cwd)| {
            args.as_array_mut().unwrap().insert(0, json!("sh"));
            json!({ "args": args, "cwd": cwd })
        })
        .boxed(),
    )
}

fn linux() -> BoxedStrategy<Value> {
    let kinds = ["user", "cgroup", "ipc", "uts", "network", "pid", "time", "mount"];
    let namespace = |kind: &'static str| {
        let path = prop_oneof![6 => Just(Value::Null), 1 => Just(json!("/proc/1/ns/x")), 1 => Just(json!(""))];
        let chosen = prop::option::weighted(if kind == "mount" { 0.9 } else { 0.6 }, path);
        chosen.prop_map(move |path| path.map(|path| json!({ "type": kind, "path": path })))
    };
    let namespaces = kinds.map(namespace).prop_map(|list| Value::from(list.into_iter().flatten().collect::<Vec<_>>())).boxed();
    let device = (word(&["c", "b", "p", "u"]), path(), number(9), number(9))
        .prop_map(|(kind, path, major, minor)| json!({ "type": kind, "path": path, "major": major, "minor": minor }));
    let maps = prop::collection::vec((0u32..3, 0u32..9, 1u32..9), 1..3).prop_map(|l| {
        l.into_iter().map(|(c, h, size)| json!({ "containerID": c * 10, "hostID": h * 100, "size": size })).collect::<Vec<_>>().into()
    });
    let fields = object(vec![
        ("uidMappings", maps.clone().boxed()),
        ("gidMappings", maps.boxed()),
        ("devices", prop::collection::vec(device, 0..2).prop_map(Value::from).boxed()),
        ("rootfsPropagation", word(&["private", "rprivate", "shared", "slave", "unbindable", ""])),
        ("maskedPaths", prop::collection::vec(path(), 0..3).prop_map(Value::from).boxed()),
        ("readonlyPaths", prop::collection::vec(path(), 0..3).prop_map(Value::from).boxed()),
        ("sysctl", select(vec![json!({ "net.ipv4.ip_forward": "1" }), json!({ "kernel.msgmax": "9" }), json!({})]).boxed()),
        ("seccomp", select(vec![json!({ "defaultAction": "SCMP_ACT_ALLOW" }), Value::Null]).boxed()),
        ("personality", Just(json!({ "domain": "LINUX32" })).boxed()),
        ("memoryPolicy", Just(json!({ "mode": "MPOL_BIND", "nodes": "0" })).boxed()),
    ]);
    merged(fields, namespaces.prop_map(|n| json!({ "namespaces": n })).boxed())
}

fn config() -> BoxedStrategy<Value> {
    let hook = prop::collection::vec(Just(json!({ "path": "/h", "timeout": 3 })), 0..2).prop_map(Value::from);
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let fields = object(vec![
        ("hooks", object(kinds.map(|kind| (kind, hook.clone().boxed())).into())),
        ("mounts", prop::collection::vec(mount(), 0..5).prop_map(Value::from).boxed()),
        ("annotations", select(vec![json!({ "k": "v" }), json!({ "run.oci.hooks.stderr": "/e", "run.oci.hooks.stdout": "/o" })]).boxed()),
    ]);
    let rest = (process(), linux(), any::<bool>(), any::<bool>()).prop_map(|(process, linux, readonly, name)| {
        let uts = linux["namespaces"].as_array().is_some_and(|l| l.iter().any(|n| n["type"] == "uts"));
        let mut config =
            json!({ "ociVersion": "1.0.0", "root": { "path": "r", "readonly": readonly }, "process": process, "linux": linux });
        if uts && name {
            config["hostname"] = json!("h");
        }
        config
    });
    merged(fields, rest.boxed())
}

fn facts() -> impl Strategy<Value = Facts> {
    let hierarchy = |name: &str, fstype: &str, options: &[&str]| Hierarchy {
        name: name.into(),
        fstype: fstype.into(),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
    };
    let legacy = CgroupLayout::Legacy(vec![hierarchy("cpu", "cgroup", &["cpu", "cpuacct"]), hierarchy("unified", "cgroup2", &[])]);
    (select(vec![0u32, 1000]), any::<[bool; 5]>(), select(vec![CgroupLayout::Unified, legacy])).prop_map(
        |(id, [denied, initial, tree, copies, settled], cgroups)| Facts {
            euid: id,
            egid: id,
            settled,
            initial_userns: initial,
            setgroups_denied: denied,
            subordinate: Subordinate { uids: vec![(100_000, 65536)], gids: vec![(100_000, 65536)] },
            lsm: Lsm { selinux: true, apparmor: AppArmor::Unconfined },
            cgroups: Some(cgroups),
            copies_trees: copies,
            tree_namespaces: tree,
        },
    )
}

/// Where the first step of a kind stands.
fn first(plan: &ContainerPlan, is: impl Fn(&Step) -> bool) -> Option<usize> {
    plan.steps.iter().position(is)
}

fn count(plan: &ContainerPlan, is: impl Fn(&Step) -> bool) -> usize {
    plan.steps.iter().filter(|s| is(s)).count()
}

/// The slots a step uses, and whether it fills them itself.
fn slots(step: &Step) -> Vec<(usize, bool)> {
    match step {
        Step::SetNs(n) => vec![(n.slot, false)],
        Step::RootNamespace { slot, .. } => vec![(*slot, false)],
        Step::SetNsOf { pidfd, .. } => vec![(*pidfd, false)],
        Step::Tree(t) => vec![(t.slot, true)],
        Step::Mount(m) => {
            let source = match &m.kind {
                MountKind::Bind(b) => b.slot,
                MountKind::Idmapped { slot } => Some(*slot),
                _ => None,
            };
            source.map(|s| (s, false)).into_iter().chain(m.keep.map(|s| (s, true))).collect()
        }
        Step::SetAttrs { slot, .. } => vec![(*slot, false)],
        Step::Hook(h) => h.output.slots().map(|slot| (slot, false)).collect(),
        Step::LabelFile { slot, .. } => vec![(*slot, true)],
        Step::LateLabel { slot, .. } => vec![(*slot, false)],
        Step::Gate { keep, .. } => keep.iter().map(|slot| (*slot, false)).collect(),
        Step::Mask { by: Some(by), .. } => vec![(by.null, false), (by.empty, false)],
        Step::Terminal { console, .. } => vec![(*console, false)],
        _ => Vec::new(),
    }
}

/// Paths of a step that the child takes from the container's root.
fn below_the_root(step: &Step) -> Vec<&[u8]> {
    match step {
        Step::Mount(m) => vec![m.dest.to_bytes()],
        Step::Device(d) => vec![d.dest.to_bytes()],
        Step::Mask { dest, .. } | Step::ReadonlyPath { dest } | Step::SetAttrs { dest, .. } | Step::Symlink { dest, .. } => {
            vec![dest.to_bytes()]
        }
        Step::Directory { path } => vec![path.to_bytes()],
        Step::File(f) => vec![f.dest.to_bytes()],
        _ => Vec::new(),
    }
}

/// What holds for the plan of any process.
fn holds_for_all(plan: &ContainerPlan, no_new_privs: bool, seccomp: bool) -> std::result::Result<(), TestCaseError> {
    prop_assert!(matches!(plan.steps.last(), Some(Step::Exec { .. })), "the last step is execve");
    for (name, n) in [
        ("Exec", count(plan, |s| matches!(s, Step::Exec { .. }))),
        ("Gate", count(plan, |s| matches!(s, Step::Gate { .. }))),
        ("Lookup", count(plan, |s| matches!(s, Step::Lookup(_)))),
        ("Credentials", count(plan, |s| matches!(s, Step::Credentials(_)))),
        ("AwaitParent", count(plan, |s| matches!(s, Step::AwaitParent))),
        ("JoinCgroups", count(plan, |s| matches!(s, Step::JoinCgroups))),
    ] {
        prop_assert_eq!(n, 1, "{}", name);
    }
    let at = |is: fn(&Step) -> bool| first(plan, is);
    let ids = at(|s| matches!(s, Step::Credentials(_)));
    let gate = at(|s| matches!(s, Step::Gate { .. }));
    prop_assert!(ids < at(|s| matches!(s, Step::Lookup(_))) && at(|s| matches!(s, Step::Lookup(_))) < gate);
    let kept = |s: &Step| matches!(s, Step::Credentials(c) if c.ids_are_set);
    let other = |s: &Step| matches!(s, Step::BecomeRoot { .. }) || matches!(s, Step::SetNs(ns) if ns.flag == libc::CLONE_NEWUSER as u64);
    prop_assert!(first(plan, kept).is_none() || plan.id_maps.is_none() && first(plan, other).is_none(), "in a user namespace ids change");
    prop_assert_eq!(count(plan, |s| matches!(s, Step::NoNewPrivs)), usize::from(no_new_privs));
    // Without no_new_privs only a privileged process may install a filter; with it, the filter must not hinder what comes before.
    prop_assert_eq!(count(plan, |s| matches!(s, Step::Seccomp)), usize::from(seccomp));
    if let Some(filter) = at(|s| matches!(s, Step::Seccomp)) {
        prop_assert_eq!(Some(filter) > gate, no_new_privs);
        prop_assert_eq!(Some(filter) < ids, !no_new_privs);
    }
    let mut filled = vec![false; plan.opens.len()];
    let mut used = filled.clone();
    for step in &plan.steps {
        step.describe();
        for (slot, fills) in slots(step) {
            prop_assert!(slot < plan.opens.len(), "{step:?} names slot {slot} of {}", plan.opens.len());
            let late = plan.opens[slot] == Open::Late;
            prop_assert!(fills || !late || filled[slot], "{step:?} uses slot {slot} before it is filled");
            prop_assert!(!fills || late, "{step:?} fills slot {slot}, which the parent has opened");
            filled[slot] |= fills;
            used[slot] = true;
        }
        for path in below_the_root(step) {
            let odd = |part: &[u8]| part.is_empty() || part == b"." || part == b"..";
            prop_assert!(path.is_empty() || !path.split(|b| *b == b'/').any(odd), "{step:?} has an odd path");
        }
        if let Step::Mount(m) = step {
            const ATIME: u64 = 0x70;
            prop_assert_eq!(m.attrs.set & m.attrs.clear & !ATIME, 0);
            prop_assert_eq!(m.recursive_attrs.set & m.recursive_attrs.clear & !ATIME, 0);
        }
    }
    prop_assert!(used.iter().all(|u| *u), "a descriptor is opened that no step uses: {:?} {:?}", plan.opens, plan.steps);
    Ok(())
}

/// The namespaces that the configuration wants made and joined, as flags.
fn wanted(spec: &Spec<'_>, automatic: bool) -> (u64, u64) {
    let (mut new, mut joined) = (if automatic { libc::CLONE_NEWUSER as u64 } else { 0 }, 0);
    for (kind, flag) in super::namespaces::KINDS {
        for n in spec.linux().namespaces.iter().filter(|n| n.kind == kind) {
            *if n.path.as_deref().unwrap_or("").is_empty() { &mut new } else { &mut joined } |= flag;
        }
    }
    (new, joined)
}

fn container(spec: &Spec<'_>, facts: &Facts, options: &CreateOptions, plan: &ContainerPlan) -> std::result::Result<(), TestCaseError> {
    let process = spec.process.as_ref().unwrap();
    let seccomp = spec.linux().seccomp.is_some_and(|s| s.get() != "null");
    holds_for_all(plan, process.no_new_privileges, seccomp)?;
    let (new, joined) = wanted(spec, super::automatic_user_namespace(&spec.linux(), facts));
    let mut made = plan.clone_flags;
    let mut entered = 0;
    for step in &plan.steps {
        match step {
            Step::Unshare { flags } => made |= flags,
            Step::RootNamespace { .. } => made |= libc::CLONE_NEWNS as u64,
            Step::SetNs(n) => entered |= n.flag,
            _ => {}
        }
    }
    prop_assert_eq!(made & !(libc::CLONE_NEWPID as u64), new & !(libc::CLONE_NEWPID as u64), "the namespaces that are made");
    prop_assert_eq!(entered, joined, "the namespaces that are joined");
    prop_assert_eq!(plan.id_maps.is_some(), new & libc::CLONE_NEWUSER as u64 != 0);
    let at = |is: fn(&Step) -> bool| first(plan, is).unwrap();
    // A process that goes to a root of its own has no other to leave.
    let leaves = |s: &Step| matches!(s, Step::Pivot { .. } | Step::RootNamespace { .. });
    // Whichever root it has, it is there before a program of the container runs, and after the mounts that take it elsewhere.
    prop_assert_eq!(count(plan, |s| matches!(s, Step::Pivot { .. } | Step::GoToRoot)), 1);
    prop_assert_eq!(count(plan, leaves), 1);
    prop_assert!(first(plan, leaves).unwrap() < at(|s| matches!(s, Step::Credentials(_))));
    if first(plan, |s| matches!(s, Step::RootNamespace { .. })).is_some() {
        prop_assert_eq!(plan.clone_flags & libc::CLONE_NEWNS as u64, 0);
        prop_assert_eq!(count(plan, |s| matches!(s, Step::Root { .. } | Step::Propagation { .. } | Step::Mounted)), 0);
        let by_path = |s: &Step| matches!(s, Step::Mount(m) if matches!(&m.kind, MountKind::Bind(b) if b.slot.is_none()));
        prop_assert_eq!(count(plan, by_path), 0, "host paths lead nowhere there");
    }
    let in_old_root = |s: &Step| {
        matches!(
            s,
            Step::Root { .. } | Step::Mount(_) | Step::Device(_) | Step::Mask { .. } | Step::ReadonlyPath { .. } | Step::Sysctl { .. }
        )
    };
    if let Some(pivot) = first(plan, |s| matches!(s, Step::Pivot { .. } | Step::GoToRoot)) {
        prop_assert!(plan.steps[pivot..].iter().all(|s| !in_old_root(s)), "mounts are made before the root is changed");
    }
    // Nothing of the container's own may be mounted before it has a root, and masks cover what the mounts bring.
    if let Some(mask) = first(plan, |s| matches!(s, Step::Mask { .. } | Step::ReadonlyPath { .. })) {
        prop_assert!(plan.steps[mask..].iter().all(|s| !matches!(s, Step::Mount(_) | Step::Device(_))), "masks come after what they cover");
    }
    if let Some(root) = first(plan, |s| matches!(s, Step::Root { .. } | Step::RootNamespace { .. })) {
        prop_assert!(
            plan.steps[..root].iter().all(|s| !matches!(s, Step::Mount(_) | Step::Device(_) | Step::Mask { .. })),
            "mounts without a root"
        );
    }
    let hooks = spec.hooks.as_ref();
    let before = hooks.is_some_and(|h| !h.prestart.is_empty() || !h.create_runtime.is_empty());
    prop_assert_eq!(count(plan, |s| matches!(s, Step::Mounted)), usize::from(before));
    let in_child = hooks.map_or(0, |h| h.create_container.len() + h.start_container.len());
    prop_assert_eq!(count(plan, |s| matches!(s, Step::Hook(_))), in_child);
    prop_assert_eq!(plan.opens.contains(&Open::Console), process.terminal);
    prop_assert_eq!(count(plan, |s| matches!(s, Step::JoinKeyring { .. })), usize::from(!options.no_new_keyring));
    Ok(())
}

fn handler() -> Handled {
    let file = RootFile { path: "/../.config.json".into(), mode: 0o600, content: b"{}".to_vec() };
    Handled { name: "h", program: Program::Readable, files: vec![file] }
}

/// What differs for the same container when a handler takes the place of execve.
fn handled(plain: &ContainerPlan, plan: &ContainerPlan) -> std::result::Result<(), TestCaseError> {
    prop_assert!(matches!(plan.steps.last(), Some(Step::Handle { .. })), "the last step is the handler's");
    let at = |is: fn(&Step) -> bool| plan.steps.iter().position(is);
    let (load, gate) = (at(|s| matches!(s, Step::Load { .. })), at(|s| matches!(s, Step::Gate { .. })));
    prop_assert!(
        at(|s| matches!(s, Step::Lookup(_))) < load && load < gate,
        "it loads what was found, with the final ids, before the gate"
    );
    prop_assert!(at(|s| matches!(s, Step::Forget)) < at(|s| matches!(s, Step::Credentials(_))));
    let file = at(|s| matches!(s, Step::File(_)));
    let change = at(|s| matches!(s, Step::Pivot { .. } | Step::RootReadonly)).or(gate);
    prop_assert!(file.is_some() && file < change, "a file is written before the root is changed");
    for step in &plan.steps {
        match step {
            Step::Exec { .. } => prop_assert!(false, "nothing is executed"),
            Step::Label { .. } => prop_assert!(false, "no execve comes for a label to wait for"),
            Step::LabelFile { file, .. } => prop_assert!(file.to_bytes().ends_with(b"current")),
            Step::Credentials(c) => {
                let left = if c.uid == 0 { c.caps.inheritable | c.caps.bounding } else { c.caps.ambient };
                prop_assert!(c.caps.permitted & !left == 0 && c.caps.effective == c.caps.permitted, "as execve would leave them");
            }
            _ => {}
        }
    }
    let Some(Step::Gate { keep, .. }) = gate.map(|at| &plan.steps[at]) else { panic!("a plan without gate") };
    prop_assert!(keep.len() <= KEPT_SLOTS);
    for (place, step) in plan.steps.iter().enumerate() {
        match step {
            Step::LabelFile { .. } => prop_assert!(at(|s| matches!(s, Step::Credentials(_))) < Some(place) && Some(place) < gate),
            Step::LateLabel { slot, .. } => prop_assert!(gate < Some(place) && keep.contains(slot)),
            _ => {}
        }
    }
    let own = |s: &&Step| {
        let new = matches!(
            s,
            Step::LabelFile { .. }
                | Step::LateLabel { .. }
                | Step::Gate { .. }
                | Step::File(_)
                | Step::Forget
                | Step::Undumpable
                | Step::Load { .. }
                | Step::Handle { .. }
        );
        !new && !matches!(s, Step::Exec { .. } | Step::Label { .. } | Step::Credentials(_) | Step::Lookup(_) | Step::Home { .. })
    };
    let both = [plain, plan].map(|p| p.steps.iter().filter(own).collect::<Vec<_>>());
    prop_assert_eq!(&both[0], &both[1], "everything else stays");
    Ok(())
}

/// Compiles a configuration for a new container, twice, and checks what holds for every plan.
fn created(config: &Value, facts: &Facts, options: &CreateOptions) -> std::result::Result<(), TestCaseError> {
    let text = config.to_string();
    let spec = Spec::parse(text.as_bytes()).map_err(|e| TestCaseError::reject(e.to_string()))?;
    let place = Place { id: "i", bundle: Path::new("/b"), rootfs: Path::new("/b/r"), notify: Path::new("/n") };
    if validate(&spec).is_err() {
        return Ok(());
    }
    match compile(&spec, facts, options, place, None) {
        Ok(plan) => {
            container(&spec, facts, options, &plan)?;
            // Pure: the same again is the same.
            prop_assert_eq!(&plan.steps, &compile(&spec, facts, options, place, None).unwrap().steps);
            handled(&plan, &compile(&spec, facts, options, place, Some(&handler())).unwrap())?;
        }
        Err(e) => prop_assert!(!e.to_string().contains('\n'), "{e}"),
    }
    Ok(())
}

/// The same for another process in a container.
fn joined(config: &Value, facts: &Facts) -> std::result::Result<(), TestCaseError> {
    let text = config.to_string();
    let spec = Spec::parse(text.as_bytes()).map_err(|e| TestCaseError::reject(e.to_string()))?;
    let (linux, process) = (spec.linux(), spec.process.as_ref().unwrap());
    if validate(&spec).is_err() {
        return Ok(());
    }
    let target = Target { id: "i", linux: &linux, facts, rootfs: Path::new("/b/r"), annotations: &spec.annotations };
    if let Ok(plan) = compile_join(&target, process, &ExecOptions::default()) {
        holds_for_all(&plan, process.no_new_privileges, linux.seccomp.is_some_and(|s| s.get() != "null"))?;
        prop_assert_eq!(plan.clone_flags, 0);
        prop_assert!(!plan.steps.iter().any(|s| matches!(s, Step::Mount(_) | Step::Device(_) | Step::Sysctl { .. })), "nothing is made");
    }
    Ok(())
}

/// A fuzzer's bytes choose the chance: the same configurations and the same properties, one for each input. The bytes cannot take the place of
/// chance itself: proptest halves them for each part of a part, and of the zeros it goes on with some choices never end.
pub(crate) fn chosen_by(data: &[u8]) {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let lane =
        |n: u64| data.iter().fold(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), |seed, b| (seed ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    let seed: Vec<u8> = (1..=4).flat_map(|n| lane(n).to_le_bytes()).collect();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, rng);
    let options = (any::<bool>(), any::<bool>(), select(vec!["cgroupfs", "disabled"]));
    let Ok(tree) = (options, facts(), config()).new_tree(&mut runner) else { return };
    let ((no_pivot, no_new_keyring, manager), facts, config) = tree.current();
    let options = CreateOptions { no_pivot, no_new_keyring, cgroup_manager: manager.to_owned(), ..CreateOptions::default() };
    for done in [created(&config, &facts, &options), joined(&config, &facts)] {
        assert!(!matches!(done, Err(TestCaseError::Fail(_))), "{done:?} for {config} on {facts:?} with {options:?}");
    }
}

#[cfg(test)]
proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_is_in_order_and_complete(config in config(), facts in facts(), no_pivot: bool, no_new_keyring: bool, manager in select(vec!["cgroupfs", "disabled"])) {
        let options = CreateOptions { no_pivot, no_new_keyring, cgroup_manager: manager.to_owned(), ..CreateOptions::default() };
        created(&config, &facts, &options)?;
    }

    #[test]
    fn a_plan_to_join_is_in_order_and_complete(config in config(), facts in facts()) {
        joined(&config, &facts)?;
    }

    #[test]
    fn a_round_trip_keeps_the_configuration(config in config()) {
        let text = config.to_string();
        if let Ok(spec) = Spec::parse(text.as_bytes()) {
            let written = serde_json::to_string(&spec).unwrap();
            let again = Spec::parse(written.as_bytes()).unwrap();
            prop_assert_eq!(&written, &serde_json::to_string(&again).unwrap());
        }
    }
}

/// The fuzz target `plan` waited for ever on no bytes at all.
#[test]
fn bytes_choose_configurations() {
    (0..40u8).for_each(|n| chosen_by(&vec![n; usize::from(n)]));
}

#[test]
fn many_configurations_are_accepted() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let accepted = (0..400).filter(|_| {
        let (config, facts) = (config(), facts()).new_tree(&mut runner).unwrap().current();
        let text = config.to_string();
        let place = Place { id: "i", bundle: Path::new("/b"), rootfs: Path::new("/b/r"), notify: Path::new("/n") };
        let spec = Spec::parse(text.as_bytes()).unwrap();
        validate(&spec).is_ok() && compile(&spec, &facts, &CreateOptions::default(), place, None).is_ok()
    });
    let accepted = accepted.count();
    assert!(accepted > 60, "only {accepted} of 400 configurations are accepted: the properties are about nothing");
}
