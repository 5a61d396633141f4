//! podman: what becomes of a container: stop, kill, pause, restart, health, logs, events, readiness. Not here: its first process (`podman_run`).

use harness::eventually;
use harness::podman::{IMAGE, Podman};

use crate::with_each_manager;

with_each_manager!(
    stop,
    kill,
    pause(Need::V2),
    restart,
    restart_policy,
    create_start_wait,
    remove,
    health,
    logs,
    top,
    stats,
    events,
    readiness,
    attach,
    inspect_of_a_failure,
    secrets,
);

const WAITS: &[&str] = &["sh", "-c", "trap 'echo bye; exit 4' TERM; echo hello; while :; do sleep 0.1; done"];

fn waiting(podman: &Podman, name: &str, options: &[&str]) {
    podman.detached(name, options, WAITS);
    eventually("its greeting", || podman.call(&["logs", name]).ok().stdout().contains("hello"));
}

fn stop(podman: &Podman) {
    waiting(podman, "one", &[]);
    podman.call(&["stop", "one"]).ok();
    assert_eq!(podman.inspect("one", "{{.State.Status}} {{.State.ExitCode}}"), "exited 4");
    // What does not end is killed.
    podman.detached("two", &[], &["sh", "-c", "trap '' TERM; echo hello; while :; do sleep 0.1; done"]);
    eventually("its greeting", || podman.call(&["logs", "two"]).ok().stdout().contains("hello"));
    podman.call(&["stop", "--time", "1", "two"]).ok();
    assert_eq!(podman.inspect("two", "{{.State.ExitCode}}"), "137");
    // A container that has stopped can be stopped.
    podman.call(&["stop", "two"]).ok();
}

fn kill(podman: &Podman) {
    waiting(podman, "one", &[]);
    podman.call(&["kill", "--signal=TERM", "one"]).ok();
    assert_eq!(podman.call(&["wait", "one"]).ok().stdout().trim(), "4");
    waiting(podman, "two", &[]);
    podman.call(&["kill", "two"]).ok();
    assert_eq!(podman.call(&["wait", "two"]).ok().stdout().trim(), "137");
    podman.call(&["kill", "two"]).output().code(125).says("can only kill running containers");
    // Above the usual ones.
    podman.detached("three", &[], &["sh", "-c", "trap 'exit 6' 37; echo hello; while :; do sleep 0.1; done"]);
    podman.call(&["kill", "--signal=37", "three"]).ok();
    assert_eq!(podman.call(&["wait", "three"]).ok().stdout().trim(), "6");
}

fn pause(podman: &Podman) {
    podman.detached("one", &[], &["sh", "-c", "n=0; while :; do n=$((n+1)); echo $n >/tmp/n; sleep 0.05; done"]);
    let counted = || podman.exec("one", "cat /tmp/n").parse::<u32>().unwrap_or(0);
    eventually("counting", || counted() > 1);
    podman.call(&["pause", "one"]).ok();
    assert_eq!(podman.inspect("one", "{{.State.Status}}"), "paused");
    podman.call(&["exec", "one", "true"]).output().code(255);
    podman.call(&["unpause", "one"]).ok();
    let before = counted();
    eventually("counting again", || counted() > before);
    assert_eq!(podman.inspect("one", "{{.State.Status}}"), "running");
    podman.call(&["pause", "one"]).ok();
    podman.call(&["rm", "--force", "--time", "0", "one"]).ok();
}

fn restart(podman: &Podman) {
    waiting(podman, "one", &[]);
    let pid = podman.inspect("one", "{{.State.Pid}}");
    podman.call(&["restart", "--time", "3", "one"]).ok();
    assert_ne!(podman.inspect("one", "{{.State.Pid}}"), pid);
    podman.until_status("one", "running");
    eventually("both greetings", || podman.call(&["logs", "one"]).ok().stdout().matches("hello").count() == 2);
    podman.call(&["stop", "one"]).ok();
    podman.call(&["start", "one"]).ok();
    podman.until_status("one", "running");
}

fn restart_policy(podman: &Podman) {
    podman.detached("one", &["--restart=on-failure:2"], &["sh", "-c", "exit 3"]);
    eventually("its restarts", || podman.inspect("one", "{{.RestartCount}} {{.State.Status}}") == "2 exited");
    assert_eq!(podman.inspect("one", "{{.State.ExitCode}}"), "3");
}

fn create_start_wait(podman: &Podman) {
    podman.call(&["create", "--name=one", "--network=none", IMAGE, "sh", "-c", "echo made; exit 8"]).ok();
    assert_eq!(podman.inspect("one", "{{.State.Status}}"), "created");
    podman.call(&["init", "one"]).ok();
    assert_eq!(podman.inspect("one", "{{.State.Status}}"), "initialized");
    assert_eq!(podman.call(&["start", "--attach", "one"]).output().code(8).stdout().trim(), "made");
    assert_eq!(podman.call(&["wait", "one"]).ok().stdout().trim(), "8");
}

fn remove(podman: &Podman) {
    waiting(podman, "one", &[]);
    let pid = podman.inspect("one", "{{.State.Pid}}");
    podman.call(&["rm", "one"]).output().code(2);
    podman.call(&["rm", "--force", "--time", "0", "one"]).ok();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    podman.call(&["inspect", "one"]).output().code(125);
}

fn health(podman: &Podman) {
    podman.detached("one", &["--health-cmd=test -e /tmp/well", "--health-interval=disable", "--health-retries=1"], &["sleep", "1000"]);
    podman.call(&["healthcheck", "run", "one"]).output().code(1);
    podman.exec("one", "touch /tmp/well");
    podman.call(&["healthcheck", "run", "one"]).ok();
    assert_eq!(podman.inspect("one", "{{.State.Health.Status}}"), "healthy");
}

fn logs(podman: &Podman) {
    podman.call(&["run", "--name=one", "--network=none", IMAGE, "sh", "-c", "for i in 1 2 3; do echo line $i; done; echo err >&2"]).ok();
    let out = podman.call(&["logs", "one"]).ok();
    assert_eq!((out.stdout().as_str(), out.stderr().as_str()), ("line 1\nline 2\nline 3\n", "err\n"));
    let last = podman.call(&["logs", "--tail=1", "one"]).ok();
    assert_eq!(format!("{}{}", last.stdout(), last.stderr()), "err\n");
}

fn top(podman: &Podman) {
    podman.detached("one", &["--user=guest"], &["sleep", "1000"]);
    let out = podman.call(&["top", "one", "pid", "user", "args"]).ok().stdout();
    let last = out.lines().last().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(last, "1 guest sleep 1000");
}

fn stats(podman: &Podman) {
    podman.detached("one", &["--pids-limit=50"], &["sh", "-c", "sleep 1000 & sleep 1000"]);
    eventually("its second process", || podman.exec("one", "ls -d /proc/[0-9]* | wc -l").parse::<u32>().is_ok_and(|n| n >= 4));
    let out = podman.call(&["stats", "--no-stream", "--no-reset", "--format", "{{.Name}} {{.PIDs}}", "one"]).output();
    let limited = harness::Place::get().root || podman.manager == harness::podman::Manager::Systemd;
    if limited {
        assert_eq!(out.code(0).stdout().trim(), "one 2");
    }
}

fn events(podman: &Podman) {
    podman.call(&["run", "--rm", "--name=one", "--network=none", IMAGE, "true"]).ok();
    let out = podman.call(&["events", "--stream=false", "--filter=container=one", "--format={{.Status}}"]).ok().stdout();
    let words: Vec<&str> = out.lines().map(str::trim).collect();
    let place = |word: &str| words.iter().position(|w| *w == word).unwrap_or_else(|| panic!("no {word}: {words:?}"));
    assert!(place("create") < place("init") && place("init") < place("start") && place("start") < place("died"), "{words:?}");
    assert!(place("died") < place("remove"), "{words:?}");
}

/// With `container` the service manager is told what the container tells.
fn readiness(podman: &Podman) {
    let options = ["run", "--detach", "--name=one", "--network=none", "--sdnotify=container", IMAGE];
    let script = "echo before >/tmp/state; sleep 1; echo ready >/tmp/state; /probe notify READY=1; sleep 1000";
    let socket = podman.test.dir().join("notify");
    let listener = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    podman.call(&[&options[..], &["sh", "-c", script]].concat()).env("NOTIFY_SOCKET", &socket).ok();
    listener.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut heard = String::new();
    while !(heard.contains("READY=1") && heard.contains("MAINPID=")) {
        let mut message = [0; 4096];
        let n = listener.recv(&mut message).unwrap_or_else(|e| panic!("{e}: {heard}"));
        heard.push_str(&String::from_utf8_lossy(&message[..n]));
        heard.push('\n');
    }
}

fn attach(podman: &Podman) {
    podman
        .call(&["run", "--detach", "--interactive", "--name=one", "--network=none", IMAGE, "sh", "-c", "read line; echo got $line; exit 2"])
        .ok();
    assert_eq!(podman.call(&["attach", "one"]).stdin("text\n").ok().stdout().trim(), "got text");
    assert_eq!(podman.call(&["wait", "one"]).ok().stdout().trim(), "2");
}

/// What the runtime said is what podman keeps.
fn inspect_of_a_failure(podman: &Podman) {
    podman.call(&["create", "--name=one", "--network=none", IMAGE, "/no/such/program"]).ok();
    podman.call(&["start", "one"]).output().code(125).says("/no/such/program");
    assert_eq!(podman.inspect("one", "{{.State.Status}}"), "created");
    assert!(podman.inspect("one", "{{.State.Error}}").contains("/no/such/program"));
}

fn secrets(podman: &Podman) {
    let word = podman.test.dir().join("word");
    std::fs::write(&word, "opensesame").unwrap();
    podman.call(&["secret", "create", "word", word.to_str().unwrap()]).ok();
    let out = podman.run(
        &["--secret=word", "--secret=word,type=env,target=WORD"],
        "cat /run/secrets/word; echo; echo $WORD; stat -c %a /run/secrets/word",
    );
    assert_eq!(out.code(0).stdout().trim(), "opensesame\nopensesame\n444");
}
