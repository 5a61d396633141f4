//! From ranges of numbers to instructions. Not here: what the instructions have to say.
//!
//! A program is written from its end to its beginning: jumps lead forward only, so that each target is there before the jump, and
//! whether it is in reach (255 instructions; seccomp(2) takes classic BPF) is known when the jump is written.

use super::calls::{Alternative, Answer, Chain, Table};
use super::ranges::{self, Range};
use crate::bpf::{ABOVE, AND, ARCHITECTURE, ARGUMENTS, EQUAL, FROM, INSTRUCTION, JUMP, LOAD, NUMBER, RETURN, instruction};
use crate::profile::Condition;
use libseccomp::ScmpCompareOp;

/// Where a jump leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// An instruction, counted from the end of the program.
    At(usize),
    /// A verdict, wherever it is returned.
    Verdict(u32),
}

/// A program that grows towards its beginning.
#[derive(Default)]
struct Writer {
    /// The last instruction comes first.
    code: Vec<[u8; INSTRUCTION]>,
    /// Where a verdict is returned, as near to the beginning as there is one.
    returns: Vec<(u32, usize)>,
}

/// The program for the tables of a profile; the first is the one asked for first. Calls of other architectures end their thread, as
/// libseccomp has it.
pub(super) fn program(tables: &[Table], default: u32) -> Vec<u8> {
    let mut writer = Writer { code: Vec::with_capacity(1024), returns: Vec::new() };
    let mut bodies: Vec<(u32, Target)> = Vec::new();
    // The first one comes last, next to the beginning.
    for table in tables.iter().rev() {
        let ranges = ranges::of(table, default);
        let mut body = writer.search(&ranges, table, default);
        if let Target::At(_) = body {
            writer.enter(body);
            writer.push_load(NUMBER);
            body = writer.here();
        }
        bodies.push((table.token, body));
    }
    let mut next = Target::Verdict(libc::SECCOMP_RET_KILL_THREAD);
    for (token, body) in bodies {
        next = writer.branch(EQUAL, token, body, next);
    }
    writer.enter(next);
    // Where nothing depends on it, the verdict is the program.
    if matches!(next, Target::At(_)) {
        writer.push_load(ARCHITECTURE);
    }
    writer.code.iter().rev().flatten().copied().collect()
}

impl Writer {
    /// The instruction that was written last.
    fn here(&self) -> Target {
        Target::At(self.code.len().saturating_sub(1))
    }

    fn push(&mut self, code: u16, if_true: u8, if_false: u8, k: u32) {
        self.code.push(instruction(code, if_true, if_false, k));
    }

    fn push_load(&mut self, offset: u32) {
        self.push(LOAD, 0, 0, offset);
    }

    /// Makes what is written next lead to a target.
    fn enter(&mut self, target: Target) {
        match target {
            Target::At(at) if at + 1 == self.code.len() => {}
            Target::At(at) => self.push_jump(at),
            Target::Verdict(verdict) => self.push(RETURN, 0, 0, verdict),
        }
    }

    /// A jump without limit.
    fn push_jump(&mut self, at: usize) {
        let skip = u32::try_from(self.code.len() - at - 1).unwrap_or(u32::MAX);
        self.push(JUMP, 0, 0, skip);
    }

    /// How many instructions a jump that is written after `more` others skips, if it can.
    fn distance(&self, at: usize, more: usize) -> Option<u8> {
        u8::try_from(self.code.len() + more - at - 1).ok()
    }

    /// A target that the jump after the next `more` instructions reaches: this one, or something written now that leads there.
    fn near(&mut self, target: Target, more: usize) -> Target {
        match target {
            Target::At(at) if self.distance(at, more).is_some() => target,
            Target::At(at) => {
                self.push_jump(at);
                self.here()
            }
            Target::Verdict(verdict) => {
                let known = self.returns.iter().position(|(other, _)| *other == verdict);
                if let Some(at) = known.map(|n| self.returns[n].1).filter(|at| self.distance(*at, more).is_some()) {
                    return Target::At(at);
                }
                self.push(RETURN, 0, 0, verdict);
                let at = self.code.len() - 1;
                match known {
                    Some(n) => self.returns[n].1 = at,
                    None => self.returns.push((verdict, at)),
                }
                Target::At(at)
            }
        }
    }

    /// A comparison of the accumulator and what follows from it; nothing where the same follows anyway.
    fn branch(&mut self, code: u16, k: u32, if_true: Target, if_false: Target) -> Target {
        if if_true == if_false {
            return if_true;
        }
        // Making the second one reachable may take one instruction.
        let if_true = self.near(if_true, 1);
        let if_false = self.near(if_false, 0);
        let skip = |target| match target {
            Target::At(at) => self.distance(at, 0).unwrap_or(u8::MAX),
            Target::Verdict(_) => u8::MAX,
        };
        let (t, f) = (skip(if_true), skip(if_false));
        self.push(code, t, f, k);
        self.here()
    }

    /// The search for the number in the accumulator among ranges that follow each other; there is one at least.
    fn search(&mut self, ranges: &[Range], table: &Table, default: u32) -> Target {
        match ranges {
            [] => Target::Verdict(default),
            [one] => match one.answer {
                Answer::Always(verdict) => Target::Verdict(verdict),
                Answer::Depends(chain) => self.chain(&table.chains[chain], default),
            },
            // One number among others.
            [before, one, behind] if before.answer == behind.answer && one.first + 1 == behind.first => {
                let outside = self.search(&ranges[..1], table, default);
                let inside = self.search(&ranges[1..2], table, default);
                self.branch(EQUAL, one.first, inside, outside)
            }
            _ => {
                let (below, above) = ranges.split_at(middle(ranges));
                // The longer one first: the jump skips the other.
                let (low, high);
                if below.len() > above.len() {
                    low = self.search(below, table, default);
                    high = self.search(above, table, default);
                } else {
                    high = self.search(above, table, default);
                    low = self.search(below, table, default);
                }
                self.branch(FROM, above[0].first, high, low)
            }
        }
    }

    /// The test of a call's arguments.
    fn chain(&mut self, chain: &Chain, default: u32) -> Target {
        let mut next = Target::Verdict(default);
        let mut rest = &chain.alternatives[..];
        while let Some(last) = rest.last() {
            let equals = rest.iter().rev().take_while(|other| alike(last, other, chain.narrow)).count().max(1);
            let (before, group) = rest.split_at(rest.len() - equals);
            let verdict = Target::Verdict(last.verdict);
            next = match &last.conditions[..] {
                // One load for all values that an argument may have.
                [condition] if equals > 1 => {
                    let fail = next;
                    for Alternative { conditions, .. } in group.iter().rev() {
                        let low = conditions.first().map_or(0, |c| c.value as u32);
                        next = self.branch(EQUAL, low, verdict, next);
                    }
                    self.enter(next);
                    self.push_load(offset(condition.index));
                    let low = self.here();
                    self.high_half(condition, chain.narrow, low, fail)
                }
                conditions => conditions.iter().rev().fold(verdict, |pass, c| self.condition(c, chain.narrow, pass, next)),
            };
            rest = before;
        }
        next
    }

    /// Goes on to `low` if the upper half of an argument is what equality asks for.
    fn high_half(&mut self, condition: &Condition, narrow: bool, low: Target, fail: Target) -> Target {
        if narrow {
            return low;
        }
        self.branch(EQUAL, (condition.value >> 32) as u32, low, fail);
        self.push_load(offset(condition.index) + 4);
        self.here()
    }

    /// A condition and where its outcomes lead. Arguments have their lower half first: only machines of that byte order come here.
    fn condition(&mut self, condition: &Condition, narrow: bool, pass: Target, fail: Target) -> Target {
        let Condition { index, operator, value } = *condition;
        let (low, high) = (value as u32, (value >> 32) as u32);
        // What differs from another operator only by its outcome is that operator.
        let (code, pass, fail) = match operator {
            ScmpCompareOp::MaskedEqual(mask) => return self.masked(index, mask, value, pass, fail),
            ScmpCompareOp::NotEqual => (EQUAL, fail, pass),
            ScmpCompareOp::Less => (FROM, fail, pass),
            ScmpCompareOp::LessOrEqual => (ABOVE, fail, pass),
            ScmpCompareOp::GreaterEqual => (FROM, pass, fail),
            ScmpCompareOp::Greater => (ABOVE, pass, fail),
            // Equal; `words` knows no other.
            _ => (EQUAL, pass, fail),
        };
        if pass == fail {
            return pass;
        }
        self.branch(code, low, pass, fail);
        self.push_load(offset(index));
        let lower = self.here();
        if narrow {
            return lower;
        }
        let upper = self.branch(EQUAL, high, lower, fail);
        if code != EQUAL {
            self.branch(ABOVE, high, pass, upper);
        }
        self.push_load(offset(index) + 4);
        self.here()
    }

    fn masked(&mut self, index: u32, mask: u64, value: u64, pass: Target, fail: Target) -> Target {
        let halves = [(mask as u32, value as u32, offset(index)), ((mask >> 32) as u32, (value >> 32) as u32, offset(index) + 4)];
        halves.into_iter().fold(pass, |pass, (mask, value, offset)| {
            if mask == 0 || pass == fail {
                return pass;
            }
            self.branch(EQUAL, value & mask, pass, fail);
            if mask != u32::MAX {
                self.push(AND, 0, 0, mask);
            }
            self.push_load(offset);
            self.here()
        })
    }
}

/// Where to halve two or more ranges by their weight; between 1 and the last.
fn middle(ranges: &[Range]) -> usize {
    let ([first, ..], [.., last]) = (ranges, ranges) else { return 1 };
    let twice = first.before + last.before + last.weight;
    // The first place with more below than above, or the one before it, whichever is more even.
    let at = ranges.partition_point(|range| 2 * range.before < twice).clamp(1, ranges.len() - 1);
    let uneven = |at: usize| ranges.get(at).map_or(u32::MAX, |range| (2 * range.before).abs_diff(twice));
    if at > 1 && uneven(at - 1) < uneven(at) { at - 1 } else { at }
}

/// Whether two alternatives ask for equality of the same argument with values that differ in the lower half only, and answer the same.
fn alike(one: &Alternative, other: &Alternative, narrow: bool) -> bool {
    match (&one.conditions[..], &other.conditions[..]) {
        ([a], [b]) => {
            let equal = a.operator == ScmpCompareOp::Equal && b.operator == ScmpCompareOp::Equal;
            equal && one.verdict == other.verdict && a.index == b.index && (narrow || a.value >> 32 == b.value >> 32)
        }
        _ => false,
    }
}

/// The place of an argument's lower half.
fn offset(index: u32) -> u32 {
    ARGUMENTS + 8 * index
}
