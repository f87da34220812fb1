//! PartiallyUnready: some pods of the known-good revision are not ready for good, and others serve.
//!
//! Judged by readiness alone, beyond the time that a start or a moment without readiness may take. Pods whose
//! containers end or cannot start are a crash loop's, pods without a node and revisions on their way are a
//! rollout's.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use super::{
    entry::{Entry, Evidence, Needs, Rule, USUAL},
    forbidden::RESTARTS,
};
use crate::{
    Case, Server, database, dependencies,
    finding::{Finding, Judgement},
    signals::Pod,
    start_budget::{self, Phase, StartBudget},
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::PartiallyUnready,
    rule: Rule::Plain(judge),
    needs: Needs::All(&[Evidence::Pods]),
    lasting: Some(LOST),
    worst_pod: worst,
    is_well: |_, _, _, pod| Some(pod.ready),
    runbook,
    guide: &[("004", "Service Not Responding")],
    ..USUAL
};

/// How long a pod that was ready may be without readiness.
const LOST: SignedDuration = SignedDuration::from_secs(60);
/// Pods that are named in evidence.
const NAMED: usize = 3;

/// The pods that are not ready, with the time that they have; those that wait longest first.
fn unready<'a>(case: &Case, server: &Server<'a>) -> Vec<(&'a Pod, StartBudget)> {
    let pods = server.current_pods().into_iter().filter(|pod| !pod.ready);
    let budgets = pods.map(|pod| (pod, start_budget::of(case, server, pod, ENTRY.incident, LOST)));
    let mut unready: Vec<_> =
        budgets.filter(|(_, one)| !matches!(one.phase, Phase::Failing | Phase::Unscheduled)).collect();
    unready.sort_by_key(|(pod, budget)| (budget.due, &pod.name));
    unready
}

/// The one that is overdue for longest, where a successor may do better.
pub(super) fn worst<'a>(case: &Case, server: &Server<'a>) -> Option<&'a Pod> {
    let mut unready = unready(case, server).into_iter();
    unready.find(|(_, one)| one.due <= case.now && one.phase != Phase::Gated).map(|(pod, _)| pod)
}

fn judge(case: &Case, server: &Server) -> Judgement {
    if !server.template_was_healthy() {
        return Judgement::Clear;
    }
    let unready = unready(case, server);
    if unready.is_empty() && server.is_rolled_out() {
        return Judgement::Clear;
    }
    // Without a ready pod the server does not respond, and a rollout has its own rule.
    if server.ready() == 0 || server.is_rolling_out() {
        return Judgement::Unknown;
    }
    let (overdue, starting): (Vec<_>, Vec<_>) = unready.into_iter().partition(|(_, one)| one.due <= case.now);
    let Some((_, first)) = overdue.first() else {
        return match starting.first() {
            Some((_, next)) => Judgement::Suspected { until: next.due },
            None => Judgement::Unknown,
        };
    };
    let waits = overdue.iter().any(|(_, one)| one.phase != Phase::Gated);
    let down = dependencies::down_words(case).map(|words| (Cause::DependencyDown, words));
    let down = down.or_else(|| Some((Cause::DatabaseConnection, database::shut_words(case)?)));
    let (cause, down) = match down.filter(|_| waits) {
        Some((cause, words)) => (cause, Some(words)),
        None if waits => (Cause::NotReady, None),
        None => (Cause::ReadinessGate, None),
    };
    let forbids = if down.is_some() { RESTARTS } else { &[] };
    let pods = i32::try_from(overdue.len()).unwrap_or(i32::MAX);
    let most = pods.saturating_mul(2) > server.target.desired;
    Judgement::Found(Finding {
        youngest_pod: overdue.iter().map(|(pod, _)| pod.created).max(),
        forbids,
        ..Finding::new(
            ENTRY.incident,
            cause,
            if most { Severity::SEV2 } else { Severity::SEV3 },
            first.since,
            evidence(server, &overdue, down),
        )
    })
}

fn evidence(server: &Server, overdue: &[(&Pod, StartBudget)], down: Option<String>) -> Vec<String> {
    let since = overdue.iter().map(|(_, one)| one.since).min().unwrap_or(Timestamp::MIN);
    let mut evidence = vec![format!(
        "{} of {} wanted pods {} not ready, the first since {}; {} ready",
        overdue.len(),
        server.target.desired,
        if overdue.len() == 1 { "is" } else { "are" },
        words::moment(since),
        words::count(server.ready(), "other pod"),
    )];
    evidence.extend(overdue.iter().take(NAMED).map(|(pod, _)| start_budget::words(server, pod)));
    evidence.push(format!("{} is the known-good revision", server.current_words()));
    evidence.extend(down);
    evidence.extend(overdue.iter().find_map(|(pod, _)| pod.trouble()));
    evidence
}

fn runbook(cause: Cause, _: &Server) -> &'static [ActionType] {
    match cause {
        // Of a dependency that is down, the eviction is what waits until it is back.
        Cause::NotReady | Cause::DependencyDown | Cause::DatabaseConnection => &[ActionType::RecyclePod],
        _ => &[],
    }
}
