//! What is written for each field, on v1 and v2 side by side.

use super::*;
use runtime_core::spec;

const V1: Split = Split {
    v1: ControllerSet::of(&[
        Controller::Cpu,
        Controller::Cpuset,
        Controller::Memory,
        Controller::Io,
        Controller::Pids,
        Controller::Hugetlb,
        Controller::Devices,
        Controller::NetCls,
        Controller::NetPrio,
        Controller::Rdma,
    ]),
    v2: false,
};
const V2: Split = Split::V2;
/// A hybrid host: memory on v1, the rest on v2.
const HYBRID: Split = Split { v1: ControllerSet::of(&[Controller::Memory]), v2: true };

/// `FILE=VALUE` for every write, or the error.
fn of(json: &str, split: &Split) -> Vec<String> {
    let resources: Resources<'_> = spec::parse(json.as_bytes()).unwrap();
    match writes(&resources, split) {
        Ok(all) => all.iter().map(|w| format!("{}={}", w.file, w.value)).collect(),
        Err(e) => vec![e.to_string()],
    }
}

#[test]
fn every_field_on_both_versions() {
    let table: &[(&str, &[&str], &[&str])] = &[
        (r#"{"memory":{"limit":1048576}}"#, &["memory.limit_in_bytes=1048576"], &["memory.max=1048576"]),
        (r#"{"memory":{"limit":-1}}"#, &["memory.limit_in_bytes=-1"], &["memory.max=max"]),
        (
            r#"{"memory":{"limit":100,"swap":300}}"#,
            &["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=300"],
            &["memory.max=100", "memory.swap.max=200"],
        ),
        (r#"{"memory":{"swap":-1}}"#, &["memory.memsw.limit_in_bytes=-1"], &["memory.swap.max=max"]),
        (r#"{"memory":{"swap":0}}"#, &[], &["memory.swap.max=0"]),
        (r#"{"memory":{"reservation":7}}"#, &["memory.soft_limit_in_bytes=7"], &["memory.low=7"]),
        (r#"{"cpu":{"shares":1024}}"#, &["cpu.shares=1024"], &["cpu.weight=100"]),
        (r#"{"cpu":{"shares":0}}"#, &[], &[]),
        (r#"{"cpu":{"quota":50000,"period":200000}}"#, &["cpu.cfs_period_us=200000", "cpu.cfs_quota_us=50000"], &["cpu.max=50000 200000"]),
        (r#"{"cpu":{"quota":-1}}"#, &["cpu.cfs_quota_us=-1"], &["cpu.max=max 100000"]),
        (r#"{"cpu":{"period":50000}}"#, &["cpu.cfs_period_us=50000"], &["cpu.max=max 50000"]),
        (r#"{"cpu":{"burst":9}}"#, &["cpu.cfs_burst_us=9"], &["cpu.max.burst=9"]),
        (r#"{"cpu":{"idle":1}}"#, &["cpu.idle=1"], &["cpu.idle=1"]),
        (r#"{"cpu":{"cpus":"0-1","mems":"0"}}"#, &["cpuset.cpus=0-1", "cpuset.mems=0"], &["cpuset.cpus=0-1", "cpuset.mems=0"]),
        (r#"{"cpu":{"cpus":""}}"#, &[], &[]),
        (r#"{"pids":{"limit":5}}"#, &["pids.max=5"], &["pids.max=5"]),
        (r#"{"pids":{"limit":-1}}"#, &["pids.max=max"], &["pids.max=max"]),
        (r#"{"pids":{"limit":0}}"#, &[], &[]),
        (r#"{"blockIO":{"weight":100}}"#, &["blkio.weight=100"], &["io.bfq.weight=100"]),
        (
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1000}]}}"#,
            &["blkio.throttle.read_bps_device=8:0 1000"],
            &["io.max=8:0 rbps=1000"],
        ),
        (
            r#"{"blockIO":{"throttleWriteIOPSDevice":[{"major":8,"minor":1,"rate":0}]}}"#,
            &["blkio.throttle.write_iops_device=8:1 0"],
            &["io.max=8:1 wiops=max"],
        ),
        (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":9}]}"#, &["hugetlb.2MB.limit_in_bytes=9"], &["hugetlb.2MB.max=9"]),
        (
            r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":1000}}}"#,
            &["rdma.max=mlx5_1 hca_handle=3 hca_object=1000"],
            &["rdma.max=mlx5_1 hca_handle=3 hca_object=1000"],
        ),
        (
            r#"{"network":{"classID":1048577,"priorities":[{"name":"eth0","priority":5}]}}"#,
            &["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 5"],
            &["linux.resources.network.classID: not supported on cgroupv2"],
        ),
        (
            r#"{"unified":{"memory.high":"max","io.max":"8:0 rbps=1\n8:1 rbps=2\n"}}"#,
            &["linux.resources.unified[memory.high]: invalid configuration: cannot use unified on cgroup v1"],
            &["memory.high=max", "io.max=8:0 rbps=1", "io.max=8:1 rbps=2"],
        ),
    ];
    for (json, v1, v2) in table {
        assert_eq!(of(json, &V1), *v1, "v1: {json}");
        assert_eq!(of(json, &V2), *v2, "v2: {json}");
    }
}

#[test]
fn contradictions_name_the_field() {
    let table = [
        (r#"{"memory":{"limit":10,"swap":5}}"#, "linux.resources.memory.swap: cannot set memory+swap limit less than the memory limit"),
        (r#"{"memory":{"swap":5}}"#, "linux.resources.memory.swap: cannot set swap limit without the memory limit"),
        (r#"{"memory":{"swappiness":5}}"#, "linux.resources.memory.swappiness: not supported on cgroupv2"),
        (r#"{"memory":{"kernelTCP":5}}"#, "linux.resources.memory.kernelTCP: not supported on cgroupv2"),
        (r#"{"cpu":{"realtimePeriod":5}}"#, "linux.resources.cpu.realtimePeriod: realtime period not supported on cgroupv2"),
        (r#"{"cpu":{"realtimeRuntime":5}}"#, "linux.resources.cpu.realtimeRuntime: realtime runtime not supported on cgroupv2"),
        (r#"{"blockIO":{"leafWeight":5}}"#, "linux.resources.blockIO.leafWeight: not supported on cgroupv2"),
        (
            r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#,
            "linux.resources.hugepageLimits[0].pageSize: not a size such as 2MB: `../x`",
        ),
        (r#"{"unified":{"../escape":"1"}}"#, "linux.resources.unified[../escape]: not the name of a cgroup file"),
        (r#"{"unified":{"..":"1"}}"#, "linux.resources.unified[..]: not the name of a cgroup file"),
        (r#"{"unified":{"":"1"}}"#, "linux.resources.unified[]: not the name of a cgroup file"),
    ];
    for (json, text) in table {
        assert_eq!(of(json, &V2), [text], "{json}");
    }
}

#[test]
fn a_hybrid_host_writes_each_where_it_is() {
    let json = r#"{"memory":{"limit":5},"pids":{"limit":6},"cpu":{"shares":1024}}"#;
    assert_eq!(of(json, &HYBRID), ["memory.limit_in_bytes=5", "pids.max=6", "cpu.weight=100"]);
    let json = r#"{"unified":{"memory.high":"1"}}"#;
    assert_eq!(of(json, &HYBRID), ["linux.resources.unified[memory.high]: invalid configuration: cannot use unified on cgroup v1"]);
    assert_eq!(of(r#"{"unified":{"pids.max":"1"}}"#, &HYBRID), ["pids.max=1"]);
}

#[test]
fn device_rules_of_v1_end_in_the_defaults() {
    let all = of(r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]}"#, &V1);
    assert_eq!(all[..2], ["devices.deny=a", "devices.allow=c 10:229 rw"]);
    assert!(all[2..].iter().all(|w| w.starts_with("devices.allow=")) && all.contains(&"devices.allow=c 1:3 rwm".to_owned()), "{all:?}");
    assert_eq!(of(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#, &V1), [""; 0], "everything is allowed as it is");
    assert_eq!(of(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#, &V2), [""; 0], "v2 takes a program");
}

#[test]
fn limits_are_told_from_device_rules() {
    let asked_of = |json: &str| asked(&spec::parse::<Resources<'_>>(json.as_bytes()).unwrap());
    assert_eq!(asked_of(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#), None);
    assert_eq!(asked_of(r#"{"pids":{"limit":0}}"#), None);
    for (json, field) in [
        (r#"{"pids":{"limit":1}}"#, "pids"),
        (r#"{"memory":{"swappiness":1}}"#, "memory"),
        (r#"{"cpu":{"mems":"0"}}"#, "cpu"),
        (r#"{"blockIO":{"weight":10}}"#, "blockIO"),
        (r#"{"unified":{"a.b":"1"}}"#, "unified"),
    ] {
        assert_eq!(asked_of(json), Some(field));
    }
}

#[test]
fn usage_is_compared_only_when_asked() {
    let checks_of = |json: &str, split: &Split| checks(&spec::parse::<Resources<'_>>(json.as_bytes()).unwrap(), split);
    assert_eq!(checks_of(r#"{"memory":{"limit":5}}"#, &V2), []);
    let json = r#"{"memory":{"limit":5,"swap":9,"checkBeforeUpdate":true}}"#;
    let pairs = |split| checks_of(json, split).iter().map(|c| (c.usage, c.limit)).collect::<Vec<_>>();
    assert_eq!(pairs(&V1), [("memory.usage_in_bytes", 5), ("memory.memsw.usage_in_bytes", 9)]);
    assert_eq!(pairs(&V2), [("memory.current", 5), ("memory.swap.current", 4)]);
}
