//! Which cgroup file systems the host has and where. Not here: paths below their roots, files.

use crate::controller::{Controller, ControllerSet, Split};
use crate::files::{Sys, read_proc};
use runtime_core::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Where systemd and everyone else mounts cgroups.
const USUAL: &str = "/sys/fs/cgroup";
/// `CGROUP2_SUPER_MAGIC` (statfs(2)).
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// The hierarchies of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Mount point of the unified hierarchy.
    pub v2: Option<PathBuf>,
    /// The v1 hierarchies, in the order of `/proc/self/mountinfo`.
    pub v1: Vec<Hierarchy>,
}

/// A mounted v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Mount point.
    pub mount: PathBuf,
    /// Its controllers; several where they are mounted together (`cpu,cpuacct`), none for a named one.
    pub controllers: ControllerSet,
    /// As in `/proc/PID/cgroup`: `cpu,cpuacct`, `name=systemd`.
    pub label: String,
}

impl Layout {
    /// A host with a v2 tree at `root` only.
    pub fn unified(root: impl Into<PathBuf>) -> Self {
        Self { v2: Some(root.into()), v1: Vec::new() }
    }

    /// A host with a v2 tree where everyone has it.
    pub(crate) fn usual() -> Self {
        Self::unified(USUAL)
    }

    /// Asks the host: one statfs(2) where `/sys/fs/cgroup` is the v2 tree, else `/proc/self/mountinfo` is read as well.
    ///
    /// # Errors
    /// No cgroup file system is mounted ([`ErrorKind::Unsupported`]), or mountinfo cannot be read.
    pub fn detect() -> Result<Self> {
        if let Ok(fs) = rustix::fs::statfs(USUAL)
            && fs.f_type as u64 == CGROUP2_SUPER_MAGIC
        {
            return Ok(Self::usual());
        }
        let info = read_proc("/proc/self/mountinfo").at(|| "read `/proc/self/mountinfo`".into())?;
        let layout = Self::from_mountinfo(&info);
        if layout.v2.is_none() && layout.v1.is_empty() {
            return Err(Error::new(ErrorKind::Unsupported, format!("no cgroup file system is mounted at `{USUAL}` or elsewhere")));
        }
        Ok(layout)
    }

    /// Reads the text of a mountinfo file (proc_pid_mountinfo(5)). A hierarchy that is mounted more than once counts where it is below
    /// `/sys/fs/cgroup`.
    pub fn from_mountinfo(text: &str) -> Self {
        let mut seen: Vec<(&str, PathBuf, &str, &str)> = Vec::new();
        for (device, mount, fstype, options) in text.lines().filter_map(cgroup_mount) {
            match seen.iter_mut().find(|(d, ..)| *d == device) {
                Some(known) if !known.1.starts_with(USUAL) && mount.starts_with(USUAL) => known.1 = mount,
                Some(_) => {}
                None => seen.push((device, mount, fstype, options)),
            }
        }
        let mut layout = Self::default();
        for (_, mount, fstype, options) in seen {
            if fstype == "cgroup2" {
                layout.v2.get_or_insert(mount);
            } else {
                layout.v1.push(Hierarchy { mount, controllers: ControllerSet::parse(options), label: label(options) });
            }
        }
        layout
    }

    /// Which version serves which controller.
    pub fn split(&self) -> Split {
        let v1 = self.v1.iter().fold(ControllerSet::EMPTY, |set, h| set.union(h.controllers));
        Split { v1, v2: self.v2.is_some() }
    }

    /// The v1 hierarchy of a controller.
    pub fn hierarchy(&self, controller: Controller) -> Option<&Hierarchy> {
        self.v1.iter().find(|h| h.controllers.contains(controller))
    }
}

/// The path of a cgroup below a mount point, where `path` has a leading slash.
pub(crate) fn below(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

/// Device, mount point, type and super options of a mountinfo line about a cgroup file system.
fn cgroup_mount(line: &str) -> Option<(&str, PathBuf, &str, &str)> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let fstype = right.next().filter(|t| matches!(*t, "cgroup" | "cgroup2"))?;
    let options = right.nth(1).unwrap_or_default();
    let mut left = left.split(' ');
    let device = left.nth(2)?;
    let mount = left.nth(1)?;
    Some((device, PathBuf::from(unescape(mount)), fstype, options))
}

/// The options that name controllers or the hierarchy.
fn label(options: &str) -> String {
    let words = options.split(',').filter(|o| {
        !matches!(
            *o,
            "rw" | "ro" | "xattr" | "noprefix" | "clone_children" | "cpuset_v2_mode" | "seclabel" | "favordynmods" | "nofavordynmods"
        ) && !o.starts_with("release_agent=")
    });
    words.collect::<Vec<_>>().join(",")
}

/// Undoes the octal escapes of mountinfo (space, tab, newline, backslash).
fn unescape(text: &str) -> String {
    let mut out = text.to_owned();
    for (escape, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        if out.contains(escape) {
            out = out.replace(escape, plain);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Controller::*;

    const HYBRID: &str = "\
23 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
41 31 0:38 / /mnt/two\\040words rw,relatime - cgroup2 cgroup2 rw,nsdelegate
42 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn hybrid_hosts_are_read_from_mountinfo() {
        let l = Layout::from_mountinfo(HYBRID);
        assert_eq!(l.v2.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        let labels: Vec<_> = l.v1.iter().map(|h| h.label.as_str()).collect();
        assert_eq!(labels, ["cpu,cpuacct", "memory", "name=systemd"]);
        assert_eq!(l.hierarchy(Cpuacct).unwrap().mount, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(l.hierarchy(Pids), None);
        assert_eq!(l.split(), Split { v1: ControllerSet::of(&[Cpu, Cpuacct, Memory]), v2: true });
    }

    #[test]
    fn other_mounts_and_broken_lines_are_passed_over() {
        let l = Layout::from_mountinfo("1 2 3\n\n9 - cgroup2\n1 2 0:1 / /a\\040b rw - cgroup2 x rw\n");
        assert_eq!(l, Layout::unified("/a b"));
        assert_eq!(Layout::from_mountinfo(""), Layout::default());
    }

    #[test]
    fn this_host_has_some_layout() {
        let l = Layout::detect().unwrap();
        assert!(l.v2.is_some() || !l.v1.is_empty());
    }
}
