//! What libkrun is told about a machine, as data: settings → calls, in order. Pure. Not here: making the calls (`library`), where the
//! settings come from (`settings`).

use crate::settings::{Root, Settings, Variant};
use runtime_core::{Error, Result};
use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

/// Where a machine for SEV has its root file system, in the image.
const SEV_DISK: &CStr = c"/disk.img";
/// Where it has its description.
const SEV_CONFIG: &CStr = c"/krun-sev.json";
/// What a machine of Nitro's writes to.
const NITRO_OUTPUT: &CStr = c"/dev/stdout";

/// A call of libkrun's for the machine that is being made (libkrun.h of 1.19).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// `krun_set_vm_config`. Without a number, as many processors as the calling process may run on.
    VmConfig {
        /// Virtual processors.
        cpus: Option<u8>,
        /// MiB.
        ram_mib: u32,
    },
    /// `krun_set_root`: a directory that becomes the guest's root.
    Root(CString),
    /// `krun_add_virtiofs2`: the same with a tag and the size of its window.
    Virtiofs {
        /// Tag.
        tag: CString,
        /// Directory.
        path: CString,
        /// Bytes; 0 for no window.
        shm_size: u64,
    },
    /// `krun_set_root_disk`: an image of a disk that becomes the guest's root.
    RootDisk(CString),
    /// `krun_set_tee_config_file`.
    TeeConfig(CString),
    /// `krun_set_kernel`.
    Kernel {
        /// Path.
        path: CString,
        /// Kind.
        format: u32,
        /// Initial file system.
        initrd: Option<CString>,
        /// Command line.
        cmdline: Option<CString>,
    },
    /// `krun_set_gpu_options`, with flags of virglrenderer.
    Gpu(u32),
    /// `krun_set_nested_virt`, to true.
    NestedVirt,
    /// `krun_set_exec`: the program, its arguments without its own name, and its environment.
    Exec {
        /// Program.
        path: CString,
        /// Arguments.
        args: Vec<CString>,
        /// Environment.
        env: Vec<CString>,
    },
    /// `krun_set_console_output`.
    ConsoleOutput(CString),
    /// `krun_add_net_unixstream` with a connected socket of passt's.
    Net(RawFd),
}

impl Call {
    /// The function.
    pub fn symbol(&self) -> &'static str {
        match self {
            Self::VmConfig { .. } => "krun_set_vm_config",
            Self::Root(_) => "krun_set_root",
            Self::Virtiofs { .. } => "krun_add_virtiofs2",
            Self::RootDisk(_) => "krun_set_root_disk",
            Self::TeeConfig(_) => "krun_set_tee_config_file",
            Self::Kernel { .. } => "krun_set_kernel",
            Self::Gpu(_) => "krun_set_gpu_options",
            Self::NestedVirt => "krun_set_nested_virt",
            Self::Exec { .. } => "krun_set_exec",
            Self::ConsoleOutput(_) => "krun_set_console_output",
            Self::Net(_) => "krun_add_net_unixstream",
        }
    }

    /// What it does, for messages.
    pub fn describe(&self) -> String {
        match self {
            Self::VmConfig { .. } => "set the processors and the memory of the virtual machine".into(),
            Self::Root(path) => format!("set the root `{}`", path.to_string_lossy()),
            Self::Virtiofs { tag, .. } => format!("set the root with the tag `{}`", tag.to_string_lossy()),
            Self::RootDisk(path) => format!("set the root disk `{}`", path.to_string_lossy()),
            Self::TeeConfig(path) => format!("take the description `{}`", path.to_string_lossy()),
            Self::Kernel { path, .. } => format!("set the kernel `{}`", path.to_string_lossy()),
            Self::Gpu(flags) => format!("set the GPU's flags {flags:#x}"),
            Self::NestedVirt => "enable nested virtualization".into(),
            Self::Exec { path, .. } => format!("set the program `{}`", path.to_string_lossy()),
            Self::ConsoleOutput(path) => format!("set the output `{}`", path.to_string_lossy()),
            Self::Net(_) => "add the network".into(),
        }
    }

    /// Whether the library opens descriptors for it, which must stay open until the machine runs.
    pub fn keeps_descriptors(&self) -> bool {
        matches!(self, Self::Net(_))
    }
}

/// The program of a container, for a library that has to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    /// The program.
    pub path: Vec<u8>,
    /// Its arguments, its own name first.
    pub args: Vec<Vec<u8>>,
    /// `NAME=value` each.
    pub env: Vec<Vec<u8>>,
}

/// The calls for a machine, all before `krun_start_enter`. `passt` is the socket where the settings want that network. All but a machine of
/// Nitro's learn their program from `/.krun_config.json`.
///
/// # Errors
/// NUL in the program's strings.
pub fn calls(settings: &Settings, workload: &Workload, passt: Option<RawFd>) -> Result<Vec<Call>> {
    let mut calls = Vec::new();
    if settings.variant == Variant::Sev {
        // The description has everything else; the machine is measured with it.
        return Ok(vec![Call::RootDisk(SEV_DISK.into()), Call::TeeConfig(SEV_CONFIG.into())]);
    }
    calls.push(Call::VmConfig { cpus: settings.cpus, ram_mib: settings.ram_mib });
    calls.push(match settings.root.clone().filter(|_| settings.variant == Variant::Standard) {
        Some(Root { tag, shm_size }) => Call::Virtiofs { tag, path: c"/".into(), shm_size },
        None => Call::Root(c"/".into()),
    });
    if settings.variant == Variant::AwsNitro {
        calls.push(exec(workload)?);
        calls.push(Call::ConsoleOutput(NITRO_OUTPUT.into()));
    } else {
        calls.extend(settings.kernel.clone().map(|k| Call::Kernel {
            path: k.path,
            format: k.format,
            initrd: k.initrd,
            cmdline: k.cmdline,
        }));
        calls.extend(settings.gpu_flags.map(Call::Gpu));
        calls.extend(settings.nested_virt.then_some(Call::NestedVirt));
    }
    calls.extend(passt.map(Call::Net));
    Ok(calls)
}

fn exec(workload: &Workload) -> Result<Call> {
    let text = |bytes: &Vec<u8>| CString::new(bytes.clone()).map_err(|_| Error::invalid("process: contains a NUL byte"));
    let list = |list: &[Vec<u8>]| list.iter().map(text).collect::<Result<Vec<_>>>();
    let args = workload.args.get(1..).unwrap_or_default();
    Ok(Call::Exec { path: text(&workload.path)?, args: list(args)?, env: list(&workload.env)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{DEFAULT_RAM, Kernel};

    fn of(settings: &Settings, passt: Option<RawFd>) -> Vec<Call> {
        let bytes = |list: &[&str]| list.iter().map(|s| s.as_bytes().to_vec()).collect();
        let workload = Workload { path: b"/bin/sh".to_vec(), args: bytes(&["sh", "-c", "true"]), env: bytes(&["A=b"]) };
        calls(settings, &workload, passt).unwrap()
    }

    fn plain() -> Settings {
        Settings { ram_mib: DEFAULT_RAM, ..Settings::default() }
    }

    fn vm() -> Call {
        Call::VmConfig { cpus: None, ram_mib: DEFAULT_RAM }
    }

    fn root() -> Call {
        Call::Root(c"/".into())
    }

    #[test]
    fn each_setting_reaches_its_call() {
        assert_eq!(of(&plain(), None), [vm(), root()]);
        let kernel = Kernel { path: c"/k".into(), format: 1, initrd: Some(c"/i".into()), cmdline: Some(c"quiet".into()) };
        let told = Call::Kernel { path: c"/k".into(), format: 1, initrd: Some(c"/i".into()), cmdline: Some(c"quiet".into()) };
        for (settings, passt, want) in [
            (Settings { cpus: Some(4), ..plain() }, None, vec![Call::VmConfig { cpus: Some(4), ram_mib: 1024 }, root()]),
            (Settings { ram_mib: 4096, ..plain() }, None, vec![Call::VmConfig { cpus: None, ram_mib: 4096 }, root()]),
            (Settings { gpu_flags: Some(0), ..plain() }, None, vec![vm(), root(), Call::Gpu(0)]),
            (Settings { gpu_flags: Some(0x440), ..plain() }, None, vec![vm(), root(), Call::Gpu(0x440)]),
            (Settings { nested_virt: true, ..plain() }, None, vec![vm(), root(), Call::NestedVirt]),
            (Settings { use_passt: true, ..plain() }, Some(7), vec![vm(), root(), Call::Net(7)]),
            (Settings { kernel: Some(kernel), ..plain() }, None, vec![vm(), root(), told]),
            (
                Settings { root: Some(Root { tag: c"t".into(), shm_size: 5 }), ..plain() },
                None,
                vec![vm(), Call::Virtiofs { tag: c"t".into(), path: c"/".into(), shm_size: 5 }],
            ),
        ] {
            assert_eq!(of(&settings, passt), want, "{settings:?}");
        }
    }

    #[test]
    fn a_machine_for_sev_has_its_own_description_and_nothing_else() {
        let settings = Settings { variant: Variant::Sev, cpus: Some(2), gpu_flags: Some(1), nested_virt: true, ..plain() };
        assert_eq!(of(&settings, None), [Call::RootDisk(c"/disk.img".into()), Call::TeeConfig(c"/krun-sev.json".into())]);
    }

    #[test]
    fn a_machine_of_nitro_is_told_its_program() {
        let kernel = Kernel { path: c"/k".into(), format: 1, initrd: None, cmdline: None };
        let settings = Settings { variant: Variant::AwsNitro, cpus: Some(2), kernel: Some(kernel), gpu_flags: Some(1), ..plain() };
        let exec = Call::Exec { path: c"/bin/sh".into(), args: vec![c"-c".into(), c"true".into()], env: vec![c"A=b".into()] };
        let want =
            [Call::VmConfig { cpus: Some(2), ram_mib: 1024 }, root(), exec, Call::ConsoleOutput(c"/dev/stdout".into()), Call::Net(9)];
        assert_eq!(of(&settings, Some(9)), want);
        let none = Workload { path: b"/x".to_vec(), ..Workload::default() };
        assert!(calls(&settings, &none, None).is_ok());
        let nul = Workload { path: b"a\0b".to_vec(), ..Workload::default() };
        assert_eq!(calls(&settings, &nul, None).unwrap_err().to_string(), "process: contains a NUL byte");
    }
}
