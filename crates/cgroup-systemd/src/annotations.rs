//! Annotations about the scope: unit properties, and the cgroups below it. Not here: the properties that limits become (`properties`).

use crate::gvariant;
use crate::properties::{Origin, Property};
use runtime_core::api::annotations::{DELEGATE_CGROUP as DELEGATE, SYSTEMD_PROPERTY as PROPERTY, SYSTEMD_SUBGROUP as SUBGROUP};
use runtime_core::spec::{Map, Str};
use runtime_core::{Error, Result};
use zbus::Variant;

/// The cgroup below the scope that the container's process is in, where no annotation says otherwise.
const CONTAINER: &str = "/container";
/// What the runtime sets itself: another value would put the scope elsewhere than where its cgroup is looked for, or have no process in it.
const RESERVED: [&str; 4] = ["Slice", "PIDs", "PIDFDs", "Delegate"];

/// What the annotations say.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Wishes {
    /// Properties of the unit.
    pub(crate) properties: Vec<Property>,
    /// The container's cgroup below the scope, with a leading slash; empty for the scope itself.
    pub(crate) subgroup: String,
    /// The cgroup below the container's that its process goes to.
    pub(crate) delegate: Option<String>,
}

impl Wishes {
    /// Reads the annotations.
    ///
    /// # Errors
    /// ``annotation `NAME`: …`` for values that are malformed, names that are no property's, and paths that lead out.
    pub(crate) fn of(annotations: &Map<'_, Str<'_>>) -> Result<Self> {
        let mut properties = Vec::new();
        for (key, value) in &annotations.0 {
            if let Some(name) = key.strip_prefix(PROPERTY) {
                let (name, value) = property(name, value).map_err(|why| Error::invalid(format!("annotation `{key}`: {why}")))?;
                properties.push(Property { name: name.into(), value, origin: Origin::Annotation });
            }
        }
        let below = |key: &str, text: &str| cgroup_fs::normalise(&format!("annotation `{key}`"), text);
        let subgroup = match annotations.get(SUBGROUP) {
            Some(text) if text.is_empty() => String::new(),
            Some(text) => below(SUBGROUP, text)?,
            None => CONTAINER.to_owned(),
        };
        let delegate = annotations.get(DELEGATE).filter(|t| !t.is_empty()).map(|t| below(DELEGATE, t)).transpose()?;
        Ok(Self { properties, subgroup, delegate })
    }
}

/// Name and value as systemd takes them: times in seconds become microseconds under another name, as in unit files.
fn property(name: &str, text: &str) -> Result<(String, Variant<'static>), String> {
    if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(format!("`{}` is no name of a property", name.escape_debug()));
    }
    if RESERVED.contains(&name) {
        return Err("the runtime sets this property itself".into());
    }
    let value = gvariant::parse(text).map_err(|why| format!("`{}`: {why}", text.escape_debug()))?;
    match name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
        Some(stem) if !stem.is_empty() => {
            let value = microseconds(&value).ok_or_else(|| format!("`{}` is no number of seconds", text.escape_debug()))?;
            Ok((format!("{stem}USec"), Variant::U64(value)))
        }
        _ => Ok((name.to_owned(), value)),
    }
}

fn microseconds(value: &Variant<'_>) -> Option<u64> {
    let whole: u64 = match value {
        Variant::F64(v) if *v >= 0.0 && *v * 1e6 < u64::MAX as f64 => return Some((v * 1e6) as u64),
        Variant::U8(v) => (*v).into(),
        Variant::U16(v) => (*v).into(),
        Variant::U32(v) => (*v).into(),
        // infinity
        Variant::U64(u64::MAX) => return Some(u64::MAX),
        Variant::U64(v) => *v,
        Variant::I16(v) => (*v).try_into().ok()?,
        Variant::I32(v) => (*v).try_into().ok()?,
        Variant::I64(v) => (*v).try_into().ok()?,
        _ => return None,
    };
    whole.checked_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wishes(list: &[(&str, &str)]) -> Result<Wishes> {
        let json = serde_json::to_string(&list.iter().copied().collect::<std::collections::BTreeMap<_, _>>()).unwrap();
        Wishes::of(&serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn properties_are_typed() {
        for (name, text, made, value) in [
            ("CollectMode", "'inactive-or-failed'", "CollectMode", Variant::from("inactive-or-failed")),
            ("TimeoutStopSec", "uint64 30", "TimeoutStopUSec", Variant::U64(30_000_000)),
            ("TimeoutStopSec", "1.5", "TimeoutStopUSec", Variant::U64(1_500_000)),
            ("TimeoutStopSec", "0", "TimeoutStopUSec", Variant::U64(0)),
            ("TimeoutStopSec", "uint64 18446744073709551615", "TimeoutStopUSec", Variant::U64(u64::MAX)),
            ("TimeoutStopUSec", "uint64 5", "TimeoutStopUSec", Variant::U64(5)),
            ("SendSIGHUP", "true", "SendSIGHUP", Variant::Bool(true)),
            ("After", "['a.service']", "After", Variant::from(vec!["a.service"])),
        ] {
            let w = wishes(&[(&format!("org.systemd.property.{name}"), text)]).unwrap();
            assert_eq!(w.properties, [Property { name: made.into(), value, origin: Origin::Annotation }]);
        }
    }

    #[test]
    fn cgroups_below_the_scope() {
        for (list, subgroup, delegate) in [
            (&[][..], "/container", None),
            (&[("run.oci.systemd.subgroup", "")], "", None),
            (&[("run.oci.systemd.subgroup", "a/b/")], "/a/b", None),
            (&[("run.oci.delegate-cgroup", "inner")], "/container", Some("/inner")),
            (&[("run.oci.delegate-cgroup", "")], "/container", None),
        ] {
            let w = wishes(list).unwrap();
            assert_eq!((w.subgroup.as_str(), w.delegate.as_deref()), (subgroup, delegate), "{list:?}");
        }
    }

    #[test]
    fn refusals_name_the_annotation() {
        for (key, value, why) in [
            ("org.systemd.property.ab", "true", "`ab` is no name of a property"),
            ("org.systemd.property.a b c", "true", "`a b c` is no name of a property"),
            ("org.systemd.property.Slice", "'x.slice'", "the runtime sets this property itself"),
            ("org.systemd.property.Description", "foo", "`foo`: not a value: `foo`"),
            ("org.systemd.property.TimeoutStopSec", "true", "`true` is no number of seconds"),
            ("org.systemd.property.TimeoutStopSec", "-1", "`-1` is no number of seconds"),
            ("org.systemd.property.TimeoutStopSec", "uint64 18446744073709551614", "`uint64 18446744073709551614` is no number of seconds"),
            ("run.oci.systemd.subgroup", "../x", "`..` is not allowed: `../x`"),
            ("run.oci.delegate-cgroup", "a/../../x", "`..` is not allowed: `a/../../x`"),
        ] {
            assert_eq!(wishes(&[(key, value)]).unwrap_err().to_string(), format!("annotation `{key}`: {why}"));
        }
    }

    proptest! {
        #[test]
        fn accepted_annotations_stay_below_the_scope(
            name in "[A-Za-z]{0,8}(Sec)?|[a-z ./]{0,6}", value in "[0-9.]{0,22}|(u?int(32|64) )?-?[0-9]{0,21}|'[a-z']{0,4}'|\\PC{0,8}", path in "[a./-]{0,10}",
        ) {
            let property = format!("org.systemd.property.{name}");
            match wishes(&[(&property, &value), (SUBGROUP, &path), (DELEGATE, &path)]) {
                Ok(w) => {
                    prop_assert!(w.properties.iter().all(|p| !p.name.ends_with("Sec") || p.name.ends_with("USec") || p.name == "Sec"));
                    for below in [Some(w.subgroup), w.delegate].into_iter().flatten().filter(|p| !p.is_empty()) {
                        prop_assert!(below[1..].split('/').all(|part| !matches!(part, "" | "." | "..")), "{below}");
                    }
                }
                Err(e) => prop_assert!(e.to_string().starts_with("annotation `"), "{e}"),
            }
        }
    }
}
