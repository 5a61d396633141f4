//! Control groups on whatever layout is mounted: where the container is put, limits that are in force, what refuses.

use std::fs;
use std::path::PathBuf;

use harness::{Container, Layout, Need, Place, Test, behaviour, eventually, json, pinnace_only};

/// The cgroup of a process in the hierarchy of a controller (or in the v2 tree for ""), as a host directory.
pub(crate) fn dir_of(pid: i32, controller: &str) -> PathBuf {
    let place = Place::get();
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let v2 = controller.is_empty() || place.is_v2(controller);
    let line = text.lines().find(|l| {
        let names = l.split(':').nth(1).unwrap_or_default();
        if v2 { l.starts_with("0::") } else { names.split(',').any(|n| n == controller) }
    });
    let path = line.unwrap_or_else(|| panic!("{controller} in {text}")).splitn(3, ':').nth(2).unwrap().to_owned();
    let mount = if v2 { place.unified.clone().unwrap() } else { place.controllers[controller].clone() };
    mount.join(path.trim_start_matches('/'))
}

/// A running container's value in its cgroup: the v1 file, or the v2 one where the controller is there.
pub(crate) fn knob(c: &Container<'_>, controller: &str, v1: &str, v2: &str) -> String {
    let file = if Place::get().is_v2(controller) { v2 } else { v1 };
    let path = dir_of(c.pid(), controller).join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

#[test]
fn every_hierarchy_has_the_containers_cgroup() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    c.sleeping();
    let pid = c.pid();
    let place = Place::get();
    for controller in place.controllers.keys().filter(|name| !place.is_v2(name) && *name != "rw" && *name != "xattr") {
        if ["cpu", "cpuacct", "memory", "pids", "freezer", "devices", "cpuset", "blkio"].contains(&controller.as_str()) {
            let dir = dir_of(pid, controller);
            assert!(dir.ends_with(&c.id), "{controller}: {}", dir.display());
        }
    }
    if place.layout == Layout::V2 {
        assert!(dir_of(pid, "").to_string_lossy().contains(&c.id));
    }
}

#[test]
fn path_of_the_configuration_is_used() {
    let t = behaviour!(Need::Root);
    for form in ["/", ""] {
        let c = t.container();
        let path = format!("{form}{}-parent/inner", c.id);
        c.edit(|s| s["linux"]["cgroupsPath"] = json!(path));
        c.sleeping();
        let controller = if Place::get().controllers.contains_key("pids") { "pids" } else { "" };
        let dir = dir_of(c.pid(), controller);
        assert!(dir.ends_with(format!("{}-parent/inner", c.id)), "{}", dir.display());
        c.call("delete").arg("--force").arg(&c.id).ok();
        assert!(!dir.exists(), "{}", dir.display());
        // The parent isn't the runtime's to remove.
        harness::clear_up(&c.id);
    }
}

#[test]
fn exec_is_in_the_same_cgroup() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    c.sleeping();
    let out = c.call("exec").args(&["--detach"]).arg(&c.id).args(&["/probe", "sleep"]).ok();
    out.until("READY");
    let pids: Vec<i32> = serde_json::from_value(c.call("ps").args(&["--format", "json"]).arg(&c.id).ok().json()).unwrap();
    assert_eq!(pids.len(), 2);
    let read = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(read(pids[0]), read(pids[1]));
}

#[test]
fn pids_limit_is_in_force() {
    let t = behaviour!(Need::Root, Need::Controller("pids"));
    let c = t.container();
    c.edit(|s| s["linux"]["resources"]["pids"] = json!({ "limit": 5 }));
    c.args(&["/probe", "fork-bomb", "20"]);
    let got = c.run().code(0).json();
    assert_eq!((&got["errno"], &got["forked"]), (&json!("EAGAIN"), &json!(4)));
    c.sleeping();
    assert_eq!(knob(&c, "pids", "pids.max", "pids.max"), "5");
}

#[test]
fn memory_limit_is_in_force() {
    let t = behaviour!(Need::Root, Need::Controller("memory"));
    let c = t.container();
    c.edit(|s| s["linux"]["resources"]["memory"] = json!({ "limit": 32 << 20, "swap": 32 << 20 }));
    c.args(&["/probe", "alloc", "268435456"]).run().code(137);
    c.args(&["/probe", "alloc", "1000000"]).run().code(0);
    c.sleeping();
    assert_eq!(knob(&c, "memory", "memory.limit_in_bytes", "memory.max"), (32 << 20).to_string());
}

#[test]
fn memory_reservation_and_no_limit() {
    let t = behaviour!(Need::Root, Need::Controller("memory"));
    let c = t.container();
    c.edit(|s| s["linux"]["resources"]["memory"] = json!({ "limit": -1, "reservation": 16 << 20 }));
    c.sleeping();
    assert_eq!(knob(&c, "memory", "memory.soft_limit_in_bytes", "memory.low"), (16 << 20).to_string());
    let limit = knob(&c, "memory", "memory.limit_in_bytes", "memory.max");
    assert!(limit == "max" || limit.parse::<u64>().unwrap() > 1 << 60, "{limit}");
}

#[test]
fn cpu_shares_and_quota_are_set() {
    let t = behaviour!(Need::Root, Need::Controller("cpu"));
    let c = t.container();
    c.edit(|s| s["linux"]["resources"]["cpu"] = json!({ "shares": 512, "quota": 20_000, "period": 50_000 }));
    c.sleeping();
    if Place::get().is_v2("cpu") {
        assert_eq!(knob(&c, "cpu", "", "cpu.max"), "20000 50000");
        let weight: u32 = knob(&c, "cpu", "", "cpu.weight").parse().unwrap();
        // 59 by the newer formula, 20 by the older one.
        assert!([20, 59].contains(&weight), "{weight}");
    } else {
        assert_eq!(knob(&c, "cpu", "cpu.shares", ""), "512");
        assert_eq!(knob(&c, "cpu", "cpu.cfs_quota_us", ""), "20000");
        assert_eq!(knob(&c, "cpu", "cpu.cfs_period_us", ""), "50000");
    }
}

#[test]
fn cpuset_is_set() {
    let t = behaviour!(Need::Root, Need::Controller("cpuset"));
    let c = t.container();
    c.edit(|s| s["linux"]["resources"]["cpu"] = json!({ "cpus": "0", "mems": "0" }));
    let r = c.report();
    assert_eq!(r["status"]["Cpus_allowed_list"], 0);
}

#[test]
fn unified_keys_are_written() {
    let t = behaviour!(Need::Root, Need::V2);
    let c = t.container();
    c.edit(|s| s["linux"]["resources"]["unified"] = json!({ "cgroup.max.depth": "3", "cgroup.max.descendants": "7" }));
    c.sleeping();
    let dir = dir_of(c.pid(), "");
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap().trim().to_owned();
    assert_eq!((read("cgroup.max.depth"), read("cgroup.max.descendants")), ("3".into(), "7".into()));
}

#[test]
fn a_controller_that_is_missing_is_named() {
    let t = behaviour!(Need::Root, Need::V2);
    let place = Place::get();
    let Some(missing) = ["memory", "pids", "cpu"].into_iter().find(|c| !place.controllers.contains_key(*c)) else {
        t.skip("needs a cgroup controller that is missing (covered by the run in the v2 view)");
        return;
    };
    let c = t.container();
    c.edit(|s| {
        s["linux"]["resources"] = match missing {
            "memory" => json!({ "memory": { "limit": 1 << 30 } }),
            "pids" => json!({ "pids": { "limit": 50 } }),
            _ => json!({ "cpu": { "quota": 10_000 } }),
        };
    });
    c.refused(&[missing]);
}

#[test]
fn values_no_cgroup_can_take_are_refused() {
    let t = behaviour!(Need::Root, Need::Controller("cpu"), Need::Controller("cpuset"));
    for cpu in [json!({ "quota": 1 }), json!({ "period": 1, "quota": 1 }), json!({ "cpus": "9999" }), json!({ "cpus": "nonsense" })] {
        let c = t.container();
        c.edit(|s| s["linux"]["resources"]["cpu"] = cpu.clone());
        c.refused(&["cpu"]);
    }
}

#[test]
fn swap_without_or_below_the_limit_is_refused() {
    let t = behaviour!(Need::Root, Need::Controller("memory"));
    let c = t.container();
    c.edit(|s| s["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20, "swap": 32 << 20 }));
    c.refused(&["memory"]);
}

#[test]
fn a_tiny_memory_limit_is_said_to_be_the_reason() {
    let t = behaviour!(Need::Root, Need::Controller("memory"), Need::OomInCalls);
    let c = t.container();
    c.edit(|s| s["linux"]["resources"]["memory"] = json!({ "limit": 1024 }));
    let out = c.run();
    assert_ne!(out.status(), 0, "{out}");
    assert!(out.stderr().contains("the memory limit could be too low"), "{out}");
    c.forget_cgroup_of_crun();
    c.leaves_nothing();
}

#[test]
fn disabled_manager_makes_none() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    c.global(&["--cgroup-manager", "disabled"]);
    c.edit(|s| drop(s["linux"].as_object_mut().unwrap().remove("resources")));
    c.sleeping();
    let of = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(of(&c.pid().to_string()), of("self"));
    c.kill("KILL");
    c.until_status("stopped");
    c.do_("delete").code(0);
}

#[test]
fn disabled_manager_takes_no_limits() {
    let t = behaviour!(Need::Root, Need::CrunDiffers("limits-without-cgroups"));
    let c = t.container();
    c.global(&["--cgroup-manager=disabled"]);
    c.edit(|s| s["linux"]["resources"]["pids"] = json!({ "limit": 10 }));
    c.refused(&["cannot set limits without cgroups"]);
}

#[test]
fn cgroups_made_inside_go_with_it() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    c.sleeping();
    let controller = if Place::get().controllers.contains_key("pids") { "pids" } else { "" };
    let dir = dir_of(c.pid(), controller);
    fs::create_dir_all(dir.join("below/deep")).unwrap();
    c.call("delete").arg("--force").arg(&c.id).ok();
    eventually("the cgroup to go", || !dir.exists());
    c.leaves_nothing();
}

#[test]
fn cgroup_mount_shows_the_containers_own_tree() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    c.new_namespace("cgroup");
    let r = c.report();
    let mount = r.mount("/sys/fs/cgroup").unwrap();
    if Place::get().layout == Layout::V2 {
        assert_eq!(mount["type"], "cgroup2");
        assert_eq!(mount["root"], "/");
    } else {
        let below: Vec<_> = r["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|m| m["target"].as_str().unwrap().starts_with("/sys/fs/cgroup/"))
            .map(|m| m["type"].as_str().unwrap().to_owned())
            .collect();
        assert!(below.iter().any(|kind| kind == "cgroup"), "{below:?}");
    }
    assert!(r.mount_has("/sys/fs/cgroup", "ro"));
}

/// With a user namespace and a cgroup namespace the subtree is the container's own (cgroup-v2.rst, "Delegation"): what the kernel lists, and
/// not the limits.
#[test]
fn the_subtree_belongs_to_the_containers_root() {
    let t = behaviour!(Need::Root, Need::V2);
    if Place::get().layout != Layout::V2 {
        t.skip("needs a pure cgroup v2 layout (covered by the run in the v2 view)");
        return;
    }
    const FIRST: u32 = 200_000;
    let c = t.container();
    c.new_namespace("user").new_namespace("cgroup");
    c.edit(|s| {
        for kind in ["uidMappings", "gidMappings"] {
            s["linux"][kind] = json!([{ "containerID": 0, "hostID": FIRST, "size": 10_000 }]);
        }
        for mount in s["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/sys/fs/cgroup" {
                mount["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
            }
        }
    });
    c.sleeping();
    let dir = dir_of(c.pid(), "");
    let owner = |path: &std::path::Path| std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).unwrap());
    assert_eq!(owner(&dir), FIRST);
    let listed = fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap();
    for file in listed.lines().map(|name| dir.join(name)).filter(|f| f.exists()) {
        assert_eq!(owner(&file), FIRST, "{}", file.display());
    }
    for file in ["cgroup.freeze", "cgroup.max.depth", "memory.max", "pids.max"].map(|name| dir.join(name)) {
        assert!(!file.exists() || owner(&file) == 0, "{}", file.display());
    }
    let made =
        c.exec(&[], &["/probe", "try-mkdir", "/sys/fs/cgroup/own", ",", "write-file", "/sys/fs/cgroup/own/cgroup.procs", "0"]).code(0);
    assert_eq!(made.json_lines(), [json!({ "errno": null }), json!({ "errno": null })]);
    c.call("delete").arg("--force").arg(&c.id).ok();
    c.leaves_nothing();
}

/// A systemd that knows no v2 gets the named hierarchy, in which the container has a cgroup, and nothing else at /sys/fs/cgroup.
#[test]
fn a_named_hierarchy_can_be_forced() {
    let t = pinnace_only!(Need::Root, Need::V2);
    if Place::get().layout != Layout::V2 {
        t.skip("needs a pure cgroup v2 layout (covered by the run in the v2 view)");
        return;
    }
    forced(&t, false);
    if Place::get().systemd_bus() {
        forced(&t, true);
    }
}

fn forced(t: &Test, by_systemd: bool) {
    let c = t.container();
    let named = t.dir().join(format!("named-{by_systemd}"));
    fs::create_dir(&named).unwrap();
    c.new_namespace("cgroup");
    let manager = if by_systemd { "systemd" } else { "cgroupfs" };
    c.global(&["--cgroup-manager", manager]);
    c.edit(|s| s["annotations"] = json!({ "run.oci.systemd.force_cgroup_v1": named }));
    c.refused(&["annotation `run.oci.systemd.force_cgroup_v1`", "no v1 hierarchy is mounted at"]);
    c.args(&["/probe", "sleep"]).write();
    // A hierarchy that has a cgroup, or had one a moment ago, outlives its mount, and CRIU copies all of it into each container that it restores.
    let script = format!(
        "here() {{ grep -q ':name=systemd:' /proc/self/cgroup; }}; again() {{ mount -t cgroup -o none,name=systemd,xattr cgroup '{named}'; }}; \
         here && had=yes; again && mkdir '{named}/system.slice' 2>/dev/null && slice=made; \
         \"$@\" run --detach --bundle '{bundle}' {id} >'{out}' && \
         \"$@\" exec {id} /probe report && find '{named}' -path '*{id}*' -name cgroup.procs -exec cat {{}} + | grep -c .; \
         \"$@\" delete --force {id}; find '{named}' -path '*{id}*' | wc -l; test -z \"$slice\" || rmdir '{named}/system.slice'; \
         n=0; while umount '{named}' && test -z \"$had\" && here && test $n -lt 100; do n=$((n+1)); again; sleep 0.1; done",
        named = named.display(),
        bundle = c.bundle.display(),
        out = t.dir().join("out").display(),
        id = c.id,
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, "sh"]).arg(&t.runtime.path).arg("--root").arg(t.root()).args(["--cgroup-manager", manager]);
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(lines[1..], ["1", "0"]);
    let report: harness::Value = serde_json::from_str(lines[0]).unwrap();
    let below = |m: &&harness::Value| m["target"].as_str().unwrap().starts_with("/sys/fs/cgroup");
    let mounts: Vec<_> = report["mounts"].as_array().unwrap().iter().filter(below).collect();
    assert_eq!((mounts.len(), &mounts[0]["type"]), (2, &json!("tmpfs")), "{mounts:?}");
    assert_eq!((&mounts[1]["target"], &mounts[1]["type"]), (&json!("/sys/fs/cgroup/systemd"), &json!("cgroup")));
    assert_eq!(mounts[1]["root"], "/", "the namespace's root is the container's cgroup");
    c.leaves_nothing();
}
