//! The systemd manager on a machine that systemd runs: where the scope is, what it is limited by, and that it ends with the container.
//! Failures of systemd itself are scripted in the crate's own tests.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use harness::{Container, Need, Place, Test, Value, behaviour, json, pinnace_only};

/// `systemctl`, to the manager that the runtime asks.
fn systemctl(words: &[&str]) -> String {
    let mut command = Command::new("systemctl");
    if !Place::get().root {
        command.arg("--user");
    }
    let out = command.args(words).output().expect("start systemctl");
    assert!(out.status.success(), "systemctl {words:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// A property of the container's scope.
fn property(c: &Container<'_>, name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, &scope(c)])
}

/// The scope of a container that [`container`] made.
fn scope(c: &Container<'_>) -> String {
    format!("pt-{}.scope", c.id)
}

/// A container in a scope of its own name, in a slice with a dash.
fn container(t: &Test) -> Container<'_> {
    let c = t.container();
    c.global(&["--systemd-cgroup"]);
    c.edit(|s| {
        s["linux"]["cgroupsPath"] = json!(format!("pinnace-test.slice:pt:{}", c.id));
        if s["annotations"].is_null() {
            s["annotations"] = json!({});
        }
    });
    c
}

/// The cgroup of the container's process, below the root of v2.
fn cgroup(c: &Container<'_>) -> String {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    text.lines().find_map(|l| l.strip_prefix("0::")).unwrap().to_owned()
}

fn dir(path: &str) -> PathBuf {
    Place::get().unified.clone().unwrap().join(path.trim_start_matches('/'))
}

fn knob(c: &Container<'_>, file: &str) -> String {
    let path = dir(&cgroup(c)).join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

/// Demands that systemd has forgotten the container's unit, and everything else is gone too.
#[track_caller]
fn forgotten(c: &Container<'_>) {
    let list = systemctl(&["list-units", "--all", "--plain", "--no-legend", &format!("*{}*", c.id)]);
    assert_eq!(list, "", "units are left");
    c.leaves_nothing();
}

#[test]
fn the_scope_is_in_its_slice_and_ends_with_the_container() {
    let t = behaviour!(Need::Systemd, Need::V2);
    let c = container(&t);
    c.sleeping();
    let path = cgroup(&c);
    assert!(path.ends_with(&format!("/pinnace.slice/pinnace-test.slice/{}/container", scope(&c))), "{path}");
    assert_eq!(c.state()["systemd-scope"], scope(&c));
    assert_eq!(property(&c, "ActiveState"), "active");
    assert_eq!(property(&c, "Slice"), "pinnace-test.slice");
    assert_eq!(property(&c, "Delegate"), "yes");
    assert_eq!(property(&c, "Description"), "libcrun container");
    c.call("delete").arg("--force").arg(&c.id).ok();
    forgotten(&c);
}

#[test]
fn without_a_path_the_scope_is_called_after_the_container() {
    let t = behaviour!(Need::Systemd, Need::V2);
    let c = t.container();
    c.global(&["--cgroup-manager", "systemd"]);
    c.edit(|s| drop(s["linux"].as_object_mut().unwrap().remove("cgroupsPath")));
    c.sleeping();
    let slice = if Place::get().root { "/system.slice" } else { "/app.slice" };
    let path = cgroup(&c);
    assert!(path.ends_with(&format!("{slice}/crun-{}.scope/container", c.id)), "{path}");
    c.kill("KILL");
    c.until_status("stopped");
    c.do_("delete").code(0);
    forgotten(&c);
}

#[test]
fn limits_are_in_the_files_and_in_the_unit() {
    let t = behaviour!(Need::Systemd, Need::V2, Need::Controller("memory"), Need::Controller("pids"), Need::Controller("cpu"));
    let c = container(&t);
    c.edit(|s| {
        s["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20, "swap": 96 << 20, "reservation": 16 << 20 });
        s["linux"]["resources"]["pids"] = json!({ "limit": 40 });
        s["linux"]["resources"]["cpu"] = json!({ "shares": 1024, "quota": 33_333, "period": 100_000 });
    });
    c.sleeping();
    for (file, value) in [("memory.max", 64 << 20), ("memory.low", 16 << 20), ("pids.max", 40)] {
        assert_eq!(knob(&c, file), value.to_string(), "{file}");
    }
    assert_eq!(knob(&c, "cpu.max"), "33333 100000");
    // 100 by the newer formula, 39 by the older one.
    let weight = knob(&c, "cpu.weight");
    assert!(["39", "100"].contains(&weight.as_str()), "{weight}");
    assert_eq!(property(&c, "CPUWeight"), weight);
    for (name, value) in [("MemoryMax", 64 << 20), ("MemoryLow", 16 << 20), ("TasksMax", 40)] {
        assert_eq!(property(&c, name), value.to_string(), "{name}");
    }
    assert_eq!(property(&c, "CPUQuotaPerSecUSec"), "340ms");
    let update = json!({ "memory": { "limit": 32 << 20 }, "pids": { "limit": 30 }, "cpu": { "quota": 50_000, "period": 100_000 } });
    c.call("update").args(&["--resources", "-"]).arg(&c.id).stdin(&update.to_string()).ok();
    assert_eq!((knob(&c, "memory.max"), knob(&c, "pids.max")), ((32 << 20).to_string(), "30".into()));
    assert_eq!((property(&c, "MemoryMax"), property(&c, "TasksMax")), ((32 << 20).to_string(), "30".into()));
    assert_eq!((knob(&c, "cpu.max"), property(&c, "CPUQuotaPerSecUSec")), ("50000 100000".into(), "500ms".into()));
    systemctl(&["daemon-reload"]);
    assert_eq!((knob(&c, "memory.max"), knob(&c, "pids.max")), ((32 << 20).to_string(), "30".into()));
}

#[test]
fn swap_is_counted_without_memory() {
    let t = pinnace_only!(Need::Systemd, Need::V2, Need::Controller("memory"));
    let c = container(&t);
    c.edit(|s| s["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20, "swap": 96 << 20 }));
    c.sleeping();
    assert_eq!(property(&c, "MemorySwapMax"), (32 << 20).to_string());
}

#[test]
fn limits_are_felt() {
    let t = behaviour!(Need::Systemd, Need::V2, Need::Controller("memory"), Need::Controller("pids"));
    let c = container(&t);
    c.edit(|s| {
        s["linux"]["resources"]["memory"] = json!({ "limit": 32 << 20, "swap": 32 << 20 });
        s["linux"]["resources"]["pids"] = json!({ "limit": 5 });
    });
    // A unit whose process is killed for want of memory has failed, and stays until it is reset.
    c.args(&["/probe", "alloc", "268435456"]).run().code(137);
    forgotten(&c);
    let got = c.args(&["/probe", "fork-bomb", "20"]).run().code(0).json();
    assert_eq!((&got["errno"], &got["forked"]), (&json!("EAGAIN"), &json!(4)));
    forgotten(&c);
}

#[test]
fn a_limit_below_the_usage_is_refused_before_systemd_hears_of_it() {
    let t = pinnace_only!(Need::Systemd, Need::V2, Need::Controller("memory"));
    let c = container(&t);
    c.edit(|s| s["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 }));
    c.sleeping();
    let update = json!({ "memory": { "limit": 4096, "checkBeforeUpdate": true } });
    let out = c.call("update").args(&["--resources", "-"]).arg(&c.id).stdin(&update.to_string()).output();
    out.fails_with(&["cannot set the memory limit lower than its current usage"]);
    assert_eq!((knob(&c, "memory.max"), property(&c, "MemoryMax")), ((64 << 20).to_string(), (64 << 20).to_string()));
}

#[test]
fn annotations_are_properties() {
    let t = behaviour!(Need::Systemd, Need::V2);
    let c = container(&t);
    c.edit(|s| {
        s["annotations"] = json!({
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.TimeoutStopUSec": "uint64 7000000",
            "org.systemd.property.SendSIGHUP": "true",
        });
    });
    c.sleeping();
    for (name, value) in [("CollectMode", "inactive-or-failed"), ("TimeoutStopUSec", "7s"), ("SendSIGHUP", "yes")] {
        assert_eq!(property(&c, name), value, "{name}");
    }
}

#[test]
fn annotations_that_systemd_refuses_are_errors() {
    let t = pinnace_only!(Need::Systemd, Need::V2);
    for (name, value, texts) in [
        ("NoSuchThing", "true", ["start unit", "NoSuchThing"]),
        ("CollectMode", "'whenever'", ["start unit", "CollectMode"]),
        ("CollectMode", "whenever", ["annotation `org.systemd.property.CollectMode`", "not a value"]),
        ("PIDs", "[uint32 1]", ["annotation `org.systemd.property.PIDs`", "the runtime sets this property itself"]),
    ] {
        let c = container(&t);
        c.edit(|s| s["annotations"] = json!({ format!("org.systemd.property.{name}"): value }));
        c.refused(&texts);
        forgotten(&c);
    }
}

#[test]
fn the_cgroup_below_the_scope_can_be_chosen() {
    let t = behaviour!(Need::Systemd, Need::V2, Need::Controller("pids"));
    for (annotation, below) in [("", ""), ("some", "/some")] {
        let c = container(&t);
        c.edit(|s| {
            s["annotations"] = json!({ "run.oci.systemd.subgroup": annotation });
            s["linux"]["resources"]["pids"] = json!({ "limit": 40 });
        });
        c.sleeping();
        let path = cgroup(&c);
        assert!(path.ends_with(&format!("/{}{below}", scope(&c))), "{path}");
        assert_eq!(knob(&c, "pids.max"), "40");
        c.call("delete").arg("--force").arg(&c.id).ok();
        forgotten(&c);
    }
}

#[test]
fn a_delegated_cgroup_is_the_root_of_the_namespace() {
    let t = pinnace_only!(Need::Systemd, Need::V2, Need::Controller("pids"));
    let c = container(&t);
    c.edit(|s| {
        s["annotations"] = json!({ "run.oci.delegate-cgroup": "inner" });
        s["linux"]["resources"]["pids"] = json!({ "limit": 40 });
    });
    c.new_namespace("cgroup");
    c.sleeping();
    let path = cgroup(&c);
    assert!(path.ends_with(&format!("/{}/container/inner", scope(&c))), "{path}");
    let limit = fs::read_to_string(dir(&path).parent().unwrap().join("pids.max")).unwrap();
    assert_eq!(limit.trim(), "40");
    let out = c.exec(&[], &["/probe", "read-file", "/proc/1/cgroup"]).code(0).json();
    // A test beside this one may have mounted a v1 hierarchy, which is a line of its own.
    assert!(out["text"].as_str().unwrap().lines().any(|line| line == "0::/"), "{out}");
    c.call("delete").arg("--force").arg(&c.id).ok();
    forgotten(&c);
}

/// Without a namespace of its own a container sees its cgroup where the hierarchy would be; the scope is made after its process.
#[test]
fn its_cgroup_is_mounted_without_a_namespace() {
    let t = behaviour!(Need::Systemd, Need::V2, Need::CrunDiffers("cgroup-of-its-own"));
    for (userns, option) in [(false, "ro"), (false, "rw"), (true, "ro")] {
        if userns && !Place::get().root {
            continue;
        }
        let c = container(&t);
        if userns {
            c.new_user_namespace(200_000);
        }
        c.edit(|s| {
            s["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "cgroup");
            let mounts = s["mounts"].as_array_mut().unwrap();
            mounts.retain(|m| m["type"] != "cgroup" && m["type"] != "cgroup2");
            mounts.push(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", option] }));
        });
        c.sleeping();
        let out = c.exec(&[], &["/probe", "read-file", "/sys/fs/cgroup/cgroup.procs"]).code(0).json();
        assert!(!out["text"].as_str().unwrap().is_empty(), "{userns} {option}: {out}");
        let report = c.exec(&[], &["/probe", "report"]).code(0).report();
        let mount = report.mount("/sys/fs/cgroup").expect("a mount of it");
        assert_eq!(mount["type"], "cgroup2", "{userns} {option}");
        let root = mount["root"].as_str().unwrap();
        assert!(cgroup(&c).starts_with(root) && root.contains(&scope(&c)), "{userns} {option}: {mount}");
        assert!(report.mount_has("/sys/fs/cgroup", option), "{userns} {option}: {mount}");
        c.call("delete").arg("--force").arg(&c.id).ok();
        forgotten(&c);
    }
}

/// Opens the kernel's log, which no default rule allows, and zero, which one does; `c` may make nodes.
fn verdicts(c: &Container<'_>) -> Vec<Value> {
    let open = |name: &str, minor: &str| c.exec(&[], &["/probe", "mknod", name, "1", minor]).code(0).json()["open"].clone();
    vec![open("/dev/a", "11"), open("/dev/b", "5")]
}

/// Rules, and what it takes to make a node and to read the kernel's log.
fn rules(c: &Container<'_>, subgroup: &str, rules: Value) {
    c.edit(|s| {
        s["annotations"] = json!({ "run.oci.systemd.subgroup": subgroup });
        for set in ["bounding", "permitted", "effective"] {
            s["process"]["capabilities"][set] = json!(["CAP_MKNOD", "CAP_SYSLOG"]);
        }
        s["linux"]["resources"]["devices"] = rules;
    });
}

#[test]
fn device_rules_outlast_a_reload() {
    let t = behaviour!(Need::Root, Need::Systemd, Need::V2);
    for subgroup in ["container", ""] {
        let c = container(&t);
        rules(&c, subgroup, json!([{ "allow": false, "access": "rwm" }]));
        c.sleeping();
        for _ in 0..2 {
            assert_eq!(verdicts(&c), [json!("EPERM"), json!(null)], "subgroup `{subgroup}`");
            systemctl(&["daemon-reload"]);
        }
    }
}

#[test]
fn exceptions_among_device_rules_outlast_a_reload() {
    let t = behaviour!(Need::Root, Need::Systemd, Need::V2, Need::CrunDiffers("systemd-device-exceptions"));
    for subgroup in ["container", ""] {
        let c = container(&t);
        let but_one = json!([{ "allow": true, "access": "rwm" }, { "allow": false, "type": "c", "major": 1, "minor": 11, "access": "rw" }]);
        rules(&c, subgroup, but_one);
        c.sleeping();
        for _ in 0..2 {
            assert_eq!(verdicts(&c), [json!("EPERM"), json!(null)], "subgroup `{subgroup}`");
            systemctl(&["daemon-reload"]);
        }
    }
}

#[test]
fn exceptions_are_a_program_of_the_units_and_can_change() {
    let t = pinnace_only!(Need::Root, Need::Systemd, Need::V2);
    let c = container(&t);
    let but = |major: u32, minor: u32| json!([{ "allow": true, "access": "rwm" }, { "allow": false, "type": "c", "major": major, "minor": minor, "access": "rw" }]);
    rules(&c, "container", but(1, 11));
    c.sleeping();
    let pin = PathBuf::from(format!("/sys/fs/bpf/crun/{}", scope(&c).replace('.', "_")));
    if !PathBuf::from("/sys/fs/bpf").join(".").exists() || !property(&c, "BPFProgram").contains("device:") {
        assert!(!pin.exists(), "{}", pin.display());
        t.skip("needs a systemd that attaches programs and a bpf file system (covered by cargo xtask vm test)");
        return;
    }
    assert_eq!(property(&c, "BPFProgram"), format!("device:{}", pin.display()));
    assert!(pin.exists());
    let open = |major: &str, minor: &str| {
        let name = format!("/dev/n{major}-{minor}-{}", c.exec(&[], &["/probe", "now"]).stdout().trim());
        c.exec(&[], &["/probe", "mknod", &name, major, minor]).code(0).json()["open"].clone()
    };
    let update = |list: Value| {
        c.call("update").args(&["--resources", "-"]).arg(&c.id).stdin(&json!({ "devices": list }).to_string()).ok();
    };
    for _ in 0..2 {
        assert_eq!((open("1", "11"), open("10", "229") == "EPERM"), (json!("EPERM"), false));
        systemctl(&["daemon-reload"]);
    }
    update(but(10, 229));
    for _ in 0..2 {
        assert_eq!((open("1", "11"), open("10", "229")), (json!(null), json!("EPERM")));
        systemctl(&["daemon-reload"]);
    }
    update(json!([{ "allow": true, "access": "rwm" }]));
    assert!(!pin.exists());
    for _ in 0..2 {
        assert_eq!((open("1", "11"), open("10", "229") == "EPERM"), (json!(null), false));
        systemctl(&["daemon-reload"]);
    }
    c.call("delete").arg("--force").arg(&c.id).ok();
    forgotten(&c);
}

#[test]
fn a_scope_that_systemd_stops_is_a_stopped_container() {
    let t = behaviour!(Need::Systemd, Need::V2);
    let c = container(&t);
    c.sleeping();
    systemctl(&["stop", &scope(&c)]);
    c.until_status("stopped");
    c.do_("delete").code(0);
    forgotten(&c);
}

#[test]
fn a_paused_container_is_removed() {
    let t = behaviour!(Need::Systemd, Need::V2);
    let c = container(&t);
    c.sleeping();
    c.do_("pause").code(0);
    assert_eq!(c.status(), "paused");
    assert_eq!(knob(&c, "cgroup.freeze"), "1");
    c.call("delete").arg("--force").arg(&c.id).ok();
    forgotten(&c);
}

#[test]
fn additional_processes_are_in_the_scope() {
    let t = behaviour!(Need::Systemd, Need::V2);
    let c = container(&t);
    c.sleeping();
    c.exec(&["--detach"], &["/probe", "sleep"]).code(0).until("READY");
    let pids: Vec<i32> = serde_json::from_value(c.call("ps").args(&["--format", "json"]).arg(&c.id).ok().json()).unwrap();
    assert_eq!(pids.len(), 2);
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(text.contains(&format!("/{}/", scope(&c))), "{text}");
    }
}

#[test]
fn paths_of_the_other_manager_are_refused() {
    let t = pinnace_only!(Need::V2);
    for path in ["/a/b", "machine:pt:x", "a--b.slice:pt:x"] {
        let c = t.container();
        c.global(&["--systemd-cgroup"]);
        c.edit(|s| s["linux"]["cgroupsPath"] = json!(path));
        c.refused(&["linux.cgroupsPath", path]);
    }
}

#[test]
fn a_bus_that_is_not_there_is_named() {
    let t = pinnace_only!();
    let c = t.container();
    c.global(&["--systemd-cgroup"]);
    c.edit(|s| drop(s["linux"].as_object_mut().unwrap().remove("cgroupsPath")));
    let nowhere = "unix:path=/nonexistent/bus";
    let mut call = c.launch("run", &[]);
    call.env("DBUS_SYSTEM_BUS_ADDRESS", nowhere).env("DBUS_SESSION_BUS_ADDRESS", nowhere);
    call.output().fails_with(&["connect to systemd at `/nonexistent/bus`", "No such file or directory"]);
    c.leaves_nothing();
}

#[test]
fn the_status_of_the_scope_is_right() {
    let t = behaviour!(Need::Systemd, Need::V2, Need::Controller("pids"), Need::Controller("memory"));
    let c = container(&t);
    c.edit(|s| {
        s["linux"]["resources"]["pids"] = json!({ "limit": 40 });
        s["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    });
    c.sleeping();
    let text = systemctl(&["status", "--no-pager", "--full", &scope(&c)]);
    for part in [
        format!("{} - libcrun container", scope(&c)),
        "Active: active (running)".to_owned(),
        "Tasks: 1 (limit: 40)".to_owned(),
        "max: 64M".to_owned(),
        format!("pinnace.slice/pinnace-test.slice/{}", scope(&c)),
        format!("{} /probe sleep", c.pid()),
    ] {
        assert!(text.contains(&part), "`{part}` is not in\n{text}");
    }
}

#[test]
fn a_frozen_slice_is_an_error_and_no_wait() {
    let t = pinnace_only!(Need::Systemd, Need::V2);
    let slice = format!("ptfrozen{}.slice", t.container().id.replace('-', ""));
    let first = container(&t);
    first.edit(|s| s["linux"]["cgroupsPath"] = json!(format!("{slice}:pt:{}", first.id)));
    first.sleeping();
    systemctl(&["freeze", &slice]);
    let c = container(&t);
    c.edit(|s| s["linux"]["cgroupsPath"] = json!(format!("{slice}:pt:{}", c.id)));
    let out = c.args(&["/probe", "exit", "0"]).run();
    systemctl(&["thaw", &slice]);
    out.fails_with(&["frozen"]);
    forgotten(&c);
    assert_eq!(first.status(), "running");
}

#[test]
fn a_scope_of_another_is_left_alone() {
    let t = behaviour!(Need::Systemd, Need::V2);
    let first = container(&t);
    first.sleeping();
    let second = t.container();
    second.global(&["--systemd-cgroup"]);
    second.edit(|s| s["linux"]["cgroupsPath"] = json!(format!("pinnace-test.slice:pt:{}", first.id)));
    let out = second.args(&["/probe", "exit", "0"]).run().failed();
    assert!(out.stderr().contains(&scope(&first)), "{out}");
    assert_eq!(first.status(), "running");
    assert_eq!(property(&first, "ActiveState"), "active");
}
