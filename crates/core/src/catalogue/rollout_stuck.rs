//! RolloutStuck: a rollout does not get through (guide 004, Rollback Procedure).
//!
//! Judged by the Deployment's progress deadline, by what keeps its pods from existing (quota) or from having a
//! node, or by pods that stay unready while the old ones are well. What cannot start is a crash loop's.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use super::{Entry, lasting};
use crate::{
    Case, Server,
    diagnose::{Finding, Judgement},
    signals::Pod,
    words,
};

pub const ENTRY: Entry = Entry { incident: IncidentType::RolloutStuck, judge, looks_back: false, runbook };

/// How long a new pod may be unready, or without a node, beyond what its own probes ask for.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
/// How long a refused pod is waited for: it may come right by itself.
const START_PATIENCE: SignedDuration = SignedDuration::from_secs(15);
/// How often a rollout that is under way, with nothing wrong in sight, is looked at.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_mins(5);
/// A sign that the rollout is stuck: since when, how long to wait, why, and the sentence.
struct Sign {
    since: Timestamp,
    patience: SignedDuration,
    cause: Cause,
    evidence: String,
    pod_created: Option<Timestamp>,
}

fn judge(case: &Case, server: &Server) -> Judgement {
    let target = server.target;
    let unready: Vec<&Pod> = server.current_pods().into_iter().filter(|pod| !pod.ready).collect();
    if target.desired == 0 || target.observed_generation < target.generation || server.is_rolled_out() {
        return Judgement::Clear;
    }
    let quota = target.replica_failure.as_ref().filter(|(message, _)| message.contains("exceeded quota"));
    let mut signs: Vec<Sign> = Vec::new();
    if let Some((message, since)) = quota {
        signs.push(Sign {
            since: *since,
            patience: START_PATIENCE,
            cause: Cause::QuotaExceeded,
            evidence: format!("the pods are refused: {}", words::shorten(message, 300)),
            pod_created: None,
        });
    }
    for pod in &unready {
        signs.extend(sign_of(case, server, pod));
    }
    if let (Some(message), false) = (&target.deadline_exceeded, unready.is_empty() && quota.is_none()) {
        let created = unready.iter().map(|pod| pod.created);
        signs.push(Sign {
            since: created.clone().min().unwrap_or(case.now),
            patience: SignedDuration::ZERO,
            cause: server.cause(Cause::NotReady),
            evidence: format!("the progress deadline has passed: {}", words::shorten(message, 200)),
            pod_created: created.max(),
        });
    }

    let now = case.now;
    let due = |sign: &Sign| sign.since.saturating_add(sign.patience).unwrap_or(Timestamp::MAX);
    // A quota or a missing node explains unready pods; the reverse does not hold.
    signs.sort_by_key(|sign| (sign.cause != Cause::QuotaExceeded, sign.cause != Cause::Unschedulable));
    let Some(sign) = signs.iter().find(|sign| due(sign) <= now) else {
        return match signs.iter().map(due).min() {
            Some(until) => Judgement::Suspected { until },
            None if unready.is_empty() => Judgement::Clear,
            // The old pods may come to count as well by time alone.
            None => Judgement::Suspected { until: now.saturating_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX) },
        };
    };
    let mut evidence = vec![sign.evidence.clone()];
    evidence.extend(
        signs.iter().filter(|other| other.evidence != sign.evidence).map(|one| one.evidence.clone()).take(2),
    );
    evidence.push(format!(
        "{} of {} wanted pods are ready, {} of {}",
        server.ready(),
        target.desired,
        server.current_pods().iter().filter(|pod| pod.ready).count(),
        server.current_words(),
    ));
    // What the kubelet says of a pod that does not get ready: its probe's answer, its volume.
    evidence.extend(unready.iter().find_map(|pod| pod.trouble()));
    Judgement::Found(Finding {
        incident: IncidentType::RolloutStuck,
        rule: None,
        cause: sign.cause,
        severity: Severity::SEV2,
        since: sign.since,
        evidence,
        youngest_pod: sign.pod_created,
        lapses: None,
        // More pods would be refused, or find no node, as well.
        forbids: match sign.cause {
            Cause::QuotaExceeded | Cause::Unschedulable => &[ActionType::RolloutRestart],
            _ => &[],
        },
    })
}

/// What an unready pod of the template in force tells. Crash loops have an entry of their own.
fn sign_of(case: &Case, server: &Server, pod: &Pod) -> Option<Sign> {
    let sign = |since, patience, cause, evidence| {
        Some(Sign { since, patience, cause, evidence, pod_created: Some(pod.created) })
    };
    if let Some(message) = &pod.unschedulable {
        let evidence = format!("pod {}: no node takes it: {}", pod.name, words::shorten(message, 200));
        return sign(
            pod.created,
            lasting(case, IncidentType::RolloutStuck, PATIENCE),
            Cause::Unschedulable,
            evidence,
        );
    }
    // Unready pods are a stuck rollout only where the old ones show that ready is possible; without those,
    // the server as a whole does not respond, which is another entry.
    let (beside, _) = server.serving_beside()?;
    let patience = lasting(case, IncidentType::RolloutStuck, PATIENCE.max(server.target.startup_budget));
    let evidence = format!(
        "pod {}: not ready for {}, while {} of template {} are well",
        pod.name,
        words::span(case.now.duration_since(pod.created)),
        words::count(server.pods_of(beside).count(), "pod"),
        beside.template
    );
    sign(pod.created, patience, server.cause(Cause::NotReady), evidence)
}

fn runbook(cause: Cause, _: &Server) -> &'static [ActionType] {
    match cause {
        Cause::BadRollout => &[ActionType::Rollback],
        _ => &[],
    }
}
