//! From answers for numbers to ranges of numbers with the same answer. Not here: searching them (`emit`).

use super::calls::{Answer, Table};

/// Numbers from `first` to the one before the next range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    /// The first number.
    pub(super) first: u32,
    /// What they are answered.
    pub(super) answer: Answer,
    /// How often they are asked for, roughly: the search is shortest for the heaviest ones.
    pub(super) weight: u32,
    /// The weight of all ranges before this one.
    pub(super) before: u32,
}

/// Weight of a call that the profile names, against 1 for a range that it does not.
const NAMED: u32 = 16;

/// The ranges of a table, from 0 to the end; neighbours have different answers.
pub(super) fn of(table: &Table, default: u32) -> Vec<Range> {
    let nobody = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let gap = |first| Range { first, answer: Answer::Always(default), weight: 1, before: 0 };
    let mut ranges = vec![gap(0)];
    for (number, answer) in table.answers() {
        // x32, which hardly any kernel has, does not count.
        let weight = if number < crate::stub::X32_BIT { NAMED } else { 1 };
        // The last one is a gap that begins at this number or before it.
        if let Some(last) = ranges.pop_if(|last| last.first == number)
            && let Some(before) = ranges.last_mut().filter(|before| before.answer == answer)
        {
            debug_assert_eq!(last.answer, Answer::Always(default));
            before.weight += weight;
        } else {
            ranges.push(Range { first: number, answer, weight, before: 0 });
        }
        if let Some(next) = number.checked_add(1) {
            ranges.push(gap(next));
        }
    }
    if let Some((from, to)) = table.foreign {
        cover(&mut ranges, from, to.checked_add(1), Answer::Always(libc::SECCOMP_RET_KILL_THREAD));
    }
    for (last, end) in &table.newer {
        if let Some(from) = last.checked_add(1) {
            cover(&mut ranges, from, *end, Answer::Always(nobody));
        }
    }
    merge(ranges)
}

/// Answers the numbers from `from` to before `end` otherwise.
fn cover(ranges: &mut Vec<Range>, from: u32, end: Option<u32>, answer: Answer) {
    let at = |ranges: &[Range], number: u32| ranges.partition_point(|range| range.first <= number).saturating_sub(1);
    if end.is_some_and(|end| end <= from) {
        return;
    }
    let rest = end.map(|end| Range { first: end, ..ranges[at(ranges, end)] });
    let keep = ranges.partition_point(|range| range.first < from);
    let behind = end.map_or(ranges.len(), |end| ranges.partition_point(|range| range.first <= end));
    let new = [Some(Range { first: from, answer, weight: 1, before: 0 }), rest];
    ranges.splice(keep..behind, new.into_iter().flatten());
}

/// Joins neighbours with the same answer, and sums weights up.
fn merge(ranges: Vec<Range>) -> Vec<Range> {
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.answer == range.answer => last.weight += range.weight,
            _ => merged.push(range),
        }
    }
    let mut before = 0;
    for range in &mut merged {
        range.before = before;
        before += range.weight;
    }
    merged
}
