//! TrafficLost: nobody asks the server for anything any more, though many did in the hour before. A person
//! looks at what leads to the server; nothing that is done to its pods brings clients back.
//!
//! Absent is not zero: the request counter is seen, and stands still. What the operator's own probes add to
//! it is left out, as far as it can be told. The baseline is the hour before alone: nobody knows what is
//! usual at this time of day. Where clients leave one by one, the last hour of it is little to compare with,
//! and a slow fade is no fall. Where they leave at once, as in an evening, nobody is paged (SEV3) as long as
//! the server answers through its Service, nor where it was so at this time on a day before and passed by
//! itself. After an hour of silence it is over, where the probes are answered.

use jiff::SignedDuration;
use mcp_health_api::{Cause, IncidentType, Measure, Severity};

use super::{
    by_metrics as by,
    entry::{Entry, METRIC, Rule},
    metric_rule::{Found, Read},
};
use crate::{
    Case, Server,
    metrics::{Traffic, View},
    signals::{ProbePath, ProbeQuestion, Probed, Reading, Service, Span},
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::TrafficLost,
    rule: Rule::Metric(judge),
    lasting: Some(LASTING),
    guide: &[("000", "System Health Check")],
    ..METRIC
};

/// It was so many requests a second, at the least …
const BASELINE_A_SECOND: f64 = 0.1;
/// … and so many in a time as long as the window: that none of them comes by chance is out of the question.
const BASELINE_IN_WINDOW: f64 = 30.0;
/// What is not known of the operator's own requests is this part of what clients asked, at the most.
const UNKNOWN_PART: f64 = 5.0;
/// It was so at this time of a day before.
const SAME_TIME: SignedDuration = SignedDuration::from_hours(1);
/// As long again as the window.
const LASTING: SignedDuration = SignedDuration::from_mins(5);

/// How many requests the operator's own probes make in the window.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    least: f64,
    most: f64,
}

impl Own {
    /// `None` where it is not known what is probed.
    fn of(case: &Case, view: &View) -> Option<Self> {
        let probes = match &case.signals.probes {
            Reading::Off => return Some(Self::default()),
            reading => reading.fresh()?,
        };
        let signal = case.spec.signals.mcp.clone().unwrap_or_default();
        let probed = probes.iter().filter(|probed| probed.question == ProbeQuestion::Mcp).count();
        let paths = f64::from(u32::try_from(probed).unwrap_or(u32::MAX));
        let times = view.metrics().window.as_secs_f64() / signal.interval.span().as_secs_f64().max(1.0);
        let is_failing =
            |probed: &Probed| probed.question == ProbeQuestion::Tools && probed.fault().is_some();
        let lists = if probes.iter().any(is_failing) { 1.0 } else { 0.5 };
        let canary = f64::from(u8::from(signal.canary_tool.is_some()));
        // Where it is turned away, it asks less often.
        let is_slow =
            |probed: &Probed| probed.question == ProbeQuestion::Mcp && probed.pause > signal.interval.span();
        let times_at_least = if probes.iter().any(is_slow) { 0.0 } else { times };
        // One request each time; and the list of tools each fourth time, each time while it fails.
        Some(Self {
            least: paths * (times_at_least - 1.0).max(0.0) * (1.0 + canary),
            most: paths * (times + 1.0) * (1.0 + lists + canary),
        })
    }

    /// What clients asked for, of so many requests: the least that it can be, if that is enough to miss.
    fn missed(self, before: f64, view: &View) -> Option<f64> {
        let clients = before - self.most;
        let a_second = clients / view.metrics().window.as_secs_f64();
        let enough = clients >= BASELINE_IN_WINDOW.max((self.most - self.least) * UNKNOWN_PART);
        (enough && a_second >= BASELINE_A_SECOND).then_some(clients)
    }
}

fn judge(case: &Case, server: &Server, view: &View) -> Read {
    let (Some(requests), Some(own)) = (view.traffic().in_window(), Own::of(case, view)) else {
        return Read::Unknown;
    };
    if requests > own.most {
        return Read::Clear;
    }
    // Without a ready pod nobody can be served, and a pod that is not seen may be the one that is asked.
    if server.ready() == 0 || !view.unseen(&server.current_pods()).is_empty() {
        return Read::Unknown;
    }
    let before = match view.traffic_of(Span::Before) {
        Traffic::Some { in_window, .. } => own.missed(in_window, view),
        Traffic::None => None,
        Traffic::Unknown => return Read::Unknown,
    };
    match before {
        Some(before) => Read::Found(find(case, view, requests, before)),
        None => Read::Quiet,
    }
}

fn find(case: &Case, view: &View, requests: f64, before: f64) -> Found {
    let services = case.signals.services.fresh().map(Vec::as_slice).unwrap_or_default();
    let astray = services.iter().find(|one| one.ready_endpoints == 0 || !one.selects_pods);
    let answers = answers_through(case);
    let window = words::span(view.metrics().window);
    let now = if requests > 0.0 {
        format!("no request in the last {window}, but for the operator's own ({})", by::number(requests))
    } else {
        format!("no request in the last {window}")
    };
    let mut evidence = vec![format!(
        "{now}; in the hour before, clients made {} in {window} (the hour before alone is compared with)",
        by::number(before)
    )];
    evidence.push(match (astray, &answers) {
        (Some(service), _) => leads_nowhere(service),
        (None, Some(service)) => format!(
            "the server answers through Service {service}: look at what is before it, or its clients have gone"
        ),
        (None, None) => "nothing is seen of the way to it: look at its Services, and at what is before them".to_owned(),
    });
    let is_usual = was_so_before(case);
    if is_usual {
        evidence.push("it was so at this time on a day before, and passed without an action".to_owned());
    }
    let sessions: f64 = view.series(Measure::Sessions, Span::Window).map(|one| one.value.max(0.0)).sum();
    if sessions > 0.0 {
        evidence.push(format!("{} sessions are open, and silent", by::number(sessions)));
    }
    let cause = if astray.is_some() { Cause::ServiceMismatch } else { Cause::Upstream };
    let severity = match astray {
        None if answers.is_some() || is_usual => Severity::SEV3,
        _ => Severity::SEV2,
    };
    Found::by(Measure::Requests, cause, severity, evidence)
}

/// A day has its hours: what stopped at this time before, and came back by itself, is how its clients live.
fn was_so_before(case: &Case) -> bool {
    const DAY: i64 = 86_400;
    case.status.history.iter().filter(|past| past.incident_type == IncidentType::TrafficLost).any(|past| {
        let ago = case.now.duration_since(past.opened_at.0).as_secs();
        let off = ago.rem_euclid(DAY);
        ago > DAY / 2 && off.min(DAY - off) <= SAME_TIME.as_secs() && !past.was_acted_on()
    })
}

fn leads_nowhere(service: &Service) -> String {
    if service.selects_pods {
        format!("Service {} has no ready endpoint: look at its ports and targetPort", service.name)
    } else {
        format!("the selector {} of Service {} matches no pod of the server", service.selector, service.name)
    }
}

/// The Service through which the operator's probes are answered, where every one that was answered once is.
fn answers_through<'a>(case: &Case<'a>) -> Option<&'a str> {
    let probes = case.signals.probes.fresh()?;
    let mut through = None;
    for probed in probes.iter().filter(|probed| probed.ever_answered) {
        let ProbePath::Service(name) = &probed.path else { continue };
        if probed.last().is_none_or(|last| last.outcome.is_err()) {
            return None;
        }
        through = Some(name.as_str());
    }
    through
}
