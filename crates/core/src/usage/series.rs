//! What is kept of a container's samples.

use jiff::SignedDuration;

use crate::signals::Sample;

/// The most samples of a container.
const MOST: usize = 40;
/// The age of the oldest.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// Samples of the last minutes stay as they come.
const RECENT: i64 = 60;

/// Adds a sample, if it is newer than the others; lets go what is too old, and what is missed least.
pub fn remember(series: &mut Vec<Sample>, sample: Sample) {
    if series.last().is_some_and(|last| last.at >= sample.at) {
        return;
    }
    series.retain(|one| sample.at.duration_since(one.at) <= KEPT);
    series.push(sample);
    if series.len() <= MOST {
        return;
    }
    // The one whose neighbours are closest together, for its age.
    let missed_least = (1..series.len() - 1).min_by_key(|at| {
        let gap = series[at + 1].at.duration_since(series[at - 1].at).as_secs();
        let age = sample.at.duration_since(series[*at].at).as_secs();
        gap.saturating_mul(1000) / (age + RECENT)
    });
    if let Some(at) = missed_least {
        series.remove(at);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use jiff::Timestamp;

    use super::*;

    fn sample(seconds: i64) -> Sample {
        Sample { at: Timestamp::from_second(seconds).unwrap(), cpu: 0, memory: seconds }
    }

    #[test]
    fn an_hour_fits_and_the_last_minutes_are_kept_closest() {
        for period in [10, 15, 60] {
            let mut series = Vec::new();
            for at in 0..1000 {
                remember(&mut series, sample(at * period));
                assert!(series.len() <= MOST);
            }
            let newest = series.last().unwrap().at;
            let within = |seconds: i64| {
                series.iter().filter(|one| newest.duration_since(one.at).as_secs() <= seconds).count()
            };
            let oldest = newest.duration_since(series[0].at).as_secs();
            assert!((3000..=3600).contains(&oldest), "{period}: the oldest is {oldest} s old");
            assert!(within(600) >= 10, "{period}: {} within ten minutes", within(600));
            assert!(
                within(60) >= 60 / usize::try_from(period).unwrap(),
                "{period}: {} within one",
                within(60)
            );
            let gaps = series.windows(2).map(|two| two[1].at.duration_since(two[0].at).as_secs());
            assert!(gaps.max().unwrap() <= 600, "{period}: no hole");
        }
    }

    #[test]
    fn a_sample_that_was_seen_before_or_comes_late_is_not_added() {
        let mut series = vec![sample(10), sample(20)];
        for late in [20, 15, 0] {
            remember(&mut series, sample(late));
        }
        assert_eq!(series, [sample(10), sample(20)]);
    }
}
