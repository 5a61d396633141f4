//! A foreground `run` and the signals it gets.

use harness::{Need, behaviour};

#[test]
fn forwards_signals_to_the_container() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "sleep"]);
    let mut run = c.spawn();
    run.until("READY");
    for number in [1, 2, 3, 10, 23] {
        run.signal(number);
        run.until(&format!("SIGNAL {number}\n"));
    }
    run.signal(12);
    run.wait().code(0);
    c.leaves_nothing();
}

#[test]
fn forwards_the_request_to_end() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "sleep"]);
    let mut run = c.spawn();
    run.until("READY");
    run.signal(15);
    run.wait().code(143);
    c.leaves_nothing();
}

#[test]
fn forwards_to_exec_too() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    let mut exec = c.call("exec").arg(&c.id).args(&["/probe", "sleep"]).spawn();
    exec.until("READY");
    exec.signal(1);
    exec.until("SIGNAL 1\n");
    exec.signal(15);
    exec.wait().code(143);
    assert_eq!(c.status(), "running");
}

#[test]
fn a_signal_during_the_start_ends_the_run_or_reaches_the_container() {
    let t = behaviour!(Need::CrunDiffersBefore(28, "signal-during-start"));
    for _ in 0..8 {
        let c = t.container();
        // The first process of a pid namespace of its own loses a signal that comes before it has a handler (pid_namespaces(7)); no
        // runtime can help that.
        c.namespace("pid", None).args(&["/probe", "sleep"]);
        let run = c.spawn();
        run.signal(15);
        let out = run.wait();
        assert!([143, -15, 1].contains(&out.status()), "{out}");
        // A runtime that the signal ended before it could forward it may leave the rest to `delete --force`.
        if c.state_dir().exists() {
            c.call("delete").arg("--force").arg(&c.id).ok();
        }
        harness::clear_up(&c.id);
    }
}
