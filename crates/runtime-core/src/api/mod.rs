//! What other crates implement and what embedders call with. Not here: any implementation; nothing of clap, D-Bus or a backend stands in
//! a signature.

mod cgroup;
mod logger;
mod seccomp;
mod stats;

pub use cgroup::{Cgroup, CgroupManager, CgroupRecord, CgroupRequest, Placement};
pub use logger::{Level, LogBridge, Logger, Record};
pub use seccomp::{SECCOMP_RECEIVER, SeccompCompiler, SeccompFeatures, SeccompFilter, SeccompListener, SeccompRequest};
pub use stats::{CpuStats, DeviceIo, HugetlbStats, IoStats, MemoryStats, PidsStats, Pressure, Stall, Stats, Throttling, Usage};
