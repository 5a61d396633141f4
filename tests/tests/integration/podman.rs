//! Checkpoints by podman. Not here: what else engines do (`tests/engines`).

use std::fs;
use std::path::Path;

use harness::podman::{IMAGE, Manager, Podman};
use harness::{Need, Test, behaviour, eventually, image};

/// A container that counts in its own file system.
fn counting(t: Test) -> Podman {
    let podman = Podman::new(t, Manager::Systemd);
    podman.call(&["run", "--detach", "--name", "one", "--network", "none", IMAGE, "/probe", "count", "/data/n"]).ok();
    podman
}

fn counted(podman: &Podman, name: &str) -> u64 {
    let out = podman.call(&["exec", name, "/probe", "read-file", "/data/n"]).output();
    if out.status() != 0 {
        return 0;
    }
    out.json()["text"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Waits until it has counted further than `from`.
fn counts_on(podman: &Podman, name: &str, from: u64) -> u64 {
    let mut n = 0;
    eventually("counting", || {
        n = counted(podman, name);
        n > from
    });
    n
}

#[test]
fn a_checkpoint_is_restored_in_place() {
    let podman = counting(behaviour!(Need::Criu, Need::Tool("podman"), Need::Tool(image::SHELL), Need::V2));
    let before = counts_on(&podman, "one", 2);
    podman.call(&["container", "checkpoint", "--pre-checkpoint", "one"]).ok();
    assert_eq!(podman.inspect("one", "{{.State.Status}}"), "running");
    podman.call(&["container", "checkpoint", "--with-previous", "one"]).ok();
    assert_eq!(podman.inspect("one", "{{.State.Status}} {{.State.Checkpointed}}"), "exited true");
    podman.call(&["container", "restore", "one"]).ok();
    assert_eq!(podman.inspect("one", "{{.State.Status}} {{.State.Restored}}"), "running true");
    let pid: i32 = podman.inspect("one", "{{.State.Pid}}").parse().unwrap();
    let now = counts_on(&podman, "one", before);
    counts_on(&podman, "one", now);
    podman.call(&["kill", "one"]).ok();
    assert_eq!(podman.call(&["wait", "one"]).ok().stdout().trim(), "137");
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_checkpoint_is_exported_and_imported_under_another_name() {
    let podman = counting(behaviour!(Need::Criu, Need::Tool("podman"), Need::Tool(image::SHELL), Need::V2));
    let before = counts_on(&podman, "one", 2);
    let file = podman.test.dir().join("checkpoint.tar.gz");
    let file = file.to_str().unwrap();
    podman.call(&["container", "checkpoint", "--compress", "gzip", "--export", file, "one"]).ok();
    podman.call(&["rm", "one"]).ok();
    podman.call(&["container", "restore", "--import", file, "--name", "two"]).ok();
    assert_eq!(podman.inspect("two", "{{.State.Status}}"), "running");
    counts_on(&podman, "two", before);
    // Twice from the same file, beside each other.
    podman.call(&["container", "restore", "--import", file, "--name", "three"]).ok();
    counts_on(&podman, "three", before);
    let cgroup = |name: &str| podman.inspect(name, "{{.State.CgroupPath}}");
    assert_ne!(cgroup("two"), cgroup("three"));
    for name in ["two", "three"] {
        let pid = podman.inspect(name, "{{.State.Pid}}");
        let inside = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(inside.contains(&cgroup(name)), "{name}: {inside}, but podman says {}", cgroup(name));
    }
}
