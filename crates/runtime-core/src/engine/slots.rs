//! The descriptors a plan asks its parent to open. Not here: why (`plan::opens`).

use super::hooks;
use super::idmap::Namespaces;
use crate::error::{Context, Error, Result};
use crate::plan::mounts::MASK_ATTRS;
use crate::plan::opens::Open;
use crate::sys::{self, Errno};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

/// What the opened things depend on.
pub(crate) struct Sources<'a> {
    /// A trusted procfs.
    pub proc: &'a OwnedFd,
    /// State directory of the runtime, where the empty directory lives.
    pub root: &'a Path,
    /// Path of the container's cgroup below each hierarchy.
    pub cgroup: &'a str,
    /// The socket the terminal goes to.
    pub console: Option<&'a OwnedFd>,
    /// First process of the container that is joined.
    pub init: i32,
}

/// The table as the child uses it, and the owners that keep it open.
pub(crate) struct Slots {
    pub raw: Vec<RawFd>,
    _owned: Vec<OwnedFd>,
}

/// Opens everything.
///
/// # Errors
/// The first thing that cannot be opened, by name.
pub(crate) fn open(wanted: &[Open], from: &Sources<'_>) -> Result<Slots> {
    let mut slots = Slots { raw: Vec::with_capacity(wanted.len()), _owned: Vec::new() };
    let mut namespaces = Namespaces::new(from.proc);
    for open in wanted {
        let fd = one(open, from, &mut namespaces)?;
        slots.raw.push(match (&fd, open) {
            (Some(fd), _) => fd.as_raw_fd(),
            (None, Open::Console) => from.console.map_or(-1, AsRawFd::as_raw_fd),
            (None, _) => -1,
        });
        slots._owned.extend(fd);
    }
    Ok(slots)
}

fn one(open: &Open, from: &Sources<'_>, namespaces: &mut Namespaces<'_>) -> Result<Option<OwnedFd>> {
    match open {
        Open::Namespace { kind, path } => openat(CWD, &**path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .context(|| format!("open the {kind} namespace `{path}`"))
            .map(Some),
        Open::Null => null(),
        Open::EmptyDirectory => empty_directory(from.root),
        Open::Tree { path, recursive, link, shown } => {
            where_possible(tree(path, *recursive, *link)).context(|| format!("bind mount `{}` to `{shown}`", path.display()))
        }
        Open::Idmapped(wanted) => namespaces.mount(wanted).map(Some),
        Open::Cgroup { mount_point } => {
            let path = format!("{}{}", mount_point.trim_end_matches('/'), from.cgroup);
            where_possible(tree(Path::new(&path), false, false)).context(|| format!("bind mount the cgroup `{path}`"))
        }
        Open::Sink => openat(CWD, "/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).context(|| "open `/dev/null`").map(Some),
        Open::HookOutput { path, annotation } => hooks::output_file(annotation, path).map(Some),
        Open::InitPidfd => sys::pidfd(from.init).context(|| format!("pidfd_open {}", from.init)).map(Some),
        Open::Console | Open::Late => Ok(None),
    }
}

/// The host's null device, verified: it hides files, so nothing else may stand in for it.
fn null() -> Result<Option<OwnedFd>> {
    let what = || "bind mount `/dev/null`";
    // A file has no mounts below, so it does not matter whom the mount shares those with.
    let Some(fd) = where_possible(sys::detached_tree(c"/dev/null", false, false)).context(what)? else { return Ok(None) };
    let st = sys::fstat(fd.as_raw_fd()).context(|| "fstat `/dev/null`")?;
    if st.is_char(1, 3) { Ok(Some(fd)) } else { Err(Error::other("`/dev/null` is not the null device")) }
}

/// A mount of `.empty-directory` in the state directory, mode 0555, through which nothing can be done.
fn empty_directory(root: &Path) -> Result<Option<OwnedFd>> {
    let path = root.join(".empty-directory");
    let what = || format!("bind mount `{}`", path.display());
    let fd = match detached(&path, false, false) {
        Err(Errno(libc::ENOENT)) => {
            match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o555)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(e).context(|| format!("mkdir `{}`", path.display())),
            }
            detached(&path, false, false)
        }
        r => r,
    };
    let locked_down = |fd: OwnedFd| {
        sys::mount_setattr(fd.as_raw_fd(), false, MASK_ATTRS.set, MASK_ATTRS.clear, libc::MS_PRIVATE)?;
        Ok(fd)
    };
    where_possible(fd.and_then(locked_down)).context(what)
}

/// Without the calls for detached mounts (ENOSYS: kernels before 5.12, a filter) the child mounts by itself.
fn where_possible(made: sys::Result<OwnedFd>) -> sys::Result<Option<OwnedFd>> {
    match made {
        Err(Errno(libc::ENOSYS)) => Ok(None),
        r => r.map(Some),
    }
}

/// A detached copy of a tree, cut off from what happens to its origin's mounts in the runtime's namespace.
fn tree(path: &Path, recursive: bool, link: bool) -> sys::Result<OwnedFd> {
    let fd = detached(path, recursive, link)?;
    sys::mount_setattr(fd.as_raw_fd(), recursive, 0, 0, libc::MS_SLAVE)?;
    Ok(fd)
}

/// A detached copy of a tree.
pub(super) fn detached(path: &Path, recursive: bool, link: bool) -> sys::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| sys::Errno(libc::EINVAL))?;
    sys::detached_tree(&path, recursive, link)
}
