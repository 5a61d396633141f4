//! `linux.intelRdt`, against a stand-in for the resctrl file system that only some processors have (`harness::resctrl`). crun asks for the
//! real file system's number, so it cannot be the oracle here. Not here: the names and lines that are refused (unit tests of the plan).

use harness::resctrl::Resctrl;
use harness::{Container, Need, Test, Value, json, pinnace_only};

/// The test with its file system, or a skip where none can be served.
fn begin(t: Test) -> Option<(Test, Resctrl)> {
    if !std::path::Path::new("/dev/fuse").exists() {
        t.skip("needs /dev/fuse (covered by the run on a host that has it)");
        return None;
    }
    let groups = Resctrl::mount().expect("serve a resctrl file system");
    Some((t.within(groups.namespace()), groups))
}

fn rdt<'t>(t: &'t Test, wanted: Value) -> Container<'t> {
    let c = t.container();
    c.edit(|s| s["linux"]["intelRdt"] = wanted);
    c
}

/// Content of `schemata` without the kernel's padding.
fn schemata(groups: &Resctrl, group: &str) -> String {
    groups.read(&format!("{group}/schemata")).expect("the group is there").replace(' ', "")
}

fn tasks(groups: &Resctrl, group: &str) -> Vec<i32> {
    groups.read(&format!("{group}/tasks")).expect("the group is there").lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_class_of_its_own_comes_and_goes_with_the_container() {
    let Some((t, groups)) = begin(pinnace_only!(Need::Root)) else { return };
    let c = rdt(&t, json!({ "l3CacheSchema": "L3:0=f\nMB:0=10", "memBwSchema": "MB:0=50;1=20", "schemata": ["L3:1=f0"] }));
    c.sleeping();
    assert_eq!(groups.groups(), std::slice::from_ref(&c.id));
    assert_eq!(schemata(&groups, &c.id), "L3:0=f;1=f0\nMB:0=50;1=20\n");
    assert_eq!(tasks(&groups, &c.id), [c.pid()]);
    c.call("delete").arg("--force").arg(&c.id).ok();
    assert!(groups.groups().is_empty());
}

#[test]
fn a_foreground_run_takes_it_away() {
    let Some((t, groups)) = begin(pinnace_only!(Need::Root)) else { return };
    let c = rdt(&t, json!({ "enableMonitoring": true }));
    c.args(&["/probe", "exit", "3"]).run().code(3);
    assert!(groups.groups().is_empty());
}

#[test]
fn a_named_class_stays() {
    let Some((t, groups)) = begin(pinnace_only!(Need::Root)) else { return };
    let c = rdt(&t, json!({ "closID": "gold", "memBwSchema": "MB:1=30" }));
    c.sleeping();
    assert_eq!(schemata(&groups, "gold"), "L3:0=fff;1=fff\nMB:0=100;1=30\n");
    assert_eq!(tasks(&groups, "gold"), [c.pid()]);
    // Another container with the same wishes shares it.
    let d = rdt(&t, json!({ "closID": "gold", "memBwSchema": "MB:1=030" }));
    d.sleeping();
    assert_eq!(tasks(&groups, "gold"), [c.pid(), d.pid()]);
    for each in [&c, &d] {
        each.call("delete").arg("--force").arg(&each.id).ok();
    }
    assert_eq!(groups.groups(), ["gold"]);
    let other = rdt(&t, json!({ "closID": "gold", "memBwSchema": "MB:1=31" }));
    other.refused(&["linux.intelRdt: the resctrl group `gold` has a different configuration: ", "MB:0= 100;1= 30"]);
    assert_eq!(schemata(&groups, "gold"), "L3:0=fff;1=fff\nMB:0=100;1=30\n");
}

#[test]
fn a_named_class_without_schemata_must_exist() {
    let Some((t, groups)) = begin(pinnace_only!(Need::Root)) else { return };
    let c = rdt(&t, json!({ "closID": "silver" }));
    c.refused(&["linux.intelRdt.closID: the resctrl group `silver` does not exist"]);
    assert!(groups.groups().is_empty());
    groups.make("silver");
    c.sleeping();
    assert_eq!(tasks(&groups, "silver"), [c.pid()]);
}

#[test]
fn the_default_class_is_called_by_a_slash() {
    let Some((t, groups)) = begin(pinnace_only!(Need::Root)) else { return };
    let c = rdt(&t, json!({ "closID": "/", "enableMonitoring": true }));
    c.sleeping();
    let monitoring = format!("mon_groups/{}", c.id);
    assert_eq!(groups.groups(), std::slice::from_ref(&monitoring));
    assert_eq!(tasks(&groups, ""), [c.pid()]);
    assert_eq!(tasks(&groups, &monitoring), [c.pid()]);
    c.call("delete").arg("--force").arg(&c.id).ok();
    assert!(groups.groups().is_empty());
    rdt(&t, json!({ "closID": "/", "memBwSchema": "MB:0=5" })).refused(&["the resctrl group `/` has a different configuration"]);
}

#[test]
fn a_monitoring_group_stands_in_its_class() {
    let Some((t, groups)) = begin(pinnace_only!(Need::Root)) else { return };
    groups.make("gold");
    let c = rdt(&t, json!({ "closID": "gold", "enableMonitoring": true }));
    c.create();
    assert_eq!(groups.groups(), ["gold".to_owned(), format!("gold/mon_groups/{}", c.id)]);
    assert_eq!(tasks(&groups, &format!("gold/mon_groups/{}", c.id)), [c.pid()]);
    c.call("delete").arg("--force").arg(&c.id).ok();
    assert_eq!(groups.groups(), ["gold"]);
}

#[test]
fn exec_goes_there_too() {
    let Some((t, groups)) = begin(pinnace_only!(Need::Root)) else { return };
    let c = rdt(&t, json!({ "enableMonitoring": true }));
    c.sleeping();
    c.exec(&["--detach"], &["/probe", "sleep"]).code(0);
    for group in [c.id.clone(), format!("{}/mon_groups/{}", c.id, c.id)] {
        let there = tasks(&groups, &group);
        assert!(there.len() == 2 && there[0] == c.pid(), "{group}: {there:?}");
    }
}

#[test]
fn update_changes_its_schemata() {
    let Some((t, groups)) = begin(pinnace_only!(Need::Root)) else { return };
    let c = rdt(&t, json!({}));
    c.sleeping();
    c.call("update").args(&["--l3-cache-schema", "L3:0=3", "--mem-bw-schema=MB:0=70", &c.id]).ok();
    assert_eq!(schemata(&groups, &c.id), "L3:0=3;1=fff\nMB:0=70;1=100\n");
    c.call("update").args(&["--mem-bw-schema", "MB:1=40", &c.id]).ok();
    assert_eq!(schemata(&groups, &c.id), "L3:0=3;1=fff\nMB:0=70;1=40\n");
    c.call("update").args(&["--l3-cache-schema", "L3:0=5", &c.id]).output().fails_with(&["The mask 5 has non-consecutive 1-bits"]);
    let without = t.container();
    without.sleeping();
    without.call("update").args(&["--l3-cache-schema", "L3:0=3", &without.id]).output().fails_with(&["has no linux.intelRdt"]);
}

#[test]
fn failures_say_why_and_leave_no_group() {
    let Some((t, groups)) = begin(pinnace_only!(Need::Root)) else { return };
    let path = |name: &str| format!("`/sys/fs/resctrl/{name}");
    let c = rdt(&t, json!({ "l3CacheSchema": "L3:0=5" }));
    c.refused(&["linux.intelRdt: write `L3:0=5` to ", &path(&c.id), "The mask 5 has non-consecutive 1-bits", "Invalid argument"]);
    let c = rdt(&t, json!({ "schemata": ["L9:0=1"] }));
    c.refused(&["Unknown or unsupported resource name 'L9'"]);
    // What fails after it.
    let c = rdt(&t, json!({ "enableMonitoring": true }));
    c.args(&["/nothing"]).refused(&["/nothing"]);
    assert!(groups.groups().is_empty());
    ["a", "b", "c"].iter().for_each(|name| groups.make(name));
    let c = rdt(&t, json!({}));
    c.refused(&["linux.intelRdt: make the group ", &path(&c.id), "Out of CLOSIDs", "No space left on device"]);
    assert_eq!(groups.groups(), ["a", "b", "c"]);
}

#[test]
fn without_the_file_system_it_is_refused() {
    let t = pinnace_only!(Need::Root);
    if std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
        return t.skip("needs a machine without a resctrl file system (covered by cargo xtask vm test)");
    }
    rdt(&t, json!({})).refused(&["linux.intelRdt: no resctrl file system is mounted at `/sys/fs/resctrl`"]);
}
