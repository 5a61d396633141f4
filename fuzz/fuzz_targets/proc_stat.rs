//! A line of `/proc/PID/stat`, whose second field the process chooses.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runtime_core::fuzz::stat(data));
