//! Which namespaces are made by clone, which are joined, and the steps the child takes for the rest. Not here: id maps (`ids`).

use super::opens::{Open, Opens};
use super::step::{Pass, SetNs, Step};
use crate::spec::Linux;
use std::ffi::CString;

/// Kinds in the order they are joined: the user namespace decides over the rest, the mount namespace comes last because it changes
/// the root.
pub(crate) const KINDS: [(&str, u64); 8] = [
    ("user", libc::CLONE_NEWUSER as u64),
    ("cgroup", libc::CLONE_NEWCGROUP as u64),
    ("ipc", libc::CLONE_NEWIPC as u64),
    ("uts", libc::CLONE_NEWUTS as u64),
    ("network", libc::CLONE_NEWNET as u64),
    ("pid", libc::CLONE_NEWPID as u64),
    ("time", 0x80),
    ("mount", libc::CLONE_NEWNS as u64),
];
const USER: u64 = libc::CLONE_NEWUSER as u64;
const PID: u64 = libc::CLONE_NEWPID as u64;
const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
const TIME: u64 = 0x80;

/// The namespaces of a container.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Namespaces {
    /// Flags for clone3.
    pub clone_flags: u64,
    /// All that are made, however.
    pub new: u64,
    /// All that are joined.
    pub joined: u64,
    /// What the child does before anything else.
    pub steps: Vec<Step>,
}

/// From when on the parent can do its part for the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attach {
    /// As soon as it exists.
    Cloned,
    /// When it has made its user namespace.
    Unshared,
    /// When it goes on as another process.
    Forked,
}

impl Attach {
    /// Reads the moment off the steps: what comes before `AwaitParent`.
    pub(crate) fn of(steps: &[Step]) -> Self {
        let before = || steps.iter().take_while(|s| !matches!(s, Step::AwaitParent));
        if before().any(|s| matches!(s, Step::Unshared)) {
            Self::Unshared
        } else if before().any(|s| matches!(s, Step::Fork)) {
            Self::Forked
        } else {
            Self::Cloned
        }
    }
}

impl Namespaces {
    /// Whether the container has a namespace of this kind of its own, made or joined.
    pub(crate) fn has(&self, flag: u64) -> bool {
        (self.new | self.joined) & flag != 0
    }
}

/// The container's namespaces as flags of setns(2); `user` says whether it has a user namespace, which need not be in the configuration.
pub(crate) fn flags(linux: &Linux<'_>, user: bool) -> u64 {
    let has = |kind: &str| kind == "user" && user || linux.namespaces.iter().any(|n| n.kind == kind);
    KINDS.iter().filter(|(kind, _)| has(kind)).fold(0, |all, (_, flag)| all | flag)
}

/// Arranges the namespaces. `new_user` asks for a user namespace although the configuration has none.
///
/// Without joined namespaces everything is made by clone itself. A new cgroup namespace is made later, since its root is the cgroup the
/// process is in when it is made, and clone makes namespaces before it places the child; a time namespace because its offsets must be
/// written before anybody enters it.
pub(crate) fn compile(linux: &Linux<'_>, new_user: bool, clear_groups: bool, opens: &mut Opens) -> Namespaces {
    let mut ns = Namespaces { new: if new_user { USER } else { 0 }, ..Namespaces::default() };
    let mut joins = Vec::new();
    for (kind, flag) in KINDS {
        for n in linux.namespaces.iter().filter(|n| n.kind == kind) {
            match n.path.as_deref().filter(|p| !p.is_empty()) {
                None => ns.new |= flag,
                Some(path) => {
                    ns.joined |= flag;
                    let slot = opens.add(Open::Namespace { kind, path: path.to_owned() });
                    joins.push((kind, flag, slot, path.to_owned()));
                }
            }
        }
    }
    let set_ns = |flags: &dyn Fn(u64) -> bool, pass: Pass| -> Vec<Step> {
        let steps = joins
            .iter()
            .filter(|(_, flag, ..)| flags(*flag))
            .map(|(kind, flag, slot, path)| Step::SetNs(Box::new(SetNs { slot: *slot, flag: *flag, kind, path: path.clone(), pass })));
        steps.collect()
    };
    let root = Step::BecomeRoot { clear_groups };
    if joins.is_empty() || (ns.new | ns.joined) & USER == 0 {
        ns.clone_flags = ns.new & !(CGROUP | TIME);
        if ns.joined & PID != 0 {
            // A namespace of pids is entered by the next child only, and clone made the mount namespace already.
            ns.clone_flags &= !PID;
        }
        ns.steps.extend(set_ns(&|_| true, Pass::Only));
        if ns.joined & PID != 0 {
            ns.steps.push(Step::Fork);
        }
        ns.steps.push(Step::AwaitParent);
        time(linux, &mut ns);
        if ns.new & USER != 0 {
            ns.steps.push(root);
        }
    } else {
        ns.steps.extend(set_ns(&|flag| flag != USER, Pass::First));
        if ns.new & USER != 0 {
            ns.steps.extend([Step::Unshare { flags: USER }, Step::Unshared]);
        } else {
            ns.steps.extend(set_ns(&|flag| flag == USER, Pass::Only));
        }
        ns.steps.push(Step::AwaitParent);
        time(linux, &mut ns);
        ns.steps.push(root);
        ns.steps.extend(set_ns(&|flag| flag != USER, Pass::Second));
        let rest = ns.new & !(USER | CGROUP | TIME);
        if rest != 0 {
            ns.steps.push(Step::Unshare { flags: rest });
        }
        if ns.has(PID) {
            ns.steps.push(Step::Fork);
        }
    }
    if ns.new & CGROUP != 0 {
        ns.steps.push(Step::Unshare { flags: CGROUP });
    }
    ns
}

/// A time namespace with its offsets. Made before the process takes the ids of its user namespace's root: that change makes its own
/// files in /proc the host's root's.
fn time(linux: &Linux<'_>, ns: &mut Namespaces) {
    if ns.new & TIME == 0 {
        return;
    }
    let lines = linux.time_offsets.iter().map(|(clock, o)| format!("{clock} {} {}\n", o.secs, o.nanosecs));
    // Clock names are checked by `validate`, so there is no NUL in the text.
    let text = CString::new(lines.collect::<String>()).unwrap_or_default();
    ns.steps.extend([Step::Unshare { flags: TIME }, Step::TimeOffsets { text }]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Namespace;

    fn linux(list: &[(&'static str, Option<&'static str>)]) -> Linux<'static> {
        let namespaces = list.iter().map(|(k, p)| Namespace { kind: (*k).into(), path: p.map(Into::into) }).collect();
        Linux { namespaces, ..Linux::default() }
    }

    fn shape(list: &[(&'static str, Option<&'static str>)]) -> (u64, Vec<String>) {
        let ns = compile(&linux(list), false, true, &mut Opens::default());
        let name = |s: &Step| match s {
            Step::SetNs(n) => format!("{} {:?}", n.kind, n.pass),
            Step::Unshare { flags } => format!("unshare {flags:#x}"),
            Step::BecomeRoot { .. } => "root".into(),
            s => format!("{s:?}"),
        };
        (ns.clone_flags, ns.steps.iter().map(name).collect())
    }

    #[test]
    fn new_namespaces_come_from_clone() {
        let (flags, steps) = shape(&[("pid", None), ("mount", None), ("cgroup", None), ("user", None)]);
        assert_eq!(flags, PID | libc::CLONE_NEWNS as u64 | USER);
        assert_eq!(steps, ["AwaitParent", "root", "unshare 0x2000000"]);
    }

    #[test]
    fn a_joined_pid_namespace_needs_a_fork() {
        let (flags, steps) = shape(&[("pid", Some("/p")), ("mount", None), ("network", Some("/n"))]);
        assert_eq!(flags, libc::CLONE_NEWNS as u64);
        assert_eq!(steps, ["network Only", "pid Only", "Fork", "AwaitParent"]);
    }

    #[test]
    fn joins_around_a_new_user_namespace() {
        let (flags, steps) = shape(&[("user", None), ("network", Some("/n")), ("pid", None), ("mount", None)]);
        assert_eq!(flags, 0);
        let unshare = format!("unshare {:#x}", PID | libc::CLONE_NEWNS as u64);
        assert_eq!(steps, ["network First", "unshare 0x10000000", "Unshared", "AwaitParent", "root", "network Second", &unshare, "Fork"]);
    }

    #[test]
    fn a_joined_user_namespace_is_entered_between_two_passes() {
        let (flags, steps) = shape(&[("user", Some("/u")), ("ipc", Some("/i")), ("mount", None)]);
        assert_eq!(flags, 0);
        assert_eq!(steps, ["ipc First", "user Only", "AwaitParent", "root", "ipc Second", "unshare 0x20000"]);
    }

    #[test]
    fn time_offsets_are_written_after_the_unshare() {
        let mut l = linux(&[("time", None)]);
        l.time_offsets.0.push(("monotonic".into(), crate::spec::TimeOffset { secs: -5, nanosecs: 7 }));
        let ns = compile(&l, false, true, &mut Opens::default());
        assert_eq!(ns.clone_flags, 0);
        assert_eq!(ns.steps[2], Step::TimeOffsets { text: c"monotonic -5 7\n".into() });
    }
}
