//! Tests of the engines' configuration in `dist/`: each file is read by a parser of its format, has the keys that its engine looks for, and names
//! programs that packages install. Not here: engines themselves, which read these files in the test machines.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use super::layout::{ENTRIES, Source};
use crate::store::{files_below, workspace};

/// Names of the program by which engines choose a handler: links to it, installed with `pinnace-handlers` (docs/packaging.md).
const LINKS: [&str; 2] = ["pinnace-wasm", "pinnace-krun"];

/// The runtimes that files here name, and where packages put the program of each.
fn installed() -> BTreeSet<String> {
    let program = ENTRIES.iter().find(|entry| entry.source == Source::Program).expect("a program is installed").to;
    let dir = Path::new("/usr").join(program);
    let dir = dir.parent().expect("in a directory");
    let links = LINKS.iter().map(|link| dir.join(link));
    links.chain([Path::new("/usr").join(program)]).map(|path| path.to_str().expect("UTF-8").to_owned()).collect()
}

/// The path of a runtime that is called `name`: the one that packages install under it.
fn path_of(name: &str) -> String {
    let path = format!("/usr/bin/{name}");
    assert!(installed().contains(&path), "no package installs {path}");
    path
}

fn text(name: &str) -> String {
    let path = workspace().join("dist").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

fn toml(name: &str) -> Value {
    toml::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn json(name: &str) -> Value {
    serde_json::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn yaml(name: &str) -> Yaml {
    let mut documents = YamlLoader::load_from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(documents.len(), 1, "{name}");
    documents.remove(0)
}

/// The keys of a table, sorted.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().expect("a table").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|word| word.as_str().expect("a word")).collect()
}

#[test]
fn every_file_is_installed() {
    for path in files_below(&workspace().join("dist")).expect("dist/ is there") {
        let path = path.strip_prefix(workspace()).expect("below the project").to_str().expect("UTF-8").to_owned();
        let dir = Path::new(&path).parent().and_then(Path::to_str).expect("in a directory");
        let of_it = |entry: &&super::layout::Entry| matches!(entry.source, Source::Project(glob) if glob == format!("{dir}/*"));
        let entry = ENTRIES.iter().find(of_it).unwrap_or_else(|| panic!("no package installs {path}"));
        assert_eq!(entry.to, format!("share/pinnace/engines/{}/", dir.trim_start_matches("dist/")));
    }
}

#[test]
fn podman_and_buildah() {
    let known = toml("containers/10-pinnace.conf");
    let engine = &known["engine"];
    assert_eq!(keys(engine), ["runtime_supports_json", "runtime_supports_kvm", "runtime_supports_nocgroups", "runtimes"]);
    let runtimes = keys(&engine["runtimes"]);
    assert_eq!(runtimes, ["pinnace", "pinnace-krun", "pinnace-wasm"]);
    for name in &runtimes {
        assert_eq!(words(&engine["runtimes"][name]), [path_of(name), format!("/usr/local/bin/{name}")]);
        for list in ["runtime_supports_json", "runtime_supports_nocgroups"] {
            assert!(words(&engine[list]).contains(name), "{list} lacks {name}");
        }
    }
    assert!(words(&engine["runtime_supports_kvm"]).contains(&"pinnace-krun"));
    // What the engine's own lists have, since a list replaces the one before it.
    for (list, own) in [
        ("runtime_supports_json", &["crun", "runc", "kata", "runsc", "youki", "krun"][..]),
        ("runtime_supports_nocgroups", &["crun", "krun"]),
        ("runtime_supports_kvm", &["kata", "kata-runtime", "kata-qemu", "kata-fc", "krun"]),
    ] {
        assert!(own.iter().all(|name| words(&engine[list]).contains(name)), "{list}");
    }
    let chosen = toml("containers/20-pinnace-default.conf");
    assert_eq!((keys(&chosen["engine"]), chosen["engine"]["runtime"].as_str()), (vec!["runtime"], Some("pinnace")));
    // Both say in which file the other part is.
    assert!(text("containers/20-pinnace-default.conf").contains("10-pinnace.conf"));
}

#[test]
fn docker() {
    let (known, chosen) = (json("docker/daemon.json"), json("docker/daemon-default.json"));
    assert_eq!(keys(&known), ["runtimes"]);
    assert_eq!(keys(&chosen), ["default-runtime", "runtimes"]);
    assert_eq!(chosen["runtimes"], known["runtimes"]);
    assert_eq!(keys(&known["runtimes"]), ["pinnace"]);
    assert_eq!(chosen["default-runtime"], "pinnace");
    let runtime = &known["runtimes"]["pinnace"];
    // With arguments Docker writes a script that is the runtime then, so that there are none.
    assert_eq!((keys(runtime), runtime["path"].as_str()), (vec!["path"], Some(path_of("pinnace").as_str())));
}

#[test]
fn containerd_of_both_versions() {
    let mut same: Option<Value> = None;
    for (version, plugin) in [(2, "io.containerd.grpc.v1.cri"), (3, "io.containerd.cri.v1.runtime")] {
        let file = toml(&format!("containerd/config-v{version}.toml"));
        assert_eq!((keys(&file), file["version"].as_i64()), (vec!["plugins", "version"], Some(version)));
        assert_eq!(keys(&file["plugins"]), [plugin]);
        let containerd = &file["plugins"][plugin]["containerd"];
        // The default stays what it is.
        assert_eq!(keys(containerd), ["runtimes"]);
        let runtimes = &containerd["runtimes"];
        assert_eq!(keys(runtimes), ["pinnace", "pinnace-krun", "pinnace-wasm"]);
        for name in keys(runtimes) {
            let runtime = &runtimes[name];
            let known = ["container_annotations", "options", "pod_annotations", "runtime_type"];
            assert!(keys(runtime).iter().all(|key| known.contains(key)), "{name}: {:?}", keys(runtime));
            assert_eq!(runtime["runtime_type"], "io.containerd.runc.v2");
            assert_eq!(keys(&runtime["options"]), ["BinaryName", "SystemdCgroup"]);
            assert_eq!(runtime["options"]["BinaryName"].as_str(), Some(path_of(name).as_str()));
            assert_eq!(runtime["options"]["SystemdCgroup"], true);
        }
        if let Some(other) = same.replace(runtimes.clone()) {
            assert_eq!(&other, runtimes, "the versions differ in more than the plugin's name");
        }
    }
}

#[test]
fn crio() {
    let runtimes = |name: &str| toml(name)["crio"]["runtime"]["runtimes"].clone();
    let (known, handlers) = (runtimes("crio/10-pinnace.conf"), runtimes("crio/30-pinnace-handlers.conf"));
    // What is not installed is not named beside what is: CRI-O looks at each when it starts.
    assert_eq!((keys(&known), keys(&handlers)), (vec!["pinnace"], vec!["pinnace-krun", "pinnace-wasm"]));
    for (name, runtime) in known.as_object().into_iter().chain(handlers.as_object()).flatten() {
        assert_eq!(keys(runtime), ["runtime_path", "runtime_root", "runtime_type"]);
        assert_eq!(runtime["runtime_path"].as_str(), Some(path_of(name).as_str()));
        assert_eq!(runtime["runtime_type"], "oci");
        assert_eq!(runtime["runtime_root"], "/run/pinnace");
    }
    let chosen = toml("crio/20-pinnace-default.conf");
    assert_eq!(
        (keys(&chosen["crio"]["runtime"]), &chosen["crio"]["runtime"]["default_runtime"]),
        (vec!["default_runtime"], &"pinnace".into())
    );
}

/// The handler of a RuntimeClass is the runtime's name in the configuration of containerd and of CRI-O.
#[test]
fn kubernetes() {
    let containerd = toml("containerd/config-v3.toml");
    let containerd = &containerd["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"];
    let crio = |name: &str| toml(name)["crio"]["runtime"]["runtimes"].clone();
    let (known, handlers) = (crio("crio/10-pinnace.conf"), crio("crio/30-pinnace-handlers.conf"));
    for (file, name) in [
        ("kubernetes/runtimeclass.yaml", "pinnace"),
        ("kubernetes/runtimeclass-wasm.yaml", "pinnace-wasm"),
        ("kubernetes/runtimeclass-krun.yaml", "pinnace-krun"),
    ] {
        let class = yaml(file);
        assert_eq!((class["apiVersion"].as_str(), class["kind"].as_str()), (Some("node.k8s.io/v1"), Some("RuntimeClass")), "{file}");
        assert_eq!((class["metadata"]["name"].as_str(), class["handler"].as_str()), (Some(name), Some(name)), "{file}");
        let known_keys = ["apiVersion", "kind", "metadata", "handler", "overhead", "scheduling"];
        let keys: Vec<&str> = class.as_hash().expect("a mapping").keys().map(|key| key.as_str().expect("a word")).collect();
        assert!(keys.iter().all(|key| known_keys.contains(key)), "{file}: {keys:?}");
        assert!(containerd.get(name).is_some(), "containerd does not know {name}");
        assert!(known.get(name).or(handlers.get(name)).is_some(), "CRI-O does not know {name}");
    }
    assert_eq!(yaml("kubernetes/runtimeclass-krun.yaml")["overhead"]["podFixed"]["memory"].as_str(), Some("128Mi"));
}

/// HCL has no parser here: the blocks are counted and the one line that matters is read.
#[test]
fn nomad() {
    let text = text("nomad/docker.hcl");
    let code: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    let expected = ["plugin \"docker\" {", "config {", "allow_runtimes = [\"runc\", \"nvidia\", \"pinnace\"]", "}", "}"];
    assert_eq!(code, expected);
    assert!(json("docker/daemon.json")["runtimes"].get("pinnace").is_some(), "Docker does not know what Nomad allows");
}

/// The page names each file, so that none is shipped that nobody explains.
#[test]
fn the_page_names_each_file() {
    let page = fs::read_to_string(workspace().join("docs/engines.md")).expect("docs/engines.md is there");
    for path in files_below(&workspace().join("dist")).expect("dist/ is there") {
        let name = path.strip_prefix(workspace().join("dist")).expect("below dist/").to_str().expect("UTF-8").to_owned();
        assert!(page.contains(&name), "docs/engines.md does not name {name}");
    }
}
