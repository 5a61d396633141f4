//! Ids, capabilities, labels, working directory, seccomp, the gate. Not here: descriptors (`stdio`), the executable (`exec`).

use super::handler::OTHERS;
use super::namespaces::write_and_close;
use super::{Child, Done, Fail, PATH_MAX, resolve, resolve::PathBuffer, wire::Code, wire::Gate, wire::Kind, wire::Message};
use crate::plan::step::{Credentials, KEPT_SLOTS, Slot};
use crate::sys::{self, Errno};
use std::ffi::CStr;
use std::os::fd::RawFd;

pub(super) fn setsid() -> Done {
    match sys::setsid() {
        // Already a session leader.
        Ok(()) | Err(Errno(libc::EPERM)) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// setgroups(2); that an empty list is refused in a namespace with `deny` is no failure, since there is nothing to take away then.
pub(super) fn set_groups(groups: &[u32]) -> Done {
    match sys::setgroups(groups) {
        Err(Errno(libc::EPERM)) if groups.is_empty() => Ok(()),
        r => Ok(r?),
    }
}

pub(super) fn credentials(c: &Credentials) -> Done {
    drop_bounding(c.caps.bounding)?;
    if c.uid != 0 {
        sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
    }
    if let Some(groups) = &c.groups {
        set_groups(groups)?;
    }
    if !c.ids_are_set {
        sys::setresgid(c.gid)?;
        sys::setresuid(c.uid)?;
    }
    sys::capset(c.caps.effective, c.caps.permitted, c.caps.inheritable)?;
    // capset takes away ambient capabilities that are no longer both permitted and inheritable.
    if c.caps.permitted & c.caps.inheritable != 0 {
        sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)?;
    }
    for cap in (0..64).filter(|cap| c.caps.ambient & 1 << cap != 0) {
        sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, cap)?;
    }
    Ok(())
}

fn drop_bounding(keep: u64) -> Done {
    for cap in (0..64).filter(|cap| keep & 1 << cap == 0) {
        match sys::prctl(libc::PR_CAPBSET_DROP, cap, 0) {
            Ok(()) => {}
            // Past the last capability of this kernel.
            Err(Errno(libc::EINVAL)) => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

impl Child<'_> {
    pub(super) fn label(&self, file: &CStr, label: &CStr) -> Done {
        write_and_close(self.label_file(file)?, label.to_bytes())
    }

    /// The file that takes a label of this process. What takes an AppArmor profile is below `attr/apparmor` (kernel 5.8), on older kernels
    /// it is the one all modules share.
    ///
    /// Only this process can write to it, with the memory and the credentials of now (proc(5), fs/proc/base.c).
    #[inline(never)]
    pub(super) fn label_file(&self, file: &CStr) -> Result<RawFd, Errno> {
        let mut path = PathBuffer::new();
        path.set(&[b"self/", file.to_bytes()])?;
        let open = |path: &CStr| resolve::open_beneath(self.wire.proc, path, libc::O_WRONLY);
        match open(path.as_c_str()) {
            Err(Errno(libc::ENOENT)) if file == c"attr/apparmor/exec" => open(c"self/attr/exec"),
            Err(Errno(libc::ENOENT)) if file == c"attr/apparmor/current" => open(c"self/attr/current"),
            r => r,
        }
    }

    pub(super) fn late_label(&self, slot: Slot, label: &CStr) -> Done {
        write_and_close(self.slots[slot], label.to_bytes())
    }

    /// Makes a directory that is missing. Where that is not possible, what needs the directory says so.
    pub(super) fn directory(&self, path: &CStr) -> Done {
        if let Ok(fd) = resolve::ensure_dir(self.root, path, false) {
            sys::close(fd);
        }
        Ok(())
    }

    /// Changes to the working directory; with the runtime's ids first, and once more with the final ones where those have no access (a
    /// network file system).
    #[inline(never)]
    pub(super) fn cwd(&mut self, path: &CStr, last: bool) -> Done {
        if last && !self.cwd_pending {
            return Ok(());
        }
        match sys::chdir(path) {
            Err(Errno(libc::EACCES | libc::EPERM)) if !last => {
                self.cwd_pending = true;
                return Ok(());
            }
            r => r?,
        }
        self.cwd_pending = false;
        // A directory outside the root has no path that starts at it (CVE-2024-21626).
        let mut buf = [0; PATH_MAX];
        sys::getcwd(&mut buf)?;
        if buf[0] == b'/' { Ok(()) } else { Err(Fail::new(libc::ENOENT, Code::Unsafe)) }
    }

    /// With a listener the parent takes the notify descriptor before anything else happens: what the filter leaves of this process's calls
    /// may not be enough to send it.
    pub(super) fn seccomp(&self) -> Done {
        let Some((program, flags)) = &self.wire.seccomp else { return Ok(()) };
        let listen = flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
        if listen != 0 {
            // The lowest free number is what the next call that makes a descriptor gives.
            let free = sys::dup_above(self.wire.socket, 0)?;
            sys::close(free);
            let mut m = Message::new(Kind::Listening);
            m.value = free.into();
            m.send(self.wire.socket)?;
        }
        match sys::seccomp_set_filter(program, *flags) {
            // A kernel that does not know a flag; all others are refinements.
            Err(Errno(libc::EINVAL)) if *flags != listen => sys::seccomp_set_filter(program, listen),
            r => r,
        }?;
        if listen != 0 { self.await_go() } else { Ok(()) }
    }

    /// Says that all is ready, and waits for `start` where there is a fifo.
    ///
    /// A container that waits holds nothing of the host but the fifo: another process of a shared pid namespace must find no descriptor
    /// to step through. Files are no way to step through; those of labels take a word from this process only.
    pub(super) fn gate(&mut self, first: u32, keep: &[Slot]) -> Done {
        if self.wire.gate != Gate::Open {
            self.await_go()?;
        }
        // Who takes the parent's word is ready: that is told by the word not being left in the socket.
        if self.wire.gate != Gate::Parent {
            self.tell(Kind::Ready)?;
        }
        let Gate::Fifo(fifo) = self.wire.gate else { return Ok(()) };
        self.late = true;
        let fifo = self.only(fifo, first as RawFd, keep).unwrap_or(fifo);
        sys::trim_stack();
        loop {
            sys::poll_in(fifo, -1)?;
            let mut byte = [0];
            match sys::read(fifo, &mut byte) {
                Ok(1..) => break,
                // Opened and closed without a word: `start` died in between. The kernel reports the hang-up until somebody opens again.
                Ok(0) | Err(Errno(libc::EAGAIN | libc::EINTR)) => {
                    sys::poll_in(-1, 10)?;
                }
                Err(e) => return Err(e.into()),
            }
        }
        sys::close(fifo);
        Ok(())
    }

    /// Closes all from `first` on but the fifo and what `keep` names, which get the numbers from there; the fifo's.
    fn only(&mut self, fifo: RawFd, first: RawFd, keep: &[Slot]) -> Result<RawFd, Errno> {
        if !self.wire.keep.is_empty() {
            // The handler knows its descriptors by their numbers, so nothing is moved.
            let mut others = [fifo; OTHERS];
            others[1..].iter_mut().zip(keep).for_each(|(fd, slot)| *fd = self.slots[*slot]);
            self.close_but(first, &others)?;
            return Ok(fifo);
        }
        let mut kept = [-1; KEPT_SLOTS];
        // Out of the way of the numbers that are given out now.
        for (high, slot) in kept.iter_mut().zip(keep) {
            *high = sys::dup_above(self.slots[*slot], first + 1 + KEPT_SLOTS as RawFd)?;
        }
        sys::dup_to(fifo, first)?;
        let mut next = first + 1;
        for (high, slot) in kept.into_iter().zip(keep) {
            sys::dup_to(high, next)?;
            // The process that comes after the hooks must not have it: it may be a file of the host.
            sys::set_cloexec(next)?;
            self.slots[*slot] = next;
            next += 1;
        }
        sys::close_from(next as u32, false)?;
        Ok(first)
    }
}
