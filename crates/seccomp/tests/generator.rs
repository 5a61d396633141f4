//! The generator against libseccomp and against the meaning of sections: the programs are interpreted and must agree. Not here: what
//! is expected of both alike (`oracle`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod bpf;
mod calls;
mod meaning;
mod sections;

use bpf::{Call, run, run_noting};
use calls::{NAMES, TOKENS, named, samples};
use libseccomp::{ScmpArch, ScmpSyscall};
use meaning::{ALLOW, Meaning, X32_BIT, X86_64};
use pinnace_seccomp::{Generator, Libseccomp};
use proptest::prelude::*;
use runtime_core::api::{SeccompCompiler, SeccompFilter, SeccompRequest};
use runtime_core::spec::Map;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const PODMAN: &str = include_str!("../../../tests/data/seccomp/podman.json");
const DOCKER: &str = include_str!("../../../tests/data/seccomp/docker.json");
const CONTAINERD: &str = include_str!("../../../tests/data/seccomp/containerd.json");

fn request<'a>(section: &'a str, annotations: &'a Map<'a, runtime_core::spec::Str<'a>>) -> SeccompRequest<'a> {
    SeccompRequest { section, annotations, cache: None }
}

/// The filters of libseccomp and of the generator; nothing if neither takes the section. They must refuse it with the same words.
fn compile(section: &str) -> Option<[SeccompFilter; 2]> {
    let annotations = Map::default();
    let request = request(section, &annotations);
    match (Libseccomp::new().compile(&request), Generator::new().compile(&request)) {
        (Ok(library), Ok(generated)) => {
            assert_eq!((library.flags, &library.listener), (generated.flags, &generated.listener));
            Some([library, generated])
        }
        (library, generated) => {
            assert_eq!(library.expect_err("an error").to_string(), generated.expect_err("an error").to_string(), "{section}");
            None
        }
    }
}

/// The same, or nothing where libseccomp 2.5 does not come back: it cannot be told beforehand which rules for one call it goes round with. What it
/// does then ends with this program.
fn compile_if_it_ends(section: &Value) -> Option<[SeccompFilter; 2]> {
    let text = section.to_string();
    let (result, compiled) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || drop(result.send(compile(&text))));
    match compiled.recv_timeout(std::time::Duration::from_secs(20)) {
        Ok(filters) => filters,
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
            println!("libseccomp does not come back from {section}");
            None
        }
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().expect_err("it sent nothing")),
    }
}

/// Numbers to ask for: all ordinary ones, and those where ranges begin or end.
fn numbers() -> impl Iterator<Item = u32> {
    let edges = [X32_BIT, 2 * X32_BIT, 3 * X32_BIT, 0xf_0000, 1 << 12, 1 << 16, 1 << 20, 0, u32::MAX - 1];
    let around = edges.into_iter().flat_map(|edge| (0..9).map(move |n: u32| edge.wrapping_add(n).wrapping_sub(4)));
    (0..=1100).flat_map(|n| [n, n | X32_BIT]).chain(around)
}

/// Calls that were compared.
#[derive(Debug, Default)]
struct Compared {
    calls: usize,
    /// Those in which libseccomp does not do what the section says, and the generator does.
    astray: usize,
}

/// Asks both programs. Where the section has a defined meaning, the generator has to follow it; libseccomp has to, too, unless `astray`
/// says that what it is known to get wrong may be in the section.
fn agree(
    filters: &[SeccompFilter; 2],
    section: &Value,
    numbers: impl Iterator<Item = u32>,
    samples: &[[u64; 6]],
    astray: bool,
) -> Compared {
    let (meaning, same) = (Meaning::new(section), filters[0].program == filters[1].program);
    let mut compared = Compared::default();
    let ask = |filter: &SeccompFilter, call: &Call| run_noting(&filter.program, call).expect("a valid program");
    for nr in numbers {
        for arch in TOKENS {
            for args in samples {
                let call = Call { nr, arch, args: *args };
                let (want, _, one) = ask(&filters[0], &call);
                let (got, _, other) = ask(&filters[1], &call);
                let meant = meaning.verdict(&call);
                compared.calls += 1;
                if !same {
                    assert_eq!(Some(got), meant, "{call:x?} of {section}");
                }
                if got != want {
                    assert!(astray, "{got:#x}, libseccomp has {want:#x}: {call:x?} of {section}");
                    compared.astray += 1;
                }
                // The verdict is the same whatever the arguments are.
                if !one && !other {
                    break;
                }
            }
        }
    }
    compared
}

fn profiles() -> [(&'static str, &'static str); 3] {
    [("podman", PODMAN), ("docker", DOCKER), ("containerd", CONTAINERD)]
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_engines_profiles_get_the_verdicts_of_libseccomp() {
    for (name, text) in profiles() {
        let mut section: Value = serde_json::from_str(text).expect("JSON");
        let listed = section["architectures"].clone();
        for architectures in [listed, json!([]), json!(["SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_RISCV64"])] {
            section["architectures"] = architectures;
            let filters = compile(&section.to_string()).expect("it compiles");
            assert_ne!(filters[0].program, filters[1].program, "{name}: by the generator");
            let compared = agree(&filters, &section, numbers(), &samples(&section, None), false);
            println!("{name} for {}: {compared:?}", section["architectures"]);
            assert!(compared.calls > 20_000, "{compared:?}");
        }
    }
}

/// What libseccomp 2.5 gets wrong, and the generator must not: it can forget to load the number again behind a call that the architecture
/// lacks, and an argument behind the test of another.
#[test]
#[cfg(target_arch = "x86_64")]
fn where_libseccomp_errs_the_section_is_followed() {
    let condition = |index: u32, op: &str, value: u64| json!({ "index": index, "op": format!("SCMP_CMP_{op}"), "value": value });
    let rule = |name: &str, args: &[Value]| json!({ "names": [name], "action": "SCMP_ACT_LOG", "args": args });
    let lacking = vec![
        rule("ipc", &[condition(5, "LE", 1)]),
        rule("socket", &[condition(5, "EQ", 1), condition(2, "EQ", 3 << 32)]),
        rule("socket", &[condition(0, "LE", 1)]),
    ];
    let mixed = vec![rule("mkdir", &[condition(2, "NE", 1), condition(3, "EQ", 0)]), rule("mkdir", &[condition(2, "GT", 0)])];
    for (arch, rules) in [("SCMP_ARCH_ARM", lacking), ("SCMP_ARCH_X86", mixed)] {
        let section = json!({ "defaultAction": "SCMP_ACT_KILL", "architectures": [arch], "syscalls": rules });
        let filters = compile(&section.to_string()).expect("it compiles");
        assert_ne!(filters[0].program, filters[1].program, "by the generator");
        println!("{arch}: {:?}", agree(&filters, &section, numbers(), &samples(&section, None), true));
    }
}

/// Jumps of classic BPF reach 255 instructions; longer ones take an instruction of their own.
#[test]
#[cfg(target_arch = "x86_64")]
fn long_programs_are_jumped_through() {
    let names = (0..200u32).filter_map(|nr| ScmpSyscall::from_raw_syscall(nr as i32).get_name_by_arch(ScmpArch::X8664).ok());
    // As many verdicts as calls, so that few can be shared.
    let one = |(n, name): (usize, String)| {
        let equal = |index: u32, value: usize| json!({ "index": index, "op": "SCMP_CMP_EQ", "value": value });
        json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": n + 1, "args": [equal(0, n), equal(1, n)] })
    };
    let mut rules: Vec<Value> = names.enumerate().map(one).collect();
    // And a chain that is long by itself.
    let values: Vec<Value> = (0..300).map(|n: u64| json!({ "index": 0, "op": "SCMP_CMP_EQ", "value": n << (n % 2 * 32) })).collect();
    rules.push(json!({ "names": ["openat2"], "action": "SCMP_ACT_LOG", "args": values }));
    let section = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules });
    let filter = Generator::new().compile(&request(&section.to_string(), &Map::default())).expect("it compiles");
    let far = filter.program.chunks(8).filter(|i| i[0] == 0x05).count();
    assert!(far > 2 && filter.program.len() > 2000 * 8, "{far} long jumps in {} instructions", filter.program.len() / 8);
    let meaning = Meaning::new(&section);
    for nr in (0..450).chain([X32_BIT, u32::MAX]) {
        // Near the call's own value; all for the one with the long chain.
        let around = if nr == 437 { 0..310 } else { u64::from(nr).saturating_sub(3)..u64::from(nr).saturating_add(3) };
        for value in around.flat_map(|n| [n, n << 32, n | 1 << 32]) {
            let call = Call { nr, arch: X86_64, args: [value, value, 0, 0, 0, 0] };
            let (got, _, looked) = run_noting(&filter.program, &call).expect("a valid program");
            assert_eq!(Some(got), meaning.verdict(&call), "{call:x?}");
            if !looked {
                break;
            }
        }
    }
}

/// What the search is for: few instructions for what is asked for most.
#[test]
#[cfg(target_arch = "x86_64")]
fn allowed_calls_take_fewer_instructions_than_with_libseccomp() {
    for (name, text) in profiles() {
        let filters = compile(text).expect("it compiles");
        let [library, generated] = filters.map(|filter| {
            let ask = |nr| run(&filter.program, &Call { nr, arch: X86_64, args: [0; 6] }).expect("a valid program");
            let steps: Vec<usize> = (0..=460).map(ask).filter(|(verdict, _)| *verdict == ALLOW).map(|(_, steps)| steps).collect();
            let mean = steps.iter().sum::<usize>() as f64 / steps.len() as f64;
            (filter.program.len() / 8, mean, steps.iter().max().copied().unwrap_or(0))
        });
        println!("{name}: instructions, mean and most of an allowed call: libseccomp {library:?}, generator {generated:?}");
        assert!(generated.0 <= library.0 && generated.1 < library.1 && generated.2 <= library.2, "{name}");
    }
}

/// The numbers of the names that sections draw from, and their neighbours.
fn known() -> BTreeSet<u32> {
    let own = (359..=373).chain(393..=402).chain([102, 117, 337, 345, 0x7fff_ffff, 0x8000_0000, u32::MAX]);
    named().chain(own).flat_map(|n| [n.wrapping_sub(1), n, n.wrapping_add(1)]).collect()
}

fn condition() -> impl Strategy<Value = Value> {
    let number =
        || prop_oneof![4 => 0..4u64, 2 => any::<u64>(), 1 => Just(u64::MAX), 2 => (0..4u64).prop_map(|n| n << 32), 1 => Just(0xffff_ffff)];
    let op = prop_oneof![3 => Just("EQ"), 1 => Just("NE"), 1 => Just("LT"), 1 => Just("LE"), 1 => Just("GE"), 1 => Just("GT"), 2 => Just("MASKED_EQ")];
    (0..6u32, number(), number(), op)
        .prop_map(|(index, value, two, op)| json!({ "index": index, "value": value, "valueTwo": two, "op": format!("SCMP_CMP_{op}") }))
}

/// Rules for a call that all have the same action: one of several, so that a call may be in rules of others, too.
fn rules() -> impl Strategy<Value = Vec<Value>> {
    const ACTIONS: [&str; 5] = ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_LOG", "SCMP_ACT_TRAP", "SCMP_ACT_KILL_PROCESS"];
    let names = proptest::sample::subsequence(NAMES.to_vec(), 1..4);
    let args = prop_oneof![1 => Just(vec![]), 4 => proptest::collection::vec(condition(), 1..4)];
    let lists = proptest::collection::vec(args, 1..4);
    (names, proptest::sample::select(ACTIONS.to_vec()), lists).prop_map(|(names, action, lists)| {
        lists.into_iter().map(|args| json!({ "names": names, "action": action, "args": args })).collect()
    })
}

fn section() -> impl Strategy<Value = Value> {
    let archs = proptest::sample::subsequence(vec!["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"], 0..4);
    let default = proptest::sample::select(vec!["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL"]);
    (default, archs, rules(), proptest::option::of(rules())).prop_map(|(default, archs, mut rules, more)| {
        // libseccomp 2.5.4 does not come back from some rules of different actions for one call.
        let taken: Vec<Value> = rules.iter().flat_map(|rule| rule["names"].as_array().cloned().unwrap_or_default()).collect();
        rules.extend(more.into_iter().flatten().map(|mut rule| {
            rule["names"].as_array_mut().expect("names").retain(|name| !taken.contains(name));
            rule
        }));
        json!({ "defaultAction": default, "architectures": archs, "syscalls": rules })
    })
}

/// Lists of arguments for each number of a section that is one of hundreds.
const DRAWN: usize = 60;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_sections_get_the_verdicts_of_libseccomp(section in sections::section()) {
        if let Some(filters) = compile_if_it_ends(&section) {
            agree(&filters, &section, known().into_iter(), &samples(&section, Some(DRAWN)), true);
        }
    }

    #[test]
    fn sections_of_joined_conditions_get_the_verdicts_of_libseccomp(section in section()) {
        if let Some(filters) = compile_if_it_ends(&section) {
            agree(&filters, &section, known().into_iter(), &samples(&section, Some(DRAWN)), true);
        }
    }
}
