//! Seccomp notify plugins: shared objects that answer, by crun's interface (`run.oci.seccomp.plugins`). The plugin is built here, of
//! `data/notify-plugin.c`. Not here: receivers of the notify descriptor (`seccomp_notify`).

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use harness::{Container, Need, Test, behaviour, eventually, json, pinnace_only};

/// Builds the plugin with some macros set.
fn build(t: &Test, name: &str, macros: &[&str]) -> PathBuf {
    let (source, object) = (t.dir().join("plugin.c"), t.dir().join(name));
    fs::write(&source, include_str!("../../data/notify-plugin.c")).unwrap();
    let flags = macros.iter().map(|m| format!("-D{m}"));
    let out = Command::new("cc").args(["-shared", "-fPIC", "-Wall", "-o"]).arg(&object).args(flags).arg(&source).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    object
}

/// A filter that asks about some calls, which plugins answer.
fn asks(c: &Container<'_>, plugins: &str) {
    c.edit(|s| {
        s["annotations"] = json!({ "run.oci.seccomp.plugins": plugins });
        s["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["getppid", "sync", "getuid", "getgid", "getpgrp"], "action": "SCMP_ACT_NOTIFY" }],
        });
    });
}

#[test]
fn they_answer() {
    let t = behaviour!(Need::Root, Need::Tool("cc"), Need::Plugins).with_plugins();
    let plugin = build(&t, "plugin.so", &[]);
    let c = t.container();
    asks(&c, plugin.to_str().unwrap());
    c.edit(|s| s["process"]["user"] = json!({ "uid": 7, "gid": 8 }));
    let call = |name: &'static str| [",", "syscall", name];
    let args = [&["/probe", "syscall", "getppid"][..], &call("sync"), &call("getuid"), &call("getpgrp")].concat();
    let out = c.args(&args).run().code(0);
    let said = out.json_lines();
    let answer = 7_777_000 + c.id.len();
    assert_eq!(said[0]["result"], json!(answer), "{out}");
    assert_eq!(said[1]["result"], json!(answer + 1), "a later response: {out}");
    assert_eq!(said[2]["result"], 7, "the call itself: {out}");
    assert_eq!(said[3]["errno"], "EOPNOTSUPP", "nobody's affair: {out}");
    let told = fs::read_to_string(c.bundle.join("told")).unwrap();
    let told: Vec<_> = told.lines().collect();
    assert_eq!(told[1..3], [c.id.as_str(), c.bundle.to_str().unwrap()]);
    eventually("the plugin's end", || c.bundle.join("stopped").exists());
    c.leaves_nothing();
}

#[test]
fn they_go_on_when_the_runtime_has_ended_and_serve_exec() {
    let t = behaviour!(Need::CrunDiffers("plugin-errors"), Need::Root, Need::Tool("cc"), Need::Plugins).with_plugins();
    // Two, of which the first has no state of its own and the same answers.
    let plugins = format!("{}:{}", build(&t, "one.so", &[]).display(), build(&t, "two.so", &[]).display());
    let c = t.container();
    asks(&c, &plugins);
    c.args(&["/probe", "syscall", "getppid", ",", "syscall", "getgid", ",", "pause"]);
    let out = c.create();
    c.start();
    out.until("EDOM");
    let answer = 7_777_000 + c.id.len();
    assert_eq!(out.json_lines()[0]["result"], json!(answer));
    let exec = c.exec(&[], &["/probe", "syscall", "getppid"]).code(0);
    assert_eq!(exec.json()["result"], json!(answer));
    let told = fs::read_to_string(c.bundle.join("told")).unwrap();
    let config = |file: &std::path::Path| file.display().to_string();
    let told: Vec<_> = told.lines().collect();
    assert_eq!(told.len(), 16, "two plugins for two processes: {told:?}");
    assert_eq!(told[..4], [config(&t.root()), c.id.clone(), config(&c.bundle), config(&c.bundle.join("config.json"))]);
    assert_eq!(told[11], config(&c.state_dir().join("config.json")));
    c.kill("KILL");
    c.until_status("stopped");
    eventually("the plugins' end", || fs::read_to_string(c.bundle.join("stopped")).is_ok_and(|text| text.lines().count() == 4));
}

#[test]
fn what_is_no_plugin_is_refused() {
    let t = behaviour!(Need::CrunDiffers("plugins-believed"), Need::Root, Need::Tool("cc"), Need::Plugins).with_plugins();
    let good = build(&t, "good.so", &[]);
    let garbage = t.dir().join("garbage.so");
    fs::write(&garbage, "no object").unwrap();
    let others = t.dir().join("others.so");
    fs::copy(&good, &others).unwrap();
    std::os::unix::fs::chown(&others, Some(77), None).unwrap();
    let path = |p: PathBuf| p.to_str().unwrap().to_owned();
    for (plugins, text) in [
        ("good.so".to_owned(), "invalid relative plugin path: `good.so`"),
        (format!("{}:/nonexistent.so", good.display()), "seccomp notify plugin `/nonexistent.so`: No such file or directory"),
        (path(others), "belongs to user 77"),
        (path(garbage), "garbage.so"),
        (path(build(&t, "version.so", &["PLUGIN_VERSION=2"])), "invalid version supported by the plugin"),
        (path(build(&t, "empty.so", &["PLUGIN_EMPTY"])), "doesn't export `run_oci_seccomp_notify_handle_request`"),
        (path(build(&t, "fails.so", &["PLUGIN_FAILS"])), "start the plugin"),
    ] {
        let c = t.container();
        asks(&c, &plugins);
        c.args(&["/probe", "out", "started"]);
        let out = c.refused(&["run.oci.seccomp.plugins", text]);
        assert_eq!(out.stdout(), "");
    }
}

#[test]
fn they_stand_alone() {
    let t = pinnace_only!(Need::Root, Need::Tool("cc"), Need::Plugins).with_plugins();
    let plugin = build(&t, "plugin.so", &[]);
    let c = t.container();
    asks(&c, plugin.to_str().unwrap());
    c.edit(|s| s["linux"]["seccomp"]["listenerPath"] = json!("/run/x"));
    c.refused(&["linux.seccomp.listenerPath", "run.oci.seccomp.plugins"]);
    asks(&c, plugin.to_str().unwrap());
    c.edit(|s| s["annotations"]["run.oci.seccomp.receiver"] = json!("/run/x"));
    c.refused(&["run.oci.seccomp.plugins", "exclude each other"]);
}
