//! Device rules → a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`, purely. Not here: loading it (`attach`).
//!
//! A later rule wins over an earlier one, and the default list over all, for each of the three kinds of access by itself: a request
//! for `rw` is granted when the last rule about `r` and the last rule about `w` allow it. The program asks the rules last to first and
//! keeps the access that is still undecided in a register:
//!
//! ```text
//! r2 type   r3 undecided access   r4 major   r5 minor   r6 both as one number
//! rules about one type that follow each other:  if r2 != type goto behind them
//! about all access:  if r6 == device goto allow, or deny
//! else, for those that match:
//!   allow:  r3 &= !access;  if r3 == 0 goto allow
//!   deny:   if r3 & access  goto deny
//! end:    return 0
//! ```
//!
//! The kernel follows each way through a program before it accepts it, and two ways that meet again with other numbers in their registers are
//! followed on separately. So the ways meet as seldom as can be: at the two verdicts, where the registers do not matter any more.

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
pub(super) const JUMP: u8 = 0x05;
pub(super) const SHIFT_LEFT: u8 = 0x67;
pub(super) const OR_REG: u8 = 0x4f;

const TYPE: u8 = 2;
const LEFT: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const BOTH: u8 = 6;

/// Bits of a minor number (`MINORBITS` of linux/kdev_t.h), and the greatest numbers.
const MINOR_BITS: u32 = 20;
const MAX_MINOR: u32 = (1 << MINOR_BITS) - 1;
const MAX_MAJOR: u32 = (1 << 12) - 1;

const fn insn(code: u8, regs: u8, off: i16, imm: i32) -> Insn {
    Insn { code, regs, off, imm }
}

/// The program for rules in the configuration's order; access that no rule speaks of is denied.
pub fn program(rules: &[Rule]) -> Vec<Insn> {
    let order = merged(DEFAULTS.iter().chain(rules.iter().rev()));
    let mut text = Text::new();
    let mut rest = &order[..];
    while let Some(first) = rest.first() {
        let kind = match first.kind {
            Kind::All => None,
            Kind::Block => Some(1),
            Kind::Char => Some(2),
        };
        let (group, after) = rest.split_at(rest.iter().take_while(|r| r.kind == first.kind).count());
        let skip = kind.map(|kind| text.push(insn(JUMP_NE, TYPE, 0, kind)));
        for rule in group {
            if rule.is_wildcard() && rule.access == ALL_ACCESS {
                // The verifier of older kernels refuses what cannot be reached.
                return text.end(rule.allow);
            }
            if text.rule(rule) {
                break;
            }
        }
        text.land(skip);
        rest = after;
    }
    text.end(false)
}

/// The rules, two that are the same for both kinds of devices as one.
fn merged<'a>(rules: impl Iterator<Item = &'a Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for rule in rules {
        match out.last_mut() {
            Some(last) if last.kind != Kind::All && rule.kind != Kind::All && Rule { kind: last.kind, ..*rule } == *last => {
                if last.kind != rule.kind {
                    last.kind = Kind::All;
                }
            }
            _ => out.push(*rule),
        }
    }
    out
}

/// A program in the making, and its jumps to the verdicts.
struct Text {
    out: Vec<Insn>,
    allow: Vec<usize>,
    deny: Vec<usize>,
}

impl Text {
    fn new() -> Self {
        // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }, access_type = access << 16 | type
        let out = vec![
            insn(LOAD32, TYPE | 1 << 4, 0, 0),
            insn(MOV_REG, LEFT | TYPE << 4, 0, 0),
            insn(SHIFT_RIGHT, LEFT, 0, 16),
            insn(AND, TYPE, 0, 0xffff),
            insn(LOAD32, MAJOR | 1 << 4, 4, 0),
            insn(LOAD32, MINOR | 1 << 4, 8, 0),
            insn(MOV_REG, BOTH | MAJOR << 4, 0, 0),
            insn(SHIFT_LEFT, BOTH, 0, MINOR_BITS as i32),
            insn(OR_REG, BOTH | MINOR << 4, 0, 0),
        ];
        Self { out, allow: Vec::new(), deny: Vec::new() }
    }

    /// Appends an instruction; where it is.
    fn push(&mut self, insn: Insn) -> usize {
        self.out.push(insn);
        self.out.len() - 1
    }

    /// Lets jumps lead to what comes next.
    fn land(&mut self, jumps: impl IntoIterator<Item = usize>) {
        let here = self.out.len();
        for at in jumps {
            self.out[at].off = (here - at - 1) as i16;
        }
    }

    fn verdict(&mut self, allow: bool) -> &mut Vec<usize> {
        if allow { &mut self.allow } else { &mut self.deny }
    }

    /// Appends a rule about devices of the kind that is asked for; whether nothing is left to ask.
    fn rule(&mut self, rule: &Rule) -> bool {
        if rule.major.is_some_and(|n| n > MAX_MAJOR) || rule.minor.is_some_and(|n| n > MAX_MINOR) {
            // No device has such a number.
            return false;
        }
        let number = |register, n: Option<u32>| n.map(|n| (register, n as i32));
        // A greater one would have a sign.
        let both = rule.major.filter(|n| *n <= MAX_MAJOR / 2).zip(rule.minor);
        let mut conditions = match both {
            Some((major, minor)) => vec![(BOTH, (major << MINOR_BITS | minor) as i32)],
            None => number(MAJOR, rule.major).into_iter().chain(number(MINOR, rule.minor)).collect(),
        };
        let whole = rule.access == ALL_ACCESS;
        let last = if whole { conditions.pop() } else { None };
        let others: Vec<usize> = conditions.into_iter().map(|(register, n)| self.push(insn(JUMP_NE, register, 0, n))).collect();
        let access = i32::from(rule.access);
        let decided = match (last, whole, rule.allow) {
            (Some((register, n)), ..) => self.push(insn(JUMP_EQ, register, 0, n)),
            (None, true, _) => self.push(insn(JUMP, 0, 0, 0)),
            (None, false, true) => {
                self.push(insn(AND, LEFT, 0, !access));
                self.push(insn(JUMP_EQ, LEFT, 0, 0))
            }
            (None, false, false) => {
                // r1 pointed to the context, which has been read.
                self.push(insn(MOV_REG, 1 | LEFT << 4, 0, 0));
                self.push(insn(AND, 1, 0, access));
                self.push(insn(JUMP_NE, 1, 0, 0))
            }
        };
        self.verdict(rule.allow).push(decided);
        self.land(others);
        whole && last.is_none()
    }

    /// Appends the verdicts: first the one about what is left.
    fn end(mut self, allow: bool) -> Vec<Insn> {
        for verdict in [allow, !allow] {
            let jumps = std::mem::take(self.verdict(verdict));
            if verdict == allow || !jumps.is_empty() {
                self.land(jumps);
                self.push(insn(MOV, 0, 0, i32::from(verdict)));
                self.push(insn(EXIT, 0, 0, 0));
            }
        }
        self.out
    }
}

#[cfg(test)]
mod tests;
