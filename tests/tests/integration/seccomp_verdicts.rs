//! What filters say to every system call: the engines' default profiles against an installed crun, calls newer than a profile, filters
//! given whole, and a cache that somebody has been at. Not here: single words of the section (`seccomp`), listeners (`seccomp_notify`).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use harness::{Container, Kind, Layout, Need, Place, Scope, Test, Value, behaviour, json, pinnace_only};

/// As the engines write them for a container with their default capabilities.
const PROFILES: [(&str, &str); 3] = [
    ("podman", include_str!("../../data/seccomp/podman.json")),
    ("docker", include_str!("../../data/seccomp/docker.json")),
    ("containerd", include_str!("../../data/seccomp/containerd.json")),
];
const CRUN: &str = "/usr/bin/crun";
/// What the probe says of a call that is allowed.
const ALLOWED: i64 = 4000;
const COUNT: i64 = 501;

fn section(c: &Container<'_>, section: &Value) {
    c.edit(|s| s["linux"]["seccomp"] = section.clone());
}

fn profile(name: &str) -> Value {
    let text = PROFILES.iter().find(|(known, _)| *known == name).unwrap().1;
    serde_json::from_str(text).unwrap()
}

/// The verdicts on every number below [`COUNT`], with the probe's argument lists.
fn verdicts(c: &Container<'_>) -> BTreeMap<i64, Vec<i64>> {
    c.args(&["/probe", "verdicts", &COUNT.to_string()]);
    let all = c.run().code(0).json();
    let numbers = |list: &Value| list.as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect();
    all.as_array().unwrap().iter().map(|entry| (entry[0].as_i64().unwrap(), numbers(&entry[1]))).collect()
}

/// Reports the test as skipped where crun runs nothing.
fn no_crun(t: &Test) -> bool {
    let hybrid = Place::get().layout == Layout::Hybrid;
    if hybrid {
        t.skip("crun refuses a host whose v1 hierarchies are mounted beside a v2 tree (covered by the run in the v2 view)");
    }
    hybrid
}

/// The same under both runtimes.
fn both(t: &Test, profile: &Value) -> [BTreeMap<i64, Vec<i64>>; 2] {
    let ours = t.container();
    section(&ours, profile);
    let other = Test::begin(&t.name, Scope::PinnaceOnly, &[]).expect("it began once").with_binary(Path::new(CRUN));
    let theirs = other.container();
    section(&theirs, profile);
    // Its device rules need CAP_SYS_RESOURCE, and the filter needs no cgroup.
    theirs.global(&["--cgroup-manager", "disabled"]).edit(|s| drop(s["linux"].as_object_mut().unwrap().remove("resources")));
    [verdicts(&ours), verdicts(&theirs)]
}

/// The engines' profiles, compared with crun call by call; beyond the last call that a profile names stands the stub.
#[test]
fn the_engines_profiles_say_what_crun_says() {
    let t = pinnace_only!(Need::Root, Need::Tool("crun"));
    if no_crun(&t) {
        return;
    }
    for (name, _) in PROFILES {
        let profile = profile(name);
        let [ours, theirs] = both(&t, &profile);
        assert_eq!(ours.len(), theirs.len());
        let default = profile["defaultErrnoRet"].as_i64().unwrap_or(1);
        // Past here the probe's own names end, so the profile's last one is where crun's last answer differs from the default.
        let last = theirs.iter().rev().find(|(_, answers)| answers.iter().any(|n| *n != default)).map(|(number, _)| *number).unwrap();
        let (mut compared, mut allowed, mut newer) = (0, 0, 0);
        for (number, answers) in &theirs {
            let expected: Vec<i64> =
                if *number > last { answers.iter().map(|n| if *n == default { 38 } else { *n }).collect() } else { answers.clone() };
            assert_eq!(ours[number], expected, "{name}: call {number}");
            compared += answers.len();
            allowed += answers.iter().filter(|n| **n == ALLOWED).count();
            newer += usize::from(*number > last);
        }
        // A comparison of nothing but refusals would hold for any two filters that refuse.
        assert!(compared > 15_000 && allowed > compared / 2 && newer > 20, "{name}: {compared} compared, {allowed} allowed, {newer} newer");
    }
}

/// Without the stub not one verdict differs.
#[test]
fn without_the_stub_nothing_differs_from_crun() {
    let t = pinnace_only!(Need::Root, Need::Tool("crun"));
    if no_crun(&t) {
        return;
    }
    let c = t.container();
    section(&c, &profile("docker"));
    c.edit(|s| s["annotations"] = json!({ "run.pinnace.seccomp_enosys_stub": "0" }));
    let ours = verdicts(&c);
    assert_eq!(ours, both(&t, &profile("docker"))[1]);
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let t = behaviour!(Need::CrunDiffers("seccomp-enosys-stub"));
    let c = t.container();
    section(&c, &profile("docker"));
    let of = |c: &Container<'_>| verdicts(c)[&(COUNT - 1)].clone();
    assert!(of(&c).iter().all(|errno| *errno == 38));
    c.edit(|s| s["annotations"] = json!({ "run.pinnace.seccomp_enosys_stub": "0" }));
    assert!(of(&c).iter().all(|errno| *errno == 1));
}

/// `struct sock_filter` array in base64: `number` gets the error number, the rest is allowed.
fn raw(number: i64, errno: u32) -> String {
    let op = |code: u16, jt: u8, jf: u8, k: u32| [&code.to_ne_bytes()[..], &[jt, jf], &k.to_ne_bytes()].concat();
    let program =
        [op(0x20, 0, 0, 0), op(0x15, 0, 1, number as u32), op(0x06, 0, 0, 0x0005_0000 | errno), op(0x06, 0, 0, 0x7fff_0000)].concat();
    base64(&program)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let bits = part.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for n in 0..4 {
            let letter = char::from(LETTERS[(bits >> (18 - 6 * n) & 63) as usize]);
            text.push(if n <= part.len() { letter } else { '=' });
        }
    }
    text
}

#[test]
fn a_filter_may_be_given_whole() {
    let t = behaviour!();
    let c = t.container();
    // The section's own rules do not count then.
    section(
        &c,
        &json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }] }),
    );
    c.edit(|s| s["annotations"] = json!({ "run.oci.seccomp_bpf_data": raw(nix::libc::SYS_mkdir, 77) }));
    let errno = |call: &str| c.args(&["/probe", "syscall", call]).run().code(0).json()["errno"].clone();
    assert_eq!(errno("mkdir"), "EBADFD");
    assert_eq!(errno("chmod"), "EFAULT");
    // It holds for further processes, too.
    c.sleeping();
    assert_eq!(c.exec(&[], &["/probe", "syscall", "mkdir"]).code(0).json()["errno"], "EBADFD");
}

#[test]
fn a_filter_given_whole_must_be_one() {
    let t = pinnace_only!();
    for (data, text) in [("%%%", "invalid seccomp BPF data"), ("AAAA", "not a whole number of instructions"), ("////////AAA=", "seccomp")] {
        let c = t.container();
        section(&c, &json!({ "defaultAction": "SCMP_ACT_ALLOW" }));
        c.edit(|s| s["annotations"] = json!({ "run.oci.seccomp_bpf_data": data }));
        c.args(&["/probe", "out", "started"]);
        c.refused(&[text]);
    }
}

#[test]
fn unknown_names_of_calls_can_be_errors() {
    let t = behaviour!();
    let c = t.container();
    section(&c, &json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["no_such_call"], "action": "SCMP_ACT_ERRNO" }] }));
    c.edit(|s| s["annotations"] = json!({ "run.oci.seccomp_fail_unknown_syscall": "0" }));
    c.args(&["/probe", "exit", "0"]).run().code(0);
    c.edit(|s| s["annotations"] = json!({ "run.oci.seccomp_fail_unknown_syscall": "1" }));
    c.refused(&["no_such_call"]);
}

#[test]
fn plugins_are_refused_in_plain_words() {
    let t = pinnace_only!();
    let c = t.container();
    section(&c, &json!({ "defaultAction": "SCMP_ACT_ALLOW" }));
    c.edit(|s| s["annotations"] = json!({ "run.oci.seccomp.plugins": "/usr/lib/crun/x.so" }));
    c.args(&["/probe", "out", "started"]);
    c.refused(&["run.oci.seccomp.plugins", "cannot load seccomp notify plugins"]);
}

/// A filter that refuses mkdir, another that does not, and the cache of the test's runtime.
fn cached(t: &Test) -> (Container<'_>, std::path::PathBuf) {
    let c = t.container();
    section(
        &c,
        &json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77 }] }),
    );
    c.args(&["/probe", "syscall", "mkdir"]);
    (c, t.root().join(".cache/seccomp"))
}

fn holds(c: &Container<'_>, what: &str) {
    assert_eq!(c.run().code(0).json()["errno"], "EBADFD", "{what}");
}

/// Whatever is in the place of the cache or of its file, the container has the filter of its own profile.
#[test]
fn a_cache_that_others_could_have_written_is_not_believed() {
    let t = pinnace_only!(Need::Root);
    let (c, cache) = cached(&t);
    holds(&c, "no cache");
    let file = fs::read_dir(&cache).unwrap().next().expect("the filter is cached").unwrap().path();
    let good = fs::read(&file).unwrap();
    holds(&c, "a good one");
    // The instruction that refuses becomes one that allows, as somebody would do it who cannot make checksums.
    let refuse = (0x0005_0000u32 | 77).to_ne_bytes();
    let at = good.windows(4).position(|w| w == refuse).expect("the filter is in the file");
    let mut flipped = good.clone();
    flipped[at..at + 4].copy_from_slice(&0x7fff_0000u32.to_ne_bytes());
    for (what, bytes) in
        [("flipped", &flipped[..]), ("truncated", &good[..good.len() - 8]), ("empty", b""), ("longer", &[&good[..], b"x"].concat())]
    {
        fs::write(&file, bytes).unwrap();
        holds(&c, what);
        assert_eq!(fs::read(&file).unwrap(), good, "{what}: the good one is put back");
    }
    // The file of one profile under another's name: a filter that allows all.
    let other = t.container();
    section(&other, &json!({ "defaultAction": "SCMP_ACT_ALLOW" }));
    other.args(&["/probe", "exit", "0"]).run().code(0);
    let allows = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).find(|path| *path != file).expect("a second file");
    fs::copy(&allows, &file).unwrap();
    holds(&c, "another profile's");
    fs::copy(&allows, t.dir().join("outside")).unwrap();
    fs::remove_file(&file).unwrap();
    symlink(t.dir().join("outside"), &file).unwrap();
    holds(&c, "a link");
    chown(&file, Some(12_345), None).unwrap();
    holds(&c, "a stranger's file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    holds(&c, "anybody's file");
}

#[test]
fn a_cache_in_a_strange_place_is_not_used() {
    let t = pinnace_only!(Need::Root);
    let (c, cache) = cached(&t);
    holds(&c, "no cache");
    let aside = t.dir().join("aside");
    let fresh = |how: &str| {
        fs::remove_dir_all(&cache).or_else(|_| fs::remove_file(&cache)).unwrap();
        let _ = fs::remove_dir_all(&aside);
        fs::create_dir(&aside).unwrap();
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o700)).unwrap();
        match how {
            "link" => symlink(&aside, &cache).unwrap(),
            "file" => fs::write(&cache, "").unwrap(),
            _ => fs::create_dir(&cache).unwrap(),
        }
        if how == "mode" {
            fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
        }
        if how == "owner" {
            fs::set_permissions(&cache, fs::Permissions::from_mode(0o700)).unwrap();
            chown(&cache, Some(12_345), None).unwrap();
        }
    };
    for how in ["link", "file", "mode", "owner"] {
        fresh(how);
        holds(&c, how);
        let used = fs::read_dir(if how == "link" { &aside } else { &cache }).map_or(0, Iterator::count);
        assert_eq!(used, 0, "{how}: nothing is written there");
    }
    assert_eq!(t.runtime.kind, Kind::Pinnace);
}
