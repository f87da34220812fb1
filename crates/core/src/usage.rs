//! usage: what containers used over time, and what that comes to. Series are bounded: recent samples are kept close
//! together, older ones further apart, so that an hour fits. Whole numbers only; what is missing is told apart from
//! what is well.

mod growth;
mod load;
mod series;

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{IncidentType, McpServerHealthSpec};

pub use growth::{Growth, Leak, leaks};
pub use load::{Load, load};
pub use series::remember;

use crate::{
    case::lasting_for,
    signals::{Container, ContainerSpec, Pod, Role, Sample, Usage},
    time::lapse,
};

/// A container whose newest sample is older is not seen any more: metrics-server measures every minute at the
/// slowest.
pub const STALE: SignedDuration = SignedDuration::from_mins(3);
/// How long memory must rise before it is a leak.
pub const LEAK_WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// How long the CPU must be busy (guide 003, Application Monitoring).
pub const LOAD_WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// Within less time there are too few samples to tell anything by.
const SHORTEST_WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// Over how long the rules look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// For a leak.
    pub leak: SignedDuration,
    /// For a CPU that is busy.
    pub load: SignedDuration,
}

impl Windows {
    /// As the object wishes, and at least a minute.
    pub fn of(spec: &McpServerHealthSpec) -> Self {
        Self {
            leak: lasting_for(spec, IncidentType::MemoryLeak, LEAK_WINDOW).max(SHORTEST_WINDOW),
            load: lasting_for(spec, IncidentType::CpuSaturation, LOAD_WINDOW).max(SHORTEST_WINDOW),
        }
    }
}

/// A container with a limit, its pod, and what is known of it.
struct Measured<'a> {
    pod: &'a Pod,
    container: &'a str,
    limit: i64,
    started: Timestamp,
    /// Since it was started; empty where the newest is too old to tell of now.
    samples: &'a [Sample],
}

/// The containers that run beside each other and have a limit.
fn measured<'a>(
    pods: &[&'a Pod],
    containers: &'a [ContainerSpec],
    usage: &'a [Usage],
    limit: impl Fn(&ContainerSpec) -> Option<i64>,
    now: Timestamp,
) -> Vec<Measured<'a>> {
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
            Measured { pod, container, limit, started, samples: if is_fresh { samples } else { &[] } }
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

/// When the first of these samples is too old to tell of now.
pub fn once_stale(seen: impl Iterator<Item = Timestamp>) -> Option<Timestamp> {
    lapse(seen, STALE)
}

/// Bytes as people compare them: `84.5 MiB`.
pub fn mib(bytes: i64) -> String {
    let tenths = i128::from(bytes) * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths.unsigned_abs() % 10)
}
