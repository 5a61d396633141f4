//! The mounts of a container that comes back: what of them is the host's, and what its root file system needs for them. Not here: the rest
//! of a restore.

use super::{images, slots};
use crate::api::ExternalMount;
use crate::error::{Context, Error, Result};
use crate::plan::external::{self, Content, External};
use crate::plan::mount_flags::BORROWED_NODE;
use crate::plan::step::{Attrs, Step};
use crate::state::notify;
use crate::sys::{self, Errno};
use rustix::fs::{CWD, FileType, Mode, OFlags, mkdirat, openat};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Where the root file system is mounted meanwhile, in the container's state directory.
pub(super) const ROOT: &str = "criu-root";
/// And what was not dumped.
const MOUNTS: &str = "criu-mounts";
/// The name by which runc finds what it hides files with.
const NULL: &str = "/dev/null";

/// Attributes of what shows it.
const NODE: Attrs = Attrs { set: BORROWED_NODE, clear: 0 };

/// What there is on the host for a container.
pub(super) struct Host<'a> {
    /// The runtime's state directory.
    pub root: &'a Path,
    /// The container's.
    pub state: &'a Path,
    pub rootfs: &'a Path,
    /// Its cgroup, below each hierarchy's root.
    pub cgroup: &'a str,
}

/// A mount that was not dumped.
pub(super) struct Wanted {
    /// Its name in the images.
    name: String,
    /// What of the host it shows.
    path: String,
    recursive: bool,
    /// Mounts below it, relative to it, which have its name with that behind it.
    below: Vec<String>,
    /// What is set on it and on those below it.
    attrs: Option<(Attrs, Attrs)>,
}

impl Wanted {
    fn plain(name: &str, path: &str) -> Self {
        Self { name: name.to_owned(), path: path.to_owned(), recursive: false, below: Vec::new(), attrs: None }
    }
}

impl Host<'_> {
    /// What takes the place of mounts that were not dumped. Names that no mount has are of no consequence.
    ///
    /// # Errors
    /// A path is not UTF-8, or the empty directory cannot be made.
    pub(super) fn wanted(&self, steps: &[Step]) -> Result<Vec<Wanted>> {
        let all = external::compile(steps)?;
        let table = std::fs::read_to_string("/proc/self/mountinfo").context(|| "read `/proc/self/mountinfo`")?;
        let mut found = Vec::new();
        for external in &all {
            let mut wanted = Wanted { recursive: false, below: Vec::new(), ..Wanted::plain(&external.dest, NULL) };
            match &external.content {
                Content::Path { path, recursive } => {
                    wanted.path.clone_from(path);
                    wanted.recursive = *recursive;
                    wanted.below = if *recursive { images::below(&table, path) } else { Vec::new() };
                }
                Content::Cgroup(mount_point) => wanted.path = format!("{mount_point}{}", self.cgroup),
                Content::Mask if self.hides_directory(&external.dest, &all) => {
                    wanted.path = text(&slots::make_empty_directory(self.root)?)?
                }
                Content::Mask => {}
            }
            wanted.attrs = Some((if wanted.path == NULL { NODE } else { external.attrs }, external.tree_attrs));
            found.push(wanted);
        }
        found.push(Wanted::plain(images::NOTIFY, &text(&self.state.join(notify::NAME))?));
        if !found.iter().any(|m| m.name == NULL) {
            found.push(Wanted { attrs: Some((NODE, Attrs::default())), ..Wanted::plain(NULL, NULL) });
        }
        Ok(found)
    }

    /// Whether a masked path is a directory. The file systems that are hidden in parts are the kernel's, and are the same on the host;
    /// others are where the configuration says.
    fn hides_directory(&self, dest: &str, all: &[External]) -> bool {
        if ["/proc/", "/sys/"].iter().any(|kernels| dest.starts_with(kernels)) {
            return Path::new(dest).is_dir();
        }
        let within = |external: &&External| dest.strip_prefix(&*external.dest).is_some_and(|rest| rest.starts_with('/'));
        match all.iter().rfind(within) {
            Some(External { dest: outer, content: Content::Path { path, .. }, .. }) => {
                Path::new(&format!("{path}{}", &dest[outer.len()..])).is_dir()
            }
            _ => self.rootfs.join(images::resolve(self.rootfs, dest).trim_start_matches('/')).is_dir(),
        }
    }
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| Error::invalid(format!("`{}` is not UTF-8", path.display())))
}

/// A mount namespace in which the root file system is a mount, as what restores wants it, and what was not dumped is mounted as the
/// container is to have it. Nothing of it is left on the host, whatever happens.
pub(super) struct Surroundings {
    namespace: OwnedFd,
    /// What was not dumped.
    pub mounts: Vec<ExternalMount>,
}

impl Surroundings {
    /// Makes it, with `rootfs` mounted at [`ROOT`] in the container's state directory; `within` is done in it, in a thread of its own.
    ///
    /// # Errors
    /// Names the mount; `within`'s.
    pub(super) fn make<R: Send>(host: &Host<'_>, wanted: Vec<Wanted>, within: impl FnOnce() -> Result<R> + Send) -> Result<(Self, R)> {
        let work = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).context(|| "unshare the mount namespace")?;
            let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
            mount_change("/", slave).context(|| "make `/` a slave of the host's mounts")?;
            let at = host.state.join(ROOT);
            let what = || format!("bind mount `{}` to `{}`", host.rootfs.display(), at.display());
            rustix::fs::mkdir(&at, Mode::RWXU).context(what)?;
            mount_bind_recursive(host.rootfs, &at).context(what)?;
            mount_change(&at, MountPropagationFlags::PRIVATE).context(what)?;
            let mounts = prepare(&host.state.join(MOUNTS), wanted)?;
            let file = "/proc/thread-self/ns/mnt";
            let namespace = openat(CWD, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(|| format!("open `{file}`"))?;
            Ok((Self { namespace, mounts }, within()?))
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("mounts".into());
            let thread = thread.spawn_scoped(scope, work).context(|| "start a thread for the mounts")?;
            thread.join().unwrap_or_else(|_| Err(Error::other("the thread for the mounts ended")))
        })
    }

    /// The directories that it was mounted at have done their duty; the mounts themselves go with the namespace.
    pub(super) fn clear(state: &Path) {
        for name in [ROOT, MOUNTS] {
            // They are in nobody's way.
            let _ = rustix::fs::rmdir(state.join(name));
        }
    }

    /// Takes the calling thread there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn enter(&self) -> Result<()> {
        use nix::sched::{CloneFlags, setns, unshare};
        // Working directory and root are shared with the other threads before.
        unshare(CloneFlags::CLONE_FS).context(|| "unshare the working directory")?;
        setns(&self.namespace, CloneFlags::CLONE_NEWNS).context(|| "join the mount namespace for CRIU")
    }
}

/// Mounts what is wanted, each at a place of its own below `at`. CRIU (4.1) takes two mounts of one file system for copies of each other
/// and sets the flags of the first only; a copy of a mount that has them has them, too.
fn prepare(at: &Path, wanted: Vec<Wanted>) -> Result<Vec<ExternalMount>> {
    let what = || format!("mount a tmpfs at `{}`", at.display());
    rustix::fs::mkdir(at, Mode::RWXU).context(what)?;
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), c"mode=700").context(what)?;
    let mut found = Vec::new();
    for (i, m) in wanted.into_iter().enumerate() {
        let mut path = m.path;
        if let Some(attrs) = m.attrs {
            let place = at.join(i.to_string());
            copy(&path, &place, m.recursive, attrs).context(|| format!("bind mount `{path}` to `{}`", m.name))?;
            path = text(&place)?;
        }
        found.extend(m.below.iter().map(|rest| ExternalMount { name: format!("{}{rest}", m.name), path: format!("{path}{rest}") }));
        found.push(ExternalMount { name: m.name, path });
    }
    Ok(found)
}

/// A bind mount with attributes. That it follows the host's mounts is left as it is: so does the container's, or CRIU cuts it off.
fn copy(from: &str, to: &Path, recursive: bool, (own, tree): (Attrs, Attrs)) -> sys::Result<()> {
    if FileType::from_raw_mode(rustix::fs::stat(from)?.st_mode).is_dir() {
        rustix::fs::mkdir(to, Mode::RWXU)?;
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        openat(CWD, to, flags, Mode::RUSR)?;
    }
    let made = if recursive { mount_bind_recursive(from, to) } else { mount_bind(from, to) };
    made?;
    let fd = openat(CWD, to, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let set = |recursive, attrs: Attrs| sys::mount_setattr(fd.as_raw_fd(), recursive, attrs.set, attrs.clear, 0);
    match set(recursive, tree).and_then(|()| set(false, own)) {
        // Before kernel 5.12 it is left to CRIU.
        Err(Errno(libc::ENOSYS)) => Ok(()),
        r => r,
    }
}

/// Makes the mount points that a root file system lacks: one that was copied without the container's mounts has never seen them.
///
/// # Errors
/// Names the mount point.
pub(super) fn make_points(rootfs: &Path, steps: &[Step]) -> Result<()> {
    let root = openat(CWD, rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("open the rootfs path `{}`", rootfs.display()))?;
    for (dest, source) in external::mount_points(steps) {
        let file = source.is_some_and(|path| Path::new(&path).metadata().is_ok_and(|m| !m.is_dir()));
        make_point(&root, &images::resolve(rootfs, &dest), file).context(|| format!("make the mount point `{dest}`"))?;
    }
    Ok(())
}

/// `path` has no symbolic links; that one may come in between makes no difference, since none leads out of `root`.
fn make_point(root: &OwnedFd, path: &str, file: bool) -> sys::Result<()> {
    let inside = |path: &str| {
        let path = CString::new(path).map_err(|_| Errno(libc::EINVAL))?;
        sys::inside_root(root, &path, libc::O_PATH)
    };
    let path = path.trim_matches('/');
    let ends = path.match_indices('/').map(|(i, _)| i).chain([path.len()]);
    for end in ends {
        let here = &path[..end];
        match inside(here) {
            Ok(_) => continue,
            Err(Errno(libc::ENOENT)) => {}
            Err(e) => return Err(e),
        }
        let (above, name) = here.rsplit_once('/').unwrap_or(("", here));
        let dir = inside(above)?;
        let made = if file && end == path.len() {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&dir, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        } else {
            mkdirat(&dir, name, Mode::from_raw_mode(0o755))
        };
        match made {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_made_inside_and_of_the_right_kind() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/there"), "x").unwrap();
        std::os::unix::fs::symlink("/../../out", root.join("link")).unwrap();
        let fd = openat(CWD, &root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        for (path, file) in [("/a/b/c", false), ("/etc/hosts", true), ("/etc/there", true), ("/", false), ("/link/x", false)] {
            make_point(&fd, &images::resolve(&root, path), file).unwrap();
        }
        assert!(root.join("a/b/c").is_dir() && root.join("etc/hosts").is_file() && root.join("out/x").is_dir());
        assert_eq!(std::fs::read_to_string(root.join("etc/there")).unwrap(), "x");
        assert!(!dir.path().join("out").exists());
    }
}
