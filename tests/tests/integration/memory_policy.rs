//! `linux.memoryPolicy`. Not here: the nodes of a cgroup (`cgroups`).

use std::fs;

use harness::{Container, Need, Test, Value, behaviour, json};

const NO_NUMA: &str = "needs a kernel with NUMA (covered by the run on the host and the full lane of cargo xtask vm test)";

/// Whether the kernel has policies; skips the test otherwise.
fn numa(t: &Test) -> bool {
    let there = fs::exists("/proc/self/numa_maps").unwrap();
    if !there {
        t.skip(NO_NUMA);
    }
    there
}

/// The policy of a process's first mapping.
fn policy(out: &harness::Output) -> String {
    let text = out.json()["text"].as_str().unwrap().to_owned();
    text.split_whitespace().nth(1).unwrap().to_owned()
}

fn run(c: &Container<'_>, wanted: Value) -> harness::Output {
    c.edit(|s| s["linux"]["memoryPolicy"] = wanted);
    c.run()
}

#[test]
fn is_that_of_all_the_containers_processes() {
    let t = behaviour!(Need::CrunDiffersBefore(28, "memory-policy"));
    if !numa(&t) {
        return;
    }
    let c = t.container();
    c.args(&["/probe", "read-file", "/proc/self/numa_maps"]);
    for (wanted, is) in [
        (json!({ "mode": "MPOL_BIND", "nodes": "0" }), "bind:0"),
        (json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] }), "interleave=static:0"),
        (json!({ "mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"] }), "prefer=relative:0"),
        (json!({ "mode": "MPOL_LOCAL", "nodes": "" }), "local"),
        (json!({ "mode": "MPOL_DEFAULT" }), "default"),
    ] {
        assert_eq!(policy(&run(&c, wanted.clone()).code(0)), is, "{wanted}");
    }
}

#[test]
fn exec_has_it_too() {
    let t = behaviour!(Need::CrunDiffers("exec-priorities"));
    if !numa(&t) {
        return;
    }
    let c = t.container();
    c.edit(|s| s["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "0" }));
    c.sleeping();
    assert_eq!(policy(&c.exec(&[], &["/probe", "read-file", "/proc/self/numa_maps"]).code(0)), "bind:0");
}

#[test]
fn wrong_ones_are_refused() {
    let t = behaviour!(Need::CrunDiffers("errors-name-the-field"));
    let c = t.container();
    for (wanted, texts) in [
        (json!({ "mode": "MPOL_X" }), ["linux.memoryPolicy.mode", "requested linux NUMA mempolicy mode 'MPOL_X' is unknown"]),
        (json!({}), ["linux.memoryPolicy", "missing field `mode`"]),
        (
            json!({ "mode": "MPOL_BIND", "flags": ["X"] }),
            ["linux.memoryPolicy.flags", "requested linux NUMA mempolicy flag 'X' is unknown"],
        ),
        (json!({ "mode": "MPOL_BIND", "nodes": "x" }), ["linux.memoryPolicy.nodes", "cannot parse input `x`"]),
    ] {
        c.edit(|s| s["linux"]["memoryPolicy"] = wanted);
        c.refused(&texts);
    }
    if numa(&t) {
        run(&c, json!({ "mode": "MPOL_BIND" })).fails_with(&["set_mempolicy (linux.memoryPolicy)", "Invalid argument"]);
        run(&c, json!({ "mode": "MPOL_BIND", "nodes": "900" })).fails_with(&["set_mempolicy (linux.memoryPolicy)", "Invalid argument"]);
        c.leaves_nothing();
    }
}
