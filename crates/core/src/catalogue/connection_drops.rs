//! ConnectionDrops: the connections of clients break off, again and again.
//!
//! Judged by how many an hour, and by how many it were in the hour before, where that is known. What one pod
//! does and the others do not ends with that pod; what all do lies between them and their clients: a proxy,
//! its time-outs, its buffers.

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Cause, IncidentType, Measure, Severity};

use super::{
    by_metrics as by,
    entry::{Entry, METRIC, Rule, Threshold},
    metric_rule::{Found, Read},
};
use crate::{
    Case, Server,
    metrics::View,
    signals::{Pod, Span},
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::ConnectionDrops,
    rule: Rule::Metric(judge),
    lasting: Some(LASTING),
    thresholds: &[Threshold::Count],
    worst_pod: worst,
    runbook,
    guide: &[("001", "Intermittent Connection Drops")],
    ..METRIC
};

/// More than so many an hour.
const AN_HOUR: u32 = 60;
/// Fewer in the window may be chance.
const FEWEST: f64 = 10.0;
/// So many times as many as in the hour before.
const TIMES: f64 = 2.0;
/// The window smooths already.
const LASTING: SignedDuration = SignedDuration::from_mins(1);

fn judge(case: &Case, server: &Server, view: &View) -> Read {
    let Some(now) = view.total(Measure::ConnectionDrops, Span::Window) else { return Read::Unknown };
    let before = view.total(Measure::ConnectionDrops, Span::Before);
    let threshold = by::thresholds(case, IncidentType::ConnectionDrops).count.unwrap_or(AN_HOUR);
    let is_more = before.is_none_or(|before| by::is_above(now, before * TIMES));
    if !is_more || view.in_window(now) < FEWEST || !by::is_above(now * 3600.0, f64::from(threshold)) {
        let whole = by::silent_about(view, server, Measure::ConnectionDrops).is_empty();
        return if whole { Read::Clear } else { Read::Unknown };
    }
    let window = words::span(view.metrics().window);
    let mut evidence = vec![format!(
        "{} connections broke off in the last {window}: {} an hour (threshold {threshold})",
        by::number(view.in_window(now)),
        by::number(now * 3600.0),
    )];
    evidence.push(match before {
        Some(before) => format!("in the hour before, it were {}", by::number(before * 3600.0)),
        None => "of the hour before, nothing is known".to_owned(),
    });
    let by_pod = view.by_pod(view.series(Measure::ConnectionDrops, Span::Window));
    evidence.extend(by::top(view, &by_pod).map(|pods| format!("most by pod: {pods}")));
    let one_pod = one_pod(server, view);
    if one_pod.is_none() {
        evidence.push(
            "look at what lies between the pods and their clients: a proxy's time-outs and buffers"
                .to_owned(),
        );
    }
    let cause = if one_pod.is_some() { Cause::OnePod } else { Cause::Upstream };
    Read::Found(Found::by(Measure::ConnectionDrops, cause, Severity::SEV3, evidence))
}

/// The pod that has nearly all of them, of several that are ready.
fn one_pod<'a>(server: &Server<'a>, view: &View) -> Option<&'a Pod> {
    let by_pod = view.by_pod(view.series(Measure::ConnectionDrops, Span::Window));
    let all = view.total(Measure::ConnectionDrops, Span::Window)?;
    let (name, most) = by_pod.first()?;
    let others = server.pods.iter().filter(|pod| pod.ready && pod.name != *name);
    // Where the others are not seen, theirs may be as many.
    let seen = others.clone().all(|pod| by_pod.iter().any(|(one, _)| *one == pod.name));
    let nearly_all = by::share(*most, all) >= by::MOST_PERCENT;
    let bad = server.pods.iter().copied().find(|pod| pod.name == *name);
    bad.filter(|_| nearly_all && seen && others.count() > 0)
}

/// The pod that has nearly all of them; else the one that has most.
pub(super) fn worst<'a>(case: &Case<'a>, server: &Server<'a>) -> Option<&'a Pod> {
    let view = View::of(case, server)?;
    one_pod(server, &view).or_else(|| {
        let by_pod = view.by_pod(view.series(Measure::ConnectionDrops, Span::Window));
        let (name, _) = by_pod.into_iter().find(|(_, rate)| *rate > 0.0)?;
        server.pods.iter().copied().find(|pod| pod.name == name)
    })
}

fn runbook(cause: Cause, _: &Server) -> &'static [ActionType] {
    if cause == Cause::OnePod { &[ActionType::RecyclePod] } else { &[] }
}
