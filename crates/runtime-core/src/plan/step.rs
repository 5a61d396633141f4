//! The typed steps a child goes through: data only, laid out before the clone. Not here: doing them (`init`), choosing them (the other
//! files of `plan`).
//!
//! Everything is a C string or a number, so that the child neither allocates nor formats. [`Step::describe`] words a step for the parent's
//! error messages.

use super::schedule::CpuMask;
use crate::api::handler::Program;
use crate::sys::Argv;
use std::ffi::{CStr, CString};

/// Index into the table of descriptors that the parent fills before the clone, or that a step fills for a later one.
pub(crate) type Slot = usize;

/// One thing the child does.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Write `0` to each `cgroup.procs` the parent opened.
    JoinCgroups,
    /// setns(2) to the descriptor in the slot.
    SetNs(Box<SetNs>),
    /// setns(2) to several namespaces of the process behind the pidfd in the slot (kernel 5.8).
    SetNsOf { pidfd: Slot, flags: u64 },
    /// unshare(2).
    Unshare { flags: u64 },
    /// Continue in a new process, a sibling of this one; this one ends. Enters the pid namespace that was made or joined.
    Fork,
    /// Tell the parent that a user namespace was made by `Unshare`.
    Unshared,
    /// Wait until the parent has written the id maps and the manager has moved the process, if the launch needs that.
    AwaitParent,
    /// The CPUs the process may run on, as far as its cgroup has them; the field that asks for it, if any does.
    Affinity { cpus: CpuMask, field: Option<&'static str> },
    /// The NUMA policy, set_mempolicy(2).
    MemoryPolicy { mode: u32, nodes: Option<CpuMask> },
    /// Take the ids of the user namespace's root.
    BecomeRoot { clear_groups: bool },
    /// Write the clock offsets of a new time namespace and enter it.
    TimeOffsets { text: CString },
    /// Join a new session keyring.
    JoinKeyring { name: CString, label: Option<CString> },
    /// Bring up the loopback interface.
    Loopback,
    /// umask(2).
    Umask(u32),
    /// Make the process undumpable, so that no process of a namespace about to be joined can trace it (CVE-2016-9962).
    Undumpable,
    /// mount(2) on `/` with propagation flags.
    Propagation { flags: u64 },
    /// Clone the tree at the rootfs and attach it there: the container's root mount.
    Root { path: CString, private_parents: bool },
    /// Enter the mount namespace of the slot, whose root is a copy of the tree at the rootfs and is the container's.
    RootNamespace { path: CString, slot: Slot },
    /// The rootfs is a plain directory, for containers without a mount namespace.
    RootDirectory { path: CString },
    /// Have the container's root as working directory again, where no change of the root leads there.
    GoToRoot,
    /// The root directory of the joined mount namespace is the root.
    CurrentRoot,
    /// Make a detached copy of a tree for a later mount.
    Tree(Box<TreeStep>),
    /// Take away what is mounted at a path.
    Unmount { dest: CString },
    /// A mount.
    Mount(Box<MountStep>),
    /// Change attributes of the mount kept in the slot.
    SetAttrs { slot: Slot, set: u64, dest: CString },
    /// A device node.
    Device(Box<DeviceStep>),
    /// A symbolic link; an existing entry is left alone.
    Symlink { target: CString, dest: CString },
    /// Make a path unreadable.
    Mask { dest: CString, by: Option<Masks> },
    /// Make a path read-only.
    ReadonlyPath { dest: CString },
    /// Write a kernel parameter, path below `/proc/sys`.
    Sysctl { path: CString, value: CString },
    /// sethostname(2).
    Hostname(CString),
    /// setdomainname(2).
    Domainname(CString),
    /// Tell the parent that the mounts are made, wait until its hooks have run.
    Mounted,
    /// Run a hook.
    Hook(Box<HookStep>),
    /// Make a file, path relative to the root; one that is there is replaced.
    File(Box<FileStep>),
    /// Make a directory that is missing, path relative to the root.
    Directory { path: CString },
    /// Make the root mount read-only.
    RootReadonly,
    /// Make the root mount the root.
    Pivot { how: Pivot, propagation: u64 },
    /// Mark descriptors from `first` on close-on-exec.
    CloseOnExec { first: u32 },
    /// Overwrite the arguments and the environment that the kernel shows of this process, which are the runtime's and stay without execve.
    Forget,
    /// Replace standard descriptors that are the host's null device by the container's, and give the others to the user.
    Stdio { uid: u32, gid: u32 },
    /// setsid(2).
    Setsid,
    /// personality(2).
    Personality(u64),
    /// Open a terminal, make it the standard descriptors, send its master side to the descriptor in the slot.
    Terminal { console: Slot, rows: u16, columns: u16, uid: u32, bind_console: bool },
    /// setrlimit(2).
    Rlimit { resource: u32, soft: u64, hard: u64, name: &'static str },
    /// Write `/proc/self/oom_score_adj`.
    OomScoreAdj(CString),
    /// Write `/proc/self/attr/…`.
    Label { file: CString, label: CString },
    /// Change to the working directory; `last` is the try with the final ids, which is made when the first one had no access.
    Cwd { path: CString, last: bool },
    /// Drop the bounding set and take ids and capabilities.
    Credentials(Box<Credentials>),
    /// Set no_new_privs.
    NoNewPrivs,
    /// Let an unprivileged parent take a descriptor of this process.
    Dumpable,
    /// Install the seccomp program.
    Seccomp,
    /// Find the executable.
    Lookup(Box<Lookup>),
    /// Open a file of the process below /proc/self for a later label, while the trusted procfs is at hand.
    LabelFile { file: CString, slot: Slot },
    /// Write a label to the file that was opened.
    LateLabel { slot: Slot, label: CString },
    /// Tell the parent that all is prepared. Where there is a fifo, close every other descriptor from `first` on, but for those of `keep`,
    /// at most [`KEPT_SLOTS`], and wait for it.
    Gate { first: u32, keep: Vec<Slot> },
    /// Find the user's home directory, for an environment that names none.
    Home { uid: u32 },
    /// execve(2). The last entry of an `envp` with [`Argv::reserved`] is replaced by what `Home` found.
    Exec { argv: Box<Argv>, envp: Box<Argv> },
    /// Let the handler load the program: in place of execve, the first half.
    Load { handler: &'static str, argv: Box<Argv>, envp: Box<Argv> },
    /// Close what execve would close, all from `first` on, and let the handler run the program.
    Handle { handler: &'static str, first: u32 },
}

/// A plan has a hundred of them, in memory that the process which waits has, too; what needs more has a box.
const _: () = assert!(size_of::<Step>() <= 48);

/// The most descriptors that stay open behind a gate: what hooks write to, and the files of labels.
pub(crate) const KEPT_SLOTS: usize = 4;

/// A file with its content.
#[derive(Debug, PartialEq)]
pub(crate) struct FileStep {
    pub dest: CString,
    pub mode: u32,
    pub content: Vec<u8>,
}

/// Detached mounts that the parent made to cover paths with. A parent without the right to make mounts leaves it to the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Masks {
    /// The null device, for files.
    pub null: Slot,
    /// An empty directory.
    pub empty: Slot,
}

/// A namespace to join.
#[derive(Debug, PartialEq)]
pub(crate) struct SetNs {
    pub slot: Slot,
    pub flag: u64,
    pub kind: &'static str,
    pub path: String,
    pub pass: Pass,
}

/// When a namespace can be joined depends on who owns it, which shows only in trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Must succeed.
    Only,
    /// Before the user namespace is joined or made: EPERM leaves it to the second pass.
    First,
    /// After it: only what the first pass left.
    Second,
}

/// A mount, whatever its kind.
#[derive(Debug, PartialEq)]
pub(crate) struct MountStep {
    /// Where, relative to the container's root, without a leading slash; empty for the root itself.
    pub dest: CString,
    /// As configured, for messages.
    pub shown: String,
    pub kind: MountKind,
    /// MOUNT_ATTR_* to set and to clear.
    pub attrs: Attrs,
    /// The same for all mounts below too.
    pub recursive_attrs: Attrs,
    /// MS_SHARED and so on, each with or without MS_REC; 0 for none.
    pub propagation: u64,
    /// The destination must be reached without following a symbolic link (`/proc`, `/sys`).
    pub no_symlinks: bool,
    /// A symbolic link at the destination is mounted on and not followed (`dest-nofollow`).
    pub on_link: bool,
    /// Keep the mount's descriptor for a later `SetAttrs`.
    pub keep: Option<Slot>,
}

/// MOUNT_ATTR_* bits (mount_setattr(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Attrs {
    pub set: u64,
    pub clear: u64,
}

impl Attrs {
    pub(crate) fn is_empty(self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

/// What is mounted.
#[derive(Debug, PartialEq)]
pub(crate) enum MountKind {
    /// A tree of the host.
    Bind(Bind),
    /// A detached mount that the parent made and gave an id map, which takes rights over the file system.
    Idmapped { slot: Slot },
    /// A new file system.
    Fs(FsMount),
    /// Nothing new: the mount at the destination is changed (`remount`).
    Remount(FsOptions),
}

/// A bind mount.
#[derive(Debug, PartialEq)]
pub(crate) struct Bind {
    pub source: Source,
    /// Where the parent has opened the source. It is left to the child where the kernel lacks open_tree(2).
    pub slot: Option<Slot>,
    pub recursive: bool,
    /// A symbolic link at the end of the source is mounted itself (`src-nofollow`).
    pub link: bool,
    /// A symbolic link at the end of the source is made anew at the destination and nothing is mounted (`copy-symlink`).
    pub copy_link: bool,
}

/// Where a bind mount comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Path(CString),
    /// The same, but the path means something else to the child: what counts is the open descriptor.
    Opened(CString),
    /// The container's own directory below this mount point of a cgroup hierarchy.
    Cgroup(CString),
}

/// Options of a file system, in the forms that the two mount interfaces take.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FsOptions {
    /// For fsconfig(2), in order.
    pub pairs: Vec<(CString, Option<CString>)>,
    /// For mount(2): MS_* flags of the file system, and everything else separated by commas.
    pub flags: u64,
    pub data: CString,
}

/// What is bound where the kernel refuses a new file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instead {
    pub source: Source,
    /// MOUNT_ATTR_* to set beside those of the mount.
    pub attrs: u64,
}

/// A file system to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FsMount {
    pub fstype: CString,
    pub source: CString,
    pub options: FsOptions,
    /// What to bind instead when the kernel says EPERM or EBUSY, as it does for a new sysfs without an own network namespace.
    pub instead: Option<Instead>,
    /// SELinux label for the root directory of a file system that takes none as an option.
    pub label: Option<CString>,
    /// The root directory gets the mode of the directory it covers.
    pub mode_of_target: bool,
    /// Copy what that directory has.
    pub copy_up: bool,
}

impl FsMount {
    /// Whether something of what it covers is looked at, or its root is reached again before it is in its place.
    pub(crate) fn wants_target(&self) -> bool {
        self.mode_of_target || self.copy_up || self.label.is_some()
    }
}

/// A copy of a tree.
#[derive(Debug, PartialEq)]
pub(crate) struct TreeStep {
    /// Where it is kept.
    pub slot: Slot,
    pub path: CString,
    pub recursive: bool,
    /// A symbolic link at the end of the path is copied itself.
    pub link: bool,
    /// Where it is to be mounted.
    pub shown: String,
}

/// A device node.
#[derive(Debug, PartialEq)]
pub(crate) struct DeviceStep {
    pub dest: CString,
    /// S_IFCHR, S_IFBLK or S_IFIFO with permission bits.
    pub mode: u32,
    pub rdev: u64,
    pub uid: u32,
    pub gid: u32,
    /// Bind this node of the host instead of making one, which a user namespace cannot.
    pub bind: Option<CString>,
}

/// A hook that runs in the container's namespaces.
#[derive(Debug, PartialEq)]
pub(crate) struct HookStep {
    pub path: CString,
    pub argv: Argv,
    pub envp: Argv,
    /// The container's state, for the hook's standard input.
    pub stdin: Vec<u8>,
    /// Milliseconds; -1 for none.
    pub timeout: i32,
    pub output: HookOutput,
}

/// Where hooks of the container write to. Without a slot for it standard error is kept for the message about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HookOutput {
    pub stdout: Option<Slot>,
    pub stderr: Option<Slot>,
}

impl HookOutput {
    /// Those that there are.
    pub(crate) fn slots(self) -> impl Iterator<Item = Slot> {
        [self.stdout, self.stderr].into_iter().flatten()
    }
}

/// How the root is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pivot {
    /// pivot_root(2).
    Root,
    /// MS_MOVE and chroot(2) (`--no-pivot`), for a root on an initramfs.
    Move,
    /// chroot(2) only: no mount namespace.
    Chroot,
}

/// Ids and capabilities of the process.
#[derive(Debug, PartialEq)]
pub(crate) struct Credentials {
    pub uid: u32,
    pub gid: u32,
    /// The process has these already, real, effective and saved.
    pub ids_are_set: bool,
    /// `None`: they stay, because setgroups is denied and nothing was asked for, or because they are to.
    pub groups: Option<Vec<u32>>,
    pub caps: Caps,
}

/// Capability sets as bit masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Caps {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

/// The executable to find.
#[derive(Debug, PartialEq)]
pub(crate) struct Lookup {
    pub name: CString,
    /// Directories of PATH, each with a trailing slash; unused when the name has a slash.
    pub dirs: Vec<CString>,
    /// What it has to be.
    pub what: Program,
}

impl Step {
    /// What the step does, for an error message that goes on with `: strerror`.
    pub(crate) fn describe(&self) -> String {
        match self {
            Step::JoinCgroups => "join the cgroup".into(),
            Step::SetNs(n) => format!("join the {} namespace `{}`", n.kind, n.path),
            Step::SetNsOf { .. } => "join the container's namespaces".into(),
            Step::Unshare { .. } => "unshare namespaces".into(),
            Step::Fork => "clone into the pid namespace".into(),
            Step::Unshared | Step::AwaitParent | Step::Mounted | Step::Gate { .. } => "synchronise with the runtime".into(),
            Step::Affinity { field, .. } => format!("sched_setaffinity ({})", field.unwrap_or("all CPUs")),
            Step::MemoryPolicy { .. } => "set_mempolicy (linux.memoryPolicy)".into(),
            Step::BecomeRoot { .. } => "become root in the user namespace".into(),
            Step::TimeOffsets { .. } => "write `/proc/self/timens_offsets`".into(),
            Step::JoinKeyring { name, .. } => format!("join keyctl `{}`", lossy(name)),
            Step::Loopback => "bring up the loopback interface".into(),
            Step::Umask(_) => "umask".into(),
            Step::Undumpable | Step::Dumpable => "prctl PR_SET_DUMPABLE".into(),
            Step::Propagation { .. } => "set the propagation of `/`".into(),
            Step::Root { path, .. } | Step::RootNamespace { path, .. } | Step::RootDirectory { path } => {
                format!("mount the rootfs `{}`", lossy(path))
            }
            Step::GoToRoot => "chdir to `/`".into(),
            Step::CurrentRoot => "open the container's root".into(),
            Step::Tree(t) => format!("bind mount `{}` to `{}`", lossy(&t.path), t.shown),
            Step::Unmount { dest } => format!("umount `/{}`", lossy(dest)),
            Step::Mount(m) => m.describe(),
            Step::SetAttrs { dest, .. } => format!("remount `/{}`", lossy(dest)),
            Step::Device(d) => format!("make the device `/{}`", lossy(&d.dest)),
            Step::Symlink { dest, .. } => format!("make the symbolic link `/{}`", lossy(dest)),
            Step::Mask { dest, .. } => format!("mask the path `/{}`", lossy(dest)),
            Step::ReadonlyPath { dest } => format!("make the path `/{}` read-only", lossy(dest)),
            Step::Sysctl { path, .. } => format!("write to `/proc/sys/{}`", lossy(path)),
            Step::Hostname(_) => "sethostname".into(),
            Step::Domainname(_) => "setdomainname".into(),
            Step::Hook(h) => format!("error executing hook `{}`", lossy(&h.path)),
            Step::File(f) => format!("write the file `/{}`", lossy(&f.dest)),
            Step::Directory { path } => format!("make the directory `/{}`", lossy(path)),
            Step::RootReadonly => "remount the rootfs read-only".into(),
            Step::Pivot { how: Pivot::Chroot, .. } => "chroot".into(),
            Step::Pivot { how: Pivot::Move, .. } => "move the rootfs to `/`".into(),
            Step::Pivot { .. } => "pivot_root".into(),
            Step::CloseOnExec { .. } => "close_range".into(),
            Step::Forget => "overwrite the arguments and the environment".into(),
            Step::Stdio { .. } => "prepare the standard descriptors".into(),
            Step::Setsid => "setsid".into(),
            Step::Personality(_) => "personality".into(),
            Step::Terminal { .. } => "open a terminal".into(),
            Step::Rlimit { name, .. } => format!("setrlimit `{name}`"),
            Step::OomScoreAdj(_) => "write `/proc/self/oom_score_adj`".into(),
            Step::LabelFile { file, .. } => format!("open `/proc/self/{}`", lossy(file)),
            Step::LateLabel { label, .. } => format!("take the label `{}`", lossy(label)),
            Step::Label { file, .. } => format!("write `/proc/self/{}`", lossy(file)),
            Step::Cwd { path, .. } => format!("chdir to `{}`", lossy(path)),
            Step::Credentials(_) => "set the credentials".into(),
            Step::NoNewPrivs => "prctl PR_SET_NO_NEW_PRIVS".into(),
            Step::Seccomp => "seccomp (SECCOMP_SET_MODE_FILTER)".into(),
            Step::Lookup(l) => format!("open executable `{}`", lossy(&l.name)),
            Step::Home { .. } => "look up the home directory".into(),
            Step::Exec { argv, .. } => format!("exec container process `{}`", argv.first().map_or_else(String::new, lossy)),
            Step::Load { handler, argv, .. } => {
                format!("load `{}` with the handler `{handler}`", argv.first().map_or_else(String::new, lossy))
            }
            Step::Handle { handler, .. } => format!("exec container process failed with handler as `{handler}`"),
        }
    }
}

impl MountStep {
    fn describe(&self) -> String {
        match &self.kind {
            MountKind::Bind(Bind { source: Source::Path(p) | Source::Opened(p), .. }) => {
                format!("bind mount `{}` to `{}`", lossy(p), self.shown)
            }
            MountKind::Bind(_) => format!("bind mount the cgroup to `{}`", self.shown),
            MountKind::Idmapped { .. } => format!("idmapped mount to `{}`", self.shown),
            MountKind::Fs(f) => format!("mount `{}` to `{}`", lossy(&f.fstype), self.shown),
            MountKind::Remount(_) => format!("remount `{}`", self.shown),
        }
    }
}

/// A C string for a message.
pub(crate) fn lossy(s: &CStr) -> String {
    s.to_string_lossy().into_owned()
}
