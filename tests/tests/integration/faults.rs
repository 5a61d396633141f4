//! The runtime killed at each of its system calls, and each of these answered by errors. Not here: how (`harness::trace`).
//!
//! Few of the points are walked by default; `PINNACE_FAULT_STEP=1` walks all.

use std::collections::BTreeMap;

use harness::trace::{self, Deed, Fault};
use harness::{Container, Invocation, Need, Output, Test, Value, eventually, json, pinnace_only};
use nix::errno::Errno;

/// Every how many points are tried.
fn step(usual: usize) -> usize {
    std::env::var("PINNACE_FAULT_STEP").ok().and_then(|v| v.parse().ok()).unwrap_or(usual)
}

/// Walks all points of a call. `make` prepares what the call needs and says how to make it, `check` what must hold afterwards.
fn walk<'t>(
    usual: usize,
    deed: Deed,
    mut make: impl FnMut() -> (Container<'t>, Invocation),
    mut check: impl FnMut(&Container<'t>, &harness::trace::Faulted, &str),
) -> usize {
    let mut points = 0;
    for process in 0.. {
        for call in (1..).step_by(step(usual)) {
            let (container, mut invocation) = make();
            let fault = Fault { process, call, deed };
            let done = invocation.with_fault(fault);
            let what = format!("{fault:?}, system call {:?}", done.met);
            assert!(!done.hung, "{what}: hung: {}", done.output);
            check(&container, &done, &what);
            if !done.made {
                return points;
            }
            if done.met.is_none() {
                break;
            }
            points += 1;
        }
    }
    points
}

/// Whatever was killed: the container can be deleted, nothing is left of it, and it can be made once more.
fn can_be_deleted_and_made_again(c: &Container<'_>, what: &str) {
    let out = c.call("delete").args(&["--force", &c.id]).output();
    assert_eq!(out.status(), 0, "{what}: {out}");
    c.leaves_nothing_after(what);
    let out = c.launch("create", &[]).output();
    assert_eq!(out.status(), 0, "{what}: the next create: {out}");
    let out = c.call("delete").args(&["--force", &c.id]).output();
    assert_eq!(out.status(), 0, "{what}: {out}");
}

/// A container of many parts.
fn rich(t: &Test) -> Container<'_> {
    let c = t.container();
    c.new_namespace("cgroup").new_user_namespace(100_000).args(&["/probe", "sleep"]);
    c.edit(|s| {
        s["hooks"] = json!({ "createRuntime": [{ "path": "/bin/true" }], "createContainer": [{ "path": "/bin/true" }] });
        s["linux"]["seccomp"] =
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["swapon"], "action": "SCMP_ACT_ERRNO" }] });
    });
    c
}

fn plain(t: &Test) -> Container<'_> {
    let c = t.container();
    c.args(&["/probe", "sleep"]);
    c
}

fn creates(t: &Test) -> (Container<'_>, Invocation) {
    let c = plain(t);
    let call = c.launch("create", &[]);
    (c, call)
}

fn starts(t: &Test) -> (Container<'_>, Invocation) {
    let c = plain(t);
    c.edit(|s| s["hooks"] = json!({ "poststart": [{ "path": "/bin/true" }] }));
    created(c, "start")
}

fn deletes(t: &Test) -> (Container<'_>, Invocation) {
    created(plain(t), "delete")
}

/// A container that is there, and a command about it.
fn created<'t>(c: Container<'t>, command: &str) -> (Container<'t>, Invocation) {
    c.create();
    let mut call = c.call(command);
    call.arg(&c.id);
    (c, call)
}

/// Says how much was walked.
fn told(t: &Test, points: usize) {
    eprintln!("{}: {points} points", t.name);
    assert!(points > 3, "only {points} points");
}

#[test]
fn create_killed() {
    let t = pinnace_only!(Need::Root);
    told(&t, walk(31, Deed::Kill, || creates(&t), |c, _, what| can_be_deleted_and_made_again(c, what)));
}

#[test]
fn create_of_many_parts_killed() {
    let t = pinnace_only!(Need::Root);
    let make = || {
        let c = rich(&t);
        let call = c.launch("create", &[]);
        (c, call)
    };
    told(&t, walk(43, Deed::Kill, make, |c, _, what| can_be_deleted_and_made_again(c, what)));
}

#[test]
fn run_killed() {
    let t = pinnace_only!(Need::Root);
    let make = || {
        let c = plain(&t);
        c.args(&["/probe", "exit", "0"]);
        let call = c.launch("run", &[]);
        (c, call)
    };
    told(&t, walk(31, Deed::Kill, make, |c, _, what| can_be_deleted_and_made_again(c, what)));
}

#[test]
fn start_killed() {
    let t = pinnace_only!(Need::Root);
    told(&t, walk(7, Deed::Kill, || starts(&t), |c, _, what| can_be_deleted_and_made_again(c, what)));
}

#[test]
fn delete_killed() {
    let t = pinnace_only!(Need::Root);
    told(&t, walk(7, Deed::Kill, || deletes(&t), |c, _, what| can_be_deleted_and_made_again(c, what)));
}

/// An additional process goes with its maker, or does what it is for; the container stays as it was.
#[test]
fn exec_killed() {
    let t = pinnace_only!(Need::Root);
    let c = plain(&t);
    c.sleeping();
    let mut points = 0;
    for process in 0.. {
        let mut made = false;
        for call in (1..).step_by(step(17)) {
            let mut invocation = c.call("exec");
            invocation.args(&[&c.id, "/probe", "exit", "0"]);
            let fault = Fault { process, call, deed: Deed::Kill };
            let done = invocation.with_fault(fault);
            assert!(!done.hung, "{fault:?}: hung: {}", done.output);
            made = done.made;
            if done.met.is_none() {
                break;
            }
            points += 1;
            eventually(&format!("the end of what {fault:?} left"), || c.do_("ps").stdout().lines().count() == 2);
            assert_eq!(c.exec(&[], &["/probe", "exit", "3"]).status(), 3, "{fault:?}");
        }
        if !made {
            break;
        }
    }
    can_be_deleted_and_made_again(&c, "exec");
    told(&t, points);
}

/// What a process sees, without what differs from container to container.
fn seen(c: &Container<'_>, out: &Output) -> BTreeMap<String, Value> {
    let lines = out.stdout().replace(&c.id, "ID");
    let mut report = lines.lines().find_map(|l| serde_json::from_str::<BTreeMap<String, Value>>(l).ok()).unwrap_or_default();
    // Numbers that the kernel gives out, and clocks, which go on.
    report.retain(|key, _| !matches!(key.as_str(), "boottime" | "monotonic" | "namespaces" | "dev"));
    // Each line by itself, without what its program has used up so far and a count of the whole machine.
    if let Some(Value::Object(status)) = report.remove("status") {
        let used = |key: &str| key == "SigQ" || ["Vm", "Rss"].iter().any(|start| key.starts_with(start)) || key.ends_with("ctxt_switches");
        report.extend(status.into_iter().filter(|(key, _)| !used(key)).map(|(key, value)| (format!("status.{key}"), value)));
    }
    if let Some(mounts) = report.get_mut("mounts").and_then(Value::as_array_mut) {
        for mount in mounts.iter_mut() {
            mount
                .as_object_mut()
                .unwrap()
                .retain(|key, _| matches!(key.as_str(), "target" | "root" | "source" | "options" | "super" | "type"));
        }
        // Where the root is in the list depends on the way it became that.
        mounts.sort_by_key(|mount| mount["target"].to_string());
    }
    report
}

/// A runtime whose call is answered by an error says so and leaves nothing, or gives the container all that it would have had.
fn answered(t: &Test, kind: fn(&Test) -> Container<'_>, errno: Errno, usual: usize) {
    if !trace::CAN_ANSWER {
        t.skip("system calls are answered by registers of x86_64 (covered by the run there)");
        return;
    }
    let sees = || {
        let c = kind(t);
        let out = c.args(&["/probe", "report"]).run().code(0);
        seen(&c, &out)
    };
    let (mut usually, again) = (sees(), sees());
    usually.retain(|key, value| again.get(key) == Some(value));
    assert!(usually.len() > 10, "{:?}", usually.keys());
    let make = || {
        let c = kind(t);
        c.args(&["/probe", "report"]);
        let call = c.launch("run", &[]);
        (c, call)
    };
    let mut strange = Vec::new();
    let points = walk(usual, Deed::Answer(errno as i32), make, |c, done, what| {
        let out = &done.output;
        match out.status() {
            0 => {
                let mut now = seen(c, out);
                now.retain(|key, _| usually.contains_key(key));
                if now != usually {
                    let differs = usually.iter().filter(|(key, value)| now.get(*key) != Some(value));
                    let differs: Vec<_> = differs.map(|(key, value)| format!("{key}: {value}, now {:?}", now.get(key))).collect();
                    strange.push(format!("{what}: the container is another one: {differs:?}\n{}", out.stderr()));
                }
            }
            1 if out.stderr().trim().lines().count() == 1 => {}
            // The standard library gives up where the pipe of a process it makes cannot be read.
            -6 if out.stderr().contains("the CLOEXEC pipe failed") => {}
            _ => strange.push(format!("{what}: {out}")),
        }
        let mut left = c.left_in_the_end();
        if !left.is_empty() && (!out.stdout().is_empty() || out.status() < 0) {
            // Its program has run, and it could not be waited for or removed then: it is a container like another.
            let deleted = c.call("delete").args(&["--force", &c.id]).output();
            assert_eq!(deleted.status(), 0, "{what}: {deleted}");
            left = c.left_in_the_end();
        }
        if !left.is_empty() {
            strange.push(format!("{what}: left {left:#?}: {out}"));
            let _ = c.call("delete").args(&["--force", &c.id]).output();
        }
    });
    assert!(strange.is_empty(), "{} of {points}:\n{}", strange.len(), strange.join("\n"));
    told(t, points);
}

#[test]
fn run_without_memory() {
    answered(&pinnace_only!(Need::Root), plain, Errno::ENOMEM, 29);
}

#[test]
fn run_without_descriptors() {
    answered(&pinnace_only!(Need::Root), plain, Errno::EMFILE, 31);
}

#[test]
fn run_without_room() {
    answered(&pinnace_only!(Need::Root), plain, Errno::ENOSPC, 33);
}

#[test]
fn run_interrupted() {
    answered(&pinnace_only!(Need::Root), plain, Errno::EINTR, 27);
}

#[test]
fn run_of_many_parts_without_memory() {
    answered(&pinnace_only!(Need::Root), rich, Errno::ENOMEM, 61);
}

/// Another command whose calls are answered by errors: it does its work or says in one line why not, and the container can be deleted.
fn others_answered<'t>(t: &'t Test, usual: usize, make: impl Fn(&'t Test) -> (Container<'t>, Invocation)) {
    if !trace::CAN_ANSWER {
        t.skip("system calls are answered by registers of x86_64 (covered by the run there)");
        return;
    }
    let mut points = 0;
    for errno in [Errno::ENOMEM, Errno::EMFILE, Errno::ENOSPC] {
        points += walk(
            usual,
            Deed::Answer(errno as i32),
            || make(t),
            |c, done, what| {
                let out = &done.output;
                match out.status() {
                    0 => {}
                    1 if out.stderr().trim().lines().count() == 1 => {}
                    -6 if out.stderr().contains("the CLOEXEC pipe failed") => {}
                    _ => panic!("{what}: {out}"),
                }
                can_be_deleted_and_made_again(c, what);
            },
        );
    }
    told(t, points);
}

#[test]
fn create_answered() {
    others_answered(&pinnace_only!(Need::Root), 67, creates);
}

#[test]
fn start_answered() {
    others_answered(&pinnace_only!(Need::Root), 13, starts);
}

#[test]
fn delete_answered() {
    others_answered(&pinnace_only!(Need::Root), 13, deletes);
}

#[test]
fn exec_answered() {
    others_answered(&pinnace_only!(Need::Root), 47, |t| {
        let c = plain(t);
        c.sleeping();
        let mut call = c.call("exec");
        call.args(&[&c.id, "/probe", "exit", "0"]);
        (c, call)
    });
}

/// A failure for want of something: one line that names what could not be had, and nothing left.
fn fails_for_want(c: &Container<'_>, out: &Output, words: &str, what: &str) {
    let text = out.stderr();
    assert_eq!((out.status(), text.trim().lines().count()), (1, 1), "{what}: {out}");
    let (named, _) = text.split_once(words).unwrap_or_else(|| panic!("{what}: no `{words}`: {out}"));
    assert!(named.trim().len() > 5, "{what}: nothing is named: {out}");
    c.leaves_nothing_after(what);
}

#[test]
fn every_limit_of_descriptors() {
    let t = pinnace_only!(Need::Root);
    let mut enough = 0;
    for limit in (3..110).step_by(step(9)) {
        let c = t.container();
        c.args(&["/probe", "exit", "0"]);
        // The configuration's own limit must not be beyond the caller's.
        c.edit(|s| drop(s["process"].as_object_mut().unwrap().remove("rlimits")));
        let shell = format!("ulimit -Sn {limit} && exec \"$@\"");
        let out = c.launch("run", &[]).under(&["sh", "-c", &shell, "sh"]).output();
        match out.status() {
            0 => enough += 1,
            // The loader of a dynamic program needs one of its own.
            127 if out.stderr().contains("loading shared libraries") => {}
            _ => fails_for_want(&c, &out, "Too many open files", &format!("{limit} descriptors")),
        }
    }
    assert!(enough > 0, "a hundred descriptors are not enough");
}

#[test]
fn a_state_directory_without_room() {
    let t = pinnace_only!(Need::Root, Need::Tool("unshare"));
    std::fs::create_dir_all(t.root()).unwrap();
    let mut enough = 0;
    // Files that the file system takes, its root among them.
    for inodes in 1..9 {
        let c = t.container();
        c.args(&["/probe", "exit", "0"]);
        let mount = format!("mount -t tmpfs -o nr_inodes={inodes} full '{}' && exec \"$@\"", t.root().display());
        let out = c.launch("run", &[]).under(&["unshare", "-m", "--propagation", "private", "sh", "-c", &mount, "sh"]).output();
        match out.status() {
            0 => enough += 1,
            _ => fails_for_want(&c, &out, "No space left on device", &format!("room for {inodes} files")),
        }
    }
    assert!((1..8).contains(&enough), "{enough} of 8 have room");
}
