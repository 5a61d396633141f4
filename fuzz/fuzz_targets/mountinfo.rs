//! `/proc/self/mountinfo`, read by the plan's facts and by the cgroup manager.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    runtime_core::fuzz::mountinfo(data);
    let layout = cgroup_fs::Layout::from_mountinfo(&String::from_utf8_lossy(data));
    layout.split();
});
