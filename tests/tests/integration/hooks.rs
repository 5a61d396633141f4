//! Hooks: when each kind runs and in which namespaces, what it gets, its time limit, and what its failure means.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use harness::{Container, Need, Test, Value, behaviour, json};

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// The file that the hooks write to; bound into the container for the one that runs there.
fn log(t: &Test) -> PathBuf {
    let path = t.dir().join("hooks.log");
    if !path.exists() {
        fs::write(&path, "").unwrap();
    }
    path
}

/// A hook of `kind` that writes to the log and then does what `then` says.
fn hook(t: &Test, c: &Container<'_>, kind: &str, then: &[&str]) -> Value {
    let inside = kind == "startContainer";
    let (path, file) = if inside { (PathBuf::from("/probe"), PathBuf::from("/data/log")) } else { (c.rootfs().join("probe"), log(t)) };
    let mut args = vec!["hook-arg0".to_owned(), "hook".into(), file.to_str().unwrap().into(), kind.into()];
    args.extend(then.iter().map(|w| (*w).to_owned()));
    json!({ "path": path, "args": args, "env": [format!("KIND={kind}")] })
}

/// A container whose configuration has one hook of each kind.
fn with_all<'t>(t: &'t Test) -> Container<'t> {
    let c = t.container();
    c.mount(json!({ "destination": "/data/log", "type": "bind", "source": log(t), "options": ["bind"] }));
    c.edit(|s| {
        s["annotations"] = json!({ "note": "seen by hooks" });
        for kind in KINDS {
            s["hooks"][kind] = json!([hook(t, &c, kind, &[])]);
        }
    });
    c
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn kinds(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|l| l["hook"].as_str().unwrap()).collect()
}

#[test]
fn create_start_delete_run_each_at_its_time() {
    let t = behaviour!();
    let c = with_all(&t);
    c.args(&["/probe", "ready", ",", "sleep"]);
    let out = c.create();
    assert_eq!(kinds(&lines(&log(&t))), KINDS[..3]);
    c.start();
    out.until("READY");
    let so_far = lines(&log(&t));
    let mut started = kinds(&so_far);
    started.sort_unstable();
    assert_eq!(started, ["createContainer", "createRuntime", "poststart", "prestart", "startContainer"]);
    c.kill("KILL");
    c.until_status("stopped");
    c.do_("delete").code(0);
    assert_eq!(lines(&log(&t)).last().unwrap()["hook"], "poststop");
}

#[test]
fn run_runs_them_all_once() {
    let t = behaviour!();
    let c = with_all(&t);
    c.args(&["/probe", "exit", "5"]).run().code(5);
    let all = lines(&log(&t));
    let mut names = kinds(&all);
    assert_eq!(names[..3], KINDS[..3]);
    assert_eq!(names.last(), Some(&"poststop"));
    names.sort_unstable();
    let mut wanted = KINDS;
    wanted.sort_unstable();
    assert_eq!(names, wanted);
}

#[test]
fn each_gets_the_state_on_stdin() {
    let t = behaviour!();
    let c = with_all(&t);
    c.args(&["/probe", "sleep"]);
    c.launch("run", &["--detach"]).ok().until("READY");
    let pid = c.pid();
    c.call("delete").arg("--force").arg(&c.id).ok();
    let all = lines(&log(&t));
    assert_eq!(all.len(), 6);
    for line in &all {
        let kind = line["hook"].as_str().unwrap();
        let state: Value = serde_json::from_str(line["stdin"].as_str().unwrap()).unwrap();
        assert_eq!(state["id"], json!(c.id), "{kind}");
        if kind != "startContainer" {
            assert_eq!(state["bundle"], json!(c.bundle), "{kind}");
        }
        assert_eq!(state["annotations"], json!({ "note": "seen by hooks" }), "{kind}");
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1.0"), "{kind}: {state}");
        let (status, with_pid) = match kind {
            "prestart" | "createRuntime" => ("created", true),
            "createContainer" => ("created", false),
            "startContainer" => ("starting", false),
            "poststart" => ("running", true),
            _ => ("stopped", false),
        };
        assert_eq!(state["status"], status, "{kind}: {state}");
        if with_pid {
            assert_eq!(state["pid"], json!(pid), "{kind}: {state}");
        }
    }
}

#[test]
fn the_start_hook_is_told_the_bundle_too() {
    let t = behaviour!(Need::CrunDiffers("start-hook-bundle"));
    let c = with_all(&t);
    c.args(&["/probe", "exit", "0"]).run().code(0);
    let all = lines(&log(&t));
    let line = all.iter().find(|l| l["hook"] == "startContainer").unwrap();
    let state: Value = serde_json::from_str(line["stdin"].as_str().unwrap()).unwrap();
    assert_eq!(state["bundle"], json!(c.bundle));
}

#[test]
fn arguments_and_environment_are_their_own() {
    let t = behaviour!();
    let c = with_all(&t);
    c.args(&["/probe", "exit", "0"]);
    c.launch("run", &[]).env("OF_THE_RUNTIME", "1").ok();
    for line in lines(&log(&t)) {
        let (kind, seen) = (line["hook"].as_str().unwrap(), &line["seen"]);
        assert_eq!(seen["args"][0], "hook-arg0", "{kind}");
        assert_eq!(seen["env"], json!({ "KIND": kind }), "{kind}");
    }
}

#[test]
fn each_runs_in_the_namespaces_the_specification_names() {
    let t = behaviour!();
    let c = with_all(&t);
    c.args(&["/probe", "exit", "0"]).run().code(0);
    let own = fs::metadata("/proc/self/ns/mnt").unwrap().ino();
    let all = lines(&log(&t));
    let of = |kind: &str| all.iter().find(|l| l["hook"] == kind).unwrap()["seen"]["namespaces"]["mnt"].as_u64();
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        assert_eq!(of(kind), Some(own), "{kind}");
    }
    let inside = of("startContainer").unwrap();
    assert_ne!(inside, own);
    assert_eq!(of("createContainer").map_or(inside, |n| n), inside);
}

#[test]
fn mounts_are_made_but_not_pivoted_at_create_runtime() {
    let t = behaviour!();
    let c = t.container();
    let file = t.dir().join("mounts");
    // Reads the container's mounts by its pid, as hooks that inject devices do.
    let script = format!("pid=$(tr -d ' \\n' | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); cat /proc/$pid/mountinfo > {}", file.display());
    c.edit(|s| {
        s["hooks"]["createRuntime"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] }]);
    });
    c.args(&["/probe", "exit", "0"]).run().code(0);
    let text = fs::read_to_string(&file).unwrap();
    let proc_there = format!("{}/proc ", c.rootfs().display());
    assert!(text.contains(&proc_there), "{text}");
}

#[test]
fn several_of_a_kind_run_in_order() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| {
        let list: Vec<Value> = ["first", "second", "third"]
            .iter()
            .map(|name| {
                let mut h = hook(&t, &c, "createRuntime", &[]);
                h["args"][3] = json!(name);
                h
            })
            .collect();
        s["hooks"]["createRuntime"] = json!(list);
    });
    c.args(&["/probe", "exit", "0"]).run().code(0);
    assert_eq!(kinds(&lines(&log(&t))), ["first", "second", "third"]);
}

#[test]
fn a_failing_one_stops_the_start() {
    let t = behaviour!();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let c = t.container();
        c.edit(|s| s["hooks"][kind] = json!([hook(&t, &c, kind, &["exit", "7"])]));
        c.args(&["/probe", "out", "started"]);
        let out = c.run().failed();
        assert!(out.stderr().contains("error executing hook `"), "{kind}: {out}");
        assert!(out.stderr().contains("(exit code: 7)"), "{kind}: {out}");
        assert_eq!(out.stdout(), "", "{kind}");
        c.leaves_nothing();
    }
}

#[test]
fn a_failing_start_hook_stops_the_process() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["hooks"]["startContainer"] = json!([{ "path": "/probe", "args": ["probe", "exit", "7"] }]));
    c.args(&["/probe", "out", "started"]);
    let out = c.run().failed();
    assert_eq!(out.stdout(), "", "{out}");
    assert!(out.stderr().contains("hook"), "{out}");
    c.leaves_nothing();
}

#[test]
fn a_failing_poststop_is_no_failure_of_delete() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["hooks"]["poststop"] = json!([hook(&t, &c, "poststop", &["exit", "7"]), hook(&t, &c, "poststop", &[])]));
    c.args(&["/probe", "exit", "0"]);
    c.launch("run", &["--keep"]).ok();
    c.do_("delete").code(0);
    c.leaves_nothing();
    assert_eq!(lines(&log(&t)).len(), 2, "the second runs although the first failed");
}

#[test]
fn time_limit_ends_it() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| {
        let mut h = hook(&t, &c, "createRuntime", &["pause"]);
        h["timeout"] = json!(1);
        s["hooks"]["createRuntime"] = json!([h]);
    });
    c.args(&["/probe", "out", "started"]);
    let out = c.run().failed();
    assert!(out.stderr().contains("timeout expired for `"), "{out}");
    assert_eq!(out.stdout(), "");
    c.leaves_nothing();
}

#[test]
fn missing_hook_is_named() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["hooks"]["createRuntime"] = json!([{ "path": "/no/such/hook" }]));
    let out = c.args(&["/probe", "out", "started"]).run().failed();
    assert!(out.stderr().contains("/no/such/hook"), "{out}");
    assert_eq!(out.stdout(), "");
    c.leaves_nothing();
}

#[test]
fn hook_paths_are_absolute() {
    let t = behaviour!(Need::CrunDiffers("relative-hook-path"));
    let c = t.container();
    c.edit(|s| s["hooks"]["createRuntime"] = json!([{ "path": "bin/sh" }]));
    c.refused(&["hooks.createRuntime[0].path"]);
}

#[test]
fn hooks_can_be_signalled() {
    let t = behaviour!(Need::CrunDiffers("hook-signals"));
    let c = with_all(&t);
    c.args(&["/probe", "exit", "0"]).run().code(0);
    // A runtime in the foreground has its own signals blocked.
    for line in lines(&log(&t)) {
        assert_eq!(line["seen"]["status"]["SigBlk"], 0, "{}", line["hook"]);
    }
}

#[test]
fn hooks_get_no_stray_descriptor() {
    let t = behaviour!();
    let c = with_all(&t);
    c.args(&["/probe", "exit", "0"]).run().code(0);
    for line in lines(&log(&t)) {
        let fds: Vec<i32> = line["seen"]["fds"].as_object().unwrap().keys().map(|k| k.parse().unwrap()).collect();
        assert!(fds.iter().all(|fd| *fd < 3), "{}: {:?}", line["hook"], line["seen"]["fds"]);
    }
}
