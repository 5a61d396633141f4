//! Raw calls about processes, credentials and terminals. Not here: their order.

use super::argv::Argv;
use super::call::{Errno, Result, call};
use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicU64;

/// Which side of a clone this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Child,
    Parent(i32),
}

/// libc's constant is an int, which cannot hold this one.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `clone3(2)` (kernel 5.3) without a stack of its own: the child continues on a copy of the parent's memory, like after fork.
/// `exit_signal` must be 0 with CLONE_PARENT. `cgroup` is used with CLONE_INTO_CGROUP (5.7).
///
/// The child is a copy of a possibly threaded process, so it must keep to what is async-signal-safe; `init` does.
pub(crate) fn clone3(flags: u64, exit_signal: i32, cgroup: Option<RawFd>) -> Result<Side> {
    // SAFETY: clone_args is plain old data and all-zero is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    args.exit_signal = exit_signal as u64;
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd as u64;
    }
    // SAFETY: `args` is a valid clone_args of the size given. No CLONE_VM is ever passed (callers pass namespaces, CLONE_PARENT), so the
    // child has its own copy of all memory, and both sides return here once.
    match unsafe { call!(SYS_clone3, &raw const args, size_of_val(&args)) }? {
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid as i32)),
    }
}

/// `clone(2)`, for kernels and filters without clone3; 64-bit only flags cannot be passed.
pub(crate) fn clone_legacy(flags: u64, exit_signal: i32) -> Result<Side> {
    // SAFETY: a null stack without CLONE_VM continues on the copied stack, like fork; the other pointers are unused without their flags.
    match unsafe { call!(SYS_clone, flags | exit_signal as u64, 0, 0, 0, 0) }? {
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid as i32)),
    }
}

/// `_exit(2)` of the whole process.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: _exit takes a number, runs no handlers and does not return.
    unsafe { libc::_exit(status) }
}

/// `unshare(2)`.
pub(crate) fn unshare(flags: u64) -> Result<()> {
    // SAFETY: takes numbers only. Only the single-threaded child calls it, and never with CLONE_FILES or CLONE_VM.
    unsafe { call!(SYS_unshare, flags) }.map(drop)
}

/// `setns(2)`.
pub(crate) fn setns(fd: RawFd, flags: u64) -> Result<()> {
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_setns, fd, flags) }.map(drop)
}

/// `sethostname(2)`.
pub(crate) fn sethostname(name: &[u8]) -> Result<()> {
    // SAFETY: pointer and length describe `name`.
    unsafe { call!(SYS_sethostname, name.as_ptr(), name.len()) }.map(drop)
}

/// `setdomainname(2)`.
pub(crate) fn setdomainname(name: &[u8]) -> Result<()> {
    // SAFETY: pointer and length describe `name`.
    unsafe { call!(SYS_setdomainname, name.as_ptr(), name.len()) }.map(drop)
}

/// `umask(2)`.
pub(crate) fn umask(mask: u32) -> u32 {
    // SAFETY: takes a number and cannot fail.
    unsafe { libc::umask(mask) }
}

/// `setsid(2)`.
pub(crate) fn setsid() -> Result<()> {
    // SAFETY: takes nothing.
    unsafe { call!(SYS_setsid) }.map(drop)
}

/// `keyctl(KEYCTL_JOIN_SESSION_KEYRING)`.
pub(crate) fn join_session_keyring(name: &CStr) -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: u32 = 1;
    // SAFETY: `name` is NUL-terminated and lives across the call.
    unsafe { call!(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr(), 0, 0, 0) }.map(drop)
}

/// `prctl(2)` with number arguments.
pub(crate) fn prctl(option: i32, a: u64, b: u64) -> Result<()> {
    // SAFETY: callers use options whose arguments are numbers; the unused ones are 0 as the kernel demands.
    unsafe { call!(SYS_prctl, option, a, b, 0, 0) }.map(drop)
}

/// The name of this thread in ps(1) (PR_SET_NAME), of which the kernel takes 15 bytes.
pub(crate) fn set_name(name: &[u8]) -> Result<()> {
    let mut text = [0u8; 16];
    let n = name.len().min(15);
    text[..n].copy_from_slice(&name[..n]);
    // SAFETY: `text` is NUL-terminated, 16 bytes long, and lives across the call.
    unsafe { call!(SYS_prctl, libc::PR_SET_NAME, text.as_ptr(), 0, 0, 0) }.map(drop)
}

/// Whether a seccomp filter is in force for this thread, as far as it lets that be known (PR_GET_SECCOMP).
pub(crate) fn is_filtered() -> bool {
    // SAFETY: takes numbers only.
    let mode = unsafe { call!(SYS_prctl, libc::PR_GET_SECCOMP, 0, 0, 0, 0) };
    mode != Ok(0)
}

/// The raw `setgroups(2)` of this thread.
pub(crate) fn setgroups(groups: &[u32]) -> Result<()> {
    // SAFETY: pointer and length describe `groups`; gid_t is u32.
    unsafe { call!(SYS_setgroups, groups.len(), groups.as_ptr()) }.map(drop)
}

/// The raw `setresgid(2)` of this thread.
pub(crate) fn setresgid(gid: u32) -> Result<()> {
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_setresgid, gid, gid, gid) }.map(drop)
}

/// The raw `setresuid(2)` of this thread.
pub(crate) fn setresuid(uid: u32) -> Result<()> {
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_setresuid, uid, uid, uid) }.map(drop)
}

/// `capset(2)` of this thread, 64-bit sets.
pub(crate) fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: header and data have the kernel's layout for version 3 (two data words) and live across the call.
    unsafe { call!(SYS_capset, &raw const header, data.as_ptr()) }.map(drop)
}

/// `prlimit64(2)`, setting only; `pid` 0 is the caller.
pub(crate) fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is a valid rlimit64 that lives across the call; the old limit is not asked for.
    unsafe { call!(SYS_prlimit64, pid, resource, &raw const limit, 0) }.map(drop)
}

/// `seccomp(SECCOMP_SET_MODE_FILTER)` with a program of 8-byte instructions.
pub(crate) fn seccomp_set_filter(program: &[u8], flags: u32) -> Result<usize> {
    const SET_MODE_FILTER: u32 = 1;
    let prog =
        libc::sock_fprog { len: (program.len() / size_of::<libc::sock_filter>()) as u16, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `prog` describes `program`, which the kernel copies and does not change. The kernel reads it bytewise (copy_from_user),
    // so its alignment does not matter.
    unsafe { call!(SYS_seccomp, SET_MODE_FILTER, flags, &raw const prog) }
}

/// `execve(2)`; returns only on failure. `last` takes the place of the last entry of an `envp` that reserves it.
pub(crate) fn execve(path: &CStr, argv: &Argv, envp: &Argv, last: Option<&CStr>) -> Errno {
    if let Some((reserved, text)) = envp.reserved().zip(last) {
        // The process has no other thread and either ends by this call or by reporting its failure, so nobody sees the pointer later.
        reserved.set(text.as_ptr());
    }
    // SAFETY: `path` is NUL-terminated; both arrays are null-terminated arrays of NUL-terminated strings; all live across the call.
    match unsafe { call!(SYS_execve, path.as_ptr(), argv.as_ptr(), envp.as_ptr()) } {
        Ok(_) => Errno(0),
        Err(e) => e,
    }
}

/// Gives signals that have a handler their default action, as execve(2) does; ignored ones stay ignored.
pub(crate) fn reset_signal_handlers() {
    // SAFETY: plain old data, for which all zeros is a value: the default action, with an empty mask.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    for signal in 1..=libc::SIGRTMAX() {
        let mut now = default;
        // SAFETY: asks for the action only; `now` is the structure the call fills.
        let known = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut now) } == 0;
        if known && now.sa_sigaction != libc::SIG_IGN && now.sa_sigaction != libc::SIG_DFL {
            // SAFETY: `default` is a valid action that names no function, and the old one is not asked for.
            unsafe { libc::sigaction(signal, &raw const default, std::ptr::null_mut()) };
        }
    }
}

/// `execveat(2)` of the file behind a descriptor; returns only on failure.
pub(crate) fn execveat(fd: RawFd, argv: &Argv, envp: &Argv) -> Errno {
    // SAFETY: the path is a C string constant; both arrays are null-terminated arrays of NUL-terminated strings; all live across the call.
    match unsafe { call!(SYS_execveat, fd, c"".as_ptr(), argv.as_ptr(), envp.as_ptr(), libc::AT_EMPTY_PATH) } {
        Ok(_) => Errno(0),
        Err(e) => e,
    }
}

/// `faccessat2(2)` (kernel 5.8) with AT_EACCESS, so that the check uses the ids and capabilities execve will use.
pub(crate) fn may_execute(path: &CStr) -> Result<()> {
    // SAFETY: `path` is NUL-terminated and lives across the call.
    match unsafe { call!(SYS_faccessat2, libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) } {
        // SAFETY: as above. The real ids equal the effective ones by then, so the older call gives the same answer.
        Err(Errno(libc::ENOSYS)) => unsafe { call!(SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::X_OK) },
        r => r,
    }
    .map(drop)
}

/// `dup3(2)` onto a standard descriptor, which stays open across execve.
pub(crate) fn dup_to(fd: RawFd, onto: RawFd) -> Result<()> {
    if fd == onto {
        // SAFETY: takes numbers only.
        return unsafe { call!(SYS_fcntl, fd, libc::F_SETFD, 0) }.map(drop);
    }
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_dup3, fd, onto, 0) }.map(drop)
}

/// `pipe2(2)` with O_CLOEXEC: read end, write end.
pub(crate) fn pipe() -> Result<(RawFd, RawFd)> {
    let mut fds = [0 as RawFd; 2];
    // SAFETY: `fds` has room for the two descriptors the call writes.
    unsafe { call!(SYS_pipe2, fds.as_mut_ptr(), libc::O_CLOEXEC) }?;
    Ok((fds[0], fds[1]))
}

/// `socket(AF_INET, SOCK_DGRAM)`, then SIOCSIFFLAGS: brings up the loopback interface of this network namespace.
pub(crate) fn loopback_up() -> Result<()> {
    // SAFETY: takes numbers only.
    let fd = unsafe { call!(SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }? as RawFd;
    // SAFETY: ifreq is plain old data; all-zero is valid.
    let mut req: libc::ifreq = unsafe { std::mem::zeroed() };
    req.ifr_name[0] = b'l' as libc::c_char;
    req.ifr_name[1] = b'o' as libc::c_char;
    req.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which `req` is; it lives across the call.
    // The socket is closed by execve.
    unsafe { call!(SYS_ioctl, fd, libc::SIOCSIFFLAGS, &raw const req) }.map(drop)
}

/// The new pseudo-terminal of a devpts instance: `ptmx` is an open master; unlocks it and opens its slave by the master's own
/// descriptor (TIOCGPTPEER, kernel 4.13), so that no path is resolved.
pub(crate) fn pty_peer(ptmx: RawFd) -> Result<RawFd> {
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int, which lives across the call.
    unsafe { call!(SYS_ioctl, ptmx, libc::TIOCSPTLCK, &raw const unlock) }?;
    // SAFETY: TIOCGPTPEER takes open flags as a number.
    unsafe { call!(SYS_ioctl, ptmx, libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) }.map(|fd| fd as RawFd)
}

/// TIOCSCTTY: makes `fd` the controlling terminal of this session.
pub(crate) fn set_controlling_terminal(fd: RawFd) -> Result<()> {
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_ioctl, fd, libc::TIOCSCTTY, 0) }.map(drop)
}

/// Turns off the terminal's translation of line ends (ONLCR).
pub(crate) fn bare_newlines(fd: RawFd) -> Result<()> {
    // The C library's termios is the kernel's with room behind it.
    // SAFETY: termios is plain old data; all-zero is valid.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: TCGETS writes the kernel's termios, the shorter one, which lives across the call.
    unsafe { call!(SYS_ioctl, fd, libc::TCGETS, &raw mut settings) }?;
    settings.c_oflag &= !libc::ONLCR;
    // SAFETY: TCSETS reads it.
    unsafe { call!(SYS_ioctl, fd, libc::TCSETS, &raw const settings) }.map(drop)
}

/// TIOCSWINSZ.
pub(crate) fn set_window_size(fd: RawFd, rows: u16, columns: u16) -> Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize, which lives across the call.
    unsafe { call!(SYS_ioctl, fd, libc::TIOCSWINSZ, &raw const size) }.map(drop)
}

/// `sendto(2)` of one message on a connected socket; a peer that is gone gives EPIPE and no signal.
pub(crate) fn send(socket: RawFd, bytes: &[u8]) -> Result<()> {
    // SAFETY: pointer and length describe `bytes`; there is no address.
    unsafe { call!(SYS_sendto, socket, bytes.as_ptr(), bytes.len(), libc::MSG_NOSIGNAL, 0, 0) }.map(drop)
}

/// CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is the structure that the call fills. It fails for no clock that exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Memory that stays shared with processes made after it, all zeros, for as long as this one lives.
pub(crate) fn shared_words(count: usize) -> Result<&'static [AtomicU64]> {
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at a place that the kernel chooses.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), count * size_of::<AtomicU64>(), prot, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOMEM)));
    }
    // SAFETY: the mapping has that many words, begins at a page, is never taken away, and is only reached as atomics, here and in children.
    Ok(unsafe { std::slice::from_raw_parts(start.cast(), count) })
}

/// `recvfrom(2)` of one message.
pub(crate) fn recv(socket: RawFd, buf: &mut [u8]) -> Result<usize> {
    loop {
        // SAFETY: pointer and length describe `buf`; no address is asked for.
        match unsafe { call!(SYS_recvfrom, socket, buf.as_mut_ptr(), buf.len(), 0, 0, 0) } {
            Err(Errno(libc::EINTR)) => {}
            r => return r,
        }
    }
}

/// `sendmsg(2)` of one byte with one descriptor (SCM_RIGHTS).
pub(crate) fn send_fd(socket: RawFd, fd: RawFd, bytes: &[u8]) -> Result<()> {
    let mut control = [0u64; 4];
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain old data; all-zero is valid.
    let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
    msg.msg_iov = &raw mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE and CMSG_LEN compute with numbers.
    let (space, len) = unsafe { (libc::CMSG_SPACE(4) as usize, libc::CMSG_LEN(4) as usize) };
    msg.msg_controllen = space;
    // SAFETY: `control` is 8-aligned and at least CMSG_SPACE(4) = 24 bytes, so the first header and its data lie inside it.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const msg);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = len;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd);
    }
    // SAFETY: `msg`, its iovec and its control buffer are valid and live across the call; the kernel only reads them.
    unsafe { call!(SYS_sendmsg, socket, &raw const msg, libc::MSG_NOSIGNAL) }.map(drop)
}

/// Sets the thread's signal mask.
pub(crate) fn set_signal_mask(mask: &SignalMask) -> Result<()> {
    // SAFETY: `mask` is a kernel sigset of 8 bytes, only read; the old mask is not asked for.
    unsafe { call!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask.0, 0, 8) }.map(drop)
}

/// The thread's signal mask, replaced by `new` where that is given.
pub(crate) fn swap_signal_mask(new: Option<&SignalMask>) -> Result<SignalMask> {
    let mut old = SignalMask(0);
    let set = new.map_or(std::ptr::null(), |m| &raw const m.0);
    // SAFETY: `set` is null or a kernel sigset of 8 bytes that is only read; `old` is a writable one.
    unsafe { call!(SYS_rt_sigprocmask, libc::SIG_SETMASK, set, &raw mut old.0, 8) }?;
    Ok(old)
}

/// Takes a pending signal of `mask` without waiting; its number.
pub(crate) fn pending_signal(mask: SignalMask) -> Option<i32> {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the set of 8 bytes and the timespec are only read and live across the call; no information is asked for.
    unsafe { call!(SYS_rt_sigtimedwait, &raw const mask.0, 0, &raw const now, 8) }.ok().map(|n| n as i32)
}

/// Waits for any blocked signal; its number.
pub(crate) fn wait_signal() -> Result<i32> {
    let all = SignalMask::ALL;
    loop {
        // SAFETY: `all` is a kernel sigset of 8 bytes, only read; neither information nor a timeout is asked for.
        match unsafe { call!(SYS_rt_sigtimedwait, &raw const all.0, 0, 0, 8) } {
            Err(Errno(libc::EINTR)) => {}
            r => return r.map(|n| n as i32),
        }
    }
}

/// A kernel signal set: bit n-1 is signal n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SignalMask(pub u64);

impl SignalMask {
    /// Every signal.
    pub(crate) const ALL: Self = Self(u64::MAX);
    /// None.
    pub(crate) const NONE: Self = Self(0);

    /// These.
    pub(crate) fn of(signals: &[i32]) -> Self {
        Self(signals.iter().fold(0, |all, n| all | 1 << (n - 1)))
    }
}

/// `poll(2)` on one descriptor; milliseconds, -1 for ever. Whether it became ready.
pub(crate) fn poll_in(fd: RawFd, timeout: i32) -> Result<bool> {
    let mut p = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: `p` is one valid pollfd that lives across the call.
        match super::call::check(unsafe { libc::poll(&raw mut p, 1, timeout) }.into()) {
            Err(Errno(libc::EINTR)) => {}
            r => return r.map(|n| n > 0),
        }
    }
}

/// Parameters of `sched_setattr(2)`, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SchedAttr {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// `sched_setattr(2)`; 0 is the calling thread.
pub(crate) fn set_scheduler(pid: i32, a: &SchedAttr) -> Result<()> {
    // The kernel's struct sched_attr (linux/sched/types.h), SCHED_ATTR_SIZE_VER0.
    #[repr(C)]
    struct Raw {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let raw = Raw {
        size: size_of::<Raw>() as u32,
        policy: a.policy,
        flags: a.flags,
        nice: a.nice,
        priority: a.priority,
        runtime: a.runtime,
        deadline: a.deadline,
        period: a.period,
    };
    // SAFETY: `raw` is a valid sched_attr whose size field is its size.
    unsafe { call!(SYS_sched_setattr, pid, &raw const raw, 0) }.map(drop)
}

/// `sched_setaffinity(2)` of the calling thread; bit N of word N / 64 stands for CPU N.
pub(crate) fn set_affinity(mask: &[u64]) -> Result<()> {
    // SAFETY: the pointer and the length in bytes describe `mask`, which is only read.
    unsafe { call!(SYS_sched_setaffinity, 0, size_of_val(mask), mask.as_ptr()) }.map(drop)
}

/// `set_mempolicy(2)`: a mode with its flags; bit N of word N / 64 stands for node N.
pub(crate) fn set_memory_policy(mode: u32, nodes: Option<&[u64]>) -> Result<()> {
    // The kernel takes one bit less than it is told (mm/mempolicy.c, get_nodes).
    let (mask, bits) = nodes.map_or((std::ptr::null(), 0), |n| (n.as_ptr(), size_of_val(n) * 8 + 1));
    // SAFETY: `mask` is null or has `bits` - 1 bits, which are only read.
    unsafe { call!(SYS_set_mempolicy, mode, mask, bits) }.map(drop)
}

/// `ioprio_set(2)` for one process; 0 is the calling thread.
pub(crate) fn set_io_priority(pid: i32, priority: u32) -> Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, priority) }.map(drop)
}

/// `personality(2)`.
pub(crate) fn personality(domain: u64) -> Result<()> {
    // SAFETY: takes a number only.
    unsafe { call!(SYS_personality, domain) }.map(drop)
}

/// `pidfd_open(2)` (kernel 5.3).
pub(crate) fn pidfd_open(pid: i32) -> Result<RawFd> {
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_pidfd_open, pid, 0) }.map(|fd| fd as RawFd)
}

/// `pidfd_getfd(2)` (kernel 5.6): a copy of another process's descriptor, close-on-exec.
pub(crate) fn descriptor_of(pidfd: RawFd, fd: RawFd) -> Result<RawFd> {
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_pidfd_getfd, pidfd, fd, 0) }.map(|fd| fd as RawFd)
}

/// `pidfd_send_signal(2)` (kernel 5.1); signal 0 asks whether the process exists.
pub(crate) fn pidfd_send_signal(pidfd: RawFd, signal: i32) -> Result<()> {
    // SAFETY: takes numbers and a null pointer, which asks for the signal information kill(2) would give.
    unsafe { call!(SYS_pidfd_send_signal, pidfd, signal, std::ptr::null::<libc::siginfo_t>(), 0) }.map(drop)
}

/// `kill(2)`.
pub(crate) fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_kill, pid, signal) }.map(drop)
}

/// `wait4(2)`: the raw wait status of a child.
pub(crate) fn wait4(pid: i32, options: i32) -> Result<(i32, i32)> {
    let mut status: libc::c_int = 0;
    loop {
        // SAFETY: `status` is a writable int; resource usage is not asked for.
        match unsafe { call!(SYS_wait4, pid, &raw mut status, options, 0) } {
            Err(Errno(libc::EINTR)) => {}
            r => return r.map(|p| (p as i32, status)),
        }
    }
}

/// The C library's text for an error number: static, not translated, no locks (`strerrordesc_np`, glibc 2.32).
pub(crate) fn error_text(errno: i32) -> &'static CStr {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn strerrordesc_np(errnum: libc::c_int) -> *const libc::c_char;
        }
        // SAFETY: takes a number; returns null or a string constant with static life.
        let text = unsafe { strerrordesc_np(errno) };
        if !text.is_null() {
            // SAFETY: not null, so a NUL-terminated string constant of the C library.
            return unsafe { CStr::from_ptr(text) };
        }
    }
    let _ = errno;
    c"unknown error"
}

/// `memfd_create(2)` with `bytes` in it, positioned at the start. The child's form: a bare descriptor.
pub(crate) fn memfd_with(bytes: &[u8]) -> Result<RawFd> {
    // SAFETY: the name is a C string constant.
    let fd = unsafe { call!(SYS_memfd_create, c"state".as_ptr(), libc::MFD_CLOEXEC) }? as RawFd;
    if let Err(e) = super::mount::write_all(fd, bytes) {
        super::close(fd);
        return Err(e);
    }
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_lseek, fd, 0, libc::SEEK_SET) }?;
    Ok(fd)
}

/// `memfd_create(2)` for output whose size can be sealed. The child's form: a bare descriptor.
pub(crate) fn output_file() -> Result<RawFd> {
    // SAFETY: the name is a C string constant.
    unsafe { call!(SYS_memfd_create, c"output".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) }.map(|fd| fd as RawFd)
}

/// `fcntl(2)` F_ADD_SEALS: what is still written behind the end of the file fails with EPERM, and the writer gets no signal.
pub(crate) fn seal_size(fd: RawFd) -> Result<()> {
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_fcntl, fd, libc::F_ADD_SEALS, libc::F_SEAL_GROW) }.map(drop)
}

/// `lseek(2)` to the end: the size of a file.
pub(crate) fn end_of(fd: RawFd) -> Result<u64> {
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_lseek, fd, 0, libc::SEEK_END) }.map(|n| n as u64)
}

/// `pread(2)`, once.
pub(crate) fn read_at(fd: RawFd, buf: &mut [u8], offset: u64) -> Result<usize> {
    // SAFETY: pointer and length describe `buf`, which the kernel may fill.
    unsafe { call!(SYS_pread64, fd, buf.as_mut_ptr(), buf.len(), offset) }
}

/// `fcntl(2)` F_DUPFD_CLOEXEC: the same descriptor under a number of at least `lowest`.
pub(crate) fn dup_above(fd: RawFd, lowest: RawFd) -> Result<RawFd> {
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, lowest) }.map(|fd| fd as RawFd)
}
