//! Device rules as unit properties, and the program for what these cannot say. Not here: the program that we attach as well (cgroup-fs).

use crate::properties::{Origin, Property};
use cgroup_fs::device::{self, ALL_ACCESS, DEFAULTS, Kind, Rule, allows_everything};
use std::path::{Path, PathBuf};
use zbus::Variant;

type Allowed = (String, String);

/// `DevicePolicy=` and `DeviceAllow=`, so that systemd's own device program agrees with ours.
///
/// systemd knows no exceptions: where a rule denies a part of what an earlier one allows, it is told to leave devices alone, and to attach
/// our program itself ([`program`]). `fresh` says that the unit is being made, so that no list needs to be emptied.
pub(crate) fn properties(rules: &[Rule], fresh: bool, out: &mut Vec<Property>) {
    if rules.is_empty() {
        return;
    }
    let list = if allows_everything(rules) { None } else { allowed(rules) };
    let mut put = |name: &str, value: Variant<'static>| out.push(Property { name: name.to_owned().into(), value, origin: Origin::Limit });
    put("DevicePolicy", Variant::from(if list.is_some() { "strict" } else { "auto" }));
    if !fresh {
        put("DeviceAllow", Variant::from(Vec::<Allowed>::new()));
    }
    if let Some(list) = list {
        put("DeviceAllow", Variant::from(list));
    }
}

/// Where the program of a scope is pinned, as crun does it. The bpf file system takes no dots in names.
pub(crate) fn pin_path(scope: &str) -> PathBuf {
    Path::new("/sys/fs/bpf/crun").join(scope.replace('.', "_"))
}

/// `BPFProgram=` for rules that the lists of systemd cannot say, with the program pinned at `path`. Where that is not possible (no bpf file
/// system, no rights), the program that we attach to the container's own cgroup is all there is.
pub(crate) fn program(rules: &[Rule], path: &Path) -> Option<Property> {
    if rules.is_empty() || allows_everything(rules) || allowed(rules).is_some() || !device::can_pin(path) {
        return None;
    }
    if let Err(e) = device::pin(rules, path) {
        tracing::debug!("{e}");
        return None;
    }
    let value = vec![("device".to_owned(), path.display().to_string())];
    Some(Property { name: "BPFProgram".into(), value: Variant::from(value), origin: Origin::Limit })
}

/// What remains allowed; `None` where it cannot be said without exceptions.
fn allowed(rules: &[Rule]) -> Option<Vec<Allowed>> {
    let mut kept: Vec<Rule> = Vec::new();
    for rule in rules {
        if rule.allow {
            kept.push(*rule);
        } else if rule.is_wildcard() && rule.access == ALL_ACCESS {
            kept.clear();
        } else if kept.iter().any(|k| overlap(k, rule)) {
            return None;
        }
    }
    let mut out = Vec::new();
    for rule in kept.iter().chain(DEFAULTS) {
        for name in names(rule)? {
            let entry = (name, rule.letters());
            if !out.contains(&entry) {
                out.push(entry);
            }
        }
    }
    Some(out)
}

fn overlap(a: &Rule, b: &Rule) -> bool {
    let meet = |x: Option<u32>, y: Option<u32>| x.is_none() || y.is_none() || x == y;
    let kinds = a.kind == Kind::All || b.kind == Kind::All || a.kind == b.kind;
    kinds && a.access & b.access != 0 && meet(a.major, b.major) && meet(a.minor, b.minor)
}

/// The specifiers of systemd.resource-control(5); no minor number without a major one.
fn names(rule: &Rule) -> Option<Vec<String>> {
    let kinds: &[&str] = match rule.kind {
        Kind::All => &["char", "block"],
        Kind::Char => &["char"],
        Kind::Block => &["block"],
    };
    let name = |kind: &&str| match (rule.major, rule.minor) {
        (None, None) => Some(format!("{kind}-*")),
        (Some(major), None) => Some(format!("{kind}-{major}")),
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        (None, Some(_)) => None,
    };
    kinds.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_core::spec::DeviceRule;

    fn made(json: &str, fresh: bool) -> Vec<(String, Variant<'static>)> {
        let rules = cgroup_fs::device::parse(&serde_json::from_str::<Vec<DeviceRule<'_>>>(json).unwrap()).unwrap();
        let mut out = Vec::new();
        properties(&rules, fresh, &mut out);
        out.into_iter().map(|p| (p.name.into_owned(), p.value)).collect()
    }

    fn own(json: &str) -> Option<Vec<Allowed>> {
        let rules = cgroup_fs::device::parse(&serde_json::from_str::<Vec<DeviceRule<'_>>>(json).unwrap()).unwrap();
        let list = allowed(&rules)?;
        let defaults = DEFAULTS.len();
        Some(list[..list.len() - defaults].to_vec())
    }

    #[test]
    fn lists() {
        let entry = |name: &str, access: &str| (name.to_owned(), access.to_owned());
        let deny = r#"{"allow":false,"access":"rwm"}"#;
        for (json, list) in [
            (format!("[{deny}]"), Some(vec![])),
            (
                format!(r#"[{deny},{{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}}]"#),
                Some(vec![entry("/dev/char/10:229", "rw")]),
            ),
            (format!(r#"[{{"allow":true,"type":"c","major":4}},{deny}]"#), Some(vec![])),
            (r#"[{"allow":true,"type":"b","major":8}]"#.to_owned(), Some(vec![entry("block-8", "rwm")])),
            (r#"[{"allow":true,"access":"r"}]"#.to_owned(), Some(vec![entry("char-*", "r"), entry("block-*", "r")])),
            // A denial of what nothing allows.
            (
                r#"[{"allow":false,"type":"b"},{"allow":true,"type":"c","major":4},{"allow":false,"type":"c","major":5}]"#.to_owned(),
                Some(vec![entry("char-4", "rwm")]),
            ),
            // An exception.
            (r#"[{"allow":true,"type":"c","major":4},{"allow":false,"type":"c","major":4,"minor":1}]"#.to_owned(), None),
            (r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"c","major":1,"minor":11}]"#.to_owned(), None),
            (r#"[{"allow":true,"type":"c","minor":7}]"#.to_owned(), None),
        ] {
            assert_eq!(own(&json), list, "{json}");
        }
    }

    #[test]
    fn a_program_is_pinned_only_for_what_lists_cannot_say() {
        let dir = tempfile::tempdir().unwrap();
        let rules = |json: &str| cgroup_fs::device::parse(&serde_json::from_str::<Vec<DeviceRule<'_>>>(json).unwrap()).unwrap();
        for json in ["[]", r#"[{"allow":true}]"#, r#"[{"allow":false}]"#] {
            assert_eq!(program(&rules(json), Path::new("/sys/fs/bpf/crun/never")), None);
        }
        // Not in a bpf file system.
        let exception = rules(r#"[{"allow":true},{"allow":false,"type":"c","major":1,"minor":11}]"#);
        assert_eq!(program(&exception, &dir.path().join("x")), None);
        assert_eq!(pin_path("pt-a.b.scope"), Path::new("/sys/fs/bpf/crun/pt-a_b_scope"));
    }

    #[test]
    fn policies() {
        let names = |v: Vec<(String, Variant<'static>)>| v.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert!(made("[]", true).is_empty());
        assert_eq!(made(r#"[{"allow":true}]"#, true), [("DevicePolicy".to_owned(), Variant::from("auto"))]);
        let strict = made(r#"[{"allow":false}]"#, true);
        assert_eq!(strict[0].1, Variant::from("strict"));
        assert_eq!(names(strict), ["DevicePolicy", "DeviceAllow"]);
        assert_eq!(names(made(r#"[{"allow":false}]"#, false)), ["DevicePolicy", "DeviceAllow", "DeviceAllow"]);
        assert_eq!(names(made(r#"[{"allow":true}]"#, false)), ["DevicePolicy", "DeviceAllow"]);
    }
}
