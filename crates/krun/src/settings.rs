//! What a virtual machine is to be like: the annotations of the configuration, the image's own `/.krun_vm.json`, and what holds where
//! neither says anything. Pure. Not here: reading that file safely (`vm_file`), what libkrun is told (`calls`).

use crate::vm_file::VmFile;
use runtime_core::api::annotations::{KRUN_CPUS, KRUN_GPU_FLAGS, KRUN_NESTED_VIRT, KRUN_RAM_MIB, KRUN_USE_PASST, KRUN_VARIANT};
use runtime_core::spec::Spec;
use runtime_core::{Error, Result};
use std::ffi::CString;

/// As many virtual processors as libkrun can give a machine.
pub const MOST_CPUS: u8 = 16;
/// A machine with less memory does not come up, MiB.
pub const LEAST_RAM: u32 = 128;
/// A machine's memory where nothing says it, MiB.
pub const DEFAULT_RAM: u32 = 1024;
/// The tag by which the guest's kernel knows its root file system.
pub const ROOT_TAG: &str = "/dev/root";
/// The window through which the guest maps files of the root, where nothing says its size: what libkrun takes by itself, bytes.
pub const ROOT_WINDOW: u64 = 1 << 29;
/// Kinds of kernel images that libkrun knows, from 0: raw, ELF, PE in gzip, image in bzip2, gzip and zstd (libkrun.h, `KRUN_KERNEL_FORMAT_*`).
const KERNEL_FORMATS: u32 = 6;
const MIB: i64 = 1 << 20;

/// The build of libkrun that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Variant {
    /// A machine of KVM's.
    #[default]
    Standard,
    /// One whose memory the processor encrypts (AMD SEV); all of it is in `/krun-sev.json` and `/disk.img` of the image.
    Sev,
    /// An enclave of AWS Nitro.
    AwsNitro,
}

impl Variant {
    /// By the word in an annotation or a file.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "sev" => Some(Self::Sev),
            "aws-nitro" => Some(Self::AwsNitro),
            _ => None,
        }
    }

    /// The file name of the library.
    pub fn library(self) -> &'static str {
        match self {
            Self::Standard => "libkrun.so.1",
            Self::Sev => "libkrun-sev.so.1",
            Self::AwsNitro => "libkrun-awsnitro.so.1",
        }
    }
}

/// What the annotations say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// `krun.cpus`.
    pub cpus: Option<u8>,
    /// `krun.ram_mib`.
    pub ram_mib: Option<u32>,
    /// `krun.gpu_flags`.
    pub gpu_flags: Option<u32>,
    /// `krun.use_passt`.
    pub use_passt: Option<bool>,
    /// `krun.nested_virt`.
    pub nested_virt: Option<bool>,
    /// `krun.variant`.
    pub variant: Option<Variant>,
}

impl Wishes {
    /// Reads them.
    ///
    /// # Errors
    /// A value that is none of those an annotation can have, with the annotation's name.
    pub fn read(spec: &Spec<'_>) -> Result<Self> {
        fn one<T>(spec: &Spec<'_>, name: &str, what: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
            let wrong = |value: &str| Error::invalid(format!("annotation `{name}`: `{value}` is not {what}"));
            spec.annotation(name).map(|value| read(value).ok_or_else(|| wrong(value))).transpose()
        }
        let variant = |word: &str| if word.is_empty() { Some(Variant::Standard) } else { Variant::named(word) };
        Ok(Self {
            cpus: one(spec, KRUN_CPUS, "a number from 1 to 16", |v| number(v).and_then(cpus))?,
            ram_mib: one(spec, KRUN_RAM_MIB, "a number of MiB, 128 or more", |v| number(v).and_then(ram_mib))?,
            gpu_flags: one(spec, KRUN_GPU_FLAGS, "a number of 32 bits", number)?,
            use_passt: one(spec, KRUN_USE_PASST, "one of 1, true, 0, false", switch)?,
            nested_virt: one(spec, KRUN_NESTED_VIRT, "one of 1, true, 0, false", switch)?,
            variant: one(spec, KRUN_VARIANT, "one of sev, aws-nitro", variant)?,
        })
    }
}

fn cpus(n: u32) -> Option<u8> {
    u8::try_from(n).ok().filter(|n| (1..=MOST_CPUS).contains(n))
}

fn ram_mib(n: u32) -> Option<u32> {
    (n >= LEAST_RAM).then_some(n)
}

/// Decimal, or hexadecimal after `0x`, without signs and spaces.
fn number(text: &str) -> Option<u32> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    plain.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// A kernel in the image, in place of the one that comes with libkrun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Path in the container.
    pub path: CString,
    /// Its kind, by libkrun's number.
    pub format: u32,
    /// The initial file system, a path in the container.
    pub initrd: Option<CString>,
    /// The command line.
    pub cmdline: Option<CString>,
}

/// How the guest gets its root file system, where that is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The tag.
    pub tag: CString,
    /// Size of the window, bytes; 0 for none.
    pub shm_size: u64,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The library.
    pub variant: Variant,
    /// Virtual processors; `None`: as many as the container's process may run on, [`MOST_CPUS`] at most.
    pub cpus: Option<u8>,
    /// Memory, MiB.
    pub ram_mib: u32,
    /// Flags of virglrenderer for a GPU; `None` for no GPU.
    pub gpu_flags: Option<u32>,
    /// The network is passt's, not the library's own forwarding of sockets.
    pub use_passt: bool,
    /// Guests of the guest.
    pub nested_virt: bool,
    /// The image's kernel.
    pub kernel: Option<Kernel>,
    /// The root file system.
    pub root: Option<Root>,
}

impl Settings {
    /// The annotations come before the file: an engine writes them, and the image the file. `sev_file` is whether the image has a
    /// `/krun-sev.json`, which asks for SEV where nothing else is said. `limit` is the memory limit in bytes, which the machine's memory
    /// is where neither says it.
    ///
    /// # Errors
    /// Fields of the file that are out of their range or lack another, by their name.
    pub fn combine(wishes: &Wishes, file: &VmFile<'_>, sev_file: bool, limit: Option<i64>) -> Result<Self> {
        let flavor = match file.flavor.as_deref() {
            None | Some("") => None,
            Some(word) => Some(Variant::named(word).ok_or_else(|| wrong("flavor", word, "one of sev, aws-nitro"))?),
        };
        let in_image = flavor.or(sev_file.then_some(Variant::Sev));
        let file_cpus = ranged(file.cpus, "cpus", "a number from 1 to 16", |n| u32::try_from(n).ok().and_then(cpus))?;
        let file_ram = ranged(file.ram_mib, "ram_mib", "a number of MiB, 128 or more", |n| u32::try_from(n).ok().and_then(ram_mib))?;
        let file_gpu = ranged(file.gpu_flags, "gpu_flags", "a number of 32 bits", |n| u32::try_from(n).ok())?;
        Ok(Self {
            variant: wishes.variant.or(in_image).unwrap_or_default(),
            cpus: wishes.cpus.or(file_cpus),
            ram_mib: wishes.ram_mib.or(file_ram).unwrap_or_else(|| by_limit(limit)),
            gpu_flags: wishes.gpu_flags.or(file_gpu),
            use_passt: wishes.use_passt.or(file.use_passt.map(|s| s.0)).unwrap_or(false),
            nested_virt: wishes.nested_virt.or(file.nested_virt.map(|s| s.0)).unwrap_or(false),
            kernel: kernel(file)?,
            root: root(file)?,
        })
    }
}

/// The machine's memory by the container's limit: what cannot be meant (none, or more than any machine has) counts as none.
fn by_limit(limit: Option<i64>) -> u32 {
    let mib = limit.filter(|&l| l > 0).and_then(|l| u32::try_from(l / MIB).ok());
    mib.map_or(DEFAULT_RAM, |mib| mib.max(LEAST_RAM))
}

fn wrong(field: &str, value: impl std::fmt::Display, what: &str) -> Error {
    Error::invalid(format!("{field}: `{value}` is not {what}"))
}

fn ranged<T>(value: Option<i64>, field: &str, what: &str, read: impl Fn(i64) -> Option<T>) -> Result<Option<T>> {
    value.map(|n| read(n).ok_or_else(|| wrong(field, n, what))).transpose()
}

fn text(value: Option<&str>, field: &str) -> Result<Option<CString>> {
    value.map(|t| CString::new(t).map_err(|_| Error::invalid(format!("{field}: contains a NUL byte")))).transpose()
}

fn kernel(file: &VmFile<'_>) -> Result<Option<Kernel>> {
    let kind = |n: i64| u32::try_from(n).ok().filter(|n| *n < KERNEL_FORMATS);
    let format = ranged(file.kernel_format, "kernel_format", "a kind of kernel from 0 to 5", kind)?;
    let initrd = text(file.initrd_path.as_deref(), "initrd_path")?;
    let cmdline = text(file.kernel_cmdline.as_deref(), "kernel_cmdline")?;
    let needs = |field: &str, other: &str| Error::invalid(format!("{field}: needs {other}"));
    match (text(file.kernel_path.as_deref(), "kernel_path")?, format) {
        (Some(path), Some(format)) => Ok(Some(Kernel { path, format, initrd, cmdline })),
        (Some(_), None) => Err(needs("kernel_path", "kernel_format")),
        (None, Some(_)) => Err(needs("kernel_format", "kernel_path")),
        (None, None) if initrd.is_some() => Err(needs("initrd_path", "kernel_path")),
        (None, None) if cmdline.is_some() => Err(needs("kernel_cmdline", "kernel_path")),
        (None, None) => Ok(None),
    }
}

fn root(file: &VmFile<'_>) -> Result<Option<Root>> {
    let size = ranged(file.virtiofs_shm_size, "virtiofs_shm_size", "a number of bytes", |n| u64::try_from(n).ok())?;
    let tag = text(file.virtiofs_tag.as_deref(), "virtiofs_tag")?;
    if tag.as_ref().is_some_and(|tag| tag.is_empty()) {
        return Err(Error::invalid("virtiofs_tag: is empty"));
    }
    if tag.is_none() && size.is_none() {
        return Ok(None);
    }
    let tag = tag.map_or_else(|| text(Some(ROOT_TAG), "virtiofs_tag"), |tag| Ok(Some(tag)))?;
    Ok(tag.map(|tag| Root { tag, shm_size: size.unwrap_or(ROOT_WINDOW) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_core::spec::parse;

    fn wishes(annotations: &str) -> Result<Wishes> {
        let text = format!(r#"{{"ociVersion":"1.0.0","annotations":{{{annotations}}}}}"#);
        Wishes::read(&parse::<Spec<'_>>(text.as_bytes()).unwrap())
    }

    fn settings(annotations: &str, file: &str, sev_file: bool, limit: Option<i64>) -> Result<Settings> {
        Settings::combine(&wishes(annotations)?, &VmFile::parse(file.as_bytes())?, sev_file, limit)
    }

    fn plain() -> Settings {
        Settings { ram_mib: DEFAULT_RAM, ..Settings::default() }
    }

    #[test]
    fn nothing_said_is_the_default_machine() {
        assert_eq!(settings("", "{}", false, None).unwrap(), plain());
        // Not for this handler, or null.
        let file = r#"{"other":{"deep":[1]},"cpus":null,"ram_mib":null,"kernel_path":null,"virtiofs_tag":null,"use_passt":null}"#;
        assert_eq!(settings(r#""krun.other":"x""#, file, false, None).unwrap(), plain());
    }

    #[test]
    fn each_annotation_and_each_field_means_the_same_and_the_annotation_comes_first() {
        type Case = (&'static str, &'static str, &'static str, Settings);
        let cases: [Case; 6] = [
            (r#""krun.cpus":"3""#, r#"{"cpus":3}"#, r#"{"cpus":5}"#, Settings { cpus: Some(3), ..plain() }),
            (r#""krun.ram_mib":"2048""#, r#"{"ram_mib":2048}"#, r#"{"ram_mib":128}"#, Settings { ram_mib: 2048, ..plain() }),
            (r#""krun.gpu_flags":"0x40""#, r#"{"gpu_flags":64}"#, r#"{"gpu_flags":1}"#, Settings { gpu_flags: Some(64), ..plain() }),
            (r#""krun.use_passt":"1""#, r#"{"use_passt":true}"#, r#"{"use_passt":false}"#, Settings { use_passt: true, ..plain() }),
            (r#""krun.nested_virt":"true""#, r#"{"nested_virt":1}"#, r#"{"nested_virt":0}"#, Settings { nested_virt: true, ..plain() }),
            (r#""krun.variant":"sev""#, r#"{"flavor":"sev"}"#, r#"{"flavor":"aws-nitro"}"#, Settings { variant: Variant::Sev, ..plain() }),
        ];
        for (annotation, field, other, want) in cases {
            assert_eq!(settings(annotation, "{}", false, None).unwrap(), want, "{annotation}");
            assert_eq!(settings("", field, false, None).unwrap(), want, "{field}");
            assert_eq!(settings(annotation, other, false, None).unwrap(), want, "{annotation} {other}");
        }
        // Off is off, whatever the image wants.
        let off = settings(r#""krun.use_passt":"0","krun.nested_virt":"false""#, r#"{"use_passt":1,"nested_virt":true}"#, false, None);
        assert_eq!(off.unwrap(), plain());
    }

    #[test]
    fn annotations_out_of_their_range_are_named() {
        for (name, values, what) in [
            ("krun.cpus", &["0", "17", "256", "-1", "", " 1", "1 ", "two", "1.5", "+2", "99999999999"][..], "a number from 1 to 16"),
            ("krun.ram_mib", &["127", "0", "-1", "4294967296", "1G", ""], "a number of MiB, 128 or more"),
            ("krun.gpu_flags", &["-1", "4294967296", "0x", "0xg", "venus", ""], "a number of 32 bits"),
            ("krun.use_passt", &["", "yes", "2", "TRUE"], "one of 1, true, 0, false"),
            ("krun.nested_virt", &["on", "-0"], "one of 1, true, 0, false"),
            ("krun.variant", &["SEV", "tdx", "aws"], "one of sev, aws-nitro"),
        ] {
            for value in values {
                let error = wishes(&format!(r#""{name}":"{value}""#)).unwrap_err().to_string();
                assert_eq!(error, format!("annotation `{name}`: `{value}` is not {what}"));
            }
        }
        assert_eq!(wishes(r#""krun.cpus":"16","krun.ram_mib":"128""#).unwrap().cpus, Some(16));
        assert_eq!(wishes(r#""krun.variant":"""#).unwrap().variant, Some(Variant::Standard));
    }

    #[test]
    fn fields_out_of_their_range_are_named() {
        for (file, want) in [
            (r#"{"cpus":0}"#, "cpus: `0` is not a number from 1 to 16"),
            (r#"{"cpus":257}"#, "cpus: `257` is not a number from 1 to 16"),
            (r#"{"ram_mib":127}"#, "ram_mib: `127` is not a number of MiB, 128 or more"),
            (r#"{"gpu_flags":-1}"#, "gpu_flags: `-1` is not a number of 32 bits"),
            (r#"{"flavor":"efi"}"#, "flavor: `efi` is not one of sev, aws-nitro"),
            (r#"{"kernel_path":"/k"}"#, "kernel_path: needs kernel_format"),
            (r#"{"kernel_format":1}"#, "kernel_format: needs kernel_path"),
            (r#"{"kernel_path":"/k","kernel_format":6}"#, "kernel_format: `6` is not a kind of kernel from 0 to 5"),
            (r#"{"kernel_path":"/k","kernel_format":-1}"#, "kernel_format: `-1` is not a kind of kernel from 0 to 5"),
            (r#"{"kernel_path":"a\u0000b","kernel_format":1}"#, "kernel_path: contains a NUL byte"),
            (r#"{"initrd_path":"/i"}"#, "initrd_path: needs kernel_path"),
            (r#"{"kernel_cmdline":"quiet"}"#, "kernel_cmdline: needs kernel_path"),
            (r#"{"virtiofs_tag":""}"#, "virtiofs_tag: is empty"),
            (r#"{"virtiofs_shm_size":-1}"#, "virtiofs_shm_size: `-1` is not a number of bytes"),
        ] {
            assert_eq!(settings("", file, false, None).unwrap_err().to_string(), want, "{file}");
        }
    }

    #[test]
    fn memory_is_the_limit_where_nothing_says_it() {
        for (limit, want) in [
            (None, 1024),
            (Some(-1), 1024),
            (Some(0), 1024),
            (Some(512 * MIB), 512),
            (Some(512 * MIB + 1), 512),
            (Some(4 * MIB), 128),
            (Some(i64::MAX), 1024),
        ] {
            assert_eq!(settings("", "{}", false, limit).unwrap().ram_mib, want, "{limit:?}");
            assert_eq!(settings("", r#"{"ram_mib":256}"#, false, limit).unwrap().ram_mib, 256);
        }
    }

    #[test]
    fn kernel_and_root_of_the_image() {
        let file = r#"{"kernel_path":"/k","kernel_format":2,"initrd_path":"/i","kernel_cmdline":"quiet a=b"}"#;
        let want = Kernel { path: c"/k".into(), format: 2, initrd: Some(c"/i".into()), cmdline: Some(c"quiet a=b".into()) };
        assert_eq!(settings("", file, false, None).unwrap().kernel, Some(want));
        for (file, tag, size) in [
            (r#"{"virtiofs_tag":"t"}"#, c"t", ROOT_WINDOW),
            (r#"{"virtiofs_shm_size":4096}"#, c"/dev/root", 4096),
            (r#"{"virtiofs_tag":"t","virtiofs_shm_size":0}"#, c"t", 0),
        ] {
            assert_eq!(settings("", file, false, None).unwrap().root, Some(Root { tag: tag.into(), shm_size: size }), "{file}");
        }
    }

    #[test]
    fn a_file_for_sev_asks_for_it_where_nothing_else_is_said() {
        let variant = |annotations, file| settings(annotations, file, true, None).unwrap().variant;
        assert_eq!(variant("", "{}"), Variant::Sev);
        assert_eq!(variant("", r#"{"flavor":"aws-nitro"}"#), Variant::AwsNitro);
        assert_eq!(variant(r#""krun.variant":"aws-nitro""#, r#"{"flavor":"sev"}"#), Variant::AwsNitro);
    }
}
