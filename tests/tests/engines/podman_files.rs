//! podman: volumes, read-only root, user namespaces and who owns what. Not here: mount options one by one (`integration/mounts`).

use std::fs;
use std::os::unix::fs::MetadataExt;

use harness::Place;
use harness::podman::{IMAGE, Podman};

use crate::with_each_manager;

with_each_manager!(volumes, given_away, idmapped(Need::Root), read_only, tmpfs, user_namespaces, keep_id, copies, masked, commit,);

/// A directory of the host with a file.
fn shared(podman: &Podman) -> (String, std::path::PathBuf) {
    let dir = podman.test.dir().join("shared");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "from the host").unwrap();
    (dir.to_str().unwrap().to_owned(), dir)
}

fn volumes(podman: &Podman) {
    let (host, dir) = shared(podman);
    let out = podman.run(&["--volume", &format!("{host}:/mnt/host")], "cat /mnt/host/file; echo from inside >/mnt/host/back").code(0);
    assert_eq!(out.stdout(), "from the host");
    assert_eq!(fs::read_to_string(dir.join("back")).unwrap(), "from inside\n");
    let out = podman.run(&["--volume", &format!("{host}:/mnt/host:ro")], "echo x 2>/dev/null >/mnt/host/x || echo refused").code(0);
    assert_eq!(out.stdout().trim(), "refused");
    let out = podman
        .run(&["--volume", &format!("{host}/file:/etc/file:ro,noexec,nosuid,nodev")], "grep ' /etc/file ' /proc/self/mountinfo")
        .code(0);
    assert!(
        ["ro", "noexec", "nosuid", "nodev"].iter().all(|word| out
            .stdout()
            .split(' ')
            .nth(5)
            .unwrap_or_default()
            .split(',')
            .any(|w| w == *word)),
        "{out}"
    );
    // A volume of podman's own gets what the image has at that place.
    podman.run(&["--volume=kept:/data"], "echo kept >/data/word").code(0);
    assert_eq!(podman.run(&["--volume=kept:/data"], "cat /data/word").code(0).stdout().trim(), "kept");
    podman.run(&["--volume=filled:/etc"], "grep -q guest /etc/passwd").code(0);
    assert_eq!(podman.run(&["--volume=filled:/data"], "grep -c guest /data/group").code(0).stdout().trim(), "2");
}

/// `:U`: the files become the container's user's.
fn given_away(podman: &Podman) {
    let (host, dir) = shared(podman);
    let before = fs::metadata(&dir).unwrap().uid();
    let out =
        podman.run(&["--user=guest", "--volume", &format!("{host}:/mnt/host:U")], "stat -c %u /mnt/host/file; echo mine >/mnt/host/mine");
    assert_eq!(out.code(0).stdout().trim(), "1000");
    assert_ne!(fs::metadata(&dir).unwrap().uid(), before);
    // Back, for who clears up.
    podman.run(&["--volume", &format!("{host}:/mnt/host:U")], "true").code(0);
    assert_eq!(fs::metadata(&dir).unwrap().uid(), before);
}

fn idmapped(podman: &Podman) {
    let (host, dir) = shared(podman);
    let maps = ["--uidmap=0:200000:5000", "--gidmap=0:200000:5000"];
    let volume = format!("{host}:/mnt/host:idmap");
    let out = podman.run(&[&maps[..], &["--volume", &volume]].concat(), "stat -c %u:%g /mnt/host/file; echo x >/mnt/host/made").code(0);
    assert_eq!(out.stdout().trim(), "0:0");
    assert_eq!(fs::metadata(dir.join("made")).unwrap().uid(), 0);
    let volume = format!("{host}:/mnt/host");
    let out = podman.run(&[&maps[..], &["--volume", &volume]].concat(), "stat -c %u:%g /mnt/host/file").code(0);
    assert_eq!(out.stdout().trim(), "65534:65534");
}

fn read_only(podman: &Podman) {
    let script = "for at in /x /etc/x /tmp/x /run/x /dev/shm/x; do (echo x >$at) 2>/dev/null && echo $at; done; true";
    assert_eq!(podman.run(&["--read-only"], script).code(0).stdout().trim(), "/tmp/x\n/run/x\n/dev/shm/x");
    assert_eq!(podman.run(&["--read-only", "--read-only-tmpfs=false"], script).code(0).stdout().trim(), "");
}

fn tmpfs(podman: &Podman) {
    let out = podman.run(&["--tmpfs=/data:size=1m,mode=0711"], "stat -c %a /data; df -k /data | awk 'NR==2 {print $2}'").code(0);
    assert_eq!(out.stdout().trim(), "711\n1024");
    let out =
        podman.run(&["--mount=type=tmpfs,destination=/etc,tmpcopyup"], "grep -c guest /etc/passwd; echo x >/etc/x && echo written").code(0);
    assert_eq!(out.stdout().lines().last(), Some("written"));
}

fn user_namespaces(podman: &Podman) {
    let first = |out: harness::Output| out.code(0).stdout().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let has_range = fs::read_to_string("/etc/subuid").is_ok_and(|text| text.lines().any(|line| line.starts_with("containers:")));
    if !Place::get().root || has_range {
        let map = first(podman.run(&["--userns=auto:size=500"], "cat /proc/self/uid_map"));
        assert_eq!((map[0].as_str(), map[2].as_str()), ("0", "500"), "{map:?}");
    }
    if Place::get().root {
        let map = first(podman.run(&["--uidmap=0:300000:777"], "cat /proc/self/uid_map"));
        assert_eq!(map, ["0", "300000", "777"]);
    }
    let out = podman.run(&["--userns=host"], "id -u; readlink /proc/self/ns/user").code(0);
    assert!(out.stdout().starts_with("0\nuser:"), "{out}");
}

/// The user has the same number inside, and what he makes is his.
fn keep_id(podman: &Podman) {
    if Place::get().root {
        podman.call(&["run", "--rm", "--network=none", "--userns=keep-id", IMAGE, "id", "-u"]).output();
        return;
    }
    let (host, dir) = shared(podman);
    let me = fs::metadata(&dir).unwrap().uid();
    let out = podman
        .run(&["--userns=keep-id", "--volume", &format!("{host}:/mnt/host")], "id -u; echo x >/mnt/host/made; stat -c %u /mnt/host/file");
    assert_eq!(out.code(0).stdout().trim(), format!("{me}\n{me}"));
    assert_eq!(fs::metadata(dir.join("made")).unwrap().uid(), me);
    let out = podman.run(&["--userns=keep-id:uid=200,gid=210"], "id -u; id -g").code(0);
    assert_eq!(out.stdout().trim(), "200\n210");
}

fn copies(podman: &Podman) {
    let (host, dir) = shared(podman);
    podman.detached("one", &[], &["sleep", "1000"]);
    podman.call(&["cp", &format!("{host}/file"), "one:/data/file"]).ok();
    assert_eq!(podman.exec("one", "cat /data/file; echo more >>/data/file"), "from the host");
    podman.call(&["cp", "one:/data/file", &format!("{host}/back")]).ok();
    assert_eq!(fs::read_to_string(dir.join("back")).unwrap(), "from the hostmore\n");
    let diff = podman.call(&["diff", "one"]).ok().stdout();
    assert!(diff.lines().any(|line| line.trim() == "A /data/file"), "{diff}");
}

fn masked(podman: &Podman) {
    let script = "cat /proc/kcore | wc -c; (echo 1 >/proc/sys/kernel/panic) 2>/dev/null || echo refused; ls /proc/acpi 2>/dev/null | wc -l";
    assert_eq!(podman.run(&[], script).code(0).stdout().trim(), "0\nrefused\n0");
    let out = podman.run(&["--security-opt=mask=/data", "--volume=/etc/hostname:/data/file"], "ls /data | wc -l").code(0);
    assert_eq!(out.stdout().trim(), "0");
}

fn commit(podman: &Podman) {
    podman.call(&["run", "--name=one", "--network=none", IMAGE, "sh", "-c", "echo new >/data/new"]).ok();
    podman.call(&["commit", "--quiet", "one", "localhost/new"]).ok();
    let out = podman.call(&["run", "--rm", "--network=none", "localhost/new", "cat", "/data/new"]).ok();
    assert_eq!(out.stdout().trim(), "new");
}
