//! What hooks write: nowhere, to files, and into the message about a failure. Not here: everything else about hooks (`hooks`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use harness::{Container, Need, Test, Value, behaviour, json};

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook of `kind` that takes these actions of the probe.
fn hook(c: &Container<'_>, kind: &str, actions: &[&str]) -> Value {
    let path = if kind == "startContainer" { PathBuf::from("/probe") } else { c.rootfs().join("probe") };
    let args = [&["probe"], actions].concat();
    json!({ "path": path, "args": args })
}

/// A hook of each kind that writes its kind to both streams.
fn all(c: &Container<'_>) {
    c.edit(|s| {
        for kind in KINDS {
            s["hooks"][kind] = json!([hook(c, kind, &["out", "o-", kind, ",", "err", "e-", kind])]);
        }
    });
}

fn expected(prefix: &str) -> Vec<String> {
    let mut lines: Vec<_> = KINDS.iter().map(|kind| format!("{prefix}- {kind}")).collect();
    lines.sort();
    lines
}

/// The lines of a file. Hooks after the start run beside those at the start.
fn sorted(path: &Path) -> Vec<String> {
    let mut lines: Vec<_> = fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Annotations with files that are there no more than their directory.
fn files(t: &Test, c: &Container<'_>) -> (PathBuf, PathBuf) {
    let (out, err) = (t.dir().join("hooks.out"), t.dir().join("hooks.err"));
    c.edit(|s| s["annotations"] = json!({ "run.oci.hooks.stdout": out, "run.oci.hooks.stderr": err }));
    (out, err)
}

#[test]
fn goes_nowhere_by_default() {
    let t = behaviour!();
    let c = t.container();
    all(&c);
    c.args(&["/probe", "exit", "0"]);
    let out = c.run().code(0);
    assert_eq!((out.stdout(), out.stderr()), (String::new(), String::new()));
}

#[test]
fn goes_to_files_through_create_start_and_delete() {
    let t = behaviour!(Need::CrunDiffers("hook-output"));
    let c = t.container();
    let (out, err) = files(&t, &c);
    fs::write(&out, "before\n").unwrap();
    all(&c);
    c.args(&["/probe", "sleep"]);
    let created = c.create();
    c.start();
    created.until("READY");
    let open = fs::read_dir(format!("/proc/{}/fd", c.pid())).unwrap().count();
    assert_eq!(open, 3, "the files are the hooks', and not for the process that comes after them");
    c.do_("delete").failed();
    c.kill("KILL").code(0);
    c.until_status("stopped");
    c.do_("delete").code(0);
    let mut lines = sorted(&out);
    assert_eq!(lines.remove(0), "before");
    assert_eq!(lines, expected("o"));
    assert_eq!(fs::read_to_string(&err).unwrap().lines().count(), KINDS.len());
    assert_eq!(fs::metadata(&err).unwrap().permissions().mode() & 0o077, 0);
    assert_eq!((created.stdout(), created.stderr()), ("READY\n".to_owned(), String::new()));
}

#[test]
fn goes_to_files_of_a_foreground_run() {
    let t = behaviour!();
    let c = t.container();
    let (out, err) = files(&t, &c);
    all(&c);
    c.args(&["/probe", "exit", "0"]);
    let run = c.run().code(0);
    assert_eq!(run.stdout(), "");
    assert_eq!(sorted(&out), expected("o"));
    assert_eq!(sorted(&err), expected("e"));
}

#[test]
fn the_files_must_be_files() {
    let t = behaviour!(Need::CrunDiffers("hook-output"));
    let target = t.dir().join("victim");
    fs::write(&target, "mine").unwrap();
    let link = t.dir().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    for kind in ["createRuntime", "startContainer"] {
        for (path, why) in [(link.clone(), "Too many levels of symbolic links"), (t.dir().join("no/such"), "No such file or directory")] {
            let c = t.container();
            c.edit(|s| s["hooks"][kind] = json!([hook(&c, kind, &["out", "x"])]));
            c.edit(|s| s["annotations"] = json!({ "run.oci.hooks.stdout": path }));
            c.refused(&["annotation run.oci.hooks.stdout: open `", why]);
        }
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
}

#[test]
fn the_end_of_it_is_in_the_message_about_a_failure() {
    let t = behaviour!(Need::CrunDiffers("hook-output"));
    let long = "x".repeat(3000);
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let c = t.container();
        let actions = ["err", "one", &long, ",", "err", "two", ",", "err", "", ",", "err", "three", ",", "err", "four", ",", "exit", "7"];
        c.edit(|s| s["hooks"][kind] = json!([hook(&c, kind, &actions)]));
        c.args(&["/probe", "sleep"]);
        let out = c.run().failed();
        assert!(out.stderr().contains("(exit code: 7): two; three; four\n"), "{kind}: {out}");
        assert!(!out.stderr().contains("xxx"), "{kind}: {out}");
        c.leaves_nothing();
    }
}

#[test]
fn what_a_hook_leaves_in_the_background_can_go_on_writing() {
    let t = behaviour!(Need::Tool("sh"));
    let done = t.dir().join("done");
    let script = format!("(sleep 0.3; echo late >&2; echo still alive > {}) & exit 0", done.display());
    let c = t.container();
    c.edit(|s| s["hooks"]["createRuntime"] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }]));
    c.args(&["/probe", "exit", "0"]).run().code(0);
    harness::eventually("the hook's process is not ended by what it writes", || done.exists());
}

#[test]
fn a_start_hook_that_fails_says_why_on_the_containers_stream() {
    let t = behaviour!(Need::CrunDiffers("hook-output"));
    let c = t.container();
    c.edit(|s| s["hooks"]["startContainer"] = json!([hook(&c, "startContainer", &["err", "no", "luck", ",", "exit", "7"])]));
    let created = c.create();
    c.start();
    c.until_status("stopped");
    assert_eq!(created.stderr(), "error executing hook `/probe`: no luck\n");
    c.do_("delete").code(0);
}
