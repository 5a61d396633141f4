//! Mounts: the default ones, each option the engines pass, bind mounts, propagation, and targets that must be made.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use harness::{Container, Need, Report, Test, behaviour, json, pinnace_only};

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
fn the_kernel_makes_a_mount_namespace_of_the_rootfs() {
    let t = pinnace_only!(Need::Root, Need::Tool("strace"), Need::TreeNamespaces);
    let c = t.container();
    bind(&c, &host_dir(&t, "shared"), "/data", &["ro"]);
    c.args(&["/probe", "read-file", "/data/f"]);
    let file = t.dir().join("trace");
    let traced = || {
        let out = c.launch("run", &[]).under(&["strace", "-f", "-e", "trace=pivot_root,umount2", "-o", file.to_str().unwrap()]).ok();
        assert_eq!(out.json()["text"], "from the host");
        fs::read_to_string(&file).unwrap()
    };
    let text = traced();
    assert!(!text.contains("pivot_root(") && !text.contains("umount2("), "{text}");
    // A hook that looks for the mounts below the host's root finds them there.
    c.edit(|s| s["hooks"]["createContainer"] = json!([{ "path": "/bin/true" }]));
    assert!(traced().contains("pivot_root("));
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

#[test]
fn copy_symlink_makes_the_link_anew() {
    let t = behaviour!();
    let host = host_dir(&t, "shared");
    symlink("f", format!("{host}/link")).unwrap();
    symlink("elsewhere", format!("{host}/other")).unwrap();
    let c = t.container();
    bind(&c, &format!("{host}/link"), "/data/copy", &["copy-symlink"]);
    // No link, so it is mounted.
    bind(&c, &format!("{host}/f"), "/data/f", &["copy-symlink"]);
    for _ in 0..2 {
        let r = c.report();
        assert!(r.mount("/data/copy").is_none());
        assert!(r.mount("/data/f").is_some());
        assert_eq!(fs::read_link(c.rootfs().join("data/copy")).unwrap(), Path::new("f"));
    }
    let c = t.container();
    symlink("f", c.rootfs().join("data/copy")).unwrap();
    bind(&c, &format!("{host}/other"), "/data/copy", &["copy-symlink"]);
    c.refused(&["symlink `/data/copy` already exists with a different content"]);
}

#[test]
fn src_nofollow_mounts_the_link_itself() {
    let t = behaviour!(Need::CrunDiffersBefore(29, "mount-nofollow"));
    let c = t.container();
    let host = host_dir(&t, "shared");
    symlink("/data/target", format!("{host}/link")).unwrap();
    fs::write(c.rootfs().join("data/target"), "of the image").unwrap();
    bind(&c, &format!("{host}/link"), "/data/l", &["src-nofollow"]);
    c.args(&["/probe", "read-file", "/data/l"]);
    assert_eq!(c.run().code(0).json()["text"], "of the image");
    assert!(c.rootfs().join("data/l").is_file());
}

#[test]
fn dest_nofollow_mounts_on_the_link_itself() {
    let t = behaviour!(Need::CrunDiffersBefore(29, "mount-nofollow"));
    let c = t.container();
    let host = host_dir(&t, "shared");
    symlink("target", c.rootfs().join("data/l")).unwrap();
    fs::write(c.rootfs().join("data/target"), "of the image").unwrap();
    bind(&c, &format!("{host}/f"), "/data/l", &["dest-nofollow"]);
    c.args(&["/probe", "read-file", "/data/l", ",", "read-file", "/data/target"]);
    let lines = c.run().code(0).json_lines();
    assert_eq!((&lines[0]["text"], &lines[1]["text"]), (&json!("from the host"), &json!("of the image")));
}

#[test]
fn remount_changes_the_mount_that_is_there() {
    let t = behaviour!(Need::CrunNeedsRoot("rootless-remount"));
    let c = t.container();
    bind(&c, &host_dir(&t, "shared"), "/data", &["nosuid"]);
    bind(&c, &host_dir(&t, "shared"), "/data", &["remount", "ro", "nosuid"]);
    let r = c.report();
    assert!(r.mount_has("/data", "ro") && r.mount_has("/data", "nosuid"));
    assert_eq!(r["mounts"].as_array().unwrap().iter().filter(|m| m["target"] == "/data").count(), 1);
    let c = t.container();
    for options in [&["size=64k"][..], &["remount", "size=128k", "nosuid"]] {
        c.mount(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": options }));
    }
    let r = c.report();
    assert!(r.mount_has("/data", "nosuid"));
    assert!(r.mount("/data").unwrap()["super"].to_string().contains("size=128k"));
    let c = t.container();
    bind(&c, &host_dir(&t, "shared"), "/data", &["remount", "ro"]);
    c.refused(&["data", "Invalid argument"]);
}

#[test]
fn flags_of_file_systems_reach_them() {
    let t = behaviour!();
    for word in ["sync", "dirsync"] {
        let r = tmpfs(&t.container(), &[word]);
        let text = r.mount("/data").unwrap()["super"].to_string();
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn opposite_flags_of_file_systems() {
    let t = behaviour!(Need::CrunDiffers("opposite-mount-words"));
    let r = tmpfs(&t.container(), &["sync", "async"]);
    assert!(!r.mount("/data").unwrap()["super"].to_string().contains("sync"));
}

#[test]
fn recursive_flags_of_file_systems_are_the_same() {
    let t = behaviour!(Need::CrunDiffers("sync-words-on-binds"));
    let r = tmpfs(&t.container(), &["rsync"]);
    assert!(r.mount("/data").unwrap()["super"].to_string().contains("sync"));
}

#[test]
fn flags_of_file_systems_do_not_keep_from_binding() {
    let t = behaviour!(Need::CrunDiffers("sync-words-on-binds"));
    let c = t.container();
    bind(&c, &host_dir(&t, "shared"), "/data", &["rsync", "rasync", "rdirsync", "rmand", "rnomand"]);
    assert!(c.report().mount("/data").is_some());
}

#[test]
fn a_mount_label_needs_selinux() {
    let t = pinnace_only!();
    if Path::new("/sys/fs/selinux/enforce").exists() {
        harness::report_skip("mounts::a_mount_label_needs_selinux", "needs a machine without SELinux");
        return;
    }
    let c = t.container();
    c.edit(|s| s["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0:c1,c2"));
    assert!(!tmpfs(&c, &["mode=755"]).mount("/data").unwrap()["super"].to_string().contains("context"));
    c.edit(|s| s["annotations"] = json!({ "run.oci.mount_context_type": "nonsense" }));
    c.refused(&["run.oci.mount_context_type", "nonsense"]);
}

/// What the container mounts when the runtime is root only of a user namespace, before which part of `/proc` was covered.
fn nested(t: &Test, namespaces: &[&str]) -> harness::Output {
    let c = t.container();
    c.global(&["--cgroup-manager", "disabled"]);
    c.edit(|s| {
        s["linux"]["namespaces"] = namespaces.iter().map(|kind| json!({ "type": kind })).collect();
        s["linux"].as_object_mut().unwrap().remove("resources");
        s["linux"]["maskedPaths"] = json!([]);
        s["linux"]["readonlyPaths"] = json!([]);
        s.as_object_mut().unwrap().remove("hostname");
        s["mounts"].as_array_mut().unwrap().retain(|m| {
            let there = m["type"] != "mqueue" || Path::new("/dev/mqueue").exists();
            m["type"] != "cgroup" && m["destination"] != "/dev/pts" && there
        });
        s["process"].as_object_mut().unwrap().remove("rlimits");
        s["process"].as_object_mut().unwrap().remove("oomScoreAdj");
    });
    c.args(&["/probe", "report"]);
    let script = "mount -t tmpfs x /proc/fs && exec unshare -U -m --map-root-user \"$@\"";
    c.launch("run", &[]).under(&["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"]).output()
}

#[test]
fn what_belongs_to_another_namespace_is_bound_from_the_host() {
    let t = pinnace_only!(Need::Root);
    let r = nested(&t, &["mount"]).code(0).report();
    for (target, kind) in [("/proc", "proc"), ("/sys", "sysfs")] {
        assert_eq!(r.mount(target).expect(target)["type"], kind, "{target}");
    }
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(r.mount_has("/sys", option), "/sys lacks {option}");
    }
    // What was covered stays so, and nothing is made read-only without need.
    assert!(r.mount("/proc/fs").is_some());
    assert!(r.mount_has("/proc", "rw"));
    if Path::new("/dev/mqueue").exists() {
        assert_eq!(r.mount("/dev/mqueue").unwrap()["type"], "mqueue");
        assert!(r.mount_has("/dev/mqueue", "rw"));
    } else {
        harness::report_skip(
            "mounts::what_belongs_to_another_namespace_is_bound_from_the_host: mqueue",
            "needs /dev/mqueue (the test machines)",
        );
    }
}

#[test]
fn processes_of_others_are_not_shown_instead() {
    let t = pinnace_only!(Need::Root);
    nested(&t, &["mount", "pid"]).fails_with(&["mount `proc` to `/proc`", "Operation not permitted"]);
}
