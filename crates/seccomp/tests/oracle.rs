//! The programs for podman's profile, the generator's and libseccomp's, interpreted, against an evaluation of the profile that knows
//! nothing of BPF: every number from 0 to 500 on three architectures, with arguments around the values the profile names. The only
//! thing all sides share is libseccomp's table of names and numbers. The two programs against each other: `generator`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod bpf;
mod meaning;

use bpf::{Call, run};
use meaning::{AARCH64, ALLOW, ARCHITECTURES, ERRNO, I386, KILL_THREAD, Meaning, X32_BIT, X86_64, holds};
use pinnace_seccomp::{Generator, Libseccomp};
use runtime_core::api::{SeccompCompiler, SeccompFilter, SeccompRequest};
use runtime_core::spec::Map;
use serde_json::Value;

const PODMAN: &str = include_str!("data/podman-seccomp.json");

/// The filters of both compilers.
fn compile(section: &str) -> [SeccompFilter; 2] {
    let request = SeccompRequest { section, annotations: &Map::default(), cache: None };
    let compilers: [&dyn SeccompCompiler; 2] = [&Libseccomp::new(), &Generator::new()];
    compilers.map(|compiler| compiler.compile(&request).expect("the section compiles"))
}

/// Argument lists: the interesting values in each of the first three places, the rest drawn from a fixed sequence.
fn samples() -> Vec<[u64; 6]> {
    let interesting = [0, 1, 2, 8, 9, 10, 16, 17, 131_072, 131_080, 0xffff_ffff, 0x1_0000_0010, 0x1_0000_0000, 0x1_ffff_ffff, u64::MAX];
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut lists = Vec::new();
    for first in interesting {
        for third in interesting {
            lists.push([first, next(), third, next(), next(), next()]);
        }
    }
    lists
}

#[test]
#[cfg(target_arch = "x86_64")]
fn podmans_profile_gives_the_verdicts_it_describes() {
    let profile: Value = serde_json::from_str(PODMAN).expect("JSON");
    let meaning = Meaning::new(&profile);
    for filter in compile(PODMAN) {
        let samples = samples();
        let (mut compared, mut allowed, mut unlike) = (0, 0, Vec::new());
        for (_, arch, token, bit, _) in &ARCHITECTURES[..3] {
            for nr in 0..=500u32 {
                for args in &samples {
                    let call = Call { nr: nr | bit, arch: *token, args: *args };
                    let (got, _) = run(&filter.program, &call).expect("a valid program");
                    let want = meaning.verdict(&call).expect("a defined answer");
                    compared += 1;
                    allowed += usize::from(got == ALLOW);
                    if got != want {
                        unlike.push(format!("{arch:?} {nr} {args:x?}: {got:#x}, not {want:#x}"));
                    }
                }
            }
        }
        assert!(unlike.is_empty(), "{} of {compared} verdicts differ:\n{}", unlike.len(), unlike[..unlike.len().min(40)].join("\n"));
        assert_eq!(compared, 3 * 501 * samples.len());
        assert!(allowed > compared / 3, "{allowed} of {compared} allowed");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_newer_than_the_profile_are_unknown() {
    const ENOSYS: u32 = ERRNO | 38;
    let section = |default: &str, archs: &str| {
        format!(
            r#"{{"defaultAction":"{default}","architectures":[{archs}],"syscalls":[{{"names":["read","faccessat2","no_such"],"action":"SCMP_ACT_ALLOW"}}]}}"#
        )
    };
    let all = r#""SCMP_ARCH_X86","SCMP_ARCH_X32","SCMP_ARCH_AARCH64","SCMP_ARCH_ARM""#;
    let ask = |filter: &SeccompFilter, arch, nr| run(&filter.program, &Call { nr, arch, args: [0; 6] }).expect("a valid program").0;
    // faccessat2 is 439 everywhere but for the bit of x32.
    for (default, verdict) in
        [("SCMP_ACT_ERRNO", ERRNO | 1), ("SCMP_ACT_KILL_PROCESS", 0x8000_0000), ("SCMP_ACT_TRAP", 0x0003_0000), ("SCMP_ACT_KILL", 0)]
    {
        for filter in compile(&section(default, all)) {
            for (arch, bit) in [(X86_64, 0), (X86_64, X32_BIT), (I386, 0), (AARCH64, 0), (0x4000_0028, 0)] {
                assert_eq!(ask(&filter, arch, bit | 439), ALLOW, "{default} {arch:#x}");
                assert_eq!(ask(&filter, arch, bit | 438), verdict, "{default} {arch:#x}");
                for newer in [440, 500, 0xeffff] {
                    assert_eq!(ask(&filter, arch, bit | newer), ENOSYS, "{default} {arch:#x} {newer}");
                }
            }
            // ARM's private calls are no newer ones, and an architecture that the profile does not list stays forbidden.
            assert_eq!(ask(&filter, 0x4000_0028, 0xf_0002), verdict);
            assert_eq!(ask(&filter, 0x8000_0016, 500), KILL_THREAD);
        }
        for native in compile(&section(default, "")) {
            assert_eq!(ask(&native, X86_64, 440), ENOSYS);
            assert_eq!(ask(&native, X86_64, X32_BIT | 440), KILL_THREAD);
            assert_eq!(ask(&native, I386, 440), KILL_THREAD);
        }
    }
    for permissive in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"] {
        for filter in compile(&section(permissive, all)) {
            assert!(ask(&filter, X86_64, 500) >= 0x7ffc_0000);
        }
    }
    let off = Map(vec![("run.pinnace.seccomp_enosys_stub".into(), "0".into())]);
    let section = section("SCMP_ACT_ERRNO", all);
    let off = SeccompRequest { section: &section, annotations: &off, cache: None };
    let [library, generated] = compile(&section);
    let filter = Libseccomp::new().compile(&off).expect("it compiles");
    assert_eq!(ask(&filter, X86_64, 440), ERRNO | 1);
    assert!(library.program.ends_with(&filter.program), "the filter behind the stub is the same");
    // The generator's answer stands among the others: what is not newer is answered as without it.
    let filter = Generator::new().compile(&off).expect("it compiles");
    for (arch, nr) in [(X86_64, 0), (X86_64, X32_BIT), (I386, 0), (AARCH64, 0)]
        .into_iter()
        .flat_map(|(arch, bit)| (0..600).map(move |nr| (arch, bit | nr)))
    {
        let (with, without) = (ask(&generated, arch, nr), ask(&filter, arch, nr));
        assert_eq!(with, if nr & !X32_BIT > 439 { ENOSYS } else { without }, "{arch:#x} {nr:#x}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn other_architectures_are_killed() {
    for filter in compile(PODMAN) {
        for nr in 0..=500 {
            let call = Call { nr, arch: AARCH64, args: [0; 6] };
            assert_eq!(run(&filter.program, &call).expect("a valid program").0, KILL_THREAD);
        }
    }
}

/// The tree must be worth it: on average over the calls that the profile allows, few instructions.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_large_profile_is_searched_as_a_tree() {
    for filter in compile(PODMAN) {
        let steps: Vec<usize> = (0..=450)
            .map(|nr| run(&filter.program, &Call { nr, arch: X86_64, args: [0; 6] }).expect("a valid program"))
            .filter(|(verdict, _)| *verdict == ALLOW)
            .map(|(_, steps)| steps)
            .collect();
        let mean = steps.iter().sum::<usize>() / steps.len();
        println!("{} instructions; {mean} on average for an allowed call, at most {:?}", filter.program.len() / 8, steps.iter().max());
        assert!(mean < 60, "{mean} instructions for the average call");
    }
}

/// Every operator against the plain comparison, with both halves of the argument in play.
#[test]
#[cfg(target_arch = "x86_64")]
fn operators_compare_all_64_bits() {
    let values = [0u64, 1, 0x10, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0010, u64::MAX - 1, u64::MAX];
    for op in ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"] {
        for value in values {
            for two in [0u64, 0x10] {
                let rule = format!(
                    r#"{{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","args":[{{"index":1,"value":{value},"valueTwo":{two},"op":"SCMP_CMP_{op}"}}]}}"#
                );
                let section = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#);
                let filters = compile(&section);
                let rule: Value = serde_json::from_str(&rule).expect("JSON");
                for (filter, arg) in filters.iter().flat_map(|filter| values.map(|arg| (filter, arg))) {
                    let args = [7, arg, 7, 7, 7, 7];
                    let want = if holds(&rule, &args, true, None) { ERRNO | 1 } else { ALLOW };
                    let call = Call { nr: libc::SYS_mkdir as u32, arch: X86_64, args };
                    assert_eq!(run(&filter.program, &call).expect("a valid program").0, want, "{arg:#x} {op} {value:#x} {two:#x}");
                }
            }
        }
    }
}

/// Two conditions on different arguments are joined by "and", two on the same by "or".
#[test]
#[cfg(target_arch = "x86_64")]
fn conditions_are_joined_as_the_specification_says() {
    let section = |second: u32| {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":5,"args":[
                {{"index":0,"value":1,"op":"SCMP_CMP_EQ"}},{{"index":{second},"value":2,"op":"SCMP_CMP_EQ"}}]}}]}}"#
        )
    };
    let nr = libc::SYS_mkdir as u32;
    let ask = |filter: &SeccompFilter, args: [u64; 6]| run(&filter.program, &Call { nr, arch: X86_64, args }).expect("a valid program").0;
    for (both, either) in compile(&section(1)).into_iter().zip(compile(&section(0))) {
        for (args, and, or) in [
            ([1, 2, 0, 0, 0, 0], true, true),
            ([1, 3, 0, 0, 0, 0], false, true),
            ([2, 2, 0, 0, 0, 0], false, true),
            ([3, 2, 0, 0, 0, 0], false, false),
        ] {
            let answer = |refused: bool| if refused { ERRNO | 5 } else { ALLOW };
            assert_eq!(ask(&both, args), answer(and), "{args:?}");
            assert_eq!(ask(&either, args), answer(or), "{args:?}");
        }
    }
}

/// Each action's number as the kernel defines it (include/uapi/linux/seccomp.h).
#[test]
#[cfg(target_arch = "x86_64")]
fn actions_have_the_kernels_numbers() {
    for (action, errno, number) in [
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", None, 0),
        ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
        ("SCMP_ACT_TRAP", None, 0x0003_0000),
        ("SCMP_ACT_ERRNO", None, 0x0005_0001),
        ("SCMP_ACT_ERRNO", Some(38), 0x0005_0026),
        ("SCMP_ACT_NOTIFY", None, 0x7fc0_0000),
        ("SCMP_ACT_TRACE", None, 0x7ff0_0001),
        ("SCMP_ACT_TRACE", Some(65535), 0x7ff0_ffff),
        ("SCMP_ACT_LOG", None, 0x7ffc_0000),
    ] {
        let errno = errno.map_or(String::new(), |n: u32| format!(r#","errnoRet":{n}"#));
        for filter in compile(&format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/s","syscalls":[{{"names":["mkdir"],"action":"{action}"{errno}}}]}}"#
        )) {
            let call = Call { nr: libc::SYS_mkdir as u32, arch: X86_64, args: [0; 6] };
            assert_eq!(run(&filter.program, &call).expect("a valid program").0, number, "{action}");
            assert_eq!(filter.listener.is_some(), action == "SCMP_ACT_NOTIFY");
        }
    }
}

/// The kernel itself takes the program: it is checked, and installed in a thread that ends at once.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_kernel_takes_the_program() {
    for filter in compile(PODMAN) {
        let outcome = std::thread::spawn(move || {
            #[allow(unsafe_code)]
            // SAFETY: prctl with scalar arguments; it concerns this thread, which ends with the closure.
            let prepared = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            assert_eq!(prepared, 0);
            let length = (filter.program.len() / 8) as u16;
            let fprog = libc::sock_fprog { len: length, filter: filter.program.as_ptr().cast_mut().cast() };
            #[allow(unsafe_code)]
            // SAFETY: `fprog` names `length` instructions of 8 bytes that live until after the call; the kernel copies them.
            let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, filter.flags, &raw const fprog) };
            let error = std::io::Error::last_os_error();
            #[allow(unsafe_code)]
            // SAFETY: acct(NULL) turns accounting off; under the filter it is refused before anything happens.
            let refused = if result == 0 { unsafe { libc::syscall(libc::SYS_acct, 0) } } else { 0 };
            (result, error, refused, std::io::Error::last_os_error().raw_os_error())
        });
        let (result, error, refused, errno) = outcome.join().expect("the thread");
        assert_eq!(result, 0, "{error}");
        // Without the filter, an acct of a kernel that lacks it gives ENOSYS (38), which is also the profile's default.
        assert_eq!((refused, errno), (-1, Some(libc::EPERM)));
    }
}
