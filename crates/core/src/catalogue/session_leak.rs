//! SessionLeak: sessions are left open, and nobody ends them (guide 002, Sessions Not Cleaning Up: more than
//! 100 without a message for an hour; Limit session count: 1000).
//!
//! Judged by the server's own gauges. Its sessions end with a pod: a hook that ends the idle ones alone is
//! better, where the policy names one; else one pod is replaced, with its successor up first where it is the
//! only one.

use mcp_health_api::{Cause, IncidentType, Measure, Severity};

use super::{
    by_metrics as by,
    entry::{Entry, Evidence, Needs, Rule, Threshold, USUAL, replace_one},
    metric_rule::{Found, Read},
};
use crate::{
    Case, Server,
    metrics::View,
    signals::{Pod, Span},
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::SessionLeak,
    rule: Rule::Metric(judge),
    needs: Needs::All(&[Evidence::Metrics]),
    thresholds: &[Threshold::Count],
    worst_pod: worst,
    runbook: replace_one,
    guide: &[("002", "Sessions Not Cleaning Up")],
    ..USUAL
};

/// More idle sessions than that on the server are a leak.
const IDLE: u32 = 100;
/// More sessions than that on one pod are too many.
const A_POD: f64 = 1000.0;

/// What one of the two gauges says.
enum Gauge<'a> {
    /// Nobody tells.
    Absent,
    /// It is not so. `whole`: every pod tells.
    Within { whole: bool },
    /// It is so: how many, and the pods, the worst first.
    Beyond { sessions: f64, pods: Vec<(&'a str, f64)> },
}

fn idle<'a>(case: &Case, server: &Server, view: &View<'a>) -> Gauge<'a> {
    let own = by::thresholds(case, IncidentType::SessionLeak).count;
    read(server, view, Measure::IdleSessions, |all, _| all > f64::from(own.unwrap_or(IDLE)))
}

fn open<'a>(server: &Server, view: &View<'a>) -> Gauge<'a> {
    // What is told of the server as a whole is shared by its pods.
    let pods = f64::from(u32::try_from(server.ready().max(1)).unwrap_or(u32::MAX));
    read(server, view, Measure::Sessions, move |all, most| most.unwrap_or(all / pods) > A_POD)
}

/// `is_beyond` is asked with what all have, and with what the pod has that has most.
fn read<'a>(
    server: &Server,
    view: &View<'a>,
    measure: Measure,
    is_beyond: impl Fn(f64, Option<f64>) -> bool,
) -> Gauge<'a> {
    let series = || view.series(measure, Span::Window);
    if series().next().is_none() {
        return Gauge::Absent;
    }
    let sessions = series().map(|one| one.value.max(0.0)).sum();
    let pods = view.by_pod(series());
    if is_beyond(sessions, pods.first().map(|(_, most)| *most)) {
        return Gauge::Beyond { sessions, pods };
    }
    Gauge::Within { whole: by::silent_about(view, server, measure).is_empty() }
}

fn judge(case: &Case, server: &Server, view: &View) -> Read {
    let open_for = |cause: Cause| {
        let mut known = case.status.incidents.iter();
        known.any(|one| one.incident_type == IncidentType::SessionLeak && one.cause == cause)
    };
    match (idle(case, server, view), open(server, view)) {
        (Gauge::Beyond { sessions, pods }, _) => {
            let first = format!("{} sessions had no message for an hour", by::number(sessions));
            Read::Found(find(Cause::IdleSessions, Measure::IdleSessions, first, &pods))
        }
        (_, Gauge::Beyond { sessions, pods }) => {
            let first = match pods.first() {
                Some((pod, most)) => format!("pod {pod} has {} open sessions", by::number(*most)),
                None => format!("{} sessions are open", by::number(sessions)),
            };
            Read::Found(find(Cause::TooManySessions, Measure::Sessions, first, &pods))
        }
        // What opened it has to tell that it is over.
        (Gauge::Absent, Gauge::Absent) => Read::Unknown,
        (Gauge::Absent, _) if open_for(Cause::IdleSessions) => Read::Unknown,
        (_, Gauge::Absent) if open_for(Cause::TooManySessions) => Read::Unknown,
        (Gauge::Within { whole: false }, _) | (_, Gauge::Within { whole: false }) => Read::Unknown,
        _ => Read::Clear,
    }
}

fn find(cause: Cause, measure: Measure, first: String, pods: &[(&str, f64)]) -> Found {
    let mut evidence = vec![first];
    let by_pod = pods.iter().filter(|(_, sessions)| *sessions > 0.0).take(4);
    let by_pod: Vec<_> = by_pod.map(|(pod, sessions)| format!("{pod} ({})", by::number(*sessions))).collect();
    if by_pod.len() > 1 {
        evidence.push(format!("most by pod: {}", by_pod.join(", ")));
    }
    Found::by(measure, cause, Severity::SEV3, evidence)
}

/// The pod with most of them.
pub(super) fn worst<'a>(case: &Case<'a>, server: &Server<'a>) -> Option<&'a Pod> {
    let view = View::of(case, server)?;
    let beyond = [idle(case, server, &view), open(server, &view)].into_iter();
    let mut beyond = beyond.filter_map(|gauge| match gauge {
        Gauge::Beyond { pods, .. } => Some(pods),
        Gauge::Absent | Gauge::Within { .. } => None,
    });
    let (name, _) = *beyond.next()?.first()?;
    server.pods.iter().copied().find(|pod| pod.name == name)
}
