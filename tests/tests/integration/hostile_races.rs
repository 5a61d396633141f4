//! Traps that move: while the runtime works, a thread exchanges what is in its place for a link that leads to the host, as another
//! container does that shares a volume, as fast as renameat2(2) goes. Not here: traps that stay (`hostile`, `hostile_matrix`).
//!
//! Each race lasts 1.2 seconds, or `PINNACE_RACE_SECONDS`, and at least 10,000 exchanges in each of three ways: with all system calls, without
//! openat2, and without detached mounts too.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::{Container, Invocation, Need, Test, json, pinnace_only, view};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::hostile_canary::Canary;

const WAYS: [&str; 3] = ["", "openat2", "openat2,open_tree,move_mount,fsopen,fspick,mount_setattr"];
const LEAST: u64 = 10_000;

/// How long each way of a race lasts.
fn duration() -> Duration {
    let whole = std::env::var("PINNACE_RACE_SECONDS").map_or(1.2, |text| text.parse().expect("PINNACE_RACE_SECONDS is a number"));
    Duration::from_secs_f64(whole / WAYS.len() as f64)
}

/// A container, what is exchanged, and the host's tree.
struct Race<'t> {
    t: &'t Test,
    c: Container<'t>,
    canary: Canary,
    /// The right thing, and the link.
    pair: (PathBuf, PathBuf),
}

impl<'t> Race<'t> {
    /// A race about `path` of the root file system, or of a volume where it begins with `vol`; `right` makes what belongs there.
    fn about(t: &'t Test, path: &str, right: impl Fn(&Path)) -> Self {
        let c = t.container();
        let volume = c.bundle.join("vol");
        fs::create_dir(&volume).unwrap();
        let (at, dir) = if path.starts_with("vol/") {
            c.mount(json!({ "destination": "/vol", "type": "bind", "source": volume, "options": ["rbind"] }));
            (c.bundle.join(path), volume)
        } else {
            (c.rootfs().join(path), c.rootfs())
        };
        let _ = fs::remove_dir_all(&at);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        right(&at);
        let canary = Canary::make();
        canary.mirror(&c.rootfs());
        let target = canary.dir.join(if at.is_dir() { "full" } else { "full/file" });
        let link = dir.join("exchanged");
        symlink(target, &link).unwrap();
        c.args(&["/probe", "exit", "0"]).edit(|s| {
            s["root"]["readonly"] = json!(false);
            s["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network");
        });
        Race { t, c, canary, pair: (at, link) }
    }

    fn bind(&self, dest: &str, what: &str) {
        let source = self.t.dir().join("source");
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::write(source.join("file"), "bound").unwrap();
        self.c.mount(json!({ "destination": dest, "type": "bind", "source": source.join(what), "options": ["bind", "ro"] }));
    }

    /// No mount at and below /dev but the one at `but`.
    fn bare_dev(&self, but: &str) {
        self.c.edit(|s| {
            s["mounts"].as_array_mut().unwrap().retain(|m| {
                let dest = m["destination"].as_str().unwrap();
                !dest.starts_with("/dev") || dest == but
            });
        });
    }

    /// Runs the container over and over.
    fn run(&self) {
        self.go(&mut |race, calls| finish(race.c.launch("run", &[]), calls));
    }

    /// `attempt` over and over, in each of the ways, while the pair is exchanged.
    fn go(&self, attempt: &mut dyn FnMut(&Self, &str) -> i32) {
        for calls in WAYS {
            let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
            let (mut good, mut refused) = (0, 0);
            std::thread::scope(|scope| {
                let (pair, stop, count) = (&self.pair, &stop, &count);
                scope.spawn(move || exchange(pair, stop, count));
                let _end = Stop(stop);
                let end = Instant::now() + duration();
                while Instant::now() < end || count.load(Ordering::Relaxed) < LEAST {
                    match attempt(self, calls) {
                        0 => good += 1,
                        1 => refused += 1,
                        status => panic!("status {status}"),
                    }
                    let changes = self.canary.changes();
                    assert!(changes.is_empty(), "without `{calls}` the host was reached:\n{}", changes.join("\n"));
                }
            });
            let swaps = count.load(Ordering::Relaxed);
            eprintln!("{} without `{calls}`: {swaps} exchanges, {good} starts, {refused} refusals", self.t.name);
            assert!(swaps >= LEAST && good + refused > 0);
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            assert!(!mounts.contains(self.canary.dir.to_str().unwrap()), "{mounts}");
        }
    }
}

/// Ends the exchange, whatever becomes of the race.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Until it is told to stop; in the end each is where it was.
fn exchange((a, b): &(PathBuf, PathBuf), stop: &AtomicBool, count: &AtomicU64) {
    loop {
        for _ in 0..2 {
            match renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE) {
                Ok(()) => drop(count.fetch_add(1, Ordering::Relaxed)),
                // The kernel refuses to move a mount point of this namespace, of which there is none.
                Err(e) => panic!("exchange {} and {}: {e}", a.display(), b.display()),
            }
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// The call to its end; a refusal is one line.
fn finish(mut call: Invocation, calls: &str) -> i32 {
    let in_view = view::program();
    if !calls.is_empty() {
        call.under(&[in_view.to_str().unwrap(), "host", "--without", calls, "--"]);
    }
    let out = call.output();
    if out.status() != 0 {
        assert_eq!((out.status(), out.stderr().lines().count()), (1, 1), "{out}");
    }
    out.status()
}

fn directory(at: &Path) {
    fs::create_dir(at).unwrap();
}

fn file(at: &Path) {
    fs::write(at, "of the image").unwrap();
}

#[test]
fn a_mount_below_what_moves() {
    let t = pinnace_only!(Need::Root);
    let race = Race::about(&t, "vol/in", directory);
    race.c.mount(json!({ "destination": "/vol/in/sub", "type": "tmpfs", "source": "tmpfs" }));
    race.bind("/vol/in/new/file", "file");
    race.run();
}

#[test]
fn a_mount_on_what_moves() {
    let t = pinnace_only!(Need::Root);
    let race = Race::about(&t, "vol/in", directory);
    race.bind("/vol/in", "");
    race.run();
}

#[test]
fn a_file_mount_on_what_moves() {
    let t = pinnace_only!(Need::Root);
    let race = Race::about(&t, "vol/x", file);
    race.bind("/vol/x", "file");
    race.run();
}

#[test]
fn dev_that_moves() {
    let t = pinnace_only!(Need::Root);
    let race = Race::about(&t, "dev", directory);
    race.bare_dev("");
    race.run();
}

#[test]
fn dev_that_moves_below_a_mount() {
    let t = pinnace_only!(Need::Root);
    Race::about(&t, "dev", directory).run();
}

#[test]
fn dev_null_that_moves() {
    let t = pinnace_only!(Need::Root);
    let race = Race::about(&t, "vol/null", file);
    race.bare_dev("");
    let volume = race.c.bundle.join("vol");
    race.c.mount(json!({ "destination": "/dev", "type": "bind", "source": volume, "options": ["rbind"] }));
    race.c.edit(|s| s["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/acpi", "/data"]));
    race.run();
}

#[test]
fn dev_pts_that_moves() {
    let t = pinnace_only!(Need::Root);
    let race = Race::about(&t, "dev/pts", directory);
    race.bare_dev("/dev/pts");
    race.run();
}

/// The terminal is bound over it; while it is made, each of the two is a terminal's place or leads to the host.
#[test]
fn dev_console_that_moves() {
    let t = pinnace_only!(Need::Root);
    let race = Race::about(&t, "dev/console", file);
    race.bare_dev("/dev/pts");
    race.c.edit(|s| s["process"]["terminal"] = json!(true));
    let mut n = 0;
    race.go(&mut |race, calls| {
        n += 1;
        let path = race.t.dir().join(format!("console-{n}"));
        let _listening = UnixListener::bind(&path).unwrap();
        let id = race.c.id.clone();
        let mut call = race.c.launch("create", &[]);
        call.arg("--console-socket").arg(&path);
        let status = finish(call, calls);
        if status == 0 {
            race.c.call("delete").arg("--force").arg(&id).ok();
        }
        fs::remove_file(path).unwrap();
        status
    });
}

#[test]
fn proc_that_moves() {
    let t = pinnace_only!(Need::Root);
    let race = Race::about(&t, "proc", directory);
    race.c.edit(|s| s["linux"]["sysctl"] = json!({ "kernel.domainname": "raced" }));
    race.run();
}

#[test]
fn sys_that_moves() {
    let t = pinnace_only!(Need::Root);
    Race::about(&t, "sys", directory).run();
}

#[test]
fn etc_that_moves() {
    let t = pinnace_only!(Need::Root);
    let race = Race::about(&t, "etc", directory);
    race.bind("/etc/hostname", "file");
    race.c.edit(|s| s["process"]["env"].as_array_mut().unwrap().retain(|e| !e.as_str().unwrap().starts_with("HOME=")));
    race.run();
}

#[test]
fn masked_and_read_only_paths_that_move() {
    let t = pinnace_only!(Need::Root);
    let race = Race::about(&t, "vol/in", directory);
    race.c.edit(|s| {
        s["linux"]["maskedPaths"] = json!(["/vol/in"]);
        s["linux"]["readonlyPaths"] = json!(["/vol/in", "/proc/sys"]);
    });
    race.run();
}

#[test]
fn a_device_below_what_moves() {
    let t = pinnace_only!(Need::Root);
    let race = Race::about(&t, "vol/in", directory);
    let device = json!({ "path": "/vol/in/node", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0 });
    race.c.edit(|s| s["linux"]["devices"] = json!([device]));
    race.run();
}

#[test]
fn a_working_directory_that_moves() {
    let t = pinnace_only!(Need::Root);
    let race = Race::about(&t, "vol/in", directory);
    race.c.edit(|s| s["process"]["cwd"] = json!("/vol/in/made/there"));
    race.run();
}

/// What is copied is the image's: a link in it is copied as one, and nobody walks through it.
#[test]
fn a_tree_that_moves_while_it_is_copied() {
    let t = pinnace_only!(Need::Root);
    let race = Race::about(&t, "data/up/in", directory);
    fs::write(race.c.rootfs().join("data/up/in/file"), "of the image\n").unwrap();
    race.c.mount(json!({ "destination": "/data/up", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }));
    // Without the mirror, what is read through the link is nothing.
    fs::remove_dir_all(race.c.rootfs().join(race.canary.dir.strip_prefix("/").unwrap())).unwrap();
    race.c.args(&["/probe", "read-file", "/data/up/in/file"]);
    race.go(&mut |race, calls| {
        let in_view = view::program();
        let mut call = race.c.launch("run", &[]);
        if !calls.is_empty() {
            call.under(&[in_view.to_str().unwrap(), "host", "--without", calls, "--"]);
        }
        let out = call.output();
        assert!(!out.stdout().contains("of the host"), "{out}");
        out.status()
    });
}

/// The container runs, and what it does to its own files goes on while `exec` looks at them.
#[test]
fn exec_into_what_moves() {
    let t = pinnace_only!(Need::Root);
    let race = Race::about(&t, "vol/in", directory);
    race.c.sleeping();
    let id = race.c.id.clone();
    race.go(&mut |race, calls| {
        let mut call = race.c.call("exec");
        call.args(&["--cwd", "/vol/in"]).arg(&id).args(&["/probe", "exit", "0"]);
        finish(call, calls)
    });
}

#[test]
fn live_mounts_on_what_moves() {
    let t = pinnace_only!(Need::Root);
    let race = Race::about(&t, "vol/in", directory);
    race.c.sleeping();
    let id = race.c.id.clone();
    let list = race.t.dir().join("mounts.json");
    let mount = json!([{ "destination": "/vol/in/new/dir", "type": "tmpfs", "source": "tmpfs" }]);
    fs::write(&list, mount.to_string()).unwrap();
    race.go(&mut |race, calls| {
        let mut add = race.c.call("mounts");
        add.arg("add").arg(&id).arg(&list);
        let status = finish(add, calls);
        if status == 0 {
            // It may have moved away meanwhile.
            let mut remove = race.c.call("mounts");
            remove.arg("remove").arg(&id).arg(&list);
            finish(remove, calls);
        }
        status
    });
}
