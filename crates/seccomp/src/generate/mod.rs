//! Filters without libseccomp's rule trees, which cost a profile that is not in the cache forty times as much.
//!
//! Here: what is supported, and the order of things: names become numbers and rules answers (`calls`), answers become ranges of
//! numbers (`ranges`), ranges a program (`emit`); `conditions` says when two conditions exclude each other. Not here: what is not
//! supported, of which there is always a reason and which libseccomp compiles (`library`).
//!
//! A filter gives each call the verdict that libseccomp's gives, and where libseccomp errs (crate's documentation), the one that the
//! section asks for. The numbers of calls are libseccomp's (`names`, `table`).

mod calls;
mod conditions;
mod emit;
mod names;
mod ranges;
mod table;

use crate::bpf::MAX_INSTRUCTIONS;
use crate::kernel;
use crate::profile::Profile;
use libseccomp::{ScmpAction, ScmpArch, ScmpSyscall};
use std::fmt;

/// Why a profile is left to libseccomp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unsupported {
    /// An architecture with another byte order, or with rules of its own for what a name means, or unknown to the library.
    Architecture(ScmpArch),
    /// An action that the kernel or the library refuses, or that nobody has heard of.
    Action(ScmpAction),
    /// A name that may not be unknown is; libseccomp's side words the error.
    UnknownName(String),
    /// A number that stands for something else than a call or its absence.
    Number(String, i32),
    /// Rules of different actions for a call that may both hold: what counts is decided by the order of libseccomp's tree.
    Overlap(u32),
    /// More rules for one call than a filter has room for.
    ManyRules(u32),
    /// More instructions than the kernel takes.
    Length(usize),
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Architecture(arch) => write!(f, "architecture {arch:?}"),
            Self::Action(action) => write!(f, "action {action:?}"),
            Self::UnknownName(name) => write!(f, "unknown name `{}`", name.escape_debug()),
            Self::Number(name, number) => write!(f, "`{}` has the number {number}", name.escape_debug()),
            Self::Overlap(number) => write!(f, "rules of different actions for call {number} may both hold"),
            Self::ManyRules(number) => write!(f, "too many rules for call {number}"),
            Self::Length(length) => write!(f, "{length} instructions"),
        }
    }
}

/// The program for a profile, or why there is none.
pub(crate) fn program(profile: &Profile<'_>) -> Result<Vec<u8>, Unsupported> {
    let default = supported(profile)?;
    let tables = calls::collect(profile)?;
    let program = emit::program(&tables, default);
    let length = program.len() / crate::bpf::INSTRUCTION;
    if length > MAX_INSTRUCTIONS { Err(Unsupported::Length(length)) } else { Ok(program) }
}

/// Whether actions and architectures are ones that the generator masters; the verdict of the default action. What depends on numbers
/// and conditions, `calls` finds.
fn supported(profile: &Profile<'_>) -> Result<u32, Unsupported> {
    let architectures = profile.distinct_architectures();
    for arch in &architectures {
        let little_endian =
            matches!(arch, ScmpArch::X8664 | ScmpArch::X86 | ScmpArch::X32 | ScmpArch::Aarch64 | ScmpArch::Arm | ScmpArch::Riscv64);
        // x32 is a part of the table of x86_64, which is not there if the machine is another.
        let alone = *arch == ScmpArch::X32 && !architectures.contains(&ScmpArch::X8664);
        if !little_endian || alone || cfg!(target_endian = "big") || ScmpSyscall::from_name_by_arch("read", *arch).is_err() {
            return Err(Unsupported::Architecture(*arch));
        }
    }
    if profile.default == ScmpAction::Notify {
        return Err(Unsupported::Action(profile.default));
    }
    let mut known = vec![profile.default];
    known.extend(profile.rules.iter().map(|rule| rule.action));
    known.sort_unstable_by_key(|action| verdict(*action));
    known.dedup();
    for action in known {
        // libseccomp asks for these, too; older kernels take the others for granted.
        let young = matches!(action, ScmpAction::KillProcess | ScmpAction::Log | ScmpAction::Notify);
        let number = verdict(action).ok_or(Unsupported::Action(action))?;
        if young && !kernel::takes_action(number) {
            return Err(Unsupported::Action(action));
        }
    }
    verdict(profile.default).ok_or(Unsupported::Action(profile.default))
}

/// `SECCOMP_RET_…` with its data (seccomp(2)); `None` for an action that a newer libseccomp brings.
fn verdict(action: ScmpAction) -> Option<u32> {
    Some(match action {
        ScmpAction::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        ScmpAction::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        ScmpAction::Trap => libc::SECCOMP_RET_TRAP,
        ScmpAction::Notify => libc::SECCOMP_RET_USER_NOTIF,
        ScmpAction::Errno(number) => libc::SECCOMP_RET_ERRNO | (number as u32 & libc::SECCOMP_RET_DATA),
        ScmpAction::Trace(number) => libc::SECCOMP_RET_TRACE | u32::from(number),
        ScmpAction::Log => libc::SECCOMP_RET_LOG,
        ScmpAction::Allow => libc::SECCOMP_RET_ALLOW,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::Options;
    use runtime_core::spec::{Seccomp, parse};

    fn generate(text: &str, options: &Options<'_>) -> Result<Vec<u8>, Unsupported> {
        let section = parse::<Seccomp<'_>>(text.as_bytes()).unwrap();
        program(&Profile::read(&section, options).unwrap())
    }

    fn reason(text: &str) -> String {
        generate(text, &Options::default()).unwrap_err().to_string()
    }

    fn rules(rules: &str) -> String {
        format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[{rules}]}}"#)
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_engines_profiles_are_supported() {
        for text in [
            include_str!("../../../../tests/data/seccomp/podman.json"),
            include_str!("../../../../tests/data/seccomp/docker.json"),
            include_str!("../../../../tests/data/seccomp/containerd.json"),
            include_str!("../../tests/data/podman-seccomp.json"),
        ] {
            generate(text, &Options::default()).unwrap();
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn what_is_not_supported_has_a_reason() {
        let with = |archs: &str| format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","architectures":[{archs}]}}"#);
        assert_eq!(reason(&with(r#""SCMP_ARCH_S390X""#)), "architecture S390X");
        assert_eq!(reason(&with(r#""SCMP_ARCH_X86","SCMP_ARCH_MIPSEL""#)), "architecture Mipsel");
        assert_eq!(reason(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#), "action Notify");
        let strict = Options { fail_unknown: true, ..Options::default() };
        let unknown = generate(&rules(r#"{"names":["mk\ndir"],"action":"SCMP_ACT_ALLOW"}"#), &strict);
        assert_eq!(unknown.unwrap_err().to_string(), r"unknown name `mk\ndir`");
        let when = |call: &str, action: &str, condition: &str| {
            format!(r#"{{"names":["{call}"],"action":"SCMP_ACT_{action}","args":[{{"index":0,{condition}}}]}}"#)
        };
        let equal = |call: &str, action: &str, value: u32| when(call, action, &format!(r#""value":{value},"op":"SCMP_CMP_EQ""#));
        // Call 16 of x86_64, the native architecture, comes first.
        let overlap = "rules of different actions for call 16 may both hold";
        let two = |one: String, other: String| rules(&format!("{one},{other}"));
        assert_eq!(reason(&two(equal("ioctl", "ALLOW", 1), equal("ioctl", "LOG", 1))), overlap);
        // Neither can hold, and libseccomp refuses the second.
        let never = |action| when("ioctl", action, &format!(r#""value":{},"op":"SCMP_CMP_GT""#, u64::MAX));
        assert_eq!(reason(&two(never("ALLOW"), never("LOG"))), overlap);
        // x86_64 has no such call, and libseccomp refuses the second all the same.
        let lacking = two(equal("_llseek", "ALLOW", 1), equal("_llseek", "LOG", 1));
        assert!(reason(&lacking).starts_with("rules of different actions"), "{}", reason(&lacking));
        let nothing = when("ioctl", "LOG", r#""value":0,"op":"SCMP_CMP_MASKED_EQ""#);
        let always = r#"{"names":["ioctl"],"action":"SCMP_ACT_ALLOW"}"#;
        assert_eq!(reason(&two(nothing.clone(), always.into())), overlap);
        assert_eq!(reason(&two(always.into(), nothing)), overlap);
        assert!(generate(&two(equal("ioctl", "ALLOW", 1), equal("ioctl", "LOG", 2)), &Options::default()).is_ok());
        // Only x86 makes one call of these.
        let muxed = r#"{"names":["semop"],"action":"SCMP_ACT_ALLOW"},{"names":["semop"],"action":"SCMP_ACT_LOG"}"#;
        assert_eq!(reason(&rules(muxed)), "rules of different actions for call 117 may both hold");
        let many = |count| rules(&(0..count).map(|n| equal("ioctl", "ALLOW", n * 2)).collect::<Vec<_>>().join(","));
        assert!(generate(&many(1500), &Options::default()).is_ok());
        assert_eq!(reason(&many(2100)), "too many rules for call 16");
        assert!(reason(&many(2047)).ends_with(" instructions"));
    }
}
