//! Kernels and outer containers without the calls for detached mounts (open_tree, fsopen, move_mount, mount_setattr): a filter answers ENOSYS,
//! and what the container gets must be the same.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use harness::{Container, Need, Test, Value, eventually, json, pinnace_only, view};

const ALL: &str = "open_tree,move_mount,fsopen,fspick,mount_setattr";
/// Also what 5.2 to 5.11 lack, and filters that know some calls only.
const SETS: [&str; 6] =
    [ALL, "mount_setattr", "fsopen", "move_mount", "open_tree", "openat2,open_tree,move_mount,fsopen,fspick,mount_setattr"];

/// A run without some calls, and with a script around it where there is one.
fn without(c: &Container<'_>, calls: &str, script: Option<&str>) -> harness::Invocation {
    let in_view = view::program();
    // Either makes a mount namespace of its own, in which the script may mount.
    let mut wrapper = match calls {
        "" => vec!["unshare", "-m", "--propagation", "private"],
        _ => vec![in_view.to_str().unwrap(), "host", "--without", calls, "--"],
    };
    if let Some(script) = script {
        wrapper.extend(["sh", "-c", script, "sh"]);
    }
    let mut run = c.launch("run", &[]);
    run.under(&wrapper);
    run
}

/// The mount table, sorted and without what differs from run to run; parents by path, empty directories alike.
fn table(mounts: &Value) -> Vec<String> {
    let mounts = mounts.as_array().unwrap();
    let target = |id: &Value| mounts.iter().find(|m| m["id"] == *id).map_or(Value::Null, |m| m["target"].clone());
    let line = |m: &Value| {
        let mut line = m.clone();
        let fields = line.as_object_mut().unwrap();
        fields.remove("id");
        fields.insert("parent".into(), target(&m["parent"]));
        // A peer group's number is the kernel's choice.
        let peers = m["propagation"].as_array().unwrap().iter();
        let kinds: Vec<_> = peers.map(|p| p.as_str().unwrap().split(':').next().unwrap().to_owned()).collect();
        fields.insert("propagation".into(), json!(kinds));
        fields.remove("dev");
        let empty = m["root"].to_string().contains(".empty-directory") || m["super"].to_string().contains("mode=555");
        if empty {
            fields.extend([("root".to_owned(), json!("")), ("super".to_owned(), json!("empty"))]);
            // Nothing there has a time of access; the flag comes from the mount the copy was made of, if it is one.
            fields["options"].as_array_mut().unwrap().retain(|option| option != "relatime");
        }
        line.to_string()
    };
    let mut lines: Vec<_> = mounts.iter().map(line).collect();
    lines.sort();
    lines
}

/// The same container with and without the calls.
fn same_with_and_without(t: &Test, prepare: &dyn Fn(&Container<'_>), script: Option<&str>) {
    let report = |calls: &str| {
        let c = t.container();
        prepare(&c);
        c.args(&["/probe", "report"]);
        let r = without(&c, calls, script).ok().report();
        let lines = table(&r["mounts"]).iter().map(|m| m.replace(&c.id, "ID")).collect::<Vec<_>>();
        let mut devices = r["dev"].clone();
        devices.as_object_mut().unwrap().values_mut().for_each(|d| drop(d.as_object_mut().unwrap().remove("ino")));
        (lines, devices)
    };
    let (mounts, devices) = report("");
    for calls in SETS {
        let got = report(calls);
        let strange = got.0.iter().find(|line| !mounts.contains(line));
        assert_eq!(strange, None, "without {calls}; not among {mounts:#?}");
        assert_eq!(got.0.len(), mounts.len(), "without {calls}: {:?}", got.0);
        assert_eq!(got.1, devices, "without {calls}");
    }
}

fn source(t: &Test) -> PathBuf {
    let dir = t.dir().join("tree");
    fs::create_dir_all(dir.join("sub dir")).unwrap();
    fs::write(dir.join("f"), "of the host").unwrap();
    let _ = symlink("f", dir.join("link"));
    dir
}

fn all_kinds(t: &Test, c: &Container<'_>) {
    let dir = source(t);
    let of = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let file = of("f");
    for (target, kind, source, options) in [
        ("/data/bind", "bind", of(""), &["bind", "ro", "nosuid", "noatime"][..]),
        ("/data/file", "bind", file, &["bind", "nodev", "noexec", "strictatime"]),
        ("/data/link", "bind", of("link"), &["bind", "src-nofollow", "ro"]),
        ("/data/rbind", "bind", of(""), &["rbind", "rro", "rnosuid", "rslave"]),
        ("/data/proc", "bind", "/proc".into(), &["rbind", "rprivate", "nodiratime"]),
        ("/data/tmpfs", "tmpfs", "tmpfs".into(), &["ro", "size=64k", "mode=750", "nosuid", "nosymfollow", "sync"]),
        ("/data/filled", "tmpfs", "tmpfs".into(), &["tmpcopyup"]),
        ("/data/bind", "bind", of(""), &["remount", "bind", "noexec", "rw"]),
        ("/data/filled", "tmpfs", "tmpfs".into(), &["remount", "size=128k", "nodev"]),
    ] {
        c.mount(json!({ "destination": target, "type": kind, "source": source, "options": options }));
    }
    fs::create_dir_all(c.rootfs().join("data/filled/deep")).unwrap();
}

#[test]
fn every_kind_of_mount_is_the_same() {
    let t = pinnace_only!(Need::Root);
    let below = format!("LIBMOUNT_FORCE_MOUNT2=always mount -t tmpfs sub '{}' && exec \"$@\"", source(&t).join("sub dir").display());
    same_with_and_without(&t, &|c| all_kinds(&t, c), Some(&below));
}

#[test]
fn propagation_is_the_same_and_nothing_gets_out() {
    let t = pinnace_only!(Need::Root);
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for word in ["private", "slave", "shared", "unbindable"] {
        let prepare = |c: &Container<'_>| {
            all_kinds(&t, c);
            c.edit(|s| {
                s["linux"]["rootfsPropagation"] = json!(word);
                // Copies of the host's own mounts, which keep receiving only where the parent could make them.
                s["linux"]["maskedPaths"] = json!([]);
                s["mounts"].as_array_mut().unwrap().retain(|m| m["type"] != "cgroup" && m["type"] != "cgroup2");
            });
        };
        // In a namespace whose mounts are all shared, what leaks would show in its table when the container has ended.
        let script = "mount --make-rshared / && before=$(wc -l </proc/self/mountinfo) && \"$@\"; status=$?; \
            test $(wc -l </proc/self/mountinfo) = $before || { echo leaked >&2; exit 99; }; exit $status";
        same_with_and_without(&t, &prepare, Some(script));
    }
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

#[test]
fn a_user_namespace_is_the_same() {
    let t = pinnace_only!(Need::Root);
    let prepare = |c: &Container<'_>| {
        c.new_user_namespace(200_000);
        let dir = source(&t).to_str().unwrap().to_owned();
        // The root of the container may not make it.
        fs::create_dir(c.rootfs().join("data/bind")).unwrap();
        c.mount(json!({ "destination": "/data/bind", "type": "bind", "source": dir, "options": ["rbind", "ro", "nosuid"] }));
    };
    same_with_and_without(&t, &prepare, None);
}

#[test]
fn the_rest_of_a_container_works() {
    let t = pinnace_only!(Need::Root);
    for calls in SETS {
        let c = t.container();
        c.edit(|s| {
            s["root"]["readonly"] = json!(true);
            s["process"]["terminal"] = json!(true);
            s["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/acpi", "/proc/timer_list", "/data"]);
        });
        c.args(&["/probe", "try-write", "/x", ",", "try-write", "/proc/sys/kernel/hostname", ",", "console", "on the console"]);
        let out = without(&c, calls, None).ok().stdout();
        assert_eq!(out.matches("EROFS").count(), 2, "without {calls}: {out}");
        assert!(out.contains("on the console"), "without {calls}: {out}");
    }
}

#[test]
fn an_idmapped_mount_says_what_it_needs() {
    let t = pinnace_only!(Need::Root);
    for calls in ["mount_setattr", ALL] {
        let c = t.container();
        c.mount(
            json!({ "destination": "/data", "type": "bind", "source": source(&t), "options": ["bind", "idmap=uids=0-1-1;gids=0-1-1"] }),
        );
        without(&c, calls, None).output().fails_with(&[
            "idmapped mounts need mount_setattr (kernel 5.12)",
            "/data",
            "Function not implemented",
        ]);
    }
}

#[test]
fn links_in_the_image_lead_nowhere_else() {
    let t = pinnace_only!(Need::Root);
    let outside = t.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    for calls in SETS {
        let c = t.container();
        symlink(&outside, c.rootfs().join("data/out")).unwrap();
        let dir = source(&t);
        c.mount(json!({ "destination": "/data/out/made", "type": "bind", "source": dir, "options": ["bind"] }));
        c.mount(json!({ "destination": "/data/out/file", "type": "bind", "source": dir.join("f"), "options": ["bind"] }));
        without(&c, calls, None).output().failed();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "without {calls}");
    }
}

/// `/var/run` is a link in most images.
#[test]
fn links_in_the_image_are_followed_inside() {
    let t = pinnace_only!(Need::Root);
    for calls in SETS {
        let c = t.container();
        fs::create_dir_all(c.rootfs().join("run")).unwrap();
        symlink("../run", c.rootfs().join("data/run")).unwrap();
        let dir = source(&t);
        c.mount(json!({ "destination": "/data/run/made", "type": "bind", "source": dir, "options": ["bind"] }));
        c.mount(json!({ "destination": "/data/run/file", "type": "bind", "source": dir.join("f"), "options": ["bind"] }));
        c.args(&["/probe", "read-file", "/run/made/f"]);
        without(&c, calls, None).output().code(0);
        assert!(c.rootfs().join("run/made").is_dir() && c.rootfs().join("run/file").is_file(), "without {calls}");
    }
}

#[test]
fn the_child_allocates_nothing() {
    let t = pinnace_only!(Need::Root, Need::Variable("PINNACE_TRAP_BIN"));
    let trap = PathBuf::from(std::env::var_os("PINNACE_TRAP_BIN").unwrap());
    let t = t.with_binary(&trap);
    for calls in SETS {
        let c = t.container();
        all_kinds(&t, &c);
        c.args(&["/probe", "exit", "3"]);
        without(&c, calls, None).output().code(3);
    }
}

/// Each call that is newer than the oldest kernels, alone: the whole life of a container, with hooks that have a time limit, a terminal
/// and nothing of the host left open. `cargo xtask test --without CALL` runs the suite so.
#[test]
fn a_whole_life_without_each_call() {
    let t = pinnace_only!(Need::Root);
    let in_view = view::program();
    for calls in ["openat2", "clone3", "mount_setattr", "open_tree", "fsopen", "close_range", "pidfd_open"] {
        let c = t.container();
        let under = |mut call: harness::Invocation| {
            call.under(&[in_view.to_str().unwrap(), "host", "--without", calls, "--"]);
            call
        };
        let hook = |file: &str| {
            let record = t.dir().join(format!("{calls}-{file}"));
            json!([{ "path": c.rootfs().join("probe"), "args": ["probe", "hook", record, file], "timeout": 20 }])
        };
        c.edit(|s| {
            s["hooks"] = json!({ "prestart": hook("prestart"), "createContainer": hook("createContainer") });
            s["hooks"]["startContainer"] = json!([{ "path": "/probe", "args": ["probe", "exit", "0"], "timeout": 20 }]);
        });
        c.args(&["/probe", "report", ",", "sleep"]);
        let (_reader, stray) = std::io::pipe().unwrap();
        let out = under(c.launch("create", &[])).descriptor(stray.into(), 30).ok();
        for file in ["prestart", "createContainer"] {
            let text = fs::read_to_string(t.dir().join(format!("{calls}-{file}"))).unwrap();
            let seen: Value = text.lines().next().unwrap().parse().unwrap();
            let fds: Vec<_> = seen["seen"]["fds"].as_object().unwrap().keys().filter(|fd| fd.as_str() > "2").cloned().collect();
            assert!(!fds.contains(&"30".to_owned()), "without {calls}: {file} has {fds:?}");
        }
        // It says that it is ready and then lets go of the rest.
        eventually(&format!("it holding only what it waits with, without {calls}"), || {
            let all = fs::read_dir(format!("/proc/{}/fd", c.pid())).unwrap().flatten();
            let (others, links): (Vec<_>, Vec<_>) = all
                .filter(|entry| ["0", "1", "2"].iter().all(|fd| entry.file_name() != *fd))
                .filter_map(|entry| Some((entry.file_name(), fs::read_link(entry.path()).ok()?)))
                .unzip();
            // The fifo, and what swallows the output of the hook that is to come.
            let kept = links.iter().all(|link| ["exec.fifo", "null"].iter().any(|name| link.ends_with(name)));
            if !kept {
                eprintln!("without {calls}, it waits with {others:?}: {links:?}");
            }
            kept
        });
        under(c.call("start")).arg(&c.id).ok();
        out.until("READY");
        let report = out.report();
        assert_eq!(report["fds"].as_object().unwrap().len(), 3, "without {calls}: {}", report["fds"]);
        under(c.call("exec")).arg(&c.id).args(&["/probe", "exit", "7"]).output().code(7);
        under(c.call("kill")).arg(&c.id).arg("HUP").ok();
        out.until("SIGNAL 1");
        under(c.call("delete")).arg("--force").arg(&c.id).ok();
        c.leaves_nothing();
    }
}
