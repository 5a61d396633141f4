//! What CRIU (4.1) does not notice by itself: memory images that are cut short, at which it reads for ever. Not here: other images.

use prost::Message;
use runtime_core::{Error, Result};
use rustix::fs::{Dir, Mode, OFlags, openat};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

/// `pagemap_head`.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(uint32, required, tag = "1")]
    pages_id: u32,
}

/// `pagemap_entry`.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(uint32, optional, tag = "2")]
    few: Option<u32>,
    #[prost(bool, optional, tag = "3")]
    in_parent: Option<bool>,
    #[prost(uint32, optional, tag = "4")]
    flags: Option<u32>,
    #[prost(uint64, optional, tag = "5")]
    pages: Option<u64>,
}

/// `PE_PRESENT`: the pages are in this image.
const PRESENT: u32 = 1 << 2;
/// Two magic numbers open an image.
const MAGIC: usize = 8;
/// A map of pages takes some twenty bytes a range; larger ones are CRIU's affair.
const LONGEST: u64 = 64 << 20;

impl Entry {
    /// How many pages of it are in the image.
    fn here(&self) -> u64 {
        let present = self.flags.map_or(self.in_parent != Some(true), |flags| flags & PRESENT != 0);
        if present { self.pages.unwrap_or(self.few.unwrap_or(0).into()) } else { 0 }
    }
}

/// Whether each image of memory has all pages that its map lists. What cannot be read is left to CRIU.
///
/// # Errors
/// Names the image.
pub(crate) fn check(dir: BorrowedFd<'_>) -> Result<()> {
    let Ok(entries) = Dir::read_from(dir) else { return Ok(()) };
    let mut wanted: BTreeMap<u32, u64> = BTreeMap::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("pagemap-")
            && let Some((id, pages)) = read(dir, &name).and_then(|bytes| count(&bytes))
        {
            *wanted.entry(id).or_default() += pages;
        }
    }
    for (id, pages) in wanted {
        let name = format!("pages-{id}.img");
        let size = rustix::fs::statat(dir, &*name, rustix::fs::AtFlags::empty()).map_or(0, |st| st.st_size.cast_unsigned());
        let needed = pages.saturating_mul(rustix::param::page_size() as u64);
        if size < needed {
            return Err(Error::invalid(format!("the image `{name}` is cut short: {size} bytes of {needed}")));
        }
    }
    Ok(())
}

fn read(dir: BorrowedFd<'_>, name: &str) -> Option<Vec<u8>> {
    let fd = openat(dir, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    File::from(fd).take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The number of the image with the pages, and how many are in it; `None` for what is no whole map.
fn count(bytes: &[u8]) -> Option<(u32, u64)> {
    let mut rest = bytes.get(MAGIC..)?;
    let mut next = || -> Option<Option<&[u8]>> {
        let Some((size, after)) = rest.split_first_chunk::<4>() else { return rest.is_empty().then_some(None) };
        let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
        let message = after.get(..size)?;
        rest = &after[size..];
        Some(Some(message))
    };
    let head = Head::decode(next()??).ok()?;
    let mut pages = 0u64;
    while let Some(message) = next()? {
        pages = pages.checked_add(Entry::decode(message).ok()?.here())?;
    }
    Some((head.pages_id, pages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn image(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut out = vec![0; MAGIC];
        for m in messages {
            out.extend(u32::try_from(m.len()).unwrap().to_le_bytes());
            out.extend(m);
        }
        out
    }

    #[test]
    fn maps_are_counted_and_images_measured() {
        let entry = |few, in_parent, flags, pages| Entry { few, in_parent, flags, pages }.encode_to_vec();
        let map = image(&[
            Head { pages_id: 7 }.encode_to_vec(),
            entry(Some(2), None, Some(PRESENT), None),
            entry(None, None, Some(PRESENT | 2), Some(3)),
            entry(Some(100), None, Some(1), None),
            entry(Some(100), Some(true), None, None),
            entry(Some(1), None, None, None),
        ]);
        assert_eq!(count(&map), Some((7, 6)));
        assert_eq!(count(&map[..map.len() - 1]), None);
        assert_eq!(count(&map[..4]), None);
        let dir = tempfile::tempdir().unwrap();
        let fd = File::open(dir.path()).unwrap();
        check(fd.as_fd()).unwrap();
        std::fs::write(dir.path().join("pagemap-1.img"), &map).unwrap();
        let needed = 6 * rustix::param::page_size();
        for size in [None, Some(needed - 1)] {
            if let Some(size) = size {
                std::fs::write(dir.path().join("pages-7.img"), vec![0; size]).unwrap();
            }
            let text = check(fd.as_fd()).unwrap_err().to_string();
            assert_eq!(text, format!("the image `pages-7.img` is cut short: {} bytes of {needed}", size.unwrap_or(0)));
        }
        std::fs::write(dir.path().join("pages-7.img"), vec![0; needed]).unwrap();
        check(fd.as_fd()).unwrap();
        // A damaged map is for CRIU to find.
        std::fs::write(dir.path().join("pagemap-1.img"), &map[..map.len() - 1]).unwrap();
        std::fs::remove_file(dir.path().join("pages-7.img")).unwrap();
        check(fd.as_fd()).unwrap();
    }
}
