//! podman with the runtime under test, its storage and its state in the test's own directory. Not here: other engines.

use std::fs;
use std::path::{Path, PathBuf};

use harness::{Invocation, Need, Output, Test, behaviour, eventually};

const IMAGE: &str = "localhost/probe";

/// A podman that knows nothing of the machine's own.
struct Podman {
    /// Its calls are podman's.
    test: Test,
    runtime: PathBuf,
}

impl Podman {
    /// With an image of the probe.
    fn new(t: Test) -> Podman {
        let dir = t.dir();
        // podman knows by a runtime's name what it can.
        let runtime = dir.join("bin/crun");
        fs::create_dir(dir.join("bin")).unwrap();
        std::os::unix::fs::symlink(fs::canonicalize(&t.runtime.path).unwrap(), &runtime).unwrap();
        // Locks in files: those in shared memory are the machine's.
        fs::write(dir.join("containers.conf"), "[engine]\nlock_type = \"file\"\nevents_logger = \"file\"\n").unwrap();
        let tree = t.container().rootfs();
        let archive = dir.join("image.tar");
        let podman = Podman { test: t.with_binary(Path::new("podman")), runtime };
        let mut tar = std::process::Command::new("tar");
        let made = tar.arg("-C").arg(&tree).arg("-cf").arg(&archive).arg(".").status().unwrap();
        assert!(made.success(), "{tar:?}: {made}");
        podman.call(&["import", archive.to_str().unwrap(), IMAGE]).ok();
        podman
    }

    fn call(&self, args: &[&str]) -> Invocation {
        let dir = self.test.dir();
        let mut call = self.test.bare();
        for (option, name) in [("--root", "graph"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            call.arg(option).arg(dir.join(name));
        }
        call.arg("--runtime").arg(&self.runtime).args(args).env("CONTAINERS_CONF", dir.join("containers.conf"));
        call
    }

    /// A container that counts in its own file system.
    fn counting(&self, name: &str) -> Output {
        self.call(&["run", "--detach", "--name", name, "--network", "none", IMAGE, "/probe", "count", "/data/n"]).ok()
    }

    fn counted(&self, name: &str) -> u64 {
        let out = self.call(&["exec", name, "/probe", "read-file", "/data/n"]).output();
        if out.status() != 0 {
            return 0;
        }
        out.json()["text"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Waits until it has counted further than `from`.
    fn counts_on(&self, name: &str, from: u64) -> u64 {
        let mut n = 0;
        eventually("counting", || {
            n = self.counted(name);
            n > from
        });
        n
    }

    fn inspect(&self, name: &str, what: &str) -> String {
        self.call(&["inspect", "--format", what, name]).ok().stdout().trim().to_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.call(&["rm", "--all", "--force", "--time", "0"]).output();
        // The storage's own bind mount of itself.
        let _ = std::process::Command::new("umount").arg("--quiet").arg(self.test.dir().join("graph/overlay")).status();
    }
}

#[test]
fn a_checkpoint_is_restored_in_place() {
    let podman = Podman::new(behaviour!(Need::Criu, Need::Tool("podman"), Need::V2));
    podman.counting("one");
    let before = podman.counts_on("one", 2);
    podman.call(&["container", "checkpoint", "--pre-checkpoint", "one"]).ok();
    assert_eq!(podman.inspect("one", "{{.State.Status}}"), "running");
    podman.call(&["container", "checkpoint", "--with-previous", "one"]).ok();
    assert_eq!(podman.inspect("one", "{{.State.Status}} {{.State.Checkpointed}}"), "exited true");
    podman.call(&["container", "restore", "one"]).ok();
    assert_eq!(podman.inspect("one", "{{.State.Status}} {{.State.Restored}}"), "running true");
    let pid: i32 = podman.inspect("one", "{{.State.Pid}}").parse().unwrap();
    let now = podman.counts_on("one", before);
    podman.counts_on("one", now);
    podman.call(&["kill", "one"]).ok();
    assert_eq!(podman.call(&["wait", "one"]).ok().stdout().trim(), "137");
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_checkpoint_is_exported_and_imported_under_another_name() {
    let podman = Podman::new(behaviour!(Need::Criu, Need::Tool("podman"), Need::V2));
    podman.counting("one");
    let before = podman.counts_on("one", 2);
    let file = podman.test.dir().join("checkpoint.tar.gz");
    let file = file.to_str().unwrap();
    podman.call(&["container", "checkpoint", "--compress", "gzip", "--export", file, "one"]).ok();
    podman.call(&["rm", "one"]).ok();
    podman.call(&["container", "restore", "--import", file, "--name", "two"]).ok();
    assert_eq!(podman.inspect("two", "{{.State.Status}}"), "running");
    podman.counts_on("two", before);
    // Twice from the same file, beside each other.
    podman.call(&["container", "restore", "--import", file, "--name", "three"]).ok();
    podman.counts_on("three", before);
    let cgroup = |name: &str| podman.inspect(name, "{{.State.CgroupPath}}");
    assert_ne!(cgroup("two"), cgroup("three"));
    for name in ["two", "three"] {
        let pid = podman.inspect(name, "{{.State.Pid}}");
        let inside = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(inside.contains(&cgroup(name)), "{name}: {inside}, but podman says {}", cgroup(name));
    }
}
