//! MemoryLeak: memory grows steadily, and reaches the limit within an hour.
//!
//! Judged over ten minutes by the resident set that Prometheus or the kubelets tell; by the working set,
//! which counts page cache too, only where a container was killed at its limit before. A pod is recycled
//! before it is killed.

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use super::entry::{Entry, Evidence, Needs, Rule, USUAL};
use crate::{
    Case, Server,
    finding::{Finding, Judgement},
    signals::Pod,
    usage::{self, Growth, Leak, UsageWindows, mib},
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::MemoryLeak,
    rule: Rule::Plain(judge),
    needs: Needs::All(&[Evidence::Usage]),
    lasting: Some(usage::LEAK_WINDOW),
    explained_by_dependency: |_, _| false,
    worst_pod: worst,
    runbook,
    guide: &[("004", "Memory Leak")],
    ..USUAL
};

fn judge(case: &Case, server: &Server) -> Judgement {
    let Some(growth) = growth(case, server) else { return Judgement::Unknown };
    let Some(first) = growth.leaks.first() else {
        return if growth.is_seen { Judgement::Clear } else { Judgement::Unknown };
    };
    let mut evidence: Vec<String> = growth.leaks.iter().take(3).map(describe).collect();
    if growth.leaks.len() > evidence.len() {
        evidence.push(format!("{} in all grow in this way", words::count(growth.leaks.len(), "container")));
    }
    Judgement::Found(Finding {
        youngest_pod: growth.leaks.iter().map(|leak| leak.created).max(),
        lapses: usage::once_stale(growth.leaks.iter().map(|leak| leak.seen)),
        ..Finding::new(
            IncidentType::MemoryLeak,
            Cause::Leak,
            Severity::SEV3,
            growth.leaks.iter().map(|leak| leak.since).min().unwrap_or(first.since),
            evidence,
        )
    })
}

fn growth(case: &Case, server: &Server) -> Option<Growth> {
    let usage = case.signals.usage.fresh()?;
    let (pods, window) = (server.current_pods(), UsageWindows::of(case.spec).leak);
    let resident = case.signals.resident.fresh().map(Vec::as_slice).unwrap_or_default();
    Some(usage::leaks(&pods, &server.target.containers, usage, resident, window, case.now))
}

/// The pod that reaches its limit first.
pub(super) fn worst<'a>(case: &Case, server: &Server<'a>) -> Option<&'a Pod> {
    let growth = growth(case, server)?;
    let first = growth.leaks.first()?;
    server.pods.iter().copied().find(|pod| pod.name == first.pod)
}

fn describe(leak: &Leak) -> String {
    let until = match leak.left {
        SignedDuration::ZERO => "and is there".to_owned(),
        left => format!("and reaches it in {}", words::span(left)),
    };
    format!(
        "pod {}, container {}: memory has grown by {}/h for {}; it uses {} of {} {until}",
        leak.pod,
        leak.container,
        mib(leak.per_hour),
        words::span(leak.seen.duration_since(leak.since)),
        mib(leak.used),
        mib(leak.limit),
    )
}

fn runbook(_: Cause, server: &Server) -> &'static [ActionType] {
    if server.rollout_is_to_blame() {
        &[ActionType::Rollback, ActionType::RecyclePod, ActionType::RolloutRestart]
    } else {
        &[ActionType::RecyclePod, ActionType::RolloutRestart]
    }
}
