//! Enabling controllers along the path to a v2 cgroup (cgroup-v2.rst, "Enabling and Disabling"). Not here: v1, limits.

use crate::apply::missing;
use crate::controller::{Controller, ControllerSet, Version};
use crate::files::{Dir, put};
use crate::homes::Home;
use runtime_core::{Error, Result};
use rustix::fd::AsFd;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::path::PathBuf;

/// What distributions enable for containers. A cgroup that has all of these, and what is needed beyond, is left as it is: one read.
const USUAL: ControllerSet =
    ControllerSet::of(&[Controller::Cpu, Controller::Cpuset, Controller::Io, Controller::Memory, Controller::Pids, Controller::Hugetlb]);

const SUBTREE: &str = "cgroup.subtree_control";
const CONTROLLERS: &str = "cgroup.controllers";

/// Enables for `home` whatever the root has, so that limits can be set later and usage is counted; what cannot be enabled is an error
/// only if it is in `needed`.
///
/// Costs 3 system calls (one read) where everything usual is there, 6 where nothing more is to be had, and 3 a level else.
///
/// # Errors
/// ``controller `X` is not available under ROOT/cgroup.controllers``, or the `cgroup.subtree_control` that refused it.
pub(crate) fn enable(home: &Home, needed: ControllerSet) -> Result<()> {
    let needed = needed.iter().filter(|c| c.is_enabled_by_parent()).fold(ControllerSet::EMPTY, ControllerSet::with);
    let dir = home.dir();
    let own = ControllerSet::parse(&dir.read(CONTROLLERS).unwrap_or_default());
    if USUAL.union(needed).minus(own).is_empty() {
        return Ok(());
    }
    let root = Dir::new(&home.mount);
    let top = root.read(CONTROLLERS).unwrap_or_default();
    let available = ControllerSet::parse(&top);
    if let Some(c) = needed.minus(available).iter().next() {
        return Err(missing(c, Version::V2, &root.file(CONTROLLERS).display().to_string()));
    }
    if available.minus(own).is_empty() {
        return Ok(());
    }
    let mut refusal = None;
    for level in levels(home) {
        level_down(&Dir::new(&level), &top, needed, &mut refusal);
    }
    match refusal {
        // A refusal on the way matters only if it had an effect: a level that cannot be written may have what is needed already.
        Some(e) if !needed.is_empty() => {
            let own = ControllerSet::parse(&dir.read(CONTROLLERS).unwrap_or_default());
            if needed.minus(own).is_empty() { Ok(()) } else { Err(e) }
        }
        _ => Ok(()),
    }
}

/// The ancestors of a cgroup, its root first.
fn levels(home: &Home) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = home.path.ancestors().skip(1).take_while(|p| p.starts_with(&home.mount)).map(Into::into).collect();
    out.reverse();
    out
}

/// Enables `names` in one cgroup: all with one write; where that is refused, those that this cgroup has; where that is refused too,
/// one by one. The first refusal of a needed one is kept.
fn level_down(dir: &Dir<'_>, names: &str, needed: ControllerSet, refusal: &mut Option<Error>) {
    let mut keep = |controller: Option<Controller>, e: Errno| {
        let what = controller.map_or_else(|| "controllers".into(), |c| format!("controller `{}`", c.name(Version::V2)));
        if controller.is_none_or(|c| needed.contains(c)) && refusal.is_none() {
            *refusal = Some(Error::sys(e.raw_os_error(), format!("enable {what} in `{}`", dir.file(SUBTREE).display())));
        }
    };
    let file = match dir.open(SUBTREE, OFlags::WRONLY) {
        Ok(f) => f,
        Err(e) => return keep(None, e),
    };
    if put(file.as_fd(), &plus(names.split_whitespace())).is_ok() {
        return;
    }
    let here = dir.read(CONTROLLERS).unwrap_or_default();
    let list: Vec<&str> = here.split_whitespace().filter(|n| names.split_whitespace().any(|m| m == *n)).collect();
    if list.is_empty() || put(file.as_fd(), &plus(list.iter().copied())).is_ok() {
        return;
    }
    for name in list {
        if let Err(e) = put(file.as_fd(), &plus([name].into_iter())) {
            match Controller::from_name(name) {
                Some(c) => keep(Some(c), e),
                None => tracing::debug!("controller `{name}` cannot be enabled in `{}`: {e}", dir.file(SUBTREE).display()),
            }
        }
    }
}

fn plus<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for name in names {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push('+');
        out.push_str(name);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Directories of plain files stand in for a tree; opening for writing does not truncate, so what was there is first emptied.
    fn tree(top: &str, own: &str) -> (tempfile::TempDir, Home) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        fs::create_dir_all(&path).unwrap();
        for dir in [root.path(), &root.path().join("a")] {
            fs::write(dir.join(CONTROLLERS), top).unwrap();
            fs::write(dir.join(SUBTREE), "").unwrap();
        }
        fs::write(path.join(CONTROLLERS), own).unwrap();
        let home = Home { path, fd: None, controllers: ControllerSet::EMPTY, mount: root.path().into() };
        (root, home)
    }

    fn written(dir: &Path) -> String {
        fs::read_to_string(dir.join(SUBTREE)).unwrap()
    }

    #[test]
    fn everything_available_is_enabled_on_each_level_above() {
        let (root, home) = tree("cpu memory misc\n", "cpu\n");
        enable(&home, ControllerSet::EMPTY).unwrap();
        assert_eq!(written(root.path()), "+cpu +memory +misc");
        assert_eq!(written(&root.path().join("a")), "+cpu +memory +misc");
    }

    #[test]
    fn nothing_is_written_where_everything_is_there() {
        for (top, own) in [("cpu memory\n", "cpu memory\n"), ("", ""), ("misc", "cpuset cpu io memory hugetlb pids\n")] {
            let (root, home) = tree(top, own);
            enable(&home, ControllerSet::EMPTY).unwrap();
            assert_eq!(written(root.path()), "");
        }
    }

    #[test]
    fn a_needed_controller_that_the_root_lacks_is_named_with_the_file() {
        let (root, home) = tree("cpu\n", "cpu\n");
        let e = enable(&home, ControllerSet::of(&[Controller::Memory])).unwrap_err().to_string();
        assert_eq!(e, format!("controller `memory` is not available under {}", root.path().join(CONTROLLERS).display()));
        enable(&home, ControllerSet::of(&[Controller::Core, Controller::Devices])).unwrap();
    }

    #[test]
    fn a_level_that_refuses_is_named_when_it_matters() {
        let (root, home) = tree("cpu memory\n", "cpu\n");
        fs::remove_file(root.path().join(SUBTREE)).unwrap();
        enable(&home, ControllerSet::of(&[Controller::Cpu])).unwrap();
        let e = enable(&home, ControllerSet::of(&[Controller::Memory])).unwrap_err().to_string();
        assert_eq!(e, format!("enable controllers in `{}`: No such file or directory", root.path().join(SUBTREE).display()));
    }
}
