//! The status file of a container, ours or crun's.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runtime_core::fuzz::status(data));
