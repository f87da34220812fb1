//! ServiceNotResponding: no pod of the server is ready, or none behind its Service, or none answers (guide 004, Service
//! Not Responding; 001, Cannot Connect).
//!
//! Judged by the pods' readiness and by EndpointSlices; where those say that all is well, by probes from outside.

mod outside;

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use super::{Entry, lasting};
use crate::{
    Case, Server, database, dependencies,
    diagnose::{Finding, Judgement},
    words,
};

pub(super) use outside::is_silent;

pub const ENTRY: Entry =
    Entry { incident: IncidentType::ServiceNotResponding, judge, looks_back: false, runbook };

/// None of these brings back what the server depends on.
const BRING_NO_DEPENDENCY_BACK: &[ActionType] =
    &[ActionType::RolloutRestart, ActionType::RecyclePod, ActionType::DrainAndRestart];
/// A pod whose container ended within this time does not just wait for something.
const ENDED: SignedDuration = SignedDuration::from_mins(10);
/// How long nothing may be ready. A rollout that replaces all pods at once takes a moment.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

fn judge(case: &Case, server: &Server) -> Judgement {
    let target = server.target;
    if target.desired == 0 {
        return Judgement::Clear;
    }
    if server.ready() == 0 {
        return judge_pods(case, server);
    }
    match (judge_services(case, server), outside::judge(case, server)) {
        (Judgement::Clear | Judgement::Unknown, Judgement::Found(finding)) => Judgement::Found(finding),
        // What was found from outside is over only when it is seen so from outside.
        (Judgement::Clear, Judgement::Unknown) if was_found_outside(case) => Judgement::Unknown,
        (inside, _) => inside,
    }
}

/// It was found by probes, as far as its cause tells, and those have answered before: they will again.
fn was_found_outside(case: &Case) -> bool {
    let answered = case.status.target.as_ref().is_some_and(|target| !target.answered.is_empty());
    answered
        && case.open(IncidentType::ServiceNotResponding).is_some_and(|open| {
            !matches!(
                open.cause,
                Cause::BadRollout | Cause::NeverHealthy | Cause::NotReady | Cause::ServiceMismatch
            )
        })
}

/// No pod is ready: is it long enough?
fn judge_pods(case: &Case, server: &Server) -> Judgement {
    if server.target.ready > 0 {
        // The Deployment's controller still counts ready pods: contradictory, and soon decided either way.
        return Judgement::Unknown;
    }
    let pods = server.current_pods();
    let last_change = pods.iter().map(|pod| pod.ready_changed).max();
    let Some(since) = last_change.or(server.target.replica_failure.as_ref().map(|(_, since)| *since)) else {
        return Judgement::Unknown;
    };
    // A pod that never was ready has the time that its probes ask for.
    let starting =
        pods.iter().any(|pod| pod.restarts() == 0 && pod.ready_changed <= in_a_moment(pod.created));
    let patience = lasting(case, IncidentType::ServiceNotResponding, PATIENCE);
    let patience = if starting { patience.max(server.target.startup_budget) } else { patience };
    let due = since.saturating_add(patience).unwrap_or(Timestamp::MAX);
    if due > case.now {
        return Judgement::Suspected { until: due };
    }
    let own = server.cause(Cause::NotReady);
    // Pods that run, of a template that was well, and what they need is down by the operator's own look. Pods that end,
    // and those of a new template, have another fault than that.
    let ends = pods.iter().any(|pod| pod.ended_within(ENDED, case.now));
    let waits = own == Cause::NotReady && !ends;
    let down = dependencies::down_words(case).map(|words| (Cause::DependencyDown, words));
    let down = down.or_else(|| Some((Cause::DatabaseConnection, database::shut_words(case)?)));
    let (cause, down) = match down.filter(|_| waits) {
        Some((cause, words)) => (cause, Some(words)),
        None => (own, None),
    };
    let mut evidence = vec![
        format!(
            "none of {} wanted pods is ready since {} ({})",
            server.target.desired,
            words::moment(since),
            words::span(case.now.duration_since(since))
        ),
        match server.healthy_ends_too() {
            Some(healthy) => {
                format!("pods of template {}, which was seen healthy, end too", healthy.template)
            }
            None if server.template_was_healthy() => {
                format!("{} was seen healthy before", server.current_words())
            }
            None => format!("{} was never seen healthy", server.current_words()),
        },
    ];
    let forbids = if down.is_some() { BRING_NO_DEPENDENCY_BACK } else { &[] };
    evidence.extend(down);
    // What the kubelet says of a pod that is not ready: its probe's answer, its volume.
    evidence.extend(pods.iter().find_map(|pod| pod.trouble()));
    Judgement::Found(Finding {
        incident: IncidentType::ServiceNotResponding,
        rule: None,
        cause,
        severity: Severity::SEV1,
        since,
        evidence,
        youngest_pod: pods.iter().map(|pod| pod.created).max(),
        lapses: None,
        forbids,
    })
}

/// The kubelet's first word on a pod comes a moment after its creation.
fn in_a_moment(created: Timestamp) -> Timestamp {
    created.saturating_add(SignedDuration::from_secs(2)).unwrap_or(created)
}

/// Pods are ready: do the Services lead to them?
fn judge_services(case: &Case, server: &Server) -> Judgement {
    let Some(services) = case.signals.services.fresh() else { return Judgement::Unknown };
    let Some(broken) = services.iter().find(|service| service.ready_endpoints == 0) else {
        return Judgement::Clear;
    };
    // Endpoints follow readiness within seconds: wait until every ready pod has been so for a while.
    let ready = server.pods.iter().filter(|pod| pod.ready).map(|pod| pod.ready_changed);
    let Some(since) = ready.chain([broken.since]).max() else { return Judgement::Clear };
    let due = since
        .saturating_add(lasting(case, IncidentType::ServiceNotResponding, PATIENCE))
        .unwrap_or(Timestamp::MAX);
    if due > case.now {
        return Judgement::Suspected { until: due };
    }
    let mut evidence = vec![format!(
        "{} ready, and none of them is a ready endpoint of Service {}",
        if server.ready() == 1 { "1 pod is".to_owned() } else { format!("{} pods are", server.ready()) },
        broken.name
    )];
    evidence.push(if broken.selects_pods {
        format!("its selector {} matches the pods: look at its ports and targetPort", broken.selector)
    } else {
        format!("its selector {} matches no label of the pod template", broken.selector)
    });
    Judgement::Found(Finding {
        incident: IncidentType::ServiceNotResponding,
        rule: None,
        cause: Cause::ServiceMismatch,
        severity: Severity::SEV1,
        since,
        evidence,
        youngest_pod: None,
        lapses: None,
        // The pods are well; nothing that is done to them brings the Service back.
        forbids: &[ActionType::RolloutRestart, ActionType::Rollback],
    })
}

fn runbook(cause: Cause, server: &Server) -> &'static [ActionType] {
    match cause {
        Cause::BadRollout => &[ActionType::Rollback, ActionType::RolloutRestart],
        Cause::TimedOut | Cause::ErrorAnswers | Cause::Refused | Cause::Dropped
            if server.rollout_is_to_blame() =>
        {
            &[ActionType::Rollback, ActionType::RolloutRestart]
        }
        // Of a dependency that is down, the restart is what waits until it is back.
        Cause::NotReady
        | Cause::TimedOut
        | Cause::ErrorAnswers
        | Cause::Refused
        | Cause::Dropped
        | Cause::DependencyDown
        | Cause::DatabaseConnection => &[ActionType::RolloutRestart],
        _ => &[],
    }
}
