//! Numbers of system calls by name. Not here: the table itself (`table`).
//!
//! libseccomp has the numbers, too, but its search costs as much as everything else of the generator together: on x86 it compares each
//! name with those of forty calls that may be parts of others. The table is made of libseccomp's own, by a test below, and another test
//! compares the two. A name that the table lacks is asked of libseccomp, which may be newer.

use super::table::{COUNT, ROWS};
use crate::stub::X32_BIT;
use libseccomp::{ScmpArch, ScmpSyscall};

/// The number of calls that an architecture lacks. libseccomp has many below -10000, one for each name.
pub(super) const ABSENT: i32 = -10_000;
/// The architectures of a row. x32's numbers are there without their bit.
const ARCHITECTURES: [ScmpArch; 6] = [ScmpArch::X8664, ScmpArch::X86, ScmpArch::X32, ScmpArch::Aarch64, ScmpArch::Arm, ScmpArch::Riscv64];

/// A name, with zeros behind it, as numbers that are ordered as the bytes are.
type Key = [u64; 4];
const LONGEST: usize = size_of::<Key>();

/// The keys of the rows. Text would need relocations, which a start without a profile would pay, too.
static KEYS: [Key; COUNT] = {
    let mut keys = [[0; 4]; COUNT];
    let mut n = 0;
    while n < COUNT {
        keys[n] = key(ROWS[n].0.as_bytes());
        n += 1;
    }
    keys
};
/// Their numbers.
static NUMBERS: [[i32; ARCHITECTURES.len()]; COUNT] = {
    let mut numbers = [[0; ARCHITECTURES.len()]; COUNT];
    let mut n = 0;
    while n < COUNT {
        numbers[n] = ROWS[n].1;
        n += 1;
    }
    numbers
};

const fn key(name: &[u8]) -> Key {
    let mut key = [0; 4];
    let mut n = 0;
    while n < name.len() && n < LONGEST {
        key[n / 8] |= (name[n] as u64) << (56 - 8 * (n % 8));
        n += 1;
    }
    key
}

/// A name that was looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a> {
    name: &'a str,
    row: Option<&'static [i32; ARCHITECTURES.len()]>,
}

/// Looks for a name.
pub(super) fn find(name: &str) -> Name<'_> {
    // A longer one is not in the table, nor one that the zeros behind it could be a part of.
    let fits = name.len() <= LONGEST && !name.as_bytes().contains(&0);
    let place = if fits { KEYS.binary_search(&key(name.as_bytes())).ok() } else { None };
    Name { name, row: place.map(|place| &NUMBERS[place]) }
}

impl Name<'_> {
    /// The number on an architecture, by libseccomp's rules (seccomp_syscall_resolve_name_arch(3)): negative if it has none there, from
    /// -100 to -299 for parts of x86's `socketcall` and `ipc`. `None` for an unknown name.
    pub(super) fn number(&self, arch: ScmpArch) -> Option<i32> {
        let column = ARCHITECTURES.iter().position(|known| *known == arch);
        match (self.row, column) {
            (Some(row), Some(column)) if arch == ScmpArch::X32 && row[column] >= 0 => Some(row[column] | X32_BIT as i32),
            (Some(row), Some(column)) => Some(row[column]),
            _ => ScmpSyscall::from_name_by_arch(self.name, arch).ok().map(i32::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libseccomp::ScmpVersion;
    use std::collections::BTreeSet;
    use std::fmt::Write;

    /// What of a number is in a row.
    fn noted(number: i32, arch: ScmpArch) -> i32 {
        match number {
            ..-299 => ABSENT,
            0.. if arch == ScmpArch::X32 => number & !(X32_BIT as i32),
            other => other,
        }
    }

    /// All names that libseccomp has a number for, real or not, on some architecture of the table.
    fn known() -> BTreeSet<String> {
        let numbers = || (-11_000..1_200).chain(0xf_0000..0xf_0020);
        let name = |(arch, number): (ScmpArch, i32)| {
            let bit = if arch == ScmpArch::X32 && number >= 0 { X32_BIT as i32 } else { 0 };
            ScmpSyscall::from_raw_syscall(number | bit).get_name_by_arch(arch).ok()
        };
        ARCHITECTURES.into_iter().flat_map(|arch| numbers().map(move |number| (arch, number))).filter_map(name).collect()
    }

    fn row(name: &str) -> [i32; ARCHITECTURES.len()] {
        ARCHITECTURES.map(|arch| noted(i32::from(ScmpSyscall::from_name_by_arch(name, arch).expect("a number")), arch))
    }

    #[test]
    fn the_table_is_libseccomps() {
        let known = known();
        assert!(known.len() > 450, "{}", known.len());
        for (name, numbers) in &ROWS {
            // A library that is older than the table may lack a name.
            if known.contains(*name) {
                assert_eq!(*numbers, row(name), "{name}");
            }
        }
        let version = ScmpVersion::current().expect("a version");
        if (version.major, version.minor, version.micro) <= super::super::table::MADE_OF {
            let missing: Vec<_> = known.iter().filter(|name| find(name).row.is_none()).collect();
            assert!(missing.is_empty(), "not in the table: {missing:?}");
        }
    }

    /// The generator takes a name for what it is on each architecture. libseccomp takes the native number, and of that again the name.
    #[test]
    fn a_number_stands_for_one_name() {
        for (name, numbers) in &ROWS {
            for (arch, number) in ARCHITECTURES.into_iter().zip(numbers) {
                let Ok(call) = ScmpSyscall::from_name_by_arch(name, arch) else { continue };
                let back = call.get_name_by_arch(arch).expect("a name");
                // Two calls of PowerPC share a number that neither has elsewhere.
                assert!(back == *name || (*number == ABSENT && row(&back) == [ABSENT; ARCHITECTURES.len()]), "{name} {arch:?} {back}");
            }
        }
    }

    #[test]
    fn names_are_found_and_others_asked_for() {
        let numbers = |name: &str| ARCHITECTURES.map(|arch| find(name).number(arch));
        assert_eq!(numbers("read"), [Some(0), Some(3), Some(0x4000_0000), Some(63), Some(3), Some(63)]);
        assert_eq!(numbers("socket")[1], Some(-101));
        assert_eq!(numbers("set_tls")[4], Some(0xf_0005));
        assert!(numbers("vm86").iter().enumerate().all(|(n, number)| (n == 1) == number.is_some_and(|number| number >= 0)));
        for odd in ["", "no_such_call", "read\0", "rea", "readx", "a_name_that_is_longer_than_any_key_of_the_table_and_libseccomps_too"] {
            assert_eq!(numbers(odd), [None; 6], "{odd:?}");
        }
        // The order of the rows is that of the search.
        assert!(KEYS.is_sorted());
        assert!(ROWS.iter().all(|(name, _)| name.len() <= LONGEST && find(name).row.is_some()));
    }

    /// Makes the table anew of the linked libseccomp: `cargo test -p pinnace-seccomp write_the_table -- --ignored`.
    #[test]
    #[ignore = "writes a source file"]
    fn write_the_table() {
        let version = ScmpVersion::current().expect("a version");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/generate/table.rs");
        let head = std::fs::read_to_string(path).expect("the table");
        let (head, _) = head.split_once("/// The version").expect("its beginning");
        let names = known();
        let mut text = format!(
            "{head}/// The version of libseccomp that it was made of.\n#[cfg(test)]\npub(super) const MADE_OF: (u32, u32, u32) = ({}, {}, {});\n\n\
             /// How many rows there are.\npub(super) const COUNT: usize = {};\n\n",
            version.major,
            version.minor,
            version.micro,
            names.len()
        );
        text.push_str(
            "/// The rows, in the order of their names.\n#[rustfmt::skip]\npub(super) static ROWS: [(&str, [i32; 6]); COUNT] = [\n",
        );
        for name in &names {
            let numbers = row(name).map(|number| if number == ABSENT { "N".to_owned() } else { number.to_string() });
            writeln!(text, "    (\"{name}\", [{}]),", numbers.join(", ")).expect("text");
        }
        text.push_str("];\n");
        std::fs::write(path, text).expect("written");
    }
}
