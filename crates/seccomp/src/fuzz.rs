//! The doors for fuzz targets in `fuzz/`: a file of the cache, for `seccomp_cache`, and the generator without libseccomp behind it, for
//! `seccomp_generator`. They exist in tests and under `cfg(fuzzing)` only. Not here: sections and annotations, which come in by
//! [`Generator`](crate::Generator).

use crate::annotations::Options;
use crate::profile::Profile;
use crate::{entry, generate};
use runtime_core::spec::{Seccomp, parse};

/// The body of a file as a hand that can make checksums would write it: what is read of it is written as the same file.
pub fn cached(data: &[u8]) {
    let key = [7; 32];
    assert_eq!(entry::decode(&key, data.to_vec()), None, "a file without a checksum");
    let file = entry::sealed(&key, data);
    if let Some(filter) = entry::decode(&key, file.clone()) {
        assert_eq!(entry::encode(&key, &filter), Some(file), "{filter:?}");
    }
}

/// The program that the generator writes for a section, if it does, without any of libseccomp's work on rules.
pub fn generated(section: &str) -> Option<Vec<u8>> {
    let section = parse::<Seccomp<'_>>(section.as_bytes()).ok()?;
    let profile = Profile::read(&section, &Options::default()).ok()?;
    generate::program(&profile).ok()
}
