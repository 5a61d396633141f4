//! Properties of systemd units by annotation: names, the grammar of values, and what can be sent of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cgroup_systemd::fuzz::property(data));
