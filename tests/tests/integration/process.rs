//! The `process` section of the configuration: who the process is, what it may, and what it inherits.

use std::fs;

use harness::{Need, behaviour, json};

/// Bits of the capabilities the tests use (linux/capability.h).
fn bits(numbers: &[u32]) -> u64 {
    numbers.iter().map(|n| 1u64 << n).sum()
}

#[test]
fn is_pid_1_and_leads_its_session() {
    let t = behaviour!();
    let r = t.container().report();
    assert_eq!((&r["pid"], &r["ppid"], &r["sid"], &r["pgid"]), (&json!(1), &json!(0), &json!(1), &json!(1)));
}

#[test]
fn args_and_env_are_exact() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "report"]);
    c.edit(|s| s["process"]["env"] = json!(["B=2", "A=1=one", "HOME=/somewhere", "EMPTY="]));
    let r = c.report();
    assert_eq!(r["args"], json!(["/probe", "report"]));
    assert_eq!(r["env"], json!({ "A": "1=one", "B": "2", "EMPTY": "", "HOME": "/somewhere" }));
    assert_eq!(r["env_order"], json!(["B", "A", "HOME", "EMPTY"]));
}

#[test]
fn home_comes_from_passwd_when_unset() {
    let t = behaviour!();
    let c = t.container();
    fs::write(c.rootfs().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n").unwrap();
    assert_eq!(c.report().env("HOME"), Some("/root"));
    c.edit(|s| s["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    assert_eq!(c.report().env("HOME"), Some("/home/user"));
}

#[test]
fn runtime_environment_does_not_leak() {
    let t = behaviour!();
    let c = t.container();
    let out = c.launch("run", &[]).env("SECRET_OF_THE_HOST", "1").ok();
    assert_eq!(out.report().env("SECRET_OF_THE_HOST"), None);
}

#[test]
fn uid_gid_and_groups() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 2000] }));
    let r = c.report();
    assert_eq!(r["uids"], json!([1000, 1000, 1000]));
    assert_eq!(r["gids"], json!([1001, 1001, 1001]));
    assert_eq!(r["groups"], json!([5, 2000]));
}

#[test]
fn groups_of_the_caller_are_dropped() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    let out = c.launch("run", &[]).under(&["setpriv", "--groups", "4,24,27"]).ok();
    assert_eq!(out.report()["groups"], json!([]));
}

#[test]
fn groups_of_the_caller_stay_if_asked() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    let groups = |value: &str| {
        c.edit(|s| {
            s["annotations"]["run.oci.keep_original_groups"] = json!(value);
            s["process"]["user"]["additionalGids"] = json!([7]);
        });
        c.launch("run", &[]).under(&["setpriv", "--groups", "4,24,27"]).ok().report()["groups"].clone()
    };
    assert_eq!(groups("1"), json!([4, 24, 27]));
    assert_eq!(groups(""), json!([4, 24, 27]));
    assert_eq!(groups("0"), json!([7]));
    c.edit(|s| s["annotations"]["run.oci.keep_original_groups"] = json!("true"));
    c.sleeping();
    let out = c.call("exec").arg(&c.id).args(&["/probe", "report"]).under(&["setpriv", "--groups", "4,24"]).ok();
    assert_eq!(out.report()["groups"], json!([4, 24]));
}

#[test]
fn groups_of_the_caller_stay_in_a_user_namespace_if_asked() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    c.new_user_namespace(600_000);
    c.edit(|s| s["annotations"]["run.oci.keep_original_groups"] = json!("1"));
    let out = c.launch("run", &[]).under(&["setpriv", "--groups", "4,600005"]).ok();
    // One that is not mapped is shown as the overflow id.
    assert_eq!(out.report()["groups"], json!([65_534, 5]));
}

#[test]
fn umask_defaults_to_022_and_can_be_set() {
    let t = behaviour!();
    let c = t.container();
    assert_eq!(c.report()["umask"], 0o022);
    c.edit(|s| s["process"]["user"]["umask"] = json!(0o077));
    assert_eq!(c.report()["umask"], 0o077);
    c.edit(|s| s["process"]["user"]["umask"] = json!(0));
    assert_eq!(c.report()["umask"], 0);
}

#[test]
fn cwd_is_entered_and_made() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["process"]["cwd"] = json!("/tmp"));
    assert_eq!(c.report()["cwd"], "/tmp");
    c.edit(|s| s["process"]["cwd"] = json!("/data/made/deep"));
    assert_eq!(c.report()["cwd"], "/data/made/deep");
    assert!(c.rootfs().join("data/made/deep").is_dir());
}

#[test]
fn default_capabilities_are_those_of_spec() {
    let t = behaviour!();
    let r = t.container().report();
    let wanted = bits(&[29, 5, 10]);
    assert_eq!([r.caps("Prm"), r.caps("Eff"), r.caps("Bnd")], [wanted; 3]);
    assert_eq!(r.caps("Inh"), 0);
}

#[test]
fn five_capability_sets_are_exact() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| {
        s["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SYS_CHROOT"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "inheritable": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN"],
            "ambient": ["CAP_CHOWN"],
        });
        // Not root: execve by root would fill the sets again (capabilities(7)).
        s["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        s["process"]["noNewPrivileges"] = json!(false);
    });
    let r = c.report();
    assert_eq!(r.caps("Bnd"), bits(&[0, 5, 13, 18]));
    assert_eq!(r.caps("Inh"), bits(&[0, 5]));
    assert_eq!(r.caps("Amb"), bits(&[0]));
    // After execve of a plain file by an ordinary user, only the ambient ones are left.
    assert_eq!(r.caps("Prm"), bits(&[0]));
    assert_eq!(r.caps("Eff"), bits(&[0]));
}

#[test]
fn no_capabilities_means_none() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["process"]["capabilities"] = json!({}));
    let r = c.report();
    for set in ["Inh", "Prm", "Eff", "Bnd", "Amb"] {
        assert_eq!(r.caps(set), 0, "{set}");
    }
}

#[test]
fn user_without_ambient_capabilities_has_none_in_effect() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    let r = c.report();
    assert_eq!((r.caps("Eff"), r.caps("Prm"), r.caps("Amb")), (0, 0, 0));
    assert_eq!(r.caps("Bnd"), bits(&[29, 5, 10]));
}

#[test]
fn no_new_privileges_follows_the_configuration() {
    let t = behaviour!();
    let c = t.container();
    assert_eq!(c.report()["no_new_privs"], 1);
    c.edit(|s| s["process"]["noNewPrivileges"] = json!(false));
    assert_eq!(c.report()["no_new_privs"], 0);
}

#[test]
fn rlimits_are_set() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| {
        s["process"]["rlimits"] = json!([
            { "type": "RLIMIT_NOFILE", "soft": 512, "hard": 600 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            { "type": "RLIMIT_FSIZE", "soft": 1_000_000, "hard": 2_000_000 },
            { "type": "RLIMIT_STACK", "soft": 4_194_304, "hard": 8_388_608 },
            { "type": "RLIMIT_NPROC", "soft": 100, "hard": 200 },
        ]);
    });
    let r = c.report();
    assert_eq!(r["rlimits"]["RLIMIT_NOFILE"], json!([512, 600]));
    assert_eq!(r["rlimits"]["RLIMIT_CORE"], json!([0, 0]));
    assert_eq!(r["rlimits"]["RLIMIT_FSIZE"], json!([1_000_000, 2_000_000]));
    assert_eq!(r["rlimits"]["RLIMIT_STACK"], json!([4_194_304, 8_388_608]));
    assert_eq!(r["rlimits"]["RLIMIT_NPROC"], json!([100, 200]));
}

#[test]
fn raising_a_hard_limit_works_with_the_capability() {
    let t = behaviour!(Need::Root, Need::CapSysResource);
    let c = t.container();
    c.edit(|s| s["process"]["rlimits"] = json!([{ "type": "RLIMIT_RTPRIO", "soft": 50, "hard": 60 }]));
    assert_eq!(c.report()["rlimits"]["RLIMIT_RTPRIO"], json!([50, 60]));
}

#[test]
fn raising_a_hard_limit_without_the_capability_is_said_clearly() {
    let t = behaviour!(Need::NoCapSysResource);
    let c = t.container();
    c.edit(|s| s["process"]["rlimits"] = json!([{ "type": "RLIMIT_RTPRIO", "soft": 50, "hard": 60 }]));
    c.refused(&["RLIMIT_RTPRIO", "Operation not permitted"]);
}

#[test]
fn oom_score_adj_is_set_or_inherited() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    assert_eq!(c.report()["oom_score_adj"], 0);
    c.edit(|s| s["process"]["oomScoreAdj"] = json!(321));
    assert_eq!(c.report()["oom_score_adj"], 321);
}

#[test]
fn signals_are_at_their_defaults() {
    let t = behaviour!();
    let r = t.container().report();
    // Signals 32 and 33 are the C library's own; its posix_spawn leaves them ignored in whatever called the runtime.
    assert_eq!(r["status"]["SigIgn"].as_u64().unwrap() & !(0b11 << 31), 0);
    assert_eq!(r["status"]["SigBlk"], 0);
}

#[test]
fn signals_ignored_by_the_caller_stay_so_or_not_but_none_is_blocked() {
    let t = behaviour!();
    let c = t.container();
    let out = c.launch("run", &[]).under(&["env", "--block-signal=USR1,TERM"]).ok();
    assert_eq!(out.report()["status"]["SigBlk"], 0);
}

#[test]
fn command_is_looked_up_in_the_containers_path() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["do-exit", "12"]);
    c.edit(|s| s["process"]["env"] = json!(["PATH=/nothing:/bin"]));
    c.run().code(12);
}

#[test]
fn relative_command_is_looked_up_from_the_cwd() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["./do-exit", "13"]);
    c.edit(|s| s["process"]["cwd"] = json!("/bin"));
    c.run().code(13);
}

#[test]
fn personality_is_set() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["linux"]["personality"] = json!({ "domain": "LINUX32" }));
    assert_eq!(c.report()["personality"], 8);
}

#[test]
fn scheduler_and_io_priority_are_set() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| {
        s["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 7 });
        s["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    });
    let r = c.report();
    assert_eq!(r["scheduler"]["policy"], 3);
    assert_eq!(r["scheduler"]["nice"], 7);
    assert_eq!(r["scheduler"]["ioprio"], (2 << 13) | 6);
}

#[test]
fn session_keyring_is_named_after_the_container() {
    let t = behaviour!();
    let c = t.container();
    let r = c.report();
    let name = r["keyring"]["description"].as_str().unwrap();
    assert!(name.ends_with(&format!(";{}", c.id)), "{name}");
}

#[test]
fn no_new_keyring_keeps_the_callers() {
    let t = behaviour!();
    let c = t.container();
    let r = c.launch("run", &["--no-new-keyring"]).ok().report();
    let name = r["keyring"]["description"].as_str().unwrap_or_default().to_owned();
    assert!(!name.contains(&c.id), "{name}");
}

#[test]
fn stdio_belongs_to_the_container_user() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    c.args(&["/probe", "stat", "/proc/self/fd/1", ",", "try-open", "/dev/stdout", "w"]);
    c.edit(|s| s["process"]["user"] = json!({ "uid": 1234, "gid": 1234 }));
    let out = c.run().code(0);
    assert_eq!(out.json()["errno"], json!(null), "{out}");
}
