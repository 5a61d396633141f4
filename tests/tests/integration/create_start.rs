//! `create` and `start`: the states between, the gate, and ends that come too early. Hooks are in `hooks`.

use std::fs;

use harness::{behaviour, eventually, json};

#[test]
fn created_waits_for_start() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "ready", ",", "sleep"]);
    let out = c.create();
    let state = c.state();
    assert_eq!(state["status"], "created");
    assert!(state["pid"].as_i64().unwrap() > 0);
    assert_eq!(out.stdout(), "");
    c.start();
    out.until("READY");
    assert_eq!(c.state()["status"], "running");
    assert_eq!(c.state()["pid"], state["pid"]);
}

#[test]
fn start_works_once() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "sleep"]);
    c.create();
    c.start();
    c.do_("start").code(1);
    assert_eq!(c.status(), "running");
}

#[test]
fn start_of_an_unknown_container_fails() {
    let t = behaviour!();
    let c = t.container();
    c.do_("start").fails_with(&[&c.id, "No such file or directory"]);
}

#[test]
fn start_of_a_stopped_container_fails() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "exit", "0"]);
    c.create();
    c.start();
    c.until_status("stopped");
    c.do_("start").code(1);
}

#[test]
fn an_existing_id_is_refused() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "sleep"]);
    c.create();
    let pid = c.pid();
    c.launch("create", &[]).output().fails_with(&["already exists", &c.id]);
    c.launch("run", &[]).output().fails_with(&["already exists"]);
    assert_eq!((c.status(), c.pid()), ("created".into(), pid));
}

#[test]
fn a_created_container_can_be_killed_and_deleted() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "sleep"]);
    c.create();
    c.kill("KILL");
    c.until_status("stopped");
    c.do_("delete").code(0);
    c.leaves_nothing();
}

#[test]
fn create_writes_the_pid_file() {
    let t = behaviour!();
    let c = t.container();
    let file = t.dir().join("pid");
    c.args(&["/probe", "sleep"]);
    c.launch("create", &["--pid-file", file.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(file).unwrap(), c.pid().to_string());
}

#[test]
fn create_reports_a_missing_command_itself() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/nothing"]);
    c.launch("create", &[]).output().fails_with(&["executable file `/nothing` not found", "No such file or directory"]);
    c.leaves_nothing();
}

#[test]
fn config_changes_after_create_do_not_matter() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "out", "as created"]);
    let out = c.create();
    c.args(&["/probe", "out", "changed"]).write();
    c.start();
    out.until("\n");
    assert_eq!(out.stdout(), "as created\n");
}

#[test]
fn keeps_a_verbatim_copy_of_the_configuration() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "sleep"]);
    c.edit(|s| s["unknown-to-any-runtime"] = json!({ "kept": [1, 2] }));
    c.create();
    let (kept, given) = (c.state_dir().join("config.json"), c.bundle.join("config.json"));
    assert_eq!(fs::read(kept).unwrap(), fs::read(given).unwrap());
}

#[test]
fn exit_of_a_started_container_shows_in_state() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "exit", "1"]);
    c.create();
    c.start();
    c.until_status("stopped");
    assert_eq!(c.state()["pid"], 0);
    c.do_("delete").code(0);
    c.leaves_nothing();
}

#[test]
fn created_container_shows_no_process_of_the_runtime_in_ps() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "children", "3", ",", "sleep"]);
    let out = c.create();
    c.start();
    out.until("READY");
    let pids = c.call("ps").args(&["--format", "json"]).arg(&c.id).ok().json();
    assert_eq!(pids.as_array().unwrap().len(), 4, "{pids}");
}

#[test]
fn terminal_needs_a_console_socket() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["process"]["terminal"] = json!(true));
    c.launch("create", &[]).output().fails_with(&["use --console-socket with create when a terminal is used"]);
    c.leaves_nothing();
}

#[test]
fn waiting_process_survives_the_end_of_create() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "sleep"]);
    c.create();
    let pid = c.pid();
    eventually("the waiting process to be the container's own child of init", || {
        fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|s| s.contains("State:\tS"))
    });
    assert_eq!(c.status(), "created");
}
