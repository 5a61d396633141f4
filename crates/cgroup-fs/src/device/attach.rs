//! Loading a device program and putting it on a v2 cgroup. Not here: what is in it.

use super::{allows_everything, parse, program};
use crate::files::Sys;
use crate::sys;
use runtime_core::Result;
use runtime_core::spec::DeviceRule;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// How often another program may come between the query and the replacement before both are put side by side.
const RETRIES: usize = 20;

/// Enforces device rules on a v2 cgroup, in place of what was enforced; the program, if there is one. No program is loaded where everything is allowed.
///
/// `fresh` says that the cgroup has just been made, so that there is nothing to look for. `path` is for messages.
///
/// # Errors
/// Malformed rules. A kernel or a user that may not load programs is an error only where a rule denies something and `lenient` is not
/// set (the runtime has no privileges, so its container has no more than those of the user).
pub(crate) fn enforce(cgroup: BorrowedFd<'_>, rules: &[DeviceRule<'_>], fresh: bool, lenient: bool, path: &str) -> Result<Option<OwnedFd>> {
    if rules.is_empty() {
        return Ok(None);
    }
    let rules = parse(rules)?;
    let free = allows_everything(&rules);
    if free && fresh {
        return Ok(None);
    }
    let done = if free { clear(cgroup).map(|()| None) } else { load_and_put(cgroup, &program(&rules), fresh).map(Some) };
    match done {
        Err(e) if lenient || rules.iter().all(|r| r.allow) => {
            tracing::debug!("device rules of cgroup `{path}` are not enforced: {e}");
            Ok(None)
        }
        other => other.at(|| format!("linux.resources.devices: bpf program for cgroup `{path}`")),
    }
}

fn load_and_put(cgroup: BorrowedFd<'_>, insns: &[super::Insn], fresh: bool) -> std::result::Result<OwnedFd, Errno> {
    let new = sys::load_device_program(insns)?;
    if fresh {
        return sys::attach(cgroup, new.as_fd(), None).map(|()| new);
    }
    for _ in 0..RETRIES {
        let old = sys::attached(cgroup)?;
        let [only] = old[..] else { break };
        match sys::by_id(only).and_then(|old| sys::attach(cgroup, new.as_fd(), Some(old.as_fd()))) {
            // It was replaced by somebody else meanwhile.
            Err(Errno::NOENT) => {}
            // Kernels before 5.6 have no replacement.
            Err(Errno::INVAL) => break,
            other => return other.map(|()| new),
        }
    }
    // Both are in force for a moment, and both must allow: never a moment without.
    let old = sys::attached(cgroup)?;
    sys::attach(cgroup, new.as_fd(), None)?;
    remove(cgroup, &old)?;
    Ok(new)
}

fn clear(cgroup: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    let old = sys::attached(cgroup)?;
    remove(cgroup, &old)
}

fn remove(cgroup: BorrowedFd<'_>, ids: &[u32]) -> std::result::Result<(), Errno> {
    for &id in ids {
        match sys::by_id(id).and_then(|p| sys::detach(cgroup, p.as_fd())) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
