//! A directory of the runtime's own for things that outlive containers, which is believed only if it is ours and no one else's: mode 0700, and
//! the owner is the effective user. So are its files, if they are plain ones of ours that no one else may change. All is looked at
//! through descriptors, never by name again. Not here: what is kept there.

use crate::error::{Context, Error, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat};
use rustix::io::Errno;
use std::fs::File;
use std::io::Error as Io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// An open directory that passed the checks.
#[derive(Debug)]
pub struct PrivateDir {
    fd: OwnedFd,
    owner: u32,
}

impl PrivateDir {
    /// Opens the directory, made with its parents if it is missing.
    ///
    /// # Errors
    /// It is a symbolic link, someone else's, or open to others; or a system call failed.
    pub fn open(path: &Path) -> Result<Self> {
        let owner = rustix::process::geteuid().as_raw();
        let what = || format!("open `{}`", path.display());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat(CWD, path, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                make(path).map_err(Io::from).context(|| format!("create `{}`", path.display()))?;
                openat(CWD, path, flags, Mode::empty())
            }
            r => r,
        };
        let fd = fd.map_err(Io::from).context(what)?;
        let stat = fstat(&fd).map_err(Io::from).context(what)?;
        if stat.st_uid != owner || stat.st_mode & 0o777 != 0o700 {
            return Err(Error::invalid(format!("`{}` must have mode 0700 and belong to user {owner}", path.display())));
        }
        Ok(Self { fd, owner })
    }

    /// Opens a file for reading; `None` where there is none of the name. `others` are the permissions that no one else may have on it.
    ///
    /// # Errors
    /// It is no plain file, someone else's, or open to others; or a system call failed.
    pub fn file(&self, name: &str, others: u32) -> Result<Option<(File, Stat)>> {
        // Without NONBLOCK the open of a fifo would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = match openat(&self.fd, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            r => r.map_err(Io::from).context(|| format!("open `{name}`"))?,
        };
        let stat = fstat(&fd).map_err(Io::from).context(|| format!("stat `{name}`"))?;
        let plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !plain || stat.st_uid != self.owner || stat.st_mode & others != 0 {
            return Err(not_ours(name));
        }
        Ok(Some((fd.into(), stat)))
    }
}

/// The error about a file that cannot be one of ours.
pub fn not_ours(name: &str) -> Error {
    Error::invalid(format!("`{name}` is no file of ours"))
}

impl AsFd for PrivateDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes the directory and its parents, each only for us; an umask can only take away more, which [`PrivateDir::open`] notices.
fn make(path: &Path) -> std::result::Result<(), Errno> {
    let one = || match mkdirat(CWD, path, Mode::RWXU) {
        Err(Errno::EXIST) => Ok(()),
        r => r,
    };
    match one() {
        Err(Errno::NOENT) => {
            make(path.parent().filter(|p| !p.as_os_str().is_empty()).ok_or(Errno::NOENT)?)?;
            one()
        }
        r => r,
    }
}
