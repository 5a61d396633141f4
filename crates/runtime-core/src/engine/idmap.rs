//! Mounts with an id map of their own: the parent makes them, since that takes rights over the file system. Not here: which map
//! (`plan::idmap`), attaching (`init::mounts`).

use super::attach;
use super::slots::detached;
use crate::error::{Context, Error, Result};
use crate::plan::ids::IdMaps;
use crate::plan::opens::{Idmap, Idmapped, Original};
use crate::plan::step::FsMount;
use crate::sys::{self, Errno, Side};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::{AsRawFd, OwnedFd};

/// The user namespaces that carry maps. Mounts with the same map share one.
pub(crate) struct Namespaces<'a> {
    proc: &'a OwnedFd,
    made: Vec<(Idmap, OwnedFd)>,
}

impl<'a> Namespaces<'a> {
    pub(crate) fn new(proc: &'a OwnedFd) -> Self {
        Self { proc, made: Vec::new() }
    }

    fn of(&mut self, map: &Idmap) -> Result<&OwnedFd> {
        let at = match self.made.iter().position(|(known, _)| known == map) {
            Some(at) => at,
            None => {
                let namespace = match map {
                    Idmap::New(maps) => make(self.proc, maps).map_err(|e| e.context("make a user namespace for the id map"))?,
                    Idmap::Joined(path) => openat(CWD, &**path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                        .context(|| format!("open the user namespace `{path}`"))?,
                };
                self.made.push((map.clone(), namespace));
                self.made.len() - 1
            }
        };
        Ok(&self.made[at].1)
    }

    /// Makes the detached mount.
    ///
    /// # Errors
    /// Names the mount: its source is missing, the map is not acceptable, or the file system cannot show other ids.
    pub(crate) fn mount(&mut self, wanted: &Idmapped) -> Result<OwnedFd> {
        self.try_mount(wanted).map_err(|e| match e.errno() {
            Some(libc::ENOSYS) => e.context("idmapped mounts need mount_setattr (kernel 5.12)"),
            _ => e,
        })
    }

    fn try_mount(&mut self, wanted: &Idmapped) -> Result<OwnedFd> {
        let shown = &wanted.shown;
        let tree = match &wanted.what {
            Original::Bind { path, recursive, link } => {
                detached(path, *recursive, *link).context(|| format!("bind mount `{}` to `{shown}`", path.display()))?
            }
            Original::Fs { fs, attrs } => new_fs(fs, *attrs).context(|| format!("mount `{}` to `{shown}`", fs.fstype.to_string_lossy()))?,
        };
        let fd = tree.as_raw_fd();
        let namespace = self.of(&wanted.map).map_err(|e| e.context(format!("idmapped mount to `{shown}`")))?;
        match sys::set_id_map(fd, wanted.whole_tree, namespace.as_raw_fd()) {
            Err(e @ Errno(libc::EINVAL)) => Err(e)
                .context(|| format!("mount_setattr `{shown}` (maybe the file system used doesn't support idmap mounts on this kernel?)")),
            r => r.context(|| format!("mount_setattr `{shown}`")),
        }?;
        // What happens to the original's mounts in the runtime's namespace stays there.
        let recursive = matches!(wanted.what, Original::Bind { recursive: true, .. });
        sys::mount_setattr(fd, recursive, 0, 0, libc::MS_SLAVE).context(|| format!("mount_setattr `{shown}`"))?;
        Ok(tree)
    }
}

fn new_fs(fs: &FsMount, attrs: u64) -> sys::Result<OwnedFd> {
    let context = sys::new_file_system(&fs.fstype)?;
    let fd = context.as_raw_fd();
    sys::fsconfig_set(fd, c"source", Some(&fs.source))?;
    for (key, value) in &fs.options.pairs {
        sys::fsconfig_set(fd, key, value.as_deref())?;
    }
    sys::fsconfig_create(fd)?;
    sys::detached_mount(&context, attrs)
}

/// A user namespace with these maps and nobody in it: a process makes it, stays until the maps are written, and is reaped.
fn make(proc: &OwnedFd, maps: &IdMaps) -> Result<OwnedFd> {
    let (mine, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context(|| "socketpair")?;
    let flags = libc::CLONE_NEWUSER as u64;
    // No signal tells of its end: the program that embeds the library has not started it.
    let side = match sys::clone3(flags, 0, None) {
        Err(Errno(libc::ENOSYS)) => sys::clone_legacy(flags, 0),
        r => r,
    };
    match side.context(|| "clone")? {
        Side::Child => {
            // The parent's end as this process knows it, or the socket would never be closed.
            sys::close(mine.as_raw_fd());
            let _ = sys::recv(theirs.as_raw_fd(), &mut [0]);
            sys::exit(0)
        }
        Side::Parent(pid) => {
            let made = attach::id_maps(proc, pid, maps).and_then(|()| {
                let path = format!("{pid}/ns/user");
                openat(proc, &*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(|| format!("open `/proc/{path}`"))
            });
            drop(mine);
            match sys::wait4(pid, libc::__WALL) {
                Ok(_) => made,
                Err(e) => made.and_then(|_| Err(Error::sys(e.0, "waitpid"))),
            }
        }
    }
}
