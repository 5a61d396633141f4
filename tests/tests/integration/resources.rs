//! Each resource through each manager: set at the start, set by `update`, read back from the kernel's files; memory, tasks and time are also
//! felt. Not here: paths, lifecycle (`cgroups`), units (`systemd`), devices (`devices`).

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use harness::{Container, Need, Place, Test, Value, behaviour, json};

use crate::cgroups::{dir_of, knob};

/// Who makes the cgroup.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manager {
    Files,
    Systemd,
}

use Manager::{Files, Systemd};

/// What one file shows on v1 and v2; an absent side is not looked at. Of several words in a value, separated by `|`, any will do: formulas
/// changed between versions.
struct Shown {
    controller: &'static str,
    v1: Option<(&'static str, String)>,
    v2: Option<(&'static str, String)>,
    /// The kernel may have been built or started without the file.
    optional: bool,
}

fn shown(controller: &'static str, v1: (&'static str, &str), v2: (&'static str, &str)) -> Shown {
    let side = |(file, value): (&'static str, &str)| (!file.is_empty()).then(|| (file, value.to_owned()));
    Shown { controller, v1: side(v1), v2: side(v2), optional: false }
}

impl Shown {
    fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    #[track_caller]
    fn check(&self, c: &Container<'_>) {
        let side = if Place::get().is_v2(self.controller) { &self.v2 } else { &self.v1 };
        let Some((file, wanted)) = side else { return };
        if self.optional && !dir_of(c.pid(), self.controller).join(file).exists() {
            return;
        }
        let got = knob(c, self.controller, file, file);
        assert!(wanted.split('|').any(|one| one == got || got.lines().any(|line| line == one)), "{file}: `{got}`, not `{wanted}`");
    }
}

fn container(t: &Test, manager: Manager) -> Container<'_> {
    let c = t.container();
    if manager == Systemd {
        c.global(&["--systemd-cgroup"]);
        c.edit(|s| s["linux"]["cgroupsPath"] = json!(format!("pinnace-test.slice:pt:{}", c.id)));
    }
    c
}

/// Starts one container with the section and gives it to another that runs.
#[track_caller]
fn holds(t: &Test, manager: Manager, resources: &Value, files: &[Shown]) {
    let limited = container(t, manager);
    limited.edit(|s| {
        let all = s["linux"]["resources"].as_object_mut().unwrap();
        all.extend(resources.as_object().unwrap().clone());
    });
    limited.sleeping();
    files.iter().for_each(|f| f.check(&limited));
    let free = container(t, manager);
    free.sleeping();
    free.call("update").args(&["--resources", "-"]).arg(&free.id).stdin(&resources.to_string()).ok();
    files.iter().for_each(|f| f.check(&free));
    for c in [limited, free] {
        c.call("delete").arg("--force").arg(&c.id).ok();
        c.leaves_nothing();
    }
}

/// Both tests of one body: with the files' manager as root, with systemd's as whoever it is.
macro_rules! each {
    ($area:ident, [$($need:expr),*]) => {
        mod $area {
            use super::*;
            #[test]
            fn by_files() {
                let t = behaviour!(Need::Root, $($need),*);
                super::$area(&t, Files);
            }
            #[test]
            fn by_systemd() {
                let t = behaviour!(Need::Systemd, Need::V2, $($need),*);
                super::$area(&t, Systemd);
            }
        }
    };
}

const MIB: i64 = 1 << 20;

each!(memory, [Need::Controller("memory")]);
fn memory(t: &Test, m: Manager) {
    holds(
        t,
        m,
        &json!({ "memory": { "limit": 64 * MIB, "swap": 96 * MIB, "reservation": 16 * MIB } }),
        &[
            shown("memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864")),
            shown("memory", ("memory.memsw.limit_in_bytes", "100663296"), ("memory.swap.max", "33554432")).optional(),
            shown("memory", ("memory.soft_limit_in_bytes", "16777216"), ("memory.low", "16777216")),
        ],
    );
    holds(
        t,
        m,
        &json!({ "memory": { "limit": -1, "swap": -1 } }),
        &[
            shown("memory", ("memory.limit_in_bytes", "9223372036854771712"), ("memory.max", "max")),
            shown("memory", ("memory.memsw.limit_in_bytes", "9223372036854771712"), ("memory.swap.max", "max")).optional(),
        ],
    );
}

each!(cpu, [Need::Controller("cpu")]);
fn cpu(t: &Test, m: Manager) {
    holds(
        t,
        m,
        &json!({ "cpu": { "shares": 512, "quota": 20_000, "period": 50_000, "burst": 5_000 } }),
        &[
            // 59 by the newer formula, 20 by the older one.
            shown("cpu", ("cpu.shares", "512"), ("cpu.weight", "59|20")),
            shown("cpu", ("cpu.cfs_quota_us", "20000"), ("cpu.max", "20000 50000")),
            shown("cpu", ("cpu.cfs_period_us", "50000"), ("", "")),
            shown("cpu", ("cpu.cfs_burst_us", "5000"), ("cpu.max.burst", "5000")),
        ],
    );
    holds(t, m, &json!({ "cpu": { "quota": -1 } }), &[shown("cpu", ("cpu.cfs_quota_us", "-1"), ("cpu.max", "max 100000"))]);
    holds(t, m, &json!({ "cpu": { "idle": 1 } }), &[shown("cpu", ("cpu.idle", "1"), ("cpu.idle", "1"))]);
}

each!(cpuset, [Need::Controller("cpuset")]);
fn cpuset(t: &Test, m: Manager) {
    holds(
        t,
        m,
        &json!({ "cpu": { "cpus": "0", "mems": "0" } }),
        &[
            shown("cpuset", ("cpuset.cpus", "0"), ("cpuset.cpus", "0")),
            shown("cpuset", ("cpuset.mems", "0"), ("cpuset.mems", "0")),
            shown("cpuset", ("cpuset.effective_cpus", "0"), ("cpuset.cpus.effective", "0")),
        ],
    );
}

each!(pids, [Need::Controller("pids")]);
fn pids(t: &Test, m: Manager) {
    for (limit, text) in [(77, "77"), (-1, "max")] {
        holds(t, m, &json!({ "pids": { "limit": limit } }), &[shown("pids", ("pids.max", text), ("pids.max", text))]);
    }
}

each!(block_io, [Need::Controller(block_controller())]);
fn block_io(t: &Test, m: Manager) {
    let number = disk();
    let (major, minor) = number.split_once(':').unwrap();
    let device = |rate: u64| json!([{ "major": major.parse::<u32>().unwrap(), "minor": minor.parse::<u32>().unwrap(), "rate": rate }]);
    let controller = block_controller();
    holds(
        t,
        m,
        &json!({ "blockIO": {
            "throttleReadBpsDevice": device(1_048_576),
            "throttleWriteBpsDevice": device(2_097_152),
            "throttleReadIOPSDevice": device(111),
            "throttleWriteIOPSDevice": device(222),
        } }),
        &[
            shown(controller, ("blkio.throttle.read_bps_device", &format!("{number} 1048576")), ("", "")),
            shown(controller, ("blkio.throttle.write_bps_device", &format!("{number} 2097152")), ("", "")),
            shown(controller, ("blkio.throttle.read_iops_device", &format!("{number} 111")), ("", "")),
            shown(
                controller,
                ("blkio.throttle.write_iops_device", &format!("{number} 222")),
                ("io.max", &format!("{number} rbps=1048576 wbps=2097152 riops=111 wiops=222")),
            ),
        ],
    );
}

each!(io_weight, [Need::Controller(block_controller())]);
fn io_weight(t: &Test, m: Manager) {
    let probe = t.container();
    probe.sleeping();
    let controller = block_controller();
    let dir = dir_of(probe.pid(), controller);
    let files = ["blkio.weight", "blkio.bfq.weight", "io.bfq.weight", "io.weight"];
    if !files.iter().any(|f| dir.join(f).exists()) {
        t.skip("needs a kernel that weighs block devices, by BFQ or by iocost (covered by the unit tests of cgroup-fs)");
        return;
    }
    // 910 is 100 in the range of io.weight; BFQ has the range of v1.
    holds(
        t,
        m,
        &json!({ "blockIO": { "weight": 100 } }),
        &[
            shown(controller, ("blkio.weight", "100"), ("", "")).optional(),
            shown(controller, ("blkio.bfq.weight", "100"), ("io.bfq.weight", "default 100|100")).optional(),
        ],
    );
}

// Sessions of users have no huge pages delegated.
each!(hugetlb, [Need::Root, Need::Controller("hugetlb")]);
fn hugetlb(t: &Test, m: Manager) {
    holds(
        t,
        m,
        &json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 4_194_304 }] }),
        &[shown("hugetlb", ("hugetlb.2MB.limit_in_bytes", "4194304"), ("hugetlb.2MB.max", "4194304"))],
    );
}

each!(unified, [Need::Controller("memory"), Need::Controller("pids"), Need::V2]);
fn unified(t: &Test, m: Manager) {
    if !Place::get().is_v2("memory") {
        t.skip("needs the cgroup controller memory on v2 (covered by cargo xtask vm test)");
        return;
    }
    holds(
        t,
        m,
        &json!({ "unified": { "memory.high": "50331648", "memory.min": "4194304", "pids.max": "33" } }),
        &[
            shown("memory", ("", ""), ("memory.high", "50331648")),
            shown("memory", ("", ""), ("memory.min", "4194304")),
            shown("pids", ("", ""), ("pids.max", "33")),
        ],
    );
}

each!(memory_is_felt, [Need::Controller("memory")]);
fn memory_is_felt(t: &Test, m: Manager) {
    let c = container(t, m);
    c.edit(|s| s["linux"]["resources"]["memory"] = json!({ "limit": 32 * MIB, "swap": 32 * MIB }));
    c.args(&["/probe", "alloc", "268435456"]).run().code(137);
    c.leaves_nothing();
    c.args(&["/probe", "alloc", "1000000"]).run().code(0);
    c.leaves_nothing();
}

each!(pids_are_felt, [Need::Controller("pids")]);
fn pids_are_felt(t: &Test, m: Manager) {
    let c = container(t, m);
    c.edit(|s| s["linux"]["resources"]["pids"] = json!({ "limit": 5 }));
    let got = c.args(&["/probe", "fork-bomb", "20"]).run().code(0).json();
    assert_eq!((&got["errno"], &got["forked"]), (&json!("EAGAIN"), &json!(4)));
    c.leaves_nothing();
}

each!(cpu_is_felt, [Need::Controller("cpu")]);
fn cpu_is_felt(t: &Test, m: Manager) {
    let c = container(t, m);
    let throttled = |quota: i64| {
        c.edit(|s| s["linux"]["resources"]["cpu"] = json!({ "quota": quota, "period": 10_000 }));
        c.args(&["/probe", "spin", "60", ",", "sleep"]);
        c.launch("run", &["--detach"]).ok().until("READY");
        let text = knob(&c, "cpu", "cpu.stat", "cpu.stat");
        c.call("delete").arg("--force").arg(&c.id).ok();
        let count = text.lines().find_map(|l| l.strip_prefix("nr_throttled ")).unwrap_or_else(|| panic!("{text}"));
        count.parse::<u64>().unwrap()
    };
    // 60 ms of time, 2 ms in each period: the loop must wait for many of them.
    assert!(throttled(2_000) >= 3);
    assert_eq!(throttled(-1), 0);
    c.leaves_nothing();
}

/// The controller of block devices, as this machine calls it.
fn block_controller() -> &'static str {
    if Place::get().controllers.contains_key("blkio") { "blkio" } else { "io" }
}

/// `MAJOR:MINOR` of a whole block device.
fn disk() -> String {
    let mut names: Vec<_> = fs::read_dir("/sys/block").unwrap().flatten().map(|e| e.path()).collect();
    // Real disks before the loop devices.
    names.sort_by_key(|p| p.to_string_lossy().contains("loop"));
    fs::read_to_string(names.first().expect("a block device").join("dev")).unwrap().trim().to_owned()
}

#[test]
fn v1_fields_about_memory() {
    let t = behaviour!(Need::Root, Need::V1, Need::Controller("memory"));
    holds(
        &t,
        Files,
        &json!({ "memory": { "swappiness": 10, "disableOOMKiller": true, "kernelTCP": 8 * MIB, "useHierarchy": true } }),
        &[
            shown("memory", ("memory.swappiness", "10"), ("", "")),
            shown("memory", ("memory.oom_control", "oom_kill_disable 1"), ("", "")),
            shown("memory", ("memory.kmem.tcp.limit_in_bytes", "8388608"), ("", "")).optional(),
            shown("memory", ("memory.use_hierarchy", "1"), ("", "")),
        ],
    );
}

#[test]
fn v1_real_time() {
    let t = behaviour!(Need::Root, Need::V1, Need::Controller("cpu"));
    let cpu = Place::get().cgroup_dir("cpu", "/").unwrap();
    if !cpu.join("cpu.rt_runtime_us").exists() {
        t.skip("needs a kernel with groups of real-time tasks (covered by the unit tests of cgroup-fs)");
        return;
    }
    holds(
        &t,
        Files,
        &json!({ "cpu": { "realtimeRuntime": 0, "realtimePeriod": 500_000 } }),
        &[shown("cpu", ("cpu.rt_period_us", "500000"), ("", "")), shown("cpu", ("cpu.rt_runtime_us", "0"), ("", ""))],
    );
}

/// The network controllers are rarely mounted: a hierarchy of them is, for one command.
#[test]
fn v1_fields_about_the_network() {
    let t = behaviour!(Need::Root, Need::V1);
    let known = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    if !["net_cls", "net_prio"].iter().all(|name| known.lines().any(|l| l.starts_with(&format!("{name}\t0\t")))) {
        t.skip("needs a kernel with net_cls and net_prio that nobody uses (covered by the unit tests of cgroup-fs)");
        return;
    }
    let c = t.container();
    c.edit(|s| {
        s["linux"]["resources"]["network"] = json!({ "classID": 1_048_577, "priorities": [{ "name": "lo", "priority": 5 }] });
    });
    c.args(&["/probe", "sleep"]).write();
    let mount = t.dir().join("net");
    fs::create_dir(&mount).unwrap();
    let script = format!(
        "mount -t cgroup -o net_cls,net_prio none '{mount}' && \"$@\" run --detach --bundle '{bundle}' {id} >'{out}' && \
         cat '{mount}/{id}/net_cls.classid' && grep '^lo ' '{mount}/{id}/net_prio.ifpriomap' && \"$@\" delete --force {id} && ls '{mount}' | grep -c {id}",
        mount = mount.display(),
        bundle = c.bundle.display(),
        out = t.dir().join("out").display(),
        id = c.id,
    );
    let root = t.root();
    let out =
        Command::new("unshare").args(["-m", "sh", "-c", &script, "sh"]).arg(&t.runtime.path).arg("--root").arg(root).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(text, "1048577\nlo 5\n0\n", "{}", String::from_utf8_lossy(&out.stderr));
    c.leaves_nothing();
}

/// Configurations are written with the values of v1, and v2 takes others.
#[test]
fn values_of_v1_become_those_of_v2() {
    let t = behaviour!(Need::Root, Need::Controller("cpu"), Need::Controller("memory"));
    if !Place::get().is_v2("cpu") {
        t.skip("needs the cgroup controller cpu on v2 (covered by cargo xtask vm test)");
        return;
    }
    // By the newer formula and the older one.
    for (shares, weight) in [(2, "1"), (1024, "100|39"), (2048, "174|79"), (262_144, "10000")] {
        holds(&t, Files, &json!({ "cpu": { "shares": shares } }), &[shown("cpu", ("", ""), ("cpu.weight", weight))]);
    }
    holds(
        &t,
        Files,
        &json!({ "memory": { "limit": 8 * MIB, "swap": 8 * MIB } }),
        &[shown("memory", ("", ""), ("memory.swap.max", "0")).optional()],
    );
    for (section, field) in [
        (json!({ "memory": { "swappiness": 10 } }), "swappiness"),
        (json!({ "memory": { "kernel": MIB } }), "kernel"),
        (json!({ "memory": { "disableOOMKiller": true } }), "disableOOMKiller"),
        (json!({ "network": { "classID": 5 } }), "classID"),
        (json!({ "blockIO": { "leafWeight": 100 } }), "leafWeight"),
        (json!({ "cpu": { "realtimeRuntime": 1000 } }), "realtime runtime not supported on cgroupv2"),
        (json!({ "cpu": { "realtimePeriod": 1000 } }), "realtime period not supported on cgroupv2"),
    ] {
        let c = t.container();
        c.edit(|s| s["linux"]["resources"].as_object_mut().unwrap().extend(section.as_object().unwrap().clone()));
        let out = c.run();
        assert_eq!(out.status(), 1, "{section}: {out}");
        if t.runtime.kind == harness::Kind::Pinnace {
            assert!(out.stderr().contains(field), "{section}: {out}");
        }
        c.forget_cgroup_of_crun();
        c.leaves_nothing();
    }
}

/// How many device programs the kernel has.
fn device_programs(t: &Test) -> i64 {
    let probe: PathBuf = t.container().rootfs().join("probe");
    let out = Command::new(probe).arg("device-programs").output().unwrap();
    let value: Value = serde_json::from_slice(&out.stdout).unwrap();
    value["count"].as_i64().unwrap()
}

/// 16 at a time, each with limits and a device program of its own.
fn many(t: &Test, manager: Manager) {
    let (workers, rounds) = (16, 13);
    let before = device_programs(t);
    for _ in 0..rounds {
        let all: Vec<_> = (0..workers).map(|_| container(t, manager)).collect();
        for c in &all {
            if Place::get().root && t.runtime.kind == harness::Kind::Pinnace {
                // What systemd has no list for, and crun refuses.
                let but_one = json!({ "allow": false, "type": "c", "major": 1, "minor": 11, "access": "rw" });
                c.edit(|s| s["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwm" }, but_one]));
            }
            c.args(&["/probe", "sleep"]).write();
        }
        let starting: Vec<_> = all.iter().map(|c| c.launch("run", &["--detach"]).spawn()).collect();
        starting.into_iter().for_each(|r| drop(r.wait().code(0)));
        let ending: Vec<_> = all.iter().map(|c| c.call("delete").arg("--force").arg(&c.id).spawn()).collect();
        ending.into_iter().for_each(|r| drop(r.wait().code(0)));
        all.iter().for_each(Container::leaves_nothing);
        // Neither is there anything by another name.
        assert!(fs::read_dir(t.root()).unwrap().flatten().all(|e| e.file_name().to_string_lossy().starts_with('.')), "state is left");
    }
    // Tests beside this one have programs, too: a few more are none of ours.
    if before >= 0 {
        harness::eventually("the device programs to go", || device_programs(t) < before + workers);
    }
}

#[test]
fn two_hundred_sixteen_at_a_time_by_files() {
    let t = behaviour!(Need::Root);
    many(&t, Files);
}

#[test]
fn two_hundred_sixteen_at_a_time_by_systemd() {
    let t = behaviour!(Need::Systemd, Need::V2);
    many(&t, Systemd);
    let mut systemctl = Command::new("systemctl");
    if !Place::get().root {
        systemctl.arg("--user");
    }
    let out =
        systemctl.args(["list-units", "--all", "--plain", "--no-legend", &format!("pt-pt-{}-*", std::process::id())]).output().unwrap();
    // Those of tests beside this one are there, but not 200.
    assert!(String::from_utf8_lossy(&out.stdout).lines().count() < 16, "{}", String::from_utf8_lossy(&out.stdout));
}
