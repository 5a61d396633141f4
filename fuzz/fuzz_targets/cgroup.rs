//! Cgroup paths and unit names of `linux.cgroupsPath`, and `linux.resources` on all layouts.
//!
//! The first line is the path, the rest the resources.
#![no_main]

use cgroup_fs::{Layout, knobs};
use cgroup_systemd::Unit;
use runtime_core::ContainerId;
use runtime_core::spec::{Resources, parse};

const HYBRID: &str = "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
    33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
    35 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
    36 30 0:31 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n";

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let (Some(path), rest) = (parts.next(), parts.next().unwrap_or_default()) else { return };
    let Ok(path) = std::str::from_utf8(path) else { return };
    let Ok(id) = ContainerId::new("c") else { return };
    if let Ok(found) = cgroup_fs::resolve(Some(path), &id) {
        assert!(found.starts_with('/') && found.len() > 1, "{found:?}");
        assert!(!found.split('/').any(|part| part == "..") && !found.contains(['\0', '\n']), "{found:?}");
        assert_eq!(cgroup_fs::normalise("again", &found).ok().as_deref(), Some(&*found));
    }
    for user in [false, true] {
        if let Ok(unit) = Unit::resolve(Some(path), &id, user) {
            assert!(unit.slice.ends_with(".slice") && unit.scope.ends_with(".scope"), "{unit:?}");
            assert!(!unit.cgroup().split('/').any(|part| part == ".."), "{unit:?}");
        }
    }
    let Ok(resources) = parse::<Resources<'_>>(rest) else { return };
    for layout in [Layout::unified("/sys/fs/cgroup"), Layout::from_mountinfo(HYBRID)] {
        let split = layout.split();
        knobs::checks(&resources, &split);
        for write in knobs::writes(&resources, &split).unwrap_or_default() {
            assert!(!write.file.contains('/') && write.file != "..", "{write:?}");
        }
    }
});
