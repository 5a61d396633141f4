//! The Debian package (`cargo xtask dist`): installed, one line for podman, removed. Not here: what is in it (xtask).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use harness::podman::{IMAGE, Manager, Podman};
use harness::{Need, image, pinnace_only};

fn dpkg(args: &[&str]) -> (bool, String) {
    let out = Command::new("dpkg").args(args).stdin(std::process::Stdio::null()).output().expect("start dpkg");
    (out.status.success(), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}

/// All paths of the machine where packages put something, without what dpkg, podman and logs write.
fn paths() -> BTreeSet<String> {
    let places = ["/usr", "/etc", "/var", "/opt", "-xdev", "-path", "/var/lib/dpkg", "-prune", "-o", "-print"];
    let out = Command::new("find").args(places).output().expect("start find");
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter(|path| !["/var/log/", "/var/lib/containers"].iter().any(|others| path.starts_with(others)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn installed_used_and_removed() {
    let t = pinnace_only!(
        Need::Variable("PINNACE_DEB"),
        Need::Root,
        Need::V2,
        Need::Tool("dpkg"),
        Need::Tool("podman"),
        Need::Tool(image::SHELL)
    );
    let package = std::env::var("PINNACE_DEB").unwrap();
    assert!(!Path::new("/usr/bin/pinnace").exists(), "the machine has a pinnace of its own");
    let before = paths();
    let (installed, said) = dpkg(&["--install", &package]);
    assert!(installed, "{said}");

    let podman = Podman::new(t, Manager::Files);
    let settings = podman.test.dir().join("containers.conf");
    let own = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, own.replace("[engine]\n", "[engine]\nruntime = \"/usr/bin/pinnace\"\n")).unwrap();
    let run = podman.call_of_default(&["run", "--name=one", "--network=none", IMAGE, "echo", "it runs"]).output();
    let printed = run.stdout();
    let runtime = podman.call_of_default(&["inspect", "--format={{.OCIRuntime}}", "one"]).output().stdout();
    let pages = ["/usr/share/bash-completion/completions/pinnace", "/usr/share/pinnace/engines/containers/10-pinnace.conf"];
    let missing: Vec<_> = pages.iter().filter(|path| !Path::new(path).exists()).collect();
    drop(podman);

    let (removed, said) = dpkg(&["--purge", "pinnace"]);
    let after = paths();
    assert!(removed, "{said}");
    assert_eq!((run.status(), printed.as_str(), runtime.trim()), (0, "it runs\n", "/usr/bin/pinnace"));
    assert!(missing.is_empty(), "not installed: {missing:?}");
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), Vec::<&String>::new(), "left behind");
    assert_eq!(before.difference(&after).collect::<Vec<_>>(), Vec::<&String>::new(), "taken along");
}
