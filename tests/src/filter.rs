//! System calls that the machine seems to lack: a seccomp filter that answers ENOSYS, as an old kernel or the filter of a container around
//! the runtime does. Not here: who is started under it (`src/bin/in-view.rs`).

use std::io::{Error, Result};

use nix::libc;

/// Of kernel 6.15, on every architecture.
const OPEN_TREE_ATTR: libc::c_long = 467;

/// Calls that can be taken away, by name.
const CALLS: [(&str, libc::c_long); 10] = [
    ("open_tree", libc::SYS_open_tree),
    ("open_tree_attr", OPEN_TREE_ATTR),
    ("move_mount", libc::SYS_move_mount),
    ("fsopen", libc::SYS_fsopen),
    ("fspick", libc::SYS_fspick),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("openat2", libc::SYS_openat2),
    ("clone3", libc::SYS_clone3),
    ("close_range", libc::SYS_close_range),
    ("pidfd_open", libc::SYS_pidfd_open),
];

/// An operation of prctl(2) that can be taken away, by its name.
const SET_MM: (&str, u32) = ("PR_SET_MM", libc::PR_SET_MM as u32);

/// Takes calls away from this process and all it starts, and with a call the one that does its work and another's. It must be root, since no_new_privs is left alone.
///
/// # Errors
/// A name that isn't known; what seccomp(2) says.
pub fn without(names: &[&str]) -> Result<()> {
    let numbers = names.iter().filter(|name| **name != SET_MM.0).map(|name| {
        let known = CALLS.iter().find(|(known, _)| known == name).map(|(_, number)| *number as u32);
        known.ok_or_else(|| Error::other(format!("no call `{name}` can be taken away")))
    });
    let mut numbers = numbers.collect::<Result<Vec<_>>>()?;
    if names.iter().any(|name| matches!(*name, "open_tree" | "mount_setattr")) {
        numbers.push(OPEN_TREE_ATTR as u32);
    }
    let (load, equal, answer) =
        (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::BPF_RET | libc::BPF_K);
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    // The number is the first field of seccomp_data. Nothing here makes calls of another architecture.
    let mut program = vec![op(load, 0, 0, 0)];
    for number in numbers {
        program.push(op(equal, 0, 1, number));
        program.push(op(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
    }
    if names.contains(&SET_MM.0) {
        // The first argument stands behind the number, the architecture and the address; its lower half first, or second.
        let argument = if cfg!(target_endian = "little") { 16 } else { 20 };
        program.push(op(equal, 0, 3, libc::SYS_prctl as u32));
        program.push(op(load, 0, 0, argument));
        program.push(op(equal, 0, 1, SET_MM.1));
        program.push(op(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
    }
    program.push(op(answer, 0, 0, libc::SECCOMP_RET_ALLOW));
    let fprog = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: `fprog` describes `program`, and both live across the call.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const fprog) };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
