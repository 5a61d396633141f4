//! The words of config-linux.md "Seccomp" and their counterparts in libseccomp and the kernel; errors in crun's texts.
//! Not here: what is done with them.

use libseccomp::{ScmpAction, ScmpArch, ScmpCompareOp, ScmpSyscall};
use runtime_core::{Error, Result};
use std::str::FromStr;

/// Actions, in the order `features` prints them.
pub(crate) const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// Operators, in the order `features` prints them; the mask of the last one is filled in from the rule.
pub(crate) const OPERATORS: [(&str, ScmpCompareOp); 7] = [
    ("SCMP_CMP_NE", ScmpCompareOp::NotEqual),
    ("SCMP_CMP_LT", ScmpCompareOp::Less),
    ("SCMP_CMP_LE", ScmpCompareOp::LessOrEqual),
    ("SCMP_CMP_EQ", ScmpCompareOp::Equal),
    ("SCMP_CMP_GE", ScmpCompareOp::GreaterEqual),
    ("SCMP_CMP_GT", ScmpCompareOp::Greater),
    ("SCMP_CMP_MASKED_EQ", ScmpCompareOp::MaskedEqual(0)),
];

/// Flags and their bits in seccomp(2).
pub(crate) const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", libc::SECCOMP_FILTER_FLAG_TSYNC as u32),
    ("SECCOMP_FILTER_FLAG_LOG", libc::SECCOMP_FILTER_FLAG_LOG as u32),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32),
];

const ARCHITECTURES: [&str; 23] = [
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

/// The architectures that the linked libseccomp has tables for: newer ones are missing in older libraries.
pub(crate) fn known_architectures() -> Vec<&'static str> {
    let known = |word: &&str| architecture(word).is_ok_and(|arch| ScmpSyscall::from_name_by_arch("read", arch).is_ok());
    ARCHITECTURES.iter().copied().filter(known).collect()
}

/// `SCMP_ACT_…` with the number that ERRNO and TRACE carry: `errno`, else `default`.
///
/// # Errors
/// An unknown word; a number for an action that carries none; a number that does not fit.
pub(crate) fn action(word: &str, errno: Option<u32>, default: u32) -> Result<ScmpAction> {
    let carries = matches!(word, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE");
    if errno.is_some() && !carries && ACTIONS.contains(&word) {
        return Err(Error::invalid(format!("errno value specified for action `{}`", word.escape_debug())));
    }
    let number = errno.unwrap_or(default);
    // The action's data are 16 bits, and the kernel caps error numbers at MAX_ERRNO (include/linux/err.h).
    let limit = if word == "SCMP_ACT_ERRNO" { 4095 } else { u32::from(u16::MAX) };
    if carries && number > limit {
        return Err(Error::invalid(format!("errno value {number} is too large for action `{}`", word.escape_debug())));
    }
    let number = i32::try_from(number).unwrap_or(0);
    ScmpAction::from_str(word, Some(number)).map_err(|_| Error::invalid(format!("invalid seccomp action `{}`", word.escape_debug())))
}

/// `SCMP_CMP_…`; `value` is the mask where the operator takes one.
pub(crate) fn operator(word: &str, value: u64) -> Result<ScmpCompareOp> {
    match OPERATORS.iter().find(|(known, _)| *known == word) {
        Some((_, ScmpCompareOp::MaskedEqual(_))) => Ok(ScmpCompareOp::MaskedEqual(value)),
        Some((_, operator)) => Ok(*operator),
        None => Err(Error::invalid(format!("seccomp get operator `{}`", word.escape_debug()))),
    }
}

/// `SCMP_ARCH_…`.
pub(crate) fn architecture(word: &str) -> Result<ScmpArch> {
    ScmpArch::from_str(word).map_err(|_| Error::invalid(format!("seccomp unknown architecture `{}`", word.escape_debug())))
}

/// `SECCOMP_FILTER_FLAG_…`.
pub(crate) fn flag(word: &str) -> Result<u32> {
    match FLAGS.iter().find(|(known, _)| *known == word) {
        Some((_, flag)) => Ok(*flag),
        None => Err(Error::invalid(format!("unknown seccomp option `{}`", word.escape_debug()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_word_is_understood() {
        for word in ACTIONS {
            assert!(action(word, None, 1).is_ok(), "{word}");
        }
        for (word, _) in OPERATORS {
            assert!(operator(word, 0).is_ok(), "{word}");
        }
        for word in ARCHITECTURES {
            assert!(architecture(word).is_ok(), "{word}");
        }
        for (word, value) in FLAGS {
            assert_eq!(flag(word).unwrap(), value);
        }
    }

    #[test]
    fn errno_goes_with_errno_and_trace_only() {
        assert_eq!(action("SCMP_ACT_ERRNO", Some(38), 1).unwrap(), ScmpAction::Errno(38));
        assert_eq!(action("SCMP_ACT_ERRNO", None, 1).unwrap(), ScmpAction::Errno(1));
        assert_eq!(action("SCMP_ACT_TRACE", Some(65535), 1).unwrap(), ScmpAction::Trace(65535));
        let text = |r: Result<ScmpAction>| r.unwrap_err().to_string();
        assert_eq!(text(action("SCMP_ACT_KILL", Some(1), 1)), "errno value specified for action `SCMP_ACT_KILL`");
        assert_eq!(text(action("SCMP_ACT_ERRNO", Some(4096), 1)), "errno value 4096 is too large for action `SCMP_ACT_ERRNO`");
        assert_eq!(text(action("ALLOW", Some(1), 1)), "invalid seccomp action `ALLOW`");
    }
}
