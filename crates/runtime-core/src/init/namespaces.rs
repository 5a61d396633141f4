//! Steps about cgroups, namespaces, the keyring and kernel parameters. Not here: mounts.

use super::{Child, Done, resolve, wire::Kind, wire::Message};
use crate::plan::step::{Pass, SetNs};
use crate::sys::{self, Errno, Side};
use std::ffi::CStr;
use std::os::fd::RawFd;

impl Child<'_> {
    /// `0` stands for the writing process (cgroups(7)).
    pub(super) fn join_cgroups(&self) -> Done {
        for &fd in &self.wire.join {
            sys::write(fd, b"0")?;
        }
        Ok(())
    }

    pub(super) fn set_ns(&mut self, ns: &SetNs) -> Done {
        if ns.pass == Pass::Second && self.deferred & ns.flag == 0 {
            return Ok(());
        }
        match sys::setns(self.slots[ns.slot], ns.flag) {
            Err(Errno(libc::EPERM)) if ns.pass == Pass::First => {
                self.deferred |= ns.flag;
                Ok(())
            }
            r => Ok(r?),
        }
    }

    /// A sibling goes on, so that the runtime is its parent and it is the namespace's first process.
    pub(super) fn fork(&self) -> Done {
        let flags = libc::CLONE_PARENT as u64;
        let side = match sys::clone3(flags, 0, None) {
            Err(Errno(libc::ENOSYS)) => sys::clone_legacy(flags, libc::SIGCHLD),
            r => r,
        };
        match side? {
            Side::Child => Ok(()),
            Side::Parent(pid) => {
                let mut m = Message::new(Kind::Forked);
                m.value = pid.into();
                let status = m.send(self.wire.socket).is_err();
                sys::exit(status.into())
            }
        }
    }

    pub(super) fn time_offsets(&self, text: &CStr) -> Done {
        if !text.is_empty() {
            self.write_proc(c"self/timens_offsets", text.to_bytes())?;
        }
        // After unshare only children are in the namespace; this enters it without one.
        let fd = sys::openat(self.wire.proc, c"self/ns/time_for_children", libc::O_RDONLY, 0)?;
        sys::setns(fd, TIME)?;
        sys::close(fd);
        Ok(())
    }

    #[inline(never)]
    pub(super) fn sysctl(&self, path: &CStr, value: &CStr) -> Done {
        let mut full = resolve::PathBuffer::new();
        full.set(&[b"sys/", path.to_bytes()])?;
        self.write_proc(full.as_c_str(), value.to_bytes())
    }

    /// Joins a session keyring, which is made with `label` (SELinux) if there is one; keys that are made later get the process's own.
    pub(super) fn join_keyring(&self, name: &CStr, label: Option<&CStr>) -> Done {
        if let Some(label) = label {
            self.write_proc(c"self/attr/keycreate", label.to_bytes())?;
        }
        match sys::join_session_keyring(name) {
            // A kernel without keyrings has none to leak.
            Ok(()) | Err(Errno(libc::ENOSYS)) => {}
            Err(e) => return Err(e.into()),
        }
        // An empty write takes the label back.
        if label.is_some() { self.write_proc(c"self/attr/keycreate", b"") } else { Ok(()) }
    }

    /// One write to a file of the trusted procfs.
    pub(super) fn write_proc(&self, path: &CStr, bytes: &[u8]) -> Done {
        // `self` is a symbolic link, to a directory of the same procfs.
        write_and_close(resolve::open_beneath(self.wire.proc, path, libc::O_WRONLY)?, bytes)
    }
}

/// One write, which is all that a file of procfs takes.
pub(super) fn write_and_close(fd: RawFd, bytes: &[u8]) -> Done {
    let written = sys::write(fd, bytes);
    sys::close(fd);
    written?;
    Ok(())
}

const TIME: u64 = 0x80;

/// Flags of setns(2) and the files below `/proc/PID/ns`, the one first whose owner decides about the others.
const NAMESPACES: [(u64, &CStr); 8] = [
    (libc::CLONE_NEWUSER as u64, c"ns/user"),
    (libc::CLONE_NEWIPC as u64, c"ns/ipc"),
    (libc::CLONE_NEWUTS as u64, c"ns/uts"),
    (libc::CLONE_NEWNET as u64, c"ns/net"),
    (libc::CLONE_NEWPID as u64, c"ns/pid"),
    (libc::CLONE_NEWCGROUP as u64, c"ns/cgroup"),
    (TIME, c"ns/time"),
    (libc::CLONE_NEWNS as u64, c"ns/mnt"),
];

/// Joins namespaces of a process, given its pidfd, or its directory in /proc where the kernel has no pidfd_open.
pub(super) fn set_ns_of(process: RawFd, flags: u64) -> Done {
    match sys::setns(process, flags) {
        // What setns(2) says of a descriptor that is no namespace's file. A pidfd has no directory to look into.
        Err(Errno(libc::EINVAL)) => {}
        r => return Ok(r?),
    }
    let mut open = [-1; NAMESPACES.len()];
    for (fd, (flag, file)) in open.iter_mut().zip(NAMESPACES) {
        if flags & flag != 0 {
            *fd = sys::openat(process, file, libc::O_RDONLY, 0).map_err(|_| Errno(libc::EINVAL))?;
        }
    }
    for (fd, (flag, _)) in open.into_iter().zip(NAMESPACES).filter(|(fd, _)| *fd >= 0) {
        sys::setns(fd, flag)?;
        sys::close(fd);
    }
    Ok(())
}

/// Where nobody asked for it, a filter or a kernel that refuses the call is no reason to fail.
pub(super) fn set_affinity(cpus: &[u64], asked: bool) -> Done {
    match sys::set_affinity(cpus) {
        Err(Errno(libc::ENOSYS | libc::EPERM)) if !asked => Ok(()),
        r => Ok(r?),
    }
}

/// The ids of the user namespace's root, which own what is made from here on.
pub(super) fn become_root(clear_groups: bool) -> Done {
    if clear_groups {
        super::process::set_groups(&[])?;
    }
    sys::setresgid(0)?;
    sys::setresuid(0)?;
    Ok(())
}
