//! `kill` and `delete`: signals by name and number, all processes, regular expressions, states that refuse.

use harness::{Container, Need, Test, behaviour, eventually};

/// Waits for the signals that the sleeping probe prints.
fn printed(out: &harness::Output, numbers: &[i32]) {
    for number in numbers {
        out.until(&format!("SIGNAL {number}\n"));
    }
}

#[test]
fn signals_by_name_and_number() {
    let t = behaviour!();
    let c = t.container();
    let out = c.sleeping();
    for (word, number) in [("HUP", 1), ("SIGINT", 2), ("10", 10), ("SIGWINCH", 28), ("WINCH", 28), ("RTMIN+1", 35), ("SIGRTMAX", 64)] {
        c.kill(word);
        printed(&out, &[number]);
    }
    assert_eq!(c.status(), "running");
}

#[test]
fn terminates_by_default() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    c.do_("kill").code(0);
    c.until_status("stopped");
}

#[test]
fn unknown_signal_is_named() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    for word in ["NOSUCH", "SIGNOSUCH", "RTMIN+99"] {
        c.call("kill").arg(&c.id).arg(word).output().code(1).says(&format!("unknown signal `{word}`"));
    }
    assert_eq!(c.status(), "running");
}

#[test]
fn signal_numbers_out_of_range_are_refused() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    for word in ["65", "9999"] {
        c.call("kill").arg(&c.id).arg(word).output().code(1);
    }
    assert_eq!(c.status(), "running");
}

#[test]
fn signal_numbers_are_numbers_to_the_end() {
    let t = behaviour!(Need::CrunDiffers("signal-numbers"));
    let c = t.container();
    c.sleeping();
    c.call("kill").arg(&c.id).arg("9x").output().fails_with(&["unknown signal `9x`"]);
    assert_eq!(c.status(), "running");
}

#[test]
fn a_stopped_container_cannot_be_killed() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    c.kill("KILL");
    c.until_status("stopped");
    let out = c.do_("kill").code(1);
    assert!(out.stderr().to_lowercase().contains("no such process"), "{out}");
}

#[test]
fn a_dead_container_is_told_in_every_engines_words() {
    let t = behaviour!(Need::CrunDiffers("kill-text"));
    let c = t.container();
    c.sleeping();
    c.kill("KILL");
    c.until_status("stopped");
    c.do_("kill").fails_with(&["container not running", "no such process"]);
}

#[test]
fn all_reaches_every_process() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    // In the host's pid namespace the end of the first process ends no other.
    c.namespace("pid", None).args(&["/probe", "children", "3", ",", "sleep"]);
    c.launch("run", &["--detach"]).ok().until("READY");
    c.call("kill").args(&["--all"]).arg(&c.id).arg("KILL").ok();
    c.until_status("stopped");
    eventually("the children to end", || c.left().iter().all(|l| !l.starts_with("process")));
    c.do_("delete").code(0);
    c.leaves_nothing();
}

#[test]
fn force_ends_every_process_in_the_hosts_pid_namespace() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    c.namespace("pid", None).args(&["/probe", "children", "3", ",", "sleep", "stubborn"]);
    c.launch("run", &["--detach"]).ok().until("READY");
    c.call("delete").arg("--force").arg(&c.id).ok();
    c.leaves_nothing();
}

#[test]
fn foreground_run_in_the_hosts_pid_namespace_ends_the_rest() {
    let t = behaviour!(Need::CrunDiffers("run-host-pid-namespace"), Need::Root);
    let c = t.container();
    c.namespace("pid", None).args(&["/probe", "children", "3", ",", "exit", "6"]);
    c.run().code(6);
    c.leaves_nothing();
}

/// Two sleeping containers, found by an expression on the number that ends their ids.
fn pair(t: &Test) -> (Container<'_>, Container<'_>, String) {
    let (a, b) = (t.container(), t.container());
    a.sleeping();
    b.sleeping();
    let expression = format!("^({}|{})$", a.id, b.id);
    (a, b, expression)
}

#[test]
fn kill_by_regular_expression() {
    let t = behaviour!();
    let (a, b, expression) = pair(&t);
    t.runtime().args(&["kill", "--regex"]).arg(&expression).arg("KILL").ok();
    a.until_status("stopped");
    b.until_status("stopped");
}

#[test]
fn delete_by_regular_expression() {
    let t = behaviour!();
    let (a, b, expression) = pair(&t);
    t.runtime().args(&["delete", "--force", "--regex"]).arg(&expression).ok();
    a.leaves_nothing();
    b.leaves_nothing();
    // What matches nothing is no failure.
    t.runtime().args(&["delete", "--force", "--regex", "^nothing-matches$"]).ok();
}

#[test]
fn invalid_regular_expression_is_named() {
    let t = behaviour!(Need::CrunDiffers("regex-errors"));
    t.runtime().args(&["delete", "--regex", "(["]).output().fails_with(&["invalid regular expression", "(["]);
    t.runtime().args(&["kill", "--regex", "([", "KILL"]).output().fails_with(&["invalid regular expression", "(["]);
}

#[test]
fn a_running_container_is_not_deleted_without_force() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    c.do_("delete").fails_with(&[&c.id, "is not in `created` or `stopped` state"]);
    assert_eq!(c.status(), "running");
    c.call("delete").arg("-f").arg(&c.id).ok();
    c.leaves_nothing();
}

#[test]
fn a_created_container_is_deleted() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "sleep"]).create();
    c.do_("delete").code(0);
    c.leaves_nothing();
}

#[test]
fn force_of_an_unknown_container_is_no_failure() {
    let t = behaviour!();
    let c = t.container();
    c.call("delete").arg("--force").arg(&c.id).output().code(0);
}

#[test]
fn delete_is_done_once() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "exit", "0"]);
    c.launch("run", &["--keep"]).ok();
    c.do_("delete").code(0);
    c.do_("delete").fails_with(&[&c.id, "No such file or directory"]);
}

#[test]
fn a_state_that_is_half_written_can_be_forced_away() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    c.call("delete").arg("--force").arg(&c.id).ok();
    std::fs::create_dir_all(c.state_dir()).unwrap();
    c.call("delete").arg("--force").arg(&c.id).ok();
    assert!(!c.state_dir().exists());
}

#[test]
fn ids_that_are_paths_are_refused() {
    let t = behaviour!(Need::CrunDiffersBefore(28, "id-paths"));
    let keep = t.dir().join("keep");
    std::fs::create_dir_all(&keep).unwrap();
    std::fs::create_dir_all(t.root()).unwrap();
    for id in ["../keep", "..", "/", "a/../../keep"] {
        t.runtime().args(&["delete", "--force"]).arg(id).output();
        assert!(keep.is_dir(), "{id}");
    }
}
