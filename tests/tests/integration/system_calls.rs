//! How many system calls a start needs, runtime and container's child together, and which processes it makes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use harness::{Layout, Need, Place, json, pinnace_only};

/// The goal for the default `spec` configuration, up to and including the teardown, where the runtime's program is one that containers could write to and
/// is moved (`docs/self-protection.md`).
const MOST: usize = 200;
/// What executing it once more costs where it cannot be moved.
const EXECUTED_AGAIN: usize = 20;
/// What moving it costs more without CAP_SYS_RESOURCE.
const BY_MAP: usize = 2;
/// Paths among those of the default configuration that are hidden or made read-only, with which that goal is reached.
const USUAL_PATHS: usize = 8;
/// What each path more costs.
const EACH_PATH: usize = 3;

/// Lines of `strace -f` as (pid, the rest), without the probe's own calls after its execve.
fn calls(text: &str) -> Vec<(String, String)> {
    let mut after_exec = BTreeSet::new();
    let mut kept = Vec::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let (pid, rest) = (pid.to_owned(), rest.trim_start().to_owned());
        if after_exec.contains(&pid) {
            continue;
        }
        if rest.starts_with("execve(\"/probe\"") {
            after_exec.insert(pid.clone());
        }
        kept.push((pid, rest));
    }
    kept
}

#[test]
fn a_start_needs_few_of_them() {
    let t = pinnace_only!(Need::Root, Need::Tool("strace"));
    if Place::get().layout != Layout::V2 {
        t.skip("needs a pure cgroup v2 layout (covered by the run in the v2 view)");
        return;
    }
    let c = t.container();
    c.args(&["/probe", "exit", "0"]);
    // Once before, so that what a machine's first start makes is there.
    c.run().code(0);
    let file = t.dir().join("trace");
    c.launch("run", &[]).under(&["strace", "-f", "-o", file.to_str().unwrap()]).ok();
    let text = fs::read_to_string(&file).unwrap();
    let all = calls(&text);
    // An interrupted call is written on two lines; signals and exits are none. The clock is read without a call, but on machines that
    // give programs no vDSO.
    let none = ["<...", "---", "+++", "clock_gettime("];
    let mut counted: Vec<_> = all.iter().filter(|(_, l)| !none.iter().any(|n| l.starts_with(n))).collect();
    let count = |call: &str| counted.iter().filter(|(_, l)| l.starts_with(call)).count();
    // Before Linux 6.15 a mount is copied by one call and gets its attributes by another: all but the root's, which is in its place.
    let in_two_calls = count("mount_setattr(").saturating_sub(1);
    let by_map = if count("prctl(PR_SET_MM, PR_SET_MM_MAP") > 0 { BY_MAP } else { 0 };
    // An interrupted execveat is written on one line and a half.
    let again = counted.iter().position(|(_, l)| l.starts_with("execveat(")).map_or(0, |at| at + 1);
    let first = counted.drain(..again).count();
    assert!(first <= EXECUTED_AGAIN, "{first} system calls before the runtime is executed again");
    let pids: BTreeSet<_> = counted.iter().map(|(pid, _)| pid.clone()).collect();
    let listing = counted.iter().map(|(pid, l)| format!("{pid} {l}")).collect::<Vec<_>>().join("\n");
    // Each path of the default configuration that is masked or made read-only costs some, if the kernel has it.
    let config = c.config();
    let lists = ["maskedPaths", "readonlyPaths"].map(|name| config["linux"][name].as_array().cloned().unwrap_or_default());
    let there = lists.iter().flatten().filter(|p| Path::new(p.as_str().unwrap()).exists()).count();
    let most = MOST + in_two_calls + by_map + EACH_PATH * there.saturating_sub(USUAL_PATHS);
    assert!(counted.len() <= most, "{} system calls, at most {most} are allowed:\n{listing}", counted.len());
    assert_eq!(pids.len(), 2, "the runtime and the container's process, and no other:\n{listing}");
    eprintln!("{} system calls, at most {most} are allowed", counted.len());
}

#[test]
fn the_start_makes_no_other_program() {
    let t = pinnace_only!(Need::Root, Need::Tool("strace"));
    let c = t.container();
    c.args(&["/probe", "exit", "0"]);
    c.edit(|s| s["process"]["noNewPrivileges"] = json!(true));
    let file = t.dir().join("trace");
    c.launch("run", &[]).under(&["strace", "-f", "-e", "trace=execve,execveat", "-o", file.to_str().unwrap()]).ok();
    let text = fs::read_to_string(&file).unwrap();
    // The runtime may have to execute itself once more (`own_program`); that is no other program.
    let programs: Vec<_> = text.lines().filter(|l| l.contains("execve(")).collect();
    assert_eq!(programs.len(), 2, "the runtime itself and the container's command: {programs:#?}");
}
