//! Calls worth asking a filter for, by what its section says.

use super::meaning::{ARCHITECTURES, X86_64};
use libseccomp::ScmpSyscall;
use serde_json::Value;
use std::collections::BTreeSet;

/// Tokens that a kernel may ask with: x86_64, i386, aarch64, arm, riscv64, s390x and one that nobody has.
pub(crate) const TOKENS: [u32; 7] = [X86_64, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 0xc000_00f3, 0x8000_0016, 0x1234_5678];

/// Names of calls that sections draw from: ordinary ones, parts of socketcall and ipc, and some that not every architecture has.
pub(crate) const NAMES: [&str; 16] = [
    "read",
    "write",
    "open",
    "mkdir",
    "socket",
    "accept",
    "accept4",
    "send",
    "semop",
    "semget",
    "shmat",
    "socketcall",
    "ipc",
    "clone",
    "set_tls",
    "_llseek",
];

/// Their numbers on each architecture.
pub(crate) fn named() -> impl Iterator<Item = u32> {
    let all =
        ARCHITECTURES.iter().flat_map(|(_, arch, ..)| NAMES.iter().filter_map(|name| ScmpSyscall::from_name_by_arch(name, *arch).ok()));
    all.filter_map(|call| u32::try_from(i32::from(call)).ok())
}

/// Values around all constants that a section compares an argument with, for each argument.
fn constants(section: &Value) -> [BTreeSet<u64>; 6] {
    let mut sets: [BTreeSet<u64>; 6] = Default::default();
    let rules = section["syscalls"].as_array().map(Vec::as_slice).unwrap_or_default();
    for condition in rules.iter().flat_map(|rule| rule["args"].as_array().map(Vec::as_slice).unwrap_or_default()) {
        let Some(set) = condition["index"].as_u64().and_then(|index| sets.get_mut(index as usize)) else { continue };
        for constant in ["value", "valueTwo"].map(|field| condition[field].as_u64().unwrap_or(0)) {
            let low = constant & 0xffff_ffff;
            for value in [constant, low, low | 0xffff_ffff_0000_0000, constant ^ (1 << 32), !constant] {
                set.extend([value.wrapping_sub(1), value, value.wrapping_add(1)]);
            }
        }
    }
    // The numbers of the parts of socketcall and ipc.
    if sets.iter().any(|set| !set.is_empty()) {
        sets[0].extend(0..=24);
    }
    for set in &mut sets {
        set.extend([0, u64::MAX]);
    }
    sets
}

/// Lists of arguments: each pair of places with all values of both, the others drawn from those that matter; or so many lists drawn.
pub(crate) fn samples(section: &Value, drawn: Option<usize>) -> Vec<[u64; 6]> {
    let sets = constants(section).map(|set| set.into_iter().collect::<Vec<u64>>());
    let mut lists = vec![[0; 6], [u64::MAX; 6], [1, 2, 3, 4, 5, 6]];
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = |set: &[u64]| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        set[(seed % set.len() as u64) as usize]
    };
    if let Some(count) = drawn {
        lists.extend((0..count).map(|_| std::array::from_fn(|n| draw(&sets[n]))));
        return lists;
    }
    let places: Vec<usize> = (0..6).filter(|n| sets[*n].len() > 2).collect();
    for (n, one) in places.iter().enumerate() {
        for other in places[n..].iter() {
            for (x, y) in sets[*one].iter().flat_map(|x| sets[*other].iter().map(move |y| (*x, *y))) {
                let mut args = std::array::from_fn(|n| draw(&sets[n]));
                (args[*other], args[*one]) = (y, x);
                lists.push(args);
            }
        }
    }
    lists
}
