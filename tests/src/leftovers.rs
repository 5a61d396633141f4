//! What a container may leave on a machine: state, cgroups, pinned programs, mounts, processes. Finds it by the container's id.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::place::Place;

/// The variable that marks the processes of a container and of the runtime calls for it.
pub(crate) const MARK: &str = "PINNACE_TEST_ID";

/// Everything that is left of the container `id`, in words.
pub(crate) fn of(id: &str, state: &Path, bundle: &Path) -> Vec<String> {
    let mut left = Vec::new();
    if state.exists() {
        left.push(format!("state {}", state.display()));
    }
    left.extend(cgroups(id).iter().map(|dir| format!("cgroup {}", dir.display())));
    left.extend(pins(id).iter().map(|path| format!("pinned program {}", path.display())));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let place = bundle.to_string_lossy();
    left.extend(mounts.lines().filter(|l| names(l, &place)).map(|l| format!("mount {l}")));
    left.extend(processes(id).iter().map(|(pid, what)| format!("process {pid} {what}")));
    left
}

/// Whether a path or a line of mounts is about the container `id`, or its bundle, and not about another's with a longer number.
fn names(text: &str, id: &str) -> bool {
    text.match_indices(id).any(|(at, _)| !text[at + id.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

/// Cgroups whose name has the id, in all hierarchies, parents first.
fn cgroups(id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut walk: Vec<PathBuf> = Place::get().cgroup_mounts.clone();
    while let Some(dir) = walk.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if names(&entry.path().to_string_lossy(), id) {
                    found.push(entry.path());
                }
                walk.push(entry.path());
            }
        }
    }
    found
}

/// Device programs pinned for a container's scope, where crun does it.
fn pins(id: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir("/sys/fs/bpf/crun").into_iter().flatten().flatten().map(|e| e.path());
    entries.filter(|path| names(&path.to_string_lossy(), id)).collect()
}

/// Live processes whose environment has the mark. A zombie has none.
fn processes(id: &str) -> Vec<(i32, String)> {
    let mark = format!("{MARK}={id}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environ.split(|b| *b == 0).any(|v| v == mark.as_bytes()) {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}

/// What `look` finds once it finds nothing, or after a while: killed processes take a moment to vanish.
pub(crate) fn settle(mut look: impl FnMut() -> Vec<String>) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let left = look();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Removes processes and cgroups that a container `id` left after a failure, so that the machine stays as it was.
pub fn clear(id: &str) {
    for (pid, _) in processes(id) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let mut dirs = cgroups(id);
    if dirs.is_empty() {
        return;
    }
    dirs.sort_by_key(|dir| std::cmp::Reverse(dir.components().count()));
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline && dirs.iter().any(|dir| dir.exists()) {
        for dir in &dirs {
            for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
                if let Ok(pid) = pid.parse() {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            let _ = fs::remove_dir(dir);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_number_is_another_container() {
        for (text, is) in [("/a/pt-7-1", true), ("/a/crun-pt-7-1.scope/b", true), ("/a/pt-7-12", false), ("/a/pt-7-12/pt-7-1", true)] {
            assert_eq!(names(text, "pt-7-1"), is, "{text}");
        }
    }
}
