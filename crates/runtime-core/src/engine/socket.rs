//! Unix sockets that engines give the runtime: connecting, passing descriptors. Not here: the child's side (`sys::send_fd`).

use crate::error::{Context, Error, Result};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// Connects to a stream socket.
///
/// # Errors
/// Names the socket.
pub(crate) fn connect(path: &Path) -> Result<OwnedFd> {
    let what = || format!("connect socket to `{}`", path.display());
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).context(what)?;
    match SocketAddrUnix::new(path) {
        Ok(address) => rustix::net::connect(&socket, &address).context(what)?,
        // Longer than the 107 bytes an address holds: by the directory's descriptor.
        Err(_) => {
            let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Err(Error::invalid(what())) };
            let dir = openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context(what)?;
            let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
            rustix::net::connect(&socket, &SocketAddrUnix::new(short).context(what)?).context(what)?;
        }
    }
    Ok(socket)
}

/// Sends a descriptor with one byte.
///
/// # Errors
/// Names nothing; the caller does.
pub(crate) fn send_fd(socket: impl AsFd, fd: impl AsFd) -> rustix::io::Result<()> {
    send_with_fd(socket, b" ", fd)
}

/// Sends bytes and a descriptor with them.
///
/// # Errors
/// Names nothing; the caller does.
pub(crate) fn send_with_fd(socket: impl AsFd, bytes: &[u8], fd: impl AsFd) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// Receives one descriptor.
///
/// # Errors
/// Nothing came.
pub(crate) fn recv_fd(socket: impl AsFd) -> Result<OwnedFd> {
    let what = || "receive the terminal";
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 16];
    rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC).context(what)?;
    let fds = control.drain().find_map(|m| match m {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fds.ok_or_else(|| Error::other("no terminal was received"))
}

/// Sends a pidfd of `pid` to the socket at `path` (`--pidfd-socket`, `run.oci.pidfd_receiver`).
///
/// # Errors
/// Names the socket.
pub(crate) fn send_pidfd(path: &Path, pid: i32) -> Result<()> {
    let socket = connect(path)?;
    let pidfd = crate::sys::pidfd(pid).context(|| format!("pidfd_open {pid}"))?;
    send_fd(&socket, &pidfd).context(|| format!("send the pidfd to `{}`", path.display()))
}
