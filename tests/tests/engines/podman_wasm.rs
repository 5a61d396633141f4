//! podman: an image that is WebAssembly, for which the runtime hands over to `pinnace-handlers`. Not here: what such programs can do (`integration/wasm`).

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::podman::Podman;

use crate::with_each_manager;

/// Where a build of pinnace with handlers is.
const HANDLERS: &str = "PINNACE_HANDLERS";

with_each_manager!(webassembly(Need::Variable(super::HANDLERS)), exec_into_webassembly(Need::Variable(super::HANDLERS)));

/// An image of the modules, a file for them to read, and nothing else; and the program that runs them, beside the runtime.
fn image(podman: &Podman) {
    std::os::unix::fs::symlink(std::env::var(HANDLERS).unwrap(), podman.test.dir().join("bin/pinnace-handlers")).unwrap();
    let tree = podman.test.dir().join("modules");
    fs::create_dir_all(tree.join("data")).unwrap();
    fs::create_dir_all(tree.join("work")).unwrap();
    for module in ["tell.wat", "component.wat", "trap.wat", "wait.wat"] {
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/wasm").join(module), tree.join(module)).unwrap();
    }
    fs::write(tree.join("data/in"), "what is in it\n").unwrap();
    let archive = podman.test.dir().join("modules.tar");
    let tar = Command::new("tar").arg("-C").arg(&tree).args(["--owner=0", "--group=0", "-cf"]).arg(&archive).arg(".").status().unwrap();
    assert!(tar.success());
    podman.call(&["import", "--change", "WORKDIR=/work", archive.to_str().unwrap(), "localhost/modules"]).ok();
}

fn run(podman: &Podman, options: &[&str], command: &[&str]) -> harness::Output {
    let annotation = ["run", "--rm", "--network=none", "--annotation=run.oci.handler=wasm"];
    podman.call(&[&annotation[..], options, &["localhost/modules"], command].concat()).output()
}

fn webassembly(podman: &Podman) {
    image(podman);
    let host = podman.test.dir().join("given");
    fs::create_dir(&host).unwrap();
    let out = run(podman, &["--env=A=1", "--volume", &format!("{}:/work", host.display())], &["/tell.wat", "-a", "b c"]).code(7);
    let said = out.stdout();
    assert!(said.starts_with("/tell.wat\0-a\0b c\0") && said.contains("\0A=1\0") && said.ends_with("what is in it\n"), "{said:?}");
    assert_eq!(fs::read_to_string(host.join("out")).unwrap(), "what is in it\n");
    assert_eq!(run(podman, &[], &["/component.wat"]).code(1).stdout(), "a component speaks\n");
    assert!(!run(podman, &[], &["/trap.wat"]).code(134).stderr().is_empty());
    assert!(run(podman, &[], &["/nothing.wasm"]).code(127).stderr().contains("/nothing.wasm"));
}

fn exec_into_webassembly(podman: &Podman) {
    image(podman);
    podman
        .call(&["run", "--detach", "--name=one", "--network=none", "--annotation=run.oci.handler=wasm", "localhost/modules", "/wait.wat"])
        .ok();
    podman.until_status("one", "running");
    // podman gives its containers a profile where it is root and there is AppArmor.
    let profile = podman.inspect("one", "{{.AppArmorProfile}}");
    if !profile.is_empty() {
        let label = fs::read_to_string(format!("/proc/{}/attr/current", podman.inspect("one", "{{.State.Pid}}"))).unwrap();
        assert_eq!(label.trim(), format!("{profile} (enforce)"));
    }
    let refused = podman.call(&["exec", "one", "/component.wat"]).output();
    assert_ne!(refused.status(), 0, "{refused}");
    assert!(!refused.stdout().contains("speaks"), "{refused}");
    podman.call(&["stop", "--time=5", "one"]).ok();
    assert_eq!(podman.inspect("one", "{{.State.ExitCode}}"), "143");
}
