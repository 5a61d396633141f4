//! What `state`, `list` and `ps` print, to the byte where engines parse it.

use std::fs;

use harness::{Need, Test, Value, behaviour, json};

/// `2026-09-01T10:11:12.123456Z`, whose digits are written as 0 in the pattern.
fn is_time(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000000Z"
}

fn list(t: &Test, options: &[&str]) -> String {
    t.runtime().arg("list").args(options).ok().stdout()
}

#[test]
fn state_has_what_engines_read() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["annotations"] = json!({ "org.example.key": "value", "a": "b" }));
    c.sleeping();
    let text = c.do_("state").code(0).stdout();
    assert!(text.starts_with("{\n ") && text.trim_start_matches("{\n").trim_start().starts_with("\"ociVersion\": \"1."), "{text}");
    assert!(text.trim_end().ends_with('}'), "{text}");
    let state = c.state();
    assert_eq!(state["id"], json!(c.id));
    assert_eq!(state["status"], "running");
    assert_eq!(state["bundle"], json!(c.bundle));
    assert!(state["rootfs"].as_str().unwrap().ends_with("rootfs"), "{state}");
    assert_eq!(state["annotations"], json!({ "org.example.key": "value", "a": "b" }));
    assert!(is_time(state["created"].as_str().unwrap()), "{state}");
    let pid = state["pid"].as_i64().unwrap();
    assert!(fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().starts_with("/probe\0sleep"));
}

#[test]
fn state_takes_a_bundle_given_by_a_relative_path() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "sleep"]).write();
    let relative = c.bundle.file_name().unwrap();
    c.call("create").arg("--bundle").arg(relative).arg(&c.id).cwd(t.dir()).ok();
    assert_eq!(c.state()["bundle"], json!(c.bundle));
}

#[test]
fn state_of_an_unknown_container_fails() {
    let t = behaviour!(Need::CrunDiffersBefore(28, "does-not-exist"));
    let c = t.container();
    let text = format!("container `{}` does not exist", c.id);
    for command in ["state", "start", "ps", "kill"] {
        c.do_(command).fails_with(&[&text, "No such file or directory"]);
    }
    c.do_("delete").fails_with(&[&c.id, "No such file or directory"]);
}

#[test]
fn list_of_nothing() {
    let t = behaviour!();
    assert_eq!(list(&t, &["--quiet"]), "");
    let table = list(&t, &[]);
    assert_eq!(table.split_whitespace().collect::<Vec<_>>(), ["NAME", "PID", "STATUS", "BUNDLE", "PATH", "CREATED", "OWNER"]);
    assert_eq!(table.lines().count(), 1);
    let json: Value = serde_json::from_str(&list(&t, &["--format", "json"])).unwrap();
    assert_eq!(json, json!([]));
}

#[test]
fn list_shows_each_container() {
    let t = behaviour!();
    let (running, created, stopped) = (t.container(), t.container(), t.container());
    running.sleeping();
    created.args(&["/probe", "sleep"]).create();
    stopped.args(&["/probe", "exit", "0"]);
    stopped.launch("run", &["--keep"]).ok();
    let mut ids = [&*running.id, &created.id, &stopped.id];
    ids.sort_unstable();
    let quiet = list(&t, &["-q"]);
    let mut shown: Vec<&str> = quiet.lines().collect();
    shown.sort_unstable();
    assert_eq!(shown, ids);

    let entries: Value = serde_json::from_str(&list(&t, &["-f", "json"])).unwrap();
    for (c, status) in [(&running, "running"), (&created, "created"), (&stopped, "stopped")] {
        let entry = entries.as_array().unwrap().iter().find(|e| e["id"] == json!(c.id)).unwrap();
        assert_eq!(entry["status"], status, "{entry}");
        assert_eq!(entry["bundle"], json!(c.bundle));
        assert_eq!(entry["pid"], c.state()["pid"]);
        assert!(is_time(entry["created"].as_str().unwrap()), "{entry}");
    }
}

#[test]
fn list_table_has_fixed_columns() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    let table = list(&t, &[]);
    let state = c.state();
    let (pid, created) = (state["pid"].to_string(), state["created"].as_str().unwrap().to_owned());
    let owner = state["owner"].as_str().unwrap();
    let me = std::process::Command::new("id").arg("-un").output().unwrap();
    assert_eq!(owner, String::from_utf8_lossy(&me.stdout).trim());
    let width = c.id.len() + 1;
    let head = format!("{:<width$}{:<10}{:<8} {:<39} {:<30} OWNER", "NAME", "PID", "STATUS", "BUNDLE PATH", "CREATED");
    let line = format!("{:<width$}{:<10}{:<8} {:<39} {:<30} {owner}", c.id, pid, "running", c.bundle.display(), created);
    assert_eq!(table.lines().collect::<Vec<_>>(), [head, line]);
}

#[test]
fn list_passes_over_what_is_no_container() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    fs::create_dir(t.root().join("half-made")).unwrap();
    let quiet = list(&t, &["-q"]);
    assert!(quiet.lines().any(|l| l == c.id), "{quiet}");
}

#[test]
fn ps_prints_the_pids() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "children", "2", ",", "sleep"]);
    c.launch("run", &["--detach"]).ok().until("READY");
    let table = c.do_("ps").code(0).stdout();
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("PID"));
    let mut pids: Vec<i64> = lines.map(|l| l.parse().unwrap()).collect();
    pids.sort_unstable();
    assert_eq!(pids.len(), 3);
    assert!(pids.contains(&i64::from(c.pid())));
    let text = c.call("ps").args(&["-f", "json"]).arg(&c.id).ok().stdout();
    assert!(text.starts_with("[\n  ") && text.ends_with("\n]\n"), "{text:?}");
    let mut of_json: Vec<i64> = serde_json::from_str(&text).unwrap();
    of_json.sort_unstable();
    assert_eq!(of_json, pids);
}

#[test]
fn state_survives_strange_process_names() {
    let t = behaviour!();
    let c = t.container();
    // The kernel shows the name in /proc/PID/stat as `(a) Z (b)`.
    let strange = c.rootfs().join("a) Z (b");
    harness::executable::copy(&c.rootfs().join("probe"), &strange);
    c.args(&["/a) Z (b", "sleep"]);
    c.launch("run", &["--detach"]).ok().until("READY");
    assert_eq!(c.status(), "running");
}
