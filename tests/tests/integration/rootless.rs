//! The runtime run by an unprivileged user who has a range of subordinate ids.

use std::fs;

use harness::view::SUBORDINATE_IDS;
use harness::{Need, behaviour, json};

/// An id that no distribution gives to anyone.
const USER: u32 = 54_321;

#[test]
fn runs_with_the_configuration_of_spec() {
    let t = behaviour!(Need::Rootless).as_user(USER);
    let c = t.container();
    c.args(&["/probe", "exit", "9"]).run().code(9);
    c.leaves_nothing();
}

/// Fills the user's quota with keys of a session keyring, which goes away with the last process that has it, and executes what follows.
fn fill_keys() -> String {
    let (keyctl, add_key) = if cfg!(target_arch = "aarch64") { (219, 217) } else { (250, 248) };
    format!(
        r#"my ($t, $d) = ("user", "x"); syscall({keyctl}, 1, 0, 0, 0, 0);
        for my $i (0 .. 9999) {{ my $k = "k$i"; last if syscall({add_key}, $t, $k, $d, 1, -3) < 0 }} exec @ARGV"#
    )
}

#[test]
fn a_used_up_key_quota_is_named() {
    // A user of its own: the quota is a user's, and other tests run at the same time.
    const OTHER: u32 = USER + 1;
    let t = behaviour!(Need::Rootless, Need::Tool("perl"), Need::CrunDiffers("key-quota")).as_user(OTHER);
    let c = t.container();
    let texts =
        ["join keyctl", &format!("the key quota of the user {OTHER} is used up, "), "/proc/sys/kernel/keys/max", "Disk quota exceeded"];
    c.launch("run", &[]).under(&["perl", "-e", &fill_keys()]).output().code(1).fails_with(&texts);
    c.leaves_nothing();
}

#[test]
fn is_root_inside_and_the_user_outside() {
    let t = behaviour!(Need::Rootless).as_user(USER);
    let c = t.container();
    c.args(&["/probe", "report", ",", "sleep"]);
    let out = c.launch("run", &["--detach"]).ok();
    out.until("READY");
    let r = out.report();
    assert_eq!(r["uids"], json!([0, 0, 0]));
    let map = r["uid_map"].as_array().unwrap();
    assert_eq!(map[0], json!([0, USER, 1]), "{map:?}");
    let status = fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
    let uid = status.lines().find(|l| l.starts_with("Uid:")).unwrap();
    assert_eq!(uid.split_whitespace().nth(1), Some(&*USER.to_string()));
}

#[test]
fn has_its_mounts_and_devices() {
    let t = behaviour!(Need::Rootless).as_user(USER);
    let r = t.container().report();
    for target in ["/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        assert!(r.mount(target).is_some(), "{target}");
    }
    for (name, minor) in [("null", 3), ("zero", 5), ("urandom", 9)] {
        assert_eq!(r["dev"][&format!("/dev/{name}")]["minor"], minor, "{name}");
    }
}

#[test]
fn without_a_user_namespace_one_is_made_with_the_subordinate_ids() {
    let t = behaviour!(Need::Rootless, Need::Tool("newuidmap")).as_user(USER);
    let c = t.container();
    c.edit(|s| {
        let linux = s["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    });
    c.namespace("user", None);
    let r = c.report();
    let (first, count) = SUBORDINATE_IDS;
    assert_eq!(r["uid_map"], json!([[0, USER, 1], [1, first, count]]));
    assert_eq!(r["gid_map"], json!([[0, USER, 1], [1, first, count]]));
}

#[test]
fn configured_ranges_are_mapped_by_newuidmap() {
    let t = behaviour!(Need::Rootless, Need::Tool("newuidmap")).as_user(USER);
    let c = t.container();
    let (first, _) = SUBORDINATE_IDS;
    c.edit(|s| {
        for kind in ["uidMappings", "gidMappings"] {
            s["linux"][kind] = json!([
                { "containerID": 0, "hostID": USER, "size": 1 },
                { "containerID": 1, "hostID": first, "size": 1000 },
            ]);
        }
        s["process"]["user"] = json!({ "uid": 12, "gid": 34, "additionalGids": [56] });
    });
    let r = c.report();
    assert_eq!(r["uid_map"], json!([[0, USER, 1], [1, first, 1000]]));
    assert_eq!((&r["uids"][0], &r["gids"][0], &r["groups"]), (&json!(12), &json!(34), &json!([56])));
}

#[test]
fn newuidmap_is_found_without_a_path() {
    let t = behaviour!(Need::Rootless, Need::Tool("newuidmap")).as_user(USER);
    let c = t.container();
    c.namespace("user", None).edit(|s| {
        let linux = s["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    });
    let out = c.launch("run", &[]).under(&["env", "-u", "PATH"]).ok();
    assert_eq!(out.report()["uid_map"].as_array().unwrap().len(), 2);
}

#[test]
fn the_whole_life_of_a_container() {
    let t = behaviour!(Need::Rootless).as_user(USER);
    let c = t.container();
    c.args(&["/probe", "ready", ",", "sleep"]);
    let out = c.create();
    assert_eq!(c.status(), "created");
    c.start();
    out.until("READY");
    assert_eq!(c.status(), "running");
    let r = c.exec(&[], &["/probe", "report"]).code(0).report();
    assert_eq!(r["uids"], json!([0, 0, 0]));
    c.exec(&[], &["/probe", "exit", "21"]).code(21);
    c.kill("HUP");
    out.until("SIGNAL 1");
    c.kill("KILL");
    c.until_status("stopped");
    c.do_("delete").code(0);
    c.leaves_nothing();
}

#[test]
fn force_ends_it() {
    let t = behaviour!(Need::Rootless).as_user(USER);
    let c = t.container();
    c.sleeping();
    c.call("delete").arg("--force").arg(&c.id).ok();
    c.leaves_nothing();
}

#[test]
fn seccomp_masks_and_limits_hold() {
    let t = behaviour!(Need::Rootless).as_user(USER);
    let c = t.container();
    c.edit(|s| {
        s["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }],
        });
        s["linux"]["maskedPaths"] = json!(["/proc/uptime"]);
        s["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 100 }]);
    });
    c.args(&["/probe", "report", "--path", "/proc/uptime", ",", "syscall", "mkdir"]);
    let out = c.run().code(0);
    let r = out.report();
    assert_eq!(r["rlimits"]["RLIMIT_NOFILE"], json!([100, 100]));
    assert_eq!((&r["paths"]["/proc/uptime"]["kind"], &r["paths"]["/proc/uptime"]["minor"]), (&json!("char"), &json!(3)));
    assert_eq!(out.json()["errno"], "ENOSYS");
}

#[test]
fn errors_are_told_as_ever() {
    let t = behaviour!(Need::Rootless).as_user(USER);
    let c = t.container();
    c.args(&["/nothing"]);
    c.run().fails_with(&["executable file `/nothing` not found", "No such file or directory"]);
    c.leaves_nothing();
}

#[test]
fn the_state_of_others_is_out_of_reach() {
    let t = behaviour!(Need::Rootless);
    let c = t.container();
    c.sleeping();
    let other = behaviour!(Need::Rootless).as_user(USER);
    let out = other.bare().arg("--root").arg(t.root()).args(&["list", "-q"]).output();
    assert!(out.status() != 0 || out.stdout().is_empty(), "{out}");
}
