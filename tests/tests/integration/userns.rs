//! User namespaces made by a privileged runtime: id maps, what belongs to whom, devices, joining, `exec`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use harness::{Container, Need, Test, behaviour, json};

const FIRST: u32 = 200_000;

/// A container with ids 0–9999 mapped to 200000 and up.
fn mapped(t: &Test) -> Container<'_> {
    let c = t.container();
    c.new_user_namespace(FIRST);
    c
}

#[test]
fn ids_are_mapped() {
    let t = behaviour!(Need::Root);
    let r = mapped(&t).report();
    assert_eq!(r["uid_map"], json!([[0, FIRST, 10_000]]));
    assert_eq!(r["gid_map"], json!([[0, FIRST, 10_000]]));
    assert_eq!((&r["uids"], &r["gids"]), (&json!([0, 0, 0]), &json!([0, 0, 0])));
    assert_eq!(r["setgroups"], "allow");
    assert_ne!(r.namespace("user"), fs::metadata("/proc/self/ns/user").unwrap().ino());
}

#[test]
fn the_hosts_nodes_cannot_be_changed() {
    let t = behaviour!(Need::Root, Need::CrunDiffers("borrowed-nodes"));
    let c = t.container();
    // Root is root of the host, and so the nodes' owner; but device nodes cannot be made, so that the host's are shown.
    c.new_user_namespace(0);
    c.args(&["/probe", "keep-mode", "/dev/null", ",", "keep-mode", "/dev/zero", ",", "try-open", "/dev/null", "w"]);
    let out = c.run().code(0);
    let errors: Vec<_> = out.json_lines().iter().map(|line| line["errno"].clone()).collect();
    assert_eq!(errors, [json!("EROFS"), json!("EROFS"), json!(null)], "{out:?}");
}

#[test]
fn the_host_sees_the_mapped_ids() {
    let t = behaviour!(Need::Root);
    let c = mapped(&t);
    c.edit(|s| s["process"]["user"] = json!({ "uid": 5, "gid": 6, "additionalGids": [7] }));
    c.sleeping();
    let status = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
    let line = |key: &str| status.lines().find(|l| l.starts_with(key)).unwrap().split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(line("Uid:"), (FIRST + 5).to_string());
    assert_eq!(line("Gid:"), (FIRST + 6).to_string());
    assert_eq!(line("Groups:"), (FIRST + 7).to_string());
}

#[test]
fn several_maps() {
    let t = behaviour!(Need::Root);
    let c = mapped(&t);
    c.edit(|s| {
        s["linux"]["uidMappings"] = json!([
            { "containerID": 0, "hostID": FIRST, "size": 10 },
            { "containerID": 100, "hostID": 300_000, "size": 1 },
            { "containerID": 200, "hostID": 400_000, "size": 50 },
        ]);
    });
    assert_eq!(c.report()["uid_map"], json!([[0, FIRST, 10], [100, 300_000, 1], [200, 400_000, 50]]));
}

#[test]
fn own_namespaces_belong_to_it() {
    let t = behaviour!(Need::Root);
    let c = mapped(&t);
    c.edit(|s| {
        for set in ["bounding", "permitted", "effective"] {
            s["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
        }
        s["root"]["readonly"] = json!(false);
    });
    c.args(&["/probe", "mount-tmpfs", "/data", ",", "syscall", "sethostname"]);
    let lines = c.run().code(0).json_lines();
    assert_eq!(lines[0]["errno"], json!(null), "{lines:?}");
    assert_ne!(lines[1]["errno"], "EPERM", "{lines:?}");
}

#[test]
fn default_devices_are_there() {
    let t = behaviour!(Need::Root);
    let c = mapped(&t);
    let r = c.report();
    for (name, major, minor) in [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)] {
        let node = &r["dev"][&format!("/dev/{name}")];
        assert_eq!((&node["major"], &node["minor"]), (&json!(major), &json!(minor)), "{name}");
    }
    c.args(&["/probe", "try-open", "/dev/null", "rw", ",", "try-open", "/dev/urandom"]);
    for line in c.run().code(0).json_lines() {
        assert_eq!(line["errno"], json!(null));
    }
}

#[test]
fn default_mounts_are_there() {
    let t = behaviour!(Need::Root);
    let r = mapped(&t).report();
    for (target, kind) in [("/proc", "proc"), ("/sys", "sysfs"), ("/dev/pts", "devpts"), ("/dev/mqueue", "mqueue"), ("/dev/shm", "tmpfs")] {
        assert_eq!(r.mount(target).unwrap_or_else(|| panic!("{target}"))["type"], kind, "{target}");
    }
}

#[test]
fn capabilities_and_limits_are_set() {
    let t = behaviour!(Need::Root);
    let c = mapped(&t);
    c.edit(|s| s["process"]["oomScoreAdj"] = json!(50));
    let r = c.report();
    let wanted = 1 << 29 | 1 << 5 | 1 << 10;
    assert_eq!((r.caps("Eff"), r.caps("Bnd")), (wanted, wanted));
    assert_eq!(r["no_new_privs"], 1);
    assert_eq!(r["rlimits"]["RLIMIT_NOFILE"], json!([1024, 1024]));
    assert_eq!(r["oom_score_adj"], 50);
}

#[test]
fn exec_enters_it() {
    let t = behaviour!(Need::Root);
    let c = mapped(&t);
    c.args(&["/probe", "report", ",", "sleep"]);
    let out = c.launch("run", &["--detach"]).ok();
    out.until("READY");
    let r = c.exec(&["--user", "3:4"], &["/probe", "report"]).code(0).report();
    assert_eq!(r["namespaces"], out.report()["namespaces"]);
    assert_eq!((&r["uids"][0], &r["gids"][0]), (&json!(3), &json!(4)));
}

#[test]
fn joined_by_path_with_its_other_namespaces() {
    let t = behaviour!(Need::Root);
    let first = mapped(&t);
    first.args(&["/probe", "report", ",", "sleep"]);
    let out = first.launch("run", &["--detach"]).ok();
    out.until("READY");
    let (pid, theirs) = (first.pid(), out.report());
    let second = t.container();
    for (kind, name) in [("user", "user"), ("network", "net"), ("ipc", "ipc")] {
        second.namespace(kind, Some(&format!("/proc/{pid}/ns/{name}")));
    }
    let r = second.report();
    for name in ["user", "net", "ipc"] {
        assert_eq!(r.namespace(name), theirs.namespace(name), "{name}");
    }
    assert_eq!(r["uid_map"], json!([[0, FIRST, 10_000]]));
}

#[test]
fn ids_outside_the_map_are_refused() {
    let t = behaviour!(Need::Root);
    let c = mapped(&t);
    c.edit(|s| s["process"]["user"] = json!({ "uid": 50_000, "gid": 0 }));
    c.refused(&["Invalid argument"]);
}

#[test]
fn overlapping_maps_are_refused() {
    let t = behaviour!(Need::Root);
    let c = mapped(&t);
    c.edit(|s| {
        s["linux"]["uidMappings"] =
            json!([{ "containerID": 0, "hostID": FIRST, "size": 100 }, { "containerID": 50, "hostID": 900_000, "size": 100 }]);
    });
    c.refused(&["uid"]);
}

#[test]
fn seccomp_terminal_less_and_hooks_work_in_it() {
    let t = behaviour!(Need::Root);
    let c = mapped(&t);
    let marker = t.dir().join("hook-ran");
    c.edit(|s| {
        s["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }],
        });
        s["hooks"]["prestart"] = json!([{ "path": "/usr/bin/touch", "args": ["touch", marker] }]);
    });
    c.args(&["/probe", "syscall", "mkdir"]);
    assert_eq!(c.run().code(0).json()["errno"], "ENOSYS");
    assert!(marker.exists());
}

#[test]
fn time_offsets_work_in_it() {
    let t = behaviour!(Need::Root, Need::CrunDiffers("time-offsets-in-userns"));
    let c = mapped(&t);
    c.new_namespace("time");
    c.edit(|s| s["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1000, "nanosecs": 0 } }));
    let text = c.report()["timens_offsets"].as_str().unwrap().to_owned();
    assert!(text.lines().any(|l| l.split_whitespace().collect::<Vec<_>>() == ["boottime", "1000", "0"]), "{text}");
}

/// As an engine without privileges does it: the runtime is root of a user namespace with ids below, and the container's root another of them.
#[test]
fn below_another_one_sources_are_opened_by_the_runtime() {
    const SCRIPT: &str = "before=$(readlink /proc/$$/ns/user)
        (while test \"$(readlink /proc/$$/ns/user)\" = \"$before\"; do sleep 0.01; done
        for kind in uid gid; do printf '0 0 1\\n1 100000 65536\\n' >/proc/$$/${kind}_map; done) &
        exec unshare -U -m sh -c 'until test \"$(id -u):$(id -g)\" = 0:0; do sleep 0.01; done; exec \"$@\"' sh \"$@\"";
    let t = behaviour!(Need::Root, Need::Rootless, Need::Tool("unshare"));
    let c = t.container();
    c.new_user_namespace(1);
    c.global(&["--cgroup-manager", "disabled"]);
    fs::create_dir(c.rootfs().join("mnt")).unwrap();
    let closed = t.dir().join("closed");
    fs::create_dir_all(closed.join("given")).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    c.edit(|s| {
        s["linux"].as_object_mut().unwrap().remove("resources");
        s["process"].as_object_mut().unwrap().remove("rlimits");
        s["process"].as_object_mut().unwrap().remove("oomScoreAdj");
        let mounts = s["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| m["type"] != "cgroup");
        let options = json!(["rbind", "ro"]);
        mounts.push(json!({ "destination": "/mnt", "type": "bind", "source": closed.join("given"), "options": options }));
    });
    c.args(&["/probe", "report"]);
    let r = c.launch("run", &[]).under(&["sh", "-c", SCRIPT, "sh"]).ok().report();
    assert!(r.mount("/mnt").unwrap()["root"].as_str().unwrap().ends_with("/closed/given"));
    assert_eq!(r["uid_map"], json!([[0, 1, 10_000]]));
}
