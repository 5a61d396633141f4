//! What other crates implement and what embedders call with. Not here: any implementation; nothing of clap, D-Bus or a backend stands in
//! a signature.

pub mod annotations;
mod cgroup;
mod checkpoint;
pub mod handler;
mod logger;
mod seccomp;
mod stats;

pub use cgroup::{Cgroup, CgroupManager, CgroupRecord, CgroupRequest, Note, Placement};
pub use checkpoint::{
    CgroupsMode, CheckpointSettings, Checkpointer, DumpRequest, ExternalMount, ImageDirs, NetworkLock, RestoreEvents, RestoreRequest,
};
pub use handler::{Handler, HandlerProcess, HandlerRequest, HandlerStart};
pub use logger::{Level, LogBridge, Logger, Record};
pub use seccomp::{PluginsRequest, SeccompCompiler, SeccompFeatures, SeccompFilter, SeccompListener, SeccompPlugins, SeccompRequest};
pub use stats::{CpuStats, DeviceIo, HugetlbStats, IoStats, MemoryStats, PidsStats, Pressure, Stall, Stats, Throttling, Usage};
