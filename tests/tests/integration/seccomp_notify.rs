//! Seccomp filters whose notifications somebody answers: who gets the descriptor, and what is said to them. Not here: other actions
//! (`seccomp`).

use std::os::fd::OwnedFd;

use harness::listener::Listener;
use harness::{ConsoleSocket, Container, Need, Running, Test, Value, behaviour, json};

/// A number that getppid(2) never gives.
const ANSWER: i64 = 7_777_777;

/// A filter that asks about getppid, which the probe then calls.
fn asks(c: &Container<'_>, extra: Value) {
    let mut section = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["getppid"], "action": "SCMP_ACT_NOTIFY" }],
    });
    section.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    c.edit(|s| s["linux"]["seccomp"] = section);
    c.args(&["/probe", "syscall", "getppid"]);
}

/// Answers all questions with the same number as long as there is somebody to ask them.
fn answer(fd: OwnedFd) {
    let listener = Listener(fd);
    std::thread::spawn(move || {
        while let Some((id, number)) = listener.next() {
            assert_eq!(i64::from(number), nix::libc::SYS_getppid);
            listener.answer(id, ANSWER);
        }
    });
}

/// Answers all questions of the process until it says what it got; the document that came with the descriptor.
fn serve(socket: &ConsoleSocket, run: &mut Running) -> Value {
    let (fd, document) = socket.receive_fd();
    answer(fd);
    run.until("errno");
    serde_json::from_slice(&document).unwrap()
}

fn result(run: Running) -> Value {
    let out = run.wait();
    assert_eq!(out.status(), 0, "{out}");
    out.json()["result"].clone()
}

/// A container that runs with a filter that asks, the socket of who answers, and the notify descriptor.
fn running(t: &Test) -> (Container<'_>, ConsoleSocket, OwnedFd) {
    let (socket, path) = listen(t);
    let c = t.container();
    asks(&c, json!({ "listenerPath": path }));
    c.args(&["/probe", "pause"]);
    let run = c.launch("run", &["--detach"]).spawn();
    let (first, _) = socket.receive_fd();
    assert_eq!(run.wait().status(), 0);
    (c, socket, first)
}

fn listen(t: &Test) -> (ConsoleSocket, Value) {
    let socket = ConsoleSocket::listen(t.dir());
    let path = json!(socket.path);
    (socket, path)
}

#[test]
fn the_listener_answers() {
    let t = behaviour!();
    for privileges in [true, false] {
        let (socket, path) = listen(&t);
        let c = t.container();
        asks(&c, json!({ "listenerPath": path, "listenerMetadata": "some words" }));
        c.edit(|s| {
            s["process"]["noNewPrivileges"] = json!(privileges);
            s["annotations"] = json!({ "a": "b" });
        });
        let mut run = c.launch("run", &[]).spawn();
        let document = serve(&socket, &mut run);
        assert_eq!(result(run), ANSWER);
        assert_eq!(document["ociVersion"], "0.2.0");
        assert_eq!(document["fds"], json!(["seccompFd"]));
        assert_eq!(document["metadata"], "some words");
        let state = &document["state"];
        assert_eq!((&state["id"], &state["status"]), (&json!(c.id), &json!("creating")));
        assert_eq!(state["annotations"]["a"], "b");
        assert!(document["pid"].as_i64().unwrap() > 0);
        c.leaves_nothing();
        std::fs::remove_file(&socket.path).unwrap();
    }
}

#[test]
fn create_hands_it_over_too() {
    created(&behaviour!(), false);
}

#[test]
fn create_hands_it_over_with_no_new_privileges() {
    created(&behaviour!(Need::CrunDiffers("seccomp-listener-at-create")), true);
}

fn created(t: &Test, no_new_privileges: bool) {
    let (socket, path) = listen(t);
    let c = t.container();
    asks(&c, json!({ "listenerPath": path }));
    c.edit(|s| s["process"]["noNewPrivileges"] = json!(no_new_privileges));
    let create = c.launch("create", &[]).spawn();
    let (fd, document) = socket.receive_fd();
    let created = create.wait().code(0);
    let document: Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(document["pid"], c.pid());
    answer(fd);
    c.start().code(0);
    created.until("errno");
    assert_eq!(created.json()["result"], ANSWER);
}

#[test]
fn exec_has_one_of_its_own() {
    let t = behaviour!(Need::Root);
    let (c, socket, _first) = running(&t);
    let mut exec = c.call("exec").args(&[&c.id, "/probe", "syscall", "getppid"]).spawn();
    let document = serve(&socket, &mut exec);
    assert_eq!(result(exec), ANSWER);
    assert_eq!(document["state"]["status"], "running");
    assert_ne!(document["pid"], c.pid());
    if t.runtime.kind == harness::Kind::Pinnace {
        assert_eq!(document["state"]["pid"], c.pid());
    }
}

#[test]
fn receivers_by_annotation_and_environment() {
    let t = behaviour!();
    let (socket, path) = listen(&t);
    let c = t.container();
    asks(&c, json!({}));
    let mut run = c.launch("run", &[]).env("RUN_OCI_SECCOMP_RECEIVER", &socket.path).spawn();
    serve(&socket, &mut run);
    assert_eq!(result(run), ANSWER);
    c.edit(|s| s["annotations"] = json!({ "run.oci.seccomp.receiver": path }));
    let mut run = c.launch("run", &[]).env("RUN_OCI_SECCOMP_RECEIVER", "/nonexistent").spawn();
    serve(&socket, &mut run);
    assert_eq!(result(run), ANSWER);
}

#[test]
fn a_filter_that_blocks_sending_is_no_obstacle() {
    let t = behaviour!();
    let (socket, path) = listen(&t);
    let c = t.container();
    asks(&c, json!({ "listenerPath": path }));
    c.edit(|s| {
        let rules = s["linux"]["seccomp"]["syscalls"].as_array_mut().unwrap();
        rules.push(json!({ "names": ["sendmsg"], "action": "SCMP_ACT_ERRNO" }));
    });
    let mut run = c.launch("run", &[]).spawn();
    serve(&socket, &mut run);
    assert_eq!(result(run), ANSWER);
}

#[test]
fn of_an_unprivileged_user() {
    let t = behaviour!(Need::Rootless).as_user(54_321);
    let (socket, path) = listen(&t);
    let c = t.container();
    asks(&c, json!({ "listenerPath": path }));
    let mut run = c.launch("run", &[]).spawn();
    serve(&socket, &mut run);
    assert_eq!(result(run), ANSWER);
}

#[test]
fn a_listener_that_is_not_there_stops_the_start() {
    let t = behaviour!();
    let c = t.container();
    let nobody = t.dir().join("nobody");
    asks(&c, json!({ "listenerPath": nobody }));
    c.refused(&["nobody", "No such file or directory"]);
}

#[test]
fn a_listener_must_be_named() {
    let t = behaviour!(Need::CrunDiffers("errors-name-the-field"));
    let c = t.container();
    asks(&c, json!({}));
    c.refused(&["seccomp", "listenerPath"]);
    asks(&c, json!({ "listenerPath": "relative" }));
    c.refused(&["the seccomp receiver `relative` is not an absolute path"]);
}

#[test]
fn a_user_without_rights_over_the_container_gets_none_of_exec() {
    let t = behaviour!(Need::Rootless, Need::CrunDiffers("seccomp-listener-exec")).as_user(54_321);
    let (c, _socket, _first) = running(&t);
    c.exec(&[], &["/probe", "exit", "0"]).fails_with(&["take the seccomp notify descriptor", "Operation not permitted"]);
    assert_eq!(c.status(), "running");
}
