//! `linux.netDevices`, with devices of a network namespace that each test makes for the runtime. Not here: the names the kernel takes
//! (unit tests of the plan).

use std::process::Command;

use harness::{Container, Invocation, Need, Test, Value, behaviour, json};

/// Makes `v0`, with addresses, and its peer.
const DEVICES: &str = "ip link add v0 type veth peer name v1 && ip addr add 10.99.7.5/24 dev v0 label v0:x && \
    ip addr add fd99::5/64 dev v0 nodad && ip link set v1 up";

/// Whether the kernel has devices to give away; skips the test otherwise.
fn veth(t: &Test) -> bool {
    let made = Command::new("unshare").args(["-n", "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"]).output().unwrap();
    if !made.status.success() {
        t.skip("needs a kernel with veth devices (covered by the run on a host that has them)");
    }
    made.status.success()
}

/// `run` in a network and mount namespace of its own where `before` was done; `then` follows.
fn launch(c: &Container<'_>, before: &str, then: &str) -> Invocation {
    let script = format!("{before} && {{ \"$@\"; status=$?; {then}; exit $status; }}");
    let mut call = c.launch("run", &[]);
    call.under(&["unshare", "-m", "--propagation", "private", "-n", "sh", "-c", &script, "sh"]);
    call
}

fn devices(c: &Container<'_>, devices: Value) {
    c.edit(|s| s["linux"]["netDevices"] = devices);
}

/// What a file of the container's /proc says while it has the device `v0` as `wanted`.
fn read(c: &Container<'_>, wanted: Value, file: &str) -> String {
    c.args(&["/probe", "read-file", file]);
    devices(c, json!({ "v0": wanted }));
    let out = launch(c, DEVICES, "true").output().code(0);
    out.json()["text"].as_str().unwrap().to_owned()
}

#[test]
fn arrive_with_name_and_addresses_and_are_up() {
    let t = behaviour!(Need::Root, Need::Tool("ip"), Need::CrunDiffersBefore(28, "net-devices"));
    if !veth(&t) {
        return;
    }
    let c = t.container();
    // An address of a device that is up makes a route.
    let routes = read(&c, json!({ "name": "ctr0" }), "/proc/net/route");
    assert!(routes.contains("ctr0\t0007630A"), "{routes}");
    let six = read(&c, json!({ "name": "ctr0" }), "/proc/net/if_inet6");
    let line = six.lines().find(|line| line.starts_with("fd990000000000000000000000000005")).unwrap_or_else(|| panic!("{six}"));
    assert!(line.ends_with(" ctr0") && line.contains(" 40 00 "), "{line}");
    let names = read(&c, json!({}), "/proc/net/dev");
    assert!(names.contains(" v0:") && !names.contains("v1:"), "{names}");
}

#[test]
fn leave_the_host_and_its_other_devices() {
    let t = behaviour!(Need::Root, Need::Tool("ip"), Need::CrunDiffersBefore(28, "net-devices"));
    if !veth(&t) {
        return;
    }
    let c = t.container();
    c.args(&["/probe", "read-file", "/proc/net/dev"]);
    devices(&c, json!({ "v0": { "name": "a" }, "w0": { "name": "b" } }));
    let before = format!("{DEVICES} && ip link add w0 type veth peer name w1 && ip link add z type veth peer name z1");
    let names = launch(&c, &before, "true").output().code(0).json()["text"].as_str().unwrap().to_owned();
    assert!(names.contains(" a:") && names.contains(" b:") && !names.contains(" z:"), "{names}");
}

#[test]
fn go_into_user_and_joined_namespaces() {
    let t = behaviour!(Need::Root, Need::Tool("ip"), Need::CrunDiffersBefore(28, "net-devices"));
    if !veth(&t) {
        return;
    }
    let c = t.container();
    c.edit(|s| {
        s["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 600_000, "size": 65_536 }]);
        s["linux"]["gidMappings"] = s["linux"]["uidMappings"].clone();
    });
    c.new_namespace("user");
    let routes = read(&c, json!({ "name": "ctr0" }), "/proc/net/route");
    assert!(routes.contains("ctr0\t0007630A"), "{routes}");
    // With a namespace that is joined, the network namespace is made late.
    c.namespace("uts", Some("/proc/self/ns/uts"));
    c.edit(|s| drop(s.as_object_mut().unwrap().remove("hostname")));
    let routes = read(&c, json!({ "name": "ctr1" }), "/proc/net/route");
    assert!(routes.contains("ctr1\t0007630A"), "{routes}");
    // One that exists.
    let c = t.container();
    let path = t.dir().join("net");
    c.namespace("network", Some(path.to_str().unwrap()));
    c.args(&["/probe", "read-file", "/proc/net/route"]);
    devices(&c, json!({ "v0": { "name": "ctr2" } }));
    let before = format!("{DEVICES} && touch {0} && unshare -n mount --bind /proc/self/ns/net {0}", path.display());
    let routes = launch(&c, &before, "true").output().code(0).json()["text"].as_str().unwrap().to_owned();
    assert!(routes.contains("ctr2\t0007630A"), "{routes}");
}

#[test]
fn come_back_when_one_of_them_cannot_go() {
    let t = behaviour!(Need::Root, Need::Tool("ip"), Need::CrunDiffers("net-devices-restored"));
    if !veth(&t) {
        return;
    }
    let c = t.container();
    for (wanted, texts) in [
        (json!({ "v0": { "name": "a" }, "zz": {} }), ["linux.netDevices.zz", "No such device"]),
        (json!({ "v0": { "name": "lo" } }), ["linux.netDevices.v0", "File exists"]),
        (json!({ "lo": { "name": "lo2" } }), ["linux.netDevices.lo", "Invalid argument"]),
    ] {
        devices(&c, wanted.clone());
        let out = launch(&c, DEVICES, "ip -o addr show dev v0").output();
        assert_eq!(out.status(), 1, "{wanted}: {out}");
        assert!(texts.iter().all(|text| out.stderr().contains(text)), "{wanted}: {out}");
        for text in ["10.99.7.5/24", "v0:x", "fd99::5/64"] {
            assert!(out.stdout().contains(text), "{wanted}: {out}");
        }
        c.leaves_nothing();
    }
}

#[test]
fn wrong_ones_are_refused() {
    let t = behaviour!(Need::CrunDiffers("errors-name-the-field"));
    let c = t.container();
    for (wanted, field) in [
        (json!({ "v0": { "name": "a/b" } }), "linux.netDevices.v0.name"),
        (json!({ "v0": { "name": 23 } }), "linux.netDevices.v0.name"),
        (json!({ "v0": { "name": "a".repeat(10 << 20) } }), "linux.netDevices.v0.name"),
        (json!({ "v0": { "name": "x" }, "v1": { "name": "x" } }), "linux.netDevices.v1.name"),
        (json!(["v0"]), "linux.netDevices"),
    ] {
        devices(&c, wanted);
        let out = c.refused(&[field]);
        assert!(out.stderr().len() < 1024);
    }
    devices(&c, json!({ "v0": {} }));
    c.edit(|s| s["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network"));
    c.refused(&["linux.netDevices", "requires a network namespace"]);
}
