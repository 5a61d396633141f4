//! The descriptors a plan asks its parent to open. Not here: why (`plan::opens`).

use super::hooks;
use super::idmap::Namespaces;
use crate::error::{Context, Error, Result};
use crate::plan::mount_flags::BORROWED_NODE;
use crate::plan::mounts::MASK_ATTRS;
use crate::plan::opens::Open;
use crate::sys::{self, Errno, Together};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

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
    owned: Together,
}

impl Slots {
    /// Has more descriptors closed together with those of the table.
    pub(super) fn and(self, more: impl Iterator<Item = OwnedFd>) -> Together {
        let mut owned = self.owned;
        more.for_each(|fd| owned.add(fd));
        owned
    }
}

/// Opens everything.
///
/// # Errors
/// The first thing that cannot be opened, by name.
pub(crate) fn open(wanted: &[Open], from: &Sources<'_>) -> Result<Slots> {
    let mut slots = Slots { raw: Vec::with_capacity(wanted.len()), owned: Together::default() };
    let mut namespaces = Namespaces::new(from.proc);
    for open in wanted {
        let fd = one(open, from, &mut namespaces)?;
        slots.raw.push(match (&fd, open) {
            (Some(fd), _) => fd.as_raw_fd(),
            (None, Open::Console) => from.console.map_or(-1, AsRawFd::as_raw_fd),
            (None, _) => -1,
        });
        fd.into_iter().for_each(|fd| slots.owned.add(fd));
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
        Open::Tree { path, recursive, link, alone, shown } => {
            let propagation = if *alone { libc::MS_PRIVATE } else { libc::MS_SLAVE };
            where_possible(tree(path, *recursive, *link, propagation)).context(|| format!("bind mount `{}` to `{shown}`", path.display()))
        }
        Open::Idmapped(wanted) => namespaces.mount(wanted).map(Some),
        Open::Cgroup { mount_point, attrs } => {
            let path = format!("{}{}", mount_point.trim_end_matches('/'), from.cgroup);
            let made = c_path(Path::new(&path))
                .and_then(|path| sys::detached_tree_with(&path, false, false, attrs.set, attrs.clear, libc::MS_SLAVE));
            where_possible(made).context(|| format!("bind mount the cgroup `{path}`"))
        }
        Open::RootNamespace { path } => {
            sys::tree_namespace(path).context(|| format!("mount the rootfs `{}`", path.to_string_lossy())).map(Some)
        }
        Open::Sink => openat(CWD, "/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).context(|| "open `/dev/null`").map(Some),
        Open::HookOutput { path, annotation } => hooks::output_file(annotation, path).map(Some),
        Open::InitPidfd => match sys::pidfd(from.init) {
            // Before kernel 5.3, or under a filter: the directory is the process's too, and names no other when that has ended.
            Err(Errno(libc::ENOSYS)) => process_directory(from.proc, from.init),
            r => r.context(|| format!("pidfd_open {}", from.init)),
        }
        .map(Some),
        Open::Console | Open::Late => Ok(None),
    }
}

/// `/proc/PID`.
fn process_directory(proc: &OwnedFd, pid: i32) -> Result<OwnedFd> {
    openat(proc, pid.to_string(), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("open `/proc/{pid}`"))
}

/// The host's null device, verified: it hides files, so nothing else may stand in for it.
fn null() -> Result<Option<OwnedFd>> {
    let what = || "bind mount `/dev/null`";
    // A file has no mounts below, so it does not matter whom the mount shares those with.
    let made = sys::detached_tree_with(c"/dev/null", false, false, BORROWED_NODE, 0, 0);
    let Some(fd) = where_possible(made).context(what)? else { return Ok(None) };
    let st = sys::fstat(fd.as_raw_fd()).context(|| "fstat `/dev/null`")?;
    if st.is_char(1, 3) { Ok(Some(fd)) } else { Err(Error::other("`/dev/null` is not the null device")) }
}

/// The directory of the state directory that stays empty.
fn empty_path(root: &Path) -> PathBuf {
    root.join(".empty-directory")
}

/// Makes it, mode 0555, where it is missing.
///
/// # Errors
/// It cannot be made.
pub(super) fn make_empty_directory(root: &Path) -> Result<PathBuf> {
    let path = empty_path(root);
    match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o555)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(path),
        Err(e) => Err(e).context(|| format!("mkdir `{}`", path.display())),
    }
}

/// A mount of it through which nothing can be done.
fn empty_directory(root: &Path) -> Result<Option<OwnedFd>> {
    let path = empty_path(root);
    let what = || format!("bind mount `{}`", path.display());
    let locked_down = || {
        let path = c_path(&path)?;
        sys::detached_tree_with(&path, false, false, MASK_ATTRS.set, MASK_ATTRS.clear, libc::MS_PRIVATE)
    };
    let made = match locked_down() {
        Err(Errno(libc::ENOENT)) => {
            make_empty_directory(root)?;
            locked_down()
        }
        r => r,
    };
    where_possible(made).context(what)
}

/// Without the calls for detached mounts (ENOSYS: kernels before 5.12, a filter) the child mounts by itself.
fn where_possible(made: sys::Result<OwnedFd>) -> sys::Result<Option<OwnedFd>> {
    match made {
        Err(Errno(libc::ENOSYS)) => Ok(None),
        r => r.map(Some),
    }
}

/// A detached copy of a tree, of which nothing travels to the runtime's namespace.
fn tree(path: &Path, recursive: bool, link: bool, propagation: u64) -> sys::Result<OwnedFd> {
    sys::detached_tree_with(&c_path(path)?, recursive, link, 0, 0, propagation)
}

/// A detached copy of a tree.
pub(super) fn detached(path: &Path, recursive: bool, link: bool) -> sys::Result<OwnedFd> {
    sys::detached_tree(&c_path(path)?, recursive, link)
}

fn c_path(path: &Path) -> sys::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno(libc::EINVAL))
}
