//! The options of a mount, one a line.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runtime_core::fuzz::mount_options(data));
