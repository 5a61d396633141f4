//! AppArmor profiles and SELinux labels of processes. The machines of `cargo xtask vm` have AppArmor with the profile `pinnace-test`, under
//! which everything is allowed but /tmp/denied; no machine has SELinux. Not here: how labels become steps (unit tests of the plan).

use std::path::Path;
use std::process::{Command, Stdio};

use harness::{Need, Output, Test, behaviour, json, pinnace_only};

const PROFILE: &str = "pinnace-test";

/// Whether AppArmor confines here; skips the test otherwise.
fn apparmor(t: &Test) -> bool {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'));
    let here = enabled && Path::new("/etc/apparmor.d").join(PROFILE).exists();
    if !here {
        t.skip("needs AppArmor with the profile pinnace-test (covered by cargo xtask vm test)");
    }
    here
}

const CURRENT: [&str; 3] = ["/probe", "read-file", "/proc/self/attr/current"];

/// What a process that reads `CURRENT` says of its profile.
fn current(out: &Output) -> String {
    out.json()["text"].as_str().unwrap().trim().to_owned()
}

/// That of a process which `by` confines.
fn confined(by: &str) -> String {
    format!("{by} (enforce)")
}

#[test]
fn the_profile_is_in_force() {
    let t = behaviour!();
    if !apparmor(&t) {
        return;
    }
    let c = t.container();
    c.edit(|s| s["process"]["apparmorProfile"] = json!(PROFILE));
    c.mount(json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }));
    let out = c.args(&CURRENT).run().code(0);
    assert_eq!(current(&out), confined(PROFILE));
    let out = c.args(&["/probe", "write-file", "/tmp/denied", "x"]).run().code(0);
    assert_eq!(out.json()["errno"], "EACCES", "{}", out.stdout());
    let out = c.args(&["/probe", "write-file", "/tmp/allowed", "x"]).run().code(0);
    assert_eq!(out.json()["errno"], json!(null), "{}", out.stdout());
}

#[test]
fn exec_has_the_profile_of_the_container_or_one_of_its_own() {
    let t = behaviour!();
    if !apparmor(&t) {
        return;
    }
    let c = t.container();
    c.sleeping();
    assert_eq!(current(&c.exec(&[], &CURRENT).code(0)), "unconfined");
    assert_eq!(current(&c.exec(&["--apparmor", PROFILE], &CURRENT).code(0)), confined(PROFILE));
    let d = t.container();
    d.edit(|s| s["process"]["apparmorProfile"] = json!(PROFILE));
    d.sleeping();
    assert_eq!(current(&d.exec(&[], &CURRENT).code(0)), confined(PROFILE));
}

#[test]
fn an_unknown_profile_is_named() {
    let t = behaviour!();
    if !apparmor(&t) {
        return;
    }
    let c = t.container();
    c.edit(|s| s["process"]["apparmorProfile"] = json!("no-such-profile"));
    c.refused(&["apparmor/exec"]);
}

/// Takes a profile away again.
struct Loaded(String);

impl Loaded {
    fn load(name: &str) -> Loaded {
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{ capability, network, mount, umount, pivot_root, ptrace, signal, unix, dbus, file, change_profile, }}\n"
        );
        parser("--add", &text);
        Loaded(text)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        parser("--remove", &self.0);
    }
}

fn parser(option: &str, text: &str) {
    let mut child = Command::new("apparmor_parser").args([option, "--skip-cache"]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "apparmor_parser {option}: {text}");
}

#[test]
fn a_confined_runtime_stacks_profiles() {
    let t = behaviour!(Need::Root, Need::Tool("apparmor_parser"), Need::Tool("aa-exec"));
    if !apparmor(&t) {
        return;
    }
    let outer = format!("pinnace-outer-{}", std::process::id());
    let _loaded = Loaded::load(&outer);
    let c = t.container();
    c.edit(|s| s["process"]["apparmorProfile"] = json!(PROFILE));
    let out = c.args(&CURRENT).launch("run", &[]).under(&["aa-exec", "-p", &outer, "--"]).output().code(0);
    let current = current(&out);
    let both = |part: &str| current.split("//&").any(|label| label.split(' ').next() == Some(part));
    assert!(both(PROFILE) && both(&outer), "{current}");
}

#[test]
fn what_is_not_enabled_is_refused() {
    let t = pinnace_only!();
    let c = t.container();
    if Path::new("/sys/fs/selinux/enforce").exists() {
        return t.skip("needs a machine without SELinux");
    }
    c.edit(|s| s["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0:c1,c2"));
    c.refused(&["process.selinuxLabel: SELinux is not enabled on this host"]);
    let d = t.container();
    d.sleeping();
    d.exec(&["--process-label", "a:b:c:s0"], &["/probe", "exit", "0"])
        .fails_with(&["process.selinuxLabel: SELinux is not enabled on this host"]);
}

#[test]
fn a_profile_without_apparmor_is_refused() {
    let t = behaviour!(Need::CrunDiffers("apparmor-off"));
    if Path::new("/sys/module/apparmor/parameters/enabled").exists() {
        return t.skip("needs a machine without AppArmor (covered by the run on a host without it)");
    }
    let c = t.container();
    c.edit(|s| s["process"]["apparmorProfile"] = json!(PROFILE));
    c.refused(&["process.apparmorProfile: AppArmor is not enabled on this host"]);
    let d = t.container();
    d.sleeping();
    d.exec(&["--apparmor", PROFILE], &["/probe", "exit", "0"])
        .fails_with(&["process.apparmorProfile: AppArmor is not enabled on this host"]);
}
