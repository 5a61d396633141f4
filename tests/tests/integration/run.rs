//! `run`: exit status, output, detaching, `--keep`, pid file, and what it must not leave behind. Signals are in
//! `signals`, terminals in `terminal`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use harness::{Need, behaviour, eventually, json, pinnace_only};

#[test]
fn passes_the_exit_status_on() {
    let t = behaviour!();
    for status in ["0", "1", "7", "126", "127", "255"] {
        let c = t.container();
        c.args(&["/probe", "exit", status]).run().code(status.parse().unwrap());
    }
}

#[test]
fn says_128_plus_the_signal() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "signal", "11"]).run().code(139);
    let c = t.container();
    c.args(&["/probe", "sleep"]);
    let mut run = c.spawn();
    run.until("READY");
    c.kill("KILL");
    run.wait().code(137);
}

#[test]
fn passes_the_standard_streams() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "echo-stdin", ",", "out", "to stdout", ",", "err", "to stderr"]);
    let out = c.launch("run", &[]).stdin("typed text").ok();
    assert!(out.stdout().contains(r#"{"stdin":"typed text"}"#), "{out}");
    assert!(out.stdout().ends_with("to stdout\n"), "{out}");
    assert_eq!(out.stderr(), "to stderr\n");
}

#[test]
fn leaves_nothing_behind() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "exit", "3"]).run().code(3);
    c.leaves_nothing();
    c.do_("state").fails_with(&[&c.id, "No such file or directory"]);
}

#[test]
fn uses_the_current_directory_without_bundle() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "exit", "5"]).write();
    c.call("run").arg(&c.id).cwd(&c.bundle).output().code(5);
}

#[test]
fn config_names_another_file() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "exit", "6"]).write();
    fs::rename(c.bundle.join("config.json"), c.bundle.join("other.json")).unwrap();
    let other = c.bundle.join("other.json");
    for file in [other.to_str().unwrap(), "other.json"] {
        let mut call = c.call("run");
        call.arg("--config").arg(file).arg("--bundle").arg(&c.bundle).arg(&c.id).cwd(&c.bundle);
        call.output().code(6);
    }
}

#[test]
fn detach_returns_while_it_runs() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    assert_eq!(c.status(), "running");
    c.kill("KILL");
    c.until_status("stopped");
    assert_eq!(c.state()["pid"], 0);
    c.do_("delete").code(0);
    c.leaves_nothing();
}

#[test]
fn keep_leaves_a_stopped_container() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "exit", "4"]);
    c.launch("run", &["--keep"]).output().code(4);
    assert_eq!(c.status(), "stopped");
    c.do_("delete").code(0);
    c.leaves_nothing();
}

#[test]
fn pid_file_has_the_bare_number() {
    let t = behaviour!();
    let c = t.container();
    let file = t.dir().join("pid");
    c.args(&["/probe", "sleep"]);
    c.launch("run", &["--detach", "--pid-file", file.to_str().unwrap()]).ok();
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text, c.pid().to_string());
    // What has the pid is the container's own process.
    let line = fs::read_to_string(format!("/proc/{text}/cmdline")).unwrap();
    assert!(line.starts_with("/probe\0"), "{line:?}");
}

#[test]
fn no_pid_file_after_a_failure() {
    let t = behaviour!();
    let c = t.container();
    let file = t.dir().join("pid");
    c.args(&["/nothing"]);
    c.launch("run", &["--pid-file", file.to_str().unwrap()]).output().code(1);
    assert!(!file.exists());
}

#[test]
fn container_gets_no_stray_descriptor() {
    let t = behaviour!();
    let c = t.container();
    let stray = fs::File::open("/etc/hostname").unwrap();
    let out = c.launch("run", &[]).descriptor(stray.into(), 17).ok();
    assert_eq!(out.report().descriptors(), [0, 1, 2]);
}

#[test]
fn preserve_fds_passes_descriptors_on() {
    let t = behaviour!();
    let c = t.container();
    let file = t.dir().join("passed");
    fs::write(&file, "through the descriptor").unwrap();
    let open = || fs::File::open(&file).unwrap().into();
    c.args(&["/probe", "report", ",", "read-fd", "4"]);
    let out = c.launch("run", &["--preserve-fds", "2"]).descriptor(open(), 3).descriptor(open(), 4).descriptor(open(), 5).ok();
    assert_eq!(out.report().descriptors(), [0, 1, 2, 3, 4]);
    assert_eq!(out.json()["text"], "through the descriptor", "{out}");
}

#[test]
fn listen_fds_are_preserved_and_announced() {
    let t = behaviour!();
    let c = t.container();
    let file = fs::File::open("/etc/hostname").unwrap();
    c.edit(|s| s["process"]["env"].as_array_mut().unwrap().push(json!("LISTEN_FDS=1")));
    let out = c.launch("run", &[]).env("LISTEN_FDS", "1").descriptor(file.into(), 3).ok();
    let report = out.report();
    assert_eq!(report.descriptors(), [0, 1, 2, 3]);
    assert_eq!(report.env("LISTEN_PID"), Some("1"));
}

#[test]
fn foreground_outlives_a_container_killed_from_outside() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "children", "2", ",", "sleep"]);
    let mut run = c.spawn();
    run.until("READY");
    c.kill("KILL");
    run.wait().code(137);
    c.leaves_nothing();
}

#[test]
fn rootfs_path_may_be_absolute() {
    let t = behaviour!();
    let c = t.container();
    let rootfs = c.rootfs();
    c.edit(|s| s["root"]["path"] = json!(rootfs)).args(&["/probe", "exit", "9"]);
    c.run().code(9);
}

#[test]
fn same_id_can_run_again() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "exit", "0"]);
    c.run().code(0);
    c.run().code(0);
}

#[test]
fn state_directory_is_private() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&t.root()) & 0o077, 0);
    assert_eq!(mode(&c.state_dir()), 0o700);
}

#[test]
fn terminal_needs_a_console_socket_when_detached() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["process"]["terminal"] = json!(true));
    c.launch("run", &["--detach"]).output().fails_with(&["use --console-socket with --detach when a terminal is used"]);
    c.leaves_nothing();
}

#[test]
fn zombies_of_the_container_come_to_its_first_process() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "zombie-reaper"]);
    let out = c.run().code(0);
    assert_eq!(out.json()["reaped"], json!([0, 23]));
}

#[test]
fn options_may_follow_the_id() {
    let t = behaviour!(Need::CrunDiffers("options-after-id"));
    let c = t.container();
    c.args(&["/probe", "sleep"]).write();
    c.call("run").arg(&c.id).arg("--detach").arg("--bundle").arg(&c.bundle).ok();
    assert_eq!(c.status(), "running");
    c.call("delete").arg(&c.id).arg("--force").ok();
    c.leaves_nothing();
}

#[test]
fn takes_the_options_of_other_runtimes() {
    let t = pinnace_only!();
    for option in ["--no-subreaper", "-no-subreaper", "--no-new-keyring"] {
        let c = t.container();
        c.args(&["/probe", "exit", "0"]);
        c.launch("run", &[option]).ok();
    }
}

#[test]
fn runs_many_at_once() {
    let t = behaviour!();
    let containers: Vec<_> = (0..12).map(|_| t.container()).collect();
    let running: Vec<_> = containers.iter().map(|c| c.args(&["/probe", "exit", "2"]).spawn()).collect();
    for run in running {
        run.wait().code(2);
    }
    eventually("the state directories to go", || containers.iter().all(|c| !c.state_dir().exists()));
}
