//! `/.krun_vm.json` and `/krun-sev.json` of an image: their fields, and how they are read when the image is a stranger's. Not here: what the
//! fields mean for a machine (`settings`).
//!
//! The image chooses what these names are. A link is not followed, since it would lead anywhere on the host; nothing but a regular file is opened,
//! since a fifo waits for ever and a device does things; and no more is read than a file of this kind can have.

use crate::io;
use runtime_core::spec::{Spec, Str, parse};
use runtime_core::{Context, Error, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;
use serde::{Deserialize, Deserializer};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The file's name in the root directory of an image.
pub const NAME: &str = ".krun_vm.json";
/// The name of the description of a machine with encrypted memory, which libkrun reads itself.
pub const SEV_NAME: &str = "krun-sev.json";
/// No such file is longer, bytes; theirs have a few hundred.
const LONGEST: usize = 64 * 1024;

/// The fields; the names are crun's. Others are ignored, and null is absent.
#[derive(Debug, Default, Deserialize)]
pub struct VmFile<'a> {
    /// Virtual processors.
    pub cpus: Option<i64>,
    /// Memory, MiB.
    pub ram_mib: Option<i64>,
    /// Flags of virglrenderer.
    pub gpu_flags: Option<i64>,
    /// Network by passt.
    pub use_passt: Option<Switch>,
    /// Guests of the guest.
    pub nested_virt: Option<Switch>,
    /// `sev` or `aws-nitro`.
    #[serde(borrow)]
    pub flavor: Option<Str<'a>>,
    /// Kernel in the image.
    pub kernel_path: Option<Str<'a>>,
    /// Its kind.
    pub kernel_format: Option<i64>,
    /// Initial file system in the image.
    pub initrd_path: Option<Str<'a>>,
    /// Command line of the kernel.
    pub kernel_cmdline: Option<Str<'a>>,
    /// Tag of the root file system.
    pub virtiofs_tag: Option<Str<'a>>,
    /// Size of its window, bytes.
    pub virtiofs_shm_size: Option<i64>,
}

impl<'a> VmFile<'a> {
    /// Reads the fields.
    ///
    /// # Errors
    /// No JSON object, or a field of another type, by its name.
    pub fn parse(raw: &'a [u8]) -> Result<Self> {
        parse(raw)
    }
}

/// `true`, `false`, 1 or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch(pub bool);

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected true, false, 1 or 0")]
        enum Form {
            Word(bool),
            Number(i64),
        }
        match Form::deserialize(d)? {
            Form::Word(on) => Ok(Self(on)),
            Form::Number(n @ (0 | 1)) => Ok(Self(n == 1)),
            Form::Number(_) => Err(serde::de::Error::custom("expected true, false, 1 or 0")),
        }
    }
}

/// What an image has for this handler.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The content of [`NAME`], if it is there.
    pub vm: Option<Vec<u8>>,
    /// It has [`SEV_NAME`].
    pub sev: bool,
}

/// Looks into the root file system on the host. A file that the configuration mounts at the place of [`NAME`] comes before the image's.
///
/// # Errors
/// One of them is no regular file, is too long, or cannot be read.
pub fn find(rootfs: &Path, spec: &Spec<'_>) -> Result<Found> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, rootfs, flags, Mode::empty()).map_err(io).context(|| format!("open the rootfs `{}`", rootfs.display()))?;
    let vm = match mounted(spec) {
        Some(source) => Some(read(open(source)?.as_fd()).context(|| format!("`{}`", source.display()))?),
        None => regular(&root, NAME)?.map(|file| read(file.as_fd()).context(|| shown(NAME))).transpose()?,
    };
    Ok(Found { vm, sev: regular(&root, SEV_NAME)?.is_some() })
}

/// The source of a bind mount upon the file. Its path is the engine's, and links in it are for the mount to follow.
fn mounted<'a>(spec: &'a Spec<'_>) -> Option<&'a Path> {
    let upon = spec.mounts.iter().rfind(|m| m.destination.trim_matches('/') == NAME)?;
    upon.source.as_deref().map(Path::new).filter(|source| source.is_absolute())
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(io).context(|| format!("open `{}`", path.display()))
}

/// Opens a regular file of the root directory; `None` where there is nothing of the name. It is looked at before it is opened, and again
/// after: opening something else has effects.
fn regular(root: &OwnedFd, name: &str) -> Result<Option<OwnedFd>> {
    match statat(root, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(io(e)).context(|| shown(name)),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => return Err(odd(name)),
        Ok(_) => {}
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(root, name, flags, Mode::empty()).map(Some).map_err(io).context(|| format!("open {}", shown(name)))
}

/// All of a regular file.
fn read(fd: impl AsFd) -> Result<Vec<u8>> {
    let stat = fstat(&fd).map_err(io).context(|| "stat")?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::invalid("is not a regular file"));
    }
    let file = File::from(fd.as_fd().try_clone_to_owned().context(|| "duplicate")?);
    let mut bytes = Vec::new();
    file.take(LONGEST as u64 + 1).read_to_end(&mut bytes).context(|| "read")?;
    if bytes.len() > LONGEST {
        return Err(Error::invalid(format!("is longer than {LONGEST} bytes")));
    }
    Ok(bytes)
}

/// As the container sees it.
pub(crate) fn shown(name: &str) -> String {
    format!("`/{name}` of the root file system")
}

fn odd(name: &str) -> Error {
    Error::invalid("is not a regular file").context(shown(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mknodat;
    use std::os::unix::fs::symlink;

    fn image() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn spec(mounts: &str) -> Vec<u8> {
        format!(r#"{{"ociVersion":"1.0.0","mounts":[{mounts}]}}"#).into_bytes()
    }

    fn found(root: &Path, mounts: &str) -> Result<Found> {
        let raw = spec(mounts);
        find(root, &parse::<Spec<'_>>(&raw).unwrap())
    }

    #[test]
    fn files_are_read_and_may_be_missing() {
        let root = image();
        assert_eq!(found(root.path(), "").unwrap(), Found { vm: None, sev: false });
        std::fs::write(root.path().join(NAME), r#"{"cpus":2}"#).unwrap();
        std::fs::write(root.path().join(SEV_NAME), "{}").unwrap();
        assert_eq!(found(root.path(), "").unwrap(), Found { vm: Some(br#"{"cpus":2}"#.to_vec()), sev: true });
    }

    #[test]
    fn a_mounted_file_comes_before_the_images() {
        let root = image();
        let other = root.path().join("other");
        std::fs::write(root.path().join(NAME), "image").unwrap();
        std::fs::write(&other, "mounted").unwrap();
        let mount = |source: &str| format!(r#"{{"destination":"/{NAME}","type":"bind","source":"{source}"}}"#);
        assert_eq!(found(root.path(), &mount(other.to_str().unwrap())).unwrap().vm, Some(b"mounted".to_vec()));
        let missing = found(root.path(), &mount("/nothing/here")).unwrap_err().to_string();
        assert_eq!(missing, "open `/nothing/here`: No such file or directory");
        let device = found(root.path(), &mount("/dev/null")).unwrap_err().to_string();
        assert_eq!(device, "`/dev/null`: is not a regular file");
    }

    #[test]
    fn what_is_no_regular_file_is_neither_followed_nor_opened() {
        let secret = image();
        std::fs::write(secret.path().join("x"), r#"{"cpus":2}"#).unwrap();
        type Make = fn(&Path, &Path);
        let kinds: [(&str, Make); 4] = [
            ("link", |at, to| symlink(to, at).unwrap()),
            ("dangling", |at, _| symlink("/nothing/here", at).unwrap()),
            ("directory", |at, _| std::fs::create_dir(at).unwrap()),
            // Nobody writes to it: opening it for reading would wait for ever.
            ("fifo", |at, _| mknodat(CWD, at, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap()),
        ];
        for (kind, make) in kinds {
            for name in [NAME, SEV_NAME] {
                let root = image();
                make(&root.path().join(name), &secret.path().join("x"));
                let error = found(root.path(), "").unwrap_err().to_string();
                assert_eq!(error, format!("`/{name}` of the root file system: is not a regular file"), "{kind}");
            }
        }
    }

    #[test]
    fn a_file_without_end_is_not_read_to_it() {
        let root = image();
        let file = File::create(root.path().join(NAME)).unwrap();
        file.set_len(1 << 40).unwrap();
        let error = found(root.path(), "").unwrap_err().to_string();
        assert_eq!(error, "`/.krun_vm.json` of the root file system: is longer than 65536 bytes");
        file.set_len(LONGEST as u64).unwrap();
        assert_eq!(found(root.path(), "").unwrap().vm.map(|v| v.len()), Some(LONGEST));
    }

    #[test]
    fn broken_content_is_named() {
        for (text, want) in [
            ("", "EOF while parsing a value"),
            ("{", "EOF while parsing an object"),
            ("7", "invalid type: integer `7`"),
            (r#"{"cpus":"2"}"#, "cpus: invalid type: string \"2\", expected i64"),
            (r#"{"cpus":1.5}"#, "cpus: invalid type: floating point `1.5`, expected i64"),
            (r#"{"use_passt":2}"#, "use_passt: expected true, false, 1 or 0"),
            (r#"{"nested_virt":"true"}"#, "nested_virt: expected true, false, 1 or 0"),
            (r#"{"kernel_path":[]}"#, "kernel_path: invalid type: sequence"),
        ] {
            let error = VmFile::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
        // As deep as a file can be, in a field that is ignored and in one that isn't: neither costs a stack.
        let deep = |field: &str| format!(r#"{{"{field}":{}1{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert!(VmFile::parse(deep("other").as_bytes()).is_ok());
        let error = VmFile::parse(deep("flavor").as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("flavor: invalid type: sequence"), "{error}");
    }
}
