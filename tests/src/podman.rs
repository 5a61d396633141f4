//! podman with the runtime under test, its storage and its state in the test's own directory. Not here: what is tested with it, other engines.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::command::{Invocation, Output, eventually};
use crate::image;
use crate::place::Place;
use crate::test::Test;

/// The name of the image that every test has.
pub const IMAGE: &str = "localhost/probe";

/// Who makes the cgroups of an engine's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// The runtime, as files.
    Files,
    /// systemd, as scopes.
    Systemd,
}

impl Manager {
    /// As podman and Docker call it.
    pub fn word(self) -> &'static str {
        match self {
            Manager::Files => "cgroupfs",
            Manager::Systemd => "systemd",
        }
    }
}

/// A podman that knows nothing of the machine's own.
pub struct Podman {
    /// Its calls are podman's.
    pub test: Test,
    /// A link to the runtime under a name that podman knows.
    pub runtime: PathBuf,
    /// Who makes the cgroups.
    pub manager: Manager,
}

impl Podman {
    /// With an image of the shell and the probe.
    ///
    /// # Panics
    /// If it can't be set up.
    pub fn new(t: Test, manager: Manager) -> Podman {
        let dir = t.dir();
        // podman knows by a runtime's name what it can.
        let runtime = dir.join("bin/crun");
        fs::create_dir(dir.join("bin")).expect("a directory for the runtime");
        std::os::unix::fs::symlink(fs::canonicalize(&t.runtime.path).expect("the runtime"), &runtime).expect("link the runtime");
        // Locks in files: those in shared memory are the machine's.
        let settings = "[engine]\nlock_type = \"file\"\nevents_logger = \"file\"\n[containers]\nlog_driver = \"k8s-file\"\n";
        fs::write(dir.join("containers.conf"), settings).expect("write containers.conf");
        let archive = image::archive(dir);
        let podman = Podman { test: t.with_binary(Path::new("podman")), runtime, manager };
        podman.call(&["import", "--change", "CMD=[\"/bin/sh\"]", archive.to_str().expect("a path in UTF-8"), IMAGE]).ok();
        podman
    }

    /// The options that make it this podman.
    pub fn options(&self) -> Vec<String> {
        let mut options = self.places();
        options.extend(["--runtime".to_owned(), path(&self.runtime)]);
        options
    }

    /// The same without the runtime.
    fn places(&self) -> Vec<String> {
        let dir = self.test.dir();
        let places = [("--root", "graph"), ("--runroot", "run"), ("--tmpdir", "tmp")];
        let mut options: Vec<String> = places.iter().flat_map(|(o, name)| [(*o).to_owned(), path(&dir.join(name))]).collect();
        options.extend(["--cgroup-manager".to_owned(), self.manager.word().to_owned()]);
        options
    }

    /// A call with these options.
    pub fn call(&self, args: &[&str]) -> Invocation {
        self.with(&self.options(), args)
    }

    /// A call in which podman chooses the runtime.
    pub fn call_of_default(&self, args: &[&str]) -> Invocation {
        self.with(&self.places(), args)
    }

    fn with(&self, options: &[String], args: &[&str]) -> Invocation {
        let mut call = self.test.bare();
        call.args(options).args(args).env("CONTAINERS_CONF", self.test.dir().join("containers.conf"));
        call
    }

    /// A call of buildah on the same storage.
    pub fn buildah(&self, args: &[&str]) -> Invocation {
        let mut call = Invocation::new(&self.test, Path::new("buildah"));
        let dir = self.test.dir();
        call.arg("--root").arg(dir.join("graph")).arg("--runroot").arg(dir.join("run"));
        call.args(args).env("CONTAINERS_CONF", dir.join("containers.conf"));
        call
    }

    /// `podman run` of a line of shell in a container without a network that is removed afterwards.
    pub fn run(&self, options: &[&str], script: &str) -> Output {
        let all = [&["run", "--rm", "--network=none"], options, &[IMAGE, "sh", "-c", script]].concat();
        self.call(&all).output()
    }

    /// A container in the background.
    ///
    /// # Panics
    /// If it isn't started.
    #[track_caller]
    pub fn detached(&self, name: &str, options: &[&str], command: &[&str]) -> Output {
        let all = [&["run", "--detach", "--name", name, "--network=none"], options, &[IMAGE], command].concat();
        self.call(&all).ok()
    }

    /// The output of a line of shell in a container that runs.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn exec(&self, name: &str, script: &str) -> String {
        self.call(&["exec", name, "sh", "-c", script]).ok().stdout().trim().to_owned()
    }

    /// A call on a terminal.
    pub fn on_terminal(&self, args: &[&str], side: OwnedFd) -> Invocation {
        let mut call = self.call(args);
        call.terminal(side);
        call
    }

    /// A field of a container, by a template.
    ///
    /// # Panics
    /// If there is no such container.
    #[track_caller]
    pub fn inspect(&self, name: &str, what: &str) -> String {
        self.call(&["inspect", "--format", what, name]).ok().stdout().trim().to_owned()
    }

    /// Waits until a container's status is this one.
    ///
    /// # Panics
    /// If it doesn't come to be.
    #[track_caller]
    pub fn until_status(&self, name: &str, status: &str) {
        eventually(&format!("{name} being {status}"), || self.inspect(name, "{{.State.Status}}") == status);
    }
}

fn path(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

impl Drop for Podman {
    fn drop(&mut self) {
        for kind in [&["pod", "rm", "--all", "--force", "--time", "0"][..], &["rm", "--all", "--force", "--time", "0"]] {
            let _ = self.call(kind).output();
        }
        // The storage's own bind mount of itself.
        let _ = std::process::Command::new("umount").arg("--quiet").arg(self.test.dir().join("graph/overlay")).status();
        // The process that keeps an unprivileged user's namespaces stays, as podman leaves it: other tests and the user's own containers have it, too.
        if !Place::get().root {
            // Files of other ids, which only the namespace of all of the user's can remove.
            let mut unshare = self.test.bare();
            let _ = unshare.args(&["unshare", "rm", "-rf"]).arg(self.test.dir().join("graph")).arg(self.test.dir().join("run")).output();
        }
    }
}
