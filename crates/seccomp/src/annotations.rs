//! The annotations that concern seccomp. Not here: what they do to a filter (`compile`).

use runtime_core::api::annotations::{
    SECCOMP_BPF_DATA as RAW, SECCOMP_ENOSYS_STUB as STUB, SECCOMP_FAIL_UNKNOWN as FAIL_UNKNOWN, SECCOMP_PLUGINS as PLUGINS,
    SECCOMP_RECEIVER as RECEIVER, is_on,
};
use runtime_core::spec::{Map, Str};
use runtime_core::{Error, Result};

/// What the annotations ask for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options<'a> {
    /// A system call name that libseccomp does not know is an error.
    pub(crate) fail_unknown: bool,
    /// Calls newer than the profile get its default action.
    pub(crate) no_stub: bool,
    /// The filter itself, base64.
    pub(crate) raw: Option<&'a str>,
    /// Receiver for a section without `listenerPath`; absolute.
    pub(crate) receiver: Option<&'a str>,
    /// Plugins answer, whichever.
    pub(crate) plugins: bool,
}

impl<'a> Options<'a> {
    /// Picks them from the container's annotations.
    ///
    /// # Errors
    /// A receiver that is no absolute path or that stands beside plugins.
    pub(crate) fn read(annotations: &'a Map<'_, Str<'_>>) -> Result<Self> {
        let value = |name: &str| annotations.get(name).map(|text| &**text);
        let receiver = value(RECEIVER);
        if let Some(path) = receiver {
            absolute(path)?;
        }
        let plugins = value(PLUGINS).is_some();
        if plugins && receiver.is_some() {
            return Err(Error::invalid(format!("annotations `{PLUGINS}` and `{RECEIVER}` exclude each other")));
        }
        let no_stub = value(STUB).is_some_and(|text| !is_on(text));
        Ok(Self { fail_unknown: value(FAIL_UNKNOWN).is_some_and(is_on), no_stub, raw: value(RAW), receiver, plugins })
    }
}

/// Checks a listener's path.
pub(crate) fn absolute(path: &str) -> Result<()> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Error::invalid(format!("the seccomp receiver `{}` is not an absolute path", path.escape_debug())));
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
        assert_eq!(both.kind(), runtime_core::ErrorKind::Invalid);
        assert!(Options::read(&map(&[(PLUGINS, "/a.so")])).unwrap().plugins);
    }
}
