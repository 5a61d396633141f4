//! Engines that are daemons, with all they keep in the test's own directory: dockerd and containerd. Not here: what is tested with them.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::command::{Invocation, Output, eventually};
use crate::executable;
use crate::image;
use crate::podman::Manager;
use crate::test::Test;

/// The image's name as containerd knows it.
pub const IMAGE: &str = "localhost/probe:latest";

/// A daemon that runs, and its socket.
struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it and waits until its socket can be connected to.
    fn start(mut command: Command, log: PathBuf, socket: &Path) -> Daemon {
        let file = File::create(&log).expect("create the daemon's log");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("copy a descriptor")).stderr(file);
        let child = {
            let _starting = executable::starting();
            command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"))
        };
        let mut daemon = Daemon { child, log };
        let deadline = Instant::now() + Duration::from_secs(120);
        while UnixStream::connect(socket).is_err() {
            let ended = daemon.child.try_wait().expect("wait for the daemon");
            assert!(ended.is_none() && Instant::now() < deadline, "no {}: {ended:?}\n{}", socket.display(), daemon.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("pids fit"));
        let _ = kill(pid, Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if std::thread::panicking() {
            eprintln!("the daemon said:\n{}", self.said());
        }
        // Its file systems for namespaces, sandboxes and the like.
        let dir = self.log.parent().expect("the log has a directory").to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut places: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|at| at.starts_with(&dir)).collect();
        places.reverse();
        for place in places {
            let _ = Command::new("umount").args(["--quiet", "--lazy", place]).status();
        }
    }
}

/// Docker's daemon and its client.
pub struct Docker {
    /// Its calls are docker's.
    pub test: Test,
    daemon: Option<Daemon>,
}

impl Docker {
    /// With the runtime under test as the default and the image `probe`.
    ///
    /// # Panics
    /// If it can't be set up.
    pub fn new(t: Test, manager: Manager, bridge: bool) -> Docker {
        let dir = t.dir().to_path_buf();
        let driver = manager.word();
        let mut settings = json!({
            "data-root": dir.join("data"), "exec-root": dir.join("exec"), "pidfile": dir.join("pid"), "hosts": [format!("unix://{}", dir.join("sock").display())],
            "runtimes": { "tested": { "path": t.runtime.path } }, "default-runtime": "tested", "exec-opts": [format!("native.cgroupdriver={driver}")],
            "log-level": "warn", "live-restore": false, "experimental": true,
        });
        if !bridge {
            settings["bridge"] = json!("none");
            settings["iptables"] = json!(false);
            settings["ip6tables"] = json!(false);
        }
        fs::write(dir.join("daemon.json"), settings.to_string()).expect("write daemon.json");
        // Its bridge and its firewall, which refuses what other engines forward, are for a network of its own.
        let mut command = Command::new("unshare");
        command.args(if bridge { &["--net", "dockerd"][..] } else { &["dockerd"] }).arg("--config-file").arg(dir.join("daemon.json"));
        let daemon = Daemon::start(command, dir.join("dockerd.log"), &dir.join("sock"));
        let archive = image::archive(&dir);
        let docker = Docker { test: t.with_binary(Path::new("docker")), daemon: Some(daemon) };
        docker.call(&["import", "--change", "CMD [\"/bin/sh\"]", archive.to_str().expect("a path in UTF-8"), "probe"]).ok();
        docker
    }

    /// A call of the client.
    pub fn call(&self, args: &[&str]) -> Invocation {
        let mut call = self.test.bare();
        call.arg("--host").arg(format!("unix://{}", self.test.dir().join("sock").display()));
        call.args(args).env("DOCKER_CONFIG", self.test.dir().join("client"));
        call
    }

    /// `docker run` of a line of shell in a container without a network that is removed afterwards.
    pub fn run(&self, options: &[&str], script: &str) -> Output {
        self.call(&[&["run", "--rm", "--network=none"], options, &["probe", "sh", "-c", script]].concat()).output()
    }

    /// A container in the background.
    ///
    /// # Panics
    /// If it isn't started.
    #[track_caller]
    pub fn detached(&self, name: &str, options: &[&str], script: &str) -> Output {
        self.call(&[&["run", "--detach", "--name", name, "--network=none"], options, &["probe", "sh", "-c", script]].concat()).ok()
    }

    /// The output of a line of shell in a container that runs.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn exec(&self, name: &str, script: &str) -> String {
        self.call(&["exec", name, "sh", "-c", script]).ok().stdout().trim().to_owned()
    }

    /// A field of a container, by a template.
    ///
    /// # Panics
    /// If there is no such container.
    #[track_caller]
    pub fn inspect(&self, name: &str, what: &str) -> String {
        self.call(&["inspect", "--format", what, name]).ok().stdout().trim().to_owned()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let all = self.call(&["ps", "--all", "--quiet"]).output().stdout();
        for id in all.lines() {
            let _ = self.call(&["rm", "--force", "--volumes", id]).output();
        }
        drop(self.daemon.take());
    }
}

/// containerd and its client `ctr`.
pub struct Containerd {
    /// Its calls are ctr's.
    pub test: Test,
    /// The runtime's path.
    pub runtime: PathBuf,
    /// Who makes the cgroups.
    pub manager: Manager,
    daemon: Option<Daemon>,
}

impl Containerd {
    /// With the image in the namespaces `default` and `k8s.io`. The runtime under test is the one of its CRI.
    ///
    /// # Panics
    /// If it can't be set up.
    pub fn new(t: Test, manager: Manager) -> Containerd {
        let dir = t.dir().to_path_buf();
        let runtime = fs::canonicalize(&t.runtime.path).expect("the runtime");
        let systemd = manager == Manager::Systemd;
        let runtimes = format!(
            "runtime_type = \"io.containerd.runc.v2\"\n{{}}.options]\nBinaryName = \"{}\"\nRoot = \"{}\"\nSystemdCgroup = {systemd}\n",
            runtime.display(),
            dir.join("containers").display(),
        );
        let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
        let tested = format!("{cri}.containerd.runtimes.tested");
        let settings = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\n[grpc]\naddress = \"{0}/sock\"\n[ttrpc]\naddress = \"{0}/ttrpc\"\n[{cri}]\n\
             sandbox_image = \"{IMAGE}\"\n[{cri}.containerd]\ndefault_runtime_name = \"tested\"\n[{tested}]\n{1}",
            dir.display(),
            runtimes.replace("{}", &format!("[{tested}")),
        );
        fs::write(dir.join("config.toml"), settings).expect("write containerd's settings");
        let mut command = Command::new("containerd");
        command.arg("--config").arg(dir.join("config.toml"));
        let daemon = Daemon::start(command, dir.join("containerd.log"), &dir.join("sock"));
        let layout = image::layout(&dir, &image::archive(&dir), IMAGE);
        let made = Containerd { test: t.with_binary(Path::new("ctr")), runtime, manager, daemon: Some(daemon) };
        for namespace in ["default", "k8s.io"] {
            let import = ["--namespace", namespace, "images", "import", layout.to_str().expect("a path in UTF-8")];
            eventually("the import of the image", || made.call(&import).output().status() == 0);
        }
        made
    }

    /// The socket of its services.
    pub fn socket(&self) -> PathBuf {
        self.test.dir().join("sock")
    }

    /// A call of the client.
    pub fn call(&self, args: &[&str]) -> Invocation {
        let mut call = self.test.bare();
        call.arg("--address").arg(self.socket()).args(args);
        call
    }

    /// `ctr run` of a line of shell.
    pub fn run(&self, options: &[&str], id: &str, script: &str) -> Invocation {
        self.command(options, id, &["sh", "-c", script])
    }

    /// `ctr run`. The containers' state is below the test's directory: that of `ctr` itself is one for all daemons.
    pub fn command(&self, options: &[&str], id: &str, command: &[&str]) -> Invocation {
        let runtime = self.runtime.to_str().expect("a path in UTF-8");
        let root = self.test.dir().join("containers");
        let mut all = vec!["run", "--runc-binary", runtime, "--runc-root", root.to_str().expect("a path in UTF-8")];
        let cgroup = format!("pinnacetest.slice:ctr:{id}");
        if self.manager == Manager::Systemd {
            all.extend(["--runc-systemd-cgroup", "--cgroup", &cgroup]);
        }
        self.call(&[&all[..], options, &[IMAGE, id], command].concat())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for namespace in ["default", "k8s.io"] {
            let ids = self.call(&["--namespace", namespace, "tasks", "list", "--quiet"]).output().stdout();
            for id in ids.lines() {
                let _ = self.call(&["--namespace", namespace, "tasks", "kill", "--all", "--signal=9", id]).output();
                let _ = self.call(&["--namespace", namespace, "tasks", "delete", "--force", id]).output();
            }
        }
        drop(self.daemon.take());
    }
}
