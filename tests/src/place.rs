//! Facts about the machine the tests run on, asked once. Only looks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::libc;

/// How the cgroup hierarchies are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Only v1 hierarchies.
    V1,
    /// One v2 tree.
    V2,
    /// v1 hierarchies and a v2 tree beside them.
    Hybrid,
    /// No cgroup file system at all.
    None,
}

/// What is known of this machine.
#[derive(Debug)]
pub struct Place {
    /// The cgroup layout as mounted in this mount namespace.
    pub layout: Layout,
    /// Controller → mount point of its v1 hierarchy, or of the v2 tree that has it.
    pub controllers: BTreeMap<String, PathBuf>,
    /// Mount points of all cgroup file systems.
    pub cgroup_mounts: Vec<PathBuf>,
    /// The mount point of the v2 tree.
    pub unified: Option<PathBuf>,
    /// Effective uid 0.
    pub root: bool,
    /// An unprivileged process may make a user namespace.
    pub userns: bool,
    /// systemd is pid 1.
    pub systemd: bool,
    /// The kernel is a process of another one (user-mode Linux).
    pub user_mode: bool,
    /// The kernel makes mount namespaces of trees.
    pub tree_namespaces: bool,
    /// The capability that raising limits needs.
    pub cap_sys_resource: bool,
}

/// open_tree(2) looks at flags before the descriptor, and at the caller's rights in between.
fn tree_namespaces() -> bool {
    const OPEN_TREE_NAMESPACE: i32 = 1 << 1;
    // SAFETY: the path is an empty, terminated string; nothing is opened below descriptor -1.
    let opened = unsafe { libc::syscall(libc::SYS_open_tree, -1, c"".as_ptr(), OPEN_TREE_NAMESPACE | libc::AT_EMPTY_PATH) };
    opened == -1 && nix::errno::Errno::last() == nix::errno::Errno::EBADF
}

impl Place {
    /// The facts, gathered at the first call.
    pub fn get() -> &'static Place {
        static PLACE: OnceLock<Place> = OnceLock::new();
        PLACE.get_or_init(Place::look)
    }

    fn look() -> Place {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut controllers = BTreeMap::new();
        let mut cgroup_mounts = Vec::new();
        let mut unified = None;
        let mut v1 = false;
        for line in mounts.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let target = PathBuf::from(left.split(' ').nth(4).unwrap_or_default());
            let mut right = right.split(' ');
            let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
            match kind {
                Some("cgroup") => {
                    v1 = true;
                    for option in options.split(',') {
                        controllers.insert(option.to_owned(), target.clone());
                    }
                    cgroup_mounts.push(target);
                }
                Some("cgroup2") => {
                    let list = fs::read_to_string(target.join("cgroup.controllers")).unwrap_or_default();
                    for name in list.split_whitespace() {
                        controllers.insert(name.to_owned(), target.clone());
                    }
                    unified = Some(target.clone());
                    cgroup_mounts.push(target);
                }
                _ => {}
            }
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective =
            status.lines().find_map(|l| l.strip_prefix("CapEff:")).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
        Place {
            layout: match (v1, &unified) {
                (true, Some(_)) => Layout::Hybrid,
                (true, None) => Layout::V1,
                (false, Some(_)) => Layout::V2,
                (false, None) => Layout::None,
            },
            controllers,
            cgroup_mounts,
            unified,
            root: nix::unistd::geteuid().is_root(),
            userns: unprivileged_userns(),
            systemd: Path::new("/run/systemd/system").is_dir(),
            user_mode: fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("User Mode Linux")),
            tree_namespaces: tree_namespaces(),
            cap_sys_resource: effective & (1 << 24) != 0,
        }
    }

    /// Whether the manager of systemd that is this user's can be spoken to.
    pub fn systemd_bus(&self) -> bool {
        let user = || Some(PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?).join("bus"));
        let socket = if self.root { Some("/run/dbus/system_bus_socket".into()) } else { user() };
        self.systemd && socket.is_some_and(|path| path.exists())
    }

    /// Whether the kernel has what engines make networks of. Modules that are not loaded yet count.
    pub fn bridges(&self) -> bool {
        let loads = |module: &str| {
            let _starting = crate::executable::starting();
            Command::new("modprobe").args(["--quiet", module]).stdin(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        self.root && ["bridge", "veth", "nft_chain_nat", "nft_masq", "nft_compat", "xt_addrtype"].iter().all(|module| loads(module))
    }

    /// Whether a program is in $PATH.
    pub fn tool(name: &str) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
    }

    /// The directory of the cgroup `path` (absolute within its hierarchy) where `controller` rules it.
    pub fn cgroup_dir(&self, controller: &str, path: &str) -> Option<PathBuf> {
        let mount = self.controllers.get(controller)?;
        Some(mount.join(path.trim_start_matches('/')))
    }

    /// Whether `controller` is one of the v2 tree's here.
    pub fn is_v2(&self, controller: &str) -> bool {
        self.unified.is_some() && self.controllers.get(controller) == self.unified.as_ref()
    }
}

/// Asks util-linux's unshare as an unprivileged user, or as oneself where that is what one is.
fn unprivileged_userns() -> bool {
    let mut command = if nix::unistd::geteuid().is_root() {
        let mut c = Command::new("setpriv");
        c.args(["--reuid=65534", "--regid=65534", "--clear-groups", "unshare"]);
        c
    } else {
        Command::new("unshare")
    };
    let _starting = crate::executable::starting();
    command.args(["--user", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}
