//! `/.krun_vm.json` of an image: from its bytes to the calls of libkrun.
#![no_main]

use pinnace_krun::calls::{Workload, calls};
use pinnace_krun::settings::{LEAST_RAM, MOST_CPUS, Settings, Wishes};
use pinnace_krun::vm_file::VmFile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(file) = VmFile::parse(data) else { return };
    for (sev, limit) in [(false, None), (true, Some(data.len() as i64 * 1_000_003))] {
        let Ok(settings) = Settings::combine(&Wishes::default(), &file, sev, limit) else { return };
        assert!(settings.cpus.is_none_or(|n| (1..=MOST_CPUS).contains(&n)));
        assert!(settings.ram_mib >= LEAST_RAM);
        let list = calls(&settings, &Workload::default(), Some(3)).expect("nothing of the file is refused by now");
        assert!(list.len() >= 2 && list.iter().all(|call| !call.describe().is_empty()));
    }
});
