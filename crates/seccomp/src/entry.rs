//! The file format of a compiled filter in the cache. Not here: the directory.
//!
//! ```text
//! magic[8]  checksum[32]  flags u32  instructions u32  path u32  metadata u32  program  path  metadata
//! ```
//! Numbers are the machine's own, as the program is. `path` and `metadata` are lengths in bytes, all ones for an absent
//! text. The checksum is blake3 over the key and everything behind the checksum, so that a file under another's name is
//! as bad as a damaged one.

use crate::bpf::{INSTRUCTION, MAX_INSTRUCTIONS};
use crate::cache::Key;
use runtime_core::api::{SeccompFilter, SeccompListener};

const MAGIC: &[u8; 8] = b"pnncbpf1";
const HEADER: usize = 8 + 32 + 4 * 4;
const ABSENT: u32 = u32::MAX;
/// Longest text of a listener that is cached; a filter with a longer one is compiled each time.
const MAX_TEXT: usize = 64 * 1024;
/// No entry is larger.
pub(crate) const MAX_SIZE: usize = HEADER + MAX_INSTRUCTIONS * INSTRUCTION + 2 * MAX_TEXT;

/// The bytes of a filter's file; `None` for a filter the format has no room for.
pub(crate) fn encode(key: &Key, filter: &SeccompFilter) -> Option<Vec<u8>> {
    let path = filter.listener.as_ref().map(|l| l.path.as_str());
    let metadata = filter.listener.as_ref().and_then(|l| l.metadata.as_deref());
    let fits = |text: Option<&str>| text.is_none_or(|t| t.len() <= MAX_TEXT);
    let instructions = filter.program.len() / INSTRUCTION;
    if !fits(path) || !fits(metadata) || instructions > MAX_INSTRUCTIONS {
        return None;
    }
    let length = |text: Option<&str>| text.map_or(Some(ABSENT), |t| u32::try_from(t.len()).ok());
    let numbers = [filter.flags, u32::try_from(instructions).ok()?, length(path)?, length(metadata)?];
    let mut file = Vec::with_capacity(HEADER + filter.program.len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&[0; 32]);
    file.extend(numbers.iter().flat_map(|n| n.to_ne_bytes()));
    file.extend_from_slice(&filter.program);
    file.extend_from_slice(path.unwrap_or_default().as_bytes());
    file.extend_from_slice(metadata.unwrap_or_default().as_bytes());
    let sum = checksum(key, &file[40..]);
    file[8..40].copy_from_slice(&sum);
    Some(file)
}

/// The filter in a file's bytes; `None` if they are not what [`encode`] writes for this key.
pub(crate) fn decode(key: &Key, mut file: Vec<u8>) -> Option<SeccompFilter> {
    let (magic, rest) = file.split_first_chunk::<8>()?;
    let (sum, body) = rest.split_first_chunk::<32>()?;
    if magic != MAGIC || *sum != checksum(key, body) {
        return None;
    }
    let (numbers, texts) = body.split_first_chunk::<16>()?;
    let [flags, instructions, path, metadata] = std::array::from_fn(|n| {
        let at = n * 4;
        u32::from_ne_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]])
    });
    let size = usize::try_from(instructions).ok()?.checked_mul(INSTRUCTION)?;
    let (_, texts) = texts.split_at_checked(size)?;
    let (path, texts) = text(texts, path)?;
    let (metadata, texts) = text(texts, metadata)?;
    // Words for nobody are as odd as too many bytes.
    if !texts.is_empty() || path.is_none() && metadata.is_some() {
        return None;
    }
    let listener = path.map(|path| SeccompListener { path, metadata });
    file.truncate(HEADER + size);
    file.drain(..HEADER);
    Some(SeccompFilter { program: file, flags, listener })
}

fn text(bytes: &[u8], length: u32) -> Option<(Option<String>, &[u8])> {
    if length == ABSENT {
        return Some((None, bytes));
    }
    let (text, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    Some((Some(std::str::from_utf8(text).ok()?.to_owned()), rest))
}

fn checksum(key: &Key, body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    *hasher.finalize().as_bytes()
}

/// A file with this body and the right checksum.
#[cfg(any(test, fuzzing))]
pub(crate) fn sealed(key: &Key, body: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &checksum(key, body), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: Key = [7; 32];

    fn filters() -> impl Strategy<Value = SeccompFilter> {
        let listener = ("/[a-z]{0,20}", proptest::option::of(".{0,20}")).prop_map(|(path, metadata)| SeccompListener { path, metadata });
        (proptest::collection::vec(any::<[u8; 8]>(), 0..50), any::<u32>(), proptest::option::of(listener))
            .prop_map(|(program, flags, listener)| SeccompFilter { program: program.concat(), flags, listener })
    }

    /// Found by the fuzz target `seccomp_cache`.
    #[test]
    fn metadata_without_a_path_are_no_listener() {
        let body = [4u32, 1, ABSENT, 0].map(u32::to_ne_bytes).concat();
        assert_eq!(decode(&KEY, sealed(&KEY, &[&body[..], &[0; 8]].concat())), None);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(filter in filters()) {
            prop_assert_eq!(decode(&KEY, encode(&KEY, &filter).unwrap()), Some(filter));
        }

        #[test]
        fn any_changed_bit_is_noticed(filter in filters(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut file = encode(&KEY, &filter).unwrap();
            let at = at.index(file.len());
            file[at] ^= 1u8 << bit;
            prop_assert_eq!(decode(&KEY, file), None);
        }

        #[test]
        fn a_shortened_or_foreign_file_is_refused(filter in filters(), at in any::<prop::sample::Index>()) {
            let file = encode(&KEY, &filter).unwrap();
            prop_assert_eq!(decode(&[8; 32], file.clone()), None);
            prop_assert_eq!(decode(&KEY, file[..at.index(file.len())].to_vec()), None);
        }

        /// As above, but past the checksum.
        #[test]
        fn arbitrary_bodies_do_not_panic(numbers in any::<[u8; 16]>(), small: bool, rest in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut body = [&numbers[..], &rest].concat();
            if small {
                (4..16).filter(|n| n % 4 != 0).for_each(|n| body[n] = 0);
            }
            crate::fuzz::cached(&body);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(file in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode(&KEY, file), None);
        }
    }
}
