//! Statistics out of directories of plain files, with the texts of real kernels.

use super::*;
use crate::controller::ControllerSet;
use crate::layout::{Hierarchy, Layout};
use std::fs;
use std::path::Path;

/// A host whose hierarchies are directories: `all` is below one named by its controllers.
fn host(dir: &Path, v2: bool, v1: &[&str]) -> Layout {
    let hierarchy =
        |words: &&str| Hierarchy { mount: dir.join(words), controllers: ControllerSet::parse(words), label: (*words).to_owned() };
    Layout { v2: v2.then(|| dir.join("unified")), v1: v1.iter().map(hierarchy).collect() }
}

fn stats(layout: &Layout) -> Stats {
    read(&Homes::of(layout, "/c"), &layout.split()).unwrap()
}

/// Writes `FILE: TEXT` pairs into a hierarchy's cgroup.
fn write(dir: &Path, hierarchy: &str, files: &[(&str, &str)]) {
    let at = dir.join(hierarchy).join("c");
    fs::create_dir_all(&at).unwrap();
    for (name, text) in files {
        fs::write(at.join(name), text).unwrap();
    }
}

#[test]
fn v2() {
    let dir = tempfile::tempdir().unwrap();
    let cpu =
        "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 7\nnr_throttled 3\nthrottled_usec 9\nnr_bursts 2\nburst_usec 4\n";
    write(
        dir.path(),
        "unified",
        &[
            ("cpu.stat", cpu),
            ("cpu.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\n"),
            ("memory.current", "4096\n"),
            ("memory.peak", "8192\n"),
            ("memory.max", "max\n"),
            ("memory.events", "low 0\nhigh 0\nmax 5\noom 1\noom_kill 2\noom_group_kill 0\n"),
            ("memory.swap.current", "12\n"),
            ("memory.swap.max", "4096\n"),
            ("memory.swap.events", "high 0\nmax 6\nfail 0\n"),
            ("memory.stat", "anon 100\nfile 200\nkernel 300\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n"),
            ("pids.current", "3\n"),
            ("pids.max", "10\n"),
            ("pids.events", "max 8\n"),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.2MB.max", "4194304\n"),
            ("hugetlb.2MB.events", "max 1\n"),
            ("hugetlb.2MB.rsvd.current", "0\n"),
            ("hugetlb.1GB.current", "0\n"),
        ],
    );
    let got = stats(&host(dir.path(), true, &[]));
    let cpu = got.cpu.unwrap();
    assert_eq!((cpu.usage, cpu.user, cpu.system), (1_500_000, 1_000_000, 500_000));
    let throttling = Throttling { periods: 7, throttled_periods: 3, throttled: 9000, bursts: 2, burst: 4000 };
    assert_eq!((cpu.throttling, cpu.pressure.map(|p| p.some.total)), (Some(throttling), Some(77)));
    let memory = got.memory.unwrap();
    assert_eq!(memory.memory, Usage { current: 4096, peak: Some(8192), limit: None, failures: 5 });
    assert_eq!(memory.swap, Some(Usage { current: 12, peak: None, limit: Some(4096), failures: 6 }));
    assert_eq!((memory.oom_kills, memory.kernel, memory.raw("file"), memory.raw("x")), (Some(2), Some(300), Some(200), None));
    assert_eq!((memory.memory_and_swap, memory.pressure), (None, None));
    assert_eq!(got.io.unwrap().devices[0].discards, 6);
    assert_eq!(got.pids, Some(PidsStats { current: 3, peak: None, limit: Some(10), failures: 8 }));
    let sizes: Vec<_> = got.hugetlb.iter().map(|h| (h.page_size.as_str(), h.usage.current, h.usage.limit, h.usage.failures)).collect();
    assert_eq!(sizes, [("1GB", 0, None, 0), ("2MB", 2_097_152, Some(4_194_304), 1)]);
}

#[test]
fn v1() {
    let dir = tempfile::tempdir().unwrap();
    let p = dir.path();
    write(p, "cpu", &[("cpu.stat", "nr_periods 5\nnr_throttled 4\nthrottled_time 3\n")]);
    write(
        p,
        "cpuacct",
        &[("cpuacct.usage", "100\n"), ("cpuacct.usage_user", "60\n"), ("cpuacct.usage_sys", "40\n"), ("cpuacct.usage_percpu", "70 30 \n")],
    );
    write(
        p,
        "memory",
        &[
            ("memory.usage_in_bytes", "10\n"),
            ("memory.max_usage_in_bytes", "20\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.failcnt", "2\n"),
            ("memory.memsw.usage_in_bytes", "11\n"),
            ("memory.memsw.limit_in_bytes", "4096\n"),
            ("memory.kmem.usage_in_bytes", "6\n"),
            ("memory.kmem.tcp.usage_in_bytes", "5\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 9\n"),
            ("memory.stat", "cache 8\ntotal_cache 9\n"),
        ],
    );
    write(
        p,
        "blkio",
        &[
            ("blkio.throttle.io_service_bytes_recursive", "8:0 Read 1\nTotal 1\n"),
            ("blkio.throttle.io_serviced_recursive", "8:0 Read 2\nTotal 2\n"),
            ("blkio.bfq.io_service_bytes_recursive", "Total 0\n"),
        ],
    );
    write(p, "pids", &[("pids.current", "1\n"), ("pids.max", "max\n")]);
    write(
        p,
        "hugetlb",
        &[
            ("hugetlb.2MB.usage_in_bytes", "2\n"),
            ("hugetlb.2MB.max_usage_in_bytes", "4\n"),
            ("hugetlb.2MB.limit_in_bytes", "6\n"),
            ("hugetlb.2MB.failcnt", "1\n"),
            ("hugetlb.2MB.rsvd.usage_in_bytes", "0\n"),
        ],
    );
    let got = stats(&host(p, false, &["cpu", "cpuacct", "memory", "blkio", "pids", "hugetlb"]));
    let cpu = got.cpu.unwrap();
    assert_eq!((cpu.usage, cpu.user, cpu.system, cpu.per_cpu), (100, 60, 40, vec![70, 30]));
    assert_eq!(cpu.throttling, Some(Throttling { periods: 5, throttled_periods: 4, throttled: 3, ..Throttling::default() }));
    let memory = got.memory.unwrap();
    assert_eq!(memory.memory, Usage { current: 10, peak: Some(20), limit: None, failures: 2 });
    assert_eq!(memory.memory_and_swap, Some(Usage { current: 11, peak: None, limit: Some(4096), failures: 0 }));
    assert_eq!((memory.kernel, memory.kernel_tcp, memory.oom_kills, memory.raw("total_cache")), (Some(6), Some(5), Some(9), Some(9)));
    let io = got.io.unwrap().devices;
    assert_eq!((io.len(), io[0].read_bytes, io[0].reads), (1, 1, 2));
    assert_eq!(got.pids, Some(PidsStats { current: 1, ..PidsStats::default() }));
    assert_eq!(
        got.hugetlb,
        [HugetlbStats { page_size: "2MB".into(), usage: Usage { current: 2, peak: Some(4), limit: Some(6), failures: 1 } }]
    );
}

#[test]
fn on_a_hybrid_host_pressure_is_the_v2_trees() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "memory", &[("memory.usage_in_bytes", "10\n")]);
    write(
        dir.path(),
        "unified",
        &[("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n"), ("cpu.stat", "usage_usec 1\n")],
    );
    let got = stats(&host(dir.path(), true, &["memory"]));
    assert_eq!(got.memory.unwrap().pressure.unwrap().some.total, 5);
    let cpu = got.cpu.unwrap();
    assert_eq!((cpu.usage, cpu.throttling, cpu.pressure), (1000, None, None));
    assert_eq!((got.io, got.pids), (None, None));
}

#[test]
fn a_cgroup_that_is_gone_has_used_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let all = ["cpu", "cpuacct", "memory", "blkio", "pids", "hugetlb"];
    for layout in [host(dir.path(), true, &[]), host(dir.path(), false, &all), host(dir.path(), true, &all), Layout::default()] {
        assert_eq!(stats(&layout), Stats::default());
    }
}
