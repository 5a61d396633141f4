//! Waiting for a foreground process: forwarding signals, reaping orphans, its terminal. This is the one place of the library that
//! changes the calling process: its signal mask, its subreaper flag, its terminal. Not here: launching.

use super::console::Console;
use crate::error::{Context, Error, Result};
use crate::sys::{self, Errno, SignalMask};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, OwnedFd};

/// Signals that wait to be forwarded. Made before the process, so that none is lost in between.
pub(crate) struct Supervisor {
    before: SignalMask,
}

impl Supervisor {
    /// Blocks all signals, and with `reap` makes this process the reaper of what the container's processes leave behind; the first process
    /// of a new pid namespace is that itself.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn prepare(reap: bool) -> Result<Self> {
        let before = sys::swap_signal_mask(Some(&SignalMask::ALL)).context(|| "sigprocmask")?;
        if reap {
            sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).context(|| "prctl PR_SET_CHILD_SUBREAPER")?;
        }
        Ok(Self { before })
    }

    /// Whoever asks for an end before the program is executed gets it: the process has no handler yet, and as the first of its pid namespace
    /// it would not even notice. From then on signals are the program's.
    ///
    /// # Errors
    /// Such a signal came.
    pub(crate) fn uninterrupted(&self) -> Result<()> {
        let ends = SignalMask::of(&[libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM]);
        match sys::pending_signal(ends) {
            Some(n) => Err(Error::other(format!("ended by signal {n} while the container was started"))),
            None => Ok(()),
        }
    }

    /// Waits until `pid` ends; its exit status, 128 + N when signal N ended it.
    ///
    /// # Errors
    /// Waiting or copying fails.
    pub(crate) fn wait(&self, pid: i32, terminal: Option<OwnedFd>) -> Result<i32> {
        let Some(master) = terminal else { return self.wait_for_signals(pid) };
        let mut console = Console::new(master)?;
        let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context(|| "signalfd")?;
        loop {
            if let Some(status) = reap(pid)? {
                console.copy(None, true)?;
                return Ok(status);
            }
            console.copy(Some(signals.as_fd()), false)?;
            while let Some(info) = signals.read_signal().context(|| "signalfd")? {
                match info.ssi_signo.cast_signed() {
                    libc::SIGCHLD => {}
                    libc::SIGWINCH => console.resize(),
                    n => forward(pid, n),
                }
            }
        }
    }

    fn wait_for_signals(&self, pid: i32) -> Result<i32> {
        // SIGCHLD was blocked before the process was made, so that an end before this waits here as a signal.
        loop {
            match sys::wait_signal().context(|| "sigwait")? {
                libc::SIGCHLD => {
                    if let Some(status) = reap(pid)? {
                        return Ok(status);
                    }
                }
                n => forward(pid, n),
            }
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = sys::set_signal_mask(&self.before);
    }
}

/// The process is our unreaped child, so its pid cannot have passed to another.
fn forward(pid: i32, signal: i32) {
    if sys::kill(pid, signal).is_err() {
        tracing::debug!("signal {signal} could not be forwarded");
    }
}

/// Reaps what ended until there is no more, or `pid` was among it: its exit status. With it the waiting is over, and what else there is
/// belongs to init soon.
fn reap(pid: i32) -> Result<Option<i32>> {
    loop {
        match sys::wait4(-1, libc::WNOHANG) {
            Ok((0, _)) | Err(Errno(libc::ECHILD)) => return Ok(None),
            Ok((p, status)) if p == pid => return Ok(Some(exit_status(status))),
            Ok(_) => {}
            Err(e) => return Err(e).context(|| "waitpid"),
        }
    }
}

/// Reaps a process that has ended: its exit status.
///
/// # Errors
/// It is not this process's child.
pub(crate) fn ended(pid: i32) -> Result<i32> {
    sys::wait4(pid, 0).context(|| "waitpid").map(|(_, status)| exit_status(status))
}

fn exit_status(status: i32) -> i32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}
