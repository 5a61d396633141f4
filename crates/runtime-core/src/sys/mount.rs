//! Raw calls about files and mounts. Not here: which to make.

use super::call::{Errno, Result, call};
use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// `openat2(2)` (kernel 5.6).
pub(crate) fn openat2(dir: RawFd, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Result<RawFd> {
    // SAFETY: open_how is plain old data and all-zero is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = u64::from(mode);
    how.resolve = resolve;
    // SAFETY: `path` is NUL-terminated and `how` is a valid open_how of the size given; both live across the call.
    unsafe { call!(SYS_openat2, dir, path.as_ptr(), &raw const how, size_of_val(&how)) }.map(|fd| fd as RawFd)
}

/// `openat(2)`, always with O_CLOEXEC.
pub(crate) fn openat(dir: RawFd, path: &CStr, flags: i32, mode: u32) -> Result<RawFd> {
    // SAFETY: `path` is NUL-terminated and lives across the call.
    unsafe { call!(SYS_openat, dir, path.as_ptr(), flags | libc::O_CLOEXEC, mode) }.map(|fd| fd as RawFd)
}

/// `close(2)`; errors do not matter for the descriptors closed with it.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: close takes a number; callers give descriptors they own.
    let _ = unsafe { call!(SYS_close, fd) };
}

/// `close_range(2)` (kernel 5.9) with CLOSE_RANGE_CLOEXEC (5.11) or without.
pub(crate) fn close_range(first: u32, last: u32, cloexec: bool) -> Result<()> {
    let flags = if cloexec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_close_range, first, last, flags) }.map(drop)
}

/// `fcntl(fd, F_SETFD, FD_CLOEXEC)`.
pub(crate) fn set_cloexec(fd: RawFd) -> Result<()> {
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_fcntl, fd, libc::F_SETFD, libc::FD_CLOEXEC) }.map(drop)
}

/// `statx(2)` (kernel 4.11) of what a path leads to: all basic fields, and the attributes.
pub(crate) fn statx(path: &CStr) -> Result<libc::statx> {
    // SAFETY: plain numbers, for which all zeros is a value.
    let mut st: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is NUL-terminated, and `st` is the structure that the call fills; both live across it.
    unsafe { call!(SYS_statx, libc::AT_FDCWD, path.as_ptr(), 0, libc::STATX_BASIC_STATS, &raw mut st) }?;
    Ok(st)
}

/// Closes everything from `first` on, or marks it close-on-exec, where close_range(2) is missing too.
pub(crate) fn close_from(first: u32, mark: bool) -> Result<()> {
    match close_range(first, u32::MAX, mark) {
        // The call is of kernel 5.9, its flag of 5.11.
        Err(Errno(libc::ENOSYS | libc::EINVAL)) => {}
        r => return r,
    }
    // Descriptors are dense, so a long run of closed ones is the end.
    let mut closed = 0;
    for fd in first as RawFd.. {
        closed = if set_cloexec(fd).is_ok() { 0 } else { closed + 1 };
        if closed == 0 && !mark {
            close(fd);
        }
        if closed > 1024 {
            break;
        }
    }
    Ok(())
}

/// Closes all from `first` to `last`, each by itself where close_range(2) is missing.
pub(crate) fn close_span(first: RawFd, last: RawFd) -> Result<()> {
    if first > last {
        return Ok(());
    }
    match close_range(first as u32, last as u32, false) {
        Err(Errno(libc::ENOSYS)) => {
            (first..=last).for_each(close);
            Ok(())
        }
        r => r,
    }
}

/// `unlinkat(2)` of what is no directory.
pub(crate) fn unlinkat(dir: RawFd, path: &CStr) -> Result<()> {
    // SAFETY: `path` is NUL-terminated and lives across the call.
    unsafe { call!(SYS_unlinkat, dir, path.as_ptr(), 0) }.map(drop)
}

/// All of `bytes`, by as many write(2) as it takes.
pub(crate) fn write_all(fd: RawFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        bytes = &bytes[write(fd, bytes)?..];
    }
    Ok(())
}

/// `write(2)`, once.
pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> Result<usize> {
    // SAFETY: pointer and length describe `bytes`.
    unsafe { call!(SYS_write, fd, bytes.as_ptr(), bytes.len()) }
}

/// `read(2)`, once.
pub(crate) fn read(fd: RawFd, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: pointer and length describe `buf`, which the kernel may fill.
    unsafe { call!(SYS_read, fd, buf.as_mut_ptr(), buf.len()) }
}

/// What `fstat(2)` says, as far as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub mode: u32,
    pub rdev: u64,
    pub dev: u64,
    pub ino: u64,
    pub uid: u32,
    pub gid: u32,
}

impl Stat {
    pub(crate) fn is_dir(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }
    pub(crate) fn is_regular(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }
    pub(crate) fn is_char_device(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFCHR
    }
    pub(crate) fn is_char(&self, major: u32, minor: u32) -> bool {
        self.is_char_device() && self.rdev == libc::makedev(major, minor)
    }
}

/// `newfstatat(2)`.
pub(crate) fn fstatat(dir: RawFd, path: &CStr, flags: i32) -> Result<Stat> {
    // SAFETY: struct stat is plain old data; all-zero is valid.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is NUL-terminated, `st` is writable memory of the type the call fills; both live across it.
    check_stat(unsafe { libc::fstatat(dir, path.as_ptr(), &raw mut st, flags) }, &st)
}

fn check_stat(ret: i32, st: &libc::stat) -> Result<Stat> {
    super::call::check(ret.into())?;
    Ok(Stat { mode: st.st_mode, rdev: st.st_rdev, dev: st.st_dev, ino: st.st_ino, uid: st.st_uid, gid: st.st_gid })
}

/// `fstat(2)`; works on O_PATH descriptors (3.6).
pub(crate) fn fstat(fd: RawFd) -> Result<Stat> {
    fstatat(fd, c"", libc::AT_EMPTY_PATH)
}

/// `mkdirat(2)`.
pub(crate) fn mkdirat(dir: RawFd, path: &CStr, mode: u32) -> Result<()> {
    // SAFETY: `path` is NUL-terminated and lives across the call.
    unsafe { call!(SYS_mkdirat, dir, path.as_ptr(), mode) }.map(drop)
}

/// `mknodat(2)`.
pub(crate) fn mknodat(dir: RawFd, path: &CStr, mode: u32, rdev: u64) -> Result<()> {
    // SAFETY: `path` is NUL-terminated and lives across the call.
    unsafe { call!(SYS_mknodat, dir, path.as_ptr(), mode, rdev) }.map(drop)
}

/// `symlinkat(2)`.
pub(crate) fn symlinkat(target: &CStr, dir: RawFd, path: &CStr) -> Result<()> {
    // SAFETY: both strings are NUL-terminated and live across the call.
    unsafe { call!(SYS_symlinkat, target.as_ptr(), dir, path.as_ptr()) }.map(drop)
}

/// `fchownat(2)` on the entry itself, never through a symlink. `u32::MAX` keeps an id.
pub(crate) fn fchownat(dir: RawFd, path: &CStr, uid: u32, gid: u32, flags: i32) -> Result<()> {
    // SAFETY: `path` is NUL-terminated and lives across the call.
    unsafe { call!(SYS_fchownat, dir, path.as_ptr(), uid, gid, flags | libc::AT_SYMLINK_NOFOLLOW) }.map(drop)
}

/// `mount(2)`.
pub(crate) fn mount(source: Option<&CStr>, target: &CStr, fstype: Option<&CStr>, flags: u64, data: Option<&CStr>) -> Result<()> {
    let p = |s: Option<&CStr>| s.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: every pointer is null where the kernel allows it or a NUL-terminated string that lives across the call.
    unsafe { call!(SYS_mount, p(source), target.as_ptr(), p(fstype), flags, p(data)) }.map(drop)
}

/// `umount2(2)`.
pub(crate) fn umount2(target: &CStr, flags: i32) -> Result<()> {
    // SAFETY: `target` is NUL-terminated and lives across the call.
    unsafe { call!(SYS_umount2, target.as_ptr(), flags) }.map(drop)
}

/// `pivot_root(2)`.
pub(crate) fn pivot_root(new: &CStr, old: &CStr) -> Result<()> {
    // SAFETY: both strings are NUL-terminated and live across the call.
    unsafe { call!(SYS_pivot_root, new.as_ptr(), old.as_ptr()) }.map(drop)
}

/// `chroot(2)`.
pub(crate) fn chroot(path: &CStr) -> Result<()> {
    // SAFETY: `path` is NUL-terminated and lives across the call.
    unsafe { call!(SYS_chroot, path.as_ptr()) }.map(drop)
}

/// `chdir(2)`.
pub(crate) fn chdir(path: &CStr) -> Result<()> {
    // SAFETY: `path` is NUL-terminated and lives across the call.
    unsafe { call!(SYS_chdir, path.as_ptr()) }.map(drop)
}

/// `fchdir(2)`.
pub(crate) fn fchdir(fd: RawFd) -> Result<()> {
    // SAFETY: takes a number.
    unsafe { call!(SYS_fchdir, fd) }.map(drop)
}

/// `getcwd(2)` as the kernel makes it: an unreachable directory gives a path that does not start with a slash.
pub(crate) fn getcwd(buf: &mut [u8]) -> Result<usize> {
    // SAFETY: pointer and length describe `buf`.
    unsafe { call!(SYS_getcwd, buf.as_mut_ptr(), buf.len()) }
}

/// `open_tree(2)` (kernel 5.2) with OPEN_TREE_CLOEXEC.
pub(crate) fn open_tree(dir: RawFd, path: &CStr, flags: u32) -> Result<RawFd> {
    // SAFETY: `path` is NUL-terminated and lives across the call.
    unsafe { call!(SYS_open_tree, dir, path.as_ptr(), flags | OPEN_TREE_CLOEXEC) }.map(|fd| fd as RawFd)
}

/// The same number on every architecture (kernel 6.15); the C library does not know it yet.
pub(super) const OPEN_TREE_ATTR: libc::c_long = 467;

/// Whether open_tree_attr(2) is there, as far as it was tried. The child has what its parent found out.
pub(super) static TREES_WITH_ATTRIBUTES: AtomicBool = AtomicBool::new(true);

/// A detached copy of the tree at `path` that has attributes from the beginning: `open_tree_attr(2)` (kernel 6.15), or the two calls of which
/// it is made. With `AT_RECURSIVE` among the flags the attributes are those of every mount of the tree. For the rest see [`mount_setattr`].
pub(crate) fn clone_tree_with(dir: RawFd, path: &CStr, flags: u32, set: u64, clear: u64, propagation: u64) -> Result<RawFd> {
    let flags = flags | OPEN_TREE_CLONE;
    if TREES_WITH_ATTRIBUTES.load(Ordering::Relaxed) {
        let attr = attributes(set, clear, propagation);
        let all = flags | OPEN_TREE_CLOEXEC;
        // SAFETY: `path` is NUL-terminated, `attr` a valid mount_attr of the size given; both live across the call.
        match super::call::check(unsafe { libc::syscall(OPEN_TREE_ATTR, dir, path.as_ptr(), all, &raw const attr, size_of_val(&attr)) }) {
            // A filter that does not know the call may answer so, too.
            Err(Errno(libc::ENOSYS | libc::EPERM)) => TREES_WITH_ATTRIBUTES.store(false, Ordering::Relaxed),
            made => return made.map(|fd| fd as RawFd),
        }
    }
    let tree = open_tree(dir, path, flags)?;
    let changed = mount_setattr(tree, flags & AT_RECURSIVE != 0, set, clear, propagation);
    changed.map(|()| tree).inspect_err(|_| close(tree))
}

/// Clone the tree instead of opening it.
pub(crate) const OPEN_TREE_CLONE: u32 = 1;
/// Make a mount namespace whose root is a clone of the tree, and open that (kernel 7.0).
pub(crate) const OPEN_TREE_NAMESPACE: u32 = 1 << 1;
pub(super) const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
/// A symbolic link itself.
pub(crate) const AT_SYMLINK_NOFOLLOW: u32 = libc::AT_SYMLINK_NOFOLLOW as u32;
/// Include the mounts below (`AT_RECURSIVE`).
pub(crate) const AT_RECURSIVE: u32 = 0x8000;
/// The descriptor itself (`AT_EMPTY_PATH`).
pub(crate) const AT_EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;

/// `move_mount(2)` (kernel 5.2) of the mount behind `tree` onto the object behind `target`.
pub(crate) fn move_mount(tree: RawFd, target: RawFd) -> Result<()> {
    const F_EMPTY_PATH: u32 = 0x4;
    const T_EMPTY_PATH: u32 = 0x40;
    // SAFETY: the two paths are empty C strings with static life; the rest are numbers.
    unsafe { call!(SYS_move_mount, tree, c"".as_ptr(), target, c"".as_ptr(), F_EMPTY_PATH | T_EMPTY_PATH) }.map(drop)
}

/// `move_mount(2)` of the mount behind `tree` onto what is at `path`.
pub(crate) fn move_mount_to_path(tree: RawFd, path: &CStr) -> Result<()> {
    const F_EMPTY_PATH: u32 = 0x4;
    const T_SYMLINKS: u32 = 0x10;
    // SAFETY: both paths are NUL-terminated and live across the call; the rest are numbers.
    unsafe { call!(SYS_move_mount, tree, c"".as_ptr(), libc::AT_FDCWD, path.as_ptr(), F_EMPTY_PATH | T_SYMLINKS) }.map(drop)
}

/// `move_mount(2)` of the mount behind `tree` onto an entry of a directory, itself if it is a link.
pub(crate) fn move_mount_to(tree: RawFd, dir: RawFd, name: &CStr) -> Result<()> {
    const F_EMPTY_PATH: u32 = 0x4;
    // SAFETY: both paths are NUL-terminated and live across the call; the rest are numbers.
    unsafe { call!(SYS_move_mount, tree, c"".as_ptr(), dir, name.as_ptr(), F_EMPTY_PATH) }.map(drop)
}

/// `fsopen(2)` (kernel 5.2).
pub(crate) fn fsopen(fstype: &CStr) -> Result<RawFd> {
    const FSOPEN_CLOEXEC: u32 = 1;
    // SAFETY: `fstype` is NUL-terminated and lives across the call.
    unsafe { call!(SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) }.map(|fd| fd as RawFd)
}

/// `fsconfig(2)`: a flag, or a string where there is a value.
pub(crate) fn fsconfig_set(fs: RawFd, key: &CStr, value: Option<&CStr>) -> Result<()> {
    const SET_FLAG: u32 = 0;
    const SET_STRING: u32 = 1;
    let (command, value) = value.map_or((SET_FLAG, std::ptr::null()), |v| (SET_STRING, v.as_ptr()));
    // SAFETY: `key` and a non-null `value` are NUL-terminated and live across the call.
    unsafe { call!(SYS_fsconfig, fs, command, key.as_ptr(), value, 0) }.map(drop)
}

/// `fsconfig(2)` with FSCONFIG_CMD_CREATE.
pub(crate) fn fsconfig_create(fs: RawFd) -> Result<()> {
    const CMD_CREATE: u32 = 6;
    // SAFETY: the pointers are null, as the command demands.
    unsafe { call!(SYS_fsconfig, fs, CMD_CREATE, 0, 0, 0) }.map(drop)
}

/// `fsconfig(2)` with FSCONFIG_CMD_RECONFIGURE, after [`fspick`].
pub(crate) fn fsconfig_reconfigure(fs: RawFd) -> Result<()> {
    const CMD_RECONFIGURE: u32 = 7;
    // SAFETY: the pointers are null, as the command demands.
    unsafe { call!(SYS_fsconfig, fs, CMD_RECONFIGURE, 0, 0, 0) }.map(drop)
}

/// `fspick(2)` (kernel 5.2) of the file system whose mount's root is behind `mount`.
pub(crate) fn fspick(mount: RawFd) -> Result<RawFd> {
    const CLOEXEC: u32 = 1;
    const EMPTY_PATH: u32 = 8;
    // SAFETY: the path is an empty C string with static life; the rest are numbers.
    unsafe { call!(SYS_fspick, mount, c"".as_ptr(), CLOEXEC | EMPTY_PATH) }.map(|fd| fd as RawFd)
}

/// `fsmount(2)` (kernel 5.2) with MOUNT_ATTR_* flags.
pub(crate) fn fsmount(fs: RawFd, attrs: u64) -> Result<RawFd> {
    const FSMOUNT_CLOEXEC: u32 = 1;
    // SAFETY: takes numbers only.
    unsafe { call!(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attrs) }.map(|fd| fd as RawFd)
}

/// `mount_setattr(2)` (kernel 5.12) on the mount behind `fd`, with `AT_RECURSIVE` for those below it too. `propagation` is 0 or one
/// of MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE.
pub(crate) fn mount_setattr(fd: RawFd, recursive: bool, set: u64, clear: u64, propagation: u64) -> Result<()> {
    let attr = attributes(set, clear, propagation);
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, `attr` a valid mount_attr of the size given; both live across the call.
    unsafe { call!(SYS_mount_setattr, fd, c"".as_ptr(), flags, &raw const attr, size_of_val(&attr)) }.map(drop)
}

fn attributes(set: u64, clear: u64, propagation: u64) -> libc::mount_attr {
    // SAFETY: mount_attr is plain old data and all-zero is a valid value.
    let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
    attr.attr_set = set;
    attr.attr_clr = clear;
    attr.propagation = propagation;
    attr
}

/// `mount_setattr(2)` that gives the detached mount behind `fd` the id map of the user namespace behind `userns`.
pub(crate) fn set_id_map(fd: RawFd, recursive: bool, userns: RawFd) -> Result<()> {
    // SAFETY: mount_attr is plain old data and all-zero is a valid value.
    let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
    attr.attr_set = libc::MOUNT_ATTR_IDMAP;
    attr.userns_fd = userns as u64;
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, `attr` a valid mount_attr of the size given; both live across the call.
    unsafe { call!(SYS_mount_setattr, fd, c"".as_ptr(), flags, &raw const attr, size_of_val(&attr)) }.map(drop)
}

/// `f_type` of `fstatfs(2)`.
pub(crate) fn fstatfs_type(fd: RawFd) -> Result<i64> {
    // SAFETY: struct statfs is plain old data; all-zero is valid.
    let mut st: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `st` is writable memory of the type the call fills.
    super::call::check(unsafe { libc::fstatfs(fd, &raw mut st) }.into())?;
    Ok(st.f_type)
}

/// ST_* flags (statfs(2)) of the mount behind `fd`. The C library's function copies what the kernel says and does nothing else.
pub(crate) fn mount_flags(fd: RawFd) -> Result<u64> {
    // SAFETY: struct statvfs is plain old data; all-zero is valid.
    let mut st: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `st` is writable memory of the type the call fills.
    super::call::check(unsafe { libc::fstatvfs(fd, &raw mut st) }.into())?;
    Ok(st.f_flag)
}
