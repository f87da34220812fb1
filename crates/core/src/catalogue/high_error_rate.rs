//! HighErrorRate: too many requests fail (guide 004, High Error Rate; 000,
//! `rate(mcp_requests_total{status=~"5.."})`; 002, spikes).
//!
//! Judged by the share of 5xx among the requests of the window, or by the server's own count of errors,
//! because MCP answers a tool's failure with 200. What the client did wrong is not counted, and what is asked
//! for operation's sake is no request.

use mcp_health_api::{ActionType, Cause, IncidentType, Label, Measure, Severity};

use jiff::SignedDuration;

use super::{
    by_metrics as by,
    entry::{Entry, METRIC, Rule, Threshold},
    forbidden::{RESTARTS, RESTARTS_AND_ROLLBACK},
    metric_rule::{Found, Read},
};
use crate::{
    Case, Server, database, dependencies,
    metrics::{Traffic, View},
    signals::{CircuitState, Pod, Series, Span},
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::HighErrorRate,
    rule: Rule::Metric(judge),
    lasting: Some(LASTING),
    thresholds: &[Threshold::Percent, Threshold::MinRequests],
    rank: by::rank_of_trace,
    worst_pod: worst,
    runbook,
    guide: &[("004", "High Error Rate"), ("002", "Error Pattern Analysis")],
    ..METRIC
};

/// More than this share fails, in percent.
const PERCENT: f64 = 5.0;
/// Fewer requests in the window tell nothing.
const FEWEST: u32 = 50;
/// The window smooths already.
const LASTING: SignedDuration = SignedDuration::from_mins(1);
/// One type of error is a spike above so many a minute, over an hour (guide 002) …
const SPIKE_A_MINUTE: f64 = 5.0;
/// … where they are this share of the requests, in percent: five a minute of a million are none.
const SPIKE_PERCENT: f64 = 1.0;
/// Of other pods, or of the hour before, fewer requests tell nothing.
const FEWEST_TO_COMPARE: f64 = 10.0;

/// What counts failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter {
    /// The status of answers.
    Status,
    /// The server's own count of errors.
    Errors,
}

/// What fails, of how many.
#[derive(Clone, Copy, Debug)]
struct Failures {
    counter: Counter,
    /// A second.
    failed: f64,
    /// A second.
    requests: f64,
    /// One of the two counters could not be asked for.
    is_partial: bool,
}

impl Failures {
    /// `None` where there are no requests, or nothing counts their failures.
    fn of(view: &View, span: Span) -> Option<Self> {
        let Traffic::Some { per_second: requests, .. } = view.traffic_of(span) else { return None };
        // A sum of none would be -0.
        let by_status = Counter::Status.series(view, span).fold(0.0, |sum, one| sum + one.value.max(0.0));
        let by_errors = view.failures(Measure::Errors, span, |one| !is_the_clients(one));
        let is_partial = by_errors.is_none();
        let by_errors = by_errors.unwrap_or_default();
        let (counter, failed) =
            if by_status >= by_errors { (Counter::Status, by_status) } else { (Counter::Errors, by_errors) };
        Some(Self { counter, failed, requests, is_partial })
    }

    fn percent(self) -> f64 {
        by::share(self.failed, self.requests)
    }
}

impl Counter {
    fn measure(self) -> Measure {
        match self {
            Self::Status => Measure::Requests,
            Self::Errors => Measure::Errors,
        }
    }

    /// The failures that it counts.
    fn series<'a>(self, view: &View<'a>, span: Span) -> impl Iterator<Item = &'a Series> + use<'a> {
        let all: Vec<&Series> = match self {
            Self::Status => view.requests(span).filter(|one| is_5xx(one)).collect(),
            Self::Errors => view.series(Measure::Errors, span).filter(|one| !is_the_clients(one)).collect(),
        };
        all.into_iter()
    }
}

/// `500`, `5xx`.
fn is_5xx(series: &Series) -> bool {
    series.label(Label::Status).is_some_and(|status| status.len() == 3 && status.starts_with('5'))
}

/// What the client did wrong, by the error types of the guides (002, 003, 000), has entries of its own.
fn is_the_clients(series: &Series) -> bool {
    const THEIRS: [&str; 7] = [
        "validation_error",
        "invalid_message",
        "invalid_arguments",
        "unknown_tool",
        "authentication_failed",
        "permission_denied",
        "rate_limit_exceeded",
    ];
    series.label(Label::Type).is_some_and(|kind| THEIRS.contains(&kind))
}

fn judge(case: &Case, server: &Server, view: &View) -> Read {
    let in_window = match view.traffic() {
        Traffic::Unknown => return Read::Unknown,
        Traffic::None => return Read::Quiet,
        Traffic::Some { in_window, .. } => in_window,
    };
    let Some(failures) = Failures::of(view, Span::Window) else { return Read::Unknown };
    let thresholds = by::thresholds(case, IncidentType::HighErrorRate);
    let (threshold, fewest) = (by::percent(&thresholds, PERCENT), by::fewest(&thresholds, FEWEST));
    let is_high = by::is_above(failures.percent(), threshold);
    let spike = spike(view, failures.requests);
    if in_window >= fewest && (is_high || spike.is_some()) {
        if is_over(view, threshold) {
            return Read::Unknown;
        }
        return Read::Found(find(case, server, view, failures, threshold, spike.filter(|_| !is_high)));
    }
    if is_high || failures.is_partial || !view.unseen(&server.current_pods()).is_empty() {
        return Read::Unknown;
    }
    // So few that at the threshold none might fail tell nothing by themselves.
    if in_window >= fewest || in_window * threshold >= 100.0 { Read::Clear } else { Read::Quiet }
}

/// What the window shows is over: of its last third, no more fails than may, or nobody asks. It is no reason
/// to do anything, and no proof yet that all is well.
fn is_over(view: &View, threshold: f64) -> bool {
    match view.traffic_of(Span::Recent) {
        Traffic::Unknown => false,
        Traffic::None => true,
        Traffic::Some { .. } => Failures::of(view, Span::Recent)
            .is_some_and(|recent| !recent.is_partial && !by::is_above(recent.percent(), threshold)),
    }
}

/// The type of error that keeps coming, and how often a minute.
fn spike<'a>(view: &View<'a>, requests: f64) -> Option<(&'a str, f64)> {
    let by_type = |span| view.by(Counter::Errors.series(view, span), Label::Type);
    let before = by_type(Span::Before);
    let lasts = |kind: &str| before.iter().any(|(one, rate)| *one == kind && rate * 60.0 > SPIKE_A_MINUTE);
    let mut spikes = by_type(Span::Window).into_iter().filter(|(kind, rate)| {
        rate * 60.0 > SPIKE_A_MINUTE && by::is_above(by::share(*rate, requests), SPIKE_PERCENT) && lasts(kind)
    });
    spikes.next().map(|(kind, rate)| (kind, rate * 60.0))
}

/// `spike` where the share alone is no incident.
fn find(
    case: &Case,
    server: &Server,
    view: &View,
    failures: Failures,
    threshold: f64,
    spike: Option<(&str, f64)>,
) -> Found {
    let window = words::span(view.metrics().window);
    let mut evidence = vec![match spike {
        Some((kind, rate)) => format!(
            "{} errors a minute of type {}, over an hour (threshold {SPIKE_A_MINUTE} a minute)",
            by::number(rate),
            by::foreign(kind)
        ),
        None => format!(
            "{} % of requests fail: {} of {} in the last {window} (threshold {} %)",
            by::number(failures.percent()),
            // Two counters, and not of one moment.
            by::count(view.in_window(failures.failed.min(failures.requests))),
            by::count(view.in_window(failures.requests)),
            by::number(threshold),
        ),
    }];
    evidence.extend(breakdown(view, failures.counter));
    let (cause, why) = cause(case, server, view, failures, threshold);
    evidence.extend(why);
    evidence.push(match Failures::of(&view.clone(), Span::Before) {
        Some(before) => format!("in the hour before, {} % failed", by::number(before.percent())),
        None => "of the hour before, nothing is known".to_owned(),
    });
    evidence.extend(by::unseen_words(&view.unseen(&server.current_pods())));
    let forbids = match cause {
        // Pods of another template are well at this moment: they may come back.
        Cause::DatabaseConnection if server.serving_beside().is_none() => RESTARTS_AND_ROLLBACK,
        Cause::DatabaseConnection | Cause::DependencyDown => RESTARTS,
        _ => &[],
    };
    let severity = if spike.is_some() { Severity::SEV3 } else { Severity::SEV2 };
    let found = Found::by(failures.counter.measure(), cause, severity, evidence);
    Found { shown_by: Measure::Requests, forbids, ..found }
}

/// `most by status: 503 (120), 500 (3); by endpoint: /tools/search (120); by pod: …`.
fn breakdown(view: &View, counter: Counter) -> Option<String> {
    let of = |label: Label| view.by(counter.series(view, Span::Window), label);
    let labels: &[(&str, Label)] = match counter {
        Counter::Status => &[("status", Label::Status), ("endpoint", Label::Endpoint)],
        Counter::Errors => &[("type", Label::Type), ("tool", Label::Tool)],
    };
    let mut parts: Vec<String> = labels
        .iter()
        .filter_map(|(name, label)| Some(format!("by {name}: {}", by::top(view, &of(*label))?)))
        .collect();
    let by_pod = view.by_pod(counter.series(view, Span::Window));
    parts.extend(by::top(view, &by_pod).map(|pods| format!("by pod: {pods}")));
    (!parts.is_empty()).then(|| format!("most {}", parts.join("; ")))
}

/// Why, and what shows that it is so.
fn cause(
    case: &Case,
    server: &Server,
    view: &View,
    failures: Failures,
    threshold: f64,
) -> (Cause, Option<String>) {
    if by::rollout_is_to_blame(case, IncidentType::HighErrorRate, server, view, |view, span| {
        fails(view, span, threshold)
    }) {
        return (Cause::BadRollout, Some(by::blame_words(server)));
    }
    if let Some(words) = dependencies::down_words(case) {
        return (Cause::DependencyDown, Some(words));
    }
    if let Some(words) = database::hindrance(case).or_else(|| of_database(case, view)) {
        return (Cause::DatabaseConnection, Some(words));
    }
    if let Some(words) = open_circuit(case, view, failures.counter) {
        return (Cause::CircuitOpen, Some(words));
    }
    if let Some(pod) = bad_pod(server, view, threshold) {
        return (Cause::OnePod, Some(format!("only pod {} fails: the others are well", pod.name)));
    }
    let most = |label: Label| {
        let groups = view.by(failures.counter.series(view, Span::Window), label);
        groups.first().is_some_and(|(_, most)| by::share(*most, failures.failed) >= by::MOST_PERCENT)
    };
    let endpoints = view.by(view.requests(Span::Window), Label::Endpoint);
    match failures.counter {
        Counter::Errors if most(Label::Tool) => (Cause::OneTool, None),
        Counter::Status if endpoints.len() > 1 && most(Label::Endpoint) => (Cause::OneEndpoint, None),
        _ => (Cause::ServerErrors, None),
    }
}

/// Whether too much fails; `None` where there are too few requests to tell.
fn fails(view: &View, span: Span, threshold: f64) -> Option<bool> {
    let failures = Failures::of(view, span)?;
    let seconds = if span == Span::Before { 3600.0 } else { view.metrics().window.as_secs_f64() };
    (failures.requests * seconds >= FEWEST_TO_COMPARE).then(|| by::is_above(failures.percent(), threshold))
}

/// Most errors are the database's, by their types, or the server's health says that it is not well.
fn of_database(case: &Case, view: &View) -> Option<String> {
    let types = view.by(Counter::Errors.series(view, Span::Window), Label::Type);
    let all: f64 = types.iter().map(|(_, rate)| rate).sum();
    let theirs: f64 =
        types.iter().filter(|(kind, _)| database::is_named_by(kind)).map(|(_, rate)| rate).sum();
    if theirs * 2.0 > all {
        let percent = by::number(by::share(theirs, all));
        return Some(format!("{percent} % of the errors are the database's: look at the database"));
    }
    by::database_by_health(case)
}

/// A circuit breaker is open on a pod that fails.
fn open_circuit(case: &Case, view: &View, counter: Counter) -> Option<String> {
    let by_pod = view.by_pod(counter.series(view, Span::Window));
    let fails = |pod: &str| by_pod.is_empty() || by_pod.iter().any(|(one, rate)| *one == pod && *rate > 0.0);
    let circuits = case.signals.circuits.fresh()?.iter();
    let open = circuits.filter(|one| one.state == CircuitState::Open && fails(&one.pod));
    let open: Vec<_> = open.collect();
    let first = open.first()?;
    let pods = open.iter().filter(|one| one.name == first.name).count();
    Some(format!("circuit breaker {} is open on {}", by::foreign(&first.name), words::count(pods, "pod")))
}

fn bad_pod<'a>(server: &Server<'a>, view: &View<'a>, threshold: f64) -> Option<&'a Pod> {
    by::one_pod(server, |pod| fails(&view.only(&[pod]), Span::Window, threshold))
}

/// The pod that fails while the others do not; else the one that fails most.
pub(super) fn worst<'a>(case: &Case<'a>, server: &Server<'a>) -> Option<&'a Pod> {
    let view = View::of(case, server)?;
    let threshold = by::percent(&by::thresholds(case, IncidentType::HighErrorRate), PERCENT);
    bad_pod(server, &view, threshold).or_else(|| {
        let failures = Failures::of(&view, Span::Window)?;
        let by_pod = view.by_pod(failures.counter.series(&view, Span::Window));
        let (name, _) = by_pod.into_iter().find(|(_, rate)| *rate > 0.0)?;
        server.pods.iter().copied().find(|pod| pod.name == name)
    })
}

fn runbook(cause: Cause, _: &Server) -> &'static [ActionType] {
    match cause {
        Cause::BadRollout => &[ActionType::Rollback],
        // Only where what it guards is known to answer: the action itself sees to it.
        Cause::CircuitOpen => &[ActionType::ResetCircuit],
        Cause::OnePod => &[ActionType::RecyclePod],
        _ => &[],
    }
}
