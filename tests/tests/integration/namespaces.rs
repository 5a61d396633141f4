//! Namespaces: new ones, shared ones, those joined by path, host and domain names, and clock offsets.

use std::fs;
use std::os::unix::fs::MetadataExt;

use harness::{Need, Report, Value, behaviour, json};

/// Type in config.json and name in /proc/PID/ns.
const TYPES: [(&str, &str); 8] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mount", "mnt"),
    ("network", "net"),
    ("pid", "pid"),
    ("time", "time"),
    ("user", "user"),
    ("uts", "uts"),
];

/// The inode of one of this process's namespaces.
fn own(name: &str) -> u64 {
    fs::metadata(format!("/proc/self/ns/{name}")).unwrap().ino()
}

fn new_ones(r: &Report) -> Vec<&'static str> {
    TYPES.iter().filter(|(_, name)| r.namespace(name) != own(name)).map(|(kind, _)| *kind).collect()
}

#[test]
fn exactly_the_configured_ones_are_new() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    let listed: Vec<String> =
        c.config()["linux"]["namespaces"].as_array().unwrap().iter().map(|n| n["type"].as_str().unwrap().to_owned()).collect();
    let r = c.report();
    let new = new_ones(&r);
    let mut wanted: Vec<&str> = listed.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    assert_eq!(new, wanted);
}

#[test]
fn all_but_user_can_be_new() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    c.new_namespace("cgroup").new_namespace("time");
    let r = c.report();
    assert_eq!(new_ones(&r), ["cgroup", "ipc", "mount", "network", "pid", "time", "uts"]);
    // The container's cgroup is the root of what it sees.
    for line in r["cgroup"].as_str().unwrap().lines().filter(|l| l.starts_with("0::")) {
        assert_eq!(line, "0::/");
    }
}

#[test]
fn without_namespaces_it_runs_in_the_hosts() {
    let t = behaviour!(Need::Root);
    for kind in ["network", "ipc", "uts", "pid"] {
        let c = t.container();
        c.namespace(kind, None).edit(|s| {
            if kind == "uts" {
                s.as_object_mut().unwrap().remove("hostname");
            }
            // sysfs can't be mounted in a network namespace that the mounter doesn't own; root does.
        });
        let r = c.report();
        let name = TYPES.iter().find(|(k, _)| *k == kind).unwrap().1;
        assert_eq!(r.namespace(name), own(name), "{kind}");
        if kind == "pid" {
            assert_ne!(r["pid"], 1);
        }
    }
}

#[test]
fn joins_namespaces_by_path() {
    let t = behaviour!(Need::Root);
    let first = t.container();
    first.new_namespace("cgroup").args(&["/probe", "report", ",", "sleep"]);
    let out = first.launch("run", &["--detach"]).ok();
    out.until("READY");
    let (pid, theirs) = (first.pid(), out.report());
    let second = t.container();
    for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup")] {
        second.namespace(kind, Some(&format!("/proc/{pid}/ns/{name}")));
    }
    second.edit(|s| drop(s.as_object_mut().unwrap().remove("hostname")));
    let r = second.report();
    for name in ["net", "ipc", "uts", "cgroup"] {
        assert_eq!(r.namespace(name), theirs.namespace(name), "{name}");
    }
    assert_ne!(r.namespace("mnt"), theirs.namespace("mnt"));
    assert_ne!(r.namespace("pid"), theirs.namespace("pid"));
}

#[test]
fn joins_a_pid_namespace_by_path() {
    let t = behaviour!(Need::Root);
    let first = t.container();
    first.sleeping();
    let second = t.container();
    second.namespace("pid", Some(&format!("/proc/{}/ns/pid", first.pid())));
    let r = second.report();
    let inode = fs::metadata(format!("/proc/{}/ns/pid", first.pid())).unwrap().ino();
    assert_eq!(r.namespace("pid"), inode);
    assert_ne!(r["pid"], 1);
    second.args(&["/probe", "exit", "31"]).run().code(31);
    assert_eq!(first.status(), "running");
}

/// What a message between two processes would have to have room for (CVE-2021-43784).
#[test]
fn paths_of_any_length_are_taken_whole() {
    let t = behaviour!(Need::Root);
    let first = t.container();
    first.sleeping();
    let kinds = [("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
    let joined = |slashes: usize, name: &str| format!("/proc{}{}/ns/{name}", "/".repeat(slashes), first.pid());
    let c = t.container();
    for (kind, name) in kinds {
        c.namespace(kind, Some(&joined(4000, name)));
    }
    c.edit(|s| drop(s.as_object_mut().unwrap().remove("hostname")));
    let r = c.report();
    for (_, name) in kinds {
        assert_eq!(r.namespace(name), fs::metadata(joined(1, name)).unwrap().ino(), "{name}");
    }
    for slashes in [4096, 65_536, 70_000] {
        c.namespace("ipc", Some(&joined(slashes, "ipc")));
        c.run().failed();
        c.forget_cgroup_of_crun();
        c.leaves_nothing();
    }
    assert_eq!(first.status(), "running");
}

#[test]
fn missing_path_is_named() {
    let t = behaviour!();
    let c = t.container();
    c.namespace("network", Some("/no/such/ns"));
    c.refused(&["/no/such/ns", "No such file or directory"]);
}

#[test]
fn path_of_another_type_is_refused() {
    let t = behaviour!();
    let c = t.container();
    c.namespace("network", Some("/proc/self/ns/uts"));
    c.refused(&["Invalid argument"]);
}

#[test]
fn duplicates_are_refused() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "uts" })));
    c.refused(&[]);
}

#[test]
fn unknown_type_is_named() {
    let t = behaviour!();
    let c = t.container();
    c.new_namespace("nonsense");
    c.refused(&["invalid namespace type: `nonsense`"]);
}

#[test]
fn host_and_domain_name() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| {
        s["hostname"] = json!("box-1.example.org");
        s["domainname"] = json!("nis.example.org");
    });
    let r = c.report();
    assert_eq!((&r["hostname"], &r["domainname"]), (&json!("box-1.example.org"), &json!("nis.example.org")));
}

#[test]
fn hostname_needs_a_uts_namespace() {
    let t = behaviour!();
    let c = t.container();
    c.namespace("uts", None);
    let before = fs::read("/proc/sys/kernel/hostname").unwrap();
    c.refused(&["hostname requires the UTS namespace"]);
    assert_eq!(fs::read("/proc/sys/kernel/hostname").unwrap(), before);
}

#[test]
fn network_namespace_has_the_loopback_up() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "read-file", "/proc/net/dev", ",", "read-file", "/sys/class/net/lo/flags"]);
    let lines = c.run().code(0).json_lines();
    let text = lines[0]["text"].as_str().unwrap();
    assert_eq!(text.lines().skip(2).count(), 1, "{text}");
    let flags = lines[1]["text"].as_str().unwrap().trim().trim_start_matches("0x").to_owned();
    assert_eq!(u32::from_str_radix(&flags, 16).unwrap() & 1, 1, "IFF_UP in {flags}");
}

#[test]
fn clocks_can_be_shifted() {
    let t = behaviour!();
    let c = t.container();
    c.new_namespace("time");
    c.edit(|s| {
        s["linux"]["timeOffsets"] =
            json!({ "monotonic": { "secs": 86400, "nanosecs": 0 }, "boottime": { "secs": 172_800, "nanosecs": 0 } });
    });
    let r = c.report();
    let field = |name: &str| -> Vec<i64> {
        let text = r["timens_offsets"].as_str().unwrap();
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(|w| w.parse().unwrap()).collect()
    };
    assert_eq!((field("monotonic"), field("boottime")), (vec![86400, 0], vec![172_800, 0]));
    let shift = r["boottime"].as_i64().unwrap() - r["monotonic"].as_i64().unwrap();
    assert!((80_000..100_000).contains(&shift), "{shift}");
}

#[test]
fn a_pid_namespace_alone_shows_only_its_own_processes() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "stat", "/proc/1", "/proc/2"]);
    let lines = c.run().code(0).json_lines();
    assert_eq!((&lines[0]["kind"], &lines[1]["kind"]), (&json!("dir"), &json!("absent")));
}

#[test]
fn without_a_mount_namespace_the_host_keeps_its_mounts() {
    let t = behaviour!(Need::Root, Need::CrunDiffers("no-mount-namespace"));
    let c = t.container();
    c.namespace("mount", None).edit(|s| {
        s["mounts"] = json!([]);
        s["root"]["readonly"] = json!(false);
        let linux = s["linux"].as_object_mut().unwrap();
        linux.remove("maskedPaths");
        linux.remove("readonlyPaths");
    });
    c.args(&["/probe", "stat", "/probe", ",", "exit", "4"]);
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let out = c.run();
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    let first: Option<Value> = out.stdout().lines().next().and_then(|l| serde_json::from_str(l).ok());
    assert_eq!(first.map(|v| v["kind"].clone()), Some(json!("file")), "{out}");
    out.code(4);
}
