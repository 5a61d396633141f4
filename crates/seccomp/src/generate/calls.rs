//! From names and rules to what each number is answered, for each architecture. Not here: ranges of numbers, instructions.
//!
//! Between the rules of a call libseccomp decides as follows, and so does this: the first rule without conditions stands, whatever
//! comes before or behind it; the others are alternatives.

use super::conditions::{exclude, is_void, narrowed};
use super::{Unsupported, names, verdict};
use crate::profile::{Condition, Profile, Rule};
use crate::stub;
use libseccomp::{ScmpArch, ScmpCompareOp};

/// Numbers of a block share what is above these bits. Ordinary calls are one block; x32's and ARM's private ones are others.
const BLOCK_BITS: u32 = 12;
/// More rules with conditions for one call than that fill a filter: each takes two instructions at least.
const MOST_RULES: usize = crate::bpf::MAX_INSTRUCTIONS / 2;

/// What the calls of a token of the kernel's (`AUDIT_ARCH_…`) are answered.
#[derive(Debug)]
pub(super) struct Table {
    /// The token.
    pub(super) token: u32,
    /// Lists of conditions, for [`Answer::Depends`].
    pub(super) chains: Vec<Chain>,
    /// Numbers newer than the profile, which get ENOSYS: the last that the profile names, and where others than ordinary calls begin.
    pub(super) newer: Vec<(u32, Option<u32>)>,
    /// The numbers that belong to an architecture which the profile does not have, from the first to the last.
    pub(super) foreign: Option<(u32, u32)>,
    blocks: Vec<(u32, Vec<Option<Answer>>)>,
}

/// What a number is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// A verdict.
    Always(u32),
    /// That of the first alternative of a chain that holds, else the default: an index of [`Table::chains`].
    Depends(usize),
}

/// The rules of a call that has none without conditions.
#[derive(Debug)]
pub(super) struct Chain {
    /// Arguments have 32 bits.
    pub(super) narrow: bool,
    /// Those of different verdicts exclude each other, so that their order does not matter.
    pub(super) alternatives: Vec<Alternative>,
}

/// A list of conditions that must all hold, and the verdict if they do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Alternative {
    pub(super) conditions: Vec<Condition>,
    pub(super) verdict: u32,
}

/// An architecture of the profile.
struct Arch<'a> {
    name: ScmpArch,
    narrow: bool,
    /// Index of its table.
    table: usize,
    /// Where its ordinary numbers end.
    end: Option<u32>,
    /// The last number that the profile names.
    last: Option<u32>,
    /// Names of calls that it lacks and that have rules with conditions.
    lacking: Vec<&'a str>,
    /// Those rules, by the places of the names: no call is answered by them, but libseccomp refuses some as it does with others.
    unasked: Table,
}

/// The tables of a profile, the native one first.
pub(super) fn collect(profile: &Profile<'_>) -> Result<Vec<Table>, Unsupported> {
    let (mut archs, mut tables) = prepare(profile)?;
    for rule in &profile.rules {
        let counts = rule.action != profile.default;
        if counts || profile.stub {
            for name in rule.names {
                one(profile, rule, name, counts, &mut archs, &mut tables)?;
            }
        }
    }
    for arch in archs.iter().filter(|_| profile.stub) {
        tables[arch.table].newer.extend(arch.last.map(|last| (last, arch.end)));
    }
    Ok(tables)
}

fn prepare<'a>(profile: &Profile<'_>) -> Result<(Vec<Arch<'a>>, Vec<Table>), Unsupported> {
    let (mut archs, mut tables): (Vec<Arch<'_>>, Vec<Table>) = (Vec::new(), Vec::new());
    for name in profile.distinct_architectures() {
        let (token, end) = stub::token(name).ok_or(Unsupported::Architecture(name))?;
        let table = tables.iter().position(|table| table.token == token).unwrap_or(tables.len());
        if table == tables.len() {
            // x32's calls are a part of x86_64's, -1 is not: a tracer puts it there to have a call skipped (seccomp(2)).
            let foreign = (name == ScmpArch::X8664).then_some((stub::X32_BIT, u32::MAX - 1));
            tables.push(Table { foreign, ..Table::new(token) });
        }
        if name == ScmpArch::X32 {
            tables[table].foreign = None;
        }
        let narrow = matches!(name, ScmpArch::X86 | ScmpArch::X32 | ScmpArch::Arm);
        archs.push(Arch { name, narrow, table, end, last: None, lacking: Vec::new(), unasked: Table::new(token) });
    }
    Ok((archs, tables))
}

/// Enters a name of a rule into all tables; one of a rule that is left out only counts as known to the profile.
fn one<'a>(
    profile: &Profile<'_>,
    rule: &Rule<'_>,
    name: &'a str,
    counts: bool,
    archs: &mut [Arch<'a>],
    tables: &mut [Table],
) -> Result<(), Unsupported> {
    let found = names::find(name);
    // The first architecture is the native one, whose names libseccomp takes.
    for (i, arch) in archs.iter_mut().enumerate() {
        let Some(number) = found.number(arch.name) else {
            if counts && (profile.fail_unknown || i > 0) {
                return Err(Unsupported::UnknownName(name.to_owned()));
            }
            if counts {
                tracing::debug!("unknown seccomp syscall `{}` ignored", name);
            }
            return Ok(());
        };
        let ordinary = u32::try_from(number).ok();
        if let Some(number) = ordinary.filter(|number| arch.end.is_none_or(|end| *number < end)) {
            arch.last = arch.last.max(Some(number));
        }
        if !counts {
            continue;
        }
        let table = &mut tables[arch.table];
        match ordinary {
            // Another library than the one whose rules for common calls are known here: it has these calls by their parts' numbers.
            Some(_) if arch.name == ScmpArch::X86 && matches!(number, 359..=373 | 393..=402) => {
                return Err(Unsupported::Number(name.to_owned(), number));
            }
            Some(number) => table.add(number, rule, arch.narrow, None)?,
            None if (-99..0).contains(&number) => return Err(Unsupported::Number(name.to_owned(), number)),
            None if arch.name == ScmpArch::X86 => {
                if let Some((common, which)) = multiplexed(number) {
                    table.add(common, rule, arch.narrow, Some(which))?;
                }
                if let Some(own) = own_number(number) {
                    table.add(own, rule, arch.narrow, None)?;
                }
            }
            None if rule.lists().any(|list| !list.is_empty()) => {
                let place = arch.lacking.iter().position(|other| *other == name).unwrap_or_else(|| {
                    arch.lacking.push(name);
                    arch.lacking.len() - 1
                });
                arch.unasked.add(place as u32, rule, arch.narrow, None)?;
            }
            None => {}
        }
    }
    Ok(())
}

/// `socketcall` or `ipc` of x86 and their first argument, for libseccomp's number of a call that is a part of one of them
/// (linux/net.h, linux/ipc.h).
fn multiplexed(number: i32) -> Option<(u32, u64)> {
    const SOCKETCALL: u32 = 102;
    const IPC: u32 = 117;
    match number {
        -120..=-100 => Some((SOCKETCALL, u64::from(number.unsigned_abs() % 100))),
        -224..=-200 => Some((IPC, u64::from(number.unsigned_abs() % 200))),
        _ => None,
    }
}

/// The number of its own that Linux gave to such a call later (arch/x86/entry/syscalls/syscall_32.tbl), by libseccomp's number.
fn own_number(number: i32) -> Option<u32> {
    Some(match number {
        -101 => 359, // socket
        -102 => 361, // bind
        -103 => 362, // connect
        -104 => 363, // listen
        -106 => 367, // getsockname
        -107 => 368, // getpeername
        -108 => 360, // socketpair
        -111 => 369, // sendto
        -112 => 371, // recvfrom
        -113 => 373, // shutdown
        -114 => 366, // setsockopt
        -115 => 365, // getsockopt
        -116 => 370, // sendmsg
        -117 => 372, // recvmsg
        -118 => 364, // accept4
        -119 => 337, // recvmmsg
        -120 => 345, // sendmmsg
        -202 => 393, // semget
        -203 => 394, // semctl
        -211 => 400, // msgsnd
        -212 => 401, // msgrcv
        -213 => 399, // msgget
        -214 => 402, // msgctl
        -221 => 397, // shmat
        -222 => 398, // shmdt
        -223 => 395, // shmget
        -224 => 396, // shmctl
        _ => return None,
    })
}

impl Table {
    fn new(token: u32) -> Self {
        Self { token, chains: Vec::new(), newer: Vec::new(), foreign: None, blocks: Vec::new() }
    }

    /// Enters a rule for a number; `which` is what the first argument must be, whatever the rule says of it.
    fn add(&mut self, number: u32, rule: &Rule<'_>, narrow: bool, which: Option<u64>) -> Result<(), Unsupported> {
        let verdict = verdict(rule.action).ok_or(Unsupported::Action(rule.action))?;
        for list in rule.lists() {
            let mut conditions: Vec<Condition> = if narrow { list.iter().map(narrowed).collect() } else { list.to_vec() };
            if let Some(which) = which {
                conditions.retain(|c| c.index != 0);
                conditions.insert(0, Condition { index: 0, operator: ScmpCompareOp::Equal, value: which });
            }
            if conditions.is_empty() {
                self.always(number, verdict)?;
            } else {
                self.sometimes(number, Alternative { conditions, verdict }, narrow)?;
            }
        }
        Ok(())
    }

    /// Enters a verdict without conditions: the first one stands.
    fn always(&mut self, number: u32, verdict: u32) -> Result<(), Unsupported> {
        let slot = slot(&mut self.blocks, number);
        match *slot {
            None => *slot = Some(Answer::Always(verdict)),
            Some(Answer::Always(_)) => {}
            Some(Answer::Depends(chain)) => {
                if self.chains[chain].alternatives.iter().any(|other| other.verdict != verdict && is_void(&other.conditions)) {
                    return Err(Unsupported::Overlap(number));
                }
                *slot = Some(Answer::Always(verdict));
            }
        }
        Ok(())
    }

    /// Enters a verdict with conditions, which counts if there is none without.
    fn sometimes(&mut self, number: u32, new: Alternative, narrow: bool) -> Result<(), Unsupported> {
        let slot = slot(&mut self.blocks, number);
        match *slot {
            None => {
                *slot = Some(Answer::Depends(self.chains.len()));
                self.chains.push(Chain { narrow, alternatives: vec![new] });
            }
            Some(Answer::Always(verdict)) => {
                if verdict != new.verdict && is_void(&new.conditions) {
                    return Err(Unsupported::Overlap(number));
                }
            }
            Some(Answer::Depends(chain)) => {
                let alternatives = &mut self.chains[chain].alternatives;
                let most = if narrow { u64::from(u32::MAX) } else { u64::MAX };
                let mut others = alternatives.iter().filter(|other| other.verdict != new.verdict);
                if !others.all(|other| exclude(&other.conditions, &new.conditions, most)) {
                    return Err(Unsupported::Overlap(number));
                }
                if alternatives.len() >= MOST_RULES {
                    return Err(Unsupported::ManyRules(number));
                }
                if !alternatives.contains(&new) {
                    alternatives.push(new);
                }
            }
        }
        Ok(())
    }

    /// All numbers that have an answer of their own, in their order.
    pub(super) fn answers(&self) -> impl Iterator<Item = (u32, Answer)> {
        self.blocks.iter().flat_map(|(block, slots)| {
            let first = block << BLOCK_BITS;
            slots.iter().zip(first..).filter_map(|(slot, number)| slot.map(|answer| (number, answer)))
        })
    }
}

/// The place of a number, made if there is none.
fn slot(blocks: &mut Vec<(u32, Vec<Option<Answer>>)>, number: u32) -> &mut Option<Answer> {
    let (block, place) = (number >> BLOCK_BITS, (number & ((1 << BLOCK_BITS) - 1)) as usize);
    let at = match blocks.binary_search_by_key(&block, |(block, _)| *block) {
        Ok(at) => at,
        Err(at) => {
            blocks.insert(at, (block, Vec::new()));
            at
        }
    };
    let slots = &mut blocks[at].1;
    if slots.len() <= place {
        slots.resize(place + 1, None);
    }
    &mut slots[place]
}
