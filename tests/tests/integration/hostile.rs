//! Root file systems and configurations that try to reach the host: links in place of the paths the runtime writes
//! to, working directories in /proc. Whatever the verdict, the host's canary must stay as it was.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use harness::{Container, Layout, Need, Place, Test, behaviour, json, pinnace_only};

/// Names, sizes, owners, modes and times of all below a directory.
fn snapshot(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut walk = vec![dir.to_path_buf()];
    while let Some(dir) = walk.pop() {
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            let (path, meta) = (entry.path(), entry.metadata().unwrap());
            found.push(format!(
                "{} {:o} {}:{} {} {} {}",
                path.display(),
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.size(),
                meta.mtime_nsec(),
                meta.nlink()
            ));
            if meta.is_dir() {
                walk.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A directory outside the bundle with a few things that links may point to.
fn canary(t: &Test) -> PathBuf {
    let dir = t.dir().join("canary");
    fs::create_dir_all(dir.join("dev/pts")).unwrap();
    fs::create_dir_all(dir.join("sys/fs/cgroup")).unwrap();
    fs::write(dir.join("file"), "do not touch").unwrap();
    dir
}

/// Replaces a path of the rootfs by a link.
fn plant(c: &Container<'_>, path: &str, target: &Path) {
    let place = c.rootfs().join(path);
    if place.is_dir() && !place.is_symlink() {
        fs::remove_dir_all(&place).unwrap();
    }
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    symlink(target, place).unwrap();
}

/// Runs with the link planted, read-only root and not, in the container's own user namespace and not.
fn stays_inside(t: &Test, path: &str, kinds: &[&str]) {
    let canary = canary(t);
    for kind in kinds {
        for variant in ["plain", "writable", "bare", "userns"] {
            let c = t.container();
            let absolute = canary.join(path.trim_start_matches("etc/"));
            let target = match *kind {
                "directory" => canary.clone(),
                "relative" => Path::new("../../../../../../../../../..").join(canary.strip_prefix("/").unwrap()),
                "file" => canary.join("file"),
                "dangling" => canary.join("made"),
                _ => absolute,
            };
            plant(&c, path, &target);
            c.edit(|s| {
                s["root"]["readonly"] = json!(!["writable", "bare"].contains(&variant));
                if variant == "bare" {
                    // Nothing covers the link, so the runtime's own nodes and directories go through it.
                    let mounts = s["mounts"].as_array_mut().unwrap();
                    mounts.retain(|m| !m["destination"].as_str().unwrap().trim_start_matches('/').starts_with(path));
                }
                if variant == "userns" {
                    for map in ["uidMappings", "gidMappings"] {
                        s["linux"][map] = json!([{ "containerID": 0, "hostID": 0, "size": 100_000 }]);
                    }
                }
            });
            if variant == "userns" {
                c.new_namespace("user");
            }
            let before = snapshot(&canary);
            let _ = c.args(&["/probe", "exit", "0"]).run();
            assert_eq!(snapshot(&canary), before, "{path} → {} ({variant})", target.display());
            c.forget_cgroup_of_crun();
        }
    }
}

#[test]
fn dev_that_is_a_link() {
    let t = behaviour!(Need::Root, Need::CrunDiffersBefore(28, "dev-symlink"));
    stays_inside(&t, "dev", &["directory", "relative", "dangling"]);
}

#[test]
fn proc_and_sys_that_are_links() {
    let t = behaviour!(Need::Root);
    stays_inside(&t, "proc", &["directory", "relative", "dangling"]);
    stays_inside(&t, "sys", &["directory", "relative", "dangling"]);
}

#[test]
fn proc_that_is_a_link_is_refused() {
    let t = behaviour!(Need::Root);
    for path in ["proc", "sys"] {
        let c = t.container();
        plant(&c, path, Path::new("/data"));
        let out = c.args(&["/probe", "exit", "0"]).run();
        assert_ne!(out.status(), 0, "{path}: {out}");
        c.forget_cgroup_of_crun();
    }
}

#[test]
fn nodes_that_are_links_when_dev_is_the_images_own() {
    let t = behaviour!(Need::Root);
    let canary = canary(&t);
    for name in ["null", "zero", "tty", "console", "ptmx", "fd", "core", "stdout"] {
        let c = t.container();
        plant(&c, &format!("dev/{name}"), &canary.join("file"));
        c.edit(|s| {
            let mounts = s["mounts"].as_array_mut().unwrap();
            mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
            s["root"]["readonly"] = json!(false);
        });
        let before = snapshot(&canary);
        let _ = c.args(&["/probe", "exit", "0"]).run();
        assert_eq!(snapshot(&canary), before, "{name}");
    }
}

#[test]
fn mount_targets_that_are_links() {
    let t = behaviour!(Need::Root);
    let canary = canary(&t);
    for target in [canary.clone(), canary.join("made"), canary.join("file")] {
        let c = t.container();
        plant(&c, "etc/link", &target);
        c.mount(json!({ "destination": "/etc/link", "type": "tmpfs", "source": "tmpfs" }));
        c.mount(json!({ "destination": "/etc/link/deep/er", "type": "bind", "source": t.dir(), "options": ["bind"] }));
        c.edit(|s| s["root"]["readonly"] = json!(false));
        let before = snapshot(&canary);
        let _ = c.args(&["/probe", "exit", "0"]).run();
        assert_eq!(snapshot(&canary), before, "{}", target.display());
        c.forget_cgroup_of_crun();
    }
}

#[test]
fn masked_and_readonly_paths_that_are_links() {
    let t = behaviour!(Need::Root);
    let canary = canary(&t);
    for key in ["maskedPaths", "readonlyPaths"] {
        let c = t.container();
        plant(&c, "etc/link", &canary);
        plant(&c, "etc/link2", &canary.join("file"));
        c.edit(|s| s["linux"][key] = json!(["/etc/link", "/etc/link2"]));
        let before = snapshot(&canary);
        let _ = c.args(&["/probe", "exit", "0"]).run();
        assert_eq!(snapshot(&canary), before, "{key}");
        c.forget_cgroup_of_crun();
    }
}

#[test]
fn working_directory_in_proc_does_not_lead_out() {
    let t = behaviour!(Need::Root);
    for fd in 3..12 {
        for cwd in [format!("/proc/self/fd/{fd}"), format!("/proc/self/fd/{fd}/../../..")] {
            let c = t.container();
            c.edit(|s| s["process"]["cwd"] = json!(cwd));
            c.args(&["/probe", "report", "--path", "../etc/hostname", "--path", "."]);
            let out = c.run();
            if out.status() == 0 {
                let r = out.report();
                let seen = r["cwd"].as_str().unwrap_or("(unreachable)");
                assert!(seen.starts_with('/') && !seen.starts_with("/proc/self/fd"), "{cwd}: {seen}");
                assert_eq!(r["paths"]["../etc/hostname"]["kind"], "absent", "{cwd}: {}", r["paths"]);
            }
            c.forget_cgroup_of_crun();
        }
    }
}

#[test]
fn exec_with_a_working_directory_in_proc() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    c.sleeping();
    for fd in 3..12 {
        let cwd = format!("/proc/self/fd/{fd}");
        let out = c.exec(&["--cwd", &cwd], &["/probe", "report", "--path", "../etc/hostname"]);
        if out.status() == 0 {
            let r = out.report();
            assert_eq!(r["paths"]["../etc/hostname"]["kind"], "absent", "{cwd}: {}", r["paths"]);
        }
    }
}

#[test]
fn passwd_of_the_image_is_only_read() {
    let t = behaviour!(Need::Root);
    let canary = canary(&t);
    let c = t.container();
    plant(&c, "etc/passwd", &canary.join("file"));
    let before = snapshot(&canary);
    c.args(&["/probe", "exit", "0"]).run().code(0);
    assert_eq!(snapshot(&canary), before);
    // A pipe there must not hang the start.
    let c = t.container();
    nix::unistd::mkfifo(&c.rootfs().join("etc/passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    c.edit(|s| s["process"]["env"] = json!(["PATH=/bin", "HOME=/", format!("PINNACE_TEST_ID={}", c.id)]));
    c.args(&["/probe", "exit", "0"]).run().code(0);
}

#[test]
fn the_runtime_cannot_be_written_from_inside() {
    let t = behaviour!(Need::Root);
    let before = snapshot_of(&t.runtime.path);
    let c = t.container();
    let link = c.rootfs().join("bin/self");
    symlink("/proc/self/exe", &link).unwrap();
    c.args(&["/bin/self", "out", "this is the runtime or nothing"]);
    let _ = c.run();
    let c = t.container();
    fs::write(c.rootfs().join("bin/script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(c.rootfs().join("bin/script"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    c.args(&["/bin/script"]);
    let _ = c.run();
    assert_eq!(snapshot_of(&t.runtime.path), before);
}

/// Without a cgroup namespace of its own, and with a mount that asks to be writable.
#[test]
fn the_hosts_cgroups_cannot_be_written() {
    let t = behaviour!(Need::Root, Need::V2);
    if Place::get().layout != Layout::V2 {
        t.skip("needs a pure cgroup v2 layout (covered by the run in the v2 view)");
        return;
    }
    let c = t.container();
    c.new_user_namespace(200_000).namespace("cgroup", None);
    c.edit(|s| {
        let mounts = s["mounts"].as_array_mut().unwrap();
        mounts.iter_mut().filter(|m| m["destination"] == "/sys/fs/cgroup").for_each(|m| m["options"] = json!(["rw"]));
    });
    c.args(&["/probe", "try-mkdir", "/sys/fs/cgroup/made", ",", "try-write", "/sys/fs/cgroup/cgroup.procs"]);
    let out = c.run().code(0);
    for line in out.json_lines() {
        assert!(!line["errno"].is_null(), "{out}");
    }
}

fn snapshot_of(path: &Path) -> (u64, i64, Vec<u8>) {
    let meta = fs::metadata(path).unwrap();
    (meta.size(), meta.mtime_nsec(), fs::read(path).unwrap())
}

/// A volume over /proc gets nothing of what is meant for the kernel's (CVE-2019-16884).
#[test]
fn a_volume_over_proc_swallows_nothing() {
    let t = pinnace_only!(Need::Root, Need::Tool("nsenter"));
    let c = t.container();
    let volume = t.dir().join("volume");
    let files = ["self/oom_score_adj", "self/attr/exec", "self/attr/apparmor/exec", "sys/net/ipv4/ip_forward", "self/setgroups"];
    for file in files {
        let path = volume.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "untouched").unwrap();
    }
    c.mount(json!({ "destination": "/proc", "type": "bind", "source": volume, "options": ["bind", "rw"] }));
    c.edit(|s| {
        s["process"]["oomScoreAdj"] = json!(123);
        s["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    });
    c.sleeping();
    assert_eq!(fs::read_to_string(format!("/proc/{}/oom_score_adj", c.pid())).unwrap().trim(), "123");
    let run =
        std::process::Command::new("nsenter").args(["-n", "-t", &c.pid().to_string(), "cat", "/proc/sys/net/ipv4/ip_forward"]).output();
    assert_eq!(String::from_utf8_lossy(&run.unwrap().stdout).trim(), "1");
    c.exec(&[], &["/probe", "exit", "4"]).code(4);
    for file in files {
        assert_eq!(fs::read_to_string(volume.join(file)).unwrap(), "untouched", "{file}");
    }
}
