//! What the rules on metrics have in common: numbers that the object may wish otherwise, what closes an
//! incident where there are no requests, whether the rollout is to blame by what its pods and the others do,
//! and how values read.

use mcp_health_api::{Cause, IncidentType, Measure, Thresholds};

use super::rank;
use crate::{
    Case, Server, database,
    finding::{Finding, Judgement},
    mask::mask,
    metrics::{STALE, View},
    signals::{Pod, ProbeQuestion, Span},
    time::lapse,
    words,
};

/// A cause that explains so many percent of what fails is the cause of it.
pub const MOST_PERCENT: f64 = 80.0;
/// What rounding may leave.
const SLACK: f64 = 1e-6;

/// The numbers that the object wishes for.
pub fn thresholds(case: &Case, incident: IncidentType) -> Thresholds {
    let own = case.spec.overrides.iter().find(|own| own.incident == incident);
    own.and_then(|own| own.thresholds.clone()).unwrap_or_default()
}

/// The share above which it is an incident, in percent.
pub fn percent(thresholds: &Thresholds, default: f64) -> f64 {
    let own = thresholds.percent.as_ref().map(mcp_health_api::Decimal::value);
    own.filter(|own| own.is_finite()).unwrap_or(default)
}

/// So many requests tell something.
pub fn fewest(thresholds: &Thresholds, default: u32) -> f64 {
    f64::from(thresholds.min_requests.unwrap_or(default)) - SLACK
}

/// `part` of `whole` in percent; of nothing, 0.
pub fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part * 100.0 / whole).min(100.0) } else { 0.0 }
}

/// Whether a share is above a threshold, and not by rounding.
pub fn is_above(percent: f64, threshold: f64) -> bool {
    percent > threshold + SLACK
}

/// Nobody asks the server for anything, or too few do to tell: what closes is that probes are answered.
pub fn by_probes(case: &Case) -> Judgement {
    let probes = case.signals.probes.fresh().map(Vec::as_slice).unwrap_or_default();
    // What never was answered may have a wall in between.
    let mut known = probes.iter().filter(|probed| probed.ever_answered).peekable();
    let passes =
        known.peek().is_some() && known.all(|probed| probed.last().is_some_and(|last| last.outcome.is_ok()));
    if passes { Judgement::Clear } else { Judgement::Unknown }
}

/// The template in force was never healthy and another was; and by what is measured, its pods fail, those of
/// others do not, nor did they in the hour before. `fails` says `None` where too little is seen.
pub fn rollout_is_to_blame(
    case: &Case,
    incident: IncidentType,
    server: &Server,
    view: &View,
    fails: impl Fn(&View, Span) -> Option<bool>,
) -> bool {
    let current = server.current_pods();
    let (theirs, others) = (view.only(&current), view.without(&current));
    server.rollout_is_to_blame()
        && !was_there_before(case, incident, &current)
        && fails(&theirs, Span::Window) != Some(false)
        && fails(&others, Span::Window) != Some(true)
        && fails(&others, Span::Before) != Some(true)
}

/// The operator saw it before the first of these pods was there, and found that no rollout was why.
fn was_there_before(case: &Case, incident: IncidentType, pods: &[&Pod]) -> bool {
    let Some(first) = pods.iter().map(|pod| pod.created).min() else { return false };
    let open = case.open(incident);
    let pending = case.status.pending.iter().find(|one| one.incident_type == incident);
    match (open, pending) {
        (Some(open), _) => open.cause != Cause::BadRollout && open.since.0 < first,
        (None, Some(pending)) => pending.since.0 < first,
        (None, None) => false,
    }
}

/// Why the rollout is blamed.
pub fn blame_words(server: &Server) -> String {
    let before = match server.last_healthy {
        Some(healthy) => format!("template {} was", healthy.template),
        None => "the one before it still serves".to_owned(),
    };
    format!("{} was never seen healthy; {before}", server.current_words())
}

/// The one pod that fails while the others do not, of at least two that are ready.
pub fn one_pod<'a>(server: &Server<'a>, fails: impl Fn(&'a Pod) -> Option<bool>) -> Option<&'a Pod> {
    let ready: Vec<&Pod> = server.current_pods().into_iter().filter(|pod| pod.ready).collect();
    let (bad, well): (Vec<_>, Vec<_>) =
        ready.into_iter().filter_map(|pod| Some((pod, fails(pod)?))).partition(|(_, fails)| *fails);
    match (bad.as_slice(), well.as_slice()) {
        ([(pod, _)], [_, ..]) => Some(*pod),
        _ => None,
    }
}

/// What the server's own health answer says of its database, where that is not well (guide 001:
/// `failed_components`).
pub fn database_by_health(case: &Case) -> Option<String> {
    let probes = case.signals.probes.fresh()?;
    let faults = probes.iter().filter(|probed| probed.question == ProbeQuestion::Health);
    let mut said = faults.filter_map(|probed| Some((probed, probed.fault()?.said.as_str())));
    let (_, said) = said.find(|(_, said)| database::is_named_by(said))?;
    Some(format!("its health answer says: {}", words::shorten(said, 160)))
}

/// `search (120), fetch (31), list (2)`: the largest, as numbers in the window.
pub fn top(view: &View, groups: &[(&str, f64)]) -> Option<String> {
    let known = groups.iter().filter(|(_, value)| *value > 0.0).take(3);
    let words: Vec<String> =
        known.map(|(name, value)| format!("{} ({})", foreign(name), count(view.in_window(*value)))).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// A label's value in a sentence.
pub fn foreign(word: &str) -> String {
    words::shorten(&mask(word), 64)
}

/// Where the values come from: the query, or the source.
pub fn source(view: &View, measure: Measure) -> String {
    let source = &view.metrics().source;
    match view.metrics().query(measure, Span::Window) {
        Some(query) => format!("by {source}: {}", words::shorten(query, 320)),
        None => format!("by {source}"),
    }
}

/// Pods that should be seen and are not.
pub fn unseen_words(unseen: &[&str]) -> Option<String> {
    let first = unseen.first()?;
    Some(match unseen.len() {
        1 => format!("no metrics of pod {first} are seen"),
        more => format!("no metrics of {more} pods are seen, as {first}"),
    })
}

/// `12.3`, `0.04`, `120`: as exact as people compare it.
pub fn number(value: f64) -> String {
    let rounded = |digits: usize| format!("{value:.digits$}");
    let text = if value >= 100.0 {
        rounded(0)
    } else if value >= 1.0 {
        rounded(1)
    } else {
        rounded(2)
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// How many in the window, as rates tell: whole ones.
pub fn count(value: f64) -> String {
    if value > 0.0 && value < 0.5 { "less than 1".to_owned() } else { format!("{value:.0}") }
}

/// When what was found is too old to tell of now.
pub fn lapses(view: &View, measure: Measure) -> Option<jiff::Timestamp> {
    lapse(view.sampled(measure).into_iter(), STALE)
}

/// Above this share of periods in which it was throttled, in percent, a server has less CPU than it needs.
pub const THROTTLED_PERCENT: f64 = 25.0;

/// In how many percent of the periods in which its containers could run they were throttled.
pub fn throttled(view: &View) -> Option<f64> {
    let total = |measure| view.total(measure, Span::Window);
    let periods = total(Measure::CpuPeriods).filter(|periods| *periods > 0.0)?;
    Some(share(total(Measure::CpuThrottledPeriods)?, periods))
}

/// The same as a sentence, where it is too much.
pub fn throttled_words(view: &View) -> Option<String> {
    let percent = throttled(view).filter(|percent| is_above(*percent, THROTTLED_PERCENT))?;
    Some(format!(
        "CPU: throttled in {} % of the periods of the last {} (threshold {THROTTLED_PERCENT} %)",
        number(percent),
        words::span(view.metrics().window)
    ))
}

/// The ready pods of which a measure tells nothing: where it tells of the others only, all is not known to be
/// well.
pub fn silent_about<'a>(view: &View, server: &Server<'a>, measure: Measure) -> Vec<&'a str> {
    let series = || view.series(measure, Span::Window);
    if series().any(|one| one.pod.is_none()) {
        return Vec::new();
    }
    let ready = server.pods.iter().filter(|pod| pod.ready).map(|pod| pod.name.as_str());
    ready.filter(|name| !series().any(|one| one.pod.as_deref() == Some(*name))).collect()
}

/// How near to the root is what metrics show. Of a dependency or a database, they show the trace in the
/// server; what they forbid binds all the same.
pub fn rank_of_trace(finding: &Finding) -> u8 {
    match finding.cause {
        Cause::DatabaseConnection | Cause::DependencyDown => 2,
        cause => rank::of(cause),
    }
}
