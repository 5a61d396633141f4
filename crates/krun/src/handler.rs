//! The handler: what it does in the parent and in the child. Not here: what a machine is like (`settings`), the library (`library`).

use crate::calls::{Call, Workload, calls};
use crate::devices::{self, ThisHost};
use crate::library::{FEATURE_GPU, Library};
use crate::passt;
use crate::settings::{Settings, Variant, Wishes};
use crate::vm_file::{self, VmFile};
use runtime_core::api::handler::{Handler, HandlerProcess, HandlerRequest, HandlerStart, RootFile};
use runtime_core::spec::Spec;
use runtime_core::{Error, ErrorKind, Result};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use tracing::level_filters::LevelFilter;

/// Where the guest's first program looks for what it is to run.
const CONFIG: &str = "/.krun_config.json";
/// Exit status of a machine that does not come up.
const FAILED: i32 = 1;

/// Runs containers as virtual machines. Nothing is loaded before a container needs it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Krun;

impl Handler for Krun {
    fn name(&self) -> &'static str {
        "krun"
    }

    fn tag(&self) -> &'static str {
        "LIBKRUN"
    }

    fn usable(&self) -> Result<()> {
        let any = |e| [Variant::Sev, Variant::AwsNitro].iter().find_map(|v| Library::open(*v).ok()).map(drop).ok_or(e);
        Library::open(Variant::Standard).map(drop).or_else(any)
    }

    fn adjust(&self, spec: &mut Spec<'_>) -> Result<()> {
        let wishes = Wishes::read(spec)?;
        devices::add(spec, &wishes, &ThisHost).map_err(|e| e.context("the handler `krun`"))
    }

    fn prepare(&self, request: &HandlerRequest<'_>) -> Result<Box<dyn HandlerProcess>> {
        let spec = request.spec;
        let settings = settings(request)?;
        let library = Library::open(settings.variant)?;
        check(&library, &settings)?;
        let machine = library.create()?;
        let passt = (settings.use_passt && settings.variant != Variant::Sev).then(|| passt::start(spec)).transpose()?;
        let process = spec.process.as_ref();
        let config = RootFile {
            path: CONFIG.to_owned(),
            // libkrun reads it for the guest as the container's user, and root of the container is its owner.
            mode: if process.is_none_or(|p| p.user.uid == 0) { 0o600 } else { 0o644 },
            content: request.config.to_vec(),
        };
        Ok(Box::new(Machine { library, machine, settings, passt, config, log_level: log_level(), last: Vec::new() }))
    }
}

fn settings(request: &HandlerRequest<'_>) -> Result<Settings> {
    let wishes = Wishes::read(request.spec)?;
    let found = vm_file::find(request.rootfs, request.spec)?;
    let linux = request.spec.linux();
    let limit = linux.resources.as_ref().and_then(|r| r.memory).and_then(|m| m.limit);
    let mut file = found.vm.as_deref().map_or_else(|| Ok(VmFile::default()), VmFile::parse);
    // passt runs with the runtime's rights: not in the host's network because an image asks for it.
    if let (Ok(file), None) = (&mut file, passt::named(&linux)) {
        file.use_passt = None;
    }
    let settings = file.and_then(|file| Settings::combine(&wishes, &file, found.sev, limit));
    settings.map_err(|e| e.context(vm_file::shown(vm_file::NAME)))
}

/// Whether the library can do all that is wanted, and what it says of the host.
fn check(library: &Library, settings: &Settings) -> Result<()> {
    let unsupported = |text: &str| Err(Error::new(ErrorKind::Unsupported, text));
    let wanted = calls(settings, &Workload::default(), settings.use_passt.then_some(0))?;
    wanted.iter().try_for_each(|call| library.require(call))?;
    if wanted.contains(&Call::NestedVirt) && library.nested_virt() == Some(false) {
        return unsupported("nested virtualization (`krun.nested_virt`): the KVM of this host has it off");
    }
    if wanted.iter().any(|c| matches!(c, Call::Gpu(_))) && library.feature(FEATURE_GPU) == Some(false) {
        return unsupported("GPU (`krun.gpu_flags`): libkrun was built without");
    }
    Ok(())
}

/// What the runtime logs, libkrun does.
fn log_level() -> u32 {
    match LevelFilter::current() {
        LevelFilter::OFF => 0,
        LevelFilter::ERROR => 1,
        LevelFilter::WARN => 2,
        LevelFilter::INFO => 3,
        LevelFilter::DEBUG => 4,
        LevelFilter::TRACE => 5,
    }
}

/// A machine of a container.
struct Machine {
    library: Library,
    /// Its number.
    machine: u32,
    settings: Settings,
    passt: Option<OwnedFd>,
    config: RootFile,
    log_level: u32,
    /// What is left for when the machine is to run.
    last: Vec<Call>,
}

impl HandlerProcess for Machine {
    fn files(&self) -> Vec<RootFile> {
        vec![self.config.clone()]
    }

    fn keeps(&self) -> Vec<RawFd> {
        self.passt.iter().map(AsRawFd::as_raw_fd).collect()
    }

    fn load(&mut self, start: &HandlerStart) -> Result<()> {
        let bytes = |list: &[std::ffi::OsString]| list.iter().map(|s| s.clone().into_vec()).collect();
        let path = start.program.as_os_str().as_bytes().to_vec();
        let workload = Workload { path, args: bytes(&start.args), env: bytes(&start.env) };
        let all = calls(&self.settings, &workload, self.passt.as_ref().map(AsRawFd::as_raw_fd))?;
        self.library.set_log_level(self.log_level);
        let (last, first): (Vec<_>, Vec<_>) = all.into_iter().partition(Call::keeps_descriptors);
        self.last = last;
        first.iter().try_for_each(|call| self.library.apply(self.machine, call))
    }

    fn run(&mut self, _: &HandlerStart) -> i32 {
        let made = self.last.iter().try_for_each(|call| self.library.apply(self.machine, call));
        made.and_then(|()| self.library.start(self.machine)).unwrap_or_else(|e| {
            // Nobody is left to tell it to but who reads the container's output.
            let _ = writeln!(std::io::stderr(), "krun: {e}");
            FAILED
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rootfs: &std::path::Path, annotations: &str) -> Result<Settings> {
        let text = format!(
            r#"{{"ociVersion":"1.0.0","annotations":{{{annotations}}},"linux":{{"resources":{{"memory":{{"limit":268435456}}}}}}}}"#
        );
        let spec = Spec::parse(text.as_bytes()).unwrap();
        settings(&HandlerRequest { spec: &spec, config: text.as_bytes(), rootfs, cache: rootfs })
    }

    #[test]
    fn all_that_speaks_of_a_machine_is_heard() {
        let image = tempfile::tempdir().unwrap();
        assert_eq!(of(image.path(), "").unwrap().ram_mib, 256);
        std::fs::write(image.path().join(vm_file::NAME), r#"{"cpus":2,"ram_mib":512}"#).unwrap();
        std::fs::write(image.path().join(vm_file::SEV_NAME), "{}").unwrap();
        let settings = of(image.path(), r#""krun.cpus":"3""#).unwrap();
        assert_eq!((settings.cpus, settings.ram_mib, settings.variant), (Some(3), 512, Variant::Sev));
    }

    #[test]
    fn what_is_wrong_in_the_file_is_told_with_the_file() {
        let image = tempfile::tempdir().unwrap();
        for (text, want) in [(r#"{"cpus":99}"#, "cpus: `99` is not a number from 1 to 16"), (r#"{"cpus":{}}"#, "cpus: invalid type: map")] {
            std::fs::write(image.path().join(vm_file::NAME), text).unwrap();
            let error = of(image.path(), "").unwrap_err().to_string();
            assert!(error.starts_with(&format!("`/.krun_vm.json` of the root file system: {want}")), "{error}");
        }
    }
}
