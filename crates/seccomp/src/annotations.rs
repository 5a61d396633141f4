//! The annotations that concern seccomp. Not here: what they do to a filter (`compile`).

use runtime_core::api::SECCOMP_RECEIVER as RECEIVER;
use runtime_core::spec::{Map, Str};
use runtime_core::{Error, ErrorKind, Result};

/// Unknown system call names are errors, unless the value is `0`.
const FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";
/// A whole filter in base64, used in place of what the section describes.
const RAW: &str = "run.oci.seccomp_bpf_data";
/// Shared objects that answer notifications.
const PLUGINS: &str = "run.oci.seccomp.plugins";

/// What the annotations ask for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options<'a> {
    /// A system call name that libseccomp does not know is an error.
    pub(crate) fail_unknown: bool,
    /// The filter itself, base64.
    pub(crate) raw: Option<&'a str>,
    /// Receiver for a section without `listenerPath`; absolute.
    pub(crate) receiver: Option<&'a str>,
}

impl<'a> Options<'a> {
    /// Picks them from the container's annotations.
    ///
    /// # Errors
    /// A receiver that is no absolute path or that stands beside plugins; plugins, which this compiler cannot load.
    pub(crate) fn read(annotations: &'a Map<'_, Str<'_>>) -> Result<Self> {
        let value = |name: &str| annotations.get(name).map(|text| &**text);
        let receiver = value(RECEIVER);
        if let Some(path) = receiver {
            absolute(path)?;
        }
        if value(PLUGINS).is_some() {
            if receiver.is_some() {
                return Err(Error::invalid(format!("annotations `{PLUGINS}` and `{RECEIVER}` exclude each other")));
            }
            let text = format!("annotation `{PLUGINS}`: this build cannot load seccomp notify plugins");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        Ok(Self { fail_unknown: value(FAIL_UNKNOWN).is_some_and(|text| text != "0"), raw: value(RAW), receiver })
    }
}

/// Checks a listener's path.
pub(crate) fn absolute(path: &str) -> Result<()> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Error::invalid(format!("the seccomp receiver `{path}` is not an absolute path")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> Map<'static, Str<'static>> {
        Map(pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect())
    }

    #[test]
    fn any_value_but_zero_makes_unknown_names_fail() {
        for (value, fails) in [("0", false), ("1", true), ("", true), ("false", true)] {
            assert_eq!(Options::read(&map(&[(FAIL_UNKNOWN, value)])).unwrap().fail_unknown, fails, "{value:?}");
        }
        assert!(!Options::read(&map(&[])).unwrap().fail_unknown);
    }

    #[test]
    fn receivers_are_absolute_and_alone() {
        let relative = Options::read(&map(&[(RECEIVER, "run/s")])).unwrap_err();
        assert_eq!(relative.to_string(), "the seccomp receiver `run/s` is not an absolute path");
        let both = Options::read(&map(&[(RECEIVER, "/s"), (PLUGINS, "a.so")])).unwrap_err();
        assert_eq!(both.kind(), ErrorKind::Invalid);
        let plugins = Options::read(&map(&[(PLUGINS, "a.so")])).unwrap_err();
        assert_eq!(plugins.kind(), ErrorKind::Unsupported);
    }
}
