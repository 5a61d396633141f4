//! The seccomp trait: an OCI section goes in, a program for seccomp(2) comes out. Not here: installing it (the child does).

use crate::error::Result;
use crate::id::ContainerId;
use crate::spec::{Map, Str};
use std::os::fd::OwnedFd;
use std::path::Path;

/// What is to be compiled.
#[derive(Debug, Clone, Copy)]
pub struct SeccompRequest<'a> {
    /// The bytes of `linux.seccomp`, an object; unparsed, so that a cached filter costs no parsing.
    pub section: &'a str,
    /// `annotations`; the compiler reads those of its own.
    pub annotations: &'a Map<'a, Str<'a>>,
    /// Directory for compiled filters, made when missing; its owner and mode are checked before it is trusted. `None`: no cache.
    pub cache: Option<&'a Path>,
}

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompFilter {
    /// `struct sock_filter` array, 8 bytes an instruction, at most 4096 (BPF_MAXINSNS) of them.
    pub program: Vec<u8>,
    /// Flags for seccomp(2).
    pub flags: u32,
    /// Where the notify descriptor goes, for a filter with `SCMP_ACT_NOTIFY`.
    pub listener: Option<SeccompListener>,
}

/// Receiver of a notify descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompListener {
    /// Absolute path of a unix stream socket; empty where plugins answer ([`SeccompPlugins`]).
    pub path: String,
    /// Passed along.
    pub metadata: Option<String>,
}

impl SeccompListener {
    /// Whether plugins are meant, and no socket.
    pub fn is_plugins(&self) -> bool {
        self.path.is_empty()
    }
}

/// What plugins are told.
#[derive(Debug, Clone, Copy)]
pub struct PluginsRequest<'a> {
    /// The annotation's value: paths, with a colon in between.
    pub plugins: &'a str,
    /// The state directory.
    pub root: &'a Path,
    /// The container.
    pub id: &'a ContainerId,
    /// Its bundle.
    pub bundle: &'a Path,
    /// Its configuration.
    pub config: &'a Path,
}

/// Answers the notifications of seccomp filters by shared objects (`run.oci.seccomp.plugins`), for as long as a process has the filter.
pub trait SeccompPlugins: Send + Sync {
    /// Looks whether the plugins of a list are there and may be believed; loads none.
    ///
    /// # Errors
    /// Names the one that is not so.
    fn check(&self, list: &str) -> Result<()>;

    /// Begins to answer, in a process of its own. The calling process has one thread.
    ///
    /// # Errors
    /// A plugin cannot be loaded or started, with its own reason; nothing answers then.
    fn serve(&self, request: &PluginsRequest<'_>, notify: OwnedFd) -> Result<()>;
}

/// What a compiler knows, for `features`. Names as in the specification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeccompFeatures {
    /// `SCMP_ACT_…`.
    pub actions: Vec<&'static str>,
    /// `SCMP_CMP_…`.
    pub operators: Vec<&'static str>,
    /// `SCMP_ARCH_…`.
    pub archs: Vec<&'static str>,
    /// `SECCOMP_FILTER_FLAG_…` the compiler understands.
    pub known_flags: Vec<&'static str>,
    /// Those of them this kernel takes.
    pub supported_flags: Vec<&'static str>,
    /// Version of the library behind it, if there is one (`io.github.seccomp.libseccomp.version`).
    pub library_version: Option<String>,
}

/// Compiles seccomp sections.
pub trait SeccompCompiler: Send + Sync {
    /// The filter of a section, from the cache where it is there.
    ///
    /// # Errors
    /// Unknown words and contradictions, with crun's texts and the field's path.
    fn compile(&self, request: &SeccompRequest<'_>) -> Result<SeccompFilter>;

    /// What the compiler knows.
    fn features(&self) -> SeccompFeatures;
}
