//! Whether memory grows steadily, and when it reaches its limit.
//!
//! Judged by the resident set where it is known: the working set counts page cache, which grows and is given back. Where
//! only the working set is known, its growth is a leak only if the container was killed at its limit before; else nothing
//! is known.
//!
//! The slope is Theil's and Sen's (the median of the slopes of all pairs), which single spikes do not move. A server
//! that warms up levels off; one that collects its garbage falls back: neither is a leak.

use jiff::{SignedDuration, Timestamp};

use super::measured::{LimitedContainer, measured};
use crate::{
    signals::{ContainerSpec, Pod, Sample, Usage},
    time::after,
};

/// What reaches its limit later is no incident yet.
const SOON: SignedDuration = SignedDuration::from_hours(1);
/// The fewest samples to tell anything by.
const FEWEST: usize = 4;
/// Of all pairs of samples, so many rise where the growth is steady.
const RISING_PERCENT: usize = 80;

/// Memory that grows steadily, and soon reaches its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// The pod.
    pub pod: String,
    /// When it was created.
    pub created: Timestamp,
    /// The container.
    pub container: String,
    /// Bytes used now.
    pub used: i64,
    /// Bytes that may be used.
    pub limit: i64,
    /// Bytes by which it grows in an hour.
    pub per_hour: i64,
    /// Until it reaches its limit.
    pub left: SignedDuration,
    /// Since when it was watched to grow.
    pub since: Timestamp,
    /// The newest sample's moment.
    pub seen: Timestamp,
}

/// What the memory of a server's containers does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// The leaks; the one that reaches its limit first comes first.
    pub leaks: Vec<Leak>,
    /// There is a limit to reach, and every container that was not just started has samples enough.
    pub is_seen: bool,
}

/// Looks for leaks.
pub fn leaks(
    pods: &[&Pod],
    containers: &[ContainerSpec],
    usage: &[Usage],
    resident: &[Usage],
    window: SignedDuration,
    now: Timestamp,
) -> Growth {
    let limit = |one: &ContainerSpec| one.memory_limit;
    let working_sets = measured(pods, containers, usage, limit, now);
    let residents = measured(pods, containers, resident, limit, now);
    let mut growth = Growth { leaks: Vec::new(), is_seen: !working_sets.is_empty() };
    for (working_set, resident) in working_sets.iter().zip(&residents) {
        let is_resident_known = !resident.samples.is_empty();
        match trend(if is_resident_known { resident } else { working_set }, window, now) {
            Trend::Leak(_) if !is_resident_known && !was_killed(pods, working_set.container) => {
                growth.is_seen = false;
            }
            Trend::Leak(leak) => growth.leaks.push(leak),
            Trend::Unknown => growth.is_seen = false,
            Trend::Well => {}
        }
    }
    growth.leaks.sort_by(|a, b| (a.left, &a.pod, &a.container).cmp(&(b.left, &b.pod, &b.container)));
    growth
}

/// A container of this name was killed at its memory limit before: page cache is given back before that.
fn was_killed(pods: &[&Pod], container: &str) -> bool {
    let all = pods.iter().flat_map(|pod| &pod.containers).filter(|one| one.name == container);
    all.filter_map(|one| one.last_exit.as_ref()).any(|exit| exit.reason == "OOMKilled")
}

enum Trend {
    Unknown,
    Well,
    Leak(Leak),
}

fn trend(one: &LimitedContainer, window: SignedDuration, now: Timestamp) -> Trend {
    // A start takes memory too: half a window is left to it before any growth counts.
    let warm = after(one.started, window / 2);
    let moment = one.samples.last().map_or(now, |last| last.at);
    if moment.duration_since(warm) < window {
        return Trend::Well;
    }
    let warmed_up = &one.samples[one.samples.partition_point(|sample| sample.at < warm)..];
    let recent = spanning(warmed_up, window);
    let (Some(first), Some(last)) = (recent.first(), recent.last()) else { return Trend::Unknown };
    let span = last.at.duration_since(first.at);
    if recent.len() < FEWEST || span < window * 3 / 4 {
        return Trend::Unknown;
    }
    let used = last.memory;
    let highest = warmed_up.iter().map(|sample| sample.memory).max().unwrap_or_default();
    // One low sample is no fall.
    let lately = recent.iter().rev().take(3).map(|sample| sample.memory).max().unwrap_or(used);
    let has_fallen_back = i128::from(lately) * 100 < i128::from(highest) * 98;
    // What is told without a slope comes first: of most servers, no slope is ever asked for.
    if has_fallen_back || !is_steady(recent) {
        return Trend::Well;
    }
    let per_hour = slope(recent);
    // An hour of rising by less than this share of the limit in a window is noise.
    let rise = i128::from(per_hour) * i128::from(span.as_secs()) / 3600;
    let matters = per_hour > 0 && rise * 100 >= i128::from(one.limit);
    let (older, newer) = recent.split_at(recent.len() - within(recent, span / 2).len());
    let levels_off =
        older.len() > 1 && newer.len() > 1 && i128::from(slope(newer)) * 3 < i128::from(slope(older)) * 2;
    if !matters || levels_off {
        return Trend::Well;
    }
    let left = i128::from((one.limit - used).max(0)) * 3600 / i128::from(per_hour);
    let left = SignedDuration::from_secs(i64::try_from(left).unwrap_or(i64::MAX));
    if left > SOON {
        return Trend::Well;
    }
    Trend::Leak(Leak {
        pod: one.pod.name.clone(),
        created: one.pod.created,
        container: one.container.to_owned(),
        used,
        limit: one.limit,
        per_hour,
        left,
        since: first.at,
        seen: last.at,
    })
}

/// The samples of the last `span`.
fn within(samples: &[Sample], span: SignedDuration) -> &[Sample] {
    let Some(last) = samples.last() else { return samples };
    &samples[samples.partition_point(|sample| last.at.duration_since(sample.at) > span)..]
}

/// The same, with the one before where they do not span it: samples may come at any distance.
fn spanning(samples: &[Sample], span: SignedDuration) -> &[Sample] {
    let inside = within(samples, span);
    let spanned = inside.first().zip(inside.last()).map(|(first, last)| last.at.duration_since(first.at));
    if spanned.is_none_or(|spanned| spanned >= span) {
        return inside;
    }
    &samples[(samples.len() - inside.len()).saturating_sub(1)..]
}

fn pairs(samples: &[Sample]) -> impl Iterator<Item = (&Sample, &Sample)> {
    samples.iter().enumerate().flat_map(|(at, early)| samples[at + 1..].iter().map(move |late| (early, late)))
}

/// Bytes an hour: the median of the slopes of all pairs.
fn slope(samples: &[Sample]) -> i64 {
    let slopes = pairs(samples).map(|(early, late)| {
        let seconds = late.at.duration_since(early.at).as_secs().max(1);
        let rise = i128::from(late.memory) - i128::from(early.memory);
        i64::try_from(rise * 3600 / i128::from(seconds)).unwrap_or(i64::MAX)
    });
    median(slopes.collect())
}

fn is_steady(samples: &[Sample]) -> bool {
    let (mut rising, mut all) = (0, 0);
    for (early, late) in pairs(samples) {
        all += 1;
        rising += usize::from(late.memory > early.memory);
    }
    rising * 100 >= all * RISING_PERCENT
}

/// Of none, 0.
fn median(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
