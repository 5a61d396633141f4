//! podman: containers that share namespaces, networks, Kubernetes' manifests, units of systemd. Not here: single containers.

use std::fs;

use harness::podman::{IMAGE, Manager, Podman};
use harness::{Place, eventually};

use crate::with_each_manager;

with_each_manager!(
    pods,
    shared_by_containers,
    without_network,
    network_of_the_host,
    bridge(Need::Root, Need::Bridges),
    play_kube,
    quadlet(Need::Systemd),
);

const INFRA: &[&str] = &["--infra-image", IMAGE, "--infra-command", "sleep 1000"];

fn pods(podman: &Podman) {
    let create = [&["pod", "create", "--name=two", "--network=none", "--share=ipc,net,uts,pid", "--hostname=both"], INFRA].concat();
    podman.call(&create).ok();
    for name in ["a", "b"] {
        podman.call(&["run", "--detach", "--pod=two", "--name", name, IMAGE, "sh", "-c", "sleep 1000"]).ok();
    }
    let namespaces = |name: &str| podman.exec(name, "for n in ipc net uts pid mnt; do readlink /proc/self/ns/$n; done");
    let (a, b) = (namespaces("a"), namespaces("b"));
    let same: Vec<bool> = a.lines().zip(b.lines()).map(|(a, b)| a == b).collect();
    assert_eq!(same, [true, true, true, true, false], "{a}\n{b}");
    assert_eq!(podman.exec("a", "hostname"), "both");
    let seen = podman.exec("a", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
    assert!(seen.matches("sleep 1000").count() >= 3, "{seen}");
    podman.call(&["pod", "pause", "two"]).ok();
    assert_eq!(podman.inspect("a", "{{.State.Status}}"), "paused");
    podman.call(&["pod", "unpause", "two"]).ok();
    podman.call(&["pod", "stop", "--time", "0", "two"]).ok();
    assert_eq!(podman.inspect("b", "{{.State.Status}}"), "exited");
    podman.call(&["pod", "start", "two"]).ok();
    assert_eq!(podman.exec("b", "hostname"), "both");
    podman.call(&["pod", "rm", "--force", "--time", "0", "two"]).ok();
}

fn shared_by_containers(podman: &Podman) {
    podman.detached("one", &["--hostname=one"], &["sleep", "1000"]);
    let shared = ["--pid=container:one", "--ipc=container:one", "--uts=container:one"];
    let all = [&["run", "--rm", "--network=container:one"][..], &shared, &[IMAGE, "sh", "-c", "hostname; tr '\\0' ' ' </proc/1/cmdline"]]
        .concat();
    assert_eq!(podman.call(&all).ok().stdout().trim(), "one\nsleep 1000");
}

fn without_network(podman: &Podman) {
    let out = podman.run(&[], "ls /sys/class/net; cat /sys/class/net/lo/flags").code(0);
    assert_eq!(out.stdout().trim(), "lo\n0x9");
}

fn network_of_the_host(podman: &Podman) {
    let mine = fs::read_link("/proc/self/ns/net").unwrap();
    let out = podman.call(&["run", "--rm", "--network=host", IMAGE, "readlink", "/proc/self/ns/net"]).ok();
    assert_eq!(out.stdout().trim(), mine.to_str().unwrap());
}

/// The bridge, its addresses and the published port are the machine's, of which there is one.
static BRIDGE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn bridge(podman: &Podman) {
    let _alone = BRIDGE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let conf = podman.test.dir().join("networks");
    let call = |args: &[&str]| {
        let mut call = podman.call(&["--network-config-dir", conf.to_str().unwrap()]);
        call.args(args).ok()
    };
    call(&[
        "run",
        "--detach",
        "--name=web",
        "--publish=127.0.0.1:18080:80",
        IMAGE,
        "sh",
        "-c",
        "mkdir -p /www && echo hi >/www/index.html && exec httpd -f -p 80 -h /www",
    ]);
    let address = call(&["inspect", "--format={{.NetworkSettings.IPAddress}}", "web"]).stdout();
    let fetch = format!("until wget -q -O - http://{}/; do sleep 0.2; done", address.trim());
    let out = call(&["run", "--rm", IMAGE, "sh", "-c", &fetch]);
    assert_eq!(out.stdout().trim(), "hi");
    let mut answer = String::new();
    eventually("the published port", || {
        use std::io::{Read, Write};
        let Ok(mut stream) = std::net::TcpStream::connect("127.0.0.1:18080") else { return false };
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.ends_with("hi\n")
    });
    call(&["rm", "--force", "--time", "0", "web"]);
}

fn play_kube(podman: &Podman) {
    let manifest = podman.test.dir().join("pod.yaml");
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: kube\n  annotations:\n    io.podman.annotations.infra.name: kube-infra\nspec:\n  restartPolicy: Never\n  containers:\n\
         \x20 - name: main\n    image: {IMAGE}\n    imagePullPolicy: Never\n    command: [sh, -c, 'echo $WORD; cat /mnt/shared/word; sleep 1000']\n    env: [{{name: WORD, value: played}}]\n\
         \x20   volumeMounts: [{{name: shared, mountPath: /mnt/shared}}]\n    securityContext: {{runAsUser: 1000, readOnlyRootFilesystem: true}}\n\
         \x20 - name: side\n    image: {IMAGE}\n    imagePullPolicy: Never\n    command: [sh, -c, 'sleep 1000']\n\
         \x20 volumes: [{{name: shared, hostPath: {{path: {}, type: Directory}}}}]\n",
        podman.test.dir().join("given").display(),
    );
    fs::create_dir(podman.test.dir().join("given")).unwrap();
    fs::write(podman.test.dir().join("given/word"), "shared\n").unwrap();
    fs::write(&manifest, text).unwrap();
    let settings = podman.test.dir().join("containers.conf");
    let own = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, own.replace("[engine]", "[engine]\ninfra_image = \"localhost/waits\"")).unwrap();
    let archive = podman.test.dir().join("image.tar");
    podman.call(&["import", "--change", "CMD=[\"/bin/sleep\",\"1000\"]", archive.to_str().unwrap(), "localhost/waits"]).ok();
    podman.call(&["play", "kube", "--network=none", manifest.to_str().unwrap()]).ok();
    eventually("its output", || podman.call(&["logs", "kube-main"]).ok().stdout() == "played\nshared\n");
    assert_eq!(podman.exec("kube-main", "id -u; (echo x >/x) 2>/dev/null || echo read-only"), "1000\nread-only");
    podman.call(&["play", "kube", "--down", manifest.to_str().unwrap()]).ok();
    assert!(podman.call(&["ps", "--all", "--quiet"]).ok().stdout().trim().is_empty());
}

/// A container as a unit: systemd starts it when it is ready and stops it.
fn quadlet(podman: &Podman) {
    let root = Place::get().root;
    let scope = if root { "--system" } else { "--user" };
    let place = match root {
        true => std::path::PathBuf::from("/run/containers/systemd"),
        false => std::path::PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR").unwrap()).join("containers/systemd"),
    };
    let name = format!("pinnace-test-{}-{}", std::process::id(), podman.manager == Manager::Systemd);
    let unit = place.join(format!("{name}.container"));
    fs::create_dir_all(&place).unwrap();
    let text = format!(
        "[Container]\nImage={IMAGE}\nContainerName=unit\nNetwork=none\nPull=never\nExec=sh -c \"echo started >/tmp/word; exec sleep 1000\"\nGlobalArgs={}\n\
         [Service]\nEnvironment=CONTAINERS_CONF={}\nTimeoutStartSec=120\nTimeoutStopSec=20\n",
        podman.options().join(" "),
        podman.test.dir().join("containers.conf").display(),
    );
    fs::write(&unit, text).unwrap();
    let systemctl = |args: &[&str]| {
        let out = std::process::Command::new("systemctl").arg(scope).args(args).stdin(std::process::Stdio::null()).output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stdout).trim().to_owned() + &String::from_utf8_lossy(&out.stderr))
    };
    systemctl(&["daemon-reload"]);
    let started = systemctl(&["start", &name]);
    let status = systemctl(&["status", "--lines=20", &name]);
    let seen = started.0.then(|| podman.exec("unit", "cat /tmp/word"));
    let pid = started.0.then(|| systemctl(&["show", "--property=MainPID", "--value", &name]).1);
    let stopped = systemctl(&["stop", &name]);
    let ended = systemctl(&["is-active", &name]).1;
    fs::remove_file(&unit).unwrap();
    systemctl(&["daemon-reload"]);
    systemctl(&["reset-failed", &name]);
    assert!(started.0 && stopped.0, "{started:?} {stopped:?}\n{}", status.1);
    assert_eq!(seen.as_deref(), Some("started"));
    assert!(pid.is_some_and(|pid| pid != "0" && !pid.is_empty()));
    assert!(["inactive", "failed"].contains(&ended.as_str()), "{ended}");
    podman.call(&["inspect", "unit"]).output().code(125);
}
