//! Docker: the basics with a daemon of the test's own. Not here: podman, which is asked for more.

use std::fs;

use harness::daemon::Docker;
use harness::podman::Manager;
use harness::{Need, Pty, behaviour, eventually, image};

/// The tests of one daemon: starting one is slow.
fn basics(docker: &Docker) {
    processes(docker);
    lives(docker);
    limits(docker);
    files(docker);
}

#[test]
fn basics_by_systemd() {
    let t = behaviour!(Need::Root, Need::V2, Need::Systemd, Need::Tool("dockerd"), Need::Tool("docker"), Need::Tool(image::SHELL));
    basics(&Docker::new(t, Manager::Systemd, false));
}

#[test]
fn basics_by_files() {
    let t = behaviour!(Need::Root, Need::V2, Need::Tool("dockerd"), Need::Tool("docker"), Need::Tool(image::SHELL));
    basics(&Docker::new(t, Manager::Files, false));
}

#[test]
fn a_bridge() {
    let t = behaviour!(Need::Root, Need::V2, Need::Bridges, Need::Tool("dockerd"), Need::Tool("docker"), Need::Tool(image::SHELL));
    let docker = Docker::new(t, Manager::Files, true);
    docker
        .call(&[
            "run",
            "--detach",
            "--name=web",
            "probe",
            "sh",
            "-c",
            "mkdir -p /www && echo hi >/www/index.html && exec httpd -f -p 80 -h /www",
        ])
        .ok();
    let address = docker.inspect("web", "{{.NetworkSettings.IPAddress}}");
    let fetch = format!("until wget -q -O - http://{address}/; do sleep 0.2; done");
    assert_eq!(docker.call(&["run", "--rm", "probe", "sh", "-c", &fetch]).ok().stdout().trim(), "hi");
}

fn processes(docker: &Docker) {
    docker.run(&[], "exit 7").code(7);
    docker.run(&[], "sh -c 'kill -KILL $$'; exit $?").code(137);
    cannot_be_run(docker);
    let out = docker.run(&[], "echo out; echo err >&2").code(0);
    assert_eq!((out.stdout().trim(), out.stderr().trim()), ("out", "err"));
    docker.detached("one", &["--env=A=1"], "sleep 1000");
    assert_eq!(docker.exec("one", "echo $A"), "1");
    docker.call(&["exec", "one", "sh", "-c", "exit 9"]).output().code(9);
    let exec = |program: &str| docker.call(&["exec", "one", program]).output().status();
    assert_eq!(["/no/such/program", "/bin/no-program", "/etc"].map(exec), [126; 3]);
    let out = docker.call(&["exec", "--user=guest", "--env=B=2", "--workdir=/tmp", "one", "sh", "-c", "id -u; pwd; echo $A $B"]).ok();
    assert_eq!(out.stdout().trim(), "1000\n/tmp\n1 2");
    let (mut pty, side) = Pty::open(33, 101);
    let running = docker.call(&["run", "--rm", "-it", "--network=none", "probe", "sh"]).terminal(side).spawn();
    pty.type_("test -t 0 && echo a-$((1+1))-terminal\n");
    pty.until("a-2-terminal");
    pty.type_("until test \"$(stty size)\" = '33 101'; do :; done; echo the-$((1+1))-size; exit 5\n");
    pty.until("the-2-size");
    running.wait().code(5);
    let top = docker.call(&["top", "one"]).ok().stdout();
    assert!(top.contains("sleep 1000"), "{top}");
    docker.call(&["rm", "--force", "one"]).ok();
}

/// Docker knows the reasons by runc's words: the client none of these, the daemon only what is missing.
fn cannot_be_run(docker: &Docker) {
    let codes = |program: &str| {
        let run = docker.call(&["run", "--rm", "--network=none", "probe", program]).output();
        assert!(run.stderr().contains(program), "{run}");
        docker.call(&["create", "--name=wrong", "--network=none", "probe", program]).ok();
        docker.call(&["start", "wrong"]).output().failed();
        let kept = docker.inspect("wrong", "{{.State.ExitCode}}");
        docker.call(&["rm", "wrong"]).ok();
        (run.status(), kept)
    };
    let all = ["/no/such/program", "/bin/no-program", "/etc"].map(codes);
    assert_eq!(all.map(|(run, kept)| format!("{run} {kept}")), ["125 127", "125 128", "125 128"]);
}

fn lives(docker: &Docker) {
    docker.detached("two", &[], "trap 'exit 4' TERM; echo hello; while :; do sleep 0.1; done");
    eventually("its greeting", || docker.call(&["logs", "two"]).ok().stdout() == "hello\n");
    docker.call(&["pause", "two"]).ok();
    assert_eq!(docker.inspect("two", "{{.State.Status}}"), "paused");
    docker.call(&["unpause", "two"]).ok();
    docker.call(&["stop", "two"]).ok();
    assert_eq!(docker.inspect("two", "{{.State.Status}} {{.State.ExitCode}}"), "exited 4");
    docker.call(&["start", "two"]).ok();
    eventually("both greetings", || docker.call(&["logs", "two"]).ok().stdout() == "hello\nhello\n");
    docker.call(&["restart", "--time=5", "two"]).ok();
    eventually("three greetings", || docker.call(&["logs", "two"]).ok().stdout().matches("hello").count() == 3);
    docker.call(&["kill", "two"]).ok();
    assert_eq!(docker.call(&["wait", "two"]).ok().stdout().trim(), "137");
    docker.call(&["kill", "two"]).output().failed().says("is not running");
    docker.call(&["rm", "two"]).ok();
    docker.detached("ill", &["--health-cmd=test -e /tmp/well", "--health-interval=1s", "--health-retries=1"], "sleep 1000");
    eventually("it being unwell", || docker.inspect("ill", "{{.State.Health.Status}}") == "unhealthy");
    docker.exec("ill", "touch /tmp/well");
    eventually("it being well", || docker.inspect("ill", "{{.State.Health.Status}}") == "healthy");
    docker.call(&["rm", "--force", "ill"]).ok();
    let out = docker.run(&["--init"], "cat /proc/1/comm; exit 3").code(3).stdout();
    assert!(out.contains("init"), "{out}");
}

fn limits(docker: &Docker) {
    let show = "cd /sys/fs/cgroup; cat memory.max pids.max cpu.max";
    docker.detached(
        "three",
        &["--memory=64m", "--memory-swap=64m", "--pids-limit=33", "--cpus=0.5", "--ulimit=nofile=123:456"],
        "sleep 1000",
    );
    assert_eq!(docker.exec("three", show), "67108864\n33\n50000 100000");
    assert_eq!(docker.exec("three", "ulimit -Sn; ulimit -Hn"), "123\n456");
    docker.call(&["update", "--memory=128m", "--memory-swap=128m", "--pids-limit=44", "--cpus=0.25", "three"]).ok();
    assert_eq!(docker.exec("three", show), "134217728\n44\n25000 100000");
    let stats = docker.call(&["stats", "--no-stream", "--format={{.PIDs}} {{.MemUsage}}", "three"]).ok().stdout();
    assert!(stats.starts_with("1 ") && stats.contains("128MiB"), "{stats}");
    docker.call(&["rm", "--force", "three"]).ok();
}

fn files(docker: &Docker) {
    let dir = docker.test.dir().join("shared");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "from the host").unwrap();
    let host = dir.to_str().unwrap();
    let out = docker.run(&["--volume", &format!("{host}:/mnt/host")], "cat /mnt/host/file; echo back >/mnt/host/back").code(0);
    assert_eq!(out.stdout(), "from the host");
    assert_eq!(fs::read_to_string(dir.join("back")).unwrap(), "back\n");
    let out = docker.run(&["--volume", &format!("{host}:/mnt/host:ro")], "(echo x >/mnt/host/x) 2>/dev/null || echo refused").code(0);
    assert_eq!(out.stdout().trim(), "refused");
    docker.run(&["--volume=kept:/data"], "echo kept >/data/word").code(0);
    assert_eq!(docker.run(&["--volume=kept:/data"], "cat /data/word").code(0).stdout().trim(), "kept");
    let out =
        docker.run(&["--read-only", "--tmpfs=/tmp"], "for at in /x /tmp/x; do (echo x >$at) 2>/dev/null && echo $at; done; true").code(0);
    assert_eq!(out.stdout().trim(), "/tmp/x");
    let out = docker
        .run(&["--privileged", "--pid=host", "--cgroupns=host"], "cat /proc/1/comm; grep Seccomp: /proc/self/status | cut -f2")
        .code(0);
    assert_eq!(out.stdout().trim(), format!("{}\n0", fs::read_to_string("/proc/1/comm").unwrap().trim()));
    let out = docker
        .run(&["--device=/dev/kmsg:/dev/other:r", "--cap-drop=all"], "test -c /dev/other && grep CapEff /proc/self/status | cut -f2")
        .code(0);
    assert_eq!(out.stdout().trim(), "0000000000000000");
}
