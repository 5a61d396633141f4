//! Mounts in a container that exists: the plans of a helper process that joins it, mounts or unmounts, and ends. Not here: what a mount's
//! options mean (`mounts`, which this shares with new containers).

use super::mounts::{self, inside};
use super::opens::{Open, Opens};
use super::process::ByParent;
use super::step::{MountKind, Source, Step, TreeStep};
use super::{ContainerPlan, Context, namespaces};
use crate::error::{Error, Result};
use crate::spec::Mount;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

const USER: u64 = libc::CLONE_NEWUSER as u64;
const MOUNT: u64 = libc::CLONE_NEWNS as u64;
const PID: u64 = libc::CLONE_NEWPID as u64;

/// The plan that adds the mounts of `cx.spec`, in order.
///
/// # Errors
/// What a new container's mounts are refused for, and a container without a mount namespace.
pub(crate) fn add(cx: &Context<'_>) -> Result<ContainerPlan> {
    let mut opens = Opens::default();
    let (mut steps, late) = mounts::compile(cx, &mut opens)?;
    let mut trees = Vec::new();
    for step in &mut steps {
        let Step::Mount(m) = step else { continue };
        match &mut m.kind {
            // Paths of the host mean something else where these are mounted.
            MountKind::Bind(bind) => {
                if let (Some(slot), true) = (bind.slot, cx.facts.rootless()) {
                    trees.extend(tree(&mut opens, slot)?);
                }
                if let Source::Path(path) = &mut bind.source {
                    bind.source = Source::Opened(std::mem::take(path));
                }
            }
            MountKind::Fs(fs) => fs.instead = None,
            MountKind::Idmapped { .. } | MountKind::Remount(_) => {}
        }
    }
    steps.extend(late);
    join(cx, opens, trees, steps)
}

/// An unprivileged runtime has no right to copy mounts of the host's namespace; in a copy of that which belongs to the container's user
/// namespace it has.
fn tree(opens: &mut Opens, slot: usize) -> Result<Option<Step>> {
    let Open::Tree { path, recursive, link, shown, .. } = std::mem::replace(&mut opens.0[slot], Open::Late) else { return Ok(None) };
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::invalid("source: contains a NUL byte"))?;
    Ok(Some(Step::Tree(Box::new(TreeStep { slot, path, recursive, link, shown }))))
}

/// The plan that removes what is mounted at the destinations, the last one first.
///
/// # Errors
/// A destination that contains a NUL byte, and a container without a mount namespace.
pub(crate) fn remove(cx: &Context<'_>, mounts: &[Mount<'_>]) -> Result<ContainerPlan> {
    let step =
        |(i, m): (usize, &Mount<'_>)| inside(&m.destination, || format!("mounts[{i}].destination")).map(|dest| Step::Unmount { dest });
    let steps = mounts.iter().enumerate().rev().map(step).collect::<Result<_>>()?;
    join(cx, Opens::default(), Vec::new(), steps)
}

/// The plan that takes back what another one did up to the step at `failed`.
///
/// # Errors
/// As [`remove`].
pub(crate) fn undo(cx: &Context<'_>, done: &[Step]) -> Result<ContainerPlan> {
    let dest = |step: &Step| match step {
        Step::Mount(m) if !matches!(m.kind, MountKind::Remount(_)) => Some(Step::Unmount { dest: m.dest.clone() }),
        _ => None,
    };
    join(cx, Opens::default(), Vec::new(), done.iter().rev().filter_map(dest).collect())
}

/// The steps behind those that join the container.
fn join(cx: &Context<'_>, mut opens: Opens, trees: Vec<Step>, then: Vec<Step>) -> Result<ContainerPlan> {
    let flags = namespaces::flags(&cx.spec.linux(), cx.user_namespace);
    if flags & MOUNT == 0 {
        return Err(Error::invalid("the container has no mount namespace"));
    }
    let pidfd = opens.add(Open::InitPidfd);
    let set = |flags| Step::SetNsOf { pidfd, flags };
    // The container must not get hold of this process, which keeps the runtime's rights.
    let mut steps = vec![Step::Undumpable];
    if trees.is_empty() {
        steps.push(set(flags));
    } else {
        steps.extend([set(USER), Step::BecomeRoot { clear_groups: false }, Step::Unshare { flags: MOUNT }]);
        steps.extend(trees);
        steps.push(set(flags & !USER));
    }
    // A procfs shows the pid namespace of who mounts it.
    steps.extend((flags & PID != 0).then_some(Step::Fork));
    if flags & USER != 0 {
        steps.push(Step::BecomeRoot { clear_groups: false });
    }
    steps.extend([Step::Umask(0), Step::CurrentRoot]);
    steps.extend(then);
    Ok(ContainerPlan { clone_flags: 0, steps, opens: opens.0, id_maps: None, by_parent: ByParent::default() })
}
