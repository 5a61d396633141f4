//! Device rules as unit properties. Not here: the program of ours that enforces them as well (cgroup-fs).

use crate::properties::{Origin, Property};
use cgroup_fs::device::{ALL_ACCESS, DEFAULTS, Kind, Rule, allows_everything};
use zbus::Variant;

type Allowed = (String, String);

/// `DevicePolicy=` and `DeviceAllow=`, so that systemd's own device program agrees with ours.
///
/// systemd knows no exceptions: where a rule denies a part of what an earlier one allows, it is told to leave devices alone, and our
/// program is all there is. `fresh` says that the unit is being made, so that no list needs to be emptied.
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
