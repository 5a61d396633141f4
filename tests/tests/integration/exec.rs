//! `exec`: a further process in a running container, from arguments and from a process file.

use std::fs;

use harness::{Need, behaviour, json};

#[test]
fn passes_the_exit_status_on() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    c.exec(&[], &["/probe", "exit", "0"]).code(0);
    c.exec(&[], &["/probe", "exit", "42"]).code(42);
    c.exec(&[], &["/probe", "signal", "9"]).code(137);
    assert_eq!(c.status(), "running");
}

#[test]
fn options_of_the_command_are_its_own() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    let out = c.exec(&[], &["/probe", "out", "--cwd", "-d", "--", "--help"]).code(0);
    assert_eq!(out.stdout(), "--cwd -d -- --help\n");
}

#[test]
fn joins_all_namespaces_and_the_cgroup() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "report", ",", "sleep"]);
    let run = c.launch("run", &["--detach"]).ok();
    run.until("READY");
    let (inside, exec) = (run.report(), c.exec(&[], &["/probe", "report"]).code(0).report());
    assert_eq!(exec["namespaces"], inside["namespaces"]);
    assert_eq!(exec["cgroup"], inside["cgroup"]);
    assert_eq!(exec["hostname"], inside["hostname"]);
    assert_ne!(exec["pid"], 1);
}

#[test]
fn inherits_what_the_configuration_says() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| {
        s["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [7], "umask": 0o027 });
        s["process"]["env"].as_array_mut().unwrap().push(json!("FROM_CONFIG=yes"));
    });
    c.sleeping();
    let r = c.exec(&[], &["/probe", "report"]).code(0).report();
    assert_eq!(r["uids"], json!([1000, 1000, 1000]));
    assert_eq!(r["gids"], json!([1001, 1001, 1001]));
    assert_eq!(r["groups"], json!([7]));
    assert_eq!(r["umask"], 0o027);
    assert_eq!(r.env("FROM_CONFIG"), Some("yes"));
}

#[test]
fn capabilities_are_those_of_the_configuration() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    let r = c.exec(&[], &["/probe", "report"]).code(0).report();
    let wanted = 1 << 29 | 1 << 5 | 1 << 10;
    assert_eq!([r.caps("Bnd"), r.caps("Eff"), r.caps("Prm")], [wanted; 3]);
    assert_eq!(r.caps("Inh"), 0);
}

#[test]
fn cap_adds_capabilities_but_none_inheritable() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    let r = c.exec(&["--cap", "CAP_NET_RAW"], &["/probe", "report"]).code(0).report();
    assert_ne!(r.caps("Eff") & 1 << 13, 0);
    assert_ne!(r.caps("Bnd") & 1 << 13, 0);
    assert_eq!(r.caps("Inh"), 0);
}

#[test]
fn cwd_user_and_env_options() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    let options = ["--cwd=/data", "--user", "1500:1600", "--env", "ONE=1", "-e", "TWO=2"];
    let r = c.exec(&options, &["/probe", "report"]).code(0).report();
    assert_eq!(r["cwd"], "/data");
    assert_eq!(r["uids"], json!([1500, 1500, 1500]));
    assert_eq!(r["gids"], json!([1600, 1600, 1600]));
    assert_eq!((r.env("ONE"), r.env("TWO")), (Some("1"), Some("2")));
}

#[test]
fn env_option_adds_to_the_configured_environment() {
    let t = behaviour!(Need::CrunDiffersBefore(28, "exec-env-merges"));
    let c = t.container();
    c.edit(|s| s["process"]["env"].as_array_mut().unwrap().extend([json!("KEPT=1"), json!("CHANGED=old")]));
    c.sleeping();
    let r = c.exec(&["--env", "CHANGED=new"], &["/probe", "report"]).code(0).report();
    assert_eq!((r.env("KEPT"), r.env("CHANGED")), (Some("1"), Some("new")));
}

#[test]
fn user_must_be_numeric() {
    let t = behaviour!(Need::CrunDiffers("exec-user-numeric"));
    let c = t.container();
    c.sleeping();
    for user in ["1000x", "", ":5", "4294967296", "root", "1:x", "-1"] {
        let out = c.exec(&["--user", user], &["/probe", "report"]);
        assert_eq!(out.status(), 1, "--user {user}: {out}");
        assert!(!out.stdout().contains("umask"), "--user {user}: {out}");
    }
}

#[test]
fn process_file_describes_it_all() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    let file = c.process_file(|p| {
        p["args"] = json!(["/probe", "report"]);
        p["cwd"] = json!("/etc");
        p["env"] = json!(["ONLY=this", "PATH=/bin"]);
        p["user"] = json!({ "uid": 10, "gid": 20, "additionalGids": [30] });
        p["capabilities"] = json!({ "bounding": ["CAP_CHOWN"] });
        p["noNewPrivileges"] = json!(false);
        p["oomScoreAdj"] = json!(777);
    });
    let r = c.exec(&["--process", file.to_str().unwrap()], &[]).code(0).report();
    assert_eq!(r["cwd"], "/etc");
    assert_eq!(r.env("ONLY"), Some("this"));
    assert_eq!(r.env("TERM"), None);
    assert_eq!((&r["uids"][0], &r["gids"][0], &r["groups"]), (&json!(10), &json!(20), &json!([30])));
    assert_eq!((r.caps("Bnd"), r.caps("Eff")), (1, 0));
    assert_eq!(r["no_new_privs"], 0);
}

#[test]
fn no_new_privs_option() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["process"]["noNewPrivileges"] = json!(false));
    c.sleeping();
    assert_eq!(c.exec(&[], &["/probe", "report"]).code(0).report()["no_new_privs"], 0);
    assert_eq!(c.exec(&["--no-new-privs"], &["/probe", "report"]).code(0).report()["no_new_privs"], 1);
}

#[test]
fn detach_and_pid_file() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    let file = t.dir().join("exec-pid");
    let out = c.call("exec").args(&["--detach", "--pid-file", file.to_str().unwrap()]).arg(&c.id).args(&["/probe", "sleep"]).ok();
    out.until("READY");
    let pid = fs::read_to_string(&file).unwrap();
    let pids = c.call("ps").args(&["--format", "json"]).arg(&c.id).ok().json();
    assert!(pids.as_array().unwrap().contains(&json!(pid.parse::<i32>().unwrap())), "{pid} in {pids}");
}

#[test]
fn streams_and_preserved_descriptors() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    let file = fs::File::open("/etc/hostname").unwrap();
    let mut call = c.call("exec");
    call.args(&["--preserve-fds", "1"]).arg(&c.id).args(&["/probe", "report", ",", "echo-stdin", ",", "err", "loud"]);
    let out = call.stdin("to exec").descriptor(file.into(), 3).ok();
    assert_eq!(out.report().descriptors(), [0, 1, 2, 3]);
    assert!(out.stdout().contains(r#"{"stdin":"to exec"}"#), "{out}");
    assert_eq!(out.stderr(), "loud\n");
}

#[test]
fn no_stray_descriptor() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    let file = fs::File::open("/etc/hostname").unwrap();
    let out = c.call("exec").arg(&c.id).args(&["/probe", "report"]).descriptor(file.into(), 19).ok();
    assert_eq!(out.report().descriptors(), [0, 1, 2]);
}

#[test]
fn refuses_what_does_not_run() {
    let t = behaviour!();
    let c = t.container();
    c.exec(&[], &["/probe", "exit", "0"]).fails_with(&[&c.id, "No such file or directory"]);
    c.args(&["/probe", "exit", "0"]);
    c.create();
    c.start();
    c.until_status("stopped");
    c.exec(&[], &["/probe", "exit", "0"]).code(1).says("not running");
}

#[test]
fn missing_command_is_named() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    c.exec(&[], &["/nothing"]).fails_with(&["executable file `/nothing` not found", "No such file or directory"]);
    c.exec(&[], &["nothing"]).fails_with(&["executable file `nothing` not found in $PATH", "No such file or directory"]);
    assert_eq!(c.status(), "running");
}

#[test]
fn needs_a_command() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    c.exec(&[], &[]).code(1);
    assert_eq!(c.status(), "running");
}

#[test]
fn exec_into_a_created_container_works() {
    let t = behaviour!(Need::CrunNeedsRoot("exec-created-rootless"));
    let c = t.container();
    c.args(&["/probe", "sleep"]);
    c.create();
    let r = c.exec(&[], &["/probe", "report"]).code(0).report();
    assert_ne!(r["pid"], 1);
    assert_eq!(c.status(), "created");
}

#[test]
fn exec_cannot_be_reached_by_what_runs_inside() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    // Neither the runtime nor a descriptor of the host shows up in the container.
    let r = c.exec(&[], &["/probe", "report"]).code(0).report();
    for (fd, target) in r["fds"].as_object().unwrap() {
        let target = target.as_str().unwrap();
        let inside = ["0", "1", "2"].contains(&fd.as_str());
        assert!(inside, "descriptor {fd} → {target}");
    }
}
