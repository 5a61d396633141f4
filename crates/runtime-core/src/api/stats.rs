//! What a cgroup has used so far, in one form for v1 and v2. Not here: reading it (the managers' affair), printing it.

/// Usage by controller. A part is absent where no controller accounts for it, and all are for a container without a cgroup, or whose
/// cgroup is gone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Block devices.
    pub io: Option<IoStats>,
    /// Tasks.
    pub pids: Option<PidsStats>,
    /// Huge pages, by size.
    pub hugetlb: Vec<HugetlbStats>,
}

/// Processor time in nanoseconds; v2 counts whole microseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpuStats {
    /// All of it (`cpuacct.usage`, `usage_usec`).
    pub usage: u64,
    /// In user space.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// By processor, v1 only (`cpuacct.usage_percpu`).
    pub per_cpu: Vec<u64>,
    /// What the quota did; absent where the controller is not enabled.
    pub throttling: Option<Throttling>,
    /// Time lost waiting for a processor (v2).
    pub pressure: Option<Pressure>,
}

/// What a quota did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which something ran.
    pub periods: u64,
    /// Those in which the quota was used up.
    pub throttled_periods: u64,
    /// Nanoseconds spent waiting for the next period, summed over processors.
    pub throttled: u64,
    /// Periods in which the burst was drawn on (kernel 5.15).
    pub bursts: u64,
    /// Nanoseconds taken from it.
    pub burst: u64,
}

/// An amount with what bounds it, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Now.
    pub current: u64,
    /// The most there has been (v2: kernel 5.19).
    pub peak: Option<u64>,
    /// The limit; `None` is unlimited.
    pub limit: Option<u64>,
    /// How often the limit was met.
    pub failures: u64,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryStats {
    /// Memory.
    pub memory: Usage,
    /// Swap alone (v2).
    pub swap: Option<Usage>,
    /// Memory and swap together (v1).
    pub memory_and_swap: Option<Usage>,
    /// Memory of the kernel.
    pub kernel: Option<u64>,
    /// Buffers of TCP sockets (v1).
    pub kernel_tcp: Option<u64>,
    /// Processes that the OOM killer ended; `None` where the kernel does not say (v1 before 4.13).
    pub oom_kills: Option<u64>,
    /// `memory.stat` as the kernel writes it, in its order.
    pub raw: Vec<(String, u64)>,
    /// Time lost waiting for memory (v2).
    pub pressure: Option<Pressure>,
}

impl MemoryStats {
    /// A line of `memory.stat`; its names differ between v1 and v2.
    pub fn raw(&self, key: &str) -> Option<u64> {
        self.raw.iter().find(|(k, _)| k == key).map(|(_, v)| *v)
    }
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IoStats {
    /// By device, in the kernel's order.
    pub devices: Vec<DeviceIo>,
    /// Time lost waiting for devices (v2).
    pub pressure: Option<Pressure>,
}

/// What went to and from one block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes discarded.
    pub discarded_bytes: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
    /// Discard operations.
    pub discards: u64,
}

/// Tasks: processes and their threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// The most there have been (kernel 6.1).
    pub peak: Option<u64>,
    /// The limit; `None` is unlimited.
    pub limit: Option<u64>,
    /// How often a fork was refused.
    pub failures: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HugetlbStats {
    /// As the files are called: `2MB`.
    pub page_size: String,
    /// Bytes of them; the peak on v1 only.
    pub usage: Usage,
}

/// Pressure stall information (accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// All tasks waited; for processors since kernel 5.13.
    pub full: Option<Stall>,
}

/// How much of the time was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Microseconds in all.
    pub total: u64,
}
