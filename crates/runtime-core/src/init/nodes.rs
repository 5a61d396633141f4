//! Device nodes and links of the container. Not here: bind mounts of the configuration.

use super::{Child, Done, Fail, classic::Change, done_with, resolve, wire::Code};
use crate::plan::mount_flags::BORROWED_NODE;
use crate::plan::step::DeviceStep;
use crate::sys::{self, Errno};
use std::ffi::CStr;
use std::os::fd::RawFd;

impl Child<'_> {
    pub(super) fn device(&mut self, d: &DeviceStep) -> Done {
        let (dir, name) = self.place(&d.dest)?;
        if let Some(source) = &d.bind {
            return self.with_fallback(|c| c.bind_device(dir, name, source, d));
        }
        match sys::mknodat(dir, name, d.mode, d.rdev) {
            Ok(()) if d.uid != 0 || d.gid != 0 => Ok(sys::fchownat(dir, name, d.uid, d.gid, 0)?),
            Ok(()) => Ok(()),
            Err(Errno(libc::EEXIST)) => {
                let there = sys::fstatat(dir, name, libc::AT_SYMLINK_NOFOLLOW)?;
                if same_node(&there, d) { Ok(()) } else { Err(Fail::new(libc::EEXIST, Code::WrongType)) }
            }
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn symlink(&mut self, target: &CStr, dest: &CStr) -> Done {
        let (dir, name) = self.place(dest)?;
        match sys::symlinkat(target, dir, name) {
            // A read-only or foreign /dev keeps what it has.
            Ok(()) | Err(Errno(libc::EEXIST | libc::EROFS)) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// The directory of an entry, and its name. `/dev` is opened once: all mounts are made by now.
    fn place<'p>(&mut self, dest: &'p CStr) -> Result<(RawFd, &'p CStr), Fail> {
        if self.dev.is_none() && dest.to_bytes().starts_with(b"dev/") {
            self.dev = Some(resolve::ensure_dir(self.root, c"dev", false)?);
        }
        self.in_dev(dest).map_or_else(|| resolve::parent(self.root, dest), Ok)
    }

    /// `/dev`, where it is open, and the name of an entry right in it.
    pub(super) fn in_dev<'p>(&self, dest: &'p CStr) -> Option<(RawFd, &'p CStr)> {
        self.dev.zip(resolve::below(dest, b"dev/").filter(|name| !name.to_bytes().contains(&b'/')))
    }

    /// A user namespace cannot make device nodes: the host's is bound over an empty file.
    fn bind_device(&mut self, dir: RawFd, name: &CStr, source: &CStr, d: &DeviceStep) -> Done {
        let target = match resolve::make_file(dir, name) {
            Err(Errno(libc::EEXIST)) => {
                let fd = sys::openat(dir, name, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
                let there = sys::fstat(fd)?;
                if same_node(&there, d) {
                    return Ok(());
                }
                if !there.is_regular() {
                    return Err(Fail::new(libc::EEXIST, Code::WrongType));
                }
                fd
            }
            r => r?,
        };
        let tree = self.tree(libc::AT_FDCWD, source, false, false)?;
        if !same_node(&sys::fstat(tree)?, d) {
            return Err(Fail::new(libc::ENODEV, Code::WrongType));
        }
        self.change(tree, false, Change { set: BORROWED_NODE, ..Change::default() })?;
        self.attach(tree, target)?;
        done_with(tree);
        done_with(target);
        Ok(())
    }
}

fn same_node(there: &sys::Stat, d: &DeviceStep) -> bool {
    let fifo = d.mode & libc::S_IFMT == libc::S_IFIFO;
    there.mode & libc::S_IFMT == d.mode & libc::S_IFMT && (fifo || there.rdev == d.rdev)
}
