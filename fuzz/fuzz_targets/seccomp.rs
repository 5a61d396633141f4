//! `linux.seccomp`: from its bytes to a program, by either compiler. What the program does: `seccomp_generator`.
//!
//! libseccomp 2.5 does not come back from exporting rules for one call that share a condition and differ in another, so
//! sections in which two rules with joined conditions name the same call are left out.
#![no_main]

use pinnace_seccomp::{Generator, Libseccomp};
use runtime_core::api::{SeccompCompiler, SeccompRequest};
use runtime_core::spec::{Map, Seccomp, Str, parse};
use std::collections::HashSet;

fn is_safe(section: &str) -> bool {
    let Ok(section) = parse::<Seccomp<'_>>(section.as_bytes()) else { return true };
    let mut seen = HashSet::new();
    let joined = section.syscalls.iter().filter(|rule| rule.args.len() > 1);
    let names = section.syscalls.iter().map(|rule| rule.names.len()).sum::<usize>();
    names < 2000 && joined.flat_map(|rule| &rule.names).all(|name| seen.insert(name.to_string()))
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(section) = std::str::from_utf8(data) else { return };
    if !is_safe(section) {
        return;
    }
    let strict = Map(vec![(Str::from("run.oci.seccomp_fail_unknown_syscall"), Str::from("1"))]);
    let raw = Map(vec![(Str::from("run.oci.seccomp_bpf_data"), Str::from(section))]);
    for annotations in [&Map::default(), &strict, &raw] {
        let request = SeccompRequest { section, annotations, cache: None };
        let (library, generated) = (Libseccomp::new().compile(&request), Generator::new().compile(&request));
        assert_eq!(library.as_ref().map_err(ToString::to_string).err(), generated.as_ref().map_err(ToString::to_string).err());
        match generated {
            Ok(filter) => assert!(!filter.program.is_empty() && filter.program.len() % 8 == 0 && filter.program.len() <= 8 * 4096),
            Err(e) => assert!(!e.to_string().contains('\n'), "{e}"),
        }
    }
});
