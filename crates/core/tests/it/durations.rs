//! How long requests take: quantiles of histograms as PromQL has them, and of summaries the worst.

use mcp_health_core::metrics::{Buckets, Quantile};
use proptest::prelude::*;

const INF: f64 = f64::INFINITY;

fn quantile(buckets: &[(f64, f64)], q: f64) -> Option<Quantile> {
    Buckets::of(buckets.iter().copied())?.quantile(q)
}

#[test]
fn quantiles_are_those_of_promql() {
    type Row<'a> = (&'a str, &'a [(f64, f64)], f64, Option<(f64, bool)>);
    let rows: &[Row] = &[
        ("within a bucket, linearly", &[(1.0, 0.0), (2.0, 10.0), (INF, 10.0)], 0.5, Some((1.5, false))),
        ("within the first, from nothing", &[(1.0, 10.0), (INF, 10.0)], 0.5, Some((0.5, false))),
        ("at a bound", &[(1.0, 5.0), (2.0, 10.0), (INF, 10.0)], 0.5, Some((1.0, false))),
        ("beyond the last number", &[(1.0, 5.0), (2.0, 6.0), (INF, 10.0)], 0.99, Some((2.0, true))),
        ("over empty buckets", &[(1.0, 0.0), (2.0, 0.0), (4.0, 8.0), (INF, 8.0)], 0.25, Some((2.5, false))),
        ("of a bound below nothing", &[(-1.0, 4.0), (1.0, 4.0), (INF, 4.0)], 0.5, Some((-1.0, false))),
        (
            "pods summed by bound, in whatever order",
            &[(INF, 4.0), (1.0, 4.0), (1.0, 0.0), (2.0, 4.0), (2.0, 4.0), (INF, 4.0)],
            0.75,
            Some((1.5, false)),
        ),
        ("what rounding leaves", &[(1.0, 10.0), (2.0, 10.0 - 1e-12), (INF, 10.0)], 0.5, Some((0.5, false))),
        ("no bound at infinity", &[(1.0, 5.0), (2.0, 10.0)], 0.5, None),
        ("only infinity", &[(INF, 10.0)], 0.5, None),
        ("nothing", &[], 0.5, None),
        ("no requests", &[(1.0, 0.0), (INF, 0.0)], 0.5, None),
        ("less below a higher bound", &[(1.0, 5.0), (2.0, 4.0), (INF, 10.0)], 0.5, None),
        ("a bound that is no number", &[(f64::NAN, 5.0), (INF, 10.0)], 0.5, None),
        ("a value that is no number", &[(1.0, f64::NAN), (INF, 10.0)], 0.5, None),
        ("a value without end", &[(1.0, 5.0), (INF, INF)], 0.5, None),
    ];
    for (what, buckets, q, wanted) in rows {
        let found = quantile(buckets, *q).map(|one| (one.value, one.or_longer));
        assert_eq!(found, *wanted, "{what}");
    }
}

#[test]
fn what_lies_above_a_value_is_told() {
    let buckets = Buckets::of([(0.5, 10.0), (1.0, 20.0), (2.5, 26.0), (INF, 30.0)]).unwrap();
    for (value, above) in
        [(0.0, 30.0), (0.5, 20.0), (0.75, 15.0), (1.0, 10.0), (1.75, 7.0), (2.5, 4.0), (9.0, 4.0)]
    {
        assert!((buckets.above(value) - above).abs() < 1e-9, "{value}: {}", buckets.above(value));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The true quantile lies in the bucket that the estimate lies in, and more is never faster.
    #[test]
    fn a_quantile_lies_where_the_durations_lie(
        mut durations in prop::collection::vec(0.0_f64..8.0, 1..200),
        q in 0.01_f64..1.0,
    ) {
        let bounds = [0.1, 0.5, 1.0, 2.5, 5.0, INF];
        #[allow(clippy::cast_precision_loss)]
        let below = |bound: f64| durations.iter().filter(|one| **one <= bound).count() as f64;
        let buckets = Buckets::of(bounds.map(|bound| (bound, below(bound)))).unwrap();
        let estimate = buckets.quantile(q).unwrap();
        prop_assert!(buckets.quantile(q / 2.0).unwrap().value <= estimate.value);
        durations.sort_by(f64::total_cmp);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = ((q * durations.len() as f64).ceil() as usize).clamp(1, durations.len()) - 1;
        let real = durations[at];
        let bucket = |value: f64| bounds.iter().position(|bound| value <= *bound).unwrap();
        if estimate.or_longer {
            prop_assert!(real > 5.0, "{real} {estimate:?}");
        } else {
            let apart = bucket(estimate.value).abs_diff(bucket(real));
            // A rank that falls on a bound is on both sides of it.
            prop_assert!(apart == 0 || (bounds.contains(&estimate.value) && apart == 1), "{real} {estimate:?}");
        }
        prop_assert!(buckets.above(estimate.value) <= buckets.total() * (1.0 - q) + 1e-6 || estimate.or_longer);
    }

    #[test]
    fn whatever_a_histogram_holds_nothing_panics(
        buckets in prop::collection::vec((prop::num::f64::ANY, prop::num::f64::ANY), 0..12),
        q in prop::num::f64::ANY,
        value in prop::num::f64::ANY,
    ) {
        if let Some(buckets) = Buckets::of(buckets) {
            let _ = (buckets.quantile(q), buckets.above(value));
        }
    }
}
