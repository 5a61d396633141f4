//! Arbitrary sections: no panic, and what compiles is a program the kernel would run to a verdict. Whether it is the right one:
//! `generator`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod bpf;
mod sections;

use bpf::{Call, run};
use pinnace_seccomp::{Generator, Libseccomp};
use proptest::prelude::*;
use runtime_core::api::{SeccompCompiler, SeccompRequest};
use runtime_core::spec::{Map, Str};
use sections::section;

fn check(section: &str, annotations: &[(&str, &str)]) -> bool {
    let annotations = Map(annotations.iter().map(|(k, v)| (Str::from(*k), Str::from(*v))).collect());
    let request = SeccompRequest { section, annotations: &annotations, cache: None };
    let (library, generated) = (Libseccomp::new().compile(&request), Generator::new().compile(&request));
    assert_eq!(library.as_ref().map_err(ToString::to_string).err(), generated.as_ref().map_err(ToString::to_string).err());
    let Ok(filter) = generated else { return false };
    for (nr, arch) in [(0, 0xc000_003e), (83, 0xc000_003e), (0x4000_0000, 0xc000_003e), (102, 0x4000_0003), (1, 1)] {
        for args in [[0; 6], [u64::MAX; 6], [1, 2, 3, 4, 5, 6]] {
            run(&filter.program, &Call { nr, arch, args }).expect("a program that ends");
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sections_of_known_and_odd_words(section in section()) {
        check(&section.to_string(), &[]);
    }

    #[test]
    fn texts_that_are_no_section(text in ".{0,200}", value in ".{0,40}") {
        check(&text, &[("run.oci.seccomp_bpf_data", &value)]);
        check(&text, &[("run.oci.seccomp.receiver", &value), ("run.oci.seccomp_fail_unknown_syscall", &value)]);
    }

    #[test]
    fn a_real_section_with_a_hole(from in any::<prop::sample::Index>(), length in 0..40usize) {
        let text = include_str!("data/podman-seccomp.json");
        let from = from.index(text.len());
        let mut cut = text[..from].to_owned();
        cut.push_str(&text[(from + length).min(text.len())..]);
        check(&cut, &[]);
    }
}

/// The generator above must not produce only errors.
#[test]
fn arbitrary_sections_often_compile() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let good = (0..200).filter(|_| check(&section().new_tree(&mut runner).expect("a value").current().to_string(), &[])).count();
    assert!(good > 10, "{good} of 200 compile");
}
