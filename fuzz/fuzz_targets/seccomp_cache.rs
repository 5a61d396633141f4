//! A file of the cache of compiled filters, behind its checksum.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pinnace_seccomp::fuzz::cached(data));
