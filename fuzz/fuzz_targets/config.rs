//! `config.json`: reading, validation, and the plan that comes of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runtime_core::fuzz::config(data));
