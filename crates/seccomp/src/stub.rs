//! The answer to system calls that are newer than the profile: ENOSYS, in front of the filter. Not here: the filter.
//!
//! A profile that lists what is allowed answers EPERM to a call that nobody knew when it was written. A C library that tries the
//! call first and falls back on ENOSYS only breaks on that. So calls with numbers above all that the profile names are answered as
//! a kernel without them would; calls the author could have named get what the author said. Nothing is allowed that was not.
//!
//! The numbers are per architecture, in the order the kernel got them; only x32 reuses x86_64's token, with a bit in the number.

use crate::bpf::{ABOVE, ARCHITECTURE, EQUAL, FROM, INSTRUCTION, LOAD, NUMBER, RETURN, instruction};
use libseccomp::{ScmpAction, ScmpArch, ScmpSyscall};
use runtime_core::spec::Seccomp;

const X86_64: u32 = 0xc000_003e;
/// What makes a number one of x32.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// The last call that a profile names, and where the numbers of such calls end.
type Range = (u32, Option<u32>);

/// `AUDIT_ARCH_…` of linux/audit.h and the number from which on others than ordinary calls live, if not to the end: x32's calls of
/// x86_64, ARM's private ones (`__ARM_NR_BASE`).
pub(crate) fn token(arch: ScmpArch) -> Option<(u32, Option<u32>)> {
    let token = match arch {
        ScmpArch::X8664 => return Some((X86_64, Some(X32_BIT))),
        ScmpArch::X32 => return Some((X86_64, Some(X32_BIT << 1))),
        ScmpArch::Arm => return Some((0x4000_0028, Some(0x000f_0000))),
        ScmpArch::X86 => 0x4000_0003,
        ScmpArch::Aarch64 => 0xc000_00b7,
        ScmpArch::Loongarch64 => 0xc000_0102,
        ScmpArch::M68k => 0x0000_0004,
        ScmpArch::Mips => 0x0000_0008,
        ScmpArch::Mips64 => 0x8000_0008,
        ScmpArch::Mips64N32 => 0xa000_0008,
        ScmpArch::Mipsel => 0x4000_0008,
        ScmpArch::Mipsel64 => 0xc000_0008,
        ScmpArch::Mipsel64N32 => 0xe000_0008,
        ScmpArch::Parisc => 0x0000_000f,
        ScmpArch::Parisc64 => 0x8000_000f,
        ScmpArch::Ppc => 0x0000_0014,
        ScmpArch::Ppc64 => 0x8000_0015,
        ScmpArch::Ppc64Le => 0xc000_0015,
        ScmpArch::Riscv64 => 0xc000_00f3,
        ScmpArch::S390 => 0x0000_0016,
        ScmpArch::S390X => 0x8000_0016,
        ScmpArch::Sh => 0x4000_002a,
        ScmpArch::Sheb => 0x0000_002a,
        // The native one is asked for by its own name; one that a newer library brings gets no stub.
        _ => return None,
    };
    Some((token, None))
}

/// Whether a default action hides that a call is unknown. A permissive one reaches the kernel, which says so itself; NOTIFY asks someone.
pub(crate) fn is_wanted(default: ScmpAction) -> bool {
    match default {
        ScmpAction::Errno(number) => number != libc::ENOSYS,
        ScmpAction::KillProcess | ScmpAction::KillThread | ScmpAction::Trap => true,
        _ => false,
    }
}

/// The instructions in front of the filter, empty where the profile names no call; `architectures` are the filter's own.
pub(crate) fn instructions(section: &Seccomp<'_>, architectures: &[ScmpArch]) -> Vec<u8> {
    let mut ranges: Vec<(u32, Vec<Range>)> = Vec::new();
    for arch in architectures {
        let Some((token, end)) = token(*arch) else { continue };
        let Some(last) = highest(section, *arch, end) else { continue };
        match ranges.iter_mut().find(|(other, _)| *other == token) {
            Some((_, list)) => list.push((last, end)),
            None => ranges.push((token, vec![(last, end)])),
        }
    }
    ranges.iter().flat_map(|(token, list)| one(*token, list)).flatten().collect()
}

/// The highest number that the profile has a name for. libseccomp gives calls that an architecture lacks negative numbers.
fn highest(section: &Seccomp<'_>, arch: ScmpArch, end: Option<u32>) -> Option<u32> {
    let names = section.syscalls.iter().flat_map(|rule| &rule.names);
    let numbers = names.filter_map(|name| ScmpSyscall::from_name_by_arch(name, arch).ok());
    numbers.filter_map(|call| u32::try_from(i32::from(call)).ok()).filter(|number| end.is_none_or(|end| *number < end)).max()
}

/// The check for one token; what it does not answer falls out at its end. Jumps are relative to the next instruction.
fn one(token: u32, ranges: &[Range]) -> Vec<[u8; INSTRUCTION]> {
    let answer = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut body = vec![instruction(LOAD, 0, 0, NUMBER)];
    for (last, end) in ranges {
        body.extend(end.map(|end| instruction(FROM, 2, 0, end)));
        body.push(instruction(ABOVE, 0, 1, *last));
        body.push(instruction(RETURN, 0, 0, answer));
    }
    // Two ranges at most share a token.
    let skip = u8::try_from(body.len()).unwrap_or(u8::MAX);
    [vec![instruction(LOAD, 0, 0, ARCHITECTURE), instruction(EQUAL, 0, skip, token)], body].concat()
}
