//! Device rules and the list that every container gets. Not here: programs and files.

use runtime_core::spec::DeviceRule;
use runtime_core::{Error, Result};

/// Making a node (`BPF_DEVCG_ACC_MKNOD`).
pub const MKNOD: u8 = 1;
/// Opening for reading (`BPF_DEVCG_ACC_READ`).
pub const READ: u8 = 2;
/// Opening for writing (`BPF_DEVCG_ACC_WRITE`).
pub const WRITE: u8 = 4;
/// All of them.
pub const ALL_ACCESS: u8 = MKNOD | READ | WRITE;

/// Kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Either.
    All,
    /// Character device.
    Char,
    /// Block device.
    Block,
}

/// A checked device rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Allowed or denied.
    pub allow: bool,
    /// Kind.
    pub kind: Kind,
    /// Major number, `None` for every.
    pub major: Option<u32>,
    /// Minor number, `None` for every.
    pub minor: Option<u32>,
    /// [`MKNOD`], [`READ`], [`WRITE`]; never 0.
    pub access: u8,
}

impl Rule {
    const fn allow(kind: Kind, major: Option<u32>, minor: Option<u32>, access: u8) -> Self {
        Self { allow: true, kind, major, minor, access }
    }

    /// Whether it speaks of every device.
    pub fn is_wildcard(&self) -> bool {
        self.kind == Kind::All && self.major.is_none() && self.minor.is_none()
    }

    /// The access as letters.
    pub fn letters(&self) -> String {
        [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')].iter().filter(|(bit, _)| self.access & bit != 0).map(|(_, c)| c).collect()
    }
}

/// What every container may use whatever its rules say (config-linux.md "Default Devices", and making any node): null, zero, full, tty,
/// random, urandom, console, the pts devices, ptmx, and net/tun, which crun adds.
pub const DEFAULTS: &[Rule] = &[
    Rule::allow(Kind::Char, None, None, MKNOD),
    Rule::allow(Kind::Block, None, None, MKNOD),
    Rule::allow(Kind::Char, Some(1), Some(3), ALL_ACCESS),
    Rule::allow(Kind::Char, Some(1), Some(8), ALL_ACCESS),
    Rule::allow(Kind::Char, Some(1), Some(7), ALL_ACCESS),
    Rule::allow(Kind::Char, Some(5), Some(0), ALL_ACCESS),
    Rule::allow(Kind::Char, Some(1), Some(5), ALL_ACCESS),
    Rule::allow(Kind::Char, Some(1), Some(9), ALL_ACCESS),
    Rule::allow(Kind::Char, Some(5), Some(1), ALL_ACCESS),
    Rule::allow(Kind::Char, Some(136), None, ALL_ACCESS),
    Rule::allow(Kind::Char, Some(5), Some(2), ALL_ACCESS),
    Rule::allow(Kind::Char, Some(10), Some(200), ALL_ACCESS),
];

/// Checks the rules of a configuration.
///
/// # Errors
/// `linux.resources.devices[N].FIELD: …`.
pub fn parse(rules: &[DeviceRule<'_>]) -> Result<Vec<Rule>> {
    rules.iter().enumerate().map(|(i, r)| one(r).map_err(|(field, text)| wrong(i, field, &text))).collect()
}

fn wrong(i: usize, field: &str, text: &str) -> Error {
    Error::invalid(format!("linux.resources.devices[{i}].{field}: {text}"))
}

fn one(rule: &DeviceRule<'_>) -> std::result::Result<Rule, (&'static str, String)> {
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => Kind::All,
        Some("c" | "u") => Kind::Char,
        Some("b") => Kind::Block,
        Some(other) => return Err(("type", format!("not `a`, `b` or `c`: `{}`", other.escape_debug()))),
    };
    let access = match rule.access.as_deref() {
        None | Some("") => ALL_ACCESS,
        Some(text) => letters(text).ok_or_else(|| ("access", format!("not letters of `rwm`: `{}`", text.escape_debug())))?,
    };
    let number = |field, n: Option<i64>| match n {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n).map(Some).map_err(|_| (field, format!("not a device number: {n}"))),
    };
    Ok(Rule { allow: rule.allow, kind, major: number("major", rule.major)?, minor: number("minor", rule.minor)?, access })
}

fn letters(text: &str) -> Option<u8> {
    text.bytes().try_fold(0, |bits, b| match b {
        b'r' => Some(bits | READ),
        b'w' => Some(bits | WRITE),
        b'm' => Some(bits | MKNOD),
        _ => None,
    })
}

/// Whether rules, of which a later one wins over an earlier one, come down to "everything": all devices are allowed by one, and nothing
/// is denied after it.
pub fn allows_everything(rules: &[Rule]) -> bool {
    let after = rules.iter().rposition(|r| !r.allow).map_or(0, |i| i + 1);
    rules[after..].iter().any(|r| r.is_wildcard() && r.access == ALL_ACCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> Result<Vec<Rule>> {
        parse(&serde_json::from_str::<Vec<DeviceRule<'_>>>(json).unwrap())
    }

    #[test]
    fn wildcards_are_spelled_in_several_ways() {
        let all = Rule { allow: false, kind: Kind::All, major: None, minor: None, access: ALL_ACCESS };
        for json in [
            r#"[{"allow":false}]"#,
            r#"[{"allow":false,"access":"rwm"}]"#,
            r#"[{"allow":false,"type":"a","major":-1,"minor":-1,"access":"mwr"}]"#,
        ] {
            assert_eq!(rules(json).unwrap(), [all]);
        }
        let r = rules(r#"[{"allow":true,"type":"b","major":8,"access":"r"}]"#).unwrap();
        assert_eq!(r, [Rule { allow: true, kind: Kind::Block, major: Some(8), minor: None, access: READ }]);
        assert_eq!(DEFAULTS[0].letters(), "m");
        assert_eq!(all.letters(), "rwm");
    }

    #[test]
    fn refusals_name_the_field() {
        for (json, text) in [
            (r#"[{"allow":true},{"allow":true,"type":"x"}]"#, "linux.resources.devices[1].type: not `a`, `b` or `c`: `x`"),
            (r#"[{"allow":true,"access":"rx"}]"#, "linux.resources.devices[0].access: not letters of `rwm`: `rx`"),
            (r#"[{"allow":true,"major":-2}]"#, "linux.resources.devices[0].major: not a device number: -2"),
            (r#"[{"allow":true,"minor":4294967296}]"#, "linux.resources.devices[0].minor: not a device number: 4294967296"),
        ] {
            assert_eq!(rules(json).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn everything_is_allowed_only_if_nothing_is_denied_later() {
        for (json, all) in [
            ("[]", false),
            (r#"[{"allow":true}]"#, true),
            (r#"[{"allow":false},{"allow":true,"access":"rwm"}]"#, true),
            (r#"[{"allow":true},{"allow":false,"type":"c","major":1}]"#, false),
            (r#"[{"allow":true,"access":"rw"}]"#, false),
            (r#"[{"allow":true,"type":"c"}]"#, false),
        ] {
            assert_eq!(allows_everything(&rules(json).unwrap()), all, "{json}");
        }
    }
}
