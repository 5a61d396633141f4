//! The notification socket of a container in its state directory (`notify/notify`, as crun has it). Not here: what comes through it
//! (`engine::notify`), the mount that shows it to the container (`plan::mounts`).

use super::ContainerDir;
use crate::error::{Context, Error, Result};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chmod, fstat, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

/// The directory, and the socket in it.
pub(crate) const NAME: &str = "notify";

/// Makes the directory, which belongs to the container's root. Its users may all enter it; others cannot enter the state directory.
///
/// # Errors
/// The state directory takes none.
pub(crate) fn make_directory(dir: &ContainerDir, owner: Option<(u32, u32)>) -> Result<()> {
    let path = || format!("make the directory `{}`", dir.file(NAME));
    mkdirat(dir.fd(), NAME, Mode::from_raw_mode(0o700)).context(path)?;
    let fd = open(dir).context(path)?;
    // Whatever the umask is.
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)).context(path)?;
    let Some((uid, gid)) = owner else { return Ok(()) };
    rustix::fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).context(path)
}

fn open(dir: &ContainerDir) -> rustix::io::Result<OwnedFd> {
    openat(dir.fd(), NAME, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Makes the socket anew, for this process to read from; any user of the container may write to it. `None` for a container that was
/// created without.
///
/// # Errors
/// Names the socket.
pub(crate) fn bind(dir: &ContainerDir) -> Result<Option<UnixDatagram>> {
    let path = || format!("make the socket `{}/{NAME}`", dir.file(NAME));
    let fd = match open(dir) {
        Err(Errno::NOENT) => return Ok(None),
        r => r.context(path)?,
    };
    match unlinkat(&fd, NAME, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e).context(path),
    }
    // An address holds 107 bytes only, and a state directory's path may be longer.
    let short = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let socket = UnixDatagram::bind(format!("{}/{NAME}", short(&fd))).context(path)?;
    // The directory belongs to the container: what is changed is looked at first.
    let made = openat(&fd, NAME, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).context(path)?;
    let stat = fstat(&made).context(path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(Error::other(format!("{}: something else took its place", path())));
    }
    chmod(short(&made), Mode::from_raw_mode(0o777)).context(path)?;
    Ok(Some(socket))
}
