//! Tables of limits and the properties they become.

use super::*;
use cgroup_fs::ControllerSet;
use proptest::prelude::*;

const V1: Split = Split {
    v1: ControllerSet::of(&[
        Controller::Cpu,
        Controller::Cpuset,
        Controller::Memory,
        Controller::Io,
        Controller::Pids,
        Controller::Devices,
    ]),
    v2: false,
};

fn made(json: &str, split: &Split) -> Result<Vec<(String, Variant<'static>)>> {
    let r: Resources<'_> = serde_json::from_str(json).unwrap();
    Ok(limits(&r, split, false, true)?.into_iter().map(|p| (p.name.into_owned(), p.value)).collect())
}

#[track_caller]
fn check(split: &Split, json: &str, wanted: &[(&str, Variant<'static>)]) {
    let got = made(json, split).unwrap();
    assert_eq!(got.len(), wanted.len(), "{json}: {got:?}");
    for ((name, value), (n, v)) in got.iter().zip(wanted) {
        assert_eq!((name.as_str(), value), (*n, v), "{json}");
    }
}

fn u(n: u64) -> Variant<'static> {
    Variant::U64(n)
}

#[test]
fn limits_on_v2() {
    let c = |json: &str, wanted: &[(&str, Variant<'static>)]| check(&Split::V2, json, wanted);
    c("{}", &[]);
    c(r#"{"memory":{"limit":1048576}}"#, &[("MemoryMax", u(1 << 20))]);
    c(r#"{"memory":{"limit":-1,"swap":-1}}"#, &[("MemoryMax", u(INFINITY)), ("MemorySwapMax", u(INFINITY))]);
    c(r#"{"memory":{"limit":100,"swap":150,"reservation":50}}"#, &[("MemoryMax", u(100)), ("MemoryLow", u(50)), ("MemorySwapMax", u(50))]);
    c(r#"{"memory":{"swap":0}}"#, &[("MemorySwapMax", u(0))]);
    c(r#"{"pids":{"limit":0}}"#, &[]);
    c(r#"{"pids":{"limit":-1}}"#, &[("TasksMax", u(INFINITY))]);
    c(r#"{"pids":{"limit":7}}"#, &[("TasksMax", u(7))]);
    c(r#"{"cpu":{"shares":1024}}"#, &[("CPUWeight", u(100))]);
    c(r#"{"cpu":{"shares":0}}"#, &[]);
    c(r#"{"cpu":{"idle":1}}"#, &[("CPUWeight", u(0))]);
    c(r#"{"cpu":{"idle":0,"shares":1024}}"#, &[("CPUWeight", u(100))]);
    c(r#"{"cpu":{"quota":20000,"period":50000}}"#, &[("CPUQuotaPerSecUSec", u(400_000)), ("CPUQuotaPeriodUSec", u(50_000))]);
    // Rounded up to 10 ms a second.
    c(r#"{"cpu":{"quota":33333,"period":100000}}"#, &[("CPUQuotaPerSecUSec", u(340_000)), ("CPUQuotaPeriodUSec", u(100_000))]);
    c(r#"{"cpu":{"quota":1000,"period":1000000}}"#, &[("CPUQuotaPerSecUSec", u(10_000)), ("CPUQuotaPeriodUSec", u(1_000_000))]);
    c(r#"{"cpu":{"quota":50000}}"#, &[("CPUQuotaPerSecUSec", u(500_000))]);
    c(r#"{"cpu":{"quota":-1}}"#, &[("CPUQuotaPerSecUSec", u(INFINITY))]);
    c(r#"{"cpu":{"period":50000}}"#, &[("CPUQuotaPeriodUSec", u(50_000))]);
    c(
        r#"{"cpu":{"cpus":"0-2,9","mems":"0"}}"#,
        &[("AllowedCPUs", Variant::from(vec![7_u8, 2])), ("AllowedMemoryNodes", Variant::from(vec![1_u8]))],
    );
    c(r#"{"cpu":{"cpus":"nonsense","mems":"9999999"}}"#, &[]);
    c(
        r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":10}]}}"#,
        &[("IOWeight", u(4500)), ("IODeviceWeight", Variant::from(vec![("/dev/block/8:0".to_owned(), 10_u64)]))],
    );
    c(r#"{"blockIO":{"weight":1000}}"#, &[("IOWeight", u(10_000))]);
}

#[test]
fn unified_keys_have_properties_and_win() {
    let c = |json: &str, wanted: &[(&str, Variant<'static>)]| check(&Split::V2, json, wanted);
    c(
        r#"{"unified":{"memory.min":"1","memory.high":"max","memory.zswap.max":"5","misc.max":"x 1"}}"#,
        &[("MemoryMin", u(1)), ("MemoryHigh", u(INFINITY)), ("MemoryZSwapMax", u(5))],
    );
    c(r#"{"memory":{"limit":9},"unified":{"memory.max":"8"}}"#, &[("MemoryMax", u(8))]);
    c(r#"{"unified":{"cpu.max":"max"}}"#, &[("CPUQuotaPerSecUSec", u(INFINITY))]);
    c(r#"{"unified":{"cpu.max":"5000 10000"}}"#, &[("CPUQuotaPerSecUSec", u(500_000)), ("CPUQuotaPeriodUSec", u(10_000))]);
    c(r#"{"unified":{"cpu.max":"5000 x","cpu.weight":"many","cpuset.cpus":"","cpu.idle":"0"}}"#, &[]);
    c(r#"{"unified":{"cpu.idle":"1","cpuset.mems":"1"}}"#, &[("CPUWeight", u(0)), ("AllowedMemoryNodes", Variant::from(vec![2_u8]))]);
}

#[test]
fn limits_on_v1() {
    let c = |json: &str, wanted: &[(&str, Variant<'static>)]| check(&V1, json, wanted);
    c(r#"{"memory":{"limit":100,"swap":150,"reservation":50}}"#, &[("MemoryLimit", u(100))]);
    c(r#"{"cpu":{"shares":512,"cpus":"0","idle":1}}"#, &[("CPUShares", u(512))]);
    c(r#"{"blockIO":{"weight":500},"unified":{"memory.max":"1"}}"#, &[]);
    c(r#"{"pids":{"limit":7}}"#, &[("TasksMax", u(7))]);
}

#[test]
fn contradictions_are_errors() {
    for (json, text) in [
        (r#"{"cpu":{"idle":1,"shares":5}}"#, "linux.resources.cpu: cannot set both cpu.idle and cpu.shares"),
        (r#"{"cpu":{"idle":1},"unified":{"cpu.weight":"5"}}"#, "linux.resources.cpu: cannot set both cpu.idle and cpu.weight"),
        (r#"{"devices":[{"allow":true,"type":"x"}]}"#, "linux.resources.devices[0].type: not `a`, `b` or `c`: `x`"),
    ] {
        assert_eq!(made(json, &Split::V2).unwrap_err().to_string(), text);
    }
}

#[test]
fn a_scope_has_a_slice_a_process_and_the_users_wishes() {
    let unit = Unit { slice: "a.slice".into(), scope: "b.scope".into() };
    let wish = |name: &'static str, value: Variant<'static>| Property { name: name.into(), value, origin: Origin::Annotation };
    let names = |list: Vec<Property>| list.into_iter().map(|p| p.name.into_owned()).collect::<Vec<_>>();
    let plain = scope(&unit, 7, &Split::V2, Vec::new());
    assert!(plain.iter().any(|p| p.name == "PIDs" && p.value == Variant::from(vec![7_u32])));
    assert!(plain.iter().any(|p| p.name == "Slice" && p.value == Variant::from("a.slice")));
    assert_eq!(
        names(plain),
        [
            "Slice",
            "DefaultDependencies",
            "CPUAccounting",
            "MemoryAccounting",
            "IOAccounting",
            "TasksAccounting",
            "Description",
            "PIDs",
            "Delegate"
        ]
    );
    let own = scope(&unit, 7, &V1, vec![wish("Description", Variant::from("mine")), wish("CPUAccounting", Variant::Bool(false))]);
    assert_eq!(own.iter().filter(|p| p.name == "Description" || p.name == "CPUAccounting").count(), 2);
    assert!(names(own).contains(&"BlockIOAccounting".to_owned()));
}

proptest! {
    #[test]
    fn no_number_is_too_odd(quota: i64, period: u64, limit: i64, swap: i64, weight: u16) {
        let json = format!(
            r#"{{"cpu":{{"quota":{quota},"period":{period}}},"memory":{{"limit":{limit},"swap":{swap}}},"blockIO":{{"weight":{weight}}}}}"#
        );
        made(&json, &Split::V2).unwrap();
    }

    #[test]
    fn masks_have_the_bits_of_the_list(bits in proptest::collection::btree_set(0..300_usize, 1..20)) {
        let list: Vec<String> = bits.iter().map(ToString::to_string).collect();
        let m = mask(&list.join(",")).unwrap();
        let back: Vec<usize> = (0..m.len() * 8).filter(|i| m[i / 8] & (1 << (i % 8)) != 0).collect();
        prop_assert_eq!(back, bits.into_iter().collect::<Vec<_>>());
    }
}
