//! What the plan needs to know about the host, asked once. Not here: decisions.

use crate::error::{Context, Error, Result};
use crate::spec::{IdMapping, Linux, Process, Spec, Str};
use crate::sys;
use rustix::fd::AsRawFd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Facts about the host and this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Effective uid.
    pub euid: u32,
    /// Effective gid.
    pub egid: u32,
    /// The real and the saved ids are those, too.
    pub settled: bool,
    /// This process lives in the initial user namespace.
    pub initial_userns: bool,
    /// `/proc/self/setgroups` says `deny`, which user namespaces below inherit.
    pub setgroups_denied: bool,
    /// Ranges of /etc/subuid and /etc/subgid; read only when default id maps are needed.
    pub subordinate: Subordinate,
    /// Security modules; asked only when there is a label to set.
    pub lsm: Lsm,
    /// How cgroups are mounted; looked at only when the container mounts them.
    pub cgroups: Option<CgroupLayout>,
    /// This process may copy trees of its mount namespace, as root of a user namespace that an engine has made for both; asked only for a
    /// container with a user namespace of its own.
    pub copies_trees: bool,
    /// A mount namespace can be made of a tree (kernel 7.0); asked only when the container could live in one.
    pub tree_namespaces: bool,
}

/// Which security modules are in force for this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lsm {
    /// SELinux is enabled.
    pub selinux: bool,
    pub apparmor: AppArmor,
}

/// AppArmor, as this process sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum AppArmor {
    /// Not enabled, or not asked for.
    #[default]
    Off,
    /// No profile confines this process.
    Unconfined,
    /// One does.
    Confined,
}

impl Lsm {
    /// Asks about the modules that `process` or `linux` has a label for.
    ///
    /// # Errors
    /// A file of /proc cannot be read.
    fn gather(proc: &OwnedFd, process: Option<&Process<'_>>, linux: &Linux<'_>) -> Result<Self> {
        let wanted = |label: Option<&Str<'_>>| label.is_some_and(|l| !l.is_empty());
        let labels = [linux.mount_label.as_ref(), process.and_then(|p| p.selinux_label.as_ref())];
        Ok(Self {
            selinux: labels.into_iter().any(wanted) && selinux(),
            apparmor: if wanted(process.and_then(|p| p.apparmor_profile.as_ref())) { apparmor(proc)? } else { AppArmor::Off },
        })
    }
}

/// Ranges of subordinate ids of the user: first id, count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subordinate {
    pub uids: Vec<(u32, u32)>,
    pub gids: Vec<(u32, u32)>,
}

/// How cgroups are mounted on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CgroupLayout {
    /// One cgroup2 mount at /sys/fs/cgroup.
    Unified,
    /// Several hierarchies below /sys/fs/cgroup.
    Legacy(Vec<Hierarchy>),
}

/// A cgroup mount of a legacy or hybrid host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Name of the directory below /sys/fs/cgroup.
    pub name: String,
    /// `cgroup` or `cgroup2`.
    pub fstype: String,
    /// The controllers and `name=` options that select the hierarchy; empty for cgroup2.
    pub options: Vec<String>,
}

/// A descriptor of the host's procfs, verified to be one: labels, id maps and kernel parameters are written through it only
/// (CVE-2019-16884, CVE-2025-52881).
///
/// # Errors
/// /proc is no procfs.
pub(crate) fn open_proc() -> Result<OwnedFd> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let fd = openat(CWD, c"/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context(|| "open `/proc`")?;
    let magic = sys::fstatfs_type(fd.as_raw_fd()).context(|| "fstatfs `/proc`")?;
    if magic == PROC_SUPER_MAGIC { Ok(fd) } else { Err(Error::other("`/proc` is not a proc file system")) }
}

/// Inode of the initial user namespace (PROC_USER_INIT_INO of the kernel's proc_ns.h).
const INITIAL_USERNS: u64 = 0xEFFF_FFFD;

impl Facts {
    /// Asks what `spec` needs, and the labels of `process`, which is to run in it.
    ///
    /// # Errors
    /// A file of /proc or /etc cannot be read or is malformed.
    pub(crate) fn gather(proc: &OwnedFd, spec: &Spec<'_>, process: Option<&Process<'_>>) -> Result<Self> {
        let uid = nix::unistd::getresuid().context(|| "getresuid")?;
        let gid = nix::unistd::getresgid().context(|| "getresgid")?;
        let settled = uid.real == uid.effective && uid.saved == uid.effective && gid.real == gid.effective && gid.saved == gid.effective;
        let (euid, egid) = (uid.effective.as_raw(), gid.effective.as_raw());
        let initial_userns = sys::fstatat(proc.as_raw_fd(), c"self/ns/user", 0).map_or(true, |st| st.ino == INITIAL_USERNS);
        let linux = spec.linux();
        let new_user = linux.namespaces.iter().any(|n| n.kind == "user" && n.path.as_deref().unwrap_or("").is_empty());
        let another_user = linux.namespaces.iter().any(|n| n.kind == "user");
        let automatic = euid != 0 && !another_user;
        let default_maps = automatic || (new_user && linux.uid_mappings.is_empty() && linux.gid_mappings.is_empty());
        let mounts_cgroups = spec.mounts.iter().any(|m| m.fstype.as_deref().is_some_and(|t| t == "cgroup" || t == "cgroup2"));
        Ok(Self {
            euid,
            egid,
            settled,
            initial_userns,
            copies_trees: another_user && euid == 0 && !initial_userns && sys::may_copy_trees(),
            setgroups_denied: !initial_userns && read(proc, c"self/setgroups")?.starts_with(b"deny"),
            subordinate: if default_maps { subordinate(euid)? } else { Subordinate::default() },
            lsm: Lsm::gather(proc, process, &linux)?,
            cgroups: if mounts_cgroups { Some(cgroup_layout(proc)?) } else { None },
            tree_namespaces: false,
        })
    }

    /// The ids of a process of the container, all kinds of them, until it is given others; in a `user_namespace` of its own it has those of its root.
    pub(crate) fn ids_to_keep(&self, user_namespace: bool) -> Option<(u32, u32)> {
        (self.settled && !user_namespace).then_some((self.euid, self.egid))
    }

    /// No privileges over the host.
    pub(crate) fn rootless(&self) -> bool {
        self.euid != 0 || !self.initial_userns
    }
}

fn read(proc: &OwnedFd, path: &std::ffi::CStr) -> Result<Vec<u8>> {
    let name = || format!("open `/proc/{}`", path.to_string_lossy());
    let fd = openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(name)?;
    let mut out = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(fd), &mut out).context(name)?;
    Ok(out)
}

/// A file of /etc; a missing one is empty.
fn text(path: &str) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(t) => Ok(t),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(e).context(|| format!("open `{path}`")),
    }
}

/// The login name of a user, where /etc/passwd has it.
pub(crate) fn login_name(uid: u32) -> Option<String> {
    user_name(&text("/etc/passwd").ok()?, uid)
}

/// Reads the user's ranges; a missing file means none.
fn subordinate(euid: u32) -> Result<Subordinate> {
    let name = user_name(&text("/etc/passwd")?, euid);
    Ok(Subordinate {
        uids: ranges(&text("/etc/subuid")?, euid, name.as_deref()),
        gids: ranges(&text("/etc/subgid")?, euid, name.as_deref()),
    })
}

/// The login name of `uid` in a passwd(5) file. The C library's look-up is not used because a static binary has no NSS.
fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|l| {
        let mut f = l.split(':');
        let name = f.next()?;
        (f.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Lines `USER:START:COUNT` of a subuid(5) file that belong to the user, by name or number.
fn ranges(text: &str, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    text.lines()
        .filter_map(|l| {
            let mut f = l.trim().split(':');
            let who = f.next()?;
            let mine = Some(who) == name || who.parse() == Ok(uid);
            let (start, count) = (f.next()?.parse().ok()?, f.next()?.parse().ok()?);
            (mine && count > 0 && f.next().is_none()).then_some((start, count))
        })
        .collect()
}

/// Whether selinuxfs is where the system mounts it when SELinux is enabled.
fn selinux() -> bool {
    const SELINUX_MAGIC: u32 = 0xf97c_ff8c;
    // The magic does not fit the field's sign on 32-bit architectures.
    rustix::fs::statfs(c"/sys/fs/selinux").is_ok_and(|st| st.f_type as u32 == SELINUX_MAGIC)
}

fn apparmor(proc: &OwnedFd) -> Result<AppArmor> {
    let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
    if !enabled.is_ok_and(|text| text.starts_with(b"Y")) {
        return Ok(AppArmor::Off);
    }
    // The file of its own came with kernel 5.8; before it, AppArmor had the one that all modules share.
    let current = read(proc, c"self/attr/apparmor/current").or_else(|_| read(proc, c"self/attr/current"))?;
    Ok(if current.trim_ascii() == b"unconfined" { AppArmor::Unconfined } else { AppArmor::Confined })
}

fn cgroup_layout(proc: &OwnedFd) -> Result<CgroupLayout> {
    const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
    match rustix::fs::statfs(c"/sys/fs/cgroup") {
        Ok(st) if st.f_type == CGROUP2_SUPER_MAGIC => return Ok(CgroupLayout::Unified),
        // Nothing is there, or one may not look there, which the table of mounts tells as well.
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::PERM | Errno::NOSYS) => {}
        // The container of a host that could not be asked must not be another one.
        Err(e) => return Err(e).context(|| "statfs `/sys/fs/cgroup`"),
    }
    let text = read(proc, c"self/mountinfo")?;
    Ok(CgroupLayout::Legacy(hierarchies(&String::from_utf8_lossy(&text))))
}

/// Cgroup mounts directly below /sys/fs/cgroup, from mountinfo (proc(5)): fields up to ` - `, then type, source, super options.
pub(crate) fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, fs) = line.split_once(" - ")?;
            let name = mount.split(' ').nth(4)?.strip_prefix("/sys/fs/cgroup/")?;
            let mut fs = fs.split(' ');
            let (fstype, options) = (fs.next()?, fs.nth(1)?);
            if name.contains('/') || (fstype != "cgroup" && fstype != "cgroup2") {
                return None;
            }
            let selects = |o: &&str| fstype == "cgroup" && !["rw", "ro", "xattr", "noprefix", "clone_children"].contains(o);
            let options = options.split(',').filter(selects).filter(|o| !o.starts_with("release_agent=")).map(str::to_owned).collect();
            Some(Hierarchy { name: name.to_owned(), fstype: fstype.to_owned(), options })
        })
        .collect()
}

/// The default id maps of a user without explicit ones: its own id as root, the subordinate ids behind it.
pub(crate) fn default_map(own: u32, ranges: &[(u32, u32)]) -> Vec<IdMapping> {
    let mut map = vec![IdMapping { container_id: 0, host_id: own, size: 1 }];
    let mut next = 1u32;
    for &(host_id, size) in ranges {
        let size = size.min(u32::MAX - next);
        map.push(IdMapping { container_id: next, host_id, size });
        next += size;
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ranges_by_name_and_by_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(user_name(passwd, 7), None);
        let text = "bob:1:2\nann:100000:65536\n1000:5:6\nann:bad:1\nann:9:0\n# x\n";
        assert_eq!(ranges(text, 1000, Some("ann")), [(100_000, 65536), (5, 6)]);
        assert_eq!(
            default_map(1000, &[(100_000, 65536)]),
            [IdMapping { container_id: 0, host_id: 1000, size: 1 }, IdMapping { container_id: 1, host_id: 100_000, size: 65536 }]
        );
        assert_eq!(default_map(0, &[(1, u32::MAX)])[1].size, u32::MAX - 1);
    }

    #[test]
    fn hierarchies_of_a_hybrid_host() {
        let text = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755\n\
            31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            34 30 0:29 / /mnt rw - cgroup cgroup rw,cpu\n";
        let got = hierarchies(text);
        assert_eq!(got.len(), 3);
        assert_eq!(got[0], Hierarchy { name: "unified".into(), fstype: "cgroup2".into(), options: vec![] });
        assert_eq!(got[1].options, ["name=systemd"]);
        assert_eq!(
            got[2],
            Hierarchy { name: "cpu,cpuacct".into(), fstype: "cgroup".into(), options: vec!["cpu".into(), "cpuacct".into()] }
        );
    }
}
