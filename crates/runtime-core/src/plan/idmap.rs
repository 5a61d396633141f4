//! Which ids a mount shows: `uidMappings` and `gidMappings` of the mount, the words `idmap` and `ridmap`, crun's syntax for maps of their
//! own. Not here: making the mount (`engine::idmap`).
//!
//! Of each range the first number is an id in the file system, the second the host's id it is shown as, the third how many. After an `@`
//! the second is an id in the container.

use super::Context;
use super::ids::{self, IdMaps};
use super::opens::Idmap;
use crate::error::{Context as _, Error, Result};
use crate::spec::{IdMapping, Mount};

/// The word of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// `ridmap`: the mounts below too.
    pub whole_tree: bool,
    /// What stands behind the `=`; empty for the container's own map.
    pub map: String,
}

/// The map of a mount, if it has one. Its own fields come before the word, as in crun.
///
/// # Errors
/// Maps that are malformed, or none where one is asked for.
pub(crate) fn compile(cx: &Context<'_>, m: &Mount<'_>, word: Option<&Word>) -> Result<Option<Idmap>> {
    match (m.uid_mappings.is_empty(), m.gid_mappings.is_empty()) {
        (false, false) => return new(cx, m.uid_mappings.clone(), m.gid_mappings.clone(), "uidMappings", "gidMappings"),
        (true, true) => {}
        _ => return Err(Error::invalid("uidMappings and gidMappings: one needs the other")),
    }
    let Some(word) = word else { return Ok(None) };
    if word.map.is_empty() {
        return of_the_container(cx).map(Some);
    }
    let (uids, gids) = parse(&word.map)?;
    let linux = cx.spec.linux();
    let of = |own: fn(&IdMaps) -> &Vec<IdMapping>, configured: &[IdMapping], ranges: &[Range]| {
        absolute(ranges, cx.id_maps.map_or(configured, |maps| own(maps)))
    };
    let uids = of(|maps| &maps.uids, &linux.uid_mappings, &uids)?;
    let gids = of(|maps| &maps.gids, &linux.gid_mappings, &gids)?;
    new(cx, uids, gids, "idmap: uids", "idmap: gids")
}

fn new(cx: &Context<'_>, uids: Vec<IdMapping>, gids: Vec<IdMapping>, uid_field: &str, gid_field: &str) -> Result<Option<Idmap>> {
    ids::check(&uids, uid_field)?;
    ids::check(&gids, gid_field)?;
    Ok(Some(Idmap::New(IdMaps::new(uids, gids, cx.facts))))
}

/// What the container's user namespace maps. The kernel takes any namespace with the same map, so it need not exist yet.
fn of_the_container(cx: &Context<'_>) -> Result<Idmap> {
    if let Some(maps) = cx.id_maps {
        return Ok(Idmap::New(maps.clone()));
    }
    let linux = cx.spec.linux();
    let joined = linux.namespaces.iter().find(|n| n.kind == "user").and_then(|n| n.path.as_deref());
    let joined = joined.ok_or_else(|| Error::invalid("`idmap` needs mappings: the mount has none and the container no user namespace"))?;
    Ok(Idmap::Joined(joined.to_owned()))
}

/// `FIRST-SECOND-COUNT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    in_container: bool,
    numbers: [u32; 3],
}

/// `uids=RANGE#RANGE…;gids=RANGE…`.
fn parse(text: &str) -> Result<(Vec<Range>, Vec<Range>)> {
    let (mut uids, mut gids) = (None, None);
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (list, ranges) = match part.split_once('=') {
            Some(("uids", ranges)) => (&mut uids, ranges),
            Some(("gids", ranges)) => (&mut gids, ranges),
            _ => return Err(Error::invalid(format!("idmap: invalid option `{part}` specified"))),
        };
        let ranges = ranges.split('#').map(range).collect::<Result<Vec<_>>>()?;
        if list.replace(ranges).is_some() {
            return Err(Error::invalid(format!("idmap: `{part}`: given twice")));
        }
    }
    uids.zip(gids).ok_or_else(|| Error::invalid(format!("idmap: `{text}`: needs both uids= and gids=")))
}

fn range(text: &str) -> Result<Range> {
    let invalid = || Error::invalid(format!("idmap: invalid mapping specified `{text}`"));
    let bare = text.strip_prefix('@');
    let mut numbers = [0; 3];
    let mut parts = bare.unwrap_or(text).split('-');
    for number in &mut numbers {
        // `+1` would parse as a number.
        let digits = parts.next().filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit())).ok_or_else(invalid)?;
        *number = digits.parse().map_err(|_| invalid())?;
    }
    if parts.next().is_some() {
        return Err(invalid());
    }
    Ok(Range { in_container: bare.is_some(), numbers })
}

/// Replaces the container's ids by the host's; a range that lies in several of the container's is split.
fn absolute(ranges: &[Range], container: &[IdMapping]) -> Result<Vec<IdMapping>> {
    let mut out = Vec::new();
    for range in ranges {
        let [first, second, count] = range.numbers;
        if range.in_container {
            in_host_ids(range.numbers, container, &mut out).context(|| format!("idmap: `@{first}-{second}-{count}`"))?;
        } else {
            out.push(IdMapping { container_id: first, host_id: second, size: count });
        }
    }
    Ok(out)
}

fn in_host_ids([mut first, mut second, mut count]: [u32; 3], container: &[IdMapping], out: &mut Vec<IdMapping>) -> Result<()> {
    if container.is_empty() {
        return Err(Error::invalid("specified a relative mapping without user namespace mappings"));
    }
    loop {
        let offset = |m: &IdMapping| second.checked_sub(m.container_id).filter(|offset| *offset < m.size);
        let found = container.iter().find_map(|m| offset(m).map(|offset| (m.host_id.saturating_add(offset), m.size - offset)));
        let (host_id, rest) = found.ok_or_else(|| Error::invalid("could not find a user namespace mapping for the relative mapping"))?;
        let size = count.min(rest);
        out.push(IdMapping { container_id: first, host_id, size });
        count -= size;
        if count == 0 {
            return Ok(());
        }
        let next = first.checked_add(size).zip(second.checked_add(size));
        (first, second) = next.ok_or_else(|| Error::invalid("the range exceeds 32 bits"))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn m(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    fn absolute_of(text: &str, container: &[IdMapping]) -> std::result::Result<Vec<IdMapping>, String> {
        parse(&format!("uids={text};gids=0-0-1")).and_then(|(uids, _)| absolute(&uids, container)).map_err(|e| e.to_string())
    }

    #[test]
    fn ranges_of_the_host_and_of_the_container() {
        let container = [m(0, 1000, 10), m(10, 5000, 1000)];
        for (text, want) in [
            ("0-1-10#10-11-10", vec![m(0, 1, 10), m(10, 11, 10)]),
            ("@0-10-5", vec![m(0, 5000, 5)]),
            ("@10-0-5", vec![m(10, 1000, 5)]),
            ("@0-8-5", vec![m(0, 1008, 2), m(2, 5000, 3)]),
            ("@0-0-2#2-7-1", vec![m(0, 1000, 2), m(2, 7, 1)]),
        ] {
            assert_eq!(absolute_of(text, &container).unwrap(), want, "{text}");
        }
        // The example of crun(1).
        assert_eq!(absolute_of("@1-3-10", &[m(0, 0, 1), m(1, 2, 1000)]).unwrap(), [m(1, 4, 10)]);
    }

    #[test]
    fn offences_are_named() {
        for (text, want) in [
            ("0-x-2", "idmap: invalid mapping specified `0-x-2`"),
            ("0-0", "idmap: invalid mapping specified `0-0`"),
            ("0-0-2-4", "idmap: invalid mapping specified `0-0-2-4`"),
            ("0--1-2", "idmap: invalid mapping specified `0--1-2`"),
            ("0-0-2#", "idmap: invalid mapping specified ``"),
            ("0-+1-2", "idmap: invalid mapping specified `0-+1-2`"),
            ("0-0-4294967296", "idmap: invalid mapping specified `0-0-4294967296`"),
            ("0-0-2;uids=1-1-1", "idmap: `uids=1-1-1`: given twice"),
            ("0-0-2;foo=1-1-1", "idmap: invalid option `foo=1-1-1` specified"),
            ("@0-2000-2", "idmap: `@0-2000-2`: could not find a user namespace mapping for the relative mapping"),
            ("@0-9-2", "idmap: `@0-9-2`: could not find a user namespace mapping for the relative mapping"),
        ] {
            assert_eq!(absolute_of(text, &[m(0, 1000, 10)]).unwrap_err(), want);
        }
        assert!(absolute_of("@0-0-1", &[]).unwrap_err().ends_with("without user namespace mappings"));
        assert_eq!(parse("uids=0-0-1").unwrap_err().to_string(), "idmap: `uids=0-0-1`: needs both uids= and gids=");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "[-@#;=a-z0-9]{0,40}|(uids=@?[0-9]{1,3}-[0-9]{1,3}-[0-9]{1,3};?){0,3}") {
            let _ = parse(&text).map(|(uids, _)| absolute(&uids, &[m(0, 7, 100)]));
        }

        #[test]
        fn what_is_written_is_read(ranges in prop::collection::vec((any::<bool>(), any::<[u32; 3]>()), 1..5)) {
            let words: Vec<_> = ranges.iter().map(|(at, [a, b, c])| format!("{}{a}-{b}-{c}", if *at { "@" } else { "" })).collect();
            let words = words.join("#");
            let (uids, gids) = parse(&format!("gids={words};uids={words}")).unwrap();
            let want: Vec<_> = ranges.iter().map(|&(in_container, numbers)| Range { in_container, numbers }).collect();
            prop_assert_eq!(&uids, &want);
            prop_assert_eq!(&gids, &want);
        }

        #[test]
        fn each_id_of_the_container_gets_its_host_id(
            sizes in prop::collection::vec(1u32..20, 1..5), first in 0u32..50, second in 0u32..60, count in 1u32..30,
        ) {
            // Ranges that follow each other in the container and lie apart on the host.
            let mut next = 0;
            let container: Vec<_> = sizes.iter().enumerate().map(|(i, &size)| {
                next += size;
                m(next - size, 1000 * (i as u32 + 1), size)
            }).collect();
            let host = |map: &[IdMapping], id: u32| {
                map.iter().find(|m| id >= m.container_id && id - m.container_id < m.size).map(|m| m.host_id + id - m.container_id)
            };
            let got = absolute(&[Range { in_container: true, numbers: [first, second, count] }], &container);
            prop_assert_eq!(got.is_ok(), second + count <= next);
            if let Ok(map) = got {
                for i in 0..count {
                    prop_assert_eq!(host(&map, first + i), host(&container, second + i));
                }
                prop_assert_eq!(host(&map, first + count), None);
            }
        }
    }
}
