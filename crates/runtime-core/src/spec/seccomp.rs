//! The `linux.seccomp` section (config-linux.md "Seccomp"), parsed apart from the rest because a cached filter needs no parsing of it.

use super::text::{self, Str};
use serde::{Deserialize, Serialize};

/// `linux.seccomp`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp<'a> {
    /// Action for calls no rule matches, such as `SCMP_ACT_ERRNO`.
    #[serde(borrow)]
    pub default_action: Str<'a>,
    /// Error number of the default action where that is ERRNO or TRACE; EPERM when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_…`; the native architecture is always included.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<Str<'a>>,
    /// `SECCOMP_FILTER_FLAG_…`; `None` when absent, which selects SPEC_ALLOW as crun does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<Str<'a>>>,
    /// Unix socket that receives the notify descriptor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<Str<'a>>,
    /// Passed along to the listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<Str<'a>>,
    /// The rules.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<SeccompRule<'a>>,
}

/// One entry of `linux.seccomp.syscalls`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompRule<'a> {
    /// System call names; a name the compiler does not know is skipped.
    #[serde(borrow)]
    pub names: Vec<Str<'a>>,
    /// `SCMP_ACT_…`.
    pub action: Str<'a>,
    /// Error number for ERRNO and TRACE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions; all must hold, unless an index repeats, which makes alternatives.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<SeccompArg<'a>>,
}

/// A condition on one argument.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompArg<'a> {
    /// 0 to 5.
    pub index: u32,
    /// Compared with the argument; the mask for `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// The value under the mask.
    #[serde(default, deserialize_with = "text::nullable")]
    pub value_two: u64,
    /// `SCMP_CMP_…`.
    #[serde(borrow)]
    pub op: Str<'a>,
}
