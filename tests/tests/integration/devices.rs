//! Device nodes: the default ones, those of `linux.devices`, and the device cgroup's verdicts.

use harness::{Need, behaviour, json};

#[test]
fn default_nodes_and_links() {
    let t = behaviour!(Need::Root);
    let r = t.container().report();
    for (name, major, minor) in [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)] {
        let node = &r["dev"][&format!("/dev/{name}")];
        assert_eq!((&node["kind"], &node["major"], &node["minor"]), (&json!("char"), &json!(major), &json!(minor)), "{name}");
        assert_eq!((&node["mode"], &node["uid"], &node["gid"]), (&json!(0o666), &json!(0), &json!(0)), "{name}");
    }
    let links = [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")];
    for (name, target) in links.into_iter().chain([("core", "/proc/kcore")]) {
        assert_eq!(r["dev"][&format!("/dev/{name}")]["link"], target, "{name}");
    }
    let ptmx = r["dev"]["/dev/ptmx"]["link"].as_str().unwrap();
    assert!(["pts/ptmx", "/dev/pts/ptmx"].contains(&ptmx), "{ptmx}");
}

#[test]
fn default_nodes_work() {
    let t = behaviour!();
    let c = t.container();
    c.args(&[
        "/probe",
        "try-open",
        "/dev/null",
        "rw",
        ",",
        "try-open",
        "/dev/zero",
        ",",
        "try-open",
        "/dev/urandom",
        ",",
        "try-open",
        "/dev/ptmx",
        "rw",
    ]);
    for line in c.run().code(0).json_lines() {
        assert_eq!(line["errno"], json!(null));
    }
}

#[test]
fn nothing_else_is_in_dev() {
    let t = behaviour!();
    let r = t.container().report();
    let mut names: Vec<_> = r["dev"].as_object().unwrap().keys().map(|k| k.trim_start_matches("/dev/")).collect();
    names.retain(|n| !n.starts_with("pts/") && !n.starts_with("mqueue/") && !n.starts_with("shm/"));
    names.sort_unstable();
    let wanted =
        ["core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"];
    assert_eq!(names, wanted);
}

#[test]
fn configured_nodes_are_made() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    c.edit(|s| {
        s["linux"]["devices"] = json!([
            { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 7, "gid": 8 },
            { "path": "/dev/sub/disk", "type": "b", "major": 7, "minor": 9, "fileMode": 0o600 },
            { "path": "/dev/pipe", "type": "p", "fileMode": 0o622 },
        ]);
    });
    let r = c.report();
    let (fuse, disk, pipe) = (&r["dev"]["/dev/fuse"], &r["dev"]["/dev/sub/disk"], &r["dev"]["/dev/pipe"]);
    assert_eq!((&fuse["kind"], &fuse["major"], &fuse["minor"]), (&json!("char"), &json!(10), &json!(229)));
    assert_eq!((&fuse["mode"], &fuse["uid"], &fuse["gid"]), (&json!(0o640), &json!(7), &json!(8)));
    assert_eq!((&disk["kind"], &disk["major"], &disk["minor"]), (&json!("block"), &json!(7), &json!(9)));
    assert_eq!((&pipe["kind"], &pipe["mode"]), (&json!("fifo"), &json!(0o622)));
}

#[test]
fn a_configured_default_node_keeps_its_own_mode() {
    let t = behaviour!(Need::Root, Need::CrunDiffersBefore(28, "default-node-owner"));
    let c = t.container();
    c.edit(|s| {
        s["linux"]["devices"] =
            json!([{ "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 3, "gid": 4 }]);
    });
    let r = c.report();
    let null = &r["dev"]["/dev/null"];
    assert_eq!((&null["major"], &null["minor"], &null["mode"], &null["uid"]), (&json!(1), &json!(3), &json!(0o600), &json!(3)));
}

/// Makes and opens a node that no default rule allows (c 1 11, the kernel's log) and one that the rules name (fuse).
fn verdicts(t: &harness::Test, rules: serde_json::Value) -> Vec<serde_json::Value> {
    let c = t.container();
    c.edit(|s| {
        s["process"]["capabilities"]["bounding"] = json!(["CAP_MKNOD", "CAP_SYSLOG"]);
        s["process"]["capabilities"]["permitted"] = json!(["CAP_MKNOD", "CAP_SYSLOG"]);
        s["process"]["capabilities"]["effective"] = json!(["CAP_MKNOD", "CAP_SYSLOG"]);
        s["linux"]["resources"]["devices"] = rules;
    });
    c.args(&["/probe", "mknod", "/dev/a", "1", "11", ",", "mknod", "/dev/b", "10", "229", ",", "mknod", "/dev/c", "1", "5"]);
    c.run().code(0).json_lines()
}

#[test]
fn device_rules_decide_what_can_be_opened() {
    let t = behaviour!(Need::Root);
    let lines = verdicts(
        &t,
        json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" }]),
    );
    for line in &lines {
        assert_eq!(line["mknod"], json!(null), "making nodes is always allowed: {line}");
    }
    assert_eq!(lines[0]["open"], "EPERM", "{lines:?}");
    assert_ne!(lines[1]["open"], "EPERM", "{lines:?}");
    assert_eq!(lines[2]["open"], json!(null), "zero is allowed by default: {lines:?}");
}

#[test]
fn a_rule_may_deny_what_another_allowed() {
    let t = behaviour!(Need::Root);
    let lines = verdicts(
        &t,
        json!([
            { "allow": true, "access": "rwm" },
            { "allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm" },
        ]),
    );
    // The v1 controller forbids making the node already.
    assert!([&lines[1]["mknod"], &lines[1]["open"]].contains(&&json!("EPERM")), "{lines:?}");
    assert_eq!(lines[2]["open"], json!(null), "{lines:?}");
}
