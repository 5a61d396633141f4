//! The matrix: every place of a root file system that the runtime goes through × every trap an image may have put there × the ways the
//! runtime works (root writable, read-only, a user namespace, a kernel without openat2, one without detached mounts). Each combination goes
//! through create, start, exec and delete; afterwards a tree of the host must be as it was. What comes of each stands in
//! `tests/data/hostile-matrix.txt`, so that a change is noticed. Not here: places and traps (`places`), traps that move (`hostile_races`).

mod places;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Need, Test, Value, json, pinnace_only};
use nix::libc;

use crate::hostile_canary::Canary;
use places::{Config, PLACES, Place, TRAPS, Trap, give};

/// How the runtime works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Plain,
    ReadOnly,
    UserNamespace,
    NoOpenat2,
    /// Neither openat2 nor any call for detached mounts.
    Classic,
}

const MODES: [Mode; 5] = [Mode::Plain, Mode::ReadOnly, Mode::UserNamespace, Mode::NoOpenat2, Mode::Classic];
/// Host's id of the root of user namespaces.
const ROOT: u32 = 100_000;
const TABLE: &str = include_str!("../../data/hostile-matrix.txt");
/// Ends a call that hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// One worker's things.
struct Worker<'a> {
    mode: Mode,
    runtime: &'a Path,
    /// The probe, to link to.
    probe: PathBuf,
    base: Value,
    dir: PathBuf,
    source: PathBuf,
    canary: Canary,
    console: (PathBuf, UnixListener),
    mark: String,
}

impl<'a> Worker<'a> {
    fn new(t: &'a Test, mode: Mode, probe: &Path, base: &Value) -> Self {
        let dir = t.dir().join(format!("{mode:?}"));
        let source = dir.join("source");
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::write(source.join("file"), "bound").unwrap();
        let socket = dir.join("console");
        let listener = UnixListener::bind(&socket).unwrap();
        let mark = format!("hm-{}-{mode:?}", std::process::id());
        let canary = Canary::make();
        let (probe, base) = (probe.to_path_buf(), base.clone());
        Worker { mode, runtime: &t.runtime.path, probe, base, dir, source, canary, console: (socket, listener), mark }
    }

    /// All its combinations; place and trap → outcome.
    fn all(&self) -> BTreeMap<String, String> {
        match self.mode {
            Mode::NoOpenat2 => harness::filter::without(&["openat2"]).unwrap(),
            Mode::Classic => {
                harness::filter::without(&["openat2", "open_tree", "move_mount", "fsopen", "fspick", "mount_setattr"]).unwrap()
            }
            _ => {}
        }
        let pairs = PLACES.iter().flat_map(|place| TRAPS.iter().map(move |trap| (place, *trap)));
        pairs.map(|(place, trap)| (format!("{} {trap:?}", place.name), self.one(place, trap))).collect()
    }

    /// One combination: what came of it. The canary is compared after each.
    fn one(&self, place: &Place, trap: Trap) -> String {
        let what = format!("{} {trap:?} {:?}", place.name, self.mode);
        let bundle = self.dir.join("bundle");
        let (mounts, terminal) = self.prepare(&bundle, place, trap);
        let id = format!("{}-{}-{trap:?}", self.mark, place.name.replace('/', "_"));
        let pid_file = self.dir.join("pid");
        let mut create = self.call("create");
        create.arg("--bundle").arg(&bundle).arg("--pid-file").arg(&pid_file);
        if terminal {
            create.arg("--console-socket").arg(&self.console.0);
        }
        let created = self.finish(create.arg(&id), &what);
        let outcome = match created {
            Ok(()) => {
                let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
                let outcome = self.alive(&id, pid, mounts, terminal, &what);
                let deleted = self.finish(self.call("delete").arg("--force").arg(&id), &what);
                assert_eq!(deleted, Ok(()), "{what}");
                outcome
            }
            Err(text) => class(&text),
        };
        assert!(!self.dir.join("state").join(&id).exists(), "{what}: state is left");
        let changes = self.canary.changes();
        assert!(changes.is_empty(), "{what} ({outcome}) reached the host:\n{}", changes.join("\n"));
        let source: Vec<_> = fs::read_dir(self.source.join("sub")).unwrap().collect();
        assert!(source.is_empty(), "{what}: {source:?}");
        outcome
    }

    /// Start, exec, and a look at what is there.
    fn alive(&self, id: &str, pid: i32, mounts: usize, terminal: bool, what: &str) -> String {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let table = fs::read_to_string(proc.join("mountinfo")).unwrap();
        assert!(table.lines().count() > mounts, "{what}: mounts are missing:\n{table}");
        if let Err(text) = self.finish(self.call("start").arg(id), what) {
            return format!("start:{}", class(&text));
        }
        let stdin = fs::metadata(proc.join("fd/0"));
        if let (Ok(stdin), false) = (stdin, terminal) {
            let null = stdin.file_type().is_char_device() && stdin.rdev() == libc::makedev(1, 3);
            assert!(null, "{what}: standard input is {:?}", fs::read_link(proc.join("fd/0")));
        }
        assert!(!self.canary.has(&proc.join("cwd")), "{what}: the working directory is outside");
        match self.finish(self.call("exec").arg(id).args(["/probe", "exit", "0"]), what) {
            Ok(()) => "runs".into(),
            Err(text) => format!("exec:{}", class(&text)),
        }
    }

    /// A bundle with the trap; how many mounts it configures, and whether it has a terminal.
    fn prepare(&self, bundle: &Path, place: &Place, trap: Trap) -> (usize, bool) {
        let _ = fs::remove_dir_all(bundle);
        let (rootfs, volume) = (bundle.join("rootfs"), bundle.join("volume"));
        for dir in ["proc", "dev/pts", "dev/shm", "dev/mqueue", "sys/fs/cgroup", "etc", "m/sub"] {
            fs::create_dir_all(rootfs.join(dir)).unwrap();
        }
        fs::create_dir_all(&volume).unwrap();
        fs::hard_link(&self.probe, rootfs.join("probe")).unwrap();
        self.canary.mirror(&rootfs);
        let mut config = Config { spec: self.base.clone(), source: &self.source, volume: &volume, terminal: false };
        (place.configure)(&mut config);
        let at = if place.path.starts_with("volume") { bundle.join(place.path) } else { rootfs.join(place.path) };
        trap.plant(&at, place.dir, &self.canary.dir);
        let Config { mut spec, terminal, .. } = config;
        spec["root"]["readonly"] = json!(self.mode == Mode::ReadOnly);
        spec["process"]["env"].as_array_mut().unwrap().push(json!(format!("PINNACE_TEST_ID={}", self.mark)));
        if self.mode == Mode::UserNamespace {
            spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
            for map in ["uidMappings", "gidMappings"] {
                spec["linux"][map] = json!([{ "containerID": 0, "hostID": ROOT, "size": 65_536 }]);
            }
            // The probe's link is of a file that others share.
            fs::remove_file(rootfs.join("probe")).unwrap();
            give(&rootfs, ROOT);
            give(&volume, ROOT);
            fs::hard_link(&self.probe, rootfs.join("probe")).unwrap();
        }
        fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        (spec["mounts"].as_array().unwrap().len(), terminal)
    }

    fn call(&self, command: &str) -> Command {
        let mut call = Command::new(self.runtime);
        call.arg("--root").arg(self.dir.join("state")).args(["--cgroup-manager", "disabled"]).arg(command);
        call.env_remove("NOTIFY_SOCKET").current_dir(&self.dir).stdin(Stdio::null()).stdout(Stdio::null());
        call
    }

    /// Runs it to its end: nothing, or the one line it has to say.
    fn finish(&self, call: &mut Command, what: &str) -> Result<(), String> {
        let errors = self.dir.join("stderr");
        let mut child = call.stderr(fs::File::create(&errors).unwrap()).spawn().unwrap();
        let deadline = Instant::now() + LIMIT;
        let mut pause = Duration::from_micros(200);
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => break None,
                None => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(Duration::from_millis(2));
        };
        if status.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let text = fs::read_to_string(&errors).unwrap();
        let status = status.unwrap_or_else(|| panic!("{what}: {call:?} hangs: {text}"));
        if status.success() {
            return Ok(());
        }
        assert_eq!(status.code(), Some(1), "{what}: {status}: {text}");
        assert_eq!(text.lines().count(), 1, "{what}: an error is one line: {text}");
        Err(text)
    }
}

/// What a refusal says, in a word.
fn class(text: &str) -> String {
    const CLASSES: [(&str, &str); 13] = [
        ("leads where it must not", "unsafe"),
        ("of another type is in the way", "type"),
        ("Too many levels of symbolic links", "ELOOP"),
        ("Not a directory", "ENOTDIR"),
        ("Is a directory", "EISDIR"),
        ("No such file or directory", "ENOENT"),
        ("No such device", "ENODEV"),
        ("Read-only file system", "EROFS"),
        ("Permission denied", "EACCES"),
        ("Operation not permitted", "EPERM"),
        ("Invalid argument", "EINVAL"),
        ("File exists", "EEXIST"),
        ("Invalid cross-device link", "EXDEV"),
    ];
    let found = CLASSES.iter().find(|(words, _)| text.contains(words)).map(|(_, class)| *class);
    found.map_or_else(|| format!("?{}", text.trim().replace(' ', "_")), str::to_owned)
}

#[test]
fn every_trap_in_every_place() {
    let t = pinnace_only!(Need::Root);
    let template = t.container();
    let mut base = template.config();
    base["process"]["args"] = json!(["/probe", "sleep"]);
    base["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network");
    let probe = template.rootfs().join("probe");
    let workers: Vec<Worker<'_>> = MODES.iter().map(|mode| Worker::new(&t, *mode, &probe, &base)).collect();
    let parameter = || fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let before = parameter();
    let columns: Vec<BTreeMap<String, String>> = std::thread::scope(|scope| {
        // A thread each: filters are of the thread that installs them and of its children.
        let threads: Vec<_> = workers.iter().map(|w| scope.spawn(|| w.all())).collect();
        threads.into_iter().map(|thread| thread.join().expect("the worker's combinations")).collect()
    });
    nothing_is_left(&t, &workers);
    assert_eq!(parameter(), before);
    let count: usize = columns.iter().map(BTreeMap::len).sum();
    assert!(count >= 1500, "{count} combinations");
    compare(&columns);
}

fn nothing_is_left(t: &Test, workers: &[Worker<'_>]) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(t.dir().to_str().unwrap()), "{mounts}");
    for worker in workers {
        let mark = format!("PINNACE_TEST_ID={}", worker.mark).into_bytes();
        harness::eventually("all processes to end", || {
            let all = fs::read_dir("/proc").unwrap().flatten();
            let environ = all.filter_map(|e| fs::read(e.path().join("environ")).ok());
            !environ.into_iter().any(|text| text.split(|b| *b == 0).any(|v| v == mark))
        });
        let state: Vec<_> = fs::read_dir(worker.dir.join("state")).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(state.iter().all(|name| name.to_string_lossy().starts_with('.')), "{state:?}");
    }
}

/// Compares with the table, and says what differs. With PINNACE_HOSTILE_TABLE the table of this run is written there.
fn compare(columns: &[BTreeMap<String, String>]) {
    let mut table = format!("# place trap: {}\n", MODES.map(|mode| format!("{mode:?}")).join(" "));
    for place in &PLACES {
        for trap in TRAPS {
            let key = format!("{} {trap:?}", place.name);
            let cells: Vec<&str> = columns.iter().map(|column| column[&key].as_str()).collect();
            table.push_str(&format!("{key}: {}\n", cells.join(" ")));
        }
    }
    if let Some(path) = std::env::var_os("PINNACE_HOSTILE_TABLE") {
        fs::write(path, &table).unwrap();
    }
    // A cell may name what one kernel says and what another.
    let agrees = |known: &str, line: &str| {
        let (known, line): (Vec<_>, Vec<_>) = (known.split(' ').collect(), line.split(' ').collect());
        known.len() == line.len() && known.iter().zip(line).all(|(cell, got)| cell.split('|').any(|one| one == got))
    };
    let new: Vec<&str> = table.lines().filter(|line| !TABLE.lines().any(|known| agrees(known, line))).collect();
    assert!(new.is_empty(), "{} lines are not those of tests/data/hostile-matrix.txt:\n{}", new.len(), new.join("\n"));
}
