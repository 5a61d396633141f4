//! Seccomp: actions, arguments, defaults, an engine's real profile, and sections that must be refused.

use harness::{Container, Need, Value, behaviour, json};

/// The profile that podman gave a container, 400 and more names.
const ENGINE_PROFILE: &str = include_str!("../../data/seccomp-engine.json");

fn filter(c: &Container<'_>, section: Value) {
    c.edit(|s| s["linux"]["seccomp"] = section);
}

/// All allowed but for these rules.
fn rules(rules: Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules })
}

/// The errno of a system call under the rules.
fn verdict(c: &Container<'_>, call: &[&str]) -> Value {
    let mut args = vec!["/probe", "syscall"];
    args.extend(call);
    c.args(&args);
    c.run().code(0).json()["errno"].clone()
}

#[test]
fn no_section_no_filter() {
    let t = behaviour!();
    assert_eq!(t.container().report()["status"]["Seccomp"], 0);
}

#[test]
fn a_filter_is_in_force() {
    let t = behaviour!();
    let c = t.container();
    filter(&c, rules(json!([{ "names": ["chmod"], "action": "SCMP_ACT_ERRNO" }])));
    let r = c.report();
    assert_eq!((&r["status"]["Seccomp"], &r["status"]["Seccomp_filters"]), (&json!(2), &json!(1)));
}

#[test]
fn errno_is_eperm_or_the_given_one() {
    let t = behaviour!();
    let c = t.container();
    filter(
        &c,
        rules(json!([
            { "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" },
            { "names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
        ])),
    );
    assert_eq!(verdict(&c, &["mkdir"]), "EPERM");
    assert_eq!(verdict(&c, &["chmod"]), "ENOSYS");
    assert_eq!(verdict(&c, &["chroot"]), "EFAULT");
}

#[test]
fn default_errno_is_used_for_what_no_rule_names() {
    let t = behaviour!();
    let c = t.container();
    let mut section: Value = serde_json::from_str(ENGINE_PROFILE).unwrap();
    section["defaultAction"] = json!("SCMP_ACT_ERRNO");
    section["defaultErrnoRet"] = json!(95);
    for rule in section["syscalls"].as_array_mut().unwrap() {
        rule["names"].as_array_mut().unwrap().retain(|n| n != "chmod");
    }
    filter(&c, section);
    assert_eq!(verdict(&c, &["chmod"]), "EOPNOTSUPP");
    assert_eq!(verdict(&c, &["mkdir"]), "EFAULT");
}

#[test]
fn arguments_are_compared() {
    let t = behaviour!();
    let c = t.container();
    let arg = |op: &str, value: u64, two: u64| json!([{ "index": 0, "value": value, "valueTwo": two, "op": op }]);
    let table = [
        ("SCMP_CMP_EQ", 8, 0, "8", true),
        ("SCMP_CMP_EQ", 8, 0, "9", false),
        ("SCMP_CMP_NE", 8, 0, "9", true),
        ("SCMP_CMP_LT", 8, 0, "7", true),
        ("SCMP_CMP_LE", 8, 0, "9", false),
        ("SCMP_CMP_GE", 8, 0, "8", true),
        ("SCMP_CMP_GT", 8, 0, "8", false),
        ("SCMP_CMP_MASKED_EQ", 0xf0, 0x20, "47", true),
        ("SCMP_CMP_MASKED_EQ", 0xf0, 0x20, "31", false),
    ];
    for (op, value, two, given, hit) in table {
        filter(&c, rules(json!([{ "names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": arg(op, value, two) }])));
        let got = verdict(&c, &["umask", given]);
        assert_eq!(got == "EBADFD", hit, "{op} {value} {two} with {given}: {got}");
    }
}

#[test]
fn killing_actions_kill() {
    let t = behaviour!();
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"] {
        let c = t.container();
        filter(&c, rules(json!([{ "names": ["mkdir"], "action": action }])));
        c.args(&["/probe", "syscall", "mkdir"]).run().code(128 + 31);
    }
}

#[test]
fn an_engines_profile_works() {
    let t = behaviour!();
    let c = t.container();
    filter(&c, serde_json::from_str(ENGINE_PROFILE).unwrap());
    let r = c.report();
    assert_eq!(r["status"]["Seccomp"], 2);
    // clone3 is allowed, bpf denied by a rule of its own.
    assert_eq!(verdict(&c, &["clone3"]), "EINVAL");
    assert_eq!(verdict(&c, &["bpf"]), "EPERM");
    // Twice, since the second start may use what the first one left in the cache.
    assert_eq!(verdict(&c, &["bpf"]), "EPERM");
}

#[test]
fn works_without_no_new_privileges() {
    let t = behaviour!();
    let c = t.container();
    filter(&c, rules(json!([{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" }])));
    c.edit(|s| s["process"]["noNewPrivileges"] = json!(false));
    assert_eq!(verdict(&c, &["mkdir"]), "EPERM");
    let r = c.args(&["/probe", "report"]).report();
    assert_eq!((&r["no_new_privs"], &r["status"]["Seccomp"]), (&json!(0), &json!(2)));
}

#[test]
fn works_for_an_ordinary_user() {
    let t = behaviour!();
    for no_new_privileges in [true, false] {
        let c = t.container();
        filter(&c, rules(json!([{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" }])));
        c.edit(|s| {
            s["process"]["noNewPrivileges"] = json!(no_new_privileges);
            s["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
            s["process"]["capabilities"] = json!({});
        });
        assert_eq!(verdict(&c, &["mkdir"]), "EPERM");
    }
}

#[test]
fn holds_for_exec_too() {
    let t = behaviour!();
    let c = t.container();
    filter(&c, rules(json!([{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }])));
    c.sleeping();
    let out = c.exec(&[], &["/probe", "syscall", "mkdir"]).code(0);
    assert_eq!(out.json()["errno"], "ENOSYS");
}

#[test]
fn unknown_names_of_calls_are_passed_over() {
    let t = behaviour!();
    let c = t.container();
    filter(&c, rules(json!([{ "names": ["no_such_call", "mkdir"], "action": "SCMP_ACT_ERRNO" }])));
    assert_eq!(verdict(&c, &["mkdir"]), "EPERM");
}

#[test]
fn unknown_words_are_refused() {
    let t = behaviour!();
    let sections = [
        json!({ "defaultAction": "SCMP_ACT_NONSENSE" }),
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NONSENSE"] }),
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NONSENSE"] }),
        rules(json!([{ "names": ["mkdir"], "action": "SCMP_ACT_NONSENSE" }])),
    ];
    for section in sections {
        let c = t.container();
        filter(&c, section);
        c.args(&["/probe", "out", "started"]);
        c.refused(&["NONSENSE"]);
    }
}

#[test]
fn unknown_operators_are_named() {
    let t = behaviour!(Need::CrunDiffers("seccomp-operator-text"));
    let c = t.container();
    let args = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_NONSENSE" }]);
    filter(&c, rules(json!([{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": args }])));
    c.refused(&["SCMP_CMP_NONSENSE"]);
}

#[test]
fn differences_only_in_errno_are_not_mixed_up() {
    let t = behaviour!(Need::CrunDiffers("seccomp-cache"));
    for (number, name) in [(38, "ENOSYS"), (13, "EACCES")] {
        let c = t.container();
        filter(&c, rules(json!([{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": number }])));
        assert_eq!(verdict(&c, &["mkdir"]), name);
    }
}
