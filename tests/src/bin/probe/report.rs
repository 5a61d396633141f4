//! What a process sees, as one JSON object. Only looks: nothing here changes the container.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::libc;
use serde_json::{Map, Value, json};

/// The whole report. `operands`: `--sysctl NAME` and `--path PATH`, as often as wanted.
pub(crate) fn report(operands: &[&str]) -> Result<Value, String> {
    let mut sysctls = Map::new();
    let mut paths = Map::new();
    let mut words = operands.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match *word {
            "--sysctl" => {
                let path = format!("/proc/sys/{}", value.replace('.', "/"));
                sysctls.insert((*value).to_owned(), text(&path));
            }
            "--path" => {
                paths.insert((*value).to_owned(), describe(value));
            }
            _ => return Err(format!("report: unknown option {word}")),
        }
    }
    let mut out = process();
    out.insert("sysctl".into(), sysctls.into());
    out.insert("paths".into(), paths.into());
    out.insert("status".into(), status());
    out.insert("rlimits".into(), rlimits());
    out.insert("namespaces".into(), namespaces());
    out.insert("mounts".into(), mounts());
    out.insert("fds".into(), descriptors());
    out.insert("dev".into(), devices());
    out.insert("tty".into(), terminal());
    out.insert("uid_map".into(), id_map("/proc/self/uid_map"));
    out.insert("gid_map".into(), id_map("/proc/self/gid_map"));
    out.insert("setgroups".into(), text("/proc/self/setgroups"));
    out.insert("cgroup".into(), text("/proc/self/cgroup"));
    out.insert("oom_score_adj".into(), number("/proc/self/oom_score_adj"));
    out.insert("timens_offsets".into(), text("/proc/self/timens_offsets"));
    Ok(out.into())
}

/// What system calls tell, which needs no /proc.
fn process() -> Map<String, Value> {
    let mut out = Map::new();
    let mut set = |k: &str, v: Value| out.insert(k.to_owned(), v);
    // SAFETY: these take no pointers; umask is put back at once and the probe has one thread.
    let (pid, ppid, pgid, sid, mask) = unsafe {
        let mask = libc::umask(0);
        libc::umask(mask);
        (libc::getpid(), libc::getppid(), libc::getpgid(0), libc::getsid(0), mask)
    };
    set("pid", pid.into());
    set("ppid", ppid.into());
    set("pgid", pgid.into());
    set("sid", sid.into());
    set("umask", mask.into());
    let (mut r, mut e, mut s) = (0, 0, 0);
    // SAFETY: three valid pointers to distinct variables.
    unsafe { libc::getresuid(&mut r, &mut e, &mut s) };
    set("uids", json!([r, e, s]));
    // SAFETY: as above.
    unsafe { libc::getresgid(&mut r, &mut e, &mut s) };
    set("gids", json!([r, e, s]));
    set("groups", groups());
    set("cwd", std::env::current_dir().map_or_else(|e| json!({ "error": e.to_string() }), |d| json!(d.to_string_lossy())));
    set("args", std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect());
    let env: BTreeMap<String, String> =
        std::env::vars_os().map(|(k, v)| (k.to_string_lossy().into_owned(), v.to_string_lossy().into_owned())).collect();
    set("env", json!(env));
    set("env_order", std::env::vars_os().map(|(k, _)| k.to_string_lossy().into_owned()).collect());
    let (host, domain) = uts_names();
    set("hostname", host.into());
    set("domainname", domain.into());
    // SAFETY: reads the personality, changes nothing.
    set("personality", unsafe { libc::personality(0xffff_ffff) }.into());
    // SAFETY: prctl reads without pointers.
    set("no_new_privs", unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) }.into());
    // SAFETY: as above.
    set("dumpable", unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }.into());
    set("scheduler", scheduler());
    set("keyring", keyring());
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid pointer.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut ts) };
    set("boottime", ts.tv_sec.into());
    // SAFETY: as above.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut ts) };
    set("monotonic", ts.tv_sec.into());
    out
}

fn groups() -> Value {
    let mut buf = [0 as libc::gid_t; 1024];
    // SAFETY: the buffer holds as many entries as is said.
    let n = unsafe { libc::getgroups(1024, buf.as_mut_ptr()) };
    usize::try_from(n).map_or(Value::Null, |n| json!(&buf[..n]))
}

fn uts_names() -> (String, String) {
    // SAFETY: utsname is plain old data, filled by uname.
    let mut u: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer.
    unsafe { libc::uname(&mut u) };
    let word = |field: &[libc::c_char]| {
        let bytes: Vec<u8> = field.iter().take_while(|c| **c != 0).map(|c| c.cast_unsigned()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    (word(&u.nodename), word(&u.domainname))
}

fn scheduler() -> Value {
    // SAFETY: a bit set that the call fills, its size given.
    let cpus: Vec<usize> = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        (0..1024).filter(|c| libc::CPU_ISSET(*c, &set)).collect()
    };
    // SAFETY: sched_param is plain old data, filled by the call; the rest takes no pointers.
    unsafe {
        let mut param: libc::sched_param = std::mem::zeroed();
        libc::sched_getparam(0, &mut param);
        json!({
            "policy": libc::sched_getscheduler(0),
            "priority": param.sched_priority,
            "nice": libc::getpriority(libc::PRIO_PROCESS, 0),
            "ioprio": libc::syscall(libc::SYS_ioprio_get, 1, 0),
            "cpus": cpus,
        })
    }
}

/// The session keyring's serial number and description (`keyring;uid;gid;perm;name`).
fn keyring() -> Value {
    const GET_KEYRING_ID: i32 = 0;
    const DESCRIBE: i32 = 6;
    const SESSION: i32 = -3;
    let mut buf = [0u8; 512];
    // SAFETY: keyctl reads no memory here and writes at most the buffer's size.
    let (id, n) = unsafe {
        (
            libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, SESSION, 0),
            libc::syscall(libc::SYS_keyctl, DESCRIBE, SESSION, buf.as_mut_ptr(), buf.len()),
        )
    };
    let name = usize::try_from(n).ok().map(|n| String::from_utf8_lossy(&buf[..n.saturating_sub(1).min(511)]).into_owned());
    json!({ "id": id, "description": name })
}

/// `/proc/self/status`: the capability sets and signal masks as numbers, the rest as text.
fn status() -> Value {
    let Ok(body) = fs::read_to_string("/proc/self/status") else {
        return Value::Null;
    };
    let mut out = Map::new();
    for line in body.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        let hex = key.starts_with("Cap") || key.starts_with("Sig") && key != "SigQ" || key == "ShdPnd";
        let parsed = if hex {
            u64::from_str_radix(value, 16).map_or(Value::Null, Value::from)
        } else {
            value.parse::<i64>().map_or_else(|_| value.into(), Value::from)
        };
        out.insert(key.to_owned(), parsed);
    }
    out.into()
}

fn rlimits() -> Value {
    const NAMES: [&str; 16] = [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ];
    let mut out = Map::new();
    for (number, name) in (0u32..).zip(NAMES) {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a valid pointer.
        unsafe { libc::getrlimit(number, &mut limit) };
        out.insert(format!("RLIMIT_{name}"), json!([limit.rlim_cur, limit.rlim_max]));
    }
    out.into()
}

/// Inode numbers of the process's namespaces.
fn namespaces() -> Value {
    let mut out = Map::new();
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let inode = fs::metadata(format!("/proc/self/ns/{name}")).map(|m| m.ino());
        out.insert(name.to_owned(), inode.map_or(Value::Null, Value::from));
    }
    out.into()
}

/// `/proc/self/mountinfo`, parsed (proc(5)).
fn mounts() -> Value {
    let Ok(body) = fs::read_to_string("/proc/self/mountinfo") else {
        return Value::Null;
    };
    body.lines().filter_map(mount_line).collect()
}

fn mount_line(line: &str) -> Option<Value> {
    let (left, right) = line.split_once(" - ")?;
    let l: Vec<&str> = left.split(' ').collect();
    let r: Vec<&str> = right.split(' ').collect();
    let list = |s: &str| s.split(',').map(str::to_owned).collect::<Vec<_>>();
    Some(json!({
        "id": l.first()?.parse::<u64>().ok()?,
        "parent": l.get(1)?.parse::<u64>().ok()?,
        "dev": l.get(2)?,
        "root": l.get(3)?,
        "target": l.get(4)?,
        "options": list(l.get(5)?),
        "propagation": l.get(6..)?,
        "type": r.first()?,
        "source": r.get(1)?,
        "super": list(r.get(2)?),
    }))
}

/// Open descriptors and what they point to; the one that reads the directory is left out.
fn descriptors() -> Value {
    let Ok(dir) = fs::read_dir("/proc/self/fd") else {
        return Value::Null;
    };
    let mut out = Map::new();
    for entry in dir.flatten() {
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        if target.starts_with("/proc/") && target.ends_with("/fd") {
            continue;
        }
        out.insert(entry.file_name().to_string_lossy().into_owned(), target.into());
    }
    out.into()
}

/// /dev and one level below it, but for the pseudo-terminals.
fn devices() -> Value {
    let mut out = Map::new();
    let mut walk = vec![Path::new("/dev").to_path_buf()];
    while let Some(dir) = walk.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let shown = path.to_string_lossy().into_owned();
            let value = describe(&shown);
            if value["kind"] == "dir" && shown != "/dev/pts" && shown.matches('/').count() < 3 {
                walk.push(path);
            }
            out.insert(shown, value);
        }
    }
    out.into()
}

/// One path: kind, owner, mode, device number, link target, and whether it can be read (with size or entries).
pub(crate) fn describe(path: &str) -> Value {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) => return json!({ "kind": "absent", "errno": errno_name(&e) }),
    };
    let ft = meta.file_type();
    let kind = match () {
        () if ft.is_dir() => "dir",
        () if ft.is_symlink() => "link",
        () if ft.is_char_device() => "char",
        () if ft.is_block_device() => "block",
        () if ft.is_fifo() => "fifo",
        () if ft.is_socket() => "socket",
        () => "file",
    };
    let mut out = json!({
        "kind": kind,
        "mode": meta.permissions().mode() & 0o7777,
        "uid": meta.uid(),
        "gid": meta.gid(),
        "size": meta.size(),
        "ino": meta.ino(),
    });
    if kind == "char" || kind == "block" {
        out["major"] = libc::major(meta.rdev()).into();
        out["minor"] = libc::minor(meta.rdev()).into();
    }
    match kind {
        "link" => out["link"] = fs::read_link(path).map_or(Value::Null, |l| l.to_string_lossy().into()),
        "dir" => match fs::read_dir(path) {
            Ok(entries) => {
                let mut names: Vec<_> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
                names.sort();
                names.truncate(64);
                out["entries"] = names.into();
            }
            Err(e) => out["read"] = errno_name(&e).into(),
        },
        "file" => match fs::read(path) {
            Ok(body) => out["length"] = body.len().into(),
            Err(e) => out["read"] = errno_name(&e).into(),
        },
        _ => {}
    }
    out
}

/// Whether stdin, stdout and stderr are terminals, the window size, and whether there is a controlling terminal.
fn terminal() -> Value {
    // SAFETY: isatty takes no pointers.
    let is = |fd| unsafe { libc::isatty(fd) } == 1;
    // SAFETY: winsize is plain old data, filled by the ioctl.
    let (ok, size) = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        let ok = libc::ioctl(0, libc::TIOCGWINSZ, &mut size);
        (ok == 0, size)
    };
    json!({
        "stdio": [is(0), is(1), is(2)],
        "size": if ok { json!([size.ws_row, size.ws_col]) } else { Value::Null },
        "controlling": fs::File::open("/dev/tty").is_ok(),
        "name": fs::read_link("/proc/self/fd/0").map_or(Value::Null, |l| l.to_string_lossy().into()),
    })
}

fn id_map(path: &str) -> Value {
    let Ok(body) = fs::read_to_string(path) else {
        return Value::Null;
    };
    body.lines().map(|l| l.split_whitespace().filter_map(|w| w.parse::<u64>().ok()).collect::<Vec<_>>()).collect::<Vec<_>>().into()
}

fn text(path: &str) -> Value {
    match fs::read_to_string(path) {
        Ok(body) => body.trim_end().into(),
        Err(e) => json!({ "errno": errno_name(&e) }),
    }
}

fn number(path: &str) -> Value {
    fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<i64>().ok()).map_or(Value::Null, Value::from)
}

/// The errno's symbolic name, `EPERM` and the like.
pub(crate) fn errno_name(e: &std::io::Error) -> String {
    e.raw_os_error().map_or_else(|| e.to_string(), |n| format!("{:?}", nix::errno::Errno::from_raw(n)))
}
