//! Checkpoint and restore by CRIU itself. Not here: each option by itself (`checkpoint_rpc`), images that
//! are damaged or another's (`checkpoint_images`).

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use harness::{ConsoleSocket, Container, Invocation, Need, Output, Place, Pty, Test, behaviour, eventually, json, pinnace_only};

/// A container's standard streams must be something that CRIU can find again; files of the host are not.
fn quiet(call: &mut Invocation) -> &mut Invocation {
    for to in 0..3 {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
        call.descriptor(null.into(), to);
    }
    call
}

/// A container that counts in `/data/n`, which is the host's file, too.
pub(crate) fn counting<'t>(t: &'t Test) -> Container<'t> {
    let c = t.container();
    c.edit(|s| s["root"]["readonly"] = json!(false));
    c.args(&["/probe", "count", "/data/n"]);
    c
}

fn detached(c: &Container<'_>) {
    quiet(&mut c.launch("run", &["--detach"])).output().code(0);
}

fn counted(c: &Container<'_>) -> u64 {
    fs::read_to_string(c.rootfs().join("data/n")).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Waits until it counts on from `from`, and not from the beginning.
#[track_caller]
pub(crate) fn counts_on(c: &Container<'_>, from: u64) {
    eventually("counting", || counted(c) > from);
    assert!(counted(c) >= from);
}

/// Starts it, and waits until it counts.
pub(crate) fn started(c: &Container<'_>) {
    detached(c);
    counts_on(c, 2);
}

/// Restores it, and waits until it goes on counting from where it was.
#[track_caller]
pub(crate) fn comes_back(c: &Container<'_>) {
    let n = counted(c);
    restore(c, &[]);
    counts_on(c, n);
}

pub(crate) fn images(c: &Container<'_>) -> String {
    c.bundle.join("images").display().to_string()
}

pub(crate) fn checkpoint(c: &Container<'_>, options: &[&str]) -> Output {
    c.call("checkpoint").arg("--image-path").arg(images(c)).args(options).arg(&c.id).output()
}

fn restore(c: &Container<'_>, options: &[&str]) -> Output {
    let out = quiet(c.call("restore").arg("--bundle").arg(&c.bundle).arg("--image-path").arg(images(c)))
        .args(options)
        .arg("--detach")
        .arg(&c.id)
        .output();
    assert_eq!(out.status(), 0, "{out}\n{}", fs::read_to_string(c.bundle.join("images/restore.log")).unwrap_or_default());
    out
}

/// Mount points with what is mounted there and how, without what differs from mount to mount.
fn mounts(pid: i32) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let mut all: Vec<String> = table
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let kind = words[words.iter().position(|w| *w == "-").unwrap() + 1];
            format!("{} {kind} {}", words[4], words[5])
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_counting_process_counts_on() {
    let t = behaviour!(Need::Criu);
    let c = counting(&t);
    detached(&c);
    counts_on(&c, 5);
    let before = mounts(c.pid());
    checkpoint(&c, &[]).code(0);
    let n = counted(&c);
    c.do_("state").failed();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(counted(&c), n, "it still counts");
    let pid_file = c.bundle.join("pid");
    restore(&c, &["--pid-file", pid_file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(pid_file).unwrap(), c.pid().to_string());
    assert_eq!(c.status(), "running");
    counts_on(&c, n);
    let after = mounts(c.pid());
    if t.runtime.kind == harness::Kind::Pinnace {
        assert_eq!(after, before);
        // crun mounts the root file system in sight of the host for a while, in the tests beside this one, too.
        assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("criu-"));
    }
    // It is a container like any other.
    c.exec(&[], &["/probe", "ready"]).code(0);
    c.call("delete").arg("--force").arg(&c.id).ok();
    c.leaves_nothing();
}

#[test]
fn it_can_go_on_after_a_checkpoint() {
    let t = behaviour!(Need::Criu);
    let c = counting(&t);
    started(&c);
    checkpoint(&c, &["--leave-running"]).code(0);
    assert_eq!(c.status(), "running");
    counts_on(&c, counted(&c));
    c.call("delete").arg("--force").arg(&c.id).ok();
    let n = counted(&c);
    restore(&c, &[]);
    // From where it was at the checkpoint.
    eventually("counting again", || counted(&c) != n);
    counts_on(&c, 2);
}

#[test]
fn two_dumps_of_the_memory_precede_the_last() {
    let t = pinnace_only!(Need::Criu);
    let c = counting(&t);
    started(&c);
    let at = |name: &str| c.bundle.join(name).display().to_string();
    let dump = |name: &str, options: &[&str]| {
        c.call("checkpoint").arg("--image-path").arg(at(name)).args(options).arg(&c.id).output().code(0);
    };
    dump("first", &["--pre-dump"]);
    assert_eq!(c.status(), "running");
    dump("second", &["--pre-dump", "--parent-path", "../first"]);
    assert_eq!(c.status(), "running");
    counts_on(&c, counted(&c));
    dump("images", &["--parent-path", "../second"]);
    assert!(c.bundle.join("images/parent").is_symlink());
    comes_back(&c);
}

#[test]
fn a_tcp_connection_outlives_it() {
    let t = behaviour!(Need::Criu, Need::Tool("iptables-restore"));
    let c = t.container();
    c.namespace("network", None);
    c.edit(|s| s["mounts"].as_array_mut().unwrap().retain(|m| m["type"] != "sysfs" && m["type"] != "cgroup"));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    c.args(&["/probe", "serve", &port.to_string()]);
    detached(&c);
    let mut stream = None;
    eventually("the server", || {
        stream = TcpStream::connect(("127.0.0.1", port)).ok();
        stream.is_some()
    });
    let mut stream = stream.unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut ask = |n: u32| {
        stream.write_all(format!("line {n}\n").as_bytes()).unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{n} line {n}\n"));
    };
    ask(0);
    // Without the option CRIU refuses, and the container goes on.
    let out = checkpoint(&c, &[]).failed();
    if t.runtime.kind == harness::Kind::Pinnace {
        assert!(out.stderr().contains("Connected TCP socket"), "{out}");
    }
    ask(1);
    checkpoint(&c, &["--tcp-established"]).code(0);
    restore(&c, &["--tcp-established"]);
    ask(2);
    ask(3);
}

#[test]
fn standard_streams_are_the_ones_of_the_restore() {
    let t = behaviour!(Need::Criu);
    let c = t.container();
    c.args(&["/probe", "tick"]);
    let pipe = || nix_pipe();
    let read_until = |end: File, wanted: &dyn Fn(&str) -> bool| {
        let mut lines = BufReader::new(end).lines();
        loop {
            let line = lines.next().expect("more lines").unwrap();
            if wanted(&line) {
                return line;
            }
        }
    };
    let (out, into) = pipe();
    let mut call = c.launch("run", &["--detach"]);
    quiet(&mut call).descriptor(into.try_clone().unwrap(), 1).output().code(0);
    drop(into);
    read_until(out.try_clone().unwrap().into(), &|line| line == "TICK 3");
    checkpoint(&c, &[]).code(0);
    let list = fs::read_to_string(c.bundle.join("images/descriptors.json")).unwrap();
    let list: Vec<String> = serde_json::from_str(&list).unwrap();
    assert!(list.len() == 3 && list[0] == "/dev/null" && list[1].starts_with("pipe:["), "{list:?}");
    drop(out);
    let (out, into) = pipe();
    let mut call = c.call("restore");
    call.arg("--bundle").arg(&c.bundle).arg("--image-path").arg(images(&c)).arg("--detach").arg(&c.id);
    quiet(&mut call).descriptor(into.try_clone().unwrap(), 1).output().code(0);
    drop(into);
    let first = read_until(out.into(), &|line| line.starts_with("TICK "));
    assert!(first["TICK ".len()..].parse::<u32>().unwrap() > 3, "{first}");
}

fn nix_pipe() -> (OwnedFd, OwnedFd) {
    let (read, write) = std::io::pipe().unwrap();
    (read.into(), write.into())
}

#[test]
fn a_terminal_comes_back_by_the_console_socket() {
    let t = behaviour!(Need::Criu);
    let c = t.container();
    c.edit(|s| s["process"]["terminal"] = json!(true));
    c.args(&["/probe", "tick"]);
    let socket = ConsoleSocket::listen(t.dir());
    let mut call = c.launch("run", &["--detach", "--console-socket", socket.path.to_str().unwrap()]);
    let running = quiet(&mut call).spawn();
    let (mut pty, _) = socket.receive();
    running.wait().code(0);
    pty.until("TICK 3");
    checkpoint(&c, &[]).code(0);
    drop((pty, socket));
    let dir = t.dir().join("again");
    fs::create_dir(&dir).unwrap();
    let socket = ConsoleSocket::listen(&dir);
    let mut call = c.call("restore");
    call.arg("--bundle").arg(&c.bundle).arg("--image-path").arg(images(&c)).arg("--detach");
    call.arg("--console-socket").arg(&socket.path).arg(&c.id);
    let running = quiet(&mut call).spawn();
    let (mut pty, _) = socket.receive();
    running.wait().code(0);
    let seen = pty.until("TICK ").to_owned();
    assert!(!seen.contains("TICK 1\r"), "{seen}");
    c.kill("KILL");
    c.until_status("stopped");
}

#[test]
fn a_restore_in_the_foreground_gives_the_status() {
    let t = pinnace_only!(Need::Criu);
    let c = counting(&t);
    started(&c);
    checkpoint(&c, &[]).code(0);
    let n = counted(&c);
    let mut call = c.call("restore");
    call.arg("--bundle").arg(&c.bundle).arg("--image-path").arg(images(&c)).arg(&c.id);
    let running = quiet(&mut call).spawn();
    counts_on(&c, n);
    eventually("the container", || c.do_("state").status() == 0);
    c.kill("KILL");
    running.wait().code(128 + 9);
    c.leaves_nothing();
}

#[test]
fn limits_are_still_in_force() {
    let t = behaviour!(Need::Criu, Need::Controller("pids"), Need::Controller("memory"), Need::V2);
    let c = counting(&t);
    c.edit(|s| {
        s["linux"]["cgroupsPath"] = json!(format!("/{}", c.id));
        s["linux"]["resources"]["pids"] = json!({ "limit": 50 });
        s["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    });
    started(&c);
    checkpoint(&c, &[]).code(0);
    let dir = Place::get().cgroup_dir("pids", &format!("/{}", c.id)).unwrap();
    assert!(!dir.exists());
    restore(&c, &[]);
    let knob = |name: &str| fs::read_to_string(dir.join(name)).unwrap().trim().to_owned();
    assert_eq!((knob("pids.max"), knob("memory.max")), ("50".to_owned(), (64 << 20).to_string()));
    assert_eq!(knob("cgroup.procs"), c.pid().to_string());
    c.do_("pause").code(0);
    let n = counted(&c);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!((c.status().as_str(), counted(&c)), ("paused", n));
    c.do_("resume").code(0);
    counts_on(&c, n);
}

#[test]
fn under_another_name_it_has_a_cgroup_of_its_own() {
    let t = pinnace_only!(Need::Criu, Need::V2);
    let c = counting(&t);
    started(&c);
    checkpoint(&c, &["--leave-running"]).code(0);
    // Two of them at a time, each with its own root file system.
    let other = counting(&t);
    fs::copy(c.rootfs().join("data/n"), other.rootfs().join("data/n")).unwrap();
    other.write();
    let mut call = other.call("restore");
    call.arg("--bundle").arg(&other.bundle).arg("--image-path").arg(images(&c)).arg("--detach").arg(&other.id);
    let out = quiet(&mut call).output();
    assert_eq!(out.status(), 0, "{}", fs::read_to_string(c.bundle.join("images/restore.log")).unwrap_or_default());
    counts_on(&other, counted(&other));
    let cgroup = |c: &Container<'_>| fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    assert!(cgroup(&c).contains(&c.id) && !cgroup(&c).contains(&other.id), "{}", cgroup(&c));
    assert!(cgroup(&other).contains(&other.id) && !cgroup(&other).contains(&c.id), "{}", cgroup(&other));
    other.call("delete").arg("--force").arg(&other.id).ok();
    other.leaves_nothing();
    assert_eq!(c.status(), "running");
}

#[test]
fn systemds_scope_is_made_anew() {
    let t = behaviour!(Need::Criu, Need::Systemd, Need::V2);
    let c = counting(&t);
    c.global(&["--systemd-cgroup"]);
    c.edit(|s| {
        s["linux"]["cgroupsPath"] = json!(format!("system.slice:pinnace:{}", c.id));
        s["linux"]["resources"]["pids"] = json!({ "limit": 50 });
    });
    started(&c);
    let scope = c.state()["systemd-scope"].as_str().unwrap().to_owned();
    checkpoint(&c, &[]).code(0);
    comes_back(&c);
    assert_eq!(c.state()["systemd-scope"], scope.as_str());
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    assert!(cgroup.trim().ends_with(&format!("/system.slice/{scope}/container")), "{cgroup}");
    let out = Command::new("systemctl").args(["show", "--property", "TasksMax", "--value", &scope]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "50");
}

#[test]
fn without_a_cgroup_it_comes_back_without_one() {
    let t = pinnace_only!(Need::Criu);
    let c = counting(&t);
    c.global(&["--cgroup-manager", "disabled"]);
    c.edit(|s| {
        s["linux"].as_object_mut().unwrap().remove("resources");
    });
    started(&c);
    checkpoint(&c, &[]).code(0);
    comes_back(&c);
}

#[test]
fn mounts_of_the_host_come_back_as_they_were() {
    let t = pinnace_only!(Need::Criu);
    let c = counting(&t);
    let volume = t.dir().join("volume");
    fs::create_dir_all(volume.join("deep")).unwrap();
    fs::write(volume.join("deep/file"), "of the host").unwrap();
    fs::create_dir_all(c.rootfs().join("run/real")).unwrap();
    std::os::unix::fs::symlink("/run/real", c.rootfs().join("link")).unwrap();
    for (to, options) in [
        ("/v/one", json!(["rbind", "ro", "nosuid"])),
        ("/v/two", json!(["bind", "nodev", "noexec"])),
        ("/link/three", json!(["bind", "ro"])),
    ] {
        c.mount(json!({ "destination": to, "type": "bind", "source": volume, "options": options }));
    }
    c.mount(json!({ "destination": "/v/file", "type": "bind", "source": volume.join("deep/file"), "options": ["bind", "ro"] }));
    c.mount(json!({ "destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"] }));
    started(&c);
    c.exec(&[], &["/probe", "write-file", "/scratch/kept", "inside"]).code(0);
    let before = mounts(c.pid());
    checkpoint(&c, &[]).code(0);
    fs::write(volume.join("deep/file"), "changed meanwhile").unwrap();
    // The mount points are made where a copy of the root file system lacks them.
    fs::remove_dir(c.rootfs().join("v/one")).unwrap();
    comes_back(&c);
    assert_eq!(mounts(c.pid()), before);
    let read = |path: &str| c.exec(&[], &["/probe", "read-file", path]).code(0).json()["text"].as_str().unwrap_or_default().to_owned();
    assert_eq!((read("/run/real/three/deep/file"), read("/v/file")), ("changed meanwhile".into(), "changed meanwhile".into()));
    assert_eq!(read("/scratch/kept"), "inside");
    for (path, errno) in [("/v/one/x", "EROFS"), ("/proc/acpi/x", "EROFS")] {
        let out = c.exec(&[], &["/probe", "try-write", path]).code(0).json();
        assert_eq!(out["errno"], errno, "{path}: {out}");
    }
}

#[test]
fn without_a_cgroup_namespace_it_sees_its_new_cgroup() {
    let t = pinnace_only!(Need::Criu, Need::V2);
    let c = counting(&t);
    c.namespace("cgroup", None);
    started(&c);
    checkpoint(&c, &[]).code(0);
    comes_back(&c);
    let out = c.exec(&[], &["/probe", "read-file", "/sys/fs/cgroup/cgroup.procs"]).code(0).json();
    assert!(out["text"].as_str().unwrap().contains('\n'), "{out}");
}

#[test]
fn namespaces_that_were_joined_are_joined_again() {
    let t = behaviour!(Need::Criu);
    let other = t.container();
    other.sleeping();
    let file = |kind: &str| format!("/proc/{}/ns/{kind}", other.pid());
    let c = counting(&t);
    c.namespace("network", Some(&file("net")));
    started(&c);
    checkpoint(&c, &[]).code(0);
    comes_back(&c);
    assert_eq!(fs::read_link(format!("/proc/{}/ns/net", c.pid())).unwrap(), fs::read_link(file("net")).unwrap());
}

#[test]
fn file_locks_need_their_option() {
    let t = pinnace_only!(Need::Criu);
    let c = counting(&t);
    c.args(&["/probe", "lock", "/data/lock", ",", "count", "/data/n"]);
    started(&c);
    let out = checkpoint(&c, &[]).failed();
    assert!(out.stderr().contains("--- excerpt from CRIU log\n") && out.stderr().contains("lock"), "{out}");
    let n = counted(&c);
    counts_on(&c, n);
    checkpoint(&c, &["--file-locks"]).code(0);
    restore(&c, &["--file-locks"]);
    counts_on(&c, n);
    let lock = File::open(c.rootfs().join("data/lock")).unwrap();
    assert!(lock.try_lock().is_err(), "the lock is free");
}

#[test]
fn seccomp_is_still_in_force() {
    let t = behaviour!(Need::Criu);
    let c = counting(&t);
    c.edit(|s| {
        s["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }]
        });
    });
    started(&c);
    let status = |c: &Container<'_>| {
        let text = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
        let lines =
            text.lines().filter(|l| ["Seccomp:", "NoNewPrivs:", "CapEff:", "CapBnd:", "Seccomp_filters:"].iter().any(|k| l.starts_with(k)));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = status(&c);
    checkpoint(&c, &[]).code(0);
    restore(&c, &[]);
    assert_eq!(status(&c), before);
    assert!(before.iter().any(|l| l == "Seccomp:\t2"), "{before:?}");
}

#[test]
fn the_service_manager_is_told_the_new_process() {
    let t = pinnace_only!(Need::Criu);
    let c = counting(&t);
    let path = t.dir().join("manager.sock");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    c.args(&["/probe", "notify", "READY=1", ",", "count", "/data/n"]);
    quiet(&mut c.launch("run", &["--detach"])).env("NOTIFY_SOCKET", &path).output().code(0);
    counts_on(&c, 2);
    checkpoint(&c, &[]).code(0);
    let n = counted(&c);
    let mut call = c.call("restore");
    call.arg("--bundle").arg(&c.bundle).arg("--image-path").arg(images(&c)).arg("--detach").arg(&c.id);
    quiet(&mut call).env("NOTIFY_SOCKET", &path).output().code(0);
    counts_on(&c, n);
    let wanted = format!("MAINPID={}\nREADY=1", c.pid());
    let mut buffer = [0; 256];
    loop {
        let n = manager.recv(&mut buffer).expect("the message");
        if buffer[..n] == *wanted.as_bytes() {
            break;
        }
    }
}

#[test]
fn hooks_run_again_where_it_is_made_again() {
    let t = behaviour!(Need::Criu, Need::CrunDiffers("restore-hooks"));
    let c = counting(&t);
    let log = t.dir().join("hooks");
    let hook = |name: &str| json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("echo {name} >> {}", log.display())] }]);
    c.edit(|s| {
        let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
        s["hooks"] = kinds.iter().map(|k| ((*k).to_owned(), hook(k))).collect::<serde_json::Map<_, _>>().into();
    });
    let ran = || fs::read_to_string(&log).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    started(&c);
    checkpoint(&c, &[]).code(0);
    assert_eq!(ran(), "prestart createRuntime createContainer poststart poststop");
    fs::remove_file(&log).unwrap();
    restore(&c, &[]);
    c.call("delete").arg("--force").arg(&c.id).ok();
    // Its mount namespace is CRIU's work: nothing is left there to be done by createContainer.
    assert_eq!(ran(), "prestart createRuntime poststart poststop");
}

#[test]
fn a_terminal_comes_back_to_the_foreground() {
    let t = pinnace_only!(Need::Criu);
    let c = t.container();
    c.edit(|s| s["process"]["terminal"] = json!(true));
    c.args(&["/probe", "tick"]);
    let (mut pty, side) = Pty::open(24, 80);
    let mut call = c.launch("run", &[]);
    let running = call.terminal(side).spawn();
    pty.until("TICK 3");
    checkpoint(&c, &[]).code(0);
    drop(running);
    let (mut pty, side) = Pty::open(30, 90);
    let mut call = c.call("restore");
    call.arg("--bundle").arg(&c.bundle).arg("--image-path").arg(images(&c)).arg(&c.id);
    let running = call.terminal(side).spawn();
    let seen = pty.until("TICK ").to_owned();
    assert!(!seen.contains("TICK 1\r"), "{seen}");
    eventually("the container", || c.do_("state").status() == 0);
    c.kill("KILL");
    running.wait().code(128 + 9);
    c.leaves_nothing();
}
