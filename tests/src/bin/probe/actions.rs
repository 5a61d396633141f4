//! What the probe does to its container: exits, signals, files, system calls, processes, memory, and being a hook.
//! What it merely sees is in `report`.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

use crate::live;
use crate::report::{describe, errno_name, report};
use crate::{emit, emit_line};

/// Runs one action. `Err` is a mistake of the caller; what the kernel refuses is printed as `{"errno": NAME}`.
pub(crate) fn perform(verb: &str, operands: &[&str]) -> Result<(), String> {
    let operand = |n: usize| operands.get(n).copied().ok_or_else(|| format!("{verb}: operand {} is missing", n + 1));
    match verb {
        "report" => emit(&report(operands)?),
        "exit" => exit(number(operand(0)?)?),
        "signal" => signal_self(number(operand(0)?)?),
        "now" => emit_line(&now().to_string()),
        "ready" => emit_line("READY"),
        "sleep" => sleep(operands.first() == Some(&"stubborn")),
        "pause" => loop {
            // SAFETY: waits for a signal; no pointers.
            unsafe { libc::pause() };
        },
        "count" => live::count(operand(0)?)?,
        "tick" => live::tick(),
        "lock" => live::lock(operand(0)?)?,
        "serve" => live::serve(u16::try_from(number(operand(0)?)?).map_err(|e| e.to_string())?)?,
        "swrk" => live::swrk(i32::try_from(number(operand(0)?)?).map_err(|e| e.to_string())?)?,
        "out" => emit_line(&operands.join(" ")),
        "err" => {
            let _ = writeln!(std::io::stderr(), "{}", operands.join(" "));
        }
        "echo-stdin" => echo_stdin(),
        "stat" => operands.iter().for_each(|p| emit(&describe(p))),
        "seal-by-verity" => emit(&outcome(seal_by_verity(operand(0)?))),
        "try-open" => emit(&outcome(try_open(operand(0)?, operands.get(1).copied().unwrap_or("r")))),
        "try-write" => emit(&outcome(try_write(operand(0)?))),
        "keep-mode" => emit(&outcome(keep_mode(operand(0)?))),
        "try-mkdir" => emit(&outcome(fs::create_dir(operand(0)?))),
        "write-file" => emit(&outcome(fs::write(operand(0)?, operands[1..].join(" ")))),
        "read-file" => emit(&match fs::read(operand(0)?) {
            Ok(body) => json!({ "text": String::from_utf8_lossy(&body) }),
            Err(e) => json!({ "errno": errno_name(&e) }),
        }),
        "read-fd" => {
            let path = format!("/proc/self/fd/{}", number(operand(0)?)?);
            emit(&fs::read_to_string(path).map_or_else(|e| json!({ "errno": errno_name(&e) }), |t| json!({ "text": t })));
        }
        "mknod" => emit(&mknod(operand(0)?, number(operand(1)?)?, number(operand(2)?)?)),
        "mount-tmpfs" => emit(&mount_tmpfs(operand(0)?)),
        "syscall" => emit(&raw_syscall(operand(0)?, &operands[1..])?),
        "verdicts" => emit(&crate::verdicts::all(number(operand(0)?)?)?),
        "fork-bomb" => emit(&fork_bomb(number(operand(0)?)?)),
        "children" => children(number(operand(0)?)?)?,
        "zombie-reaper" => emit(&reap_orphan()?),
        "alloc" => emit(&alloc(usize::try_from(number(operand(0)?)?).map_err(|e| e.to_string())?)),
        "peak" => emit(&json!({ "kB": peak(operand(0)?, &operands[1..])? })),
        "spin" => spin(number(operand(0)?)?),
        "device-programs" => emit(&json!({ "count": device_programs() })),
        "console" => emit(&outcome(try_text("/dev/console", operand(0)?))),
        "notify" => emit(&outcome(notify(&operands.join("\n")))),
        "notify-barrier" => emit(&outcome(notify_barrier())),
        "connect" => emit(&outcome(UnixStream::connect(operand(0)?).map(drop))),
        "attack-programs" => emit(&crate::attack::programs(number(operand(0)?)?.unsigned_abs())),
        "hook" => hook(operand(0)?, operand(1)?, &operands[2..])?,
        _ => return Err(format!("unknown action {verb}")),
    }
    Ok(())
}

/// Peak resident memory of a command, the largest of its processes, in kB. What this program takes itself is the least that can be told: until
/// its execve the command's process has this one's memory.
fn peak(program: &str, arguments: &[&str]) -> Result<i64, String> {
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status().map_err(|e| e.to_string())?;
    if !status.success() {
        return Err(format!("{program}: {status}"));
    }
    Ok(getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|e| e.to_string())?.max_rss())
}

/// One message for whoever listens on `$NOTIFY_SOCKET`.
fn notify(message: &str) -> std::io::Result<()> {
    let path = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    UnixDatagram::unbound()?.send_to(message.as_bytes(), path).map(drop)
}

/// Waits until the descriptor sent with `BARRIER=1` is closed by who received it (sd_notify_barrier(3)).
fn notify_barrier() -> std::io::Result<()> {
    let (mut read, write) = std::io::pipe()?;
    let socket = UnixDatagram::unbound()?;
    socket.connect(std::env::var_os("NOTIFY_SOCKET").unwrap_or_default())?;
    let fds = [std::os::fd::AsRawFd::as_raw_fd(&write)];
    let parts = [std::io::IoSlice::new(b"BARRIER=1")];
    let control = [nix::sys::socket::ControlMessage::ScmRights(&fds)];
    let flags = nix::sys::socket::MsgFlags::empty();
    nix::sys::socket::sendmsg::<()>(std::os::fd::AsRawFd::as_raw_fd(&socket), &parts, &control, flags, None)?;
    drop(write);
    read.read(&mut [0]).map(drop)
}

fn number(word: &str) -> Result<i64, String> {
    word.parse().map_err(|e| format!("`{word}`: {e}"))
}

fn exit(code: i64) -> ! {
    std::process::exit(i32::try_from(code).unwrap_or(99))
}

fn outcome(result: std::io::Result<()>) -> Value {
    json!({ "errno": result.err().map(|e| errno_name(&e)) })
}

/// Ends the process by a signal. A pid 1 is immune to signals from within its namespace but not to a fault, so there
/// 11 means a real one.
fn signal_self(signal: i64) {
    let signal = i32::try_from(signal).unwrap_or(0);
    // SAFETY: plain signal calls on the own process; the fault is the purpose of the last one.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::kill(libc::getpid(), signal);
        if signal == libc::SIGSEGV {
            std::ptr::null_mut::<u8>().write_volatile(1);
        }
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
fn now() -> i64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("there is a clock");
    now.tv_sec() * 1_000_000_000 + now.tv_nsec()
}

/// Prints READY, then each signal as `SIGNAL n`, reaping children. SIGTERM ends it with 143, unless stubborn;
/// SIGUSR2 ends it with 0 in any case.
fn sleep(stubborn: bool) {
    // SAFETY: the sets are plain old data filled by the calls; sigwaitinfo may take no info.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
        emit_line("READY");
        loop {
            let got = libc::sigwaitinfo(&all, std::ptr::null_mut());
            match got {
                n if n < 0 => {}
                libc::SIGCHLD => while libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) > 0 {},
                libc::SIGTERM if !stubborn => exit(143),
                libc::SIGUSR2 => exit(0),
                n => {
                    emit_line(&format!("SIGNAL {n}"));
                    if n == libc::SIGWINCH {
                        let mut size: libc::winsize = std::mem::zeroed();
                        if libc::ioctl(0, libc::TIOCGWINSZ, &mut size) == 0 {
                            emit_line(&format!("SIZE {} {}", size.ws_row, size.ws_col));
                        }
                    }
                }
            }
        }
    }
}

fn echo_stdin() {
    let mut text = String::new();
    let _ = std::io::stdin().read_to_string(&mut text);
    emit(&json!({ "stdin": text }));
}

fn try_open(path: &str, how: &str) -> std::io::Result<()> {
    OpenOptions::new().read(how.contains('r')).write(how.contains('w')).open(path).map(drop)
}

/// Opens for writing, creating it if it isn't there; a file made so is removed again.
fn try_write(path: &str) -> std::io::Result<()> {
    let was = fs::symlink_metadata(path).is_ok();
    OpenOptions::new().append(true).create(true).open(path)?;
    if !was {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

fn try_text(path: &str, text: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(format!("{text}\n").as_bytes())
}

/// Makes a character device and opens it, to tell mknod's verdict from open's.
fn mknod(path: &str, major: i64, minor: i64) -> Value {
    let (Ok(c), Ok(major), Ok(minor)) = (std::ffi::CString::new(path), u32::try_from(major), u32::try_from(minor)) else {
        return json!({ "mknod": "EINVAL" });
    };
    // SAFETY: a NUL-terminated path that outlives the call.
    let made = unsafe { libc::mknod(c.as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(major, minor)) };
    let made = if made == 0 { Value::Null } else { errno_name(&std::io::Error::last_os_error()).into() };
    let opened = try_open(path, "r");
    let _ = fs::remove_file(path);
    json!({ "mknod": made, "open": opened.err().map(|e| errno_name(&e)) })
}

fn mount_tmpfs(target: &str) -> Value {
    let Ok(target) = std::ffi::CString::new(target) else {
        return json!({ "errno": "EINVAL" });
    };
    // SAFETY: all strings are NUL-terminated and outlive the call.
    let rc = unsafe { libc::mount(c"tmpfs".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()) };
    let error = (rc != 0).then(std::io::Error::last_os_error);
    json!({ "errno": error.map(|e| errno_name(&e)) })
}

/// Puts a file under fs-verity (Linux 5.4): `FS_IOC_ENABLE_VERITY` with SHA-256 and blocks of 4096 bytes.
fn seal_by_verity(path: &str) -> std::io::Result<()> {
    #[repr(C)]
    #[derive(Default)]
    struct FsverityEnableArg {
        version: u32,
        hash_algorithm: u32,
        block_size: u32,
        salt_size: u32,
        salt: u64,
        signature_size: u32,
        reserved1: u32,
        signature: u64,
        reserved2: [u64; 11],
    }
    let enable = libc::_IOW::<FsverityEnableArg>(b'f'.into(), 133);
    let file = fs::File::open(path)?;
    let arg = FsverityEnableArg { version: 1, hash_algorithm: 1, block_size: 4096, ..FsverityEnableArg::default() };
    // SAFETY: the request reads one structure of that type, which lives across the call.
    let rc = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&file), enable, &raw const arg) };
    if rc == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Sets the mode that a file has already: whether it could be changed, and no harm done.
fn keep_mode(path: &str) -> std::io::Result<()> {
    fs::set_permissions(path, fs::metadata(path)?.permissions())
}

/// A system call by name with plain integers: its result, or its errno. With null pointers an allowed call says
/// EFAULT or EINVAL, a filtered one what the filter says.
fn raw_syscall(name: &str, args: &[&str]) -> Result<Value, String> {
    let number_of = match name {
        "getpid" => libc::SYS_getpid,
        "getppid" => libc::SYS_getppid,
        "getuid" => libc::SYS_getuid,
        "mkdir" => libc::SYS_mkdir,
        "chmod" => libc::SYS_chmod,
        "personality" => libc::SYS_personality,
        "keyctl" => libc::SYS_keyctl,
        "ptrace" => libc::SYS_ptrace,
        "unshare" => libc::SYS_unshare,
        "setns" => libc::SYS_setns,
        "socket" => libc::SYS_socket,
        "reboot" => libc::SYS_reboot,
        "sethostname" => libc::SYS_sethostname,
        "umask" => libc::SYS_umask,
        "mount" => libc::SYS_mount,
        "chroot" => libc::SYS_chroot,
        "setuid" => libc::SYS_setuid,
        "bpf" => libc::SYS_bpf,
        "clone3" => libc::SYS_clone3,
        "sync" => libc::SYS_sync,
        "getgid" => libc::SYS_getgid,
        "getpgrp" => libc::SYS_getpgrp,
        _ => return Err(format!("syscall: unknown name {name}")),
    };
    let mut a = [0i64; 6];
    for (slot, word) in a.iter_mut().zip(args) {
        *slot = number(word)?;
    }
    // SAFETY: the callers pass integers and null pointers only, which the kernel checks.
    let rc = unsafe { libc::syscall(number_of, a[0], a[1], a[2], a[3], a[4], a[5]) };
    Ok(if rc < 0 { json!({ "errno": errno_name(&std::io::Error::last_os_error()) }) } else { json!({ "result": rc, "errno": null }) })
}

/// Forks a child that waits for a signal; the child never returns.
fn fork_sleeper() -> std::io::Result<libc::pid_t> {
    // SAFETY: the probe has one thread, so the child may go on as usual.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()),
        0 => loop {
            // SAFETY: no pointers.
            unsafe { libc::pause() };
        },
        pid => Ok(pid),
    }
}

fn fork_bomb(wanted: i64) -> Value {
    let mut pids = Vec::new();
    let mut errno = None;
    for _ in 0..wanted {
        match fork_sleeper() {
            Ok(pid) => pids.push(pid),
            Err(e) => {
                errno = Some(errno_name(&e));
                break;
            }
        }
    }
    for pid in &pids {
        // SAFETY: own children, not yet reaped.
        unsafe {
            libc::kill(*pid, libc::SIGKILL);
            libc::waitpid(*pid, std::ptr::null_mut(), 0);
        }
    }
    json!({ "forked": pids.len(), "errno": errno })
}

/// Leaves sleeping children behind for the next action.
fn children(count: i64) -> Result<(), String> {
    for _ in 0..count {
        fork_sleeper().map_err(|e| format!("fork: {e}"))?;
    }
    Ok(())
}

/// Orphans a grandchild and reports whether it came to this process to be reaped.
fn reap_orphan() -> Result<Value, String> {
    // SAFETY: the probe has one thread; the pipe's array is valid.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let grandchild = libc::fork();
            if grandchild == 0 {
                libc::_exit(23);
            }
            libc::_exit(0);
        }
        if child < 0 {
            return Err(format!("fork: {}", std::io::Error::last_os_error()));
        }
        let mut codes = Vec::new();
        loop {
            let mut status = 0;
            if libc::waitpid(-1, &mut status, 0) < 0 {
                break;
            }
            codes.push(libc::WEXITSTATUS(status));
        }
        codes.sort_unstable();
        Ok(json!({ "reaped": codes }))
    }
}

/// Maps anonymous memory and touches each page. A memory limit ends the process by SIGKILL.
fn alloc(bytes: usize) -> Value {
    let mut block = vec![0u8; bytes];
    for page in block.chunks_mut(4096) {
        page[0] = 1;
    }
    json!({ "allocated": std::hint::black_box(&block).len() })
}

/// Uses so many milliseconds of processor time.
fn spin(milliseconds: i64) {
    let used = || nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("there is a clock");
    let end = used().tv_sec() * 1000 + used().tv_nsec() / 1_000_000 + milliseconds;
    while used().tv_sec() * 1000 + used().tv_nsec() / 1_000_000 < end {}
}

/// How many device programs the kernel has loaded (bpf(2)); -1 where it may not be asked.
fn device_programs() -> i64 {
    const GET_NEXT_ID: libc::c_long = 11;
    const GET_FD_BY_ID: libc::c_long = 13;
    const GET_INFO_BY_FD: libc::c_long = 15;
    const CGROUP_DEVICE: u32 = 15;
    // SAFETY: `attr` is a valid union bpf_attr, long enough for each of the commands; nothing else is written to but `info` below.
    let bpf = |command: libc::c_long, attr: &mut [u32; 4]| unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), 16_u32) };
    let mut count = 0;
    let mut id = 0;
    loop {
        let mut next = [id, 0, 0, 0];
        if bpf(GET_NEXT_ID, &mut next) < 0 {
            let end = std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT);
            return if end { count } else { -1 };
        }
        id = next[1];
        let fd = bpf(GET_FD_BY_ID, &mut [id, 0, 0, 0]);
        if fd < 0 {
            // It went meanwhile.
            continue;
        }
        // The head of struct bpf_prog_info: the type, the id.
        let mut info = [0_u32; 2];
        let at = info.as_mut_ptr() as u64;
        let asked = bpf(GET_INFO_BY_FD, &mut [fd as u32, size_of_val(&info) as u32, at as u32, (at >> 32) as u32]);
        if asked == 0 && info[0] == CGROUP_DEVICE {
            count += 1;
        }
        // SAFETY: the descriptor is ours and used no more.
        unsafe { libc::close(fd as i32) };
    }
}

/// Being a hook: appends what it got to FILE as one line, then does `exit N`, `sleep`, `out TEXT` or `err TEXT`.
fn hook(file: &str, name: &str, then: &[&str]) -> Result<(), String> {
    let mut stdin = String::new();
    std::io::stdin().read_to_string(&mut stdin).map_err(|e| format!("stdin: {e}"))?;
    let full = report(&[])?;
    let kept = ["args", "env", "cwd", "namespaces", "pid", "uids", "fds", "mounts", "status"];
    let seen: serde_json::Map<String, Value> = kept.iter().map(|k| ((*k).to_owned(), full[*k].clone())).collect();
    let line = json!({ "hook": name, "stdin": stdin, "seen": seen });
    let mut out = OpenOptions::new().append(true).create(true).open(file).map_err(|e| format!("{file}: {e}"))?;
    out.write_all(format!("{line}\n").as_bytes()).map_err(|e| format!("{file}: {e}"))?;
    match then {
        [] => Ok(()),
        [verb, rest @ ..] => perform(verb, rest),
    }
}
