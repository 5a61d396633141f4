//! What CRIU is asked, and what becomes of its answers: against a peer that is scripted (`probe swrk`), so wherever containers run. The
//! messages are read by a decoder of this file's own. Not here: CRIU itself (`checkpoint`).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use harness::{Container, Invocation, Need, Output, Test, json, pinnace_only};

/// A field's value on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wire {
    Number(u64),
    Bytes(Vec<u8>),
}

/// Fields by number.
#[derive(Debug, Clone, Default)]
struct Fields(BTreeMap<u32, Vec<Wire>>);

impl Fields {
    fn decode(mut bytes: &[u8]) -> Fields {
        let mut fields = Fields::default();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = match key & 7 {
                0 => Wire::Number(varint(&mut bytes)),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)).unwrap();
                    let (value, rest) = bytes.split_at(length);
                    bytes = rest;
                    Wire::Bytes(value.to_vec())
                }
                other => panic!("wire type {other}"),
            };
            fields.0.entry(u32::try_from(key >> 3).unwrap()).or_default().push(value);
        }
        fields
    }

    fn all(&self, field: u32) -> &[Wire] {
        self.0.get(&field).map_or(&[], Vec::as_slice)
    }

    fn number(&self, field: u32) -> Option<u64> {
        match self.all(field) {
            [] => None,
            [Wire::Number(n)] => Some(*n),
            other => panic!("field {field}: {other:?}"),
        }
    }

    fn texts(&self, field: u32) -> Vec<String> {
        let text = |value: &Wire| match value {
            Wire::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            Wire::Number(n) => panic!("field {field} is the number {n}"),
        };
        self.all(field).iter().map(text).collect()
    }

    fn text(&self, field: u32) -> Option<String> {
        let mut all = self.texts(field);
        assert!(all.len() < 2, "field {field}: {all:?}");
        all.pop()
    }

    fn messages(&self, field: u32) -> Vec<Fields> {
        let message = |value: &Wire| match value {
            Wire::Bytes(bytes) => Fields::decode(bytes),
            Wire::Number(n) => panic!("field {field} is the number {n}"),
        };
        self.all(field).iter().map(message).collect()
    }

    /// Pairs of two texts, such as external mounts.
    fn pairs(&self, field: u32) -> BTreeMap<String, String> {
        self.messages(field).iter().map(|m| (m.text(1).unwrap(), m.text(2).unwrap())).collect()
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().expect("a whole number");
        *bytes = rest;
        n |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return n;
        }
    }
    panic!("a number that does not end");
}

/// The peer's directory.
struct Peer {
    dir: PathBuf,
}

impl Peer {
    fn new(t: &Test) -> Peer {
        let dir = t.dir().join("peer");
        fs::create_dir_all(dir.join("bin")).unwrap();
        Peer { dir }
    }

    fn answers(&self, how: &str) -> &Peer {
        fs::write(self.dir.join("answer"), how).unwrap();
        self
    }

    /// Calls with the peer as `criu`; what it was asked before is forgotten.
    fn call(&self, c: &Container<'_>, command: &str, options: &[&str]) -> Output {
        self.prepare(c, &mut c.call(command), options).output()
    }

    fn prepare<'i>(&self, c: &Container<'_>, call: &'i mut Invocation, options: &[&str]) -> &'i mut Invocation {
        for n in 0..10 {
            let _ = fs::remove_file(self.dir.join(n.to_string()));
        }
        let program = self.dir.join("bin/criu");
        if !program.exists() {
            harness::executable::copy(&c.rootfs().join("probe"), &program);
        }
        let path = format!("{}:{}", self.dir.join("bin").display(), std::env::var("PATH").unwrap());
        call.env("PATH", path).env("PINNACE_TEST_PEER", &self.dir).args(options).arg(&c.id)
    }

    fn message(&self, n: u32) -> Option<Fields> {
        fs::read(self.dir.join(n.to_string())).ok().map(|bytes| Fields::decode(&bytes))
    }

    /// The kind and the options of the request behind the question for the version.
    fn request(&self) -> (u64, Fields) {
        let version = self.message(0).expect("the version is asked first");
        assert_eq!((version.number(1), version.number(4)), (Some(10), Some(1)), "{version:?}");
        let message = self.message(1).expect("a request");
        (message.number(1).unwrap(), message.messages(2).remove(0))
    }

    /// What a descriptor of the peer's led to.
    fn descriptor(&self, n: u64) -> String {
        let text = fs::read_to_string(self.dir.join("descriptors")).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(&format!("{n} ")).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no descriptor {n}: {text}"))
    }
}

fn path(c: &Container<'_>, name: &str) -> String {
    c.bundle.join(name).display().to_string()
}

#[test]
fn every_option_of_checkpoint_is_its_field() {
    let t = pinnace_only!(Need::Root);
    let c = t.container();
    let volume = t.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    c.mount(json!({ "destination": "/data/../data/v", "type": "bind", "source": volume, "options": ["rbind"] }));
    c.sleeping();
    let peer = Peer::new(&t);
    let (images, work) = (path(&c, "images"), path(&c, "work"));
    let plain = ["--image-path", &images, "--leave-running"];
    peer.call(&c, "checkpoint", &plain).code(0);
    let (kind, opts) = peer.request();
    assert_eq!(kind, 1);
    assert_eq!(opts.number(2), Some(c.pid().try_into().unwrap()));
    assert_eq!((opts.number(3), opts.number(9), opts.text(10)), (Some(1), Some(4), Some("dump.log".into())));
    assert_eq!((peer.descriptor(opts.number(1).unwrap()), peer.descriptor(opts.number(17).unwrap())), (images.clone(), images.clone()));
    assert_eq!(opts.text(13), Some(c.rootfs().display().to_string()));
    assert_eq!((opts.number(24), opts.number(34), opts.number(50)), (Some(1), Some(3), Some(1)));
    let mounts = opts.pairs(23);
    for (at, name) in [("/data/v", "/data/v"), ("/proc/kcore", "/proc/kcore"), ("/proc/acpi", "/proc/acpi")] {
        assert_eq!(mounts.get(at).map(String::as_str), Some(name), "{mounts:?}");
    }
    if let Some(freezer) = opts.text(44) {
        assert!(PathBuf::from(&freezer).join("cgroup.procs").exists(), "{freezer}");
    }
    // What is not asked for is not said.
    for field in [4, 5, 7, 8, 11, 14, 15, 16, 18, 38, 46, 48, 49, 64] {
        assert!(opts.all(field).is_empty(), "{field}: {opts:?}");
    }
    assert_eq!(c.status(), "running");
    for (options, field, value) in [
        (vec!["--tcp-established"], 5, 1),
        (vec!["--ext-unix-sk"], 4, 1),
        (vec!["--shell-job"], 7, 1),
        (vec!["--file-locks"], 8, 1),
        (vec!["--auto-dedup"], 16, 1),
        (vec!["--link-remap"], 18, 1),
        (vec!["--manage-cgroups-mode", "ignore"], 34, 0),
        (vec!["--manage-cgroups-mode=none"], 34, 1),
        (vec!["--manage-cgroups-mode=props"], 34, 2),
        (vec!["--manage-cgroups-mode=soft"], 34, 3),
        (vec!["--manage-cgroups-mode=full"], 34, 4),
        (vec!["--manage-cgroups-mode=strict"], 34, 5),
        (vec!["--empty-ns", "network"], 38, 0x4000_0000),
        (vec!["--tcp-skip-in-flight"], 46, 1),
        (vec!["--lazy-pages"], 48, 1),
        (vec!["--network-lock", "iptables"], 64, 1),
        (vec!["--network-lock=nftables"], 64, 2),
        (vec!["--network-lock=skip"], 64, 3),
    ] {
        peer.call(&c, "checkpoint", &[&plain[..], &options].concat()).code(0);
        assert_eq!(peer.request().1.number(field), Some(value), "{options:?}");
    }
    peer.call(&c, "checkpoint", &[&plain[..], &["--page-server", "[::1]:1234"]].concat()).code(0);
    let server = peer.request().1.messages(11).remove(0);
    assert_eq!((server.text(1), server.number(2)), (Some("::1".into()), Some(1234)));
    let work_options = [&plain[..], &["--work-path", &work]].concat();
    peer.call(&c, "checkpoint", &work_options).code(0);
    assert_eq!(peer.descriptor(peer.request().1.number(17).unwrap()), work);
    let null = fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
    let lazy = [&plain[..], &["--lazy-pages", "--status-fd", "11"]].concat();
    peer.prepare(&c, c.call("checkpoint").descriptor(null.into(), 11), &lazy).ok();
    assert_eq!((peer.request().1.number(49), peer.descriptor(11)), (Some(11), "/dev/null".into()));
}

#[test]
fn dumps_before_the_last_one_are_its_parents() {
    let t = pinnace_only!(Need::Root);
    let c = t.container();
    c.sleeping();
    let peer = Peer::new(&t);
    let (first, last) = (path(&c, "first"), path(&c, "last"));
    peer.call(&c, "checkpoint", &["--image-path", &first, "--pre-dump"]).code(0);
    let (kind, opts) = peer.request();
    assert_eq!((kind, opts.number(15), opts.number(3), opts.text(14)), (13, Some(1), Some(1), None));
    assert_eq!(c.status(), "running");
    let missing = ["--image-path", &last, "--parent-path", "../nothing"];
    peer.call(&c, "checkpoint", &missing).fails_with(&["open the images of the checkpoint before", "No such file or directory"]);
    assert_eq!(c.status(), "running");
    peer.call(&c, "checkpoint", &["--image-path", &last, "--parent-path", "../first"]).code(0);
    let (kind, opts) = peer.request();
    assert_eq!((kind, opts.number(15), opts.number(3), opts.text(14)), (1, Some(1), None, Some("../first".into())));
    // The last one takes the container away.
    c.leaves_nothing();
}

#[test]
fn every_option_of_restore_is_its_field() {
    let t = pinnace_only!(Need::Root);
    let c = t.container();
    let volume = t.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    c.mount(json!({ "destination": "/fresh/v", "type": "bind", "source": volume, "options": ["bind", "ro"] }));
    c.edit(|s| s["annotations"] = json!({ "org.criu.config": t.dir().join("criu.conf") }));
    fs::write(t.dir().join("criu.conf"), "").unwrap();
    c.write();
    let peer = Peer::new(&t);
    let (images, work) = (path(&c, "images"), path(&c, "work"));
    fs::create_dir(&images).unwrap();
    fs::write(path(&c, "images/descriptors.json"), r#"["/dev/null","pipe:[11]","/dev/null"]"#).unwrap();
    let bundle = c.bundle.display().to_string();
    let plain = ["--bundle", &bundle, "--image-path", &images, "--detach"];
    let again = |options: &[&str]| {
        peer.call(&c, "restore", &[&plain[..], options].concat()).code(0);
        let (kind, opts) = peer.request();
        assert_eq!(kind, 2);
        let state = c.state();
        c.call("delete").arg("--force").arg(&c.id).ok();
        (opts, state)
    };
    let (opts, state) = again(&[]);
    assert_eq!((state["status"].as_str(), state["bundle"].as_str()), (Some("running"), Some(bundle.as_str())));
    assert_eq!((opts.number(12), opts.number(26), opts.number(50), opts.text(10)), (Some(1), Some(1), Some(1), Some("restore.log".into())));
    assert_eq!(opts.text(13), Some(c.state_dir().join("criu-root").display().to_string()));
    assert_eq!(peer.descriptor(opts.number(1).unwrap()), images);
    assert_eq!(opts.text(51), Some(t.dir().join("criu.conf").display().to_string()));
    let inherited = opts.messages(27);
    assert_eq!(inherited.iter().map(|i| (i.text(1).unwrap(), i.number(2).unwrap())).collect::<Vec<_>>(), [("pipe:[11]".to_owned(), 1)]);
    let mounts = opts.pairs(23);
    assert_eq!(mounts["notify-socket"], c.state_dir().join("notify").display().to_string());
    // The mount points are there, and what is mounted was as the configuration wants it, where CRIU saw it.
    assert!(c.rootfs().join("fresh/v").is_dir());
    let table = fs::read_to_string(peer.dir.join("descriptors")).unwrap();
    for (name, what) in [("/fresh/v", None), ("/proc/kcore", Some("/null")), ("/dev/null", Some("/null"))] {
        let line = table.lines().find(|l| l.split(' ').nth(4) == Some(&mounts[name])).unwrap_or_else(|| panic!("{name}: {table}"));
        assert!(line.split(' ').nth(5).unwrap().split(',').any(|o| o == "ro"), "{line}");
        assert!(what.is_none_or(|what| line.split(' ').nth(3).unwrap().ends_with(what)), "{line}");
    }
    for field in [4, 5, 7, 8, 16, 38, 48, 52, 53, 63, 64] {
        assert!(opts.all(field).is_empty(), "{field}: {opts:?}");
    }
    for (options, field, value) in [
        (vec!["--tcp-established"], 5, 1),
        (vec!["--tcp-close"], 52, 1),
        (vec!["--ext-unix-sk"], 4, 1),
        (vec!["--shell-job"], 7, 1),
        (vec!["--file-locks"], 8, 1),
        (vec!["--auto-dedup"], 16, 1),
        (vec!["--empty-ns=network"], 38, 0x4000_0000),
        (vec!["--lazy-pages"], 48, 1),
        (vec!["--network-lock=skip"], 64, 3),
        (vec!["--manage-cgroups-mode", "full"], 34, 4),
        (vec!["--manage-cgroups-mode", "ignore"], 34, 0),
        (vec!["--no-pivot", "-no-subreaper"], 24, 1),
    ] {
        assert_eq!(again(&options).0.number(field), Some(value), "{options:?}");
    }
    let (opts, _) = again(&["--lsm-profile", "apparmor:some", "--lsm-mount-context=a:b:c", "--work-path", &work]);
    assert_eq!((opts.text(53), opts.text(63)), (Some("apparmor:some".into()), Some("a:b:c".into())));
    assert_eq!(peer.descriptor(opts.number(17).unwrap()), work);
}

#[test]
fn processes_come_back_in_the_cgroup_of_the_configuration() {
    let t = pinnace_only!(Need::Root, Need::Controller("pids"));
    let c = t.container();
    c.edit(|s| {
        s["linux"]["cgroupsPath"] = json!(format!("/{}-inner", c.id));
        s["linux"]["resources"]["pids"] = json!({ "limit": 77 });
    });
    c.write();
    let peer = Peer::new(&t);
    let images = path(&c, "images");
    fs::create_dir(&images).unwrap();
    fs::write(path(&c, "images/descriptors.json"), "[]").unwrap();
    let bundle = c.bundle.display().to_string();
    // Not managed, they stay where CRIU is: in that cgroup.
    let options = ["--bundle", &bundle, "--image-path", &images, "--detach", "--manage-cgroups-mode", "ignore"];
    peer.call(&c, "restore", &options).code(0);
    let roots = peer.request().1.messages(25);
    assert_eq!(roots.iter().map(|r| r.text(2).unwrap()).collect::<Vec<_>>(), [format!("/{}-inner", c.id)]);
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    assert!(cgroup.lines().any(|l| l.ends_with(&format!("/{}-inner", c.id))), "{cgroup}");
    let dir = harness::Place::get().cgroup_dir("pids", &format!("/{}-inner", c.id)).unwrap();
    assert_eq!(fs::read_to_string(dir.join("pids.max")).unwrap().trim(), "77");
}

#[test]
fn joined_namespaces_are_external_or_joined_again() {
    let t = pinnace_only!(Need::Root);
    let other = t.container();
    other.sleeping();
    let c = t.container();
    let file = |kind: &str| format!("/proc/{}/ns/{kind}", other.pid());
    c.namespace("network", Some(&file("net"))).namespace("uts", Some(&file("uts"))).namespace("ipc", Some(&file("ipc")));
    c.edit(|s| s.as_object_mut().unwrap().remove("hostname").map_or((), drop));
    c.sleeping();
    let peer = Peer::new(&t);
    let images = path(&c, "images");
    peer.call(&c, "checkpoint", &["--image-path", &images]).code(0);
    let inode = fs::read_link(file("net")).unwrap().display().to_string();
    assert_eq!(peer.request().1.texts(37), [format!("{inode}:extRootNetNS").replace("net:", "net")]);
    c.leaves_nothing();
    let bundle = c.bundle.display().to_string();
    peer.call(&c, "restore", &["--bundle", &bundle, "--image-path", &images, "--detach"]).code(0);
    let (_, opts) = peer.request();
    let inherited = opts.messages(27);
    assert_eq!(inherited.len(), 1);
    assert_eq!((inherited[0].text(1), peer.descriptor(inherited[0].number(2).unwrap())), (Some("extRootNetNS".into()), inode));
    assert_eq!(opts.pairs(39), BTreeMap::from([("uts".to_owned(), file("uts")), ("ipc".to_owned(), file("ipc"))]));
}

#[test]
fn hooks_run_when_a_container_comes_back() {
    let t = pinnace_only!(Need::Root);
    let c = t.container();
    let log = t.dir().join("hooks");
    let hook = |name: &str| json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("echo {name} $(cat) >> {}", log.display())] }]);
    c.edit(|s| {
        let kinds = ["prestart", "createRuntime", "poststart", "poststop"];
        s["hooks"] = kinds.iter().map(|k| ((*k).to_owned(), hook(k))).collect::<serde_json::Map<_, _>>().into();
    });
    c.write();
    let peer = Peer::new(&t);
    let images = path(&c, "images");
    fs::create_dir(&images).unwrap();
    fs::write(path(&c, "images/descriptors.json"), "[]").unwrap();
    let bundle = c.bundle.display().to_string();
    let pid_file = path(&c, "pid");
    peer.call(&c, "restore", &["--bundle", &bundle, "--image-path", &images, "--detach", "--pid-file", &pid_file]).code(0);
    let pid = c.pid();
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), pid.to_string());
    c.call("delete").arg("--force").arg(&c.id).ok();
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let wanted =
        [("prestart", "created", pid), ("createRuntime", "created", pid), ("poststart", "running", pid), ("poststop", "stopped", 0)];
    assert_eq!(lines.len(), wanted.len(), "{text}");
    for (line, (name, status, pid)) in lines.iter().zip(wanted) {
        let (first, state) = line.split_once(' ').unwrap();
        let bare = state.replace('"', "");
        assert!(first == name && bare.contains(&format!("status:{status}")) && bare.contains(&format!("pid:{pid}")), "{line}");
    }
}

#[test]
fn a_hook_that_fails_ends_the_restore() {
    let t = pinnace_only!(Need::Root);
    for kind in ["prestart", "poststart"] {
        let c = t.container();
        c.edit(|s| s["hooks"] = json!({ kind: [{ "path": "/bin/false" }] }));
        c.write();
        let images = path(&c, "images");
        fs::create_dir(&images).unwrap();
        fs::write(path(&c, "images/descriptors.json"), "[]").unwrap();
        let bundle = c.bundle.display().to_string();
        let out = Peer::new(&t).call(&c, "restore", &["--bundle", &bundle, "--image-path", &images, "--detach"]);
        out.fails_with(&["error executing hook `/bin/false` (exit code: 1)"]);
        c.leaves_nothing();
    }
}

#[test]
fn a_dump_that_fails_leaves_the_container_running() {
    let t = pinnace_only!(Need::Root);
    let c = t.container();
    c.sleeping();
    let peer = Peer::new(&t);
    let images = path(&c, "images");
    fs::create_dir(&images).unwrap();
    let log = "(00.1) fine\n(00.2) Error (criu/planted.c:7): a thing of ours\n(00.3) Warn  (criu/planted.c:8): not that\n";
    for (answer, texts) in [
        ("refuse", vec!["CRIU checkpointing failed -52 (planted failure). Please check CRIU logfile", "/images/dump.log"]),
        ("silence", vec!["CRIU ended without an answer (exit status: 0)"]),
        ("garbage", vec!["CRIU's answer is no message of its protocol"]),
        ("old", vec!["CRIU 3.14 is too old: 3.15 is needed"]),
    ] {
        fs::write(path(&c, "images/dump.log"), log).unwrap();
        let out = peer.answers(answer).call(&c, "checkpoint", &["--image-path", &images]).code(1);
        for text in texts {
            assert!(out.stderr().contains(text), "{answer}: {out}");
        }
        let excerpt = "\n--- excerpt from CRIU log\n(00.2) Error (criu/planted.c:7): a thing of ours\n";
        assert_eq!(out.stderr().contains(excerpt), answer != "old", "{out}");
        assert!(!out.stderr().contains("not that"), "{out}");
        assert_eq!(c.status(), "running");
    }
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    let t = pinnace_only!(Need::Root);
    let peer = Peer::new(&t);
    // The last of them fails when the process is there and the container written down.
    for answer in ["refuse", "silence", "garbage", "old", "pre-restore", "setup-namespaces", "post-restore"] {
        let c = t.container();
        c.write();
        let images = path(&c, "images");
        fs::create_dir(&images).unwrap();
        fs::write(path(&c, "images/descriptors.json"), "[]").unwrap();
        let bundle = c.bundle.display().to_string();
        for detach in [&["--detach"][..], &[]] {
            let pid_file = path(&c, "pid");
            let options = [&["--bundle", &bundle, "--image-path", &images, "--pid-file", &pid_file], detach].concat();
            peer.answers(answer).call(&c, "restore", &options).fails_with(&["CRIU"]);
            c.leaves_nothing();
            assert!(!c.bundle.join("pid").exists());
        }
    }
}

#[test]
fn a_restored_container_in_the_foreground_is_waited_for() {
    let t = pinnace_only!(Need::Root);
    let c = t.container();
    c.write();
    let peer = Peer::new(&t);
    let images = path(&c, "images");
    fs::create_dir(&images).unwrap();
    fs::write(path(&c, "images/descriptors.json"), "[]").unwrap();
    let bundle = c.bundle.display().to_string();
    let running = peer.prepare(&c, &mut c.call("restore"), &["--bundle", &bundle, "--image-path", &images]).spawn();
    harness::eventually("the container", || c.do_("state").status() == 0);
    // Signals are passed on.
    running.signal(15);
    running.wait().code(128 + 15);
    c.leaves_nothing();
}

#[test]
fn what_is_no_checkpoint_is_named() {
    let t = pinnace_only!(Need::Root);
    let c = t.container();
    c.write();
    let bundle = c.bundle.display().to_string();
    let images = path(&c, "images");
    let restore = |texts: &[&str]| {
        Peer::new(&t).call(&c, "restore", &["--bundle", &bundle, "--image-path", &images, "--detach"]).fails_with(texts);
        c.leaves_nothing();
    };
    restore(&["open the image directory `", "/images`: No such file or directory"]);
    fs::create_dir(&images).unwrap();
    restore(&["no checkpoint in `", "open `descriptors.json`: No such file or directory"]);
    for damaged in ["", "[", "{}", "[1]", "[\"/dev/null\""] {
        fs::write(path(&c, "images/descriptors.json"), damaged).unwrap();
        restore(&["/images/descriptors.json` is damaged: "]);
    }
    fs::write(path(&c, "images/descriptors.json"), "[]").unwrap();
    c.edit(|s| s["annotations"] = json!({ "org.criu.config": "/nonexistent/criu.conf" }));
    c.write();
    restore(&["annotation org.criu.config: open `/nonexistent/criu.conf`: No such file or directory"]);
}

#[test]
fn only_what_runs_is_checkpointed() {
    let t = pinnace_only!(Need::Root);
    let c = t.container();
    let peer = Peer::new(&t);
    let images = path(&c, "images");
    peer.call(&c, "checkpoint", &["--image-path", &images]).fails_with(&["container `", "does not exist"]);
    c.args(&["/probe", "sleep"]).create();
    peer.call(&c, "checkpoint", &["--image-path", &images]).fails_with(&["is not running: it is `created`"]);
    c.kill("KILL");
    c.until_status("stopped");
    peer.call(&c, "checkpoint", &["--image-path", &images]).fails_with(&["the container `", "is not running"]);
    assert!(!PathBuf::from(&images).exists() && peer.message(0).is_none());
}

#[test]
fn without_criu_one_line_says_so() {
    let t = pinnace_only!(Need::Root);
    let usual = ["/usr/local/sbin", "/usr/sbin", "/usr/local/bin", "/usr/bin"];
    if usual.iter().any(|dir| PathBuf::from(dir).join("criu").exists()) {
        t.skip("needs a machine without CRIU (covered by the run on the host)");
        return;
    }
    let c = t.container();
    c.sleeping();
    let out = c.call("checkpoint").env("PATH", "/nonexistent").arg("--image-path").arg(path(&c, "images")).arg(&c.id).output();
    out.fails_with(&["checkpoint and restore need CRIU, and the program `criu` is not installed"]);
    assert_eq!(c.status(), "running");
}

#[test]
fn a_terminal_needs_somewhere_to_go() {
    let t = pinnace_only!(Need::Root);
    let c = t.container();
    c.edit(|s| s["process"]["terminal"] = json!(true));
    c.write();
    let images = path(&c, "images");
    fs::create_dir(&images).unwrap();
    fs::write(path(&c, "images/descriptors.json"), "[]").unwrap();
    let bundle = c.bundle.display().to_string();
    let out = Peer::new(&t).call(&c, "restore", &["--bundle", &bundle, "--image-path", &images, "--detach"]);
    out.fails_with(&["use --console-socket with --detach when a terminal is used"]);
    c.leaves_nothing();
}
