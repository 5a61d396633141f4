//! The bundles that are measured: the default configuration and its variations. Not here: running them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Makes a bundle whose command is the probe, changed by `edit`.
pub fn make(dir: &Path, name: &str, pinnace: &Path, probe: &Path, edit: impl FnOnce(&mut Value)) -> Result<PathBuf> {
    let bundle = dir.join(name);
    let rootfs = bundle.join("rootfs");
    for inner in ["proc", "sys", "dev"] {
        fs::create_dir_all(rootfs.join(inner)).context("make a bundle")?;
    }
    fs::copy(probe, rootfs.join("probe")).context("copy the probe")?;
    let status = Command::new(pinnace).arg("spec").current_dir(&bundle).status().context("start pinnace")?;
    if !status.success() {
        bail!("pinnace spec ended with {status}");
    }
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = json!(["/probe", "exit", "0"]);
    edit(&mut config);
    fs::write(&file, serde_json::to_vec(&config)?)?;
    Ok(bundle)
}

/// A filter as engines write them: about 400 calls allowed by name, the rest refused.
pub fn seccomp(config: &mut Value) {
    // Calls of x86_64 in the order of their numbers; names a libseccomp does not know are passed over by every runtime.
    const NAMES: &str = "read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn ioctl \
        pread64 pwrite64 readv writev access pipe select sched_yield mremap msync mincore madvise shmget shmat shmctl dup dup2 pause nanosleep \
        getitimer alarm setitimer getpid sendfile socket connect accept sendto recvfrom sendmsg recvmsg shutdown bind listen getsockname \
        getpeername socketpair setsockopt getsockopt clone fork vfork execve exit wait4 kill uname semget semop semctl shmdt msgget msgsnd msgrcv \
        msgctl fcntl flock fsync fdatasync truncate ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink symlink readlink \
        chmod fchmod chown fchown lchown umask gettimeofday getrlimit getrusage sysinfo times getuid syslog getgid setuid setgid geteuid getegid \
        setpgid getppid getpgrp setsid setreuid setregid getgroups setgroups setresuid getresuid setresgid getresgid getpgid setfsuid setfsgid \
        getsid capget capset rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack utime mknod statfs fstatfs getpriority \
        setpriority mlock munlock mlockall munlockall prctl arch_prctl setrlimit sync gettid readahead setxattr getxattr listxattr futex \
        sched_setaffinity sched_getaffinity epoll_create getdents64 set_tid_address fadvise64 timer_create clock_gettime exit_group epoll_wait \
        epoll_ctl tgkill utimes waitid inotify_init openat mkdirat mknodat fchownat newfstatat unlinkat renameat linkat symlinkat readlinkat \
        fchmodat faccessat pselect6 ppoll set_robust_list get_robust_list splice tee utimensat epoll_pwait signalfd timerfd_create eventfd \
        fallocate accept4 signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev prlimit64 sendmmsg getcpu renameat2 getrandom \
        memfd_create execveat mlock2 copy_file_range statx rseq close_range openat2 pidfd_getfd faccessat2";
    let names: Vec<&str> = NAMES.split_whitespace().collect();
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": names, "action": "SCMP_ACT_ALLOW"},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
        ],
    });
}

/// A user namespace with 65,536 ids.
pub fn user_namespace(config: &mut Value) {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
    push(&mut config["linux"]["namespaces"], json!({"type": "user"}));
    // As engines write it: a mode for the group is refused where no such group is mapped in every runtime's reading.
    config["root"]["readonly"] = true.into();
}

/// Thirty more bind mounts.
pub fn binds(config: &mut Value) {
    for n in 0..30 {
        let mount = json!({"destination": format!("/dev/b{n}"), "type": "bind", "source": "/usr", "options": ["bind", "ro"]});
        push(&mut config["mounts"], mount);
    }
}

/// A hundred masked paths, all there.
pub fn masks(config: &mut Value) {
    let there = fs::read_dir("/proc/sys/net/ipv4").into_iter().flatten().flatten();
    for entry in there.take(100) {
        push(&mut config["linux"]["maskedPaths"], json!(entry.path()));
    }
}

fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}
