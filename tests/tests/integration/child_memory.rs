//! The container's child allocates nothing before execve: a build with a trapping allocator (cargo feature
//! `trap-alloc`) aborts if it does, and a planted allocation shows that it would.

use std::path::PathBuf;

use harness::{Need, json, pinnace_only};

const TRAP: &str = "allocation in the container's child";

#[test]
fn child_allocates_nothing() {
    let t = pinnace_only!(Need::Variable("PINNACE_TRAP_BIN"), Need::Root);
    let trap = PathBuf::from(std::env::var_os("PINNACE_TRAP_BIN").unwrap());
    let t = t.with_binary(&trap);
    let c = t.container();
    c.new_namespace("cgroup");
    c.edit(|s| {
        s["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [1, 2, 3], "umask": 63 });
        s["process"]["oomScoreAdj"] = json!(100);
        s["process"]["cwd"] = json!("/data/made");
        s["process"]["env"].as_array_mut().unwrap().extend((0..100).map(|n| json!(format!("V{n}={}", "x".repeat(100)))));
        s["domainname"] = json!("example.org");
        s["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
        s["linux"]["devices"] =
            json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0 }]);
        s["linux"]["seccomp"] = serde_json::from_str(include_str!("../../data/seccomp-engine.json")).unwrap();
        s["hooks"]["createContainer"] = json!([{ "path": "/bin/true" }]);
        s["hooks"]["startContainer"] = json!([{ "path": "/probe", "args": ["probe", "exit", "0"] }]);
    });
    for n in 0..30 {
        let options = ["bind", "ro", "nosuid", "nodev", "rslave"];
        c.mount(json!({ "destination": format!("/data/bind-{n}/deep"), "type": "bind", "source": t.dir(), "options": options }));
    }
    c.mount(json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m"] }));
    assert_eq!(c.report()["uids"], json!([1000, 1000, 1000]));
    // What goes wrong in the child must be told without memory, too.
    c.args(&["/nothing"]).run().fails_with(&["executable file `/nothing` not found"]);
    c.edit(|s| {
        s["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        for map in ["uidMappings", "gidMappings"] {
            s["linux"][map] = json!([{ "containerID": 0, "hostID": 0, "size": 100_000 }]);
        }
        s["linux"].as_object_mut().unwrap().remove("sysctl");
    });
    c.args(&["/probe", "exit", "3"]).run().code(3);
}

#[test]
fn exec_child_allocates_nothing() {
    let t = pinnace_only!(Need::Variable("PINNACE_TRAP_BIN"), Need::Root);
    let trap = PathBuf::from(std::env::var_os("PINNACE_TRAP_BIN").unwrap());
    let t = t.with_binary(&trap);
    let c = t.container();
    c.sleeping();
    c.exec(&["--user", "5:6", "--cwd", "/tmp", "--env", "A=B", "--cap", "CAP_KILL"], &["/probe", "exit", "4"]).code(4);
    let mounts = json!([
        { "destination": "/dev/x", "type": "bind", "source": "/usr", "options": ["bind", "ro"] },
        { "destination": "/dev/y", "type": "tmpfs", "source": "y", "options": ["size=1m"] },
    ]);
    for verb in ["add", "remove"] {
        c.call("mounts").args(&[verb, &c.id, "-"]).stdin(&mounts.to_string()).ok();
    }
}

#[test]
fn a_planted_allocation_is_caught() {
    let t = pinnace_only!(Need::Variable("PINNACE_TRAP_BIN"), Need::Root);
    let trap = PathBuf::from(std::env::var_os("PINNACE_TRAP_BIN").unwrap());
    let t = t.with_binary(&trap);
    let c = t.container();
    c.args(&["/probe", "exit", "0"]);
    let out = c.launch("run", &[]).env("PINNACE_TEST_PLANT_ALLOC", "1").output();
    assert_ne!(out.status(), 0, "{out}");
    assert!(out.stderr().contains(TRAP), "{out}");
}
