//! The seccomp trait: an OCI section goes in, a program for seccomp(2) comes out. Not here: installing it (the child does).

use crate::error::Result;
use crate::spec::{Map, Str};
use std::path::Path;

/// Annotation: unix socket that receives the notify descriptor of a filter whose section names none.
pub const SECCOMP_RECEIVER: &str = "run.oci.seccomp.receiver";

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
    /// Absolute path of a unix stream socket.
    pub path: String,
    /// Passed along.
    pub metadata: Option<String>,
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
