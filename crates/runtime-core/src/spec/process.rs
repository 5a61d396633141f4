//! The `process` section (config.md "Process"), which `exec --process` files hold on their own. Not here: checks, PATH look-up.

use super::text::{self, Str};
use serde::{Deserialize, Serialize};

/// `process`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process<'a> {
    /// Whether a pseudo-terminal is made for the process.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "is_false")]
    pub terminal: bool,
    /// Initial size of the terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Ids of the process.
    #[serde(borrow, default, deserialize_with = "text::nullable")]
    pub user: User<'a>,
    /// argv.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Str<'a>>,
    /// Environment, `NAME=value` each.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<Str<'a>>,
    /// Working directory, absolute.
    pub cwd: Str<'a>,
    /// The five capability sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities<'a>>,
    /// Resource limits.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit<'a>>,
    /// Sets the no_new_privs bit.
    #[serde(default, deserialize_with = "text::nullable")]
    pub no_new_privileges: bool,
    /// Name of an AppArmor profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<Str<'a>>,
    /// Value for `/proc/self/oom_score_adj`; inherited when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i64>,
    /// SELinux label of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<Str<'a>>,
    /// ioprio_set(2).
    #[serde(rename = "ioPriority", default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority<'a>>,
    /// sched_setattr(2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler<'a>>,
    /// CPU affinity of `exec` processes.
    #[serde(rename = "execCPUAffinity", default, skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<ExecCpuAffinity<'a>>,
}

fn is_false(b: &bool) -> bool {
    !b
}

/// `process.consoleSize`, in characters.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u64,
    /// Columns.
    pub width: u64,
}

/// `process.user`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User<'a> {
    /// User id inside the container.
    #[serde(default, deserialize_with = "text::nullable")]
    pub uid: u32,
    /// Group id inside the container.
    #[serde(default, deserialize_with = "text::nullable")]
    pub gid: u32,
    /// umask of the process; 0022 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
    /// Windows only; ignored.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub username: Option<Str<'a>>,
}

/// `process.capabilities`: names such as `CAP_CHOWN`; an absent set is empty.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Capabilities<'a> {
    /// Limits what can be gained by execve.
    #[serde(borrow, default, deserialize_with = "text::nullable")]
    pub bounding: Vec<Str<'a>>,
    /// Checked by the kernel.
    #[serde(default, deserialize_with = "text::nullable")]
    pub effective: Vec<Str<'a>>,
    /// Preserved across execve of files with file capabilities.
    #[serde(default, deserialize_with = "text::nullable")]
    pub inheritable: Vec<Str<'a>>,
    /// Limits the effective set.
    #[serde(default, deserialize_with = "text::nullable")]
    pub permitted: Vec<Str<'a>>,
    /// Kept across execve of ordinary files.
    #[serde(default, deserialize_with = "text::nullable")]
    pub ambient: Vec<Str<'a>>,
}

/// One entry of `process.rlimits`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Rlimit<'a> {
    /// `RLIMIT_NOFILE` and so on.
    #[serde(borrow, rename = "type")]
    pub kind: Str<'a>,
    /// Hard limit; `u64::MAX` is infinity.
    pub hard: u64,
    /// Soft limit.
    pub soft: u64,
}

/// `process.ioPriority`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct IoPriority<'a> {
    /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE` or `IOPRIO_CLASS_IDLE`.
    #[serde(borrow)]
    pub class: Str<'a>,
    /// 0 (highest) to 7.
    #[serde(default, deserialize_with = "text::nullable")]
    pub priority: i32,
}

/// `process.scheduler`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Scheduler<'a> {
    /// `SCHED_OTHER`, `SCHED_FIFO`, …
    #[serde(borrow)]
    pub policy: Str<'a>,
    /// Nice value of SCHED_OTHER and SCHED_BATCH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// Static priority of SCHED_FIFO and SCHED_RR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// `SCHED_FLAG_RESET_ON_FORK`, …
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Str<'a>>,
    /// SCHED_DEADLINE, nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<u64>,
    /// SCHED_DEADLINE, nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// SCHED_DEADLINE, nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
}

/// `process.execCPUAffinity`: lists such as `0-3,7`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct ExecCpuAffinity<'a> {
    /// Before the process is moved to its cgroup.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<Str<'a>>,
    /// After it.
    #[serde(rename = "final", default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Str<'a>>,
}
