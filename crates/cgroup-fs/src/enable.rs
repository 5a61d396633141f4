//! Enabling controllers along the path to a v2 cgroup (cgroup-v2.rst, "Enabling and Disabling"). Not here: v1, limits.

use crate::apply::{gone, missing};
use crate::controller::{Controller, ControllerSet, Version};
use crate::files::{Dir, put};
use crate::homes::Home;
use runtime_core::{Error, ErrorKind, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::path::{Path, PathBuf};

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
/// ``controller `X` is not available under DIR/cgroup.controllers``, with the reason and, where rights are missing, how to delegate it.
pub(crate) fn enable(home: &Home, needed: ControllerSet, spent: &mut Vec<OwnedFd>) -> Result<()> {
    let needed = needed.iter().filter(|c| c.is_enabled_by_parent()).fold(ControllerSet::EMPTY, ControllerSet::with);
    let dir = home.dir();
    let own = match dir.read_on(CONTROLLERS, spent) {
        Err(Errno::NOENT | Errno::NODEV) => return Err(gone(&dir)),
        other => ControllerSet::parse(&other.unwrap_or_default()),
    };
    if USUAL.union(needed).minus(own).is_empty() {
        return Ok(());
    }
    let root = Dir::new(&home.mount);
    let top = root.read_on(CONTROLLERS, spent).unwrap_or_default();
    let available = ControllerSet::parse(&top);
    if let Some(c) = needed.minus(available).iter().next() {
        return Err(missing(c, Version::V2, &root.file(CONTROLLERS)));
    }
    if available.minus(own).is_empty() {
        return Ok(());
    }
    let mut refusals = Vec::new();
    let levels = levels(home);
    for level in &levels {
        level_down(&Dir::new(level), &top, needed, &mut refusals);
    }
    // A refusal on the way matters only if it had an effect: a level that cannot be written may have what is needed already.
    if needed.is_empty() || refusals.is_empty() {
        return Ok(());
    }
    let own = ControllerSet::parse(&dir.read(CONTROLLERS).unwrap_or_default());
    match needed.minus(own).iter().next() {
        Some(c) => Err(not_enabled(c, home, &levels, &refusals)),
        None => Ok(()),
    }
}

/// Which controller is missing in which file, why, and how to have it.
fn not_enabled(controller: Controller, home: &Home, levels: &[PathBuf], refusals: &[Refusal]) -> Error {
    let lacks = |p: &PathBuf| !ControllerSet::parse(&Dir::new(p).read(CONTROLLERS).unwrap_or_default()).contains(controller);
    let below = levels.iter().chain([&home.path]).skip(1).find(|p| lacks(p)).unwrap_or(&home.path);
    let above = below.parent().unwrap_or(&home.mount);
    let errno = refusals.iter().find(|r| r.level == above && r.of.is_none_or(|c| c == controller)).map(|r| r.errno);
    let name = controller.name(Version::V2);
    let place = Dir::new(above).file(SUBTREE);
    let text = format!("controller `{name}` is not available under {}: ", Dir::new(below).file(CONTROLLERS).display());
    match errno {
        Some(Errno::BUSY) => {
            let why = format!("`{}` has processes of its own, and so takes no `+{name}` in `{}`", above.display(), place.display());
            Error::sys(libc::EBUSY, text + &why)
        }
        Some(e @ (Errno::ACCESS | Errno::PERM | Errno::ROFS)) => Error::sys(e.raw_os_error(), text + &delegation(name, &home.path, &place)),
        Some(e) => Error::sys(e.raw_os_error(), format!("{text}enable it in `{}`", place.display())),
        None => Error::new(ErrorKind::Unsupported, format!("{text}it went away again, or `{}` never had it", place.display())),
    }
}

/// How a controller comes to a user.
fn delegation(name: &str, path: &Path, place: &Path) -> String {
    let service = |part: &std::ffi::OsStr| part.to_str().is_some_and(|n| n.starts_with("user@") && n.ends_with(".service"));
    let Some(unit) = path.iter().find(|part| service(part)) else {
        return format!("it is not delegated; `+{name}` in `{}` would do that, or `Delegate={name}` of the unit above", place.display());
    };
    let usual = "cpu cpuset io memory pids";
    let more = if usual.split(' ').any(|n| n == name) { String::new() } else { format!(" {name}") };
    format!(
        "it is not delegated to the user; `systemctl edit user@.service` with `[Service]` and `Delegate={usual}{more}`, then \
         `systemctl restart {}`, does that (`+{name}` in `{}`)",
        unit.display(),
        place.display()
    )
}

/// A write that did not succeed.
struct Refusal {
    level: PathBuf,
    /// `None` for all.
    of: Option<Controller>,
    errno: Errno,
}

/// The ancestors of a cgroup, its root first.
fn levels(home: &Home) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = home.path.ancestors().skip(1).take_while(|p| p.starts_with(&home.mount)).map(Into::into).collect();
    out.reverse();
    out
}

/// Enables `names` in one cgroup: all with one write; where that is refused, those that this cgroup has; where that is refused too,
/// one by one. Refusals of needed ones are kept.
fn level_down(dir: &Dir<'_>, names: &str, needed: ControllerSet, refusals: &mut Vec<Refusal>) {
    let mut keep = |of: Option<Controller>, errno: Errno| {
        if of.is_none_or(|c| needed.contains(c)) {
            refusals.push(Refusal { level: dir.path.to_owned(), of, errno });
        }
    };
    let file = match dir.open(SUBTREE, OFlags::WRONLY) {
        Ok(f) => f,
        Err(e) => return keep(None, e),
    };
    match put(file.as_fd(), &plus(names.split_whitespace())) {
        Ok(()) => return,
        // It has processes. Those controllers that it might enable all the same would make it threaded, and its children no place for
        // processes (cgroup-v2.rst, "Threads").
        Err(Errno::BUSY) => return keep(None, Errno::BUSY),
        Err(_) => {}
    }
    let here = dir.read(CONTROLLERS).unwrap_or_default();
    let list: Vec<&str> = here.split_whitespace().filter(|n| names.split_whitespace().any(|m| m == *n)).collect();
    match if list.is_empty() { Ok(()) } else { put(file.as_fd(), &plus(list.iter().copied())) } {
        Ok(()) => return,
        Err(Errno::BUSY) => return keep(None, Errno::BUSY),
        Err(_) => {}
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
        enable(&home, ControllerSet::EMPTY, &mut Vec::new()).unwrap();
        assert_eq!(written(root.path()), "+cpu +memory +misc");
        assert_eq!(written(&root.path().join("a")), "+cpu +memory +misc");
    }

    #[test]
    fn nothing_is_written_where_everything_is_there() {
        for (top, own) in [("cpu memory\n", "cpu memory\n"), ("", ""), ("misc", "cpuset cpu io memory hugetlb pids\n")] {
            let (root, home) = tree(top, own);
            enable(&home, ControllerSet::EMPTY, &mut Vec::new()).unwrap();
            assert_eq!(written(root.path()), "");
        }
    }

    #[test]
    fn a_needed_controller_that_the_root_lacks_is_named_with_the_file() {
        let (root, home) = tree("cpu\n", "cpu\n");
        let e = enable(&home, ControllerSet::of(&[Controller::Memory]), &mut Vec::new()).unwrap_err().to_string();
        assert_eq!(e, format!("controller `memory` is not available under {}", root.path().join(CONTROLLERS).display()));
        enable(&home, ControllerSet::of(&[Controller::Core, Controller::Devices]), &mut Vec::new()).unwrap();
    }

    #[test]
    fn a_level_that_refuses_is_named_when_it_matters() {
        let (root, home) = tree("cpu memory\n", "cpu\n");
        fs::remove_file(root.path().join(SUBTREE)).unwrap();
        fs::write(root.path().join("a").join(CONTROLLERS), "cpu\n").unwrap();
        enable(&home, ControllerSet::of(&[Controller::Cpu]), &mut Vec::new()).unwrap();
        let e = enable(&home, ControllerSet::of(&[Controller::Memory]), &mut Vec::new()).unwrap_err().to_string();
        let dir = root.path().display();
        let wanted = format!(
            "controller `memory` is not available under {dir}/a/cgroup.controllers: enable it in `{dir}/cgroup.subtree_control`: \
             No such file or directory"
        );
        assert_eq!(e, wanted);
    }

    #[test]
    fn the_reason_and_the_remedy_are_told() {
        let told = |dirs: [&str; 2], errno: Errno| {
            let root = tempfile::tempdir().unwrap();
            let mount = root.path().to_owned();
            let (above, below) = (mount.join(dirs[0]), mount.join(dirs[0]).join(dirs[1]));
            fs::create_dir_all(below.join("c")).unwrap();
            for dir in [&mount, &above] {
                fs::write(dir.join(CONTROLLERS), "cpu\n").unwrap();
            }
            let home = Home { path: below.join("c"), fd: None, controllers: ControllerSet::EMPTY, mount: mount.clone() };
            let levels = levels(&home);
            let refusals = [mount.clone(), above].map(|level| Refusal { level, of: None, errno });
            not_enabled(Controller::Cpu, &home, &levels, &refusals).to_string().replace(&mount.display().to_string(), "")
        };
        assert_eq!(
            told(["user-7.slice", "user@7.service"], Errno::ACCESS),
            "controller `cpu` is not available under /user-7.slice/user@7.service/cgroup.controllers: it is not delegated to the user; \
             `systemctl edit user@.service` with `[Service]` and `Delegate=cpu cpuset io memory pids`, then \
             `systemctl restart user@7.service`, does that (`+cpu` in `/user-7.slice/cgroup.subtree_control`): Permission denied"
        );
        assert_eq!(
            told(["a", "b"], Errno::PERM),
            "controller `cpu` is not available under /a/b/cgroup.controllers: it is not delegated; `+cpu` in `/a/cgroup.subtree_control` \
             would do that, or `Delegate=cpu` of the unit above: Operation not permitted"
        );
        assert_eq!(
            told(["a", "b"], Errno::BUSY),
            "controller `cpu` is not available under /a/b/cgroup.controllers: `/a` has processes of its own, and so takes no `+cpu` in \
             `/a/cgroup.subtree_control`: Device or resource busy"
        );
    }
}
