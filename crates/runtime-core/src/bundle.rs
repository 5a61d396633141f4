//! A bundle: the directory with the configuration and the root file system. Not here: what the configuration says.

use crate::error::{Context, Error, Result};
use crate::spec::Spec;
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat};
use rustix::io::{Errno, pread, read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// An opened bundle.
pub(crate) struct Bundle {
    /// Absolute path, links resolved.
    pub path: PathBuf,
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// The directory, where it is not the working directory.
    dir: Option<OwnedFd>,
    _file: OwnedFd,
}

/// The configuration's file in the bundle, where no other is named.
const CONFIG: &str = "config.json";
const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Bundle {
    /// Opens the directory and reads the configuration, `config.json` or the file given.
    ///
    /// # Errors
    /// Either cannot be opened.
    pub(crate) fn open(proc: &OwnedFd, path: &Path, config: Option<&Path>) -> Result<Self> {
        let what = || format!("open the bundle `{}`", path.display());
        // The kernel knows the working directory's path without a descriptor.
        let here = if path == Path::new(".") { rustix::process::getcwd(Vec::with_capacity(256)).ok() } else { None };
        let here = here.filter(|path| path.as_bytes().starts_with(b"/"));
        let dir = if here.is_some() { None } else { Some(openat(CWD, path, PATH_ONLY, Mode::empty()).context(what)?) };
        let path = match (&dir, here) {
            (Some(dir), _) => path_of(proc, dir)?,
            (None, here) => here.map_or_else(PathBuf::new, |path| std::ffi::OsString::from_vec(path.into_bytes()).into()),
        };
        let config_path = config.unwrap_or(Path::new(CONFIG));
        let (config, file) = read_at(at(dir.as_ref()), config_path)?;
        Ok(Self { path, config, dir, _file: file })
    }

    /// The path of the file that [`open`](Self::open) read the configuration from.
    pub(crate) fn config_path(&self, config: Option<&Path>) -> PathBuf {
        self.path.join(config.unwrap_or(Path::new(CONFIG)))
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
            && rustix::fs::statat(at(self.dir.as_ref()), path, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|st| FileType::from_raw_mode(st.st_mode).is_dir())
        {
            return Ok(self.path.join(path));
        }
        let shown = || self.path.join(path).display().to_string();
        match openat(at(self.dir.as_ref()), path, PATH_ONLY, Mode::empty()) {
            Ok(fd) => path_of(proc, &fd),
            Err(Errno::NOENT) => Err(Error::invalid(format!("the rootfs path `{}` does not exist", shown()))),
            Err(Errno::NOTDIR) => Err(Error::invalid(format!("the rootfs path `{}` is not a directory", shown()))),
            Err(e) => Err(e).context(|| format!("open the rootfs path `{}`", shown())),
        }
    }
}

/// A directory, the working directory without one.
fn at(dir: Option<&OwnedFd>) -> BorrowedFd<'_> {
    dir.map_or(CWD, AsFd::as_fd)
}

/// Where an open directory is.
fn path_of(proc: &OwnedFd, fd: &OwnedFd) -> Result<PathBuf> {
    let link = rustix::fs::readlinkat(proc, format!("self/fd/{}", fd.as_raw_fd()), Vec::with_capacity(256));
    let link = link.context(|| "readlink `/proc/self/fd`")?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(link.into_bytes())))
}

/// Largest configuration that is read. The largest seen in the field are below 1 MiB; a limit keeps a wrong file from eating the memory.
const MAX_CONFIG: u64 = 64 << 20;

/// More than nearly all of them have; memory that is not written to costs nothing.
const FIRST_READ: usize = 64 << 10;

/// What is in a file, and the file, which is closed with the bundle.
fn read_at(dir: BorrowedFd<'_>, path: &Path) -> Result<(Vec<u8>, OwnedFd)> {
    let what = || format!("open `{}`", path.display());
    let fd = openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty()).context(what)?;
    let reading = || format!("read `{}`", path.display());
    let mut out = Vec::with_capacity(FIRST_READ);
    // What has positions is a file, and a short read of a file is its end.
    let mut whole = match pread(&fd, spare_capacity(&mut out), 0) {
        Err(Errno::SPIPE) => read(&fd, spare_capacity(&mut out)).context(reading)? == 0,
        n => n.context(reading)? < FIRST_READ,
    };
    while !whole {
        if out.len() as u64 > MAX_CONFIG {
            return Err(Error::invalid(format!("`{}` is larger than {} MiB", path.display(), MAX_CONFIG >> 20)));
        }
        out.reserve(out.len());
        let at = out.len() as u64;
        whole = match pread(&fd, spare_capacity(&mut out), at) {
            Err(Errno::SPIPE) => read(&fd, spare_capacity(&mut out)).context(reading)?,
            n => n.context(reading)?,
        } == 0;
    }
    out.shrink_to_fit();
    Ok((out, fd))
}
