//! The generator's programs against the meaning of sections, made of bytes: every verdict must be the one that the section asks for. A
//! section of which libseccomp comes back is given to it, too: what it refuses, the generator must not compile.
#![no_main]

#[path = "../../crates/seccomp/tests/bpf/mod.rs"]
#[allow(dead_code)]
mod bpf;
#[path = "../../crates/seccomp/tests/calls/mod.rs"]
#[allow(dead_code)]
mod calls;
#[path = "../../crates/seccomp/tests/meaning/mod.rs"]
#[allow(dead_code)]
mod meaning;

use bpf::{Call, run_noting};
use calls::{NAMES, TOKENS, named, samples};
use meaning::{ARCHITECTURES, Meaning};
use pinnace_seccomp::Libseccomp;
use runtime_core::api::{SeccompCompiler, SeccompRequest};
use runtime_core::spec::Map;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const ACTIONS: [&str; 7] = ["ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "LOG", "TRAP", "TRACE"];
const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

/// Bytes that run out as zeros.
struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn next(&mut self) -> usize {
        self.0.next().map_or(0, |byte| usize::from(*byte))
    }

    /// A small number, one in the upper half, or a wide one.
    fn value(&mut self) -> u64 {
        let (kind, byte) = (self.next(), self.next() as u64);
        match kind % 6 {
            0 | 1 => byte % 4,
            2 => (byte % 4) << 32 | byte >> 4,
            3 => !byte,
            4 => 1 << (byte % 64),
            _ => byte.wrapping_mul(0x0101_0101_0101_0101),
        }
    }
}

fn section(data: &[u8]) -> Value {
    let mut bytes = Bytes(data.iter());
    let (archs, default) = (bytes.next(), bytes.next());
    let archs: Vec<&str> = ARCHITECTURES.iter().enumerate().filter(|(n, _)| archs >> n & 1 == 1).map(|(_, (word, ..))| *word).collect();
    let mut rules = Vec::new();
    while bytes.0.len() > 0 && rules.len() < 40 {
        let (names, action, args) = (bytes.next(), bytes.next(), bytes.next() % 4);
        let names: Vec<&str> = (0..1 + names / 16 % 3).map(|n| NAMES[(names + n * 5) % NAMES.len()]).collect();
        let args: Vec<Value> = (0..args)
            .map(|_| {
                let (index, op, value, two) = (bytes.next() % 6, bytes.next() % 7, bytes.value(), bytes.value());
                json!({ "index": index, "value": value, "valueTwo": two, "op": format!("SCMP_CMP_{}", OPERATORS[op]) })
            })
            .collect();
        rules.push(json!({ "names": names, "action": format!("SCMP_ACT_{}", ACTIONS[action % 7]), "args": args }));
    }
    json!({ "defaultAction": format!("SCMP_ACT_{}", ACTIONS[default % 7]), "architectures": archs, "syscalls": rules })
}

/// Whether no call has several rules with conditions; libseccomp 2.5 does not come back from some of those, even where all have the same action. Calls
/// of x86 that are parts of one count as one, and so does a condition that is an alternative to another.
fn is_safe(section: &Value) -> bool {
    let mut calls: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
    let common = |name| match name {
        "socket" | "accept" | "accept4" | "send" | "socketcall" => "socketcall",
        "semop" | "semget" | "shmat" | "ipc" => "ipc",
        other => other,
    };
    for rule in section["syscalls"].as_array().expect("rules") {
        let args = rule["args"].as_array().expect("args");
        let indexes: BTreeSet<u64> = args.iter().filter_map(|arg| arg["index"].as_u64()).collect();
        for name in rule["names"].as_array().expect("names").iter().filter_map(Value::as_str) {
            let (rules, conditions) = calls.entry(common(name)).or_default();
            *rules += if indexes.len() == args.len() { 1 } else { args.len() };
            *conditions |= !args.is_empty();
        }
    }
    calls.values().all(|(rules, conditions)| *rules == 1 || !conditions)
}

fn numbers() -> BTreeSet<u32> {
    let own = [102, 117, 359, 364, 393, 397, 0x3fff_ffff, 0x7fff_ffff, u32::MAX];
    named().chain(own).flat_map(|n| [n, n.wrapping_add(1)]).collect()
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let section = section(&data[..data.len().min(300)]);
    let text = section.to_string();
    let generated = pinnace_seccomp::fuzz::generated(&text);
    if is_safe(&section) {
        let request = SeccompRequest { section: &text, annotations: &Map::default(), cache: None };
        let library = Libseccomp::new().compile(&request);
        assert!(generated.is_none() || library.is_ok(), "libseccomp: {:?} {text}", library.err());
    }
    let Some(program) = generated else { return };
    let meaning = Meaning::new(&section);
    let samples = samples(&section, Some(24));
    for nr in numbers() {
        for arch in TOKENS {
            for args in &samples {
                let call = Call { nr, arch, args: *args };
                let (got, _, looked) = run_noting(&program, &call).expect("a valid program");
                assert_eq!(Some(got), meaning.verdict(&call), "{call:x?} of {text}");
                if !looked {
                    break;
                }
            }
        }
    }
});
