//! `floor ROOTFS CGROUP`: what the kernel asks for a container of the default configuration, and nothing else. It makes the namespaces, the
//! cgroup, the mounts, the devices and the covered paths of `pinnace spec`, executes `/probe exit 0` and waits for it. No configuration is
//! read, nothing is verified and nothing written down: no runtime can be faster on the same kernel. `cargo xtask bench` measures against it.

use std::ffi::{CStr, CString};
use std::os::fd::AsRawFd;
use std::process::exit;

/// A raw call; its failure ends the program, so that nothing is measured that was not done.
macro_rules! call {
    ($what:expr, $nr:ident $(, $arg:expr)*) => {{
        // SAFETY: the pointers among the arguments are C strings or structures that live through the call; the rest are numbers.
        let got = unsafe { libc::syscall(libc::$nr $(, $arg as libc::c_long)*) };
        if got < 0 {
            eprintln!("floor: {}: {}", $what, std::io::Error::last_os_error());
            exit(125);
        }
        got
    }};
}

fn mount(source: &CStr, target: &CStr, fstype: &CStr, flags: u64, data: &CStr) {
    call!(target.to_string_lossy(), SYS_mount, source.as_ptr(), target.as_ptr(), fstype.as_ptr(), flags, data.as_ptr());
}

/// Binds a path, read-only; with `over`, something else over it. What the kernel lacks is passed over.
fn cover(path: &CStr, over: Option<&CStr>) {
    // SAFETY: the path is a C string.
    if unsafe { libc::access(path.as_ptr(), libc::F_OK) } != 0 {
        return;
    }
    mount(over.unwrap_or(path), path, c"", libc::MS_BIND | libc::MS_REC, c"");
    if over.is_none() {
        mount(c"", path, c"", libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY, c"");
    }
}

fn container(rootfs: &CStr) {
    let guarded = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    mount(c"", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"");
    mount(rootfs, rootfs, c"", libc::MS_BIND | libc::MS_REC, c"");
    call!("chdir", SYS_chdir, rootfs.as_ptr());
    call!("umask", SYS_umask, 0);
    mount(c"proc", c"proc", c"proc", 0, c"");
    mount(c"tmpfs", c"dev", c"tmpfs", libc::MS_NOSUID | libc::MS_STRICTATIME, c"mode=755,size=65536k");
    for dir in [c"dev/pts", c"dev/shm", c"dev/mqueue"] {
        call!("mkdir", SYS_mkdir, dir.as_ptr(), 0o755);
    }
    mount(c"devpts", c"dev/pts", c"devpts", libc::MS_NOSUID | libc::MS_NOEXEC, c"ptmxmode=0666,mode=0620,gid=5");
    mount(c"shm", c"dev/shm", c"tmpfs", guarded, c"mode=1777,size=65536k");
    mount(c"mqueue", c"dev/mqueue", c"mqueue", guarded, c"");
    mount(c"sysfs", c"sys", c"sysfs", guarded | libc::MS_RDONLY, c"");
    for (name, minor) in [(c"dev/null", 3), (c"dev/zero", 5), (c"dev/full", 7), (c"dev/random", 8), (c"dev/urandom", 9)] {
        call!("mknod", SYS_mknod, name.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, minor));
    }
    call!("mknod", SYS_mknod, c"dev/tty".as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(5, 0));
    for (target, link) in [
        (c"/proc/self/fd", c"dev/fd"),
        (c"/proc/self/fd/0", c"dev/stdin"),
        (c"/proc/self/fd/1", c"dev/stdout"),
        (c"/proc/self/fd/2", c"dev/stderr"),
        (c"/proc/kcore", c"dev/core"),
        (c"pts/ptmx", c"dev/ptmx"),
    ] {
        call!("symlink", SYS_symlink, target.as_ptr(), link.as_ptr());
    }
    for path in [c"proc/bus", c"proc/fs", c"proc/irq", c"proc/sys", c"proc/sysrq-trigger"] {
        cover(path, None);
    }
    for path in [c"proc/kcore", c"proc/keys", c"proc/latency_stats", c"proc/timer_list", c"proc/timer_stats", c"proc/sched_debug"] {
        cover(path, Some(c"/dev/null"));
    }
    for path in [c"proc/acpi", c"proc/asound", c"sys/firmware", c"proc/scsi"] {
        cover(path, Some(c"dev/mqueue"));
    }
    mount(c"", c".", c"", libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY, c"");
    call!("chdir", SYS_chdir, rootfs.as_ptr());
    call!("pivot_root", SYS_pivot_root, c".".as_ptr(), c".".as_ptr());
    call!("umount", SYS_umount2, c".".as_ptr(), libc::MNT_DETACH);
    call!("sethostname", SYS_sethostname, c"floor".as_ptr(), 5);
    for cap in (0..=40).filter(|cap| ![5, 10, 29].contains(cap)) {
        call!("capability", SYS_prctl, libc::PR_CAPBSET_DROP, cap, 0, 0, 0);
    }
    call!("no_new_privs", SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    let argv = [c"/probe".as_ptr(), c"exit".as_ptr(), c"0".as_ptr(), std::ptr::null()];
    call!("execve", SYS_execve, argv[0], argv.as_ptr(), [std::ptr::null::<u8>()].as_ptr());
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [rootfs, cgroup] = &args[..] else {
        eprintln!("usage: floor ROOTFS CGROUP");
        exit(125);
    };
    let rootfs = CString::new(rootfs.as_str()).unwrap();
    std::fs::create_dir(cgroup).unwrap();
    let dir = std::fs::File::open(cgroup).unwrap();
    // SAFETY: clone_args is plain old data and all-zero is a valid value.
    let mut clone: libc::clone_args = unsafe { std::mem::zeroed() };
    let new = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWPID | libc::CLONE_NEWNET;
    // CLONE_INTO_CGROUP (sched.h), which does not fit the type of the others.
    clone.flags = new as u64 | 0x2_0000_0000;
    clone.exit_signal = libc::SIGCHLD as u64;
    clone.cgroup = dir.as_raw_fd() as u64;
    let pid = call!("clone3", SYS_clone3, &raw const clone, size_of_val(&clone));
    if pid == 0 {
        container(&rootfs);
    }
    let mut status = 0;
    // SAFETY: `status` is an integer that lives through the call.
    unsafe { libc::waitpid(pid as i32, &raw mut status, 0) };
    std::fs::remove_dir(cgroup).unwrap();
    exit(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 125 });
}
