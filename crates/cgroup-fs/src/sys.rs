//! The system calls that no library wraps: bpf(2) for device programs, kill(2) with any signal number. Not here: what the programs are.
#![allow(unsafe_code)]

use crate::device::Insn;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::CStr;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// Members of `union bpf_attr` (linux/bpf.h). The kernel takes a shorter struct than its own for one that is zero behind it.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Object {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

fn bpf<T>(command: libc::c_long, attr: &mut T) -> Result<libc::c_long, Errno> {
    // SAFETY: bpf(2) reads and writes at most `size` bytes at `attr`, which is exclusively borrowed and that long; each caller keeps
    // alive what pointers inside it lead to, for the length of the call.
    let r = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if r < 0 { Err(last()) } else { Ok(r) }
}

fn last() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the callers pass what bpf(2) has just returned as a new descriptor, which nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

/// Loads a device program; the descriptor is closed at execve by the kernel's own choice.
pub(crate) fn load_device_program(insns: &[Insn]) -> Result<OwnedFd, Errno> {
    let mut attr = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    attr.prog_name[..7].copy_from_slice(b"devices");
    bpf(BPF_PROG_LOAD, &mut attr).map(owned)
}

/// Attaches a program beside others (`BPF_F_ALLOW_MULTI`), or in the place of `old` (kernel 5.6).
pub(crate) fn attach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, old: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut attr = Attach {
        target_fd: raw(cgroup),
        attach_bpf_fd: raw(program),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI | if old.is_some() { BPF_F_REPLACE } else { 0 },
        replace_bpf_fd: old.map_or(0, raw),
    };
    bpf(BPF_PROG_ATTACH, &mut attr).map(|_| ())
}

/// Takes a program away.
pub(crate) fn detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = Attach { target_fd: raw(cgroup), attach_bpf_fd: raw(program), attach_type: BPF_CGROUP_DEVICE, ..Attach::default() };
    bpf(BPF_PROG_DETACH, &mut attr).map(|_| ())
}

/// Ids of the device programs attached to the cgroup itself.
pub(crate) fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    // BPF_CGROUP_MAX_PROGS, the kernel's limit for one cgroup.
    let mut ids = [0_u32; 64];
    let mut attr = Query {
        target_fd: raw(cgroup),
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        ..Query::default()
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    Ok(ids[..(attr.prog_cnt as usize).min(ids.len())].to_vec())
}

/// A descriptor of a loaded program.
pub(crate) fn by_id(id: u32) -> Result<OwnedFd, Errno> {
    bpf(BPF_PROG_GET_FD_BY_ID, &mut ById { prog_id: id, ..ById::default() }).map(owned)
}

/// Gives a program a name in a bpf file system, which keeps it loaded.
pub(crate) fn pin(program: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    bpf(BPF_OBJ_PIN, &mut Object { pathname: path.as_ptr() as u64, bpf_fd: raw(program), file_flags: 0 }).map(|_| ())
}

/// A descriptor of a program by its name.
pub(crate) fn pinned(path: &CStr) -> Result<OwnedFd, Errno> {
    bpf(BPF_OBJ_GET, &mut Object { pathname: path.as_ptr() as u64, ..Object::default() }).map(owned)
}

/// kill(2) for a process; `pid` must be above zero, since others mean groups.
pub(crate) fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    if pid <= 0 {
        return Err(Errno::SRCH);
    }
    // SAFETY: kill(2) takes two integers and touches no memory.
    if unsafe { libc::kill(pid, signal) } < 0 { Err(last()) } else { Ok(()) }
}
