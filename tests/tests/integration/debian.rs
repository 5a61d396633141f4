//! A real distribution as a container: a shell, a package manager, an interpreter, and its life from `run` to `delete`.

use harness::{Container, Need, behaviour, json};

/// A container on the Debian that `cargo xtask test` makes. It is shared by the tests and by later runs, so nothing may be written to it.
fn debian(c: &Container<'_>) {
    let root = std::env::var("PINNACE_DEBIAN_ROOT").unwrap();
    c.edit(|s| {
        s["root"] = json!({ "path": root, "readonly": true });
        s["process"]["env"] = json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]);
    });
    c.mount(json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"] }));
}

const NEED: Need = Need::Variable("PINNACE_DEBIAN_ROOT");

#[test]
fn bash_runs_a_script() {
    let t = behaviour!(NEED, Need::Root);
    let c = t.container();
    debian(&c);
    let script = "set -eu; echo pid $$; hostname; id -u; for i in 1 2 3; do echo $((i * i)); done | sort -rn | tr '\\n' ' '; \
                  cat /etc/debian_version > /tmp/version; test -s /tmp/version; ! touch /etc/nothing 2> /dev/null; exit 7";
    c.args(&["bash", "-c", script]);
    let out = c.run().code(7).stdout();
    assert!(out.starts_with("pid 1\n") && out.ends_with("\n0\n9 4 1 "), "{out}");
    c.leaves_nothing();
}

#[test]
fn the_package_manager_runs() {
    let t = behaviour!(NEED, Need::Root);
    let c = t.container();
    debian(&c);
    let out = c.args(&["apt-get", "--version"]).run().code(0).stdout();
    assert!(out.starts_with("apt ") && out.contains("Supported modules"), "{out}");
    let out = c.args(&["dpkg", "--verify", "bash"]).run().code(0).stdout();
    // The root file system was made without manuals and translations.
    let other = out.lines().filter(|l| !l.contains("/usr/share/")).collect::<Vec<_>>();
    assert_eq!(other, [""; 0], "{out}");
    c.leaves_nothing();
}

#[test]
fn a_python_program_runs() {
    let t = behaviour!(NEED, Need::Root);
    let c = t.container();
    debian(&c);
    let program = "import json, os, socket, threading\n\
        r, w = os.pipe()\n\
        if os.fork() == 0:\n    os.write(w, b'child'); os._exit(3)\n\
        print(os.read(r, 9).decode(), os.waitstatus_to_exitcode(os.wait()[1]))\n\
        print(socket.gethostname(), os.getpid(), json.loads('[1, 2]'))\n\
        done = []\n\
        ts = [threading.Thread(target=done.append, args=(i,)) for i in range(8)]\n\
        [x.start() for x in ts]; [x.join() for x in ts]\n\
        a, b = socket.socketpair(); a.send(b'over a socket'); print(b.recv(99).decode(), sum(done))\n";
    let out = c.args(&["python3", "-c", program]).run().code(0).stdout();
    let hostname = c.config()["hostname"].as_str().unwrap().to_owned();
    assert_eq!(out, format!("child 3\n{hostname} 1 [1, 2]\nover a socket 28\n"));
    c.leaves_nothing();
}

#[test]
fn exec_enters_and_kill_and_delete_end_it() {
    let t = behaviour!(NEED, Need::Root);
    let c = t.container();
    debian(&c);
    c.args(&["bash", "-c", "trap 'exit 42' TERM; echo up > /tmp/up; while :; do sleep 0.05; done"]);
    c.launch("run", &["--detach"]).ok();
    harness::eventually("the script to run", || c.exec(&[], &["test", "-s", "/tmp/up"]).status() == 0);
    let out = c.exec(&[], &["bash", "-c", "cat /tmp/up; tr '\\0' ' ' < /proc/1/cmdline | head -c 8; . /etc/os-release; echo; echo $ID"]);
    assert_eq!(out.code(0).stdout(), "up\nbash -c \ndebian\n");
    c.kill("TERM");
    c.until_status("stopped");
    c.do_("delete").code(0);
    c.leaves_nothing();
}
