//! podman: processes, their exit codes, streams, terminals. Not here: what happens to a container afterwards (`podman_life`).

use harness::podman::{IMAGE, Podman};
use harness::{Place, Pty};

use crate::with_each_manager;

with_each_manager!(
    exit_codes,
    streams,
    what_cannot_be_run,
    a_handler_that_is_missing(Need::CrunDiffers("missing-handler")),
    exec,
    exec_of_what_cannot_be_run,
    a_terminal,
    user_and_directory,
    identity,
    init,
    pid_of_the_host
);

fn exit_codes(podman: &Podman) {
    podman.run(&[], "exit 0").code(0);
    podman.run(&[], "exit 7").code(7);
    podman.run(&[], "sh -c 'kill -KILL $$'; exit $?").code(137);
    podman.call(&["run", "--no-such-option", IMAGE]).output().code(125);
}

fn streams(podman: &Podman) {
    let out = podman.run(&[], "echo out; echo err >&2").code(0);
    assert_eq!((out.stdout().trim(), out.stderr().trim()), ("out", "err"));
    let mut call = podman.call(&["run", "--rm", "--interactive", "--network=none", IMAGE, "wc", "-c"]);
    assert_eq!(call.stdin(&"x".repeat(100_000)).ok().stdout().trim(), "100000");
}

/// podman finds its codes by words in the runtime's texts.
fn what_cannot_be_run(podman: &Podman) {
    let run =
        |options: &[&str], program: &str| podman.call(&[&["run", "--rm", "--network=none"], options, &[IMAGE, program]].concat()).output();
    assert!(run(&[], "/no/such/program").code(127).stderr().contains("/no/such/program"));
    run(&[], "no-such-program").code(127);
    run(&[], "/bin/no-program").code(126);
    run(&[], "/etc").code(126);
    assert!(podman.call(&["ps", "--all", "--quiet"]).ok().stdout().trim().is_empty());
}

/// What the runtime refuses for other reasons.
fn a_handler_that_is_missing(podman: &Podman) {
    podman.run(&["--annotation", "run.oci.handler=no-such"], "true").code(126).says("no-such");
    assert!(podman.call(&["ps", "--all", "--quiet"]).ok().stdout().trim().is_empty());
}

fn exec(podman: &Podman) {
    podman.detached("one", &["--env=A=1"], &["sleep", "1000"]);
    assert_eq!(podman.exec("one", "echo $A $0"), "1 sh");
    podman.call(&["exec", "one", "sh", "-c", "exit 9"]).output().code(9);
    let options = [
        "exec",
        "--user=guest",
        "--env=B=2",
        "--workdir=/tmp",
        "one",
        "sh",
        "-c",
        "id -u; id -G; pwd; echo $A $B; tr '\\0' ' ' </proc/1/cmdline",
    ];
    assert_eq!(podman.call(&options).ok().stdout().trim(), "1000\n1000 2000\n/tmp\n1 2\nsleep 1000");
    assert_eq!(podman.call(&["exec", "--interactive", "one", "cat"]).stdin("typed").ok().stdout(), "typed");
    podman.call(&["exec", "--detach", "one", "sh", "-c", "echo done >/tmp/done"]).ok();
    harness::eventually("the detached exec", || podman.exec("one", "cat /tmp/done 2>/dev/null || true") == "done");
}

fn exec_of_what_cannot_be_run(podman: &Podman) {
    podman.detached("one", &[], &["sleep", "1000"]);
    podman.call(&["exec", "one", "/no/such/program"]).output().code(127);
    podman.call(&["exec", "one", "/bin/no-program"]).output().code(126);
    podman.call(&["exec", "--workdir=/no/such/dir", "one", "true"]).output().code(127);
    podman.call(&["exec", "no-such-container", "true"]).output().code(125);
    assert_eq!(podman.exec("one", "echo still here"), "still here");
}

fn a_terminal(podman: &Podman) {
    for args in [&["run", "--rm", "-it", "--network=none", IMAGE, "sh"][..], &["exec", "-it", "one", "sh"]] {
        if args[0] == "exec" {
            podman.detached("one", &[], &["sleep", "1000"]);
        }
        let (mut pty, side) = Pty::open(33, 101);
        let running = podman.on_terminal(args, side).spawn();
        pty.type_("test -t 0 && test -t 1 && test -t 2 && echo a-$((1+1))-terminal\n");
        pty.until("a-2-terminal");
        // podman sets the size after the start.
        pty.type_("until test \"$(stty size)\" = '33 101'; do :; done; echo the-$((1+1))-size\n");
        pty.until("the-2-size");
        pty.resize(44, 111);
        pty.type_("until test \"$(stty size)\" = '44 111'; do :; done; echo new-$((1+1))-size\n");
        pty.until("new-2-size");
        pty.type_("exit 5\n");
        running.wait().code(5);
    }
}

fn user_and_directory(podman: &Podman) {
    let run = |options: &[&str]| podman.run(options, "id -u; id -g; id -G; pwd; echo $HOME").code(0).stdout();
    assert_eq!(run(&[]).trim(), "0\n0\n0\n/\n/root");
    assert_eq!(run(&["--user=guest"]).trim(), "1000\n1000\n1000 2000\n/\n/data");
    assert_eq!(run(&["--user=5:6", "--group-add=7", "--workdir=/data"]).trim(), "5\n6\n6 7\n/data\n/data");
}

fn identity(podman: &Podman) {
    let options = ["--hostname=here", "--add-host=there:10.0.0.1", "--sysctl=net.ipv4.ip_forward=1", "--cap-drop=all", "--cap-add=chown"];
    let script = "hostname; grep -c there /etc/hosts; cat /proc/sys/net/ipv4/ip_forward; grep CapBnd /proc/self/status | cut -f2";
    assert_eq!(podman.run(&options, script).code(0).stdout().trim(), "here\n1\n1\n0000000000000001");
    let script = "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | cut -f2";
    assert_eq!(podman.run(&["--security-opt=no-new-privileges"], script).code(0).stdout().trim(), "1\n2");
    let script = "mkdir /tmp/x && mount -t tmpfs x /tmp/x; grep Seccomp: /proc/self/status | cut -f2; ls /dev | grep -cx tty1; true";
    let privileged = podman.run(&["--privileged"], script).code(0).stdout();
    let mut lines = privileged.lines();
    assert_eq!(lines.next(), Some("0"));
    if Place::get().root && std::path::Path::new("/dev/tty1").exists() {
        assert_eq!(lines.next(), Some("1"), "the host's devices");
    }
}

fn init(podman: &Podman) {
    if !std::path::Path::new("/usr/libexec/podman/catatonit").exists() && !Place::tool("catatonit") {
        podman.test.skip("needs the program catatonit (install it)");
        return;
    }
    let out = podman.run(&["--init"], "cat /proc/1/comm; exit 3").code(3);
    assert!(out.stdout().contains("init"), "{out}");
}

fn pid_of_the_host(podman: &Podman) {
    let comm = std::fs::read_to_string("/proc/1/comm").unwrap();
    let out = podman.run(&["--pid=host"], "cat /proc/1/comm; ls -d /proc/[0-9]* | wc -l").code(0).stdout();
    let (first, count) = out.trim().split_once('\n').unwrap();
    assert_eq!(first, comm.trim());
    assert!(count.parse::<u32>().unwrap() > 10);
}
