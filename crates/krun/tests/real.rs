//! The real libkrun takes our calls: all but the last, which needs KVM and a kernel for guests. Runs where the library is installed (or is in
//! `LD_LIBRARY_PATH`); building it here would take longer than all other tests together. Not here: what the calls are (`calls`).
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use pinnace_krun::calls::{Call, Workload, calls};
use pinnace_krun::library::Library;
use pinnace_krun::settings::{Kernel, Root, Settings, Variant};
use std::io::Write;

/// Why a test cannot run here; the reason goes where `cargo xtask test` looks for it.
fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
    if let Some(file) = std::env::var_os("PINNACE_TEST_SKIPS") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(file);
        writeln!(file.unwrap(), "{test}\t{reason}").unwrap();
    }
}

#[test]
fn takes_every_call_before_the_start() {
    let library = match Library::open(Variant::Standard) {
        Ok(library) => library,
        Err(e) => return skip("takes_every_call_before_the_start", &format!("needs libkrun (where it is installed): {e}")),
    };
    let plain = Settings { ram_mib: 256, ..Settings::default() };
    let initrd = Some(c"/proc/self/exe".into());
    let kernel = Kernel { path: c"/vmlinux".into(), format: 1, initrd, cmdline: Some(c"quiet".into()) };
    for settings in [
        Settings { cpus: Some(2), ..plain.clone() },
        Settings { root: Some(Root { tag: c"/dev/root".into(), shm_size: 1 << 20 }), ..plain.clone() },
        Settings { gpu_flags: Some(1 << 6), nested_virt: true, ..plain.clone() },
        Settings { kernel: Some(kernel), ..plain.clone() },
    ] {
        let machine = library.create().unwrap();
        for call in calls(&settings, &Workload::default(), None).unwrap() {
            library.require(&call).unwrap();
            library.apply(machine, &call).unwrap_or_else(|e| panic!("{call:?}: {e}"));
        }
    }
    // Also the calls of variants that this build has, and what it says to nonsense.
    let machine = library.create().unwrap();
    let exec = Call::Exec { path: c"/bin/sh".into(), args: vec![c"-c".into(), c"true".into()], env: vec![c"A=b".into()] };
    library.apply(machine, &exec).unwrap();
    library.apply(machine, &Call::ConsoleOutput(c"/dev/stdout".into())).unwrap();
    if library.has("krun_set_root_disk") {
        library.apply(machine, &Call::RootDisk(c"/disk.img".into())).unwrap();
    }
    if library.has("krun_add_net_unixstream") {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        library.apply(machine, &Call::Net(std::os::fd::IntoRawFd::into_raw_fd(ours))).unwrap();
    }
    let nobody = library.apply(9999, &Call::Gpu(0)).unwrap_err().to_string();
    assert_eq!(nobody, "set the GPU's flags 0x0: No such file or directory");
    let none = library.apply(machine, &Call::VmConfig { cpus: Some(0), ram_mib: 0 }).unwrap_err().to_string();
    assert_eq!(none, "set the processors and the memory of the virtual machine: Invalid argument");
}
