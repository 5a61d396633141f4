//! Masked and read-only paths, and kernel parameters.

use std::fs;
use std::os::unix::fs::symlink;

use harness::{Need, behaviour, json};

#[test]
fn masked_files_read_as_nothing() {
    let t = behaviour!();
    let c = t.container();
    fs::write(c.rootfs().join("etc/secret"), "secret").unwrap();
    c.edit(|s| s["linux"]["maskedPaths"] = json!(["/proc/uptime", "/etc/secret"]));
    c.args(&["/probe", "read-file", "/proc/uptime", ",", "read-file", "/etc/secret"]);
    for line in c.run().code(0).json_lines() {
        assert_eq!(line["text"], "", "{line}");
    }
    assert_eq!(fs::read_to_string(c.rootfs().join("etc/secret")).unwrap(), "secret");
}

#[test]
fn a_masked_file_is_no_way_to_the_hosts_null_device() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    c.edit(|s| s["linux"]["maskedPaths"] = json!(["/proc/uptime"]));
    // Root of a container without capabilities is still the owner of what root of the host owns.
    c.args(&["/probe", "keep-mode", "/proc/uptime", ",", "try-open", "/proc/uptime", "w", ",", "keep-mode", "/dev/null"]);
    let out = c.run().code(0);
    let errors: Vec<_> = out.json_lines().iter().map(|line| line["errno"].clone()).collect();
    assert_eq!(errors, [json!("EROFS"), json!(null), json!(null)], "{out:?}");
}

#[test]
fn masked_directories_are_empty_and_read_only() {
    let t = behaviour!();
    let c = t.container();
    fs::create_dir(c.rootfs().join("data/secrets")).unwrap();
    fs::write(c.rootfs().join("data/secrets/one"), "secret").unwrap();
    c.edit(|s| {
        s["root"]["readonly"] = json!(false);
        s["linux"]["maskedPaths"] = json!(["/data/secrets", "/proc/bus", "/sys/firmware"]);
    });
    c.args(&["/probe", "stat", "/data/secrets", "/proc/bus", ",", "try-write", "/data/secrets/x"]);
    let lines = c.run().code(0).json_lines();
    assert_eq!((&lines[0]["entries"], &lines[1]["entries"]), (&json!([]), &json!([])));
    assert_eq!(lines[2]["errno"], "EROFS");
}

#[test]
fn missing_masked_and_readonly_paths_are_passed_over() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| {
        s["linux"]["maskedPaths"] = json!(["/proc/no-such-file", "/no/such/dir"]);
        s["linux"]["readonlyPaths"] = json!(["/proc/no-such-file", "/no/such/dir"]);
    });
    c.args(&["/probe", "exit", "0"]).run().code(0);
}

#[test]
fn readonly_paths_cannot_be_written() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    c.edit(|s| {
        s["root"]["readonly"] = json!(false);
        s["linux"]["readonlyPaths"] = json!(["/proc/sys", "/data"]);
    });
    c.args(&[
        "/probe",
        "report",
        ",",
        "try-open",
        "/proc/sys/kernel/domainname",
        "w",
        ",",
        "try-write",
        "/data/x",
        ",",
        "try-write",
        "/etc/x",
    ]);
    let out = c.run().code(0);
    assert!(out.report().mount_has("/proc/sys", "ro"));
    let lines = out.json_lines();
    assert_eq!((&lines[1]["errno"], &lines[2]["errno"], &lines[3]["errno"]), (&json!("EROFS"), &json!("EROFS"), &json!(null)));
}

#[test]
fn readonly_keeps_the_flags_of_what_it_covers() {
    let t = behaviour!();
    let c = t.container();
    c.mount(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "noexec"] }));
    c.edit(|s| s["linux"]["readonlyPaths"] = json!(["/data"]));
    let r = c.report();
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(r.mount_has("/data", option), "{option}: {}", r.mount("/data").unwrap());
    }
}

#[test]
fn masks_stay_inside_the_root() {
    let t = behaviour!();
    let c = t.container();
    let outside = t.dir().join("outside");
    fs::write(&outside, "untouched").unwrap();
    symlink(&outside, c.rootfs().join("etc/link")).unwrap();
    c.edit(|s| s["linux"]["maskedPaths"] = json!(["/etc/link"]));
    c.args(&["/probe", "exit", "0"]);
    c.run();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
}

#[test]
fn masks_need_a_mount_namespace_of_their_own() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["linux"]["maskedPaths"] = json!(["/etc/hostname"]));
    fs::write(c.rootfs().join("etc/hostname"), "x").unwrap();
    c.args(&["/probe", "exit", "0"]).run().code(0);
    assert_eq!(fs::read_to_string(c.rootfs().join("etc/hostname")).unwrap(), "x");
}

#[test]
fn kernel_parameters_of_own_namespaces_are_set() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    c.edit(|s| {
        s["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel.msgmax": "4321", "kernel.domainname": "example.org" });
    });
    c.args(&["/probe", "report", "--sysctl", "net.ipv4.ip_forward", "--sysctl", "kernel.msgmax", "--sysctl", "kernel.domainname"]);
    let r = c.report();
    assert_eq!(r["sysctl"]["net.ipv4.ip_forward"], "1");
    assert_eq!(r["sysctl"]["kernel.msgmax"], "4321");
    assert_eq!(r["domainname"], "example.org");
}

#[test]
fn kernel_parameters_of_the_host_are_refused() {
    let t = behaviour!();
    let before = fs::read_to_string("/proc/sys/vm/swappiness").unwrap();
    for (name, value) in [("vm.swappiness", "11"), ("kernel.pid_max", "999999"), ("fs.file-max", "100000")] {
        let c = t.container();
        c.edit(|s| s["linux"]["sysctl"] = json!({ name: value }));
        c.refused(&[name]);
    }
    assert_eq!(fs::read_to_string("/proc/sys/vm/swappiness").unwrap(), before);
}

#[test]
fn kernel_parameters_need_their_namespace() {
    let t = behaviour!();
    for (name, kind) in [("net.ipv4.ip_forward", "network"), ("kernel.msgmax", "ipc")] {
        let c = t.container();
        c.namespace(kind, None).edit(|s| s["linux"]["sysctl"] = json!({ name: "1" }));
        c.refused(&[name]);
    }
}
