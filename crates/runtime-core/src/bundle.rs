//! A bundle: the directory with the configuration and the root file system. Not here: what the configuration says.

use crate::error::{Context, Error, Result};
use crate::spec::Spec;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// An opened bundle.
pub(crate) struct Bundle {
    /// Absolute path, links resolved.
    pub path: PathBuf,
    /// The configuration's bytes.
    pub config: Vec<u8>,
    dir: OwnedFd,
}

const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Bundle {
    /// Opens the directory and reads the configuration, `config.json` or the file given.
    ///
    /// # Errors
    /// Either cannot be opened.
    pub(crate) fn open(proc: &OwnedFd, path: &Path, config: Option<&Path>) -> Result<Self> {
        let dir = openat(CWD, path, PATH_ONLY, Mode::empty()).context(|| format!("open the bundle `{}`", path.display()))?;
        let config_path = config.unwrap_or(Path::new("config.json"));
        Ok(Self { path: path_of(proc, &dir)?, config: read_at(&dir, config_path)?, dir })
    }

    /// The root file system's absolute path, links resolved.
    ///
    /// # Errors
    /// It is not there, or no directory.
    pub(crate) fn rootfs(&self, proc: &OwnedFd, spec: &Spec<'_>) -> Result<PathBuf> {
        let path = spec.root.as_ref().map_or("", |r| &*r.path);
        if path.contains('\0') {
            return Err(Error::invalid("root.path: contains a NUL byte"));
        }
        // The usual case in one call: a directory right in the bundle, whose own path has no links.
        let simple = !path.is_empty() && !path.contains('/') && path != "." && path != "..";
        if simple
            && rustix::fs::statat(&self.dir, path, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|st| FileType::from_raw_mode(st.st_mode).is_dir())
        {
            return Ok(self.path.join(path));
        }
        let shown = || self.path.join(path).display().to_string();
        match openat(&self.dir, path, PATH_ONLY, Mode::empty()) {
            Ok(fd) => path_of(proc, &fd),
            Err(Errno::NOENT) => Err(Error::invalid(format!("the rootfs path `{}` does not exist", shown()))),
            Err(Errno::NOTDIR) => Err(Error::invalid(format!("the rootfs path `{}` is not a directory", shown()))),
            Err(e) => Err(e).context(|| format!("open the rootfs path `{}`", shown())),
        }
    }
}

/// Where an open directory is.
fn path_of(proc: &OwnedFd, fd: &OwnedFd) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let link = rustix::fs::readlinkat(proc, format!("self/fd/{}", fd.as_raw_fd()), Vec::with_capacity(256));
    let link = link.context(|| "readlink `/proc/self/fd`")?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(link.into_bytes())))
}

/// Largest configuration that is read. The largest seen in the field are below 1 MiB; a limit keeps a wrong file from eating the memory.
const MAX_CONFIG: u64 = 64 << 20;

fn read_at(dir: &OwnedFd, path: &Path) -> Result<Vec<u8>> {
    let what = || format!("open `{}`", path.display());
    let fd = openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty()).context(what)?;
    let size = rustix::fs::fstat(&fd).context(what)?.st_size.cast_unsigned();
    if size > MAX_CONFIG {
        return Err(Error::invalid(format!("`{}` is larger than {} MiB", path.display(), MAX_CONFIG >> 20)));
    }
    // One read more than the size finds the end without a second call in the usual case: a short read of a regular file is its end.
    let mut out = Vec::with_capacity(size as usize + 1);
    loop {
        let n = rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut out)).context(|| format!("read `{}`", path.display()))?;
        if n == 0 || (out.len() as u64 == size && size > 0) {
            return Ok(out);
        }
        if out.len() as u64 > MAX_CONFIG {
            return Err(Error::invalid(format!("`{}` is larger than {} MiB", path.display(), MAX_CONFIG >> 20)));
        }
        out.reserve(4096);
    }
}
