//! buildah: images whose steps run under the runtime. Not here: podman, whose storage it shares.

use std::fs;

use harness::podman::{IMAGE, Podman};

use crate::with_each_manager;

with_each_manager!(steps(Need::Tool("buildah")), a_step_that_fails(Need::Tool("buildah")), a_working_container(Need::Tool("buildah")));

/// A directory with these steps upon the image, and a file beside them.
fn context(podman: &Podman, steps: &str) -> String {
    let dir = podman.test.dir().join("context");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("Containerfile"), format!("FROM {IMAGE}\n{steps}")).unwrap();
    fs::write(dir.join("given"), "given\n").unwrap();
    dir.to_str().unwrap().to_owned()
}

fn build(podman: &Podman, context: &str) -> harness::Output {
    let runtime = podman.runtime.to_str().unwrap();
    podman.buildah(&["build", "--isolation=oci", "--network=none", "--runtime", runtime, "--tag=localhost/built", context]).output()
}

fn steps(podman: &Podman) {
    let steps = "ARG WORD=built\nENV HOME=/data\nCOPY given /data/given\nRUN echo $WORD $(cat /data/given) >/data/word && chown 1000 /data/word\n\
                 WORKDIR /data\nUSER guest\nRUN id -u >>/data/word && pwd >>/data/word\nRUN --mount=type=tmpfs,target=/mnt echo x >>word && grep -c ' /mnt tmpfs' /proc/mounts >>word\n\
                 CMD [\"cat\", \"/data/word\"]\n";
    let context = context(podman, steps);
    build(podman, &context).code(0);
    let out = podman.call(&["run", "--rm", "--network=none", "localhost/built"]).ok();
    assert_eq!(out.stdout(), "built given\n1000\n/data\nx\n1\n");
}

/// The step's status is what buildah tells, and what could not be executed is named.
fn a_step_that_fails(podman: &Podman) {
    let context = context(podman, "RUN exit 7\n");
    build(podman, &context).code(7).says("exit status 7");
    fs::write(format!("{context}/Containerfile"), format!("FROM {IMAGE}\nRUN [\"/no/such/program\"]\n")).unwrap();
    build(podman, &context).failed().says("/no/such/program");
}

fn a_working_container(podman: &Podman) {
    let name = podman.buildah(&["from", IMAGE]).ok().stdout().trim().to_owned();
    let runtime = podman.runtime.to_str().unwrap();
    let run = |script: &str| {
        let call = ["run", "--isolation=oci", "--network=none", "--runtime", runtime, &name, "--", "sh", "-c", script];
        podman.buildah(&call).output()
    };
    assert_eq!(run("echo kept >/data/word; id -u").code(0).stdout().trim(), "0");
    assert_eq!(run("cat /data/word; exit 3").code(3).stdout().trim(), "kept");
    podman.buildah(&["rm", &name]).ok();
}
