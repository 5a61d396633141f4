//! Hooks that run in the container's namespaces. Not here: hooks of the runtime's namespaces (`engine::hooks`).

use super::{Child, Done, Fail, stdio, wire::Code, wire::DETAIL_SIZE};
use crate::plan::step::HookStep;
use crate::sys::{self, Errno, Side};
use std::os::fd::RawFd;

impl Child<'_> {
    pub(super) fn hook(&mut self, h: &HookStep) -> Done {
        // A file, not a pipe: a hook that does not read cannot block or signal its starter.
        let stdin = sys::memfd_with(&h.stdin)?;
        // Where its errors go to no file, they are kept for the message.
        let kept = if h.output.stderr.is_none() { sys::output_file().ok() } else { None };
        let stdout = h.output.stdout.map(|slot| self.slots[slot]);
        let stderr = h.output.stderr.map(|slot| self.slots[slot]).or(kept);
        let (read_end, write_end) = sys::pipe()?;
        let side = match sys::clone3(0, libc::SIGCHLD, None) {
            Err(Errno(libc::ENOSYS)) => sys::clone_legacy(0, libc::SIGCHLD),
            r => r,
        }?;
        let pid = match side {
            Side::Parent(pid) => pid,
            Side::Child => {
                // What was left open for the process is not for its hooks.
                let _ = stdio::close_on_exec(3);
                let streams = [(Some(stdin), 0), (stdout, 1), (stderr, 2)];
                let moved = streams.iter().try_for_each(|(fd, to)| fd.map_or(Ok(()), |fd| sys::dup_to(fd, *to)));
                let e = moved.err().unwrap_or_else(|| sys::execve(&h.path, &h.argv, &h.envp, None));
                let _ = sys::write(write_end, &e.0.to_ne_bytes());
                sys::exit(127)
            }
        };
        sys::close(write_end);
        sys::close(stdin);
        let mut errno = [0; 4];
        let failed = sys::read(read_end, &mut errno)?;
        sys::close(read_end);
        if failed == errno.len() {
            let _ = sys::wait4(pid, 0);
            kept.inspect(|fd| sys::close(*fd));
            return Err(Errno(i32::from_ne_bytes(errno)).into());
        }
        let done = wait(pid, h.timeout);
        if let Some(fd) = kept {
            // Processes it left behind may go on writing, but nobody would ever read it.
            let _ = sys::seal_size(fd);
            if done.is_err() {
                let _ = self.keep_end(fd);
            }
            sys::close(fd);
        }
        done
    }

    /// Keeps the end of what the hook said for the message.
    fn keep_end(&mut self, fd: RawFd) -> Result<(), Errno> {
        let mut bytes = [0; DETAIL_SIZE];
        let size = sys::end_of(fd)?;
        let n = sys::read_at(fd, &mut bytes, size.saturating_sub(DETAIL_SIZE as u64))?;
        self.set_detail(&bytes[..n]);
        Ok(())
    }
}

fn wait(pid: i32, timeout: i32) -> Done {
    let status = if timeout < 0 { Some(sys::wait4(pid, 0)?.1) } else { within(pid, timeout)? };
    let Some(status) = status else {
        sys::kill(pid, libc::SIGKILL)?;
        sys::wait4(pid, 0)?;
        return Err(Fail::new(0, Code::HookTimeout));
    };
    if libc::WIFSIGNALED(status) {
        Err(Fail { errno: 0, code: Code::HookSignal, value: libc::WTERMSIG(status).into() })
    } else if libc::WEXITSTATUS(status) != 0 {
        Err(Fail { errno: 0, code: Code::HookStatus, value: libc::WEXITSTATUS(status).into() })
    } else {
        Ok(())
    }
}

/// The status of a child that ends within so many milliseconds.
fn within(pid: i32, timeout: i32) -> Result<Option<i32>, Errno> {
    let ended = match sys::pidfd_open(pid) {
        Ok(pidfd) => {
            let ended = sys::poll_in(pidfd, timeout);
            sys::close(pidfd);
            ended?
        }
        // Before kernel 5.3, or under a filter.
        Err(Errno(libc::ENOSYS)) => {
            const PAUSE: i32 = 10;
            for _ in 0..timeout / PAUSE {
                let (waited, status) = sys::wait4(pid, libc::WNOHANG)?;
                if waited == pid {
                    return Ok(Some(status));
                }
                sys::poll_in(-1, PAUSE)?;
            }
            false
        }
        Err(e) => return Err(e),
    };
    if ended { Ok(Some(sys::wait4(pid, 0)?.1)) } else { Ok(None) }
}
