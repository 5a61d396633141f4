//! The times of a start's phases (`PINNACE_PROFILE`). Not here: how they are laid out (unit tests of the cli).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use harness::{Container, Value, pinnace_only};

/// A command with the variable set to `file`.
fn profiled(c: &Container<'_>, command: &str, options: &[&str], file: &Path) -> harness::Output {
    let variable = format!("PINNACE_PROFILE={}", file.display());
    c.launch(command, options).under(&["env", &variable]).output()
}

#[test]
fn a_run_tells_of_the_runtimes_and_of_the_containers_phases() {
    let t = pinnace_only!();
    let c = t.container();
    c.args(&["/probe", "exit", "3"]);
    let file = t.dir().join("profile");
    fs::write(&file, "something longer than what comes ".repeat(1000)).unwrap();
    profiled(&c, "run", &[], &file).code(3);
    let text = fs::read_to_string(&file).unwrap();
    for wanted in ["runtime   plan\n", "runtime   wait for its end\n", "container sethostname\n", "container mount `proc` to `/proc`\n"] {
        assert!(text.contains(wanted), "{wanted:?} is missing:\n{text}");
    }
    assert!(text.starts_with("  START/us") && text.lines().all(|line| line.split_whitespace().count() >= 4), "{text}");
}

#[test]
fn a_trace_is_json_whatever_became_of_the_start() {
    let t = pinnace_only!();
    let c = t.container();
    c.args(&["/nonexistent"]);
    let file = t.dir().join("profile.json");
    profiled(&c, "run", &[], &file).code(1);
    let trace: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let threads: BTreeSet<_> = events.iter().filter(|e| e["ph"] == "X").map(|e| e["tid"].as_i64().unwrap()).collect();
    assert_eq!(threads, BTreeSet::from([1, 2]), "{trace}");
    assert!(events.iter().all(|e| e["ph"] != "X" || e["dur"].as_f64().unwrap() >= 0.0), "{trace}");
}

#[test]
fn a_file_that_cannot_be_written_is_told_and_no_failure() {
    let t = pinnace_only!();
    let c = t.container();
    c.args(&["/probe", "exit", "0"]);
    let link = t.dir().join("link");
    std::os::unix::fs::symlink(t.dir().join("elsewhere"), &link).unwrap();
    for file in [t.dir().join("no/such/place"), link] {
        let out = profiled(&c, "run", &[], &file).code(0);
        assert!(out.stderr().contains(&format!("PINNACE_PROFILE: write `{}`", file.display())), "{out}");
    }
    assert!(!t.dir().join("elsewhere").exists());
}
