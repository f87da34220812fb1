//! HeartbeatFailing: a pod is ready, and its heartbeat is silent for more than twice its interval (guide 002,
//! Heartbeat Failures). Where it does not tell its interval, five of a minute may be missed (guide 002:
//! lenient).
//!
//! Both the heartbeat and the moment when it was read are the past: the one is compared with the other, never
//! with now. A heartbeat that is ahead of its own reading by more than an interval is that of another clock,
//! and tells nothing; one from before the pod was ready is none of this start's.

use mcp_health_api::{Cause, IncidentType, Measure, Severity};

use super::{
    by_metrics as by,
    entry::{Entry, Evidence, Needs, Rule, USUAL, replace_one},
    metric_rule::{Found, Read},
};
use crate::{
    Case, Server,
    metrics::View,
    signals::{Pod, Series, Span},
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::HeartbeatFailing,
    rule: Rule::Metric(judge),
    needs: Needs::All(&[Evidence::Metrics]),
    worst_pod: worst,
    runbook: replace_one,
    guide: &[("002", "Heartbeat Failures")],
    ..USUAL
};

/// Silent for more than so many of its intervals.
const INTERVALS: f64 = 2.0;
/// Silent for so many seconds, where the interval is not told: five times a minute.
const LENIENT: f64 = 300.0;
/// Nobody beats less often than once a day: what says so is something else.
const LONGEST: f64 = 86_400.0;

/// The heartbeat of one pod.
enum Beat {
    /// It can be told neither way.
    Unknown,
    Well,
    Silent {
        /// For so many seconds when it was read.
        seconds: f64,
        /// So long it may be.
        limit: f64,
        /// None came since the pod is ready.
        never: bool,
    },
}

impl Beat {
    fn of(view: &View, pod: &Pod, alone: bool) -> Self {
        let of_pod = |measure| view.series(measure, Span::Window).filter(|one| is_of(one, pod, alone));
        let Some(beat) = of_pod(Measure::HeartbeatTime).max_by(|a, b| a.value.total_cmp(&b.value)) else {
            return Self::Unknown;
        };
        let told = of_pod(Measure::HeartbeatInterval).map(|one| one.value);
        let told = told.filter(|interval| *interval > 0.0 && *interval <= LONGEST).reduce(f64::max);
        let limit = told.map_or(LENIENT, |interval| interval * INTERVALS);
        let (read, ready) = (seconds(beat.at), seconds(pod.ready_changed));
        if beat.value > read + limit / INTERVALS {
            return Self::Unknown;
        }
        let never = beat.value < ready;
        match read - beat.value.max(ready) {
            silent if silent > limit => Self::Silent { seconds: silent, limit, never },
            _ => Self::Well,
        }
    }
}

/// What is told of the server as a whole is told of its only pod; of several, nobody knows which one.
fn is_of(series: &Series, pod: &Pod, alone: bool) -> bool {
    series.pod.as_deref().map_or(alone, |name| name == pod.name)
}

#[allow(clippy::cast_precision_loss)] // Seconds since 1970 are exact for millions of years.
fn seconds(at: jiff::Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// The ready pods, and how their hearts beat.
fn beats<'a>(server: &Server<'a>, view: &View) -> Vec<(&'a Pod, Beat)> {
    let ready = server.pods.iter().copied().filter(|pod| pod.ready);
    ready.map(|pod| (pod, Beat::of(view, pod, server.ready() == 1))).collect()
}

fn judge(_: &Case, server: &Server, view: &View) -> Read {
    let beats = beats(server, view);
    let silent = beats.iter().filter_map(|(pod, beat)| match beat {
        Beat::Silent { seconds, limit, never } => Some((*pod, *seconds, *limit, *never)),
        Beat::Unknown | Beat::Well => None,
    });
    let mut silent: Vec<_> = silent.collect();
    if silent.is_empty() {
        let all_seen = !beats.is_empty() && beats.iter().all(|(_, beat)| matches!(beat, Beat::Well));
        return if all_seen { Read::Clear } else { Read::Unknown };
    }
    silent.sort_by(|(a, one, ..), (b, other, ..)| other.total_cmp(one).then_with(|| a.name.cmp(&b.name)));
    let mut evidence: Vec<String> = silent.iter().take(4).map(describe).collect();
    let well = beats.iter().filter(|(_, beat)| matches!(beat, Beat::Well)).count();
    if well > 0 {
        evidence.push(format!("the heartbeat of {} is well", words::count(well, "other pod")));
    }
    let found = Found::by(Measure::HeartbeatTime, Cause::HeartbeatSilent, Severity::SEV3, evidence);
    Read::Found(Found { youngest_pod: silent.iter().map(|(pod, ..)| pod.created).max(), ..found })
}

fn describe((pod, seconds, limit, never): &(&Pod, f64, f64, bool)) -> String {
    let since = if *never { ", since it is ready" } else { "" };
    format!(
        "pod {}: no heartbeat for {} s{since} (more than {} s is failing)",
        pod.name,
        by::number(*seconds),
        by::number(*limit)
    )
}

/// The pod that is silent for longest.
pub(super) fn worst<'a>(case: &Case<'a>, server: &Server<'a>) -> Option<&'a Pod> {
    let view = View::of(case, server)?;
    let silent = beats(server, &view).into_iter().filter_map(|(pod, beat)| match beat {
        Beat::Silent { seconds, .. } => Some((pod, seconds)),
        Beat::Unknown | Beat::Well => None,
    });
    silent.max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(pod, _)| pod)
}
