//! Arbitrary sections: no panic, and what compiles is a program the kernel would run to a verdict.
//!
//! One kind of section is kept out: libseccomp 2.5.4 does not come back from exporting a filter where rules of different
//! actions for the same call share a condition and differ in a further one. So only one rule has joined conditions here,
//! for a call of its own; the others have one condition, or alternatives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod bpf;

use bpf::{Call, run};
use pinnace_seccomp::Libseccomp;
use proptest::prelude::*;
use runtime_core::api::{SeccompCompiler, SeccompRequest};
use runtime_core::spec::{Map, Str};
use serde_json::{Value, json};

fn word(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![199 => proptest::sample::select(words).prop_map(str::to_owned), 1 => "[A-Z_]{0,12}"]
}

fn action() -> impl Strategy<Value = String> {
    word(&[
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_LOG",
        "SCMP_ACT_NOTIFY",
        "SCMP_ACT_TRAP",
    ])
}

fn argument(index: impl Strategy<Value = u32>) -> impl Strategy<Value = Value> {
    let number = prop_oneof![0..20u64, any::<u64>(), Just(u64::MAX)];
    let op = word(&["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"]);
    (index, number.clone(), number, op)
        .prop_map(|(index, value, two, op)| json!({ "index": index, "value": value, "valueTwo": two, "op": op }))
}

fn rule() -> impl Strategy<Value = Value> {
    let name = word(&["read", "write", "mkdir", "socket", "_llseek", "ipc", "semop", "socketcall", "personality", "exit_group"]);
    let args = (0..7u32).prop_flat_map(|index| proptest::collection::vec(argument(Just(index % 6)), 0..4));
    (proptest::collection::vec(name, 0..4), action(), proptest::option::weighted(0.01, 0..5000u32), args).prop_map(
        |(names, action, errno, args)| {
            let mut rule = json!({ "names": names, "action": action, "args": args });
            if let Some(errno) = errno {
                rule["errnoRet"] = errno.into();
            }
            rule
        },
    )
}

/// The one rule whose conditions must all hold.
fn joined() -> impl Strategy<Value = Value> {
    let args = proptest::sample::subsequence(vec![0u32, 1, 2, 3, 4, 5], 0..=6)
        .prop_flat_map(|places| places.into_iter().map(|n| argument(Just(n))).collect::<Vec<_>>());
    (action(), args).prop_map(|(action, args)| json!({ "names": ["clone"], "action": action, "args": args }))
}

fn section() -> impl Strategy<Value = Value> {
    let arch = word(&["SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_S390X"]);
    let flag = word(&["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    let lists = (proptest::collection::vec(arch, 0..3), proptest::collection::vec(flag, 0..2), proptest::collection::vec(rule(), 0..60));
    (action(), lists, joined(), proptest::option::of("/[a-z]{1,8}")).prop_map(|(default, (archs, flags, mut rules), joined, listener)| {
        rules.push(joined);
        json!({ "defaultAction": default, "architectures": archs, "flags": flags, "syscalls": rules, "listenerPath": listener })
    })
}

fn check(section: &str, annotations: &[(&str, &str)]) -> bool {
    let annotations = Map(annotations.iter().map(|(k, v)| (Str::from(*k), Str::from(*v))).collect());
    let request = SeccompRequest { section, annotations: &annotations, cache: None };
    let Ok(filter) = Libseccomp::new().compile(&request) else { return false };
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
