//! CPUs, scheduling and I/O priority of additional processes, and the CPUs of the container's own. Not here: those priorities of the
//! container's own process (`process`), CPU sets of cgroups (`cgroups`).

use harness::{Container, Need, Output, behaviour, json};

/// The CPUs a process may run on.
fn cpus(out: &Output) -> Vec<u64> {
    out.report()["scheduler"]["cpus"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
}

/// `exec` of a process file with this affinity, from a runtime that has one of its own.
fn exec_with(c: &Container<'_>, affinity: harness::Value) -> Output {
    let file = c.process_file(|p| {
        p["args"] = json!(["/probe", "report"]);
        p["execCPUAffinity"] = affinity;
    });
    c.exec(&["--process", file.to_str().unwrap()], &[])
}

#[test]
fn the_runtimes_own_cpus_are_not_the_containers() {
    let t = behaviour!(Need::Tool("taskset"), Need::CrunDiffersBefore(28, "cpu-affinity"));
    let c = t.container();
    let all = cpus(&c.run());
    let some = all[0].to_string();
    assert_eq!(cpus(&c.launch("run", &[]).under(&["taskset", "-c", &some]).ok()), all);
    c.sleeping();
    let exec = c.call("exec").under(&["taskset", "-c", &some]).args(&[&c.id, "/probe", "report"]).ok();
    assert_eq!(cpus(&exec), all);
}

#[test]
fn exec_cpu_affinity() {
    let t = behaviour!();
    let c = t.container();
    let all = cpus(&c.run());
    let (first, last) = (all[0], all[all.len() - 1]);
    c.sleeping();
    for (affinity, want) in [
        (json!({ "initial": first.to_string(), "final": last.to_string() }), vec![last]),
        (json!({ "final": last.to_string() }), vec![last]),
        (json!({ "initial": first.to_string() }), vec![first]),
        (json!({ "initial": format!("{first},{last}"), "final": "" }), if first == last { vec![first] } else { vec![first, last] }),
    ] {
        assert_eq!(cpus(&exec_with(&c, affinity.clone()).code(0)), want, "{affinity}");
    }
}

#[test]
fn exec_cpu_affinity_of_the_configuration() {
    let t = behaviour!(Need::CrunDiffers("exec-priorities"));
    let c = t.container();
    let last = *cpus(&c.run()).last().unwrap();
    c.edit(|s| s["process"]["execCPUAffinity"] = json!({ "final": last.to_string() }));
    c.sleeping();
    assert_eq!(cpus(&c.exec(&[], &["/probe", "report"]).code(0)), [last]);
}

#[test]
fn wrong_exec_cpu_affinity_is_refused() {
    let t = behaviour!(Need::CrunDiffers("errors-name-the-field"));
    let c = t.container();
    c.sleeping();
    for (affinity, texts) in [
        (json!({ "initial": "x" }), ["process.execCPUAffinity.initial", "cannot parse input `x`"]),
        (json!({ "final": "3-1" }), ["process.execCPUAffinity.final", "cannot parse input `3-1`"]),
        (json!({ "final": "0-100000" }), ["process.execCPUAffinity.final", "cannot parse input"]),
        (json!({ "final": "8000" }), ["sched_setaffinity (process.execCPUAffinity.final)", "Invalid argument"]),
    ] {
        exec_with(&c, affinity).fails_with(&texts);
    }
    let c = t.container();
    c.edit(|s| s["process"]["execCPUAffinity"] = json!({ "initial": "0-" }));
    c.refused(&["process.execCPUAffinity.initial", "cannot parse input `0-`"]);
}

#[test]
fn exec_has_the_priorities_of_the_container() {
    let t = behaviour!(Need::CrunDiffers("exec-priorities"));
    let c = t.container();
    c.edit(|s| {
        s["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
        s["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    });
    c.sleeping();
    let r = c.exec(&[], &["/probe", "report"]).code(0).report();
    let priorities = |r: &harness::Report| (r["scheduler"]["nice"].clone(), r["scheduler"]["ioprio"].clone());
    assert_eq!(priorities(&r), (json!(7), json!((2 << 13) | 6)));
    let file = c.process_file(|p| p["args"] = json!(["/probe", "report"]));
    let r = c.exec(&["--process", file.to_str().unwrap()], &[]).code(0).report();
    assert_eq!(priorities(&r), (json!(7), json!((2 << 13) | 6)));
    let file = c.process_file(|p| {
        p["args"] = json!(["/probe", "report"]);
        p["scheduler"] = json!({ "policy": "SCHED_OTHER", "nice": 3 });
        p["ioPriority"] = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 });
    });
    let r = c.exec(&["--process", file.to_str().unwrap()], &[]).code(0).report();
    assert_eq!(priorities(&r), (json!(3), json!(3 << 13)));
}
