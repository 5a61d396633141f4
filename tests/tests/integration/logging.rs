//! `--log`, `--log-format`, `--log-level`, `--debug`: where messages go and how they look.

use std::fs;
use std::path::PathBuf;

use harness::{Container, Test, behaviour, log_records, one_error_record, pinnace_only};

/// A container that can't start, and a file for its log.
fn failing<'t>(t: &'t Test, options: &[&str]) -> (Container<'t>, PathBuf) {
    let c = t.container();
    let file = t.dir().join("log");
    c.args(&["/nothing"]).global(&["--log", file.to_str().unwrap()]).global(options);
    (c, file)
}

const TEXT: &str = "executable file `/nothing` not found";

#[test]
fn error_goes_to_stderr_by_default() {
    let t = behaviour!();
    let c = t.container();
    let out = c.args(&["/nothing"]).run().fails_with(&[TEXT, ": No such file or directory"]);
    assert!(out.stderr().ends_with(": No such file or directory\n"), "{out}");
    assert_eq!(out.stdout(), "");
}

#[test]
fn text_file_has_no_time_and_stderr_gets_it_too() {
    let t = behaviour!();
    for prefix in ["", "file:"] {
        let c = t.container();
        let file = t.dir().join("log-text");
        let _ = fs::remove_file(&file);
        let target = format!("{prefix}{}", file.display());
        c.args(&["/nothing"]).global(&["--log", &target]);
        let out = c.run().fails_with(&[TEXT]);
        let logged = fs::read_to_string(&file).unwrap();
        assert_eq!(logged, out.stderr());
    }
}

#[test]
fn json_file_has_exactly_one_record() {
    let t = behaviour!();
    let (c, file) = failing(&t, &["--log-format", "json"]);
    c.run().fails_with(&[TEXT]);
    let all = log_records(&file);
    assert_eq!(all.len(), 1, "{all:?}");
    let record = all[0].as_object().unwrap();
    assert_eq!(record["level"], "error");
    let message = record["msg"].as_str().unwrap();
    assert!(message.contains(TEXT) && message.ends_with(": No such file or directory"), "{message}");
    let time = record["time"].as_str().unwrap();
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{time}");
    assert_eq!(record.len(), 3, "{record:?}");
}

#[test]
fn stderr_stays_text_beside_a_json_file() {
    let t = behaviour!();
    let (c, _) = failing(&t, &["--log-format=json"]);
    let out = c.run().fails_with(&[TEXT]);
    assert!(!out.stderr().contains("\"msg\""), "{out}");
}

#[test]
fn json_escapes_what_it_must() {
    let t = behaviour!();
    let (c, file) = failing(&t, &["--log-format", "json"]);
    let strange = "/no \"such\"\tfile\\ \u{1} ünï";
    c.args(&[strange]).run().code(1);
    let all = log_records(&file);
    assert_eq!(all.len(), 1);
    assert!(all[0]["msg"].as_str().unwrap().contains(strange), "{all:?}");
}

#[test]
fn a_log_file_grows() {
    let t = behaviour!();
    let (c, file) = failing(&t, &["--log-format", "json"]);
    c.run().code(1);
    c.run().code(1);
    assert_eq!(log_records(&file).len(), 2);
}

#[test]
fn success_logs_nothing() {
    let t = behaviour!();
    let (c, file) = failing(&t, &["--log-format", "json"]);
    c.args(&["/probe", "exit", "0"]).run().code(0);
    assert_eq!(fs::read_to_string(&file).unwrap_or_default(), "");
}

#[test]
fn debug_says_more_and_changes_nothing() {
    let t = behaviour!();
    let (c, file) = failing(&t, &["--log-format", "json", "--debug"]);
    c.args(&["/probe", "exit", "3"]).run().code(3);
    for record in log_records(&file) {
        assert_ne!(record["level"], "error", "{record}");
    }
}

#[test]
fn log_level_debug_is_debug() {
    let t = pinnace_only!();
    for options in [&["--debug"][..], &["--log-level", "debug"], &["--log-level=debug"]] {
        let (c, file) = failing(&t, &["--log-format", "json"]);
        let _ = fs::remove_file(&file);
        c.global(options).args(&["/probe", "exit", "0"]).run().code(0);
        let all = log_records(&file);
        assert!(all.iter().any(|r| r["level"] == "debug"), "{options:?}: {all:?}");
    }
}

#[test]
fn unknown_words_are_named() {
    let t = behaviour!();
    let c = t.container();
    let table = [(["--log-format", "xml"], "unknown log format type `xml`"), (["--log", "nonsense:x"], "unknown log type `nonsense")];
    for (options, text) in table {
        let mut call = t.bare();
        call.args(&options).arg("--root").arg(t.root()).arg("state").arg(&c.id).output().failed().says(text);
    }
}

#[test]
fn unknown_level_is_refused() {
    let t = behaviour!();
    t.runtime().args(&["--log-level", "loud", "list"]).output().failed().says("loud");
}

#[test]
fn a_log_file_that_cannot_be_opened_is_named() {
    let t = behaviour!();
    t.runtime().args(&["--log", "/no/such/dir/log", "list"]).output().failed().says("/no/such/dir/log");
}

#[test]
fn errors_of_every_command_are_logged_once() {
    let t = behaviour!();
    for command in ["state", "start", "delete", "kill", "ps"] {
        let c = t.container();
        let file = t.dir().join(format!("log-{command}"));
        c.global(&["--log", file.to_str().unwrap(), "--log-format", "json"]);
        c.do_(command).failed();
        one_error_record(&file);
    }
}
