//! How a container asks for a handler, and what becomes of it where there is none: in any build of the runtime. Not here: what the handlers do,
//! which needs a build that has them (`wasm`).

use harness::{Container, Need, Test, behaviour, pinnace_only};

fn annotated<'t>(t: &'t Test, annotations: &[(&str, &str)]) -> Container<'t> {
    let c = t.container();
    c.args(&["/probe", "exit", "7"]).edit(|v| {
        for (name, value) in annotations {
            v["annotations"][*name] = (*value).into();
        }
    });
    c
}

#[test]
fn a_handler_that_is_nowhere_is_refused() {
    let t = pinnace_only!(Need::CrunDiffers("missing-handler"));
    for (name, text) in [("nonsense", "unknown handler `nonsense`"), ("spin", "the handler `spin` is not built in: it needs ")] {
        let c = annotated(&t, &[("run.oci.handler", name)]);
        c.refused(&[text]);
        c.leaves_nothing();
    }
    // By the program's name.
    let c = annotated(&t, &[]);
    c.launch("run", &[]).argv0("pinnace-nonsense").output().fails_with(&["unknown handler `nonsense`"]);
    c.leaves_nothing();
    // What was handed over already is not handed over again, not to itself either.
    let c = annotated(&t, &[("run.oci.handler", "wasm")]);
    let out = c.launch("run", &[]).env("PINNACE_HANDED_OVER", "1").output();
    out.fails_with(&["`wasm`", ", in `pinnace-handlers` either"]);
    c.leaves_nothing();
}

#[test]
fn the_sandbox_of_a_pod_has_none() {
    let t = behaviour!();
    let c = annotated(&t, &[("io.kubernetes.cri.container-type", "sandbox"), ("run.oci.handler", "krun")]);
    c.run().code(7);
    c.launch("run", &[]).argv0("crun-wasm").output().code(7);
}

#[test]
fn smart_words_concern_webassembly_only() {
    let t = behaviour!();
    for annotation in [("run.oci.handler", "wasm-smart"), ("module.wasm.image/variant", "compat-smart")] {
        annotated(&t, &[annotation]).run().code(7);
    }
}

#[test]
fn two_that_choose_are_refused() {
    let t = behaviour!();
    let c = annotated(&t, &[("run.oci.handler", "wasm")]);
    let text = "invalid attempt to override already configured global handler: `wasm`: Permission denied";
    c.launch("run", &[]).argv0("/usr/bin/crun-wasm").output().fails_with(&[text]);
    c.forget_cgroup_of_crun();
    c.leaves_nothing();
}
