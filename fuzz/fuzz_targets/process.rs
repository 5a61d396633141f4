//! The process file of `exec --process`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runtime_core::fuzz::process(data));
