//! Control groups that are not as they should be: above a container or around it, frozen, busy, undelegated, or taken away meanwhile. Not
//! here: values that no file takes (`cgroups`), a systemd that misbehaves (the crate's own tests).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::{Container, Kind, Layout, Need, Place, Test, behaviour, eventually, json, pinnace_only};

use crate::cgroups::dir_of;

/// A controller whose hierarchy has processes and freezing: the v2 tree, or v1's.
fn freezer() -> &'static str {
    if Place::get().layout == Layout::V1 { "freezer" } else { "" }
}

/// Every directory of `path` below the roots of the hierarchies.
fn everywhere(path: &str) -> Vec<PathBuf> {
    Place::get().cgroup_mounts.iter().map(|m| m.join(path.trim_start_matches('/'))).collect()
}

/// A cgroup of the test's, above a container's; gone at the end.
struct Above(String);

impl Above {
    /// Makes it where the freezers are.
    fn new(c: &Container<'_>) -> Self {
        let above = Self(format!("{}-above", c.id));
        for dir in above.dirs() {
            fs::create_dir_all(&dir).unwrap();
        }
        c.edit(|s| s["linux"]["cgroupsPath"] = json!(format!("/{}/{}", above.0, c.id)));
        above
    }

    fn dirs(&self) -> Vec<PathBuf> {
        let place = Place::get();
        let mut dirs: Vec<PathBuf> = place.unified.iter().map(|m| m.join(&self.0)).collect();
        dirs.extend(place.controllers.get("freezer").map(|m| m.join(&self.0)));
        dirs
    }

    fn freeze(&self, frozen: bool) {
        let place = Place::get();
        if let Some(v2) = &place.unified {
            fs::write(v2.join(&self.0).join("cgroup.freeze"), if frozen { "1" } else { "0" }).unwrap();
        } else {
            let dir = place.controllers["freezer"].join(&self.0);
            fs::write(dir.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" }).unwrap();
        }
    }
}

impl Drop for Above {
    fn drop(&mut self) {
        // It may be gone: crun removes empty ones above a container's.
        if self.dirs().iter().all(|d| d.exists()) {
            self.freeze(false);
        }
        for dir in everywhere(&self.0) {
            let _ = fs::remove_dir(dir);
        }
    }
}

#[test]
fn nothing_is_started_below_a_frozen_cgroup() {
    let t = behaviour!(Need::Root, Need::CrunDiffers("frozen-above"));
    let c = t.container();
    let above = Above::new(&c);
    above.freeze(true);
    let out = c.args(&["/probe", "exit", "0"]).run();
    out.fails_with(&["linux.cgroupsPath", "is frozen by", &above.0]);
    assert!(everywhere(&format!("{}/{}", above.0, c.id)).iter().all(|d| !d.exists()));
    above.freeze(false);
    c.run().code(0);
    drop(above);
    c.leaves_nothing();
}

#[test]
fn a_container_below_a_cgroup_that_is_frozen_is_paused() {
    let t = behaviour!(Need::Root, Need::CrunDiffers("frozen-above"));
    let c = t.container();
    let above = Above::new(&c);
    c.sleeping();
    above.freeze(true);
    eventually("the state to say so", || c.status() == "paused");
    let out = c.exec(&[], &["/probe", "exit", "0"]);
    out.fails_with(&[&format!("the container `{}` is paused", c.id)]);
    let out = c.do_("resume");
    out.fails_with(&["is frozen by", &above.0]);
    above.freeze(false);
    c.exec(&[], &["/probe", "exit", "9"]).code(9);
    above.freeze(true);
    let out = c.call("delete").arg("--force").arg(&c.id).output();
    if freezer() == "freezer" {
        // Nothing dies in a frozen cgroup of v1, and it can be tried again.
        out.fails_with(&["remove cgroup", "is frozen by", &above.0]);
        above.freeze(false);
        c.call("delete").arg("--force").arg(&c.id).ok();
    } else {
        out.code(0);
    }
    drop(above);
    c.leaves_nothing();
}

#[test]
fn a_frozen_cgroup_of_its_own_is_refused() {
    let t = behaviour!(Need::Root, Need::CrunDiffers("frozen-above"));
    let c = t.container();
    let own = format!("{}-own", c.id);
    c.edit(|s| s["linux"]["cgroupsPath"] = json!(format!("/{own}")));
    let above = Above(own.clone());
    above.dirs().iter().for_each(|d| fs::create_dir_all(d).unwrap());
    above.freeze(true);
    c.args(&["/probe", "exit", "0"]).run().fails_with(&["linux.cgroupsPath", &own, "is frozen"]);
}

#[test]
fn a_cgroup_with_processes_above_is_busy() {
    let t = pinnace_only!(Need::Root, Need::V2, Need::Controller("pids"));
    if !Place::get().is_v2("pids") {
        t.skip("needs the cgroup controller pids on v2 (covered by cargo xtask vm test)");
        return;
    }
    let sleeper = t.container();
    sleeper.edit(|s| s["linux"]["cgroupsPath"] = json!(format!("/{}", sleeper.id)));
    sleeper.sleeping();
    let c = t.container();
    c.edit(|s| {
        s["linux"]["cgroupsPath"] = json!(format!("/{}/{}", sleeper.id, c.id));
        s["linux"]["resources"]["pids"] = json!({ "limit": 10 });
    });
    let out = c.args(&["/probe", "exit", "0"]).run();
    out.fails_with(&["controller `pids` is not available under", &c.id, "has processes of its own", "Device or resource busy"]);
    c.leaves_nothing();
    // Without limits there is nothing to be busy about.
    c.edit(|s| drop(s["linux"].as_object_mut().unwrap().remove("resources")));
    c.run().code(0);
}

/// A cgroup beside a threaded one, below one with processes, is no place for processes: not by clone, and not by a write.
#[test]
fn a_cgroup_that_takes_no_processes() {
    let t = behaviour!(Need::Root, Need::V2, Need::CrunDiffers("threaded-cgroups"));
    let sleeper = t.container();
    sleeper.edit(|s| s["linux"]["cgroupsPath"] = json!(format!("/{}", sleeper.id)));
    sleeper.sleeping();
    let dir = dir_of(sleeper.pid(), "");
    fs::create_dir(dir.join("threads")).unwrap();
    fs::write(dir.join("threads/cgroup.type"), "threaded").unwrap();
    let c = t.container();
    c.edit(|s| {
        s["linux"]["cgroupsPath"] = json!(format!("/{}/{}", sleeper.id, c.id));
        s["linux"].as_object_mut().unwrap().remove("resources");
    });
    let out = c.args(&["/probe", "exit", "0"]).run().failed();
    assert!(out.stderr().contains("not supported"), "{out}");
    c.forget_cgroup_of_crun();
    c.leaves_nothing();
    assert_eq!(sleeper.status(), "running");
}

#[test]
fn a_cgroup_in_use_is_refused_and_its_processes_live() {
    let t = behaviour!(Need::Root, Need::CrunDiffers("cgroup-in-use"));
    let sleeper = t.container();
    sleeper.edit(|s| s["linux"]["cgroupsPath"] = json!(format!("/{}", sleeper.id)));
    sleeper.sleeping();
    let c = t.container();
    c.edit(|s| s["linux"]["cgroupsPath"] = json!(format!("/{}", sleeper.id)));
    c.args(&["/probe", "exit", "0"]).run().fails_with(&["linux.cgroupsPath", "is in use by process", &sleeper.pid().to_string()]);
    assert_eq!(sleeper.status(), "running");
}

/// Moves a container's process to the root of every hierarchy and removes its cgroup.
fn vanish(c: &Container<'_>) {
    let pid = c.pid();
    let own: Vec<PathBuf> = everywhere(&c.id).into_iter().filter(|d| d.exists()).collect();
    assert!(!own.is_empty());
    for dir in own {
        fs::write(dir.parent().unwrap().join("cgroup.procs"), pid.to_string()).unwrap();
        eventually("the cgroup to be removed", || fs::remove_dir(&dir).is_ok());
    }
}

#[test]
fn a_container_whose_cgroup_was_taken_away() {
    let t = pinnace_only!(Need::Root);
    let c = t.container();
    c.edit(|s| s["linux"]["cgroupsPath"] = json!(format!("/{}", c.id)));
    c.args(&["/probe", "sleep"]);
    let output = c.launch("run", &["--detach"]).ok();
    output.until("READY");
    vanish(&c);
    assert_eq!(c.status(), "running");
    assert_eq!(c.call("ps").args(&["--format", "json"]).arg(&c.id).ok().json(), json!([]));
    c.do_("pause").fails_with(&["cgroup", &c.id, "is gone"]);
    assert_eq!(c.status(), "running");
    c.exec(&[], &["/probe", "exit", "0"]).fails_with(&["open cgroup", &c.id, "No such file or directory"]);
    let update = json!({ "pids": { "limit": 10 }, "memory": { "limit": 1 << 30 } });
    let out = c.call("update").args(&["--resources", "-"]).arg(&c.id).stdin(&update.to_string()).output();
    if ["pids", "memory"].iter().all(|n| Place::get().controllers.contains_key(*n)) {
        out.fails_with(&["cgroup", &c.id, "is gone"]);
    } else {
        assert_eq!(out.status(), 1, "{out}");
    }
    // All that is known of it is its process.
    c.call("kill").args(&["--all"]).arg(&c.id).arg("HUP").ok();
    output.until("SIGNAL 1");
    c.call("delete").arg("--force").arg(&c.id).ok();
    c.leaves_nothing();
}

#[test]
fn a_cgroup_above_that_comes_and_goes() {
    let t = behaviour!(Need::Root);
    let above = format!("{}-shared", t.container().id);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // What a manager does that tidies empty cgroups up.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for dir in everywhere(&above) {
                    for below in fs::read_dir(&dir).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
                        let _ = fs::remove_dir(below.path());
                    }
                    let _ = fs::remove_dir(dir);
                }
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        let all: Vec<_> = (0..12).map(|_| t.container()).collect();
        for c in &all {
            c.edit(|s| s["linux"]["cgroupsPath"] = json!(format!("/{above}/{}", c.id)));
            c.args(&["/probe", "exit", "3"]).write();
        }
        for pair in all.chunks(4) {
            let running: Vec<_> = pair.iter().map(Container::spawn).collect();
            for r in running {
                let out = r.wait();
                // It may still go while the process enters it: an error then, and nothing left.
                assert!(out.status() == 3 || out.status() == 1 && out.stderr().contains("No such"), "{out}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        all.iter().for_each(Container::leaves_nothing);
    });
    harness::clear_up(&above);
}

#[test]
fn two_deletions_at_a_time() {
    let t = behaviour!(Need::Root);
    for _ in 0..8 {
        let c = t.container();
        c.sleeping();
        let both: Vec<_> = (0..2).map(|_| c.call("delete").arg("--force").arg(&c.id).spawn()).collect();
        let codes: Vec<_> = both.into_iter().map(|r| r.wait()).collect();
        assert!(codes.iter().any(|out| out.status() == 0), "{codes:?}");
        c.leaves_nothing();
    }
}

/// A user in a cgroup of his own that has no controllers, as a session without delegation has.
#[test]
fn a_controller_that_was_not_delegated_is_named_with_the_remedy() {
    const USER: u32 = 54_322;
    let t = pinnace_only!(Need::Rootless, Need::Controller("pids")).as_user(USER);
    if !Place::get().is_v2("pids") {
        t.skip("needs the cgroup controller pids on v2 (covered by cargo xtask vm test)");
        return;
    }
    let c = t.container();
    let mount = Place::get().unified.clone().unwrap();
    let name = format!("{}-user", c.id);
    let (outer, inner) = (mount.join(&name), mount.join(&name).join("session"));
    fs::create_dir_all(inner.join("runtime")).unwrap();
    give(&inner, USER);
    give(&inner.join("runtime"), USER);
    // Both ends of a move must be the user's, so the runtime is put in there before it begins.
    let run = || {
        let mut call = c.launch("run", &[]);
        let running = call.under(&["sh", "-c", "kill -STOP $$; exec \"$@\"", "sh"]).spawn();
        let stat = format!("/proc/{}/stat", running.pid());
        eventually("the runtime to wait", || fs::read_to_string(&stat).is_ok_and(|s| s.contains(") T ")));
        fs::write(inner.join("runtime/cgroup.procs"), running.pid().to_string()).unwrap();
        running.signal(18);
        running.wait()
    };
    c.edit(|s| {
        s["linux"]["cgroupsPath"] = json!(format!("/{name}/session/{}", c.id));
        s["linux"]["resources"] = json!({ "pids": { "limit": 10 } });
    });
    c.args(&["/probe", "exit", "0"]);
    let out = run();
    let file = format!("controller `pids` is not available under {}/cgroup.controllers", inner.display());
    out.fails_with(&[&file, "it is not delegated", &format!("`+pids` in `{}/cgroup.subtree_control`", outer.display())]);
    assert!(!inner.join(&c.id).exists());
    // What nothing was asked of is done without.
    c.edit(|s| drop(s["linux"].as_object_mut().unwrap().remove("resources")));
    run().code(0);
    fs::write(outer.join("cgroup.subtree_control"), "+pids").unwrap();
    give(&inner, USER);
    c.edit(|s| s["linux"]["resources"] = json!({ "pids": { "limit": 4 } }));
    c.args(&["/probe", "fork-bomb", "20"]);
    assert_eq!(run().code(0).json()["errno"], "EAGAIN");
    harness::clear_up(&name);
}

/// Hands a cgroup over (cgroup-v2.rst, "Model of Delegation").
fn give(dir: &Path, user: u32) {
    std::os::unix::fs::chown(dir, Some(user), Some(user)).unwrap();
    for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        std::os::unix::fs::chown(dir.join(file), Some(user), Some(user)).unwrap();
    }
}

#[test]
fn an_oom_during_the_start_tells_the_limit() {
    let t = behaviour!(Need::Root, Need::Controller("memory"), Need::OomInCalls);
    let managers: &[&str] = if Place::get().systemd_bus() { &["cgroupfs", "systemd"] } else { &["cgroupfs"] };
    for manager in managers {
        oom(&t, manager);
    }
}

fn oom(t: &Test, manager: &str) {
    let c = t.container();
    c.global(&["--cgroup-manager", manager]);
    c.edit(|s| s["linux"]["resources"]["memory"] = json!({ "limit": 8192, "swap": 8192 }));
    let out = c.args(&["/probe", "exit", "0"]).run();
    assert_eq!(out.status(), 1, "{manager}: {out}");
    assert!(out.stderr().contains("the memory limit could be too low"), "{manager}: {out}");
    if t.runtime.kind == Kind::Pinnace {
        assert!(out.stderr().contains("the memory limit could be too low: linux.resources.memory.limit is 8192 bytes: "), "{out}");
    }
    c.forget_cgroup_of_crun();
    c.leaves_nothing();
}

#[test]
fn paths_that_lead_out_are_refused() {
    let t = behaviour!(Need::Root, Need::CrunDiffers("cgroup-paths"));
    for path in ["/../pt-escape", "a/../../pt-escape", "/", "/.", "a/b\nc", ".."] {
        let c = t.container();
        c.edit(|s| s["linux"]["cgroupsPath"] = json!(path));
        c.refused(&["linux.cgroupsPath"]);
    }
    let c = t.container();
    c.sleeping();
    for path in ["../..", "/../x", "a/../../..", ".."] {
        c.exec(&["--cgroup", path], &["/probe", "exit", "0"]).fails_with(&["cgroup of the process", "`..` is not allowed"]);
    }
    c.exec(&["--cgroup", "nothing"], &["/probe", "exit", "0"]).failed();
    // A link in a name of the state file is none the runtime follows either: the kernel's file system has no links.
    let status = c.state_dir().join("status");
    let text = fs::read_to_string(&status).unwrap();
    fs::write(&status, text.replace(&format!("/{}", c.id), "/../../../etc")).unwrap();
    c.do_("pause").fails_with(&["cgroup path", "is not allowed"]);
    fs::write(&status, text).unwrap();
}

#[test]
fn limits_that_a_tree_sets_for_its_cgroups_are_told() {
    let t = behaviour!(Need::Root, Need::V2);
    let c = t.container();
    let above = Above::new(&c);
    let dir = Place::get().unified.clone().unwrap().join(&above.0);
    fs::write(dir.join("cgroup.max.descendants"), "0").unwrap();
    let out = c.args(&["/probe", "exit", "0"]).run().failed();
    assert!(out.stderr().contains("Resource temporarily unavailable"), "{out}");
    c.forget_cgroup_of_crun();
    drop(above);
    c.leaves_nothing();
}

#[test]
fn exec_goes_where_the_first_process_went() {
    let t = behaviour!(Need::Root, Need::V2);
    let c = t.container();
    c.edit(|s| s["linux"]["cgroupsPath"] = json!(format!("/{}", c.id)));
    c.sleeping();
    let dir = dir_of(c.pid(), "");
    // What a systemd in the container does: its root cgroup has no processes left, and may not take any.
    fs::create_dir(dir.join("init")).unwrap();
    fs::write(dir.join("init/cgroup.procs"), c.pid().to_string()).unwrap();
    let listed = fs::read_to_string(dir.join("cgroup.controllers")).unwrap();
    let Some(one) = listed.split_whitespace().next() else {
        t.skip("needs a cgroup controller on v2 (covered by the run in the v2 view)");
        return;
    };
    fs::write(dir.join("cgroup.subtree_control"), format!("+{one}")).unwrap();
    let out = c.exec(&["--detach"], &["/probe", "sleep"]);
    out.code(0).until("READY");
    let inside = fs::read_to_string(dir.join("init/cgroup.procs")).unwrap();
    assert_eq!(inside.lines().count(), 2, "{inside}");
    fs::create_dir(dir.join("other")).unwrap();
    let pid_file = t.dir().join("pid");
    let out =
        c.call("exec").args(&["--detach", "--cgroup", "other", "--pid-file"]).arg(&pid_file).arg(&c.id).args(&["/probe", "sleep"]).ok();
    out.until("READY");
    let pid = fs::read_to_string(pid_file).unwrap();
    assert_eq!(fs::read_to_string(dir.join("other/cgroup.procs")).unwrap().trim(), pid);
    c.call("delete").arg("--force").arg(&c.id).ok();
    c.leaves_nothing();
}
