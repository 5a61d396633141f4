//! Device rules → a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`, purely. Not here: loading it (`attach`).
//!
//! A later rule wins over an earlier one, and the default list over all, for each of the three kinds of access by itself: a request
//! for `rw` is granted when the last rule about `r` and the last rule about `w` allow it. The program asks the rules last to first and
//! keeps the access that is still undecided in a register:
//!
//! ```text
//! r2 type   r3 undecided access   r4 major   r5 minor
//! allow:  r3 &= !access;  if r3 == 0 return 1
//! deny:   if r3 & access  return 0
//! end:    return 0
//! ```

use super::rules::{ALL_ACCESS, DEFAULTS, Kind, Rule};

/// `struct bpf_insn` (linux/bpf.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u8,
    /// Destination register in the low four bits, source in the high four.
    pub regs: u8,
    /// Jump or memory offset.
    pub off: i16,
    /// Immediate.
    pub imm: i32,
}

/// `*(u32 *)(src + off)`
pub(super) const LOAD32: u8 = 0x61;
pub(super) const MOV_REG: u8 = 0xbf;
pub(super) const MOV: u8 = 0xb7;
pub(super) const AND: u8 = 0x57;
pub(super) const SHIFT_RIGHT: u8 = 0x77;
pub(super) const JUMP_EQ: u8 = 0x15;
pub(super) const JUMP_NE: u8 = 0x55;
pub(super) const EXIT: u8 = 0x95;

const TYPE: u8 = 2;
const LEFT: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const fn insn(code: u8, regs: u8, off: i16, imm: i32) -> Insn {
    Insn { code, regs, off, imm }
}

/// The program for rules in the configuration's order; access that no rule speaks of is denied.
pub fn program(rules: &[Rule]) -> Vec<Insn> {
    // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }, access_type = access << 16 | type
    let mut out = vec![
        insn(LOAD32, TYPE | 1 << 4, 0, 0),
        insn(MOV_REG, LEFT | TYPE << 4, 0, 0),
        insn(SHIFT_RIGHT, LEFT, 0, 16),
        insn(AND, TYPE, 0, 0xffff),
        insn(LOAD32, MAJOR | 1 << 4, 4, 0),
        insn(LOAD32, MINOR | 1 << 4, 8, 0),
    ];
    for rule in DEFAULTS.iter().chain(rules.iter().rev()) {
        append(&mut out, rule);
        if rule.is_wildcard() && rule.access == ALL_ACCESS {
            // The verifier of older kernels refuses what cannot be reached.
            return out;
        }
    }
    verdict(&mut out, false);
    out
}

fn verdict(out: &mut Vec<Insn>, allow: bool) {
    out.push(insn(MOV, 0, 0, i32::from(allow)));
    out.push(insn(EXIT, 0, 0, 0));
}

/// A rule; its jumps to the next one get their offsets when its length is known.
fn append(out: &mut Vec<Insn>, rule: &Rule) {
    let start = out.len();
    let kind = match rule.kind {
        Kind::All => None,
        Kind::Block => Some(1),
        Kind::Char => Some(2),
    };
    for (register, wanted) in [(TYPE, kind), (MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(n) = wanted {
            // A number above i32::MAX is sign-extended and never matches; no device has one (major 12 bits, minor 20).
            out.push(insn(JUMP_NE, register, 0, n as i32));
        }
    }
    let access = i32::from(rule.access);
    match (rule.allow, rule.access == ALL_ACCESS) {
        (_, true) => {}
        (true, false) => {
            out.push(insn(AND, LEFT, 0, !access));
            out.push(insn(JUMP_NE, LEFT, 0, 0));
        }
        (false, false) => {
            // r1 pointed to the context, which has been read.
            out.push(insn(MOV_REG, 1 | LEFT << 4, 0, 0));
            out.push(insn(AND, 1, 0, access));
            out.push(insn(JUMP_EQ, 1, 0, 0));
        }
    }
    verdict(out, rule.allow);
    let end = out.len();
    for (at, i) in out.iter_mut().enumerate().skip(start) {
        if matches!(i.code, JUMP_NE | JUMP_EQ) {
            i.off = (end - at - 1) as i16;
        }
    }
}

#[cfg(test)]
mod tests;
