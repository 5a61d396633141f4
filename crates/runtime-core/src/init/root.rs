//! The container's root: its mount, and the change to it. Not here: what is mounted on it.

use super::{Child, Done, Fail, classic::Change, resolve::PathBuffer, wire::Code};
use crate::plan::step::Pivot;
use crate::sys::{self, Errno};
use std::ffi::CStr;
use std::os::fd::RawFd;

/// MOUNT_ATTR_RDONLY.
pub(super) const READ_ONLY: u64 = 1;

impl Child<'_> {
    /// The root becomes a mount of its own, attached over the directory it came from: pivot_root wants a mount point, and the descriptor of
    /// the new mount is what every later step starts from.
    pub(super) fn root_mount(&mut self, path: &CStr, private_parents: bool) -> Done {
        if private_parents {
            make_parent_private(path)?;
        }
        self.root = self.with_fallback(|c| {
            let tree = c.tree(libc::AT_FDCWD, path, true, false)?;
            if private_parents {
                c.change(tree, true, Change { propagation: libc::MS_PRIVATE, ..Change::default() })?;
            }
            if c.classic {
                let target = sys::openat(libc::AT_FDCWD, path, libc::O_PATH | libc::O_DIRECTORY, 0)?;
                c.attach(tree, target)?;
            } else {
                sys::move_mount_to_path(tree, path)?;
            }
            Ok(tree)
        })?;
        Ok(())
    }

    /// Goes where the root is the container's already: nothing of the host is mounted there that would have to go. From here on host paths
    /// lead nowhere.
    pub(super) fn root_namespace(&mut self, path: &CStr, namespace: RawFd) -> Done {
        let wanted = sys::fstatat(libc::AT_FDCWD, path, 0)?;
        // It takes the root and the working directory along (setns(2)).
        sys::setns(namespace, libc::CLONE_NEWNS as u64)?;
        self.root_directory(c"/")?;
        if sys::fstat(self.root)? != wanted {
            return Err(Fail::new(libc::EXDEV, Code::Unsafe));
        }
        // The copy is a peer of its original, where that is shared.
        Ok(sys::mount_setattr(self.root, true, 0, 0, libc::MS_PRIVATE)?)
    }

    pub(super) fn root_directory(&mut self, path: &CStr) -> Done {
        self.root = sys::openat(libc::AT_FDCWD, path, libc::O_PATH | libc::O_DIRECTORY, 0)?;
        Ok(())
    }

    pub(super) fn go_to_root(&mut self) -> Done {
        if std::mem::take(&mut self.lives_in_proc) {
            sys::fchdir(self.root)?;
        }
        Ok(())
    }

    pub(super) fn pivot(&mut self, how: Pivot, propagation: u64) -> Done {
        sys::fchdir(self.root)?;
        self.lives_in_proc = false;
        match how {
            Pivot::Root => {
                let old = match propagation {
                    libc::MS_SHARED => Some(sys::openat(libc::AT_FDCWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?),
                    _ => None,
                };
                sys::pivot_root(c".", c".")?;
                if let Some(old) = old {
                    // Else the unmount below would travel to the host. A path that ends in `.` names the new root here, which the old one
                    // is stacked on.
                    sys::fchdir(old)?;
                    sys::mount(None, c".", None, libc::MS_SLAVE | libc::MS_REC, None)?;
                    sys::close(old);
                }
                // The old root is stacked on the new one for a moment, and umount2 takes the topmost (pivot_root(2), NOTES). What the
                // working directory is then is the new root.
                sys::umount2(c".", libc::MNT_DETACH)?;
            }
            Pivot::Move => {
                sys::mount(Some(c"."), c"/", None, libc::MS_MOVE, None)?;
                sys::chroot(c".")?;
            }
            Pivot::Chroot => sys::chroot(c".")?,
        }
        if how != Pivot::Root || propagation == libc::MS_SHARED {
            sys::chdir(c"/")?;
        }
        // What is the root now must be the mount that was prepared.
        if sys::fstatat(libc::AT_FDCWD, c"/", 0)? != sys::fstat(self.root)? {
            return Err(Fail::new(libc::EXDEV, Code::Unsafe));
        }
        if how != Pivot::Chroot && propagation & (libc::MS_SHARED | libc::MS_UNBINDABLE) != 0 {
            sys::mount(None, c"/", None, propagation, None)?;
        }
        Ok(())
    }
}

/// pivot_root refuses a new root whose parent mount is shared. Which mount that is shows in trying: only a mount point takes the flag.
#[inline(never)]
fn make_parent_private(path: &CStr) -> Done {
    let bytes = path.to_bytes();
    let mut prefix = PathBuffer::new();
    let mut end = bytes.len();
    loop {
        prefix.set(&[&bytes[..end.max(1)]])?;
        match sys::mount(None, prefix.as_c_str(), None, libc::MS_PRIVATE, None) {
            Err(Errno(libc::EINVAL)) if end > 0 => end = bytes[..end].iter().rposition(|b| *b == b'/').unwrap_or(0),
            r => return Ok(r?),
        }
    }
}
