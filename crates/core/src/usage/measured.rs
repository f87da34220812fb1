//! The containers that have a limit, with what is known of what they use.

use jiff::{SignedDuration, Timestamp};

use crate::signals::{Container, ContainerSpec, Pod, Role, Sample, Usage};

/// A container whose newest sample is older is not seen any more: metrics-server measures every minute at the
/// slowest.
pub const STALE: SignedDuration = SignedDuration::from_mins(3);

/// A container with a limit, its pod, and what is known of it.
pub(super) struct LimitedContainer<'a> {
    pub pod: &'a Pod,
    pub container: &'a str,
    pub limit: i64,
    pub started: Timestamp,
    /// Since it was started; empty where the newest is too old to tell of now.
    pub samples: &'a [Sample],
}

/// The containers that run beside each other and have a limit.
pub(super) fn measured<'a>(
    pods: &[&'a Pod],
    containers: &'a [ContainerSpec],
    usage: &'a [Usage],
    limit: impl Fn(&ContainerSpec) -> Option<i64>,
    now: Timestamp,
) -> Vec<LimitedContainer<'a>> {
    let limited = || {
        let long_lived = containers.iter().filter(|one| one.role != Role::Init);
        long_lived.filter_map(|one| Some((one.name.as_str(), limit(one).filter(|limit| *limit > 0)?)))
    };
    let of_pod = |pod: &'a Pod| {
        limited().map(move |(container, limit)| {
            let started = started(pod, container);
            let series = usage.iter().find(|one| one.pod == pod.name && one.container == container);
            let samples = series.map_or(&[] as &[Sample], |series| &series.samples);
            let samples = &samples[samples.partition_point(|sample| sample.at <= started)..];
            let is_fresh = samples.last().is_some_and(|last| now.duration_since(last.at) <= STALE);
            LimitedContainer { pod, container, limit, started, samples: if is_fresh { samples } else { &[] } }
        })
    };
    pods.iter().copied().flat_map(of_pod).collect()
}

/// When the container was started, at the latest.
fn started(pod: &Pod, container: &str) -> Timestamp {
    let known = pod.containers.iter().find(|one| one.name == container);
    let exit = known.filter(|one| one.restarts > 0).and_then(|one: &Container| one.last_exit.as_ref());
    exit.map_or(pod.created, |exit| exit.at.max(pod.created))
}
