//! `plan::compile` on arbitrary valid configurations: the properties of whole plans, with the bytes in the place of chance.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runtime_core::fuzz::plan(data));
