//! Device rules as v1 takes them. Not here: the program that v2 takes (`device`).

use super::Sink;
use crate::controller::Controller::Devices;
use crate::controller::Version;
use crate::device::{ALL_ACCESS, DEFAULTS, Kind, Rule, allows_everything, parse};
use runtime_core::Result;
use runtime_core::spec::Resources;

/// The rules in order, then the defaults, which therefore win; nothing where everything is allowed, as in a new cgroup.
pub(super) fn put(out: &mut Sink, r: &Resources<'_>) -> Result<()> {
    let rules = parse(&r.devices)?;
    if out.version(Devices) == Version::V2 || rules.is_empty() || allows_everything(&rules) {
        return Ok(());
    }
    for (i, rule) in rules.iter().enumerate() {
        entry(out, format!("devices[{i}]"), rule);
    }
    for rule in DEFAULTS {
        entry(out, "devices".into(), rule);
    }
    Ok(())
}

/// `a` makes the kernel ignore the rest of the line, so it is written only for what it means; other rules for both kinds become two.
fn entry(out: &mut Sink, field: String, rule: &Rule) {
    let file = if rule.allow { "devices.allow" } else { "devices.deny" };
    let mut put = |value: String| {
        out.put(Devices, field.clone(), (file, value), ("", String::new()));
    };
    if rule.is_wildcard() && rule.access == ALL_ACCESS {
        return put("a".into());
    }
    let number = |n: Option<u32>| n.map_or("*".into(), |n| n.to_string());
    for (kind, letter) in [(Kind::Char, 'c'), (Kind::Block, 'b')] {
        if rule.kind == Kind::All || rule.kind == kind {
            put(format!("{letter} {}:{} {}", number(rule.major), number(rule.minor), rule.letters()));
        }
    }
}
