//! The steps with which a handler takes the place of execve. Not here: which they are (`plan::process`), the handler's own code, which may
//! allocate (`handled`).

use super::{Child, Done, Fail, IN_CHILD, wire::Code};
use crate::api::handler::MOST_KEPT;
use crate::handled;
use crate::plan::step::{FileStep, KEPT_SLOTS};
use crate::sys::{self, Argv, Errno};
use std::ffi::CStr;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering;

/// A gate's fifo, and what stays open behind it.
pub(super) const OTHERS: usize = 1 + KEPT_SLOTS;

impl Child<'_> {
    /// Replaces a file of the container's root, never through a symbolic link at its end.
    pub(super) fn file(&self, f: &FileStep) -> Done {
        let (dir, name) = super::resolve::parent(self.root, &f.dest)?;
        match sys::unlinkat(dir, name) {
            Ok(()) | Err(Errno(libc::ENOENT)) => {}
            Err(e) => return Err(e.into()),
        }
        let fd = sys::openat(dir, name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW, 0o600)?;
        sys::write_all(fd, &f.content)?;
        sys::fchmod(fd, f.mode)?;
        sys::close(fd);
        Ok(())
    }

    /// What execve would take away, before the handler has anything of its own: functions of the runtime that handle signals, and strings.
    ///
    /// The arguments become the container's as far as they have room, the environment becomes empty: it is the runtime's caller's and
    /// no business of the container, which reads `/proc/self/environ`.
    pub(super) fn forget(&self) {
        sys::reset_signal_handlers();
        for (shown, text) in &self.wire.forget {
            shown.overwrite(text);
        }
    }

    /// Has the handler load the program.
    pub(super) fn load(&mut self, argv: &Argv, envp: &Argv) -> Done {
        let Some(handler) = self.handler.as_deref_mut() else { return Err(Errno(libc::ENOSYS).into()) };
        IN_CHILD.store(false, Ordering::Relaxed);
        let start = handled::start(self.scratch.exe.as_c_str(), argv, envp, self.scratch.home.as_c_str());
        // Neither is ever dropped: the process ends by the handler or by the failure.
        let wrong = std::mem::ManuallyDrop::new(handled::load(handler, &start));
        self.start = Some(start);
        IN_CHILD.store(true, Ordering::Relaxed);
        let Some(wrong) = wrong.as_deref() else { return Ok(()) };
        self.set_detail(wrong.as_bytes());
        Err(Fail::new(0, Code::Detail))
    }

    /// Does what execve does to a process beside loading a program, and lets the handler run it.
    pub(super) fn handle(&mut self, first: u32) -> Done {
        if let Some(start) = &self.start {
            // A name decides nothing.
            let _ = sys::set_name(start.program.file_name().unwrap_or_default().as_bytes());
        }
        self.close_but(first as RawFd, &[])?;
        let Some((handler, start)) = self.handler.as_deref_mut().zip(self.start.as_ref()) else { return Err(Errno(libc::ENOSYS).into()) };
        IN_CHILD.store(false, Ordering::Relaxed);
        sys::exit(handled::run(handler, start))
    }

    /// Closes all descriptors from `first` on but the handler's and `others`, at most [`OTHERS`].
    pub(super) fn close_but(&self, first: RawFd, others: &[RawFd]) -> Result<(), Errno> {
        let mut kept = [-1; MOST_KEPT + OTHERS];
        for (place, fd) in kept.iter_mut().zip(self.wire.keep.iter().chain(others)) {
            *place = *fd;
        }
        kept.sort_unstable();
        let mut from = first;
        for fd in kept.into_iter().filter(|fd| *fd >= first) {
            sys::close_span(from, fd - 1)?;
            from = fd + 1;
        }
        sys::close_from(from as u32, false)
    }
}

/// Whether a path is a regular file that can be read with the ids and capabilities of now.
pub(super) fn check_readable(path: &CStr) -> Done {
    let fd = match sys::openat(libc::AT_FDCWD, path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0) {
        Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return Err(Fail::new(libc::ENOENT, Code::NotInPath)),
        r => r?,
    };
    let regular = sys::fstat(fd)?.is_regular();
    sys::close(fd);
    if regular { Ok(()) } else { Err(Fail::new(0, Code::NotRegular)) }
}
