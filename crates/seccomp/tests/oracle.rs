//! The program for podman's profile, interpreted, against an evaluation of the profile that knows nothing of BPF: every
//! number from 0 to 500 on three architectures, with arguments around the values the profile names. The only thing both
//! sides share is libseccomp's table of names and numbers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod bpf;

use bpf::{Call, run};
use libseccomp::{ScmpArch, ScmpSyscall};
use pinnace_seccomp::Libseccomp;
use runtime_core::api::{SeccompCompiler, SeccompFilter, SeccompRequest};
use runtime_core::spec::Map;
use serde_json::Value;

const PODMAN: &str = include_str!("data/podman-seccomp.json");

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
const X32_BIT: u32 = 0x4000_0000;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_THREAD: u32 = 0;

fn compile(section: &str) -> SeccompFilter {
    let request = SeccompRequest { section, annotations: &Map::default(), cache: None };
    Libseccomp::new().compile(&request).expect("the section compiles")
}

/// A rule of the profile that holds for a call, by the words of config-linux.md.
fn holds(rule: &Value, args: &[u64; 6], wide: bool) -> bool {
    let conditions = rule["args"].as_array().map(Vec::as_slice).unwrap_or_default();
    // A 32-bit architecture passes 32-bit arguments; a profile written for 64 bits is compared in their width.
    let width = |v: u64| if wide { v } else { v & u64::from(u32::MAX) };
    let one = |c: &Value| {
        let arg = width(args[c["index"].as_u64().expect("index") as usize]);
        let (value, two) = (width(c["value"].as_u64().expect("value")), width(c["valueTwo"].as_u64().unwrap_or(0)));
        match c["op"].as_str().expect("op") {
            "SCMP_CMP_NE" => arg != value,
            "SCMP_CMP_LT" => arg < value,
            "SCMP_CMP_LE" => arg <= value,
            "SCMP_CMP_EQ" => arg == value,
            "SCMP_CMP_GE" => arg >= value,
            "SCMP_CMP_GT" => arg > value,
            // libseccomp looks at no bit outside the mask, on either side.
            "SCMP_CMP_MASKED_EQ" => arg & value == two & value,
            other => panic!("operator {other}"),
        }
    };
    let mut indices: Vec<_> = conditions.iter().map(|c| c["index"].as_u64()).collect();
    indices.sort_unstable();
    let count = indices.len();
    indices.dedup();
    if indices.len() < count { conditions.iter().any(one) } else { conditions.iter().all(one) }
}

fn verdict(action: &str, errno: &Value) -> u32 {
    let number = errno.as_u64().unwrap_or(1) as u32;
    match action {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_ERRNO" => ERRNO | number,
        other => panic!("action {other}"),
    }
}

/// What the profile says; a panic where two rules with different answers hold, since that has no defined answer.
fn expected(profile: &Value, name: Option<&str>, args: &[u64; 6], wide: bool) -> u32 {
    let default = verdict(profile["defaultAction"].as_str().expect("defaultAction"), &profile["defaultErrnoRet"]);
    let rules = profile["syscalls"].as_array().expect("syscalls").iter();
    let named = rules.filter(|r| name.is_some_and(|name| r["names"].as_array().expect("names").iter().any(|n| n == name)));
    let mut answers: Vec<u32> =
        named.filter(|r| holds(r, args, wide)).map(|r| verdict(r["action"].as_str().expect("action"), &r["errnoRet"])).collect();
    answers.dedup();
    answers.first().copied().unwrap_or(default)
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

/// The three architectures of the profile: token, number in seccomp_data, bit in the numbers, whether arguments are wide.
fn architectures() -> [(ScmpArch, u32, u32, bool); 3] {
    [
        (ScmpArch::X8664, AUDIT_ARCH_X86_64, 0, true),
        (ScmpArch::X86, AUDIT_ARCH_I386, 0, false),
        (ScmpArch::X32, AUDIT_ARCH_X86_64, X32_BIT, false),
    ]
}

#[test]
#[cfg(target_arch = "x86_64")]
fn podmans_profile_gives_the_verdicts_it_describes() {
    let profile: Value = serde_json::from_str(PODMAN).expect("JSON");
    let filter = compile(PODMAN);
    let samples = samples();
    let (mut compared, mut allowed, mut unlike) = (0, 0, Vec::new());
    for (arch, audit, bit, wide) in architectures() {
        for nr in 0..=500u32 {
            let name = ScmpSyscall::from_raw_syscall((nr | bit) as i32).get_name_by_arch(arch).ok();
            for args in &samples {
                let call = Call { nr: nr | bit, arch: audit, args: *args };
                let (got, _) = run(&filter.program, &call).expect("a valid program");
                let want = expected(&profile, name.as_deref(), args, wide);
                compared += 1;
                allowed += usize::from(got == ALLOW);
                if got != want {
                    unlike.push(format!("{arch:?} {nr} {name:?} {args:x?}: {got:#x}, not {want:#x}"));
                }
            }
        }
    }
    assert!(unlike.is_empty(), "{} of {compared} verdicts differ:\n{}", unlike.len(), unlike[..unlike.len().min(40)].join("\n"));
    assert_eq!(compared, 3 * 501 * samples.len());
    assert!(allowed > compared / 3, "{allowed} of {compared} allowed");
}

/// What is newer than the last call a profile names is unknown, on each architecture by its own numbers; the rest is as it says.
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
        let filter = compile(&section(default, all));
        for (arch, bit) in
            [(AUDIT_ARCH_X86_64, 0), (AUDIT_ARCH_X86_64, X32_BIT), (AUDIT_ARCH_I386, 0), (AUDIT_ARCH_AARCH64, 0), (0x4000_0028, 0)]
        {
            assert_eq!(ask(&filter, arch, bit | 439), ALLOW, "{default} {arch:#x}");
            assert_eq!(ask(&filter, arch, bit | 438), verdict, "{default} {arch:#x}");
            for newer in [440, 500, 0xeffff] {
                assert_eq!(ask(&filter, arch, bit | newer), ENOSYS, "{default} {arch:#x} {newer}");
            }
        }
        // ARM's private calls are no newer ones, and an architecture that the profile does not list stays forbidden.
        assert_eq!(ask(&filter, 0x4000_0028, 0xf_0002), verdict);
        assert_eq!(ask(&filter, 0x8000_0016, 500), KILL_THREAD);
        let native = compile(&section(default, ""));
        assert_eq!(ask(&native, AUDIT_ARCH_X86_64, 440), ENOSYS);
        assert_eq!(ask(&native, AUDIT_ARCH_X86_64, X32_BIT | 440), KILL_THREAD);
        assert_eq!(ask(&native, AUDIT_ARCH_I386, 440), KILL_THREAD);
    }
    for permissive in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"] {
        assert!(ask(&compile(&section(permissive, all)), AUDIT_ARCH_X86_64, 500) >= 0x7ffc_0000);
    }
    let off = Map(vec![("run.pinnace.seccomp_enosys_stub".into(), "0".into())]);
    let section = section("SCMP_ACT_ERRNO", all);
    let filter = Libseccomp::new().compile(&SeccompRequest { section: &section, annotations: &off, cache: None }).expect("it compiles");
    assert_eq!(ask(&filter, AUDIT_ARCH_X86_64, 440), ERRNO | 1);
    assert!(compile(&section).program.ends_with(&filter.program), "the filter behind the stub is the same");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn other_architectures_are_killed() {
    let filter = compile(PODMAN);
    for nr in 0..=500 {
        let call = Call { nr, arch: AUDIT_ARCH_AARCH64, args: [0; 6] };
        assert_eq!(run(&filter.program, &call).expect("a valid program").0, KILL_THREAD);
    }
}

/// The tree must be worth it: on average over the calls that the profile allows, few instructions.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_large_profile_is_searched_as_a_tree() {
    let filter = compile(PODMAN);
    let steps: Vec<usize> = (0..=450)
        .map(|nr| run(&filter.program, &Call { nr, arch: AUDIT_ARCH_X86_64, args: [0; 6] }).expect("a valid program"))
        .filter(|(verdict, _)| *verdict == ALLOW)
        .map(|(_, steps)| steps)
        .collect();
    let mean = steps.iter().sum::<usize>() / steps.len();
    println!("{} instructions; {mean} on average for an allowed call, at most {:?}", filter.program.len() / 8, steps.iter().max());
    assert!(mean < 60, "{mean} instructions for the average call");
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
                let filter = compile(&section);
                let rule: Value = serde_json::from_str(&rule).expect("JSON");
                for arg in values {
                    let args = [7, arg, 7, 7, 7, 7];
                    let want = if holds(&rule, &args, true) { ERRNO | 1 } else { ALLOW };
                    let call = Call { nr: libc::SYS_mkdir as u32, arch: AUDIT_ARCH_X86_64, args };
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
    let ask = |filter: &SeccompFilter, args: [u64; 6]| {
        run(&filter.program, &Call { nr, arch: AUDIT_ARCH_X86_64, args }).expect("a valid program").0
    };
    let both = compile(&section(1));
    let either = compile(&section(0));
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
        let filter = compile(&format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/s","syscalls":[{{"names":["mkdir"],"action":"{action}"{errno}}}]}}"#
        ));
        let call = Call { nr: libc::SYS_mkdir as u32, arch: AUDIT_ARCH_X86_64, args: [0; 6] };
        assert_eq!(run(&filter.program, &call).expect("a valid program").0, number, "{action}");
        assert_eq!(filter.listener.is_some(), action == "SCMP_ACT_NOTIFY");
    }
}

/// The kernel itself takes the program: it is checked, and installed in a thread that ends at once.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_kernel_takes_the_program() {
    let filter = compile(PODMAN);
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
