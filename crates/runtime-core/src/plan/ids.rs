//! Id maps of a new user namespace, and who may write them. Not here: writing (`engine::attach`).

use crate::error::{Error, Result};
use crate::facts::{Facts, default_map};
use crate::spec::{IdMapping, Linux};
use std::fmt::Write;

/// The maps of a new user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdMaps {
    pub uids: Vec<IdMapping>,
    pub gids: Vec<IdMapping>,
    /// Write `deny` to /proc/PID/setgroups first: an unprivileged process may map a gid only then (user_namespaces(7)).
    pub deny_setgroups: bool,
    /// newuidmap(1) and newgidmap(1) write the maps.
    pub by_helper: bool,
}

impl IdMaps {
    /// The maps of the configuration, or the default ones where it has none.
    ///
    /// # Errors
    /// Maps that overlap or are too many, with the field's path.
    pub(crate) fn compile(linux: &Linux<'_>, facts: &Facts) -> Result<Self> {
        let mut uids = linux.uid_mappings.clone();
        let mut gids = linux.gid_mappings.clone();
        if uids.is_empty() {
            uids = default_map(facts.euid, &facts.subordinate.uids);
        }
        if gids.is_empty() {
            gids = default_map(facts.egid, &facts.subordinate.gids);
        }
        check(&uids, "linux.uidMappings")?;
        check(&gids, "linux.gidMappings")?;
        Ok(Self::new(uids, gids, facts))
    }

    /// Maps that were checked.
    pub(crate) fn new(uids: Vec<IdMapping>, gids: Vec<IdMapping>, facts: &Facts) -> Self {
        let own = |map: &[IdMapping], id| map.len() == 1 && map[0].host_id == id && map[0].size == 1;
        let privileged = facts.euid == 0;
        let only_own = own(&uids, facts.euid) && own(&gids, facts.egid);
        Self { uids, gids, deny_setgroups: !privileged && only_own, by_helper: !privileged && !only_own }
    }

    /// The host's uid and gid of the container's root, where it is mapped.
    pub(crate) fn root(&self) -> Option<(u32, u32)> {
        let host = |map: &[IdMapping]| map.iter().find(|m| m.container_id == 0 && m.size > 0).map(|m| m.host_id);
        Some((host(&self.uids)?, host(&self.gids)?))
    }
}

/// The text of a map as /proc/PID/uid_map takes it.
pub(crate) fn text(map: &[IdMapping]) -> String {
    let mut out = String::new();
    for m in map {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{} {} {}", m.container_id, m.host_id, m.size);
    }
    out
}

/// The kernel's limit on lines (4.15).
const MAX_LINES: usize = 340;

/// Checks a map as the kernel would.
///
/// # Errors
/// Ranges that are empty, overlap or are too many, with `field` and their index.
pub(crate) fn check(map: &[IdMapping], field: &str) -> Result<()> {
    if map.len() > MAX_LINES {
        return Err(Error::invalid(format!("{field}: {} ranges, the kernel takes {MAX_LINES}", map.len())));
    }
    let end = |first: u32, size: u32| first.checked_add(size);
    for (i, m) in map.iter().enumerate() {
        if m.size == 0 || end(m.container_id, m.size).is_none() || end(m.host_id, m.size).is_none() {
            return Err(Error::invalid(format!("{field}[{i}]: invalid range {} {} {}", m.container_id, m.host_id, m.size)));
        }
    }
    let mut sorted: Vec<_> = map.iter().enumerate().collect();
    for id in [|m: &IdMapping| m.container_id, |m: &IdMapping| m.host_id] {
        sorted.sort_by_key(|(_, m)| id(m));
        for pair in sorted.windows(2) {
            let ((_, a), (i, b)) = (pair[0], pair[1]);
            if id(a) + a.size > id(b) {
                return Err(Error::invalid(format!("{field}[{i}]: the range overlaps another")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn m(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    fn linux(map: Vec<IdMapping>) -> Linux<'static> {
        Linux { uid_mappings: map.clone(), gid_mappings: map, ..Linux::default() }
    }

    #[test]
    fn who_writes_the_maps() {
        let root = Facts { initial_userns: true, ..Facts::default() };
        let user = Facts { euid: 1000, egid: 1000, initial_userns: true, ..Facts::default() };
        let got = IdMaps::compile(&linux(vec![m(0, 1000, 1)]), &root).unwrap();
        assert!(!got.by_helper && !got.deny_setgroups);
        let got = IdMaps::compile(&linux(vec![m(0, 1000, 1)]), &user).unwrap();
        assert!(!got.by_helper && got.deny_setgroups);
        let got = IdMaps::compile(&linux(vec![m(0, 1000, 1), m(1, 100_000, 10)]), &user).unwrap();
        assert!(got.by_helper && !got.deny_setgroups);
        assert_eq!(got.root(), Some((1000, 1000)));
        assert_eq!(text(&got.uids), "0 1000 1\n1 100000 10\n");
    }

    #[test]
    fn bad_maps_are_named() {
        let f = Facts::default();
        for (map, text) in [
            (vec![m(0, 0, 0)], "linux.uidMappings[0]: invalid range 0 0 0"),
            (vec![m(u32::MAX, 0, 2)], "linux.uidMappings[0]: invalid range 4294967295 0 2"),
            (vec![m(0, 0, 5), m(4, 100, 1)], "linux.uidMappings[1]: the range overlaps another"),
            (vec![m(0, 0, 5), m(10, 4, 1)], "linux.uidMappings[1]: the range overlaps another"),
        ] {
            assert_eq!(IdMaps::compile(&linux(map), &f).unwrap_err().to_string(), text);
        }
        let many = (0..341).map(|i| m(i, i, 1)).collect();
        assert!(IdMaps::compile(&linux(many), &f).unwrap_err().to_string().contains("341 ranges"));
    }

    proptest! {
        #[test]
        fn accepted_maps_never_overlap(raw in prop::collection::vec((0u32..50, 0u32..50, 0u32..8), 1..6)) {
            let map: Vec<_> = raw.iter().map(|&(c, h, s)| m(c, h, s)).collect();
            if check(&map, "x").is_ok() {
                for (i, a) in map.iter().enumerate() {
                    for b in &map[i + 1..] {
                        prop_assert!(a.container_id + a.size <= b.container_id || b.container_id + b.size <= a.container_id);
                        prop_assert!(a.host_id + a.size <= b.host_id || b.host_id + b.size <= a.host_id);
                    }
                }
            }
        }
    }
}
