//! Steps about cgroups, namespaces, the keyring and kernel parameters. Not here: mounts.

use super::{Child, Done, resolve, wire::Kind, wire::Message};
use crate::plan::step::{Pass, SetNs};
use crate::sys::{self, Errno, Side};
use std::ffi::CStr;

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

    pub(super) fn sysctl(&self, path: &CStr, value: &CStr) -> Done {
        let mut full = resolve::PathBuffer::new();
        full.set(&[b"sys/", path.to_bytes()])?;
        self.write_proc(full.as_c_str(), value.to_bytes())
    }

    /// One write to a file of the trusted procfs.
    pub(super) fn write_proc(&self, path: &CStr, bytes: &[u8]) -> Done {
        // `self` is a symbolic link, to a directory of the same procfs.
        let fd = resolve::open_beneath(self.wire.proc, path, libc::O_WRONLY)?;
        let written = sys::write(fd, bytes);
        sys::close(fd);
        written?;
        Ok(())
    }
}

const TIME: u64 = 0x80;

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

pub(super) fn join_keyring(name: &CStr) -> Done {
    match sys::join_session_keyring(name) {
        // A kernel without keyrings has none to leak.
        Ok(()) | Err(Errno(libc::ENOSYS)) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
