//! OCI seccomp profiles to programs for seccomp(2), by a generator of our own or by libseccomp, with a cache of compiled filters.
//!
//! Here: the order of things, annotations, then the cache, then the compiler. The words of the specification are in
//! `words`, what a section says of calls in `profile`, the filter in `compile`, its program in `generate` or `library`, of instructions in `bpf`, the directory
//! of compiled filters in `cache` and the file format in `entry`, the answer to calls newer than a profile in `stub`. Not here: installing a filter and passing on its notify descriptor (the container's child does both), the
//! environment variable `RUN_OCI_SECCOMP_RECEIVER` (a library reads no environment: the caller adds the annotation).
//!
//! Linking: by default the shared libseccomp that pkg-config or the linker finds; with `LIBSECCOMP_LINK_TYPE=static` and
//! `LIBSECCOMP_LIB_PATH=DIR` in the build's environment the archive in that directory.
//!
//! Known limits of libseccomp: of two rules for the same call that both hold, the first counts only where neither has
//! conditions; 2.5.4 loops while exporting rules of different actions for one call that share a condition and differ in
//! another; on architectures of 32 bits it can compare an argument with what is meant for another where rules with several conditions
//! meet, and on any architecture its token with a number where a rule with conditions names a call that the architecture lacks. The
//! generator has none but the first; what may depend on the order of libseccomp's tree, it leaves to libseccomp.

mod annotations;
mod bpf;
mod cache;
mod compile;
mod entry;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod generate;
mod kernel;
mod library;
mod profile;
mod stub;
mod words;

use annotations::Options;
use compile::By;
use libseccomp::ScmpVersion;
use runtime_core::api::{SeccompCompiler, SeccompFeatures, SeccompFilter, SeccompRequest};
use runtime_core::{Error, Result};

pub use kernel::{FLAG_NEW_LISTENER, FLAG_TSYNC_ESRCH};

/// Changes whenever the same section gives another program or the cache's files another layout.
const FORMAT: u32 = 3;

/// Compiles by libseccomp alone.
///
/// [`SeccompFilter::flags`] is complete: where there is a listener, it holds `SECCOMP_FILTER_FLAG_NEW_LISTENER`, and
/// with `TSYNC` also `TSYNC_ESRCH`, without which the kernel refuses the two together (seccomp(2), Linux 5.7).
#[derive(Debug, Clone, Copy, Default)]
pub struct Libseccomp;

/// Compiles by the generator, and by libseccomp what the generator does not master. Both give the same verdicts; this one takes a
/// fortieth of the time. Flags are as with [`Libseccomp`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Generator;

impl Libseccomp {
    /// A compiler; it has no state.
    pub fn new() -> Self {
        Self
    }
}

impl Generator {
    /// A compiler; it has no state.
    pub fn new() -> Self {
        Self
    }
}

impl SeccompCompiler for Libseccomp {
    fn compile(&self, request: &SeccompRequest<'_>) -> Result<SeccompFilter> {
        compile(request, By::Library)
    }

    fn features(&self) -> SeccompFeatures {
        features()
    }
}

impl SeccompCompiler for Generator {
    fn compile(&self, request: &SeccompRequest<'_>) -> Result<SeccompFilter> {
        compile(request, By::Generator)
    }

    fn features(&self) -> SeccompFeatures {
        features()
    }
}

fn compile(request: &SeccompRequest<'_>, by: By) -> Result<SeccompFilter> {
    let options = Options::read(request.annotations)?;
    if let Some(encoded) = options.raw {
        return compile::raw(encoded, request.section, &options);
    }
    let Some(path) = request.cache else {
        return compile::section(request.section, &options, by);
    };
    let key = key(request.section, &options, by)?;
    let dir = match cache::Dir::open(path) {
        Ok(dir) => dir,
        // A filter that cannot be cached is still a filter.
        Err(error) => {
            tracing::warn!("seccomp cache not used: {error}");
            return compile::section(request.section, &options, by);
        }
    };
    match dir.find(&key) {
        Ok(Some(filter)) => return Ok(filter),
        Ok(None) => {}
        Err(error) => tracing::debug!("seccomp cache: {error}"),
    }
    let filter = compile::section(request.section, &options, by)?;
    if let Err(error) = dir.insert(&key, &filter) {
        tracing::debug!("seccomp cache: {error}");
    }
    Ok(filter)
}

fn features() -> SeccompFeatures {
    SeccompFeatures {
        actions: words::ACTIONS.to_vec(),
        operators: words::OPERATORS.iter().map(|(word, _)| *word).collect(),
        archs: words::known_architectures(),
        known_flags: words::FLAGS.iter().map(|(word, _)| *word).collect(),
        supported_flags: words::FLAGS.iter().filter(|(_, flag)| kernel::supports(*flag)).map(|(word, _)| *word).collect(),
        library_version: ScmpVersion::current().ok().map(|v| v.to_string()),
    }
}

/// The name of a filter in the cache: a hash of everything that decides its bytes, each part behind its length, so that
/// no two different inputs give the same stream.
fn key(section: &str, options: &Options<'_>, by: By) -> Result<cache::Key> {
    let version = ScmpVersion::current().map_err(|e| Error::other(format!("libseccomp: {e}")))?;
    let numbers = [FORMAT, version.major, version.minor, version.micro].map(u32::to_le_bytes);
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(b"pinnace seccomp filter");
    part(numbers.as_flattened());
    part(std::env::consts::ARCH.as_bytes());
    part(&[u8::from(by == By::Generator), u8::from(options.fail_unknown), u8::from(options.no_stub)]);
    // An absent receiver and an empty one are not the same.
    part(&[u8::from(options.receiver.is_some()), u8::from(options.plugins)]);
    part(options.receiver.unwrap_or_default().as_bytes());
    part(section.as_bytes());
    Ok(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_core::spec::Map;

    fn options<'a>(receiver: Option<&'a str>, fail_unknown: bool) -> Options<'a> {
        Options { receiver, fail_unknown, ..Options::default() }
    }

    #[test]
    fn everything_that_decides_the_filter_is_in_the_key() {
        let key = |section, options: &Options<'_>| key(section, options, By::Generator);
        let base = key("{}", &options(None, false)).unwrap();
        assert_ne!(base, super::key("{}", &options(None, false), By::Library).unwrap());
        assert_eq!(base, key("{}", &options(None, false)).unwrap());
        for other in [
            key("{} ", &options(None, false)),
            key("{}", &options(None, true)),
            key("{}", &Options { no_stub: true, ..Options::default() }),
            key("{}", &options(Some(""), false)),
            key("{}", &Options { plugins: true, ..Options::default() }),
            key("", &options(Some("{}"), false)),
        ] {
            assert_ne!(base, other.unwrap());
        }
    }

    #[test]
    fn profiles_that_differ_in_one_rules_errno_do_not_share_an_entry() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let section = |errno: u32| {
            format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":{errno}}}]}}"#
            )
        };
        let annotations = Map::default();
        let compile = |section: &str| {
            let request = SeccompRequest { section, annotations: &annotations, cache: Some(&cache) };
            Generator::new().compile(&request).unwrap()
        };
        let (one, two) = (compile(&section(1)), compile(&section(2)));
        assert_ne!(one.program, two.program);
        assert_eq!(compile(&section(1)), one);
        assert_eq!(compile(&section(2)), two);
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 2);
    }

    #[test]
    fn a_directory_that_cannot_be_trusted_is_left_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        std::fs::create_dir(&cache).unwrap();
        std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o777)).unwrap();
        let annotations = Map::default();
        let request = SeccompRequest { section: r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#, annotations: &annotations, cache: Some(&cache) };
        assert!(!Generator::new().compile(&request).unwrap().program.is_empty());
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 0);
    }

    #[test]
    fn features_name_what_the_specification_names() {
        let features = Generator::new().features();
        assert_eq!(features.actions.len(), 9);
        assert_eq!(features.operators.first(), Some(&"SCMP_CMP_NE"));
        for arch in ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64", "SCMP_ARCH_S390X"] {
            assert!(features.archs.contains(&arch), "{arch} is missing in {:?}", features.archs);
        }
        assert!(features.supported_flags.iter().all(|flag| features.known_flags.contains(flag)));
        assert!(features.library_version.is_some_and(|v| v.starts_with("2.")));
    }
}
