//! Whether the CPU is busy: what the server's containers used together, of what they may use together.

use jiff::{SignedDuration, Timestamp};

use super::measured::{LimitedContainer, measured};
use crate::{
    signals::{ContainerSpec, Pod, Usage},
    time::after,
};

/// A server is saturated above this share of its limit (guide 003, Application Monitoring).
pub const BUSY_PERCENT: i64 = 80;
/// A mean of fewer samples is none.
const FEWEST: i64 = 2;

/// How busy a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// It cannot be seen, or there is no limit to compare with.
    Unknown,
    /// It is below the limit.
    Below,
    /// It is busy, and was not a moment ago, or nobody looked.
    Rising {
        /// When it has been so for the whole window.
        until: Timestamp,
    },
    /// It has been busy over the whole window.
    Saturated(Saturation),
}

/// A server that is busy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saturation {
    /// Of what its containers may use, in percent.
    pub percent: i64,
    /// What they use together, in millicores.
    pub used: i64,
    /// What they may use together, in millicores.
    pub limit: i64,
    /// How many containers.
    pub containers: usize,
    /// The busiest pod, and its share in percent.
    pub busiest: (String, i64),
    /// Since when.
    pub since: Timestamp,
    /// The newest sample's moment.
    pub seen: Timestamp,
}

/// Looks at the load over a window. Both of its halves must be busy: a short peak is not.
pub fn load(
    pods: &[&Pod],
    containers: &[ContainerSpec],
    usage: &[Usage],
    window: SignedDuration,
    now: Timestamp,
) -> Load {
    let measured = measured(pods, containers, usage, |one| one.cpu_limit, now);
    let Some(newest) = measured.iter().filter_map(|one| one.samples.last()).map(|last| last.at).max() else {
        return Load::Unknown;
    };
    let begin = newest.saturating_sub(window).unwrap_or(Timestamp::MIN);
    let middle = newest.saturating_sub(window / 2).unwrap_or(Timestamp::MIN);
    let just_started = |one: &LimitedContainer| one.started > begin;
    if measured.iter().any(|one| one.samples.is_empty() && !just_started(one)) {
        return Load::Unknown;
    }
    let Some(newer) = Mean::of(measured.iter(), middle, newest) else { return Load::Unknown };
    if newer.percent() <= BUSY_PERCENT {
        return Load::Below;
    }
    // What just started is busy with its start.
    let settled = measured.iter().filter(|one| !just_started(one));
    match Mean::of(settled, begin, middle) {
        Some(older) if older.percent() > BUSY_PERCENT => {
            let all = Mean::of(measured.iter(), begin, newest).unwrap_or(newer);
            let shares = measured.iter().filter_map(|one| {
                Some((one.pod.name.clone(), Mean::of([one].into_iter(), begin, newest)?.percent()))
            });
            Load::Saturated(Saturation {
                percent: all.percent(),
                used: all.used,
                limit: all.limit,
                containers: all.containers,
                busiest: shares.max_by_key(|(_, share)| *share).unwrap_or_default(),
                since: begin,
                seen: newest,
            })
        }
        _ => Load::Rising { until: after(newest, window / 2) },
    }
}

/// What some containers used on the average between two moments.
#[derive(Clone, Copy)]
struct Mean {
    used: i64,
    limit: i64,
    containers: usize,
}

impl Mean {
    /// `None` where none of them has samples enough in between.
    fn of<'a>(
        measured: impl Iterator<Item = &'a LimitedContainer<'a>>,
        from: Timestamp,
        until: Timestamp,
    ) -> Option<Self> {
        let mut mean = Self { used: 0, limit: 0, containers: 0 };
        for one in measured {
            let inside = one.samples.iter().filter(|sample| from <= sample.at && sample.at <= until);
            let (sum, count) = inside.fold((0_i64, 0_i64), |(sum, count), sample| {
                (sum.saturating_add(sample.cpu.max(0)), count + 1)
            });
            if count >= FEWEST {
                mean.used = mean.used.saturating_add(sum / count);
                mean.limit = mean.limit.saturating_add(one.limit);
                mean.containers += 1;
            }
        }
        (mean.containers > 0).then_some(mean)
    }

    fn percent(self) -> i64 {
        i64::try_from(i128::from(self.used) * 100 / i128::from(self.limit.max(1))).unwrap_or(i64::MAX)
    }
}
