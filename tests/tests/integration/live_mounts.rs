//! `mounts add` and `mounts remove`. Not here: what the options of a mount mean (`mounts`).

use std::fs;
use std::path::PathBuf;

use harness::{Container, Need, Report, Test, Value, behaviour, json};

/// A container in whose root mount points can be made.
fn writable(t: &Test) -> Container<'_> {
    let c = t.container();
    c.edit(|s| s["root"]["readonly"] = json!(false));
    c
}

/// The file with these mounts.
fn file(t: &Test, mounts: &Value) -> PathBuf {
    let path = t.dir().join("mounts.json");
    fs::write(&path, mounts.to_string()).unwrap();
    path
}

fn call(t: &Test, c: &Container<'_>, verb: &str, mounts: &Value) -> harness::Output {
    c.call("mounts").args(&[verb, &c.id, file(t, mounts).to_str().unwrap()]).output()
}

fn inside(c: &Container<'_>) -> Report {
    c.exec(&[], &["/probe", "report"]).code(0).report()
}

/// A directory with a file `f` in it.
fn source(t: &Test, name: &str) -> PathBuf {
    let dir = t.dir().join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("f"), name).unwrap();
    dir
}

#[test]
fn are_added_and_removed() {
    let t = behaviour!(Need::CrunDiffersBefore(28, "live-mounts"));
    let dir = source(&t, "tree");
    let c = writable(&t);
    c.sleeping();
    let mounts = json!([
        { "destination": "/mnt/bind", "type": "bind", "source": dir, "options": ["bind", "ro", "nosuid"] },
        { "destination": "/mnt/tmpfs", "type": "tmpfs", "source": "tmpfs", "options": ["noexec"] },
    ]);
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    call(&t, &c, "add", &mounts).code(0);
    let r = inside(&c);
    assert!(r.mount_has("/mnt/bind", "ro") && r.mount_has("/mnt/bind", "nosuid"));
    assert!(r.mount_has("/mnt/tmpfs", "noexec"));
    assert_eq!(r.mount("/mnt/tmpfs").unwrap()["type"], "tmpfs");
    let read = c.exec(&[], &["/probe", "read-file", "/mnt/bind/f"]).code(0);
    assert_eq!(read.json()["text"], "tree");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), host);
    call(&t, &c, "remove", &mounts).code(0);
    let r = inside(&c);
    assert!(r.mount("/mnt/bind").is_none() && r.mount("/mnt/tmpfs").is_none());
    call(&t, &c, "remove", &mounts).fails_with(&["umount `/mnt/", "Invalid argument"]);
    assert_eq!(c.status(), "running");
}

#[test]
fn options_words_and_relative_sources() {
    let t = behaviour!(Need::CrunDiffers("live-mounts"));
    let c = writable(&t);
    fs::write(c.rootfs().join("../note"), "from the bundle").unwrap();
    c.sleeping();
    let mounts = json!([
        { "destination": "/mnt/file", "type": "bind", "source": "note" },
        { "destination": "/mnt/t", "type": "tmpfs", "source": "x", "options": ["size=64k", "ro", "mode=700"] },
        { "destination": "/mnt/t/below", "type": "tmpfs", "source": "x" },
    ]);
    call(&t, &c, "add", &json!([mounts[0], mounts[1]])).code(0);
    assert_eq!(c.exec(&[], &["/probe", "read-file", "/mnt/file"]).code(0).json()["text"], "from the bundle");
    let r = inside(&c);
    assert!(r.mount_has("/mnt/t", "ro"));
    assert!(r.mount("/mnt/t").unwrap()["super"].to_string().contains("size=64k"));
    call(&t, &c, "add", &json!([{ "destination": "/mnt/t", "options": ["remount", "rw"] }, mounts[2]])).code(0);
    assert!(inside(&c).mount("/mnt/t/below").is_some());
    call(&t, &c, "remove", &mounts).code(0);
    let r = inside(&c);
    assert!(["/mnt/file", "/mnt/t", "/mnt/t/below"].iter().all(|target| r.mount(target).is_none()));
}

#[test]
fn file_systems_are_of_the_containers_namespaces() {
    let t = behaviour!(Need::CrunDiffers("live-mounts"));
    let c = writable(&t);
    c.sleeping();
    call(&t, &c, "add", &json!([{ "destination": "/mnt/proc", "type": "proc", "source": "proc" }])).code(0);
    let comm = c.exec(&[], &["/probe", "read-file", "/mnt/proc/1/comm"]).code(0);
    assert_eq!(comm.json()["text"], "probe\n");
}

#[test]
fn all_or_none() {
    let t = behaviour!(Need::CrunDiffers("live-mounts"));
    let dir = source(&t, "tree");
    let c = writable(&t);
    c.sleeping();
    let before = inside(&c)["mounts"].clone();
    for (last, texts) in [
        (json!({ "destination": "/mnt/c", "type": "nosuchfs", "source": "x" }), ["nosuchfs", "No such device"]),
        (json!({ "destination": "/mnt/c", "type": "bind", "source": t.dir().join("none") }), ["/mnt/c", "No such file or directory"]),
        (json!({ "destination": "/probe/x", "type": "tmpfs", "source": "x" }), ["/probe/x", "Not a directory"]),
    ] {
        let mounts = json!([
            { "destination": "/mnt/a", "type": "bind", "source": dir, "options": ["bind"] },
            { "destination": "/mnt/a", "type": "tmpfs", "source": "x" },
            { "destination": "/mnt/a/b", "type": "tmpfs", "source": "x" },
            last,
        ]);
        call(&t, &c, "add", &mounts).fails_with(&texts);
        assert_eq!(inside(&c)["mounts"], before, "{last}");
    }
}

#[test]
fn links_of_the_container_stay_inside() {
    let t = behaviour!(Need::CrunDiffersBefore(28, "live-mounts"));
    let dir = source(&t, "tree");
    let outside = source(&t, "outside");
    let c = writable(&t);
    std::os::unix::fs::symlink(&outside, c.rootfs().join("away")).unwrap();
    std::os::unix::fs::symlink("../../../../../../../../tmp", c.rootfs().join("up")).unwrap();
    c.sleeping();
    let mounts = json!([
        { "destination": "/away", "type": "bind", "source": dir, "options": ["bind"] },
        { "destination": "/up/x", "type": "bind", "source": dir, "options": ["bind"] },
    ]);
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let _whether_it_works_or_not = call(&t, &c, "add", &mounts);
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), host);
    assert_eq!(fs::read_to_string(outside.join("f")).unwrap(), "outside");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert!(!PathBuf::from("/tmp/x").exists());
}

#[test]
fn a_created_and_a_paused_container_get_them_too() {
    let t = behaviour!(Need::Root, Need::CrunDiffersBefore(28, "live-mounts"));
    let dir = source(&t, "tree");
    let mounts = json!([{ "destination": "/mnt/d", "type": "bind", "source": dir, "options": ["bind"] }]);
    let c = writable(&t);
    c.args(&["/probe", "report", ",", "sleep"]);
    let created = c.create().code(0);
    call(&t, &c, "add", &mounts).code(0);
    c.start().code(0);
    created.until("}");
    assert!(created.report().mount("/mnt/d").is_some());
    c.do_("pause").code(0);
    call(&t, &c, "remove", &mounts).code(0);
    c.do_("resume").code(0);
    assert!(inside(&c).mount("/mnt/d").is_none());
}

#[test]
fn in_a_user_namespace() {
    let t = behaviour!(Need::Root, Need::CrunDiffersBefore(28, "live-mounts"));
    let dir = source(&t, "tree");
    let c = writable(&t);
    c.new_user_namespace(200_000);
    c.sleeping();
    let mounts = json!([
        { "destination": "/tmp/bind", "type": "bind", "source": dir, "options": ["bind"] },
        { "destination": "/tmp/t", "type": "tmpfs", "source": "tmpfs" },
    ]);
    call(&t, &c, "add", &mounts).code(0);
    let r = inside(&c);
    assert!(r.mount("/tmp/bind").is_some() && r.mount("/tmp/t").is_some());
    c.exec(&[], &["/probe", "write-file", "/tmp/t/mine", "x"]).code(0);
    call(&t, &c, "remove", &mounts).code(0);
    assert!(inside(&c).mount("/tmp/t").is_none());
}

#[test]
fn bad_input_is_named() {
    let t = behaviour!(Need::CrunDiffers("errors-name-the-field"));
    let c = writable(&t);
    c.sleeping();
    let before = inside(&c)["mounts"].clone();
    for (mounts, texts) in [
        (json!({}), ["load the mounts", "sequence"]),
        (json!([{ "type": "tmpfs" }]), ["[0]", "destination"]),
        (json!([{ "destination": "" }]), ["mounts[0].destination", "must not be empty"]),
        (json!([{ "destination": "/mnt/a", "type": "tmpfs" }, { "destination": 5 }]), ["[1].destination", "string"]),
        (json!([{ "destination": "/mnt/a", "type": "bind" }]), ["mounts[0] (`/mnt/a`)", "a bind mount needs a source"]),
        (json!([{ "destination": "/mnt/a", "type": "tmpfs", "options": ["nonsense"] }]), ["/mnt/a", "Invalid argument"]),
    ] {
        call(&t, &c, "add", &mounts).fails_with(&texts);
    }
    assert_eq!(inside(&c)["mounts"], before);
    let m = file(&t, &json!([]));
    let words = |words: &[&str]| c.call("mounts").args(words).output();
    words(&["add", &c.id]).fails_with(&["`mounts` requires a minimum of 3 arguments"]);
    words(&["frob", &c.id, m.to_str().unwrap()]).fails_with(&["unknown command frob"]);
    words(&["add", "nosuch", m.to_str().unwrap()]).fails_with(&["container `nosuch` does not exist"]);
    words(&["add", &c.id, "/nonexistent"]).fails_with(&["open `/nonexistent`", "No such file or directory"]);
    c.kill("KILL").code(0);
    c.until_status("stopped");
    call(&t, &c, "add", &json!([])).fails_with(&["is not running"]);
}

#[test]
fn of_an_unprivileged_user() {
    let t = behaviour!(Need::Rootless, Need::CrunDiffers("live-mounts")).as_user(54_321);
    let dir = source(&t, "tree");
    let c = writable(&t);
    c.sleeping();
    let mounts = json!([
        { "destination": "/mnt/bind", "type": "bind", "source": dir, "options": ["rbind", "ro"] },
        { "destination": "/mnt/t", "type": "tmpfs", "source": "tmpfs" },
    ]);
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    call(&t, &c, "add", &mounts).code(0);
    let r = inside(&c);
    assert!(r.mount_has("/mnt/bind", "ro") && r.mount("/mnt/t").is_some());
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), host);
    call(&t, &c, "remove", &mounts).code(0);
    assert!(inside(&c).mount("/mnt/bind").is_none());
}
