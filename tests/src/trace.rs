//! Faults from outside: a runtime that is killed at its n-th system call, or whose n-th system call is answered by an error. ptrace(2) stops
//! it there, so every call of the very program that is shipped is a point, and no build has any of its own. Not here: what must hold after
//! it (`tests/integration/faults.rs`).
//!
//! A point is a process, by the order in which the runtime made them, and the number of a call in it; between processes there is no order
//! to count on. What a process executes other than the runtime itself is left alone.

use std::collections::HashMap;
use std::io::Error;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use nix::errno::Errno;
use nix::libc::{self, c_int, pid_t};

use crate::command::{Invocation, Output};

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// The process that makes the call is killed before it is made.
    Kill,
    /// The call is not made, and this error number is its answer.
    Answer(i32),
}

/// A point, and what happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// 0 is the runtime, 1 the first process it made, or one of its processes made.
    pub process: usize,
    /// Number of the call, from 1; for answers, of those that can fail, from the runtime's own first one.
    pub call: usize,
    /// What happens.
    pub deed: Deed,
}

/// What came of a traced call.
#[derive(Debug)]
pub struct Faulted {
    /// What the runtime printed, and its end.
    pub output: Output,
    /// Number of the system call that the fault met; `None` where the process was not made, or made fewer calls.
    pub met: Option<i64>,
    /// Whether the process was made at all.
    pub made: bool,
    /// Whether the runtime hung and was killed by the watchdog.
    pub hung: bool,
}

/// Errors are put in place of answers by this machine's registers.
pub const CAN_ANSWER: bool = cfg!(target_arch = "x86_64");

/// Calls that cannot fail, or whose failure cannot be told from success: what a close reports, it has done. The clock is a call on machines
/// that give programs no vDSO, and libraries rely on it.
const NEVER_FAIL: [i64; 10] = [
    libc::SYS_close,
    libc::SYS_munmap,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_brk,
    libc::SYS_geteuid,
    libc::SYS_getpid,
    libc::SYS_umask,
    libc::SYS_rt_sigreturn,
    libc::SYS_clock_gettime,
];

struct Tracee {
    index: usize,
    /// Calls made so far.
    calls: usize,
    /// The answer to give when the call returns.
    answer: Option<i32>,
    /// The stop that every new tracee begins with has been seen.
    begun: bool,
    /// The C library's own beginning is over, which does not tell of errors.
    started: bool,
}

struct Tracer {
    fault: Fault,
    runtime: pid_t,
    tracees: HashMap<pid_t, Tracee>,
    made: usize,
    met: Option<i64>,
    status: Option<c_int>,
}

impl Invocation {
    /// Runs it to its end with a fault.
    ///
    /// # Panics
    /// If it can't be started or traced.
    pub fn with_fault(&mut self, fault: Fault) -> Faulted {
        let mut running = self.traced().spawn();
        let runtime = running.pid();
        let hung = Arc::new(AtomicBool::new(false));
        let (done, watched) = mpsc::channel::<()>();
        let mut tracer = Tracer { fault, runtime, tracees: HashMap::new(), made: 0, met: None, status: None };
        let alive = Arc::new(Mutex::new(vec![runtime]));
        let watchdog = {
            let (hung, alive) = (Arc::clone(&hung), Arc::clone(&alive));
            std::thread::spawn(move || {
                if watched.recv_timeout(crate::command::limit()) == Err(mpsc::RecvTimeoutError::Timeout) {
                    hung.store(true, Ordering::Relaxed);
                    for pid in &*alive.lock().expect("not poisoned") {
                        // SAFETY: kill takes no pointers. The tracer has not reaped these.
                        unsafe { libc::kill(*pid, libc::SIGKILL) };
                    }
                }
            })
        };
        tracer.run(&alive);
        drop(done);
        watchdog.join().expect("the watchdog ends");
        let status = ExitStatus::from_raw(tracer.status.expect("the runtime's end was seen"));
        Faulted { output: running.ended(status), met: tracer.met, made: tracer.made > fault.process, hung: hung.load(Ordering::Relaxed) }
    }
}

fn ptrace(request: libc::c_uint, pid: pid_t, data: libc::c_long) -> Result<(), Errno> {
    // SAFETY: the requests used here take numbers, no pointers.
    let done = unsafe { libc::ptrace(request, pid, std::ptr::null_mut::<libc::c_void>(), data) };
    Errno::result(done).map(drop)
}

impl Tracer {
    /// Until the runtime has ended; what lives on is let go.
    fn run(&mut self, alive: &Mutex<Vec<pid_t>>) {
        loop {
            let (pid, status) = match wait(-1) {
                Ok(event) => event,
                // Neither children nor tracees of this thread.
                Err(Errno::ECHILD) => break,
                Err(Errno::EINTR) => continue,
                Err(e) => panic!("wait for the tracees: {e}"),
            };
            if !libc::WIFSTOPPED(status) {
                self.tracees.remove(&pid);
                alive.lock().expect("not poisoned").retain(|p| *p != pid);
                if pid == self.runtime {
                    self.status = Some(status);
                    break;
                }
                continue;
            }
            self.tracees.entry(pid).or_insert_with(|| {
                alive.lock().expect("not poisoned").push(pid);
                let index = self.made;
                self.made += 1;
                Tracee { index, calls: 0, answer: None, begun: false, started: index > 0 }
            });
            self.stopped(pid, status);
        }
        for pid in self.tracees.keys().copied().collect::<Vec<_>>() {
            self.let_go_running(pid);
        }
        // One that was made in the last moment stops first.
        while let Ok((pid, status)) = wait(-1) {
            if libc::WIFSTOPPED(status) {
                self.made += usize::from(!self.tracees.contains_key(&pid));
                self.let_go(pid);
            }
        }
    }

    fn stopped(&mut self, pid: pid_t, status: c_int) {
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        let tracee = self.tracees.get_mut(&pid).expect("known");
        if !tracee.begun {
            tracee.begun = true;
            if pid == self.runtime {
                let options = libc::PTRACE_O_TRACESYSGOOD
                    | libc::PTRACE_O_TRACEFORK
                    | libc::PTRACE_O_TRACEVFORK
                    | libc::PTRACE_O_TRACECLONE
                    | libc::PTRACE_O_TRACEEXEC
                    | libc::PTRACE_O_EXITKILL;
                ptrace(libc::PTRACE_SETOPTIONS, pid, options.into()).expect("set the options of the tracee");
            }
            return self.resume(pid, 0);
        }
        if event == libc::PTRACE_EVENT_EXEC && pid == self.runtime {
            tracee.started = false;
        }
        match (signal, event) {
            (s, 0) if s == libc::SIGTRAP | 0x80 => self.at_call(pid),
            (libc::SIGTRAP, libc::PTRACE_EVENT_EXEC) if pid != self.runtime => self.let_go(pid),
            (_, 0) => self.resume(pid, signal),
            _ => self.resume(pid, 0),
        }
    }

    fn at_call(&mut self, pid: pid_t) {
        let info = call_info(pid);
        let tracee = self.tracees.get_mut(&pid).expect("known");
        if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
            // SAFETY: the kernel has filled in the member that belongs to the operation.
            let number = unsafe { info.u.entry.nr } as i64;
            let counts = match self.fault.deed {
                Deed::Kill => true,
                Deed::Answer(_) => tracee.started && !NEVER_FAIL.contains(&number),
            };
            // The first that the runtime itself makes (`entry.rs`).
            tracee.started |= number == libc::SYS_poll;
            tracee.calls += usize::from(counts);
            if counts && tracee.calls == self.fault.call {
                self.met = Some(number);
                match self.fault.deed {
                    Deed::Kill => {
                        // SAFETY: kill takes no pointers; the tracee is stopped and not reaped.
                        unsafe { libc::kill(pid, libc::SIGKILL) };
                        return;
                    }
                    Deed::Answer(errno) => {
                        tracee.answer = Some(errno);
                        skip_call(pid);
                    }
                }
            }
        } else if let Some(errno) = tracee.answer.take() {
            set_answer(pid, errno);
        }
        self.resume(pid, 0);
    }

    /// Lets a stopped tracee run, up to its next call where these count.
    fn resume(&mut self, pid: pid_t, signal: c_int) {
        let tracee = &self.tracees[&pid];
        let counts = tracee.index == self.fault.process && (self.met.is_none() || tracee.answer.is_some());
        let request = match () {
            () if counts => libc::PTRACE_SYSCALL,
            // Nothing that comes of it is of interest.
            () if tracee.index > self.fault.process => return self.let_go(pid),
            () => libc::PTRACE_CONT,
        };
        // It may have been killed meanwhile.
        let _ = ptrace(request, pid, signal.into());
    }

    fn let_go(&mut self, pid: pid_t) {
        let _ = ptrace(libc::PTRACE_DETACH, pid, 0);
        if pid != self.runtime {
            self.tracees.remove(&pid);
        }
    }

    /// The same for one that has to be stopped first.
    fn let_go_running(&mut self, pid: pid_t) {
        loop {
            if ptrace(libc::PTRACE_DETACH, pid, 0).is_ok() {
                break;
            }
            // SAFETY: kill takes no pointers; the tracee is not reaped.
            unsafe { libc::kill(pid, libc::SIGSTOP) };
            match wait(pid) {
                Ok((_, status)) if libc::WIFSTOPPED(status) => {
                    // A stop for another reason leaves the signal behind; a stopped process that is let go would stop once more.
                    if libc::WSTOPSIG(status) != libc::SIGSTOP {
                        let _ = ptrace(libc::PTRACE_CONT, pid, 0);
                    }
                }
                _ => break,
            }
        }
        self.tracees.remove(&pid);
    }
}

/// waitpid for children and tracees of this thread alone: other tests run beside it.
fn wait(pid: pid_t) -> Result<(pid_t, c_int), Errno> {
    let mut status = 0;
    // SAFETY: `status` lives across the call.
    let pid = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
    Errno::result(pid).map(|pid| (pid, status))
}

fn call_info(pid: pid_t) -> libc::ptrace_syscall_info {
    // SAFETY: plain numbers, for which zero is a value.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = std::mem::size_of_val(&info);
    // SAFETY: the kernel writes at most `size` bytes to `info`, which lives across the call.
    let got = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size, &raw mut info) };
    assert!(got > 0, "ask for the system call of a tracee: {}", Error::last_os_error());
    info
}

#[cfg(target_arch = "x86_64")]
fn registers(pid: pid_t, change: impl FnOnce(&mut libc::user_regs_struct)) {
    // SAFETY: plain numbers, for which zero is a value.
    let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes a whole structure to `regs`, which lives across the call.
    let got = unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, 0, &raw mut regs) };
    assert_eq!(got, 0, "read the registers of a tracee: {}", Error::last_os_error());
    change(&mut regs);
    // SAFETY: the kernel reads a whole structure from `regs`, which lives across the call.
    let set = unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, 0, &raw const regs) };
    assert_eq!(set, 0, "write the registers of a tracee: {}", Error::last_os_error());
}

/// Makes the call that a tracee is about to make one that does not exist.
#[cfg(target_arch = "x86_64")]
fn skip_call(pid: pid_t) {
    registers(pid, |regs| regs.orig_rax = u64::MAX);
}

/// Replaces what the call has returned.
#[cfg(target_arch = "x86_64")]
fn set_answer(pid: pid_t, errno: i32) {
    registers(pid, |regs| regs.rax = i64::from(-errno).cast_unsigned());
}

#[cfg(not(target_arch = "x86_64"))]
fn skip_call(_: pid_t) {
    unreachable!("CAN_ANSWER is false");
}

#[cfg(not(target_arch = "x86_64"))]
fn set_answer(_: pid_t, _: i32) {
    unreachable!("CAN_ANSWER is false");
}
