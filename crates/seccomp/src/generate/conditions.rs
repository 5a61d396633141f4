//! Conditions on arguments, as sets of values: when two of them exclude each other. Not here: their instructions (`emit`).

use crate::profile::Condition;
use libseccomp::ScmpCompareOp;

/// A condition as an architecture of 32 bits knows it: libseccomp compares the lower halves there, of the argument and of the profile's
/// values.
pub(super) fn narrowed(condition: &Condition) -> Condition {
    let low = u64::from(u32::MAX);
    let operator = match condition.operator {
        ScmpCompareOp::MaskedEqual(mask) => ScmpCompareOp::MaskedEqual(mask & low),
        other => other,
    };
    Condition { index: condition.index, operator, value: condition.value & low }
}

/// Whether a list of conditions says nothing: all its masks are zero. libseccomp may take such a rule for one without conditions.
pub(super) fn is_void(conditions: &[Condition]) -> bool {
    conditions.iter().all(|c| matches!(c.operator, ScmpCompareOp::MaskedEqual(0)))
}

/// Whether no call can fulfil both lists: an argument would have to be in two sets without a common value. `false` where that is not
/// seen, and where one of the sets is empty: of rules that never hold libseccomp refuses some. `most` is the largest value of an argument.
pub(super) fn exclude(one: &[Condition], other: &[Condition], most: u64) -> bool {
    one.iter().any(|a| other.iter().any(|b| a.index == b.index && apart(a, b, most)))
}

fn apart(a: &Condition, b: &Condition, most: u64) -> bool {
    match (a.operator, b.operator) {
        (ScmpCompareOp::MaskedEqual(one), ScmpCompareOp::MaskedEqual(other)) => one & other & (a.value ^ b.value) != 0,
        (ScmpCompareOp::MaskedEqual(mask), _) => outside(mask, a.value, b, most),
        (_, ScmpCompareOp::MaskedEqual(mask)) => outside(mask, b.value, a, most),
        _ => {
            let (a, b) = (spans(a, most), spans(b, most));
            let apart = || a.iter().flatten().all(|(from, to)| b.iter().flatten().all(|(start, end)| to < start || end < from));
            can_hold(&a) && can_hold(&b) && apart()
        }
    }
}

/// Whether what has `value` under a mask is never what a condition without mask asks for.
fn outside(mask: u64, value: u64, condition: &Condition, most: u64) -> bool {
    match condition.operator {
        ScmpCompareOp::Equal => (condition.value ^ value) & mask != 0,
        // The values under a mask lie between the one with all other bits clear and the one with all of them set.
        _ => {
            let (lowest, highest) = (value & mask, (value & mask) | (most & !mask));
            let spans = spans(condition, most);
            can_hold(&spans) && spans.iter().flatten().all(|(start, end)| highest < *start || *end < lowest)
        }
    }
}

fn can_hold(spans: &[Option<(u64, u64)>; 2]) -> bool {
    spans.iter().any(Option::is_some)
}

/// The values that fulfil a condition without mask: two spans with their ends at most.
fn spans(condition: &Condition, most: u64) -> [Option<(u64, u64)>; 2] {
    let value = condition.value;
    let below = value.checked_sub(1).map(|end| (0, end));
    let above = (value < most).then(|| (value + 1, most));
    match condition.operator {
        ScmpCompareOp::NotEqual => [below, above],
        ScmpCompareOp::Less => [below, None],
        ScmpCompareOp::LessOrEqual => [Some((0, value)), None],
        ScmpCompareOp::Equal => [Some((value, value)), None],
        ScmpCompareOp::GreaterEqual => [Some((value, most)), None],
        ScmpCompareOp::Greater => [above, None],
        // Nothing is excluded by an operator that is not known.
        _ => [Some((0, most)), None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holds(c: &Condition, value: u64) -> bool {
        match c.operator {
            ScmpCompareOp::NotEqual => value != c.value,
            ScmpCompareOp::Less => value < c.value,
            ScmpCompareOp::LessOrEqual => value <= c.value,
            ScmpCompareOp::Equal => value == c.value,
            ScmpCompareOp::GreaterEqual => value >= c.value,
            ScmpCompareOp::Greater => value > c.value,
            ScmpCompareOp::MaskedEqual(mask) => value & mask == c.value & mask,
            other => panic!("{other:?}"),
        }
    }

    fn condition() -> impl Strategy<Value = Condition> {
        let operator = prop_oneof![
            Just(ScmpCompareOp::NotEqual),
            Just(ScmpCompareOp::Less),
            Just(ScmpCompareOp::LessOrEqual),
            Just(ScmpCompareOp::Equal),
            Just(ScmpCompareOp::GreaterEqual),
            Just(ScmpCompareOp::Greater),
            (0..16u64).prop_map(ScmpCompareOp::MaskedEqual),
        ];
        (operator, 0..16u64, 0..2u32).prop_map(|(operator, value, index)| Condition { index, operator, value })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// In a world of four bits, all values can be tried.
        #[test]
        fn what_excludes_has_no_common_value(a in proptest::collection::vec(condition(), 0..3), b in proptest::collection::vec(condition(), 0..3)) {
            let both = |x: u64, y: u64| a.iter().chain(&b).all(|c| holds(c, if c.index == 0 { x } else { y }));
            if exclude(&a, &b, 15) {
                prop_assert!((0..16).all(|x| (0..16).all(|y| !both(x, y))), "{a:?} {b:?}");
            }
        }

        /// Among conditions without masks, and among masks, the answer is exact.
        #[test]
        fn what_has_no_common_value_excludes(a in condition(), b in condition()) {
            let masked = |c: &Condition| matches!(c.operator, ScmpCompareOp::MaskedEqual(_));
            if a.index == b.index && masked(&a) == masked(&b) {
                let common = (0..16).any(|x| holds(&a, x) && holds(&b, x));
                let impossible = (0..16).all(|x| !holds(&a, x)) || (0..16).all(|x| !holds(&b, x));
                prop_assert!(impossible || common != exclude(&[a], &[b], 15), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn podmans_rules_for_sockets_exclude_each_other() {
        let equal = |index, value| Condition { index, operator: ScmpCompareOp::Equal, value };
        let other = |index, value| Condition { index, operator: ScmpCompareOp::NotEqual, value };
        let refused = [equal(0, 16), equal(2, 9)];
        assert!(exclude(&refused, &[other(0, 16)], u64::MAX) && exclude(&refused, &[other(2, 9)], u64::MAX));
        assert!(!exclude(&refused, &[other(2, 8)], u64::MAX) && !exclude(&refused, &[equal(1, 9)], u64::MAX));
    }
}
