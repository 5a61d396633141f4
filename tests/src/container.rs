//! A container under test: its bundle, the calls that concern it, and its end. What must not be left behind is in
//! `leftovers`.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::command::{Invocation, Output, Running};
use crate::executable;
use crate::leftovers;
use crate::probe;
use crate::report::Report;
use crate::runtime::Kind;
use crate::test::Test;

/// A bundle and the container made from it.
pub struct Container<'t> {
    test: &'t Test,
    /// The container's id, unique on this machine.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    config: RefCell<Value>,
    written: Cell<bool>,
    global: RefCell<Vec<String>>,
}

impl<'t> Container<'t> {
    pub(crate) fn new(test: &'t Test) -> Container<'t> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("pt-{}-{number}", std::process::id());
        let bundle = test.dir().join(&id);
        let rootfs = bundle.join("rootfs");
        for dir in ["proc", "dev", "sys", "tmp", "etc", "bin", "data"] {
            fs::create_dir_all(rootfs.join(dir)).expect("make the root file system");
        }
        fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("open /tmp");
        executable::copy(probe::path(), &rootfs.join("probe"));
        fs::set_permissions(rootfs.join("probe"), fs::Permissions::from_mode(0o755)).expect("make the probe executable");
        symlink("/probe", rootfs.join("bin/do-exit")).expect("link the probe");
        let mut config = test.runtime.default_spec();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/probe", "report"]);
        if let Some(env) = config["process"]["env"].as_array_mut() {
            env.push(json!(format!("{}={id}", leftovers::MARK)));
        }
        let made =
            Container { test, id, bundle, config: RefCell::new(config), written: Cell::new(false), global: RefCell::new(Vec::new()) };
        if let Some(uid) = test.user {
            made.prepare_for_user(uid);
        }
        made
    }

    /// An unprivileged user's configuration is what `spec --rootless` writes; and the bundle is his.
    fn prepare_for_user(&self, uid: u32) {
        let dir = self.test.dir().join(format!("spec-{}", self.id));
        fs::create_dir(&dir).expect("a directory for the spec");
        for path in walk(&self.bundle).iter().chain([&dir]) {
            std::os::unix::fs::lchown(path, Some(uid), Some(uid)).expect("give the bundle away");
        }
        self.test.bare().arg("spec").arg("--rootless").cwd(&dir).ok();
        let text = fs::read(dir.join("config.json")).expect("`spec --rootless` writes config.json");
        let mut config: Value = serde_json::from_slice(&text).expect("`spec --rootless` writes JSON");
        config["process"] = self.config.borrow()["process"].clone();
        *self.config.borrow_mut() = config;
    }

    /// Changes the configuration.
    pub fn edit(&self, change: impl FnOnce(&mut Value)) -> &Self {
        change(&mut self.config.borrow_mut());
        self.written.set(false);
        self
    }

    /// Sets `process.args`.
    pub fn args(&self, args: &[&str]) -> &Self {
        self.edit(|c| c["process"]["args"] = json!(args))
    }

    /// A copy of the configuration.
    pub fn config(&self) -> Value {
        self.config.borrow().clone()
    }

    /// Adds a mount at the end.
    pub fn mount(&self, mount: Value) -> &Self {
        self.edit(|c| c["mounts"].as_array_mut().expect("mounts is an array").push(mount))
    }

    /// Leaves out the namespaces of a type, or with `path` joins one.
    pub fn namespace(&self, kind: &str, path: Option<&str>) -> &Self {
        self.edit(|c| {
            let list = c["linux"]["namespaces"].as_array_mut().expect("namespaces is an array");
            list.retain(|n| n["type"] != kind);
            if let Some(path) = path {
                list.push(json!({ "type": kind, "path": path }));
            }
        })
    }

    /// Adds a new namespace of a type that the default configuration lacks.
    pub fn new_namespace(&self, kind: &str) -> &Self {
        self.namespace(kind, None);
        self.edit(|c| {
            let list = c["linux"]["namespaces"].as_array_mut().expect("namespaces is an array");
            list.push(json!({ "type": kind }));
        })
    }

    /// Adds a user namespace with its ids 0 to 9999 mapped to `first` and up.
    pub fn new_user_namespace(&self, first: u32) -> &Self {
        self.new_namespace("user").edit(|c| {
            for kind in ["uidMappings", "gidMappings"] {
                c["linux"][kind] = json!([{ "containerID": 0, "hostID": first, "size": 10_000 }]);
            }
        })
    }

    /// Options before the subcommand, for all further calls.
    pub fn global(&self, options: &[&str]) -> &Self {
        self.global.borrow_mut().extend(options.iter().map(|o| (*o).to_owned()));
        self
    }

    /// The root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    /// Replaces config.json by a text that needn't be JSON; the configuration isn't written any more.
    pub fn raw_config(&self, text: &str) -> &Self {
        fs::write(self.bundle.join("config.json"), text).expect("write config.json");
        self.written.set(true);
        self
    }

    /// Writes config.json, if it changed.
    pub fn write(&self) -> &Self {
        if !self.written.replace(true) {
            let text = serde_json::to_vec(&*self.config.borrow()).expect("JSON can be written");
            fs::write(self.bundle.join("config.json"), text).expect("write config.json");
        }
        self
    }

    /// A call with `--root`, the global options and `command`; no id yet.
    pub fn call(&self, command: &str) -> Invocation {
        let mut call = self.test.runtime();
        call.args(&self.global.borrow()).arg(command).env(leftovers::MARK, &self.id);
        call
    }

    /// `create` or `run` with the bundle and the options.
    pub fn launch(&self, command: &str, options: &[&str]) -> Invocation {
        self.write();
        let mut call = self.call(command);
        call.arg("--bundle").arg(&self.bundle).args(options).arg(&self.id);
        call
    }

    /// `run` in the foreground, to its end.
    pub fn run(&self) -> Output {
        self.launch("run", &[]).output()
    }

    /// `run` in the foreground; returns at once.
    pub fn spawn(&self) -> Running {
        self.launch("run", &[]).spawn()
    }

    /// `run`, which must be refused: exit 1, one line with all the `texts`, and nothing left behind.
    ///
    /// crun leaves its cgroup where it fails early (`cgroup-after-failure` in docs/crun-compat.md); only that is
    /// forgiven, and only crun.
    #[track_caller]
    pub fn refused(&self, texts: &[&str]) -> Output {
        let out = self.run().fails_with(texts);
        self.forget_cgroup_of_crun();
        self.leaves_nothing();
        out
    }

    /// Removes the cgroup that crun leaves when it fails early (`cgroup-after-failure` in docs/crun-compat.md).
    pub fn forget_cgroup_of_crun(&self) {
        if self.test.runtime.kind == Kind::Crun {
            leftovers::clear(&self.id);
        }
    }

    /// `run` of a `report`, parsed.
    #[track_caller]
    pub fn report(&self) -> Report {
        self.run().code(0).report()
    }

    /// `run --detach` of a probe that sleeps, up to its READY.
    #[track_caller]
    pub fn sleeping(&self) -> Output {
        self.args(&["/probe", "sleep"]);
        let out = self.launch("run", &["--detach"]).ok();
        out.until("READY");
        out
    }

    /// `create`, which must succeed.
    #[track_caller]
    pub fn create(&self) -> Output {
        self.launch("create", &[]).ok()
    }

    /// `COMMAND ID`, to its end.
    pub fn do_(&self, command: &str) -> Output {
        self.call(command).arg(&self.id).output()
    }

    /// `start`, which must succeed.
    #[track_caller]
    pub fn start(&self) -> Output {
        self.do_("start").code(0)
    }

    /// What `state` prints.
    #[track_caller]
    pub fn state(&self) -> Value {
        self.do_("state").code(0).json()
    }

    /// The status in `state`.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().expect("status is text").to_owned()
    }

    /// Waits until `state` says so.
    #[track_caller]
    pub fn until_status(&self, wanted: &str) {
        crate::command::eventually(&format!("status {wanted} of {}", self.id), || self.status() == wanted);
    }

    /// The pid in `state`.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let pid = self.state()["pid"].as_i64().expect("pid is a number");
        i32::try_from(pid).expect("pids fit")
    }

    /// `kill ID SIGNAL`, which must succeed.
    #[track_caller]
    pub fn kill(&self, signal: &str) -> Output {
        self.call("kill").arg(&self.id).arg(signal).ok()
    }

    /// `exec OPTIONS ID ARGS`, to its end.
    pub fn exec(&self, options: &[&str], args: &[&str]) -> Output {
        self.call("exec").args(options).arg(&self.id).args(args).output()
    }

    /// A process file for `exec --process`, from the configuration's process with changes.
    pub fn process_file(&self, change: impl FnOnce(&mut Value)) -> PathBuf {
        let mut process = self.config.borrow()["process"].clone();
        change(&mut process);
        let path = self.test.dir().join(format!("process-{}.json", self.test.next()));
        fs::write(&path, process.to_string()).expect("write the process file");
        path
    }

    /// The container's state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.test.root().join(&self.id)
    }

    /// What is left of the container on the machine; empty after `delete`.
    pub fn left(&self) -> Vec<String> {
        leftovers::of(&self.id, &self.state_dir(), &self.bundle)
    }

    /// The same, giving dying processes a moment.
    pub fn left_in_the_end(&self) -> Vec<String> {
        leftovers::settle(|| self.left())
    }

    /// Demands that nothing is left of it, giving dying processes a moment.
    ///
    /// # Panics
    /// If something stays.
    #[track_caller]
    pub fn leaves_nothing(&self) {
        self.leaves_nothing_after("a test");
    }

    /// The same; `what` happened is said as well.
    ///
    /// # Panics
    /// If something stays.
    #[track_caller]
    pub fn leaves_nothing_after(&self, what: &str) {
        let left = self.left_in_the_end();
        assert!(left.is_empty(), "{what}: {} left {left:#?} behind", self.id);
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        if self.state_dir().exists() {
            let out = self.call("delete").arg("--force").arg(&self.id).output();
            if !failing {
                assert_eq!(out.status(), 0, "{out}");
            }
        }
        let left = leftovers::settle(|| self.left());
        leftovers::clear(&self.id);
        if !failing {
            assert!(left.is_empty(), "{} left {left:#?} behind", self.id);
        }
    }
}

/// All paths at and below `dir`.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_path_buf()];
    let mut next = 0;
    while next < found.len() {
        if found[next].is_dir() && !found[next].is_symlink() {
            let entries = fs::read_dir(&found[next]).expect("read the bundle");
            found.extend(entries.flatten().map(|e| e.path()).collect::<Vec<_>>());
        }
        next += 1;
    }
    found
}
