//! Mounts: the default ones, each option the engines pass, bind mounts, propagation, and targets that must be made.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use harness::{Container, Need, Report, Test, behaviour, json};

/// A bind mount of a host directory that has one file `f`.
fn host_dir(t: &Test, name: &str) -> String {
    let dir = t.dir().join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("f"), "from the host").unwrap();
    dir.to_str().unwrap().to_owned()
}

fn bind(c: &Container<'_>, source: &str, target: &str, options: &[&str]) {
    let mut all = vec!["bind"];
    all.extend(options);
    c.mount(json!({ "destination": target, "type": "bind", "source": source, "options": all }));
}

fn tmpfs(c: &Container<'_>, options: &[&str]) -> Report {
    c.mount(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": options }));
    c.report()
}

#[test]
fn default_mounts_are_there() {
    let t = behaviour!();
    let c = t.container();
    let r = c.report();
    let kinds =
        [("/proc", "proc"), ("/dev", "tmpfs"), ("/dev/pts", "devpts"), ("/dev/shm", "tmpfs"), ("/dev/mqueue", "mqueue"), ("/sys", "sysfs")];
    for (target, kind) in kinds {
        assert_eq!(r.mount(target).expect(target)["type"], kind, "{target}");
    }
    assert!(r.mount("/sys/fs/cgroup").is_some());
    for option in ["nosuid", "noexec", "nodev", "ro"] {
        assert!(r.mount_has("/sys", option), "/sys lacks {option}");
    }
    for option in ["nosuid", "noexec", "nodev"] {
        assert!(r.mount_has("/dev/shm", option), "/dev/shm lacks {option}");
    }
    assert!(r.mount("/dev/shm").unwrap()["super"].to_string().contains("size=65536k"));
}

#[test]
fn root_is_read_only_if_asked() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "report", ",", "try-write", "/data/x"]);
    let out = c.run().code(0);
    assert!(out.report().mount_has("/", "ro"));
    assert_eq!(out.json()["errno"], "EROFS");
    c.edit(|s| s["root"]["readonly"] = json!(false));
    let out = c.run().code(0);
    assert!(out.report().mount_has("/", "rw"));
    assert_eq!(out.json()["errno"], json!(null));
}

#[test]
fn host_file_system_is_out_of_sight() {
    let t = behaviour!();
    let c = t.container();
    let r = c.report();
    let bundle = c.bundle.to_str().unwrap();
    for mount in r["mounts"].as_array().unwrap() {
        let target = mount["target"].as_str().unwrap();
        assert!(!target.contains(bundle), "{mount}");
    }
    // Nothing but the root and what the configuration mounts.
    assert_eq!(r["mounts"].as_array().unwrap().iter().filter(|m| m["target"] == "/").count(), 1);
}

#[test]
fn bind_shows_the_host_directory() {
    let t = behaviour!();
    let c = t.container();
    bind(&c, &host_dir(&t, "shared"), "/data", &[]);
    c.args(&["/probe", "write-file", "/data/new", "from inside", ",", "read-file", "/data/f"]);
    let out = c.run().code(0);
    assert_eq!(out.json()["text"], "from the host");
    assert_eq!(fs::read_to_string(t.dir().join("shared/new")).unwrap(), "from inside");
}

#[test]
fn bind_of_a_file_makes_its_target() {
    let t = behaviour!();
    let c = t.container();
    let file = format!("{}/f", host_dir(&t, "shared"));
    bind(&c, &file, "/data/deep/name", &["ro"]);
    c.args(&["/probe", "read-file", "/data/deep/name", ",", "try-write", "/data/deep/name"]);
    let lines = c.run().code(0).json_lines();
    assert_eq!(lines[0]["text"], "from the host");
    assert_eq!(lines[1]["errno"], "EROFS");
}

#[test]
fn bind_options_are_in_force() {
    let t = behaviour!();
    let c = t.container();
    bind(&c, &host_dir(&t, "shared"), "/data", &["ro", "nosuid", "nodev", "noexec"]);
    let r = c.report();
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(r.mount_has("/data", option), "{option}");
    }
}

#[test]
fn relative_source_is_looked_up_in_the_bundle() {
    let t = behaviour!();
    let c = t.container();
    fs::create_dir(c.bundle.join("beside")).unwrap();
    fs::write(c.bundle.join("beside/f"), "beside").unwrap();
    bind(&c, "beside", "/data", &[]);
    c.args(&["/probe", "read-file", "/data/f"]);
    assert_eq!(c.run().code(0).json()["text"], "beside");
}

/// A bind mount of a directory with a tmpfs below it, which lives in a private mount namespace of the call.
fn with_submount(t: &Test, kind: &str, options: &[&str]) -> Report {
    let c = t.container();
    let dir = host_dir(t, "tree");
    fs::create_dir_all(Path::new(&dir).join("sub")).unwrap();
    let mut all = vec![kind];
    all.extend(options);
    c.mount(json!({ "destination": "/data", "type": "none", "source": dir, "options": all }));
    let script = format!("mount -t tmpfs sub {dir}/sub && exec \"$@\"");
    c.launch("run", &[]).under(&["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"]).ok().report()
}

#[test]
fn rbind_takes_what_is_mounted_below() {
    let t = behaviour!(Need::Root);
    assert!(with_submount(&t, "bind", &[]).mount("/data/sub").is_none());
    let r = with_submount(&t, "rbind", &["ro"]);
    assert!(r.mount_has("/data", "ro"));
    assert!(r.mount_has("/data/sub", "rw"));
}

#[test]
fn rro_makes_all_below_read_only() {
    let t = behaviour!(Need::Root);
    let r = with_submount(&t, "rbind", &["rro", "rnosuid"]);
    for target in ["/data", "/data/sub"] {
        assert!(r.mount_has(target, "ro") && r.mount_has(target, "nosuid"), "{target}");
    }
}

#[test]
fn tmpfs_options_reach_the_file_system() {
    let t = behaviour!(Need::Root);
    let r = tmpfs(&t.container(), &["nosuid", "nodev", "size=128k", "mode=1750", "uid=3", "gid=4"]);
    let mount = r.mount("/data").unwrap();
    assert_eq!(mount["type"], "tmpfs");
    let data = mount["super"].to_string();
    for word in ["size=128k", "mode=1750", "uid=3", "gid=4"] {
        assert!(data.contains(word), "{word} in {data}");
    }
    assert!(r.mount_has("/data", "nosuid") && r.mount_has("/data", "nodev"));
}

#[test]
fn each_flag_word_has_its_effect() {
    let t = behaviour!();
    let table: [(&[&str], &str); 9] = [
        (&["ro"], "ro"),
        (&["rw"], "rw"),
        (&["nosuid"], "nosuid"),
        (&["nodev"], "nodev"),
        (&["noexec"], "noexec"),
        (&["noatime"], "noatime"),
        (&["nodiratime"], "nodiratime"),
        (&["relatime"], "relatime"),
        (&["nosuid", "noexec", "ro"], "noexec"),
    ];
    for (words, wanted) in table {
        let r = tmpfs(&t.container(), words);
        assert!(r.mount_has("/data", wanted), "{words:?}: {}", r.mount("/data").unwrap());
    }
    let r = tmpfs(&t.container(), &["exec", "suid", "strictatime"]);
    for option in ["noexec", "nosuid", "relatime"] {
        assert!(!r.mount_has("/data", option), "{option}: {}", r.mount("/data").unwrap());
    }
}

#[test]
fn of_opposite_words_the_last_wins() {
    let t = behaviour!(Need::CrunDiffers("opposite-mount-words"));
    let words = ["ro", "rw", "noexec", "exec", "nosuid", "suid", "nodev", "dev"];
    let r = tmpfs(&t.container(), &words);
    for option in ["ro", "noexec", "nosuid", "nodev"] {
        assert!(!r.mount_has("/data", option), "{option}: {}", r.mount("/data").unwrap());
    }
}

#[test]
fn tmpcopyup_keeps_what_the_image_had() {
    let t = behaviour!();
    let c = t.container();
    fs::create_dir(c.rootfs().join("data/sub")).unwrap();
    fs::write(c.rootfs().join("data/sub/f"), "of the image").unwrap();
    c.mount(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }));
    c.args(&["/probe", "write-file", "/data/new", "x", ",", "read-file", "/data/sub/f"]);
    let lines = c.run().code(0).json_lines();
    assert_eq!(lines[0]["errno"], json!(null));
    assert_eq!(lines[1]["text"], "of the image");
    assert!(!c.rootfs().join("data/new").exists());
}

#[test]
fn later_mounts_cover_earlier_ones() {
    let t = behaviour!();
    let c = t.container();
    bind(&c, &host_dir(&t, "first"), "/data", &[]);
    let second = host_dir(&t, "second");
    fs::write(Path::new(&second).join("f"), "second").unwrap();
    bind(&c, &second, "/data", &[]);
    c.args(&["/probe", "read-file", "/data/f"]);
    assert_eq!(c.run().code(0).json()["text"], "second");
}

#[test]
fn targets_follow_links_inside_the_root_only() {
    let t = behaviour!();
    let c = t.container();
    let host = host_dir(&t, "shared");
    symlink("../../../../../../../..", c.rootfs().join("data/up")).unwrap();
    bind(&c, &host, "/data/up/tmp/mounted", &[]);
    c.args(&["/probe", "read-file", "/tmp/mounted/f"]);
    assert_eq!(c.run().code(0).json()["text"], "from the host");
    assert!(c.rootfs().join("tmp/mounted").is_dir());
    assert!(!Path::new("/tmp/mounted").exists());
}

#[test]
fn propagation_of_the_root() {
    let t = behaviour!();
    for (word, wanted) in [("private", ""), ("slave", ""), ("shared", "shared"), ("unbindable", "unbindable")] {
        let c = t.container();
        c.edit(|s| s["linux"]["rootfsPropagation"] = json!(word));
        let r = c.report();
        let fields = r.mount("/").unwrap()["propagation"].to_string();
        assert!(fields.contains(wanted), "{word}: {fields}");
        if wanted.is_empty() {
            assert!(!fields.contains("shared"), "{word}: {fields}");
        }
    }
}

#[test]
fn propagation_of_a_bind() {
    let t = behaviour!();
    let host = host_dir(&t, "shared");
    for word in ["shared", "rshared", "private", "rprivate", "slave", "rslave"] {
        let c = t.container();
        c.edit(|s| s["linux"]["rootfsPropagation"] = json!("shared"));
        bind(&c, &host, "/data", &[word]);
        let fields = c.report().mount("/data").unwrap()["propagation"].to_string();
        assert_eq!(fields.contains("shared"), word.ends_with("shared"), "{word}: {fields}");
    }
}

#[test]
fn no_pivot_works_too() {
    let t = behaviour!();
    let c = t.container();
    let r = c.launch("run", &["--no-pivot"]).ok().report();
    assert!(r.mount("/proc").is_some());
    assert!(r.mount_has("/", "ro"));
}

#[test]
fn missing_source_is_named() {
    let t = behaviour!();
    let c = t.container();
    bind(&c, "/no/such/source", "/data", &[]);
    c.refused(&["/no/such/source", "No such file or directory"]);
}

#[test]
fn unknown_file_system_type_is_named() {
    let t = behaviour!();
    let c = t.container();
    c.mount(json!({ "destination": "/data", "type": "nosuchfs", "source": "x" }));
    c.refused(&["data", "No such device"]);
}

#[test]
fn a_container_without_mounts_runs() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| {
        s["mounts"] = json!([]);
        s["linux"]["maskedPaths"] = json!([]);
        s["linux"]["readonlyPaths"] = json!([]);
    });
    c.args(&["/probe", "stat", "/proc/self", ",", "exit", "3"]);
    c.run().code(3);
}

#[test]
fn host_sees_none_of_the_mounts() {
    let t = behaviour!();
    let c = t.container();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    c.sleeping();
    let during = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let of_ours = |text: &str| text.lines().filter(|l| l.contains(&c.id)).count();
    assert_eq!((of_ours(&before), of_ours(&during)), (0, 0));
}
