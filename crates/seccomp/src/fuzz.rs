//! The door for the fuzz target `seccomp_cache` in `fuzz/`: a file of the cache. It exists in tests and under `cfg(fuzzing)` only. Not
//! here: sections and annotations, which come in by [`Libseccomp`](crate::Libseccomp).

use crate::entry;

/// The body of a file as a hand that can make checksums would write it: what is read of it is written as the same file.
pub fn cached(data: &[u8]) {
    let key = [7; 32];
    assert_eq!(entry::decode(&key, data.to_vec()), None, "a file without a checksum");
    let file = entry::sealed(&key, data);
    if let Some(filter) = entry::decode(&key, file.clone()) {
        assert_eq!(entry::encode(&key, &filter), Some(file), "{filter:?}");
    }
}
