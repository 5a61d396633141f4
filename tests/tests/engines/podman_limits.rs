//! podman: limits at the start and by `update`, where the cgroup is. Not here: each resource's file and value (`integration/resources`).

use harness::Place;
use harness::podman::{Manager, Podman};

use crate::with_each_manager;

with_each_manager!(
    limits(Need::Controller("memory"), Need::Controller("pids")),
    update(Need::Controller("memory"), Need::Controller("pids")),
    rlimits,
    no_cgroup_of_its_own,
    a_parent(Need::Root),
    devices(Need::Root),
);

const SHOW: &str = "cd /sys/fs/cgroup; cat memory.max memory.swap.max pids.max cpu.max cpu.weight";

/// An unprivileged user's cgroups as files are below his login's scope, which systemd does not delegate.
fn may_limit(podman: &Podman) -> bool {
    if Place::get().root || podman.manager == Manager::Systemd {
        return true;
    }
    podman.test.skip("needs root or systemd, for limits (covered by the run as root)");
    false
}

fn limits(podman: &Podman) {
    if may_limit(podman) {
        let options = ["--memory=64m", "--memory-swap=96m", "--pids-limit=33", "--cpus=0.5", "--cpu-shares=512"];
        let shown = podman.run(&options, SHOW).code(0).stdout();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[..4], ["67108864", "33554432", "33", "50000 100000"]);
        // The formula has changed between versions.
        assert!(["20", "59"].contains(&lines[4]), "{}", lines[4]);
    }
}

fn update(podman: &Podman) {
    if may_limit(podman) {
        podman.detached("one", &["--memory=64m", "--memory-swap=64m", "--pids-limit=33"], &["sleep", "1000"]);
        podman.call(&["update", "--memory=128m", "--memory-swap=128m", "--pids-limit=44", "--cpus=0.25", "one"]).ok();
        let shown = podman.exec("one", SHOW);
        assert_eq!(shown.lines().take(4).collect::<Vec<_>>(), ["134217728", "0", "44", "25000 100000"]);
    }
}

fn rlimits(podman: &Podman) {
    assert_eq!(
        podman.run(&["--ulimit=nofile=123:456", "--ulimit=core=0:0"], "ulimit -Sn; ulimit -Hn; ulimit -c").code(0).stdout().trim(),
        "123\n456\n0"
    );
    // shm-size is a mount's option.
    assert_eq!(podman.run(&["--shm-size=1m"], "df -k /dev/shm | awk 'NR==2 {print $2}'").code(0).stdout().trim(), "1024");
    let tuned = podman.run(&["--oom-score-adj=500"], "cat /proc/self/oom_score_adj").code(0);
    assert_eq!(tuned.stdout().trim(), "500");
}

fn no_cgroup_of_its_own(podman: &Podman) {
    let out = podman.run(&["--cgroups=disabled", "--cgroupns=host"], "cat /proc/self/cgroup").code(0);
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let tail = |text: &str| text.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or_default().to_owned();
    assert!(!tail(&out.stdout()).contains("libpod-"), "{out}, and the caller is in {own}");
}

fn a_parent(podman: &Podman) {
    let parent = if podman.manager == Manager::Systemd { "pinnacetest.slice" } else { "/pinnacetest" };
    podman.detached("one", &["--cgroup-parent", parent], &["sleep", "1000"]);
    let pid = podman.inspect("one", "{{.State.Pid}}");
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(cgroup.contains("pinnacetest"), "{cgroup}");
    podman.call(&["rm", "--force", "--time", "0", "one"]).ok();
    if podman.manager == Manager::Files {
        let _ = std::fs::remove_dir(Place::get().unified.as_ref().unwrap().join("pinnacetest"));
    } else {
        let _ = std::process::Command::new("systemctl").args(["stop", "pinnacetest.slice"]).status();
    }
}

fn devices(podman: &Podman) {
    let script =
        "dd if=/dev/zero of=/dev/null count=1 2>/dev/null && echo usual; mknod /tmp/kmsg c 1 11 && head -c 0 /tmp/kmsg || echo refused";
    let out = podman.run(&[], script).code(0).stdout();
    assert_eq!(out.trim(), "usual\nrefused");
    let out = podman.run(
        &["--device=/dev/kmsg:/dev/log-of-the-kernel:r"],
        "head -c 0 /dev/log-of-the-kernel && echo readable; (: >/dev/log-of-the-kernel) 2>/dev/null || echo not writable",
    );
    assert_eq!(out.code(0).stdout().trim(), "readable\nnot writable");
}
