//! A container's directory and its files, all reached through one descriptor. Not here: which directories there are (`store`).

use super::{Record, process};
use crate::api::CgroupRecord;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::sys::Together;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, readlinkat, renameat, symlinkat, unlinkat};
use rustix::io::Errno;
use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const STATUS: &str = "status";
const STATUS_TMP: &str = "status.tmp";
/// What the target of a note begins with; no such file is ever there.
const NOTE: &str = "in-the-making:";
const CONFIG: &str = "config.json";
/// Larger than any configuration that starts (the kernel's limit on arguments is 6 MiB); a file that grew beyond it is damaged.
const MAX_FILE: u64 = 64 << 20;

/// The directory of one container. One that was just made removes itself when dropped, unless [`keep`](Self::keep) is called.
pub(crate) struct ContainerDir {
    fd: OwnedFd,
    path: PathBuf,
    id: ContainerId,
    temporary: bool,
    /// Files that are done with, to be closed with the directory.
    written: RefCell<Together>,
}

/// Removes no directory but a real one.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl ContainerDir {
    /// Opens `path`, which was just made (`temporary`) or exists.
    pub(super) fn open(path: PathBuf, id: &ContainerId, temporary: bool) -> std::result::Result<Self, Errno> {
        let fd = openat(CWD, &path, DIRECTORY, Mode::empty())?;
        Ok(Self { fd, path, id: id.clone(), temporary, written: RefCell::default() })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The path of a file in it, for texts.
    pub(super) fn file(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// The container it is of.
    pub(crate) fn id(&self) -> &ContainerId {
        &self.id
    }

    /// It stays when this is dropped.
    pub(crate) fn keep(mut self) -> Self {
        self.temporary = false;
        self
    }

    /// Keeps a copy of the configuration, byte for byte.
    ///
    /// # Errors
    /// Writing fails.
    pub(crate) fn write_config(&self, raw: &[u8]) -> Result<()> {
        self.write(CONFIG, raw, 0o600)
    }

    /// The start time of a process that is known to exist.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn start_time(&self, pid: i32) -> Result<u64> {
        let (time, file) = process::start_time(pid)?;
        self.written.borrow_mut().add(file);
        Ok(time)
    }

    /// Writes the status file; a reader sees the whole of it or none.
    ///
    /// # Errors
    /// Writing fails.
    pub(crate) fn write_status(&self, record: &Record) -> Result<()> {
        self.write(STATUS_TMP, &record.to_json()?, 0o700)?;
        renameat(&self.fd, STATUS_TMP, &self.fd, STATUS).context(|| format!("rename `{}`", self.file(STATUS_TMP)))
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::from_raw_mode(mode)).context(|| format!("open `{}`", self.file(name)))?;
        let mut file = File::from(fd);
        file.write_all(bytes).context(|| format!("write `{}`", self.file(name)))?;
        self.written.borrow_mut().add(file.into());
        Ok(())
    }

    /// Notes where the cgroup of a container in the making will be, in the place of the status that is not there yet: a symbolic link, which
    /// one call makes, whole or not at all, and which leads nowhere, so that for everyone there is no status. The status replaces it.
    ///
    /// # Errors
    /// The directory takes none.
    pub(crate) fn note(&self, record: &CgroupRecord) -> Result<()> {
        let record = serde_json::to_string(record).map_err(|e| Error::other(e.to_string()))?;
        let text = format!("{NOTE}{record}");
        let what = || format!("make the link `{}`", self.file(STATUS));
        match symlinkat(&*text, &self.fd, STATUS) {
            Err(Errno::EXIST) => {
                unlinkat(&self.fd, STATUS, AtFlags::empty()).context(what)?;
                symlinkat(text, &self.fd, STATUS).context(what)
            }
            r => r.context(what),
        }
    }

    /// What was noted last, if the status has not come since.
    pub(crate) fn noted(&self) -> Option<CgroupRecord> {
        let text = readlinkat(&self.fd, STATUS, Vec::new()).ok()?;
        serde_json::from_slice(text.to_bytes().strip_prefix(NOTE.as_bytes())?).ok()
    }

    /// The status file.
    ///
    /// # Errors
    /// [`ErrorKind::NoContainer`] when there is none, [`ErrorKind::Invalid`] when it is damaged.
    pub(crate) fn read_status(&self) -> Result<Record> {
        match self.read(STATUS) {
            Err(e) if e.errno() == Some(libc::ENOENT) => Err(no_container(&self.id, &self.path)),
            Err(e) if e.errno() == Some(libc::ELOOP) && self.noted().is_some() => Err(no_container(&self.id, &self.path)),
            r => Record::from_json(&r?).map_err(|e| e.context(format!("the status file `{}` is damaged", self.file(STATUS)))),
        }
    }

    /// Whether there is a status file, so that this is a container and not one in the making.
    pub(crate) fn has_status(&self) -> bool {
        rustix::fs::accessat(&self.fd, STATUS, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// The file of [`read_config`](Self::read_config).
    pub(crate) fn config_path(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    /// The copy of the configuration.
    ///
    /// # Errors
    /// Reading fails.
    pub(crate) fn read_config(&self) -> Result<Vec<u8>> {
        self.read(CONFIG)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::empty()).context(|| format!("open `{}`", self.file(name)))?;
        let mut bytes = Vec::with_capacity(4096);
        File::from(fd).take(MAX_FILE).read_to_end(&mut bytes).context(|| format!("read `{}`", self.file(name)))?;
        Ok(bytes)
    }

    /// Removes the directory with all in it.
    ///
    /// # Errors
    /// Names what cannot be removed. That it is gone already is no error.
    pub(crate) fn remove(&mut self) -> Result<()> {
        self.temporary = false;
        self.clear()
    }

    /// The two files nearly every container has; what else there is shows by the directory not being empty. The status goes last, so that
    /// an interrupted removal leaves a container that can be deleted.
    fn clear(&self) -> Result<()> {
        for name in [CONFIG, STATUS] {
            match unlinkat(&self.fd, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                // The safe way says what is the matter.
                Err(_) => break,
            }
        }
        match rustix::fs::rmdir(&self.path) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                empty(self.fd(), &self.path)?;
                rustix::fs::rmdir(&self.path).context(|| format!("rmdir `{}`", self.path.display()))
            }
            Err(e) => Err(e).context(|| format!("rmdir `{}`", self.path.display())),
        }
    }
}

impl Drop for ContainerDir {
    fn drop(&mut self) {
        if self.temporary
            && let Err(e) = self.clear()
        {
            tracing::warn!("{e}");
        }
    }
}

/// Removes everything below `dir`, following no symbolic link; `path` is for texts.
fn empty(dir: BorrowedFd<'_>, path: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    for entry in Dir::read_from(dir).context(|| format!("read `{}`", path.display()))? {
        let entry = entry.context(|| format!("read `{}`", path.display()))?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let below = || path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let is_dir = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => {
                let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).context(|| format!("stat `{}`", below().display()))?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            _ => false,
        };
        if is_dir {
            let inner = openat(dir, name, DIRECTORY, Mode::empty()).context(|| format!("open `{}`", below().display()))?;
            empty(inner.as_fd(), &below())?;
        }
        let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(dir, name, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e).context(|| format!("unlink `{}`", below().display())),
        }
    }
    Ok(())
}

/// crun's text, which engines match.
pub(super) fn no_container(id: &ContainerId, path: &Path) -> Error {
    Error::sys(libc::ENOENT, format!("container `{id}` does not exist: open `{}`", path.join(STATUS).display()))
        .with_kind(ErrorKind::NoContainer)
}
