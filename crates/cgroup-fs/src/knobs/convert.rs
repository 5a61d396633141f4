//! Number formats: the weights of v1 in terms of v2, unlimited as `max`. Not here: files.

/// `cpu.weight` for `cpu.shares` (2 to 262144, 1024 the default): a curve through (2, 1), (1024, 100) and (262144, 10000), rounded up;
/// `None` for 0, which means unset.
pub fn weight_from_shares(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1..=2 => Some(1),
        262_144.. => Some(10_000),
        _ => {
            let l = (shares as f64).log2();
            let exact = 10_f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0);
            // The curve passes exactly through 100, which floating point may miss on either side.
            Some((exact - 1e-9).ceil() as u64)
        }
    }
}

/// `io.weight` (1 to 10000) for a `blkio` weight (10 to 1000).
pub fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

/// Negative is `max`.
pub(super) fn or_max(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn weights() {
        for (shares, weight) in
            [(1, 1), (2, 1), (3, 2), (512, 59), (1024, 100), (2048, 174), (4096, 303), (262_143, 10_000), (u64::MAX, 10_000)]
        {
            assert_eq!(weight_from_shares(shares), Some(weight), "{shares}");
        }
        assert_eq!(weight_from_shares(0), None);
        for (w, io) in [(10, 1), (11, 11), (100, 910), (500, 4950), (1000, 10_000), (0, 1)] {
            assert_eq!(io_weight(w), io, "{w}");
        }
        assert_eq!((or_max(-1), or_max(0), or_max(i64::MIN)), ("max".into(), "0".into(), "max".into()));
    }

    proptest! {
        #[test]
        fn shares_become_weights_in_range_and_in_order(a: u64, b in 0..300_000_u64) {
            for s in [a, b].into_iter().filter(|&s| s > 0) {
                let w = weight_from_shares(s).unwrap();
                prop_assert!((1..=10_000).contains(&w));
                prop_assert!(weight_from_shares(s.saturating_add(1)).unwrap() >= w);
            }
        }
    }
}
