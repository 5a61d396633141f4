//! Arbitrary sections, for the tests that compile them.
//!
//! One kind is kept out: libseccomp 2.5.4 does not come back from exporting a filter where rules of different
//! actions for the same call share a condition and differ in a further one. So only one rule has joined conditions here,
//! for a call of its own; the others have one condition, or alternatives.

use proptest::prelude::*;
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

/// A section of known words and, rarely, odd ones.
pub(crate) fn section() -> impl Strategy<Value = Value> {
    let arch = word(&["SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_S390X"]);
    let flag = word(&["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    let lists = (proptest::collection::vec(arch, 0..3), proptest::collection::vec(flag, 0..2), proptest::collection::vec(rule(), 0..60));
    (action(), lists, joined(), proptest::option::of("/[a-z]{1,8}")).prop_map(|(default, (archs, flags, mut rules), joined, listener)| {
        rules.push(joined);
        json!({ "defaultAction": default, "architectures": archs, "flags": flags, "syscalls": rules, "listenerPath": listener })
    })
}
