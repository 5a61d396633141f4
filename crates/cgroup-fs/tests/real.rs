//! The manager on the cgroups of this machine, whatever their layout, with cgroups-rs to read back what it wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

use cgroup_fs::{CgroupfsManager, Controller, ControllerSet, DisabledManager, Version};
use cgroups_rs::fs::{
    Cgroup as Theirs, MaxValue, blkio::BlkIoController, cpu::CpuController, cpuacct::CpuAcctController, cpuset::CpuSetController,
    hierarchies, memory::MemController, pid::PidController,
};
use runtime_core::ContainerId;
use runtime_core::api::{Cgroup, CgroupManager, CgroupRecord, CgroupRequest, Stats};
use runtime_core::spec::{self, Map, Resources};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Why a test cannot run here; the reason goes where `cargo xtask test` looks for it.
fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
    if let Some(file) = std::env::var_os("PINNACE_TEST_SKIPS") {
        let file = fs::OpenOptions::new().append(true).create(true).open(file);
        writeln!(file.unwrap(), "{test}\t{reason}").unwrap();
    }
}

/// Whether cgroups can be made.
fn can(test: &str) -> bool {
    let probe = ContainerId::new(&format!("pinnace-can-{}-{test}", std::process::id())).unwrap();
    let manager = CgroupfsManager::new();
    match manager.place(&request(&probe, &Resources::default(), None), &|_| Ok(())) {
        Ok(placement) => {
            manager.open(&placement.record).unwrap().destroy().unwrap();
            true
        }
        Err(e) => {
            skip(test, &format!("needs to make cgroups (covered by the run as root): {e}"));
            false
        }
    }
}

/// Whether a controller is in a v1 hierarchy or in the v2 tree.
fn has(controller: Controller) -> bool {
    let layout = CgroupfsManager::new();
    let split = layout.layout().unwrap().split();
    let listed = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    split.v1.contains(controller) || ControllerSet::parse(&listed).contains(controller)
}

fn request<'a>(id: &'a ContainerId, resources: &'a Resources<'a>, path: Option<&'a str>) -> CgroupRequest<'a> {
    static NONE: Map<'static, spec::Str<'static>> = Map(Vec::new());
    CgroupRequest { id, cgroups_path: path, resources, annotations: &NONE, rootless: false, owner: None, unified: false }
}

/// A process that waits for its end.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }
    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cgroup with a process in it, gone at the end.
struct Made {
    manager: CgroupfsManager,
    record: CgroupRecord,
    cgroup: Box<dyn Cgroup>,
}

impl Made {
    fn new(name: &str, json: &str, pid: i32) -> runtime_core::Result<Self> {
        let resources: Resources<'_> = spec::parse(json.as_bytes()).unwrap();
        let id = ContainerId::new(&format!("pinnace-real-{}-{name}", std::process::id())).unwrap();
        let manager = CgroupfsManager::new();
        let request = request(&id, &resources, None);
        let placement = manager.place(&request, &|_| Ok(()))?;
        // What clone3 and the child do for a container.
        if let Some(dir) = &placement.into {
            let file = rustix::fs::openat(dir, "cgroup.procs", rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty()).unwrap();
            fs::File::from(file).write_all(pid.to_string().as_bytes()).unwrap();
        }
        for file in &placement.join {
            fs::File::from(file.try_clone().unwrap()).write_all(pid.to_string().as_bytes()).unwrap();
        }
        let cgroup = manager.enter(&request, &placement, pid)?;
        manager.confine(&request, &placement)?;
        Ok(Self { manager, record: placement.record, cgroup })
    }

    /// Its directory in each hierarchy.
    fn directories(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = text.lines().filter(|l| l.contains(" - cgroup")).filter_map(|l| l.split(' ').nth(4));
        mounts.map(|m| PathBuf::from(format!("{m}{}", self.record.path))).filter(|d| d.is_dir()).collect()
    }

    fn version(&self, controller: Controller) -> Version {
        self.manager.layout().unwrap().split().version(controller)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.cgroup.destroy().unwrap();
        assert!(self.directories().is_empty(), "left behind: {:?}", self.directories());
    }
}

/// The first statistics of which this holds.
#[track_caller]
fn first(made: &Made, holds: impl Fn(&Stats) -> bool) -> Stats {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let stats = made.cgroup.stats().unwrap();
        if holds(&stats) {
            return stats;
        }
        assert!(std::time::Instant::now() < deadline, "{stats:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn another_library_reads_back_what_was_written() {
    let name = "another_library_reads_back_what_was_written";
    if !can(name) {
        return;
    }
    let sleeper = Sleeper::start();
    let all = [
        (Controller::Memory, r#""memory":{"limit":67108864,"reservation":33554432}"#),
        (Controller::Pids, r#""pids":{"limit":77}"#),
        (Controller::Cpu, r#""cpu":{"shares":2048,"quota":50000,"period":200000}"#),
    ];
    let there: Vec<_> = all.iter().filter(|(c, _)| has(*c)).collect();
    for (missing, _) in all.iter().filter(|(c, _)| !there.iter().any(|(t, _)| t == c)) {
        skip(&format!("{name}: {missing:?}"), "needs the controller (covered by the run on the host's own layout and cargo xtask vm test)");
    }
    let json = format!("{{{}}}", there.iter().map(|(_, json)| *json).collect::<Vec<_>>().join(","));
    let made = Made::new("oracle", &json, sleeper.pid()).unwrap();
    let theirs = Theirs::load(hierarchies::auto(), made.record.path.trim_start_matches('/'));
    for (controller, _) in there {
        match controller {
            Controller::Memory => {
                let memory: &MemController = theirs.controller_of().unwrap();
                assert_eq!(memory.memory_stat().limit_in_bytes, 67_108_864);
            }
            Controller::Pids => {
                let pids: &PidController = theirs.controller_of().unwrap();
                assert!(matches!(pids.get_pid_max().unwrap(), MaxValue::Value(77)));
            }
            _ => {
                let cpu: &CpuController = theirs.controller_of().unwrap();
                let v1 = made.version(Controller::Cpu) == Version::V1;
                assert_eq!(cpu.shares().unwrap(), if v1 { 2048 } else { 174 });
                assert_eq!((cpu.cfs_quota().unwrap(), cpu.cfs_period().unwrap()), (50_000, 200_000));
            }
        }
    }
    let pids: Vec<i32> = theirs.procs().iter().map(|p| p.pid as i32).collect();
    assert!(pids.contains(&sleeper.pid()), "{pids:?}");
    assert_eq!(made.cgroup.pids().unwrap(), [sleeper.pid()]);
}

#[test]
fn a_cpuset_takes_what_its_parents_have() {
    let name = "a_cpuset_takes_what_its_parents_have";
    if !can(name) {
        return;
    }
    if !has(Controller::Cpuset) {
        return skip(name, "needs the cgroup controller cpuset (covered by the run on the host's own layout and cargo xtask vm test)");
    }
    let sleeper = Sleeper::start();
    let made = Made::new("cpuset", r#"{"cpu":{"cpus":"0"}}"#, sleeper.pid()).unwrap();
    let theirs = Theirs::load(hierarchies::auto(), made.record.path.trim_start_matches('/'));
    let set: &CpuSetController = theirs.controller_of().unwrap();
    assert_eq!(set.cpuset().cpus, [(0, 0)]);
}

#[test]
fn limits_change_later() {
    let name = "limits_change_later";
    if !can(name) {
        return;
    }
    if !has(Controller::Pids) {
        return skip(name, "needs the cgroup controller pids (covered by the run on the host's own layout and cargo xtask vm test)");
    }
    let sleeper = Sleeper::start();
    let made = Made::new("update", r#"{"pids":{"limit":10}}"#, sleeper.pid()).unwrap();
    made.cgroup.apply(&spec::parse(br#"{"pids":{"limit":20}}"#).unwrap()).unwrap();
    let files: Vec<_> = made.directories().iter().map(|d| d.join("pids.max")).filter(|f| f.exists()).collect();
    assert_eq!(files.len(), 1);
    assert_eq!(fs::read_to_string(&files[0]).unwrap(), "20\n");
}

#[test]
fn frozen_processes_stand_still_and_die() {
    let name = "frozen_processes_stand_still_and_die";
    if !can(name) {
        return;
    }
    let mut sleeper = Sleeper::start();
    let made = Made::new("freeze", "{}", sleeper.pid()).unwrap();
    assert!(!made.cgroup.is_frozen().unwrap());
    made.cgroup.freeze(true).unwrap();
    assert!(made.cgroup.is_frozen().unwrap());
    made.cgroup.freeze(false).unwrap();
    assert!(!made.cgroup.is_frozen().unwrap());
    made.cgroup.kill(libc::SIGKILL).unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&sleeper.0.wait().unwrap()), Some(libc::SIGKILL));
    assert_eq!(made.cgroup.oom_kills().unwrap().unwrap_or(0), 0);
}

#[test]
fn destroying_ends_what_is_left_below_and_can_be_repeated() {
    let name = "destroying_ends_what_is_left_below_and_can_be_repeated";
    if !can(name) {
        return;
    }
    let mut sleeper = Sleeper::start();
    let made = Made::new("nested", "{}", sleeper.pid()).unwrap();
    for dir in made.directories() {
        // A v1 cpuset has no CPUs below before it is told which, so the process stays above there.
        fs::create_dir_all(dir.join("a/b")).unwrap();
        let _ = fs::write(dir.join("a/b/cgroup.procs"), sleeper.pid().to_string());
    }
    made.cgroup.destroy().unwrap();
    assert!(sleeper.0.wait().unwrap().code().is_none());
    assert!(made.directories().is_empty());
    made.cgroup.destroy().unwrap();
    assert_eq!(made.cgroup.pids().unwrap(), [0; 0]);
    assert!(!made.cgroup.is_frozen().unwrap());
}

#[test]
fn a_limit_that_is_refused_leaves_nothing() {
    let name = "a_limit_that_is_refused_leaves_nothing";
    if !can(name) {
        return;
    }
    let id = ContainerId::new(&format!("pinnace-real-{}-refused", std::process::id())).unwrap();
    let manager = CgroupfsManager::new();
    // Which controller it is does not matter: this host lacks it, or the kernel refuses the value.
    for json in [r#"{"cpu":{"cpus":"9999"}}"#, r#"{"unified":{"../x":"1"}}"#, r#"{"hugepageLimits":[{"pageSize":"3KB","limit":1}]}"#] {
        let resources: Resources<'_> = spec::parse(json.as_bytes()).unwrap();
        let e = manager.place(&request(&id, &resources, None), &|_| Ok(())).map(drop).unwrap_err();
        assert!(!e.to_string().is_empty());
        let left = Command::new("find").args(["/sys/fs/cgroup", "-name", id.as_str()]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&left.stdout), "", "{json}: {e}");
    }
}

#[test]
fn paths_do_not_escape() {
    let name = "paths_do_not_escape";
    if !can(name) {
        return;
    }
    let id = ContainerId::new(&format!("pinnace-real-{}-path", std::process::id())).unwrap();
    let manager = CgroupfsManager::new();
    let resources = Resources::default();
    for path in ["/../../pinnace-escape", "a/../../../pinnace-escape", "/sub/./x//y"] {
        let Ok(placement) = manager.place(&request(&id, &resources, Some(path)), &|_| Ok(())) else { continue };
        let recorded = placement.record.path.clone();
        manager.open(&placement.record).unwrap().destroy().unwrap();
        assert!(recorded.starts_with('/') && !recorded.split('/').any(|c| c == ".."), "{path} became {recorded}");
    }
    for record in ["/../x", "x", "/"] {
        let record = CgroupRecord { manager: "cgroupfs".into(), path: record.into(), ..CgroupRecord::default() };
        assert!(manager.open(&record).is_err() || record.path == "/", "{record:?}");
    }
}

#[test]
fn the_disabled_manager_refuses_limits_only() {
    let id = ContainerId::new("x").unwrap();
    let manager = DisabledManager;
    let resources: Resources<'_> = spec::parse(br#"{"devices":[{"allow":false,"access":"rwm"}]}"#).unwrap();
    let placement = manager.place(&request(&id, &resources, Some("/ignored")), &|_| Ok(())).unwrap();
    assert!(placement.into.is_none() && placement.join.is_empty() && placement.record.path.is_empty());
    manager.open(&placement.record).unwrap().destroy().unwrap();
    let resources: Resources<'_> = spec::parse(br#"{"pids":{"limit":5}}"#).unwrap();
    let e = manager.place(&request(&id, &resources, None), &|_| Ok(())).map(drop).unwrap_err();
    assert!(e.to_string().contains("cannot set limits without cgroups"), "{e}");
}

/// `value` was read between two of ours, so it cannot be outside of them.
#[track_caller]
fn between(before: u64, value: u64, after: u64) {
    assert!(before <= value && value <= after, "{before} <= {value} <= {after}");
}

/// A shell that uses time and some memory, from when it is let go until it is dropped: how much of that the kernel has counted when, is its affair.
fn worker() -> Sleeper {
    let script = "read go; s=x; while :; do test ${#s} -gt 100000 || s=$s$s; done";
    Sleeper(Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap())
}

/// What it takes from now on counts where it is now.
fn let_go(worker: &mut Sleeper) {
    std::io::Write::write_all(worker.0.stdin.as_mut().unwrap(), b"\n").unwrap();
}

#[test]
fn another_library_reads_the_same_statistics() {
    let name = "another_library_reads_the_same_statistics";
    if !can(name) {
        return;
    }
    let mut worker = worker();
    let made = Made::new("stats", "{}", worker.pid()).unwrap();
    let_go(&mut worker);
    let theirs = Theirs::load(hierarchies::auto(), made.record.path.trim_start_matches('/'));
    let used = |stats: &Stats| {
        stats.cpu.as_ref().is_some_and(|cpu| cpu.usage > 0) && stats.memory.as_ref().is_none_or(|memory| memory.memory.current > 0)
    };
    let before = first(&made, used);
    let (old_cpu, unified) = (made.version(Controller::Cpuacct) == Version::V1, made.manager.layout().unwrap().v2.is_some());
    if old_cpu {
        let acct: &CpuAcctController = theirs.controller_of().unwrap();
        let usage = acct.cpuacct().usage;
        let after = made.cgroup.stats().unwrap().cpu.unwrap();
        between(before.cpu.as_ref().unwrap().usage, usage, after.usage);
        assert!(usage > 0 && after.per_cpu.iter().sum::<u64>() >= usage, "{after:?}");
    } else if has(Controller::Cpu) {
        let cpu: &CpuController = theirs.controller_of().unwrap();
        let text = cpu.cpu().stat;
        let usage = text.lines().find_map(|l| l.strip_prefix("usage_usec ")).unwrap().parse::<u64>().unwrap() * 1000;
        between(before.cpu.as_ref().unwrap().usage, usage, made.cgroup.stats().unwrap().cpu.unwrap().usage);
        assert!(usage > 0);
    } else {
        assert!(before.cpu.as_ref().unwrap().usage > 0, "v2 counts without a controller");
    }
    if has(Controller::Pids) {
        let pids: &PidController = theirs.controller_of().unwrap();
        assert_eq!((pids.get_pid_current().unwrap(), 1), (before.pids.unwrap().current, before.pids.unwrap().current));
    }
    if has(Controller::Memory) {
        let memory: &MemController = theirs.controller_of().unwrap();
        let theirs = memory.memory_stat();
        let ours = before.memory.as_ref().unwrap();
        // The kernel charges in batches and may uncharge at any moment: the same order is all that holds.
        assert!(theirs.usage_in_bytes > 0 && ours.memory.current.abs_diff(theirs.usage_in_bytes) < 4 << 20, "{ours:?}");
        assert_eq!(ours.memory.limit, None);
        assert!(ours.raw.len() > 10, "{ours:?}");
    }
    if unified {
        // Compiled in or not, switched on or not: where the file can be read, so can we.
        let file = made.directories().iter().map(|d| d.join("cpu.pressure")).find(|f| f.exists());
        assert_eq!(before.cpu.unwrap().pressure.is_some(), file.is_some_and(|f| fs::read_to_string(f).is_ok()));
    }
    made.cgroup.destroy().unwrap();
    assert_eq!(made.cgroup.stats().unwrap(), Stats::default());
}

#[test]
fn what_limits_did_is_counted() {
    let name = "what_limits_did_is_counted";
    if !can(name) {
        return;
    }
    if !has(Controller::Pids) || !has(Controller::Cpu) {
        return skip(
            name,
            "needs the cgroup controllers pids and cpu (covered by the run on the host's own layout and cargo xtask vm test)",
        );
    }
    let mut worker = worker();
    let made = Made::new("events", r#"{"pids":{"limit":7},"cpu":{"quota":2000,"period":20000}}"#, worker.pid()).unwrap();
    let_go(&mut worker);
    let throttled = |stats: &Stats| {
        stats.cpu.as_ref().and_then(|cpu| cpu.throttling.as_ref()).is_some_and(|t| t.throttled_periods > 0 && t.throttled > 0)
    };
    let stats = first(&made, throttled);
    assert_eq!((stats.pids.unwrap().limit, stats.pids.unwrap().current), (Some(7), 1));
    let throttling = stats.cpu.unwrap().throttling.unwrap();
    assert!(throttling.periods >= throttling.throttled_periods, "{throttling:?}");
}

#[test]
fn bytes_that_go_to_a_device_are_counted() {
    let name = "bytes_that_go_to_a_device_are_counted";
    if !can(name) {
        return;
    }
    if !has(Controller::Io) {
        return skip(name, "needs the cgroup controller io (covered by the run on the host's own layout and cargo xtask vm test)");
    }
    let sleeper = Sleeper::start();
    let made = Made::new("io", "{}", sleeper.pid()).unwrap();
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let file = dir.path().join("data");
    // The writer joins the cgroup itself: what is written by pass of the page cache is its own.
    let join: String = made.directories().iter().map(|d| format!("echo $$ > {}/cgroup.procs; ", d.display())).collect();
    let write = format!("{join} exec dd if=/dev/zero of={} bs=64k count=16 oflag=direct status=none", file.display());
    if !Command::new("sh").args(["-c", &write]).status().unwrap().success() {
        return skip(name, "needs a file system on a disk at /var/tmp that takes direct writes (covered by cargo xtask vm test)");
    }
    let stats = made.cgroup.stats().unwrap().io.unwrap();
    let theirs = Theirs::load(hierarchies::auto(), made.record.path.trim_start_matches('/'));
    let blkio: &BlkIoController = theirs.controller_of().unwrap();
    let theirs = blkio.blkio();
    let total: u64 = stats.devices.iter().map(|d| d.written_bytes).sum();
    if made.version(Controller::Io) == Version::V1 {
        assert_eq!(total, theirs.throttle.io_service_bytes_recursive.iter().map(|d| d.write).sum::<u64>());
    } else {
        // It looks for `rbytes:N` where the kernel writes `rbytes=N`: only the devices are right.
        let devices: Vec<_> = theirs.io_stat.iter().map(|d| (d.major as u32, d.minor as u32)).collect();
        assert_eq!(stats.devices.iter().map(|d| (d.major, d.minor)).collect::<Vec<_>>(), devices);
    }
    if total == 0 && made.version(Controller::Io) == Version::V1 {
        return skip(name, "needs a disk whose traffic the kernel counts by cgroup (covered by cargo xtask vm test)");
    }
    assert!(total >= 1 << 20, "{stats:?}");
}

/// What a killed runtime left is removed when nothing is in it; a process in it, which may be another's, lives on.
#[test]
fn what_is_abandoned_is_removed_without_killing() {
    if !can("what_is_abandoned_is_removed_without_killing") {
        return;
    }
    let mut sleeper = Sleeper::start();
    let made = Made::new("abandoned", "{}", sleeper.pid()).unwrap();
    assert!(!made.cgroup.abandon().unwrap());
    assert!(sleeper.0.try_wait().unwrap().is_none(), "it was killed");
    drop(sleeper);
    while !made.cgroup.abandon().unwrap() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(made.directories().is_empty());
    assert!(made.cgroup.abandon().unwrap(), "it may be gone");
}
