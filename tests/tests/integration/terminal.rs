//! Terminals: the console socket of `create`, a foreground `run` on a pty, sizes, and `exec --tty`.

use harness::{ConsoleSocket, Need, Pty, behaviour, json};

#[test]
fn console_socket_receives_the_pty() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| {
        s["process"]["terminal"] = json!(true);
        s["process"]["consoleSize"] = json!({ "height": 33, "width": 99 });
    });
    c.args(&["/probe", "report", ",", "sleep"]);
    let socket = ConsoleSocket::listen(t.dir());
    let mut create = c.launch("create", &["--console-socket", socket.path.to_str().unwrap()]);
    let running = create.spawn();
    let (mut pty, message) = socket.receive();
    running.wait().code(0);
    assert!(!message.is_empty());
    c.start();
    let text = pty.until("READY").to_owned();
    let report: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let tty = &report["tty"];
    assert_eq!(tty["stdio"], json!([true, true, true]));
    assert_eq!(tty["controlling"], true);
    assert_eq!(tty["size"], json!([33, 99]));
    assert!(["/dev/pts/0", "/dev/console"].contains(&tty["name"].as_str().unwrap()), "{tty}");
    // A device bound there, or a link into /dev/pts (newer).
    let console = &report["dev"]["/dev/console"];
    assert!(console["major"] == 136 || console["kind"] == "link", "{console}");
    c.kill("HUP");
    pty.until("SIGNAL 1");
}

#[test]
fn typed_text_arrives() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["process"]["terminal"] = json!(true));
    c.args(&["/probe", "ready", ",", "echo-stdin"]);
    let socket = ConsoleSocket::listen(t.dir());
    let running = c.launch("run", &["--detach", "--console-socket", socket.path.to_str().unwrap()]).spawn();
    let (mut pty, _) = socket.receive();
    running.wait().code(0);
    pty.until("READY");
    pty.type_("hello\n\u{4}");
    let text = pty.until("{\"stdin\"").to_owned();
    assert!(text.contains("hello"), "{text}");
}

#[test]
fn a_console_socket_that_is_not_there_is_named() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["process"]["terminal"] = json!(true));
    let path = t.dir().join("nobody.sock");
    c.launch("create", &["--console-socket", path.to_str().unwrap()]).output().code(1).says("No such file or directory");
    c.leaves_nothing();
}

#[test]
fn foreground_run_has_the_callers_terminal() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["process"]["terminal"] = json!(true));
    c.args(&["/probe", "report", ",", "sleep"]);
    let (mut pty, side) = Pty::open(41, 122);
    let run = c.launch("run", &[]).terminal(side).spawn();
    let text = pty.until("READY").to_owned();
    let report: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(report["tty"]["stdio"], json!([true, true, true]));
    pty.resize(20, 61);
    pty.until("SIZE 20 61");
    c.kill("USR2");
    run.wait().code(0);
    c.leaves_nothing();
}

#[test]
fn foreground_run_starts_with_the_callers_size() {
    let t = behaviour!(Need::CrunDiffers("terminal-size"));
    let c = t.container();
    c.edit(|s| s["process"]["terminal"] = json!(true));
    let (mut pty, side) = Pty::open(41, 122);
    let run = c.launch("run", &[]).terminal(side).spawn();
    pty.until("\"umask\"");
    run.wait().code(0);
    let report: serde_json::Value = serde_json::from_str(pty.rest().lines().next().unwrap()).unwrap();
    assert_eq!(report["tty"]["size"], json!([41, 122]));
}

#[test]
fn foreground_output_has_plain_newlines() {
    let t = behaviour!(Need::CrunDiffers("terminal-newlines"));
    let c = t.container();
    c.edit(|s| s["process"]["terminal"] = json!(true));
    c.args(&["/probe", "out", "one", ",", "out", "two"]);
    let out = c.launch("run", &[]).ok();
    assert_eq!(out.stdout(), "one\ntwo\n", "{out}");
}

#[test]
fn terminal_works_without_one_on_stdin() {
    let t = behaviour!(Need::CrunDiffers("terminal-without-terminal"));
    let c = t.container();
    c.edit(|s| s["process"]["terminal"] = json!(true));
    c.args(&["/probe", "report"]);
    let r = c.report();
    assert_eq!(r["tty"]["stdio"], json!([true, true, true]));
}

#[test]
fn exec_with_a_terminal() {
    let t = behaviour!(Need::CrunDiffers("exec-terminal-as-error"));
    let c = t.container();
    c.sleeping();
    let (mut pty, side) = Pty::open(25, 81);
    let exec = c.call("exec").arg("--tty").arg(&c.id).args(&["/probe", "report", ",", "exit", "8"]).terminal(side).spawn();
    pty.until("\"umask\"");
    exec.wait().code(8);
    let text = pty.rest().to_owned();
    let report: serde_json::Value = serde_json::from_str(text.lines().next_back().unwrap()).unwrap_or_else(|e| panic!("{e}: {text:?}"));
    assert_eq!(report["tty"]["stdio"], json!([true, true, true]));
    assert_eq!(report["tty"]["controlling"], true);
}

#[test]
fn exec_with_a_console_socket() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    let socket = ConsoleSocket::listen(t.dir());
    let mut call = c.call("exec");
    call.args(&["--tty", "--detach", "--console-socket", socket.path.to_str().unwrap()]).arg(&c.id).args(&["/probe", "ready"]);
    let running = call.spawn();
    let (mut pty, _) = socket.receive();
    running.wait().code(0);
    pty.until("READY");
}

#[test]
fn without_a_terminal_there_is_none() {
    let t = behaviour!();
    let r = t.container().report();
    assert_eq!(r["tty"]["stdio"], json!([false, false, false]));
    assert_eq!(r["tty"]["controlling"], false);
    assert!(r["dev"].get("/dev/console").is_none());
}
