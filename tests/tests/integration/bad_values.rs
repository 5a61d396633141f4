//! A wrong value for every field of the configuration: of the wrong type, for each field that the specification's schema has, and out of
//! range, unknown, contradictory or malformed, by table. Also configurations whose size is the attack. Each is refused in one line with the
//! field's path, and nothing is left behind. Not here: bundles, commands and state files that are bad (`bad_input`).

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

use harness::{Container, Need, Value, behaviour, json};

use super::schema;

/// One part of a field's path.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Key(String),
    Index(usize),
}

/// `linux.devices[0].type` as parts.
fn parts(path: &str) -> Vec<Part> {
    path.split('.')
        .flat_map(|word| {
            let (key, index) = word.strip_suffix(']').and_then(|w| w.split_once('[')).map_or((word, None), |(k, i)| (k, Some(i)));
            [Some(Part::Key(key.to_owned())), index.map(|i| Part::Index(i.parse().unwrap()))].into_iter().flatten()
        })
        .collect()
}

/// Sets a field, and makes what is above it.
fn put(config: &mut Value, path: &[Part], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        *config = value;
        return;
    };
    match first {
        Part::Key(key) => {
            if !config.is_object() {
                *config = json!({});
            }
            put(&mut config[key.as_str()], rest, value);
        }
        Part::Index(index) => {
            if !config.is_array() {
                *config = json!([]);
            }
            let list = config.as_array_mut().unwrap();
            while list.len() <= *index {
                list.push(json!({}));
            }
            put(&mut list[*index], rest, value);
        }
    }
}

/// Runs the configuration with one field changed. It must be refused: exit 1, one line, which has `text`.
#[track_caller]
fn refused(c: &Container<'_>, base: &Value, field: &str, value: Value, text: &str) {
    let mut config = base.clone();
    put(&mut config, &parts(field), value.clone());
    c.edit(|s| *s = config);
    let out = c.run();
    let said = out.stderr().replace("linux.seccomp: ", "linux.seccomp.");
    assert_eq!(out.status(), 1, "{field} = {value}: {out}");
    assert!(said.contains(text), "{field} = {value}: no `{text}` in {out}");
    assert_eq!(said.trim_end().lines().count(), 1, "{field} = {value}: {out}");
    assert!(!said.contains('\0'), "{field} = {value}: {out}");
    assert!(!c.state_dir().exists(), "{field} = {value} leaves a state directory");
}

/// Fields of other platforms, which are passed over.
const FOREIGN: [&str; 1] = ["process.commandLine"];

#[test]
fn each_field_of_the_schema_refuses_a_wrong_type() {
    let t = behaviour!(Need::CrunDiffers("errors-name-the-field"));
    let c = t.container();
    let base = c.config();
    let sections = ["ociVersion", "hooks", "annotations", "hostname", "domainname", "mounts", "root", "process"];
    let mut fields = schema::fields("config-schema.json", "/properties", &sections);
    fields.extend(schema::fields("config-linux.json", "", &["linux"]));
    assert!(fields.len() > 200, "the schemas have {} fields", fields.len());
    for (field, kind) in fields.iter().filter(|(field, _)| !FOREIGN.contains(&field.as_str())) {
        let wrong = match kind.as_str() {
            "string" => json!(5),
            "boolean" => json!("yes"),
            "integer" | "array" | "object" => json!("x"),
            other => panic!("{field}: the schema has a type `{other}` that this test does not know"),
        };
        refused(&c, &base, field, wrong, field);
    }
    c.leaves_nothing();
}

/// Field, a value of the right type that is wrong, what the message has.
fn table() -> Vec<(&'static str, Value, &'static str)> {
    let nul = "/a\0b";
    let big = 1_u64 << 40;
    let rule = |rule: Value| json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    let mut rows = vec![
        ("root.path", json!(""), "root.path"),
        ("root.path", json!(nul), "root.path"),
        ("hostname", json!("x".repeat(65)), "hostname"),
        ("hostname", json!(nul), "hostname"),
        ("domainname", json!("x".repeat(65)), "domainname"),
        ("process.args", json!([]), "process.args"),
        ("process.args[0]", json!(nul), "process.args[0]"),
        ("process.env[0]", json!("NOVALUE"), "process.env[0]"),
        ("process.env[0]", json!("A=\0"), "process.env[0]"),
        ("process.cwd", json!("relative"), "process.cwd"),
        ("process.cwd", json!(nul), "process.cwd"),
        ("process.user.uid", json!(-1), "process.user.uid"),
        ("process.user.uid", json!(u32::MAX), "process.user.uid"),
        ("process.user.gid", json!(big), "process.user.gid"),
        ("process.user.umask", json!(0o1000), "process.user.umask"),
        ("process.user.additionalGids[0]", json!(u32::MAX), "process.user.additionalGids[0]"),
        ("process.consoleSize.height", json!(-1), "process.consoleSize.height"),
        ("process.rlimits[0]", json!({ "type": "RLIMIT_X", "soft": 1, "hard": 1 }), "process.rlimits[0].type"),
        ("process.rlimits[0]", json!({ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }), "process.rlimits[0]"),
        ("process.rlimits[0].soft", json!(-1), "process.rlimits[0].soft"),
        ("process.apparmorProfile", json!(nul), "process.apparmorProfile"),
        ("process.selinuxLabel", json!(nul), "process.selinuxLabel"),
        ("process.oomScoreAdj", json!(1001), "process.oomScoreAdj"),
        ("process.ioPriority", json!({ "class": "X", "priority": 1 }), "process.ioPriority.class"),
        ("process.ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 }), "process.ioPriority.priority"),
        ("process.scheduler", json!({ "policy": "X" }), "process.scheduler.policy"),
        ("process.scheduler", json!({ "policy": "SCHED_OTHER", "nice": 20 }), "process.scheduler.nice"),
        ("process.scheduler", json!({ "policy": "SCHED_FIFO", "priority": -1 }), "process.scheduler.priority"),
        ("process.scheduler", json!({ "policy": "SCHED_OTHER", "flags": ["X"] }), "process.scheduler.flags"),
        ("process.execCPUAffinity.initial", json!("x"), "process.execCPUAffinity.initial"),
        ("process.execCPUAffinity.final", json!("9-1"), "process.execCPUAffinity.final"),
        ("mounts[0].destination", json!(""), "mounts[0].destination"),
        ("mounts[0].destination", json!(nul), "mounts[0].destination"),
        ("mounts[0].options[0]", json!(nul), "mounts[0]"),
        ("mounts[0].type", json!(nul), "mounts[0]"),
        ("linux.namespaces[0].type", json!("x"), "linux.namespaces[0].type"),
        ("linux.namespaces", json!([{ "type": "mount" }, { "type": "mount" }]), "linux.namespaces[1].type"),
        ("linux.namespaces[0]", json!({ "type": "pid", "path": "relative" }), "linux.namespaces[0].path"),
        ("linux.devices[0]", json!({ "type": "q", "path": "/dev/x" }), "linux.devices[0].type"),
        ("linux.devices[0]", json!({ "type": "c", "path": "/dev/x" }), "linux.devices[0].major"),
        ("linux.devices[0]", json!({ "type": "c", "path": "/dev/x", "major": 1, "minor": big }), "linux.devices[0].minor"),
        ("linux.devices[0]", json!({ "type": "p", "path": "/dev/\0" }), "linux.devices[0].path"),
        ("linux.devices[0]", json!({ "type": "p", "path": "/" }), "linux.devices[0].path"),
        (
            "linux.devices[0]",
            json!({ "type": "c", "path": "/dev/x", "major": 1, "minor": 3, "fileMode": 8191 }),
            "linux.devices[0].fileMode",
        ),
        ("linux.sysctl", json!({ "kernel.panic": "1" }), "linux.sysctl"),
        ("linux.sysctl", json!({ "net/../kernel": "1" }), "linux.sysctl"),
        ("linux.sysctl", json!({ "net.x": "\0" }), "linux.sysctl.net.x"),
        ("linux.cgroupsPath", json!("/../x"), "linux.cgroupsPath"),
        ("linux.cgroupsPath", json!(nul), "linux.cgroupsPath"),
        ("linux.rootfsPropagation", json!("x"), "linux.rootfsPropagation"),
        ("linux.maskedPaths[0]", json!(nul), "linux.maskedPaths[0]"),
        ("linux.readonlyPaths[0]", json!(nul), "linux.readonlyPaths[0]"),
        ("linux.memoryPolicy", json!({ "mode": "X" }), "linux.memoryPolicy.mode"),
        ("linux.memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "x" }), "linux.memoryPolicy.nodes"),
        ("linux.memoryPolicy", json!({ "mode": "MPOL_BIND", "flags": ["X"] }), "linux.memoryPolicy.flags"),
        ("linux.personality", json!({ "domain": "X" }), "linux.personality.domain"),
        ("linux.personality", json!({ "domain": "LINUX", "flags": ["X"] }), "linux.personality.flags"),
        ("linux.timeOffsets", json!({ "real": {} }), "linux.timeOffsets"),
        ("linux.timeOffsets", json!({ "boottime": { "nanosecs": 1_000_000_000 } }), "linux.timeOffsets.boottime.nanosecs"),
        ("linux.timeOffsets", json!({ "boottime": { "secs": 1 } }), "linux.timeOffsets"),
        ("linux.seccomp.defaultAction", json!("X"), "linux.seccomp"),
        ("linux.seccomp", rule(json!({ "names": ["read"], "action": "X" })), "linux.seccomp"),
        ("linux.seccomp", rule(json!({ "names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 2 })), "linux.seccomp"),
        ("linux.resources.devices[0]", json!({ "allow": true, "type": "q" }), "linux.resources.devices[0].type"),
        ("linux.resources.devices[0]", json!({ "allow": true, "access": "rx" }), "linux.resources.devices[0].access"),
        ("linux.resources.pids.limit", json!(u64::MAX), "linux.resources.pids.limit"),
        ("linux.resources.memory.limit", json!("1"), "linux.resources.memory.limit"),
        ("linux.resources.hugepageLimits[0]", json!({ "pageSize": "3x", "limit": 1 }), "linux.resources.hugepageLimits[0].pageSize"),
        ("linux.resources.network.classID", json!(big), "linux.resources.network.classID"),
        ("linux.resources.rdma.x.hcaHandles", json!(-1), "linux.resources.rdma.x.hcaHandles"),
    ];
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        rows.push((Box::leak(format!("process.capabilities.{set}[0]").into_boxed_str()), json!("CAP_X"), set));
    }
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        let field: &'static str = Box::leak(format!("hooks.{kind}[0]").into_boxed_str());
        rows.push((field, json!({ "path": "x" }), field));
        rows.push((field, json!({ "path": nul }), field));
        rows.push((field, json!({ "path": "/x", "timeout": 0 }), field));
        rows.push((field, json!({ "path": "/x", "args": ["\0"] }), field));
        rows.push((field, json!({ "path": "/x", "env": ["A=\0"] }), field));
    }
    rows
}

#[test]
fn values_that_are_out_of_range_unknown_or_malformed() {
    let t = behaviour!(Need::CrunDiffers("errors-name-the-field"));
    let c = t.container();
    let base = c.config();
    for (field, value, text) in table() {
        refused(&c, &base, field, value, text);
    }
    c.leaves_nothing();
}

/// The most memory that a child of this process has used, in KiB. Of all children, so it can only be too high.
fn peak() -> i64 {
    nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).expect("getrusage").max_rss()
}

/// A configuration as text, with a marked place for what is too large.
fn with_hole(c: &Container<'_>, field: &str) -> (String, String) {
    let mut config = c.config();
    put(&mut config, &parts(field), json!("HOLE"));
    let text = config.to_string();
    let (before, after) = text.split_once("\"HOLE\"").expect("the hole");
    (before.to_owned(), after.to_owned())
}

/// Refused, with no more memory than some times its size. The file is on a disk: the tests' own directories are on a small tmpfs.
#[track_caller]
fn refused_cheaply(c: &Container<'_>, text: &str, says: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let out = c.launch("run", &["--config", file.path().to_str().unwrap()]).output();
    let said: String = out.stderr().chars().take(500).collect();
    assert_eq!(out.status(), 1, "{said}");
    assert!(said.contains(says), "{said}");
    assert!(!c.state_dir().exists());
    let kib = i64::try_from(text.len() / 1024).unwrap();
    assert!(peak() < 128 * 1024 + 12 * kib, "{} KiB for a configuration of {kib} KiB", peak());
}

#[test]
fn texts_of_ten_megabytes() {
    let t = behaviour!(Need::CrunDiffers("errors-name-the-field"));
    let huge = format!("\"{}\"", "x".repeat(10 << 20));
    for (field, says) in [("hostname", "hostname"), ("process.cwd", "process.cwd"), ("linux.rootfsPropagation", "linux.rootfsPropagation")]
    {
        let c = t.container();
        let (before, after) = with_hole(&c, field);
        refused_cheaply(&c, &format!("{before}{huge}{after}"), says);
    }
}

#[test]
fn a_hundred_thousand_mounts() {
    let t = behaviour!(Need::CrunDiffers("errors-name-the-field"));
    let c = t.container();
    let (before, after) = with_hole(&c, "mounts");
    let mut list = String::new();
    for i in 0..100_000 {
        let _ = write!(list, r#"{{"destination":"/m{i}","type":"tmpfs"}},"#);
    }
    refused_cheaply(&c, &format!(r#"{before}[{list}{{"destination":""}}]{after}"#), "mounts[100000].destination");
}

#[test]
fn json_that_is_nested_deeply() {
    let t = behaviour!(Need::CrunDiffers("errors-name-the-field"));
    let deep = "[".repeat(1_000_000);
    for field in ["hostname", "annotations", "unknown", "linux.seccomp"] {
        let c = t.container();
        let (before, after) = with_hole(&c, field);
        refused_cheaply(&c, &format!("{before}{deep}{after}"), "load the configuration: ");
        // A field that no specification has is passed over, whatever is in it.
        if field != "unknown" {
            refused_cheaply(&c, &format!("{before}{deep}{}{after}", "]".repeat(1_000_000)), field);
        }
    }
}

#[test]
fn paths_with_dots_stay_inside() {
    let t = behaviour!();
    let c = t.container();
    let outside = t.dir().join("outside");
    let dots = format!("/{}{}", "../".repeat(20), outside.display());
    c.mount(json!({ "destination": dots, "type": "tmpfs", "source": "tmpfs" }));
    c.edit(|s| s["root"]["readonly"] = json!(false));
    assert_eq!(c.args(&["/probe", "exit", "0"]).run().status(), 0);
    assert!(!outside.exists());
    assert!(fs::symlink_metadata(c.rootfs().join("..").join("outside")).is_err());
}
