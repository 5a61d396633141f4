//! A test's beginning: does it fit the runtime and the machine, and if not, who is told. Also its directory and its
//! way to call the runtime.

use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::command::Invocation;
use crate::container::Container;
use crate::executable;
use crate::place::{Layout, Place};
use crate::runtime::{Kind, Runtime};

/// Names the build that loads seccomp notify plugins.
const PLUGINS: &str = "PINNACE_PLUGINS_BIN";

/// For which runtimes a test holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Any runtime of crun's kind.
    Behaviour,
    /// Only pinnace.
    PinnaceOnly,
}

/// What a test needs of the machine or of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Effective uid 0.
    Root,
    /// Unprivileged user namespaces, and root to become another user.
    Rootless,
    /// A cgroup controller, on v1 or v2.
    Controller(&'static str),
    /// A v2 tree.
    V2,
    /// Some v1 hierarchy.
    V1,
    /// A program in $PATH.
    Tool(&'static str),
    /// Network bridges and netfilter in the kernel.
    Bridges,
    /// A running systemd with its bus: the system's for root, otherwise the user's.
    Systemd,
    /// A kernel that makes a mount namespace of a tree (OPEN_TREE_NAMESPACE, 7.0).
    TreeNamespaces,
    /// A kernel of its own machine: user-mode Linux panics when it kills a process for want of memory inside a system call.
    OomInCalls,
    /// Limits can be raised.
    CapSysResource,
    /// Limits can not be raised.
    NoCapSysResource,
    /// A CRIU that works with this kernel, and root for it.
    Criu,
    /// A build of pinnace with the handler `krun`.
    Krun,
    /// A character device of the host.
    Device(&'static str),
    /// A runtime that loads seccomp notify plugins: crun, or the dynamic build of [`Test::with_plugins`].
    Plugins,
    /// A variable of the environment is set, here with a path.
    Variable(&'static str),
    /// Behaviour in which crun differs on purpose: the line of `docs/crun-compat.md` with this key says how.
    CrunDiffers(&'static str),
    /// As above, but only crun before this minor version of 1 differs.
    CrunDiffersBefore(u32, &'static str),
    /// As above, but only crun run by an unprivileged user differs.
    CrunNeedsRoot(&'static str),
}

impl Need {
    /// Why the test can't run here, if it can't.
    fn missing(self, runtime: &Runtime) -> Option<String> {
        let place = Place::get();
        let here = |ok: bool, text: String| (!ok).then_some(text);
        // For checking the excuses: without them, crun must fail.
        let excused = runtime.kind == Kind::Crun && std::env::var_os("PINNACE_TEST_NO_EXCUSES").is_none();
        let crun_minor = excused.then(|| minor(&runtime.version));
        let differs = |key: &str| format!("crun differs, see `{key}` in docs/crun-compat.md");
        match self {
            Need::Root => here(place.root, "needs root (covered by the run as root)".into()),
            Need::Rootless => here(
                place.root && place.userns,
                "needs root to become another user, and unprivileged user namespaces (covered by cargo xtask vm test)".into(),
            ),
            Need::Controller(name) => here(
                place.controllers.contains_key(name),
                format!("needs the cgroup controller {name} (covered by {})", other_place(place.layout)),
            ),
            Need::V2 => here(place.unified.is_some(), "needs a cgroup v2 tree (covered by the run in the v2 view)".into()),
            Need::V1 => here(
                matches!(place.layout, Layout::V1 | Layout::Hybrid),
                "needs a cgroup v1 hierarchy (covered by the run on a host that has them)".into(),
            ),
            Need::Tool(name) => here(Place::tool(name), format!("needs the program {name} (install it)")),
            Need::Systemd => here(place.systemd_bus(), "needs a running systemd with its bus (covered by cargo xtask vm test)".into()),
            Need::Bridges => here(
                place.bridges(),
                "needs a kernel with bridges and netfilter (covered by the full lane of cargo xtask vm test)".into(),
            ),
            Need::Criu => here(place.root && criu(), "needs a CRIU that works here (covered by cargo xtask vm test)".into()),
            Need::TreeNamespaces => here(
                place.tree_namespaces,
                "needs a kernel with OPEN_TREE_NAMESPACE, 7.0 (covered by the fast lane of cargo xtask vm test)".into(),
            ),
            Need::OomInCalls => here(
                !place.user_mode,
                "user-mode Linux panics when it kills for want of memory inside a system call (covered by the full lane of cargo xtask vm test)"
                    .into(),
            ),
            Need::CapSysResource => here(place.cap_sys_resource, "needs CAP_SYS_RESOURCE (covered by cargo xtask vm test)".into()),
            Need::NoCapSysResource => {
                here(!place.cap_sys_resource, "needs a machine without CAP_SYS_RESOURCE (covered by cargo xtask vm test)".into())
            }
            Need::Krun => here(with_krun().is_some(), "needs a build with krun, in PINNACE_KRUN_BIN (covered by cargo xtask test)".into()),
            Need::Device(path) => here(is_device(path), format!("needs the device {path} (covered by the run on a host that has it)")),
            Need::Plugins if runtime.kind == Kind::Crun => None,
            Need::Plugins => Need::Variable(PLUGINS).missing(runtime),
            Need::Variable(name) => {
                here(std::env::var_os(name).is_some_and(|v| !v.is_empty()), format!("needs {name} (set by cargo xtask test)"))
            }
            Need::CrunDiffers(key) => here(crun_minor.is_none(), differs(key)),
            Need::CrunNeedsRoot(key) => here(place.root || crun_minor.is_none(), differs(key)),
            Need::CrunDiffersBefore(version, key) => here(crun_minor.is_none_or(|m| m >= version), differs(key)),
        }
    }
}

/// A build of pinnace with the handler `krun`, which the released program lacks: `PINNACE_KRUN_BIN`.
pub fn with_krun() -> Option<PathBuf> {
    std::env::var_os("PINNACE_KRUN_BIN").filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn is_device(path: &str) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_char_device())
}

/// Whether there is a CRIU that can do its work here; asked once.
fn criu() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| {
        let _starting = executable::starting();
        let check = std::process::Command::new("criu").arg("check").stdin(std::process::Stdio::null()).output();
        check.is_ok_and(|out| out.status.success())
    })
}

/// Where what this layout lacks is tested.
fn other_place(layout: Layout) -> &'static str {
    match layout {
        Layout::V2 => "the run on the host's own layout and cargo xtask vm test",
        _ => "cargo xtask vm test",
    }
}

/// The minor number in `crun version 1.MINOR…`.
fn minor(version: &str) -> u32 {
    version
        .split("version 1.")
        .nth(1)
        .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

/// A running test: a directory of its own, a `--root` of its own, and the runtime.
#[derive(Debug)]
pub struct Test {
    /// The function's name, `area::function`.
    pub name: String,
    /// The runtime under test.
    pub runtime: &'static Runtime,
    /// The binary to call: the runtime's, or a copy that another user can reach.
    pub(crate) binary: PathBuf,
    /// The user that runs the runtime, if not this one.
    pub(crate) user: Option<u32>,
    /// The mount namespace of the runtime's calls, if not this one.
    pub(crate) namespace: Option<OwnedFd>,
    pub(crate) dir: tempfile::TempDir,
    count: Cell<u32>,
}

impl Test {
    /// Begins a test, or tells why not: one line on the real standard error (libtest captures only what the print
    /// macros write), and one in the file named by `PINNACE_TEST_SKIPS`.
    pub fn begin(name: &str, scope: Scope, needs: &[Need]) -> Option<Test> {
        let runtime = Runtime::get();
        let by_kind = match (scope, runtime.kind, Place::get().layout) {
            (Scope::PinnaceOnly, Kind::Crun | Kind::Other, _) => {
                Some(format!("only pinnace promises this, and the runtime is {}", runtime.version))
            }
            (_, Kind::Crun, Layout::Hybrid) => {
                Some("crun differs, see `hybrid-cgroups` in docs/crun-compat.md (covered by the run in the v2 view)".into())
            }
            _ => None,
        };
        let reason = by_kind.or_else(|| needs.iter().find_map(|need| need.missing(runtime)));
        if let Some(reason) = reason {
            report_skip(name, &reason);
            return None;
        }
        let dir = tempfile::Builder::new().prefix("pinnace-test-").tempdir_in(temp_root()).expect("the test's directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("open the test's directory");
        let binary = runtime.path.clone();
        Some(Test { name: name.to_owned(), runtime, binary, user: None, namespace: None, dir, count: Cell::new(0) })
    }

    /// Reports the test as skipped after it began; return after it.
    pub fn skip(&self, reason: &str) {
        report_skip(&self.name, reason);
    }

    /// The same test, but the runtime is run by the user `uid`, who owns the directory and has a range of
    /// subordinate ids (see [`crate::view`]).
    #[must_use]
    pub fn as_user(mut self, uid: u32) -> Test {
        let copy = self.dir.path().join(self.runtime.path.file_name().expect("the runtime has a name"));
        executable::copy(&self.runtime.path, &copy);
        std::os::unix::fs::chown(self.dir.path(), Some(uid), Some(uid)).expect("give the directory away");
        self.binary = copy;
        self.user = Some(uid);
        self
    }

    /// The same test, but the runtime is called in another mount namespace.
    #[must_use]
    pub fn within(mut self, namespace: &OwnedFd) -> Test {
        self.namespace = Some(namespace.try_clone().expect("copy a descriptor"));
        self
    }

    /// The binary that is called.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The same test with another binary, for special builds.
    #[must_use]
    pub fn with_binary(mut self, binary: &Path) -> Test {
        self.binary = binary.to_path_buf();
        self
    }

    /// The same test with the build that loads seccomp notify plugins, where the runtime does not by itself.
    #[must_use]
    pub fn with_plugins(self) -> Test {
        match std::env::var_os(PLUGINS).filter(|_| self.runtime.kind == Kind::Pinnace) {
            Some(path) => self.with_binary(Path::new(&path)),
            None => self,
        }
    }

    /// The test's directory, on a tmpfs where there is one.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The state directory given as `--root`.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A fresh number, for names.
    pub(crate) fn next(&self) -> u32 {
        self.count.set(self.count.get() + 1);
        self.count.get()
    }

    /// A call of the runtime with `--root` and nothing else.
    pub fn runtime(&self) -> Invocation {
        let mut call = self.bare();
        call.arg("--root").arg(self.root());
        call
    }

    /// A call of the runtime without any argument.
    pub fn bare(&self) -> Invocation {
        Invocation::new(self, &self.binary)
    }

    /// A new container with a bundle of its own; nothing runs yet.
    pub fn container(&self) -> Container<'_> {
        Container::new(self)
    }
}

/// Reports a skipped test.
///
/// # Panics
/// If the file named by `PINNACE_TEST_SKIPS` can't be written: a test that goes missing in silence is worse.
pub fn report_skip(name: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {reason}");
    if let Some(path) = std::env::var_os("PINNACE_TEST_SKIPS").filter(|v| !v.is_empty()) {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut f| f.write_all(format!("{name}\t{reason}\n").as_bytes()));
        if let Err(e) = written {
            panic!("PINNACE_TEST_SKIPS={}: {e}", path.display());
        }
    }
}

/// Where the tests' directories go.
fn temp_root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        if let Some(dir) = std::env::var_os("PINNACE_TEST_TMP").filter(|v| !v.is_empty()) {
            return dir.into();
        }
        let shm = Path::new("/dev/shm");
        let usable = statfs(shm).is_ok_and(|s| s.filesystem_type() == TMPFS_MAGIC)
            && nix::sys::statvfs::statvfs(shm).is_ok_and(|s| !s.flags().contains(nix::sys::statvfs::FsFlags::ST_NOEXEC));
        if usable { shm.to_path_buf() } else { std::env::temp_dir() }
    })
}
