//! containerd by `ctr`. Not here: Kubernetes' interface to it (`cri`).

use harness::daemon::Containerd;
use harness::podman::Manager;
use harness::{Need, Pty, behaviour, eventually, image};

use crate::with_containerd;

with_containerd!(basics);

fn basics(ctr: &Containerd) {
    ctr.run(&["--rm"], "a", "exit 7").output().code(7);
    let out = ctr.run(&["--rm", "--env=A=1", "--cwd=/tmp"], "b", "echo $A; pwd; echo err >&2").ok();
    assert_eq!((out.stdout().trim(), out.stderr().trim()), ("1\n/tmp", "err"));
    let out = ctr.command(&["--rm"], "c", &["/no/such/program"]).output();
    out.failed().says("/no/such/program");
    let (mut pty, side) = Pty::open(33, 101);
    let running = ctr
        .run(&["--rm", "--tty"], "d", "test -t 0 && echo a-$((1+1))-terminal; until test \"$(stty size)\" = '33 101'; do :; done; exit 5")
        .terminal(side)
        .spawn();
    pty.until("a-2-terminal");
    running.wait().code(5);

    ctr.run(&["--detach", "--memory-limit=67108864"], "e", "trap 'exit 4' TERM; while :; do sleep 0.1; done").ok();
    let exec = |script: &str| ctr.call(&["tasks", "exec", "--exec-id=x", "e", "sh", "-c", script]).output();
    assert_eq!(exec("echo inside").code(0).stdout().trim(), "inside");
    exec("exit 9").code(9);
    let status = || {
        let all = ctr.call(&["tasks", "list"]).ok().stdout();
        all.lines().find(|line| line.starts_with("e ")).and_then(|line| line.split_whitespace().last()).unwrap_or_default().to_owned()
    };
    assert_eq!(status(), "RUNNING");
    ctr.call(&["tasks", "pause", "e"]).ok();
    assert_eq!(status(), "PAUSED");
    ctr.call(&["tasks", "resume", "e"]).ok();
    assert_eq!(status(), "RUNNING");
    let metrics = ctr.call(&["tasks", "metrics", "--format=json", "e"]).ok().stdout();
    assert!(metrics.contains("67108864") && metrics.contains("pids"), "{metrics}");
    let ps = ctr.call(&["tasks", "ps", "e"]).ok().stdout();
    assert!(ps.lines().count() >= 2, "{ps}");
    ctr.call(&["tasks", "kill", "--signal=TERM", "e"]).ok();
    eventually("its end", || status() == "STOPPED");
    ctr.call(&["tasks", "delete", "e"]).ok().says("non-zero exit code 4");
    ctr.call(&["containers", "delete", "e"]).ok();
    assert!(!ctr.call(&["containers", "list", "--quiet"]).ok().stdout().lines().any(|id| id == "e"));
}

#[test]
fn a_checkpoint_is_restored() {
    let t = behaviour!(Need::Criu, Need::V2, Need::Tool("containerd"), Need::Tool("ctr"), Need::Tool(image::SHELL));
    let ctr = Containerd::new(t, Manager::Files);
    let counter = ctr.test.dir().join("counter");
    std::fs::create_dir(&counter).unwrap();
    let mount = format!("type=bind,src={},dst=/data,options=rbind:rw", counter.display());
    ctr.run(&["--detach", "--mount", &mount], "a", "n=0; while :; do n=$((n+1)); echo $n >/data/n; sleep 0.1; done").ok();
    let counted = || std::fs::read_to_string(counter.join("n")).ok().and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(0);
    eventually("counting", || counted() > 2);
    let images = ctr.test.dir().join("images");
    ctr.call(&["tasks", "checkpoint", "--exit", "--image-path", images.to_str().unwrap(), "a"]).ok();
    eventually("its end", || !ctr.call(&["tasks", "list"]).ok().stdout().contains("RUNNING"));
    assert!(std::fs::read_dir(&images).unwrap().count() > 5);
}
