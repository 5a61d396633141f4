//! Input that must be refused: one clear line that names the field or the object, exit 1, one record in the JSON log,
//! and nothing left behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use harness::{Container, Need, Test, Value, behaviour, json, one_error_record};

/// Runs it with a JSON log; checks what holds for every refusal.
#[track_caller]
fn refused(t: &Test, c: &Container<'_>, texts: &[&str]) {
    let file = t.dir().join(format!("log-{}", c.id));
    c.global(&["--log", file.to_str().unwrap(), "--log-format", "json"]);
    for command in ["run", "create"] {
        let _ = fs::remove_file(&file);
        let out = c.launch(command, &[]).output().fails_with(texts);
        assert_eq!(out.stdout(), "", "{out}");
        one_error_record(&file);
        c.forget_cgroup_of_crun();
        c.leaves_nothing();
        assert!(!c.state_dir().exists());
    }
}

#[test]
fn missing_config() {
    let t = behaviour!();
    let c = t.container();
    c.write();
    fs::remove_file(c.bundle.join("config.json")).unwrap();
    refused(&t, &c, &["config.json"]);
}

#[test]
fn missing_config_has_its_errno() {
    let t = behaviour!(Need::CrunDiffers("config-errno"));
    let c = t.container();
    c.write();
    fs::remove_file(c.bundle.join("config.json")).unwrap();
    refused(&t, &c, &["config.json", "No such file or directory"]);
}

#[test]
fn missing_bundle() {
    let t = behaviour!();
    let c = t.container();
    c.write();
    let out = c.call("run").args(&["--bundle", "/no/such/bundle"]).arg(&c.id).output().failed();
    assert!(out.stderr().contains("/no/such/bundle") && out.stderr().contains("No such file or directory"), "{out}");
    c.leaves_nothing();
}

#[test]
fn malformed_config() {
    let t = behaviour!();
    for text in ["", "{", "not json", "[]", "\"text\"", "{\"ociVersion\": }", "null"] {
        let c = t.container();
        c.raw_config(text);
        refused(&t, &c, &[]);
    }
}

#[test]
fn config_with_fields_of_wrong_type() {
    let t = behaviour!(Need::CrunDiffers("errors-name-the-field"));
    type Change = fn(&mut Value);
    let table: [(Change, &str); 8] = [
        (|s| s["process"]["args"] = json!("sh"), "process.args"),
        (|s| s["process"]["user"]["uid"] = json!("root"), "process.user.uid"),
        (|s| s["process"]["user"]["uid"] = json!(-1), "process.user.uid"),
        (|s| s["root"]["readonly"] = json!("yes"), "root.readonly"),
        (|s| s["mounts"] = json!({}), "mounts"),
        (|s| s["mounts"][0]["options"] = json!("ro"), "mounts[0].options"),
        (|s| s["linux"]["resources"] = json!({ "pids": { "limit": "many" } }), "linux.resources.pids.limit"),
        (|s| s["hostname"] = json!(5), "hostname"),
    ];
    for (change, field) in table {
        let c = t.container();
        c.edit(change);
        refused(&t, &c, &[field]);
    }
}

#[test]
fn config_without_what_it_must_have() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| drop(s.as_object_mut().unwrap().remove("process")));
    // Only to start does a container need one: `create` may go without.
    c.refused(&["block `process` not found"]);
    let c = t.container();
    c.edit(|s| s["process"]["args"] = json!([]));
    c.refused(&[]);
    let c = t.container();
    c.edit(|s| drop(s.as_object_mut().unwrap().remove("root")));
    refused(&t, &c, &["root"]);
}

#[test]
fn config_that_contradicts_itself() {
    let t = behaviour!(Need::CrunDiffers("errors-name-the-field"));
    type Change = fn(&mut Value);
    let table: [(Change, &str); 6] = [
        (|s| drop(s.as_object_mut().unwrap().remove("ociVersion")), "ociVersion"),
        (|s| s["process"]["cwd"] = json!("relative"), "process.cwd"),
        (|s| s["mounts"][0]["destination"] = json!("relative/../.."), "mounts[0].destination"),
        (|s| s["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 10, "hard": 5 }]), "process.rlimits[0]"),
        (|s| s["process"]["args"] = json!([""]), "process.args"),
        (|s| s["hostname"] = json!("x".repeat(100)), "hostname"),
    ];
    for (change, field) in table {
        let c = t.container();
        c.edit(change);
        let out = c.run();
        if field == "mounts[0].destination" && out.status() == 0 {
            // A relative destination is taken from the root, as older specifications allow.
            continue;
        }
        let out = out.fails_with(&[]);
        assert!(
            out.stderr().contains(field.split(['.', '[']).next_back().unwrap_or(field)) || out.stderr().contains(field),
            "{field}: {out}"
        );
        c.leaves_nothing();
    }
}

#[test]
fn unknown_words() {
    let t = behaviour!();
    type Change = fn(&mut Value);
    let table: [(Change, &str); 3] = [
        (|s| s["process"]["rlimits"] = json!([{ "type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1 }]), "RLIMIT_NONSENSE"),
        (|s| s["linux"]["namespaces"] = json!([{ "type": "nonsense" }]), "nonsense"),
        (|s| s["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_NONSENSE" }), "SCMP_ACT_NONSENSE"),
    ];
    for (change, word) in table {
        let c = t.container();
        c.edit(change);
        refused(&t, &c, &[word]);
    }
}

#[test]
fn unknown_capabilities() {
    let t = behaviour!(Need::CrunDiffersBefore(29, "unknown-capability"));
    let c = t.container();
    c.edit(|s| s["process"]["capabilities"]["bounding"] = json!(["CAP_NONSENSE"]));
    refused(&t, &c, &["CAP_NONSENSE"]);
}

#[test]
fn unknown_words_that_crun_words_otherwise() {
    let t = behaviour!(Need::CrunDiffers("errors-name-the-field"));
    type Change = fn(&mut Value);
    let table: [(Change, &str); 4] = [
        (|s| s["linux"]["rootfsPropagation"] = json!("nonsense"), "linux.rootfsPropagation"),
        (|s| s["linux"]["devices"] = json!([{ "path": "/dev/x", "type": "q", "major": 1, "minor": 3 }]), "linux.devices[0].type"),
        (|s| s["linux"]["personality"] = json!({ "domain": "NONSENSE" }), "linux.personality.domain"),
        (|s| s["process"]["scheduler"] = json!({ "policy": "SCHED_NONSENSE" }), "process.scheduler.policy"),
    ];
    for (change, field) in table {
        let c = t.container();
        c.edit(change);
        refused(&t, &c, &[field]);
    }
}

#[test]
fn unusable_ids() {
    let t = behaviour!(Need::CrunDiffersBefore(28, "id-paths"));
    let c = t.container();
    c.args(&["/probe", "exit", "0"]).write();
    let table = [("", "empty container ID"), ("a/b", "/"), ("a b", " "), ("../x", "../x"), (".", "."), (".hidden", "invalid container ID")];
    for (id, text) in table {
        let mut call = t.runtime();
        call.args(&["run", "--bundle"]).arg(&c.bundle).arg(id);
        let out = call.output().failed();
        assert!(out.stderr().contains(text), "{id:?}: {out}");
    }
    let entries = fs::read_dir(t.root()).map(|d| d.flatten().filter(|e| !e.file_name().to_string_lossy().starts_with('.')).count());
    assert_eq!(entries.unwrap_or(0), 0);
}

#[test]
fn usual_ids_are_taken() {
    let t = behaviour!();
    for part in ["_", "+x", "-x", "A.b-c_d+e", "9"] {
        let c = t.container();
        c.args(&["/probe", "exit", "6"]).write();
        let id = format!("{}{part}", c.id);
        c.call("run").arg("--bundle").arg(&c.bundle).arg(&id).output().code(6);
    }
}

#[test]
fn missing_rootfs() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["root"]["path"] = json!("no-such-rootfs"));
    refused(&t, &c, &["no-such-rootfs"]);
}

#[test]
fn missing_rootfs_is_said_to_be_missing() {
    let t = behaviour!(Need::CrunDiffers("rootfs-text"));
    let c = t.container();
    c.edit(|s| s["root"]["path"] = json!("/no/such/rootfs"));
    refused(&t, &c, &["the rootfs path `/no/such/rootfs` does not exist"]);
}

#[test]
fn rootfs_that_is_a_file() {
    let t = behaviour!();
    let c = t.container();
    fs::write(c.bundle.join("file"), "").unwrap();
    c.edit(|s| s["root"]["path"] = json!("file"));
    refused(&t, &c, &["file"]);
}

/// Puts a file into the root file system and makes it the command.
fn command(c: &Container<'_>, body: &[u8], mode: u32) {
    let path = c.rootfs().join("bin/command");
    fs::write(&path, body).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    c.args(&["/bin/command"]);
}

#[test]
fn missing_command() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/no/such/command"]);
    refused(&t, &c, &["executable file `/no/such/command` not found", ": No such file or directory"]);
    let c = t.container();
    c.args(&["no-such-command"]);
    refused(&t, &c, &["executable file `no-such-command` not found in $PATH: No such file or directory"]);
}

#[test]
fn command_that_is_not_executable() {
    let t = behaviour!();
    let c = t.container();
    command(&c, b"#!/probe\n", 0o644);
    refused(&t, &c, &["/bin/command"]);
}

#[test]
fn command_that_is_not_executable_is_told_from_one_that_is_missing() {
    let t = behaviour!();
    let c = t.container();
    command(&c, b"#!/probe\n", 0o644);
    refused(&t, &c, &["the path `/bin/command` exists but it is not executable: Operation not permitted"]);
}

#[test]
fn command_that_is_a_directory() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/bin"]);
    refused(&t, &c, &["/bin"]);
}

/// An ELF file for an interpreter that isn't there: this test program's own, if it is dynamic.
fn dynamic_elf() -> Vec<u8> {
    fs::read(harness::view::program()).unwrap()
}

#[test]
fn missing_elf_interpreter() {
    let t = behaviour!();
    let c = t.container();
    command(&c, &dynamic_elf(), 0o755);
    let out = c.run();
    assert_eq!(out.status(), 1, "{out}");
    assert!(out.stderr().contains("exec container process") && out.stderr().contains("No such file or directory"), "{out}");
    c.leaves_nothing();
}

#[test]
fn missing_script_interpreter() {
    let t = behaviour!();
    let c = t.container();
    command(&c, b"#!/no/such/interpreter\n", 0o755);
    let out = c.run();
    assert_eq!(out.status(), 1, "{out}");
    let text = "exec container process (missing dynamic library?) `/bin/command`: No such file or directory";
    assert!(out.stderr().contains(text), "{out}");
    assert_eq!(out.stderr().trim_end().lines().count(), 1, "{out}");
    c.leaves_nothing();
}

#[test]
fn command_of_no_executable_format() {
    let t = behaviour!();
    let c = t.container();
    command(&c, b"just text", 0o755);
    let out = c.run();
    assert_eq!(out.status(), 1, "{out}");
    assert!(out.stderr().contains("exec container process `/bin/command`: Exec format error"), "{out}");
    c.leaves_nothing();
}

#[test]
fn script_interpreters_work() {
    let t = behaviour!();
    let c = t.container();
    // The kernel passes the rest of the line as one argument and then the script's path.
    command(&c, b"#!/probe out\n", 0o755);
    assert_eq!(c.run().code(0).stdout(), "/bin/command\n");
}

#[test]
fn cwd_that_is_a_file() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["process"]["cwd"] = json!("/probe"));
    refused(&t, &c, &["/probe", "Not a directory"]);
}

#[test]
fn mount_on_what_cannot_be_made() {
    let t = behaviour!();
    let c = t.container();
    c.mount(json!({ "destination": "/probe/below", "type": "tmpfs", "source": "tmpfs" }));
    refused(&t, &c, &["probe/below", "Not a directory"]);
}

#[test]
fn dangling_links_do_not_lead_outside() {
    let t = behaviour!();
    let c = t.container();
    let outside = t.dir().join("made-outside");
    symlink(&outside, c.rootfs().join("data/link")).unwrap();
    c.edit(|s| s["root"]["readonly"] = json!(false));
    c.mount(json!({ "destination": "/data/link", "type": "tmpfs", "source": "tmpfs" }));
    c.args(&["/probe", "exit", "0"]).run();
    assert!(!outside.exists());
}

#[test]
fn impossible_rlimits() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 99_999_999_999_u64, "hard": 99_999_999_999_u64 }]));
    refused(&t, &c, &["RLIMIT_NOFILE"]);
}

#[test]
fn process_files_of_exec() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    let file = t.dir().join("p.json");
    c.exec(&["--process", file.to_str().unwrap()], &[]).fails_with(&["p.json", "No such file or directory"]);
    for text in ["", "{", "[]", "{}", r#"{"args": "x"}"#] {
        fs::write(&file, text).unwrap();
        c.exec(&["--process", file.to_str().unwrap()], &[]).failed();
    }
    assert_eq!(c.status(), "running");
}

#[test]
fn a_state_file_that_is_damaged() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    let status = c.state_dir().join("status");
    let good = fs::read(&status).unwrap();
    for bad in [&b""[..], b"{", b"[1]", b"{\"pid\": \"x\"}"] {
        fs::write(&status, bad).unwrap();
        let out = c.do_("state").failed();
        assert!(!out.stderr().is_empty() && !out.stderr().contains("panicked"), "{out}");
    }
    fs::write(&status, good).unwrap();
    assert_eq!(c.status(), "running");
}
