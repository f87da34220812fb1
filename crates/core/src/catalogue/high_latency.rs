//! HighLatency: answers take too long (guide 004, High Latency: P99 above 1000 ms; 000 and 001: a request
//! above a second is slow).
//!
//! Judged by the 99th percentile of all requests from a histogram, else by the worst summary of a pod. One
//! slow call of a few is the slowest of a hundred too: at least three must be slow.

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Cause, IncidentType, Label, Measure, Severity};

use super::{
    by_metrics as by,
    database_pool_exhausted::pools,
    entry::{Entry, METRIC, Rule, Threshold},
    forbidden::{RESTARTS, STARTS},
    metric_rule::{Found, Read},
};
use crate::{
    Case, Server, database, dependencies,
    metrics::{FEWEST_SLOW, Latency, Traffic, View, ratio},
    signals::{CircuitState, Pod, Span},
    usage::{self, Load, UsageWindows},
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::HighLatency,
    rule: Rule::Metric(judge),
    lasting: Some(LASTING),
    thresholds: &[Threshold::P99, Threshold::MinRequests],
    rank: by::rank_of_trace,
    worst_pod: worst,
    runbook,
    guide: &[("004", "High Latency"), ("000", "Performance Degradation")],
    ..METRIC
};

/// One request of a hundred takes longer, in seconds (guide 004, High Latency).
const P99: f64 = 1.0;
/// So much longer is bad enough to page.
const PAGE: f64 = 2.0;
/// How long it lasts (guide 004: `rate(…[5m])`).
const LASTING: SignedDuration = SignedDuration::from_mins(5);
/// Fewer requests in the window tell nothing.
const FEWEST: u32 = 20;
/// The cache misses so many times more often than before.
const MISSES_RATIO: f64 = 2.0;

/// What an answer of a pod, or of all, comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speed {
    Fast,
    Slow,
}

fn threshold(case: &Case) -> f64 {
    let own = by::thresholds(case, IncidentType::HighLatency).p99;
    own.map_or(P99, |own| own.span().as_secs_f64())
}

fn judge(case: &Case, server: &Server, view: &View) -> Read {
    let threshold = threshold(case);
    let fewest = by::fewest(&by::thresholds(case, IncidentType::HighLatency), FEWEST);
    let Some(latency) = view.latency(threshold) else {
        return match view.traffic() {
            Traffic::None => Read::Quiet,
            Traffic::Unknown | Traffic::Some { .. } => Read::Unknown,
        };
    };
    let speed = speed(&latency, threshold);
    if speed == Some(Speed::Slow) && latency.requests >= fewest {
        // What was slow, and is not any more, is no reason to do anything, and no proof yet that all is well.
        if view.is_fast_again(latency.measure, threshold) {
            return Read::Unknown;
        }
        return Read::Found(find(case, server, view, &latency, threshold));
    }
    if speed != Some(Speed::Fast) || !view.unseen(&server.current_pods()).is_empty() {
        return Read::Unknown;
    }
    if latency.requests >= fewest { Read::Clear } else { Read::Quiet }
}

/// `None` where the histogram ends below the threshold.
fn speed(latency: &Latency, threshold: f64) -> Option<Speed> {
    if latency.p99.value > threshold {
        // One or two slow calls are no verdict on the server.
        return Some(if latency.slow >= FEWEST_SLOW { Speed::Slow } else { Speed::Fast });
    }
    (!latency.p99.or_longer).then_some(Speed::Fast)
}

fn find(case: &Case, server: &Server, view: &View, latency: &Latency, threshold: f64) -> Found {
    let mut evidence = vec![format!(
        "P99 is {}{} (threshold {}): at least {} of {} requests{} in the last {} took longer",
        if latency.p99.or_longer { "over " } else { "" },
        seconds(latency.p99.value),
        seconds(threshold),
        by::count(latency.slow),
        by::count(latency.requests),
        match &latency.of {
            Some((pod, Some(endpoint))) => format!(" of pod {pod} at {}", by::foreign(endpoint)),
            Some((pod, None)) => format!(" of pod {pod}"),
            None => String::new(),
        },
        words::span(view.metrics().window),
    )];
    let (cause, why) = cause(case, server, view, threshold);
    evidence.extend(why);
    evidence.extend(slowest_endpoints(view));
    evidence.extend(by::unseen_words(&view.unseen(&server.current_pods())));
    let forbids = match cause {
        Cause::DatabaseConnection | Cause::DatabasePool => STARTS,
        Cause::DependencyDown => RESTARTS,
        _ => &[],
    };
    let severity = if latency.p99.value > threshold * PAGE { Severity::SEV2 } else { Severity::SEV3 };
    Found { forbids, ..Found::by(latency.measure, cause, severity, evidence) }
}

/// `1.23s`, `850ms`.
fn seconds(value: f64) -> String {
    if value < 1.0 { format!("{}ms", by::number(value * 1000.0)) } else { format!("{value:.2}s") }
}

/// The mean by endpoint: a sum alone ranks by traffic (guide 000).
fn slowest_endpoints(view: &View) -> Option<String> {
    let sums = view.by(view.series(Measure::DurationSum, Span::Window), Label::Endpoint);
    let counts = view.by(view.series(Measure::DurationCount, Span::Window), Label::Endpoint);
    let count = |endpoint: &str| counts.iter().find(|(one, rate)| *one == endpoint && *rate > 0.0);
    let mut means: Vec<(&str, f64)> =
        sums.iter().filter_map(|(endpoint, sum)| Some((*endpoint, sum / count(endpoint)?.1))).collect();
    means.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let words: Vec<String> = means
        .iter()
        .take(3)
        .map(|(endpoint, mean)| format!("{} ({})", by::foreign(endpoint), seconds(*mean)))
        .collect();
    (!words.is_empty()).then(|| format!("slowest endpoints, by their mean: {}", words.join(", ")))
}

/// Why, and what shows that it is so.
fn cause(case: &Case, server: &Server, view: &View, threshold: f64) -> (Cause, Option<String>) {
    let blame = by::rollout_is_to_blame(case, IncidentType::HighLatency, server, view, |view, span| {
        // Of the hour before, no durations are known.
        (span == Span::Window).then(|| is_slow(view, threshold)).flatten()
    });
    if blame {
        return (Cause::BadRollout, Some(by::blame_words(server)));
    }
    if let Some(words) = dependencies::down_words(case) {
        return (Cause::DependencyDown, Some(words));
    }
    if let Some(words) = pool(view) {
        return (Cause::DatabasePool, Some(words));
    }
    let of_database = database::hindrance(case).or_else(|| by::database_by_health(case));
    if let Some(words) = of_database.or_else(|| database_circuit(case)) {
        return (Cause::DatabaseConnection, Some(words));
    }
    if let Some(pod) = slow_pod(server, view, threshold) {
        return (Cause::OnePod, Some(format!("only pod {} is slow: the others are not", pod.name)));
    }
    if let Some(words) = cache(view) {
        return (Cause::CacheMisses, Some(words));
    }
    if let Some(words) = by::throttled_words(view) {
        return (Cause::CpuThrottled, Some(words));
    }
    if let Some(words) = busy(case, server) {
        return (Cause::Saturation, Some(words));
    }
    (Cause::SlowAnswers, None)
}

/// Whether these pods are slow; `None` where too little is seen of them.
fn is_slow(view: &View, threshold: f64) -> Option<bool> {
    let latency = view.latency(threshold).filter(|latency| latency.requests >= FEWEST_SLOW)?;
    speed(&latency, threshold).map(|speed| speed == Speed::Slow)
}

/// The database's connections are all in use, or waited for.
fn pool(view: &View) -> Option<String> {
    pools(view).filter(|pools| pools.is_exhausted).map(|pools| pools.words)
}

fn database_circuit(case: &Case) -> Option<String> {
    let mut circuits = case.signals.circuits.fresh()?.iter();
    let open = circuits.find(|one| one.state == CircuitState::Open && database::is_named_by(&one.name))?;
    Some(format!("circuit breaker {} is open on pod {}", by::foreign(&open.name), open.pod))
}

/// The cache misses more often than in the hour before.
fn cache(view: &View) -> Option<String> {
    let misses = |span| {
        let (hits, misses) = (view.total(Measure::CacheHits, span), view.total(Measure::CacheMisses, span)?);
        let all = hits.unwrap_or_default() + misses;
        (all > 0.0).then(|| by::share(misses, all))
    };
    let (now, before) = (misses(Span::Window)?, misses(Span::Before));
    ratio(now, before).filter(|ratio| *ratio > MISSES_RATIO)?;
    let before = before.map(by::number).unwrap_or_default();
    Some(format!("the cache misses {} % of its look-ups; {before} % in the hour before", by::number(now)))
}

/// The containers use nearly all the CPU that they may.
fn busy(case: &Case, server: &Server) -> Option<String> {
    let usage = case.signals.usage.fresh()?;
    let (pods, window) = (server.current_pods(), UsageWindows::of(case.spec).load);
    match usage::load(&pods, &server.target.containers, usage, window, case.now) {
        Load::Saturated(load) => {
            Some(format!("CPU: {} m of {} m used ({} %)", load.used, load.limit, load.percent))
        }
        Load::Rising { .. } | Load::Below | Load::Unknown => None,
    }
}

fn slow_pod<'a>(server: &Server<'a>, view: &View<'a>, threshold: f64) -> Option<&'a Pod> {
    by::one_pod(server, |pod| is_slow(&view.only(&[pod]), threshold))
}

/// The pod that is slow while the others are not; else the slowest.
pub(super) fn worst<'a>(case: &Case<'a>, server: &Server<'a>) -> Option<&'a Pod> {
    let (view, threshold) = (View::of(case, server)?, threshold(case));
    slow_pod(server, &view, threshold).or_else(|| {
        let slow = server.current_pods().into_iter().filter_map(|pod| {
            let latency = view.only(&[pod]).latency(threshold)?;
            (latency.p99.value > threshold).then_some((pod, latency.p99.value))
        });
        slow.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(pod, _)| pod)
    })
}

fn runbook(cause: Cause, _: &Server) -> &'static [ActionType] {
    match cause {
        Cause::BadRollout => &[ActionType::Rollback],
        Cause::CpuThrottled | Cause::Saturation => &[ActionType::Scale],
        Cause::OnePod => &[ActionType::RecyclePod],
        _ => &[],
    }
}
