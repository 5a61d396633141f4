//! The formats of the kernel's statistics files; pure. Not here: which file has what (`stats`).
//!
//! A line that is not understood is passed over: the kernel adds lines, and words to lines, and a device's line may be cut short.

use runtime_core::api::{DeviceIo, Pressure, Stall};

/// `KEY VALUE` lines (cgroup-v2.rst, "Flat keyed").
pub(super) fn flat(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

/// A limit: `max` is none, as is v1's highest number of whole pages (PAGE_COUNTER_MAX), which it shows where nothing was set.
pub(super) fn limit(text: &str) -> Option<u64> {
    const UNLIMITED: u64 = i64::MAX as u64 & !0xffff;
    text.trim().parse().ok().filter(|&n| n < UNLIMITED)
}

/// `io.stat`: `MAJ:MIN rbytes=N wbytes=N rios=N wios=N dbytes=N dios=N`, and keys of controllers that are passed over.
pub(super) fn io_stat(text: &str) -> Vec<DeviceIo> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let mut device = numbered(words.next()?)?;
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            match key {
                "rbytes" => device.read_bytes = value,
                "wbytes" => device.written_bytes = value,
                "rios" => device.reads = value,
                "wios" => device.writes = value,
                "dbytes" => device.discarded_bytes = value,
                "dios" => device.discards = value,
                _ => {}
            }
        }
        Some(device)
    };
    text.lines().filter_map(line).collect()
}

/// The two files of v1, bytes and operations: `MAJ:MIN Read N` and the like, `Total N` at the end.
pub(super) fn blkio(bytes: &str, operations: &str) -> Vec<DeviceIo> {
    let mut out: Vec<DeviceIo> = Vec::new();
    for (text, counts_bytes) in [(bytes, true), (operations, false)] {
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(device), Some(what), Some(value)) = (words.next().and_then(numbered), words.next(), words.next()) else { continue };
            let Ok(value) = value.parse() else { continue };
            let at = out.iter().position(|d| (d.major, d.minor) == (device.major, device.minor)).unwrap_or_else(|| {
                out.push(device);
                out.len() - 1
            });
            let d = &mut out[at];
            match (what, counts_bytes) {
                ("Read", true) => d.read_bytes = value,
                ("Read", false) => d.reads = value,
                ("Write", true) => d.written_bytes = value,
                ("Write", false) => d.writes = value,
                ("Discard", true) => d.discarded_bytes = value,
                ("Discard", false) => d.discards = value,
                _ => {}
            }
        }
    }
    out
}

fn numbered(word: &str) -> Option<DeviceIo> {
    let (major, minor) = word.split_once(':')?;
    Some(DeviceIo { major: major.parse().ok()?, minor: minor.parse().ok()?, ..DeviceIo::default() })
}

/// `*.pressure`: `some avg10=F avg60=F avg300=F total=N`, and the same for `full`.
pub(super) fn pressure(text: &str) -> Option<Pressure> {
    let mut some = None;
    let mut full = None;
    for line in text.lines() {
        let Some((kind, rest)) = line.split_once(' ') else { continue };
        let mut stall = Stall::default();
        for (key, value) in rest.split(' ').filter_map(|w| w.split_once('=')) {
            match key {
                "avg10" => stall.avg10 = value.parse().unwrap_or_default(),
                "avg60" => stall.avg60 = value.parse().unwrap_or_default(),
                "avg300" => stall.avg300 = value.parse().unwrap_or_default(),
                "total" => stall.total = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        match kind {
            "some" => some = Some(stall),
            "full" => full = Some(stall),
            _ => {}
        }
    }
    some.map(|some| Pressure { some, full })
}

/// The page size in a name such as `hugetlb.2MB.current`, where it ends in `.SUFFIX`. Files about reservations are others.
pub(super) fn page_size<'n>(file: &'n str, suffix: &str) -> Option<&'n str> {
    let size = file.strip_prefix("hugetlb.")?.strip_suffix(suffix)?.strip_suffix('.')?;
    (!size.contains('.')).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_of_io_stat_come_in_any_length() {
        let text = "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=5 dios=1 cost.usage=7\n\
                    253:70000 rbytes=4096\n259:1\nnonsense\n9:x rbytes=1\n7:0 rbytes= wbytes=3 =\n";
        let got = io_stat(text);
        let whole = DeviceIo {
            major: 8,
            minor: 16,
            read_bytes: 1_459_200,
            written_bytes: 314_773_504,
            discarded_bytes: 5,
            reads: 192,
            writes: 353,
            discards: 1,
        };
        assert_eq!(got[0], whole);
        assert_eq!(got[1], DeviceIo { major: 253, minor: 70_000, read_bytes: 4096, ..DeviceIo::default() });
        assert_eq!(got[2], DeviceIo { major: 259, minor: 1, ..DeviceIo::default() });
        assert_eq!((got.len(), got[3].written_bytes), (4, 3));
    }

    #[test]
    fn the_two_files_of_v1_are_one_list() {
        let bytes = "8:0 Read 100\n8:0 Write 200\n8:0 Sync 300\n8:0 Async 0\n8:0 Discard 7\n8:0 Total 307\n7:1 Read 5\nTotal 312\n";
        let operations = "8:0 Read 1\n8:0 Write 2\n9:0 Write 4\nTotal 7\n";
        let got = blkio(bytes, operations);
        let first =
            DeviceIo { major: 8, minor: 0, read_bytes: 100, written_bytes: 200, discarded_bytes: 7, reads: 1, writes: 2, discards: 0 };
        assert_eq!(got[0], first);
        assert_eq!((got.len(), got[1].read_bytes, got[2].writes), (3, 5, 4));
        assert_eq!(blkio("", ""), []);
    }

    #[test]
    fn pressure_has_one_line_or_two() {
        let text = "some avg10=0.50 avg60=1.25 avg300=0.00 total=4485067\nfull avg10=0.00 avg60=0.00 avg300=0.01 total=9\n";
        let p = pressure(text).unwrap();
        assert_eq!((p.some.avg10, p.some.avg60, p.some.total), (0.5, 1.25, 4_485_067));
        assert_eq!(p.full.map(|f| (f.avg300, f.total)), Some((0.01, 9)));
        assert_eq!(pressure("some avg10=1.00 avg60=0 avg300=0 total=1\n").unwrap().full, None);
        assert_eq!(pressure(""), None);
    }

    #[test]
    fn what_is_unlimited() {
        for (text, n) in
            [("max\n", None), ("9223372036854771712\n", None), ("9223372036854710272", None), ("0\n", Some(0)), ("4096", Some(4096))]
        {
            assert_eq!(limit(text), n, "{text}");
        }
    }

    #[test]
    fn page_sizes_are_read_from_names() {
        for (file, suffix, size) in [
            ("hugetlb.2MB.current", "current", Some("2MB")),
            ("hugetlb.1GB.usage_in_bytes", "usage_in_bytes", Some("1GB")),
            ("hugetlb.2MB.rsvd.current", "current", None),
            ("hugetlb.2MB.max", "current", None),
            ("memory.current", "current", None),
        ] {
            assert_eq!(page_size(file, suffix), size, "{file}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "([0-9]{0,12}:[0-9]{0,12}|some|Total)?( ?[a-z0-9]{0,8}=?-?[0-9.]{0,22}){0,4}\n?") {
            io_stat(&text);
            blkio(&text, &text);
            pressure(&text);
            limit(&text);
            prop_assert!(flat(&text).count() <= text.lines().count());
        }
    }
}
