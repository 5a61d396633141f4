//! Mounts that show other ids than their file systems have: `uidMappings` and `gidMappings` of a mount, the words `idmap` and `ridmap`, crun's
//! syntax for maps.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use harness::{Container, Need, Output, Test, Value, behaviour, json, pinnace_only};

const FIRST: u32 = 200_000;

/// A host directory with a file for each id, which owns it as user and as group.
fn owned(t: &Test) -> PathBuf {
    let dir = t.dir().join("owned");
    fs::create_dir_all(&dir).unwrap();
    for id in [0, 1, 5, 12] {
        let path = dir.join(id.to_string());
        fs::write(&path, "").unwrap();
        chown(path, Some(id), Some(id)).unwrap();
    }
    dir
}

/// A container whose ids 0–9 are the host's 200000 and up, 10–99 the host's 300000 and up.
fn mapped(t: &Test) -> Container<'_> {
    let c = t.container();
    c.new_namespace("user");
    let ranges = json!([
        { "containerID": 0, "hostID": FIRST, "size": 10 },
        { "containerID": 10, "hostID": 300_000, "size": 90 },
    ]);
    c.edit(|s| {
        s["linux"]["uidMappings"] = ranges.clone();
        s["linux"]["gidMappings"] = ranges;
    });
    c
}

fn bind(c: &Container<'_>, source: &Path, options: &[&str]) {
    let options: Vec<_> = ["bind"].iter().chain(options).collect();
    c.mount(json!({ "destination": "/data", "type": "bind", "source": source, "options": options }));
}

/// Owner and group of `/data/NAME` for each name, as the container sees them.
fn owners(c: &Container<'_>, names: &[&str]) -> Vec<(Value, Value)> {
    let mut args = vec!["/probe".to_owned(), "stat".to_owned()];
    args.extend(names.iter().map(|name| format!("/data/{name}")));
    c.args(&args.iter().map(String::as_str).collect::<Vec<_>>());
    c.run().code(0).json_lines().iter().map(|s| (s["uid"].clone(), s["gid"].clone())).collect()
}

fn ids(list: &[(u32, u32)]) -> Vec<(Value, Value)> {
    list.iter().map(|(uid, gid)| (json!(uid), json!(gid))).collect()
}

/// Owner of what no id of the container stands for.
const NOBODY: u32 = 65_534;

#[test]
fn mappings_of_the_mount() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    let map = |host: u32| json!([{ "containerID": 0, "hostID": host, "size": 10 }]);
    c.mount(json!({
        "destination": "/data", "type": "bind", "source": owned(&t), "options": ["bind"],
        "uidMappings": map(100), "gidMappings": map(7000),
    }));
    assert_eq!(owners(&c, &["0", "5", "12"]), ids(&[(100, 7000), (105, 7005), (NOBODY, NOBODY)]));
    c.args(&["/probe", "report"]);
    assert!(c.report().mount_has("/data", "idmapped"));
}

#[test]
fn what_is_written_gets_the_ids_of_the_file_system() {
    let t = behaviour!(Need::Root);
    let c = mapped(&t);
    let dir = owned(&t);
    bind(&c, &dir, &["idmap"]);
    c.args(&["/probe", "write-file", "/data/new", "x"]);
    assert_eq!(c.run().code(0).json()["errno"], json!(null));
    let new = fs::metadata(dir.join("new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (0, 0));
}

#[test]
fn the_word_alone_means_the_containers_mappings() {
    let t = behaviour!(Need::Root);
    let c = mapped(&t);
    let dir = owned(&t);
    bind(&c, &dir, &[]);
    assert_eq!(owners(&c, &["0", "5"]), ids(&[(NOBODY, NOBODY), (NOBODY, NOBODY)]));
    for word in ["idmap", "idmap="] {
        let c = mapped(&t);
        bind(&c, &dir, &[word]);
        assert_eq!(owners(&c, &["0", "5", "12"]), ids(&[(0, 0), (5, 5), (12, 12)]), "{word}");
    }
}

#[test]
fn the_word_alone_means_the_mappings_of_a_joined_namespace_too() {
    let t = behaviour!(Need::Root);
    let first = mapped(&t);
    first.sleeping();
    let second = t.container();
    second.namespace("user", Some(&format!("/proc/{}/ns/user", first.pid())));
    // A namespace that is joined brings no rights over the host's network.
    second.namespace("network", Some(&format!("/proc/{}/ns/net", first.pid())));
    bind(&second, &owned(&t), &["idmap"]);
    assert_eq!(owners(&second, &["0", "5", "12"]), ids(&[(0, 0), (5, 5), (12, 12)]));
}

#[test]
fn mappings_in_the_word() {
    let t = behaviour!(Need::Root);
    let dir = owned(&t);
    for (word, wanted) in [
        ("idmap=uids=0-1000-2#5-77-1;gids=0-2000-20", [(1000, 2000), (1001, 2001), (77, 2005), (NOBODY, 2012)]),
        ("idmap=gids=0-0-20;uids=0-100-20", [(100, 0), (101, 1), (105, 5), (112, 12)]),
    ] {
        let c = t.container();
        bind(&c, &dir, &[word]);
        assert_eq!(owners(&c, &["0", "1", "5", "12"]), ids(&wanted), "{word}");
    }
}

#[test]
fn mappings_relative_to_the_containers() {
    let t = behaviour!(Need::Root);
    let dir = owned(&t);
    for (word, wanted) in [
        ("idmap=uids=@0-0-6;gids=@0-0-6", [(0, 0), (1, 1), (5, 5), (NOBODY, NOBODY)]),
        // The second number says in which of the container's ranges it lies.
        ("idmap=uids=@0-10-6;gids=@0-20-6", [(10, 20), (11, 21), (15, 25), (NOBODY, NOBODY)]),
        ("idmap=uids=@12-0-1;gids=@12-3-1", [(NOBODY, NOBODY), (NOBODY, NOBODY), (NOBODY, NOBODY), (0, 3)]),
        ("idmap=uids=@0-0-1#1-200007-1;gids=@0-0-2", [(0, 0), (7, 1), (NOBODY, NOBODY), (NOBODY, NOBODY)]),
    ] {
        let c = mapped(&t);
        bind(&c, &dir, &[word]);
        assert_eq!(owners(&c, &["0", "1", "5", "12"]), ids(&wanted), "{word}");
    }
}

#[test]
fn a_relative_range_may_lie_in_several_of_the_containers() {
    let t = behaviour!(Need::Root, Need::CrunDiffers("idmap-ranges"));
    let c = mapped(&t);
    bind(&c, &owned(&t), &["idmap=uids=@0-0-100;gids=@0-8-20"]);
    assert_eq!(owners(&c, &["0", "1", "5", "12"]), ids(&[(0, 8), (1, 9), (5, 13), (12, 20)]));
}

#[test]
fn a_relative_source_is_looked_up_in_the_bundle() {
    let t = behaviour!(Need::Root, Need::CrunDiffers("idmap-relative-source"));
    let c = mapped(&t);
    fs::create_dir(c.bundle.join("beside")).unwrap();
    fs::write(c.bundle.join("beside/f"), "").unwrap();
    bind(&c, Path::new("beside"), &["idmap"]);
    assert_eq!(owners(&c, &["f"]), ids(&[(0, 0)]));
}

#[test]
fn a_new_tmpfs_can_have_mappings() {
    let t = behaviour!(Need::Root);
    let tmpfs = |c: &Container<'_>, word: &str| {
        c.mount(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "ro", word] }));
    };
    let c = t.container();
    tmpfs(&c, "idmap=uids=0-5-1;gids=0-6-1");
    assert_eq!(owners(&c, &["."]), ids(&[(5, 6)]));
    let c = mapped(&t);
    tmpfs(&c, "idmap=uids=@0-5-1;gids=@0-6-1");
    assert_eq!(owners(&c, &["."]), ids(&[(5, 6)]));
    c.args(&["/probe", "report"]);
    assert!(c.report().mount_has("/data", "ro"));
}

/// What the container sees of `/data` and of a tmpfs below it, which is mounted in the call's own namespace only.
fn with_submount(t: &Test, word: &str) -> Output {
    let c = t.container();
    let dir = owned(t);
    fs::create_dir_all(dir.join("sub")).unwrap();
    c.mount(json!({ "destination": "/data", "type": "none", "source": dir, "options": ["rbind", word] }));
    c.args(&["/probe", "stat", "/data/5", "/data/sub"]);
    let script = format!("mount -t tmpfs sub {}/sub && exec \"$@\"", dir.display());
    c.launch("run", &[]).under(&["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"]).ok()
}

#[test]
fn the_mounts_below_keep_their_ids() {
    let t = behaviour!(Need::Root);
    let lines = with_submount(&t, "idmap=uids=0-100-10;gids=0-100-10").json_lines();
    assert_eq!((&lines[0]["uid"], &lines[1]["uid"]), (&json!(105), &json!(0)));
}

#[test]
fn ridmap_is_for_the_mounts_below_too() {
    let t = pinnace_only!(Need::Root);
    let lines = with_submount(&t, "ridmap=uids=0-100-10;gids=0-100-10").json_lines();
    assert_eq!((&lines[0]["uid"], &lines[1]["uid"]), (&json!(105), &json!(100)));
}

#[test]
fn attributes_and_propagation_hold_as_ever() {
    let t = behaviour!(Need::Root);
    let c = mapped(&t);
    bind(&c, &owned(&t), &["idmap", "ro", "nosuid", "noexec", "rprivate"]);
    let r = c.report();
    for option in ["ro", "nosuid", "noexec", "idmapped"] {
        assert!(r.mount_has("/data", option), "{option}: {}", r.mount("/data").unwrap());
    }
    assert_eq!(r.mount("/data").unwrap()["propagation"], json!([]));
}

#[test]
fn a_file_system_that_cannot_is_named_with_its_mount() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    bind(&c, Path::new("/proc/sys"), &["idmap=uids=0-1-1;gids=0-1-1"]);
    c.refused(&["`/data`", "doesn't support idmap mounts", "Invalid argument"]);
}

#[test]
fn a_missing_source_is_named() {
    let t = behaviour!(Need::Root);
    let c = t.container();
    bind(&c, Path::new("/no/such/source"), &["idmap=uids=0-1-1;gids=0-1-1"]);
    c.refused(&["/no/such/source", "No such file or directory"]);
}

#[test]
fn malformed_maps_are_refused() {
    let t = behaviour!(Need::Root);
    let dir = owned(&t);
    for (word, text) in [
        ("idmap=foo=0-1-2", "foo=0-1-2"),
        ("idmap=uids=0-x-2;gids=0-0-1", "0-x-2"),
        ("idmap=uids=0-1;gids=0-0-1", "0-1"),
        ("idmap=uids=0-1-2-3;gids=0-0-1", "0-1-2-3"),
        ("idmap=uids=@0-0-1;gids=@0-0-1", "without user namespace mappings"),
    ] {
        let c = t.container();
        bind(&c, &dir, &[word]);
        c.refused(&[text]);
    }
    let c = mapped(&t);
    bind(&c, &dir, &["idmap=uids=@0-5000-1;gids=@0-0-1"]);
    c.refused(&["could not find a user namespace mapping for the relative mapping"]);
}

#[test]
fn what_cannot_be_mapped_is_refused_before_anything_is_made() {
    let t = pinnace_only!(Need::Root);
    let dir = owned(&t);
    for (word, text) in [
        ("idmap", "mounts[7] (`/data`): `idmap` needs mappings"),
        ("idmap=uids=0-0-1", "needs both uids= and gids="),
        ("idmap=uids=0-0-2#1-5-1;gids=0-0-1", "idmap: uids[1]: the range overlaps another"),
        ("idmap=uids=0-0-0;gids=0-0-1", "idmap: uids[0]: invalid range 0 0 0"),
    ] {
        let c = t.container();
        c.edit(|s| s["mounts"].as_array_mut().unwrap().truncate(7));
        bind(&c, &dir, &[word]);
        c.refused(&[text]);
    }
    let c = t.container();
    c.mount(
        json!({ "destination": "/data", "type": "bind", "source": dir, "uidMappings": [{ "containerID": 0, "hostID": 1, "size": 1 }] }),
    );
    c.refused(&["uidMappings and gidMappings: one needs the other"]);
    for (kind, words) in [("proc", &["idmap=uids=0-1-1;gids=0-1-1"][..]), ("tmpfs", &["tmpcopyup", "idmap=uids=0-1-1;gids=0-1-1"])] {
        let c = t.container();
        c.mount(json!({ "destination": "/data", "type": kind, "source": "x", "options": words }));
        c.refused(&["idmap"]);
    }
}
