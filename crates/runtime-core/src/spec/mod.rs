//! The OCI runtime specification 1.3 as plain structs that borrow from the file's bytes. Not here: any check beyond JSON types
//! (`validate`), defaults of the runtime (`plan`).
//!
//! The structs have public fields and no behaviour beyond look-ups. Words such as a namespace's type stay text here: an unknown word is
//! an error with the field's path in `validate`, not a parse error. Unknown fields are ignored, as the specification demands
//! ("Extensibility"); the file's bytes are kept verbatim in the state directory.

mod defaults;
mod linux;
mod process;
mod resources;
mod seccomp;
mod text;

pub use defaults::DefaultSpec;
pub use linux::*;
pub use process::*;
pub use resources::*;
pub use seccomp::*;
pub use text::{Map, Str};

use crate::error::{Error, ErrorKind, Result};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// `config.json` (config.md).
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec<'a> {
    /// `ociVersion`: version of the specification the bundle complies with.
    #[serde(borrow)]
    pub oci_version: Str<'a>,
    /// `process`: absent only where `start` is never called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process<'a>>,
    /// `root`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root<'a>>,
    /// `hostname`; needs a UTS namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Str<'a>>,
    /// `domainname`; needs a UTS namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domainname: Option<Str<'a>>,
    /// `mounts`, in order.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount<'a>>,
    /// `hooks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks<'a>>,
    /// `annotations`.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Map::is_empty")]
    pub annotations: Map<'a, Str<'a>>,
    /// `linux`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux<'a>>,
    /// Sections of other platforms, present or not: a configuration that has one of them and no `linux` is not for this runtime.
    #[serde(default, skip_serializing)]
    pub freebsd: Option<IgnoredAny>,
    /// See [`freebsd`](Self::freebsd).
    #[serde(default, skip_serializing)]
    pub solaris: Option<IgnoredAny>,
    /// See [`freebsd`](Self::freebsd).
    #[serde(default, skip_serializing)]
    pub windows: Option<IgnoredAny>,
    /// See [`freebsd`](Self::freebsd).
    #[serde(default, skip_serializing)]
    pub zos: Option<IgnoredAny>,
}

/// `root`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Root<'a> {
    /// Path of the root file system, absolute or relative to the bundle.
    #[serde(borrow)]
    pub path: Str<'a>,
    /// Mount it read-only.
    #[serde(default, deserialize_with = "text::nullable")]
    pub readonly: bool,
}

/// One entry of `mounts`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount<'a> {
    /// Where in the container.
    #[serde(borrow)]
    pub destination: Str<'a>,
    /// `type`: a file system name of the kernel, or `bind`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub fstype: Option<Str<'a>>,
    /// Device, path (relative to the bundle for bind mounts) or a dummy name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Str<'a>>,
    /// Option words; `None` when the field is absent, which selects the runtime's defaults for some destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Vec<Str<'a>>>,
    /// `uidMappings` of an idmapped mount.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// `gidMappings` of an idmapped mount.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

/// `hooks` (config.md, POSIX-platform hooks).
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hooks<'a> {
    /// Deprecated; runs before `createRuntime`, in the runtime's namespaces.
    #[serde(borrow, default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook<'a>>,
    /// After the namespaces are made, before the root is changed, in the runtime's namespaces.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook<'a>>,
    /// The same moment, in the container's namespaces, path resolved in the runtime's.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook<'a>>,
    /// At `start`, before the program is executed, wholly in the container.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook<'a>>,
    /// After the program was started, in the runtime's namespaces.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook<'a>>,
    /// After the container is deleted, in the runtime's namespaces; failures are logged only.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook<'a>>,
}

/// One hook.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Hook<'a> {
    /// Absolute path of the program.
    #[serde(borrow)]
    pub path: Str<'a>,
    /// The whole argv; empty means `[path]`.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Str<'a>>,
    /// The whole environment.
    #[serde(default, deserialize_with = "text::nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<Str<'a>>,
    /// Seconds before the hook is killed; must be above zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

impl<'a> Spec<'a> {
    /// Parses the bytes of a `config.json`; the result borrows from them.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with the path of the offending field.
    pub fn parse(raw: &'a [u8]) -> Result<Self> {
        parse(raw)
    }

    /// The section `linux`, or an empty one.
    pub fn linux(&self) -> std::borrow::Cow<'_, Linux<'a>> {
        match &self.linux {
            Some(l) => std::borrow::Cow::Borrowed(l),
            None => std::borrow::Cow::Owned(Linux::default()),
        }
    }

    /// The value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(|v| &**v)
    }
}

/// Parses any of the model's types. The first attempt does not track paths; a failing one is repeated with tracking, so that only the
/// error case pays for it.
///
/// # Errors
/// [`ErrorKind::Invalid`]: `FIELD.PATH: what serde says at line L column C`.
pub fn parse<'a, T: Deserialize<'a>>(raw: &'a [u8]) -> Result<T> {
    serde_json::from_slice(raw).map_err(|plain| explained::<T>(raw, &plain))
}

// What it has on its stack is as large as the whole of a `T`, which nobody shall pay for who is right.
#[cold]
#[inline(never)]
fn explained<'a, T: Deserialize<'a>>(raw: &'a [u8], plain: &serde_json::Error) -> Error {
    let mut d = serde_json::Deserializer::from_slice(raw);
    let tracked = serde_path_to_error::deserialize::<_, T>(&mut d);
    let text = match tracked {
        Err(e) if e.path().iter().next().is_some() => format!("{}: {}", e.path(), e.inner()),
        _ => plain.to_string(),
    };
    // Keys are in it: a newline of theirs must not begin a line of somebody's log.
    Error::new(ErrorKind::Invalid, one_line(&text))
}

/// The text with its control characters escaped.
fn one_line(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    if text.contains(char::is_control) { text.chars().map(escaped).collect() } else { text.to_owned() }
}
