//! McpProtocolFailing: pods run, and the way that clients talk to them does not work: MCP fails while the rest answers
//! (guides 001, Protocol Issues, and 003, Connection Problems).
//!
//! Judged by MCP probes of the pods in force, against those of their health path, and through the Services against those
//! of the pods. A server that turns the operator away is alive: that is configuration, and never a restart.

use std::cmp::Reverse;

use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use super::{Entry, lapse, service_not_responding::is_silent};
use crate::{
    Case, Server,
    diagnose::{Finding, Judgement},
    probes::{Failing, Probes, Told, foreign_words, patience},
    signals::{FaultKind, Pod, ProbeQuestion},
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::McpProtocolFailing,
    judge,
    looks_back: false,
    explained_by_dependency: super::by_dependency,
    runbook,
};

/// Pods that are named in evidence.
const NAMED: usize = 4;
/// What mends no configuration.
const RESTARTS: &[ActionType] =
    &[ActionType::RolloutRestart, ActionType::RecyclePod, ActionType::DrainAndRestart];

fn judge(case: &Case, server: &Server) -> Judgement {
    let disabled = case.spec.signals.mcp.as_ref().is_some_and(|mcp| !mcp.enabled);
    if server.target.desired == 0 || disabled {
        return Judgement::Clear;
    }
    let Some(probes) = Probes::of(case, server) else { return Judgement::Unknown };
    if is_silent(case, server) {
        // More than MCP does not answer: that is told, and mended, as such.
        return Judgement::Unknown;
    }
    let ready: Vec<&Pod> = server.current_pods().into_iter().filter(|pod| pod.ready).collect();
    let mut failing = failing(&probes, &ready);
    failing.sort_by_key(|(pod, one)| (Reverse(one.faults), &pod.name));
    if let Some((_, first)) = failing.first() {
        let evidence = evidence(&probes, &ready, &failing);
        let cause = cause(first.fault.kind);
        let youngest = failing.iter().map(|(pod, _)| pod.created).max();
        let forbids = if is_configuration(cause) { RESTARTS } else { &[] };
        let finding = finding(case, cause, failing.iter().map(|(_, one)| one), evidence, forbids);
        return Judgement::Found(Finding { youngest_pod: youngest, ..finding });
    }
    let of_pod = |pod: &&Pod| probes.of_pod(pod, ProbeQuestion::Mcp);
    let is_well =
        |pod: &&Pod| of_pod(pod) == Told::Well || probes.judged_through(pod, ProbeQuestion::Mcp).is_some();
    if !ready.is_empty() && ready.iter().all(is_well) {
        return judge_services(case, &probes, &ready, true);
    }
    if !ready.is_empty() && ready.iter().all(|pod| of_pod(pod) == Told::Nothing) {
        // The operator has no path to the pods themselves: what clients get tells.
        return match judge_services(case, &probes, &ready, false) {
            found @ Judgement::Found(_) => found,
            _ => Judgement::Unknown,
        };
    }
    Judgement::Unknown
}

/// What clients get through the Services; the pods are well on their own addresses, or tell nothing there.
fn judge_services(case: &Case, probes: &Probes, ready: &[&Pod], pods_are_well: bool) -> Judgement {
    let mut in_doubt = false;
    for (service, question, told) in probes.services() {
        match told {
            _ if question != ProbeQuestion::Mcp => {}
            // Where there is no way at all, ServiceNotResponding tells.
            Told::Failing(one) if one.fault.kind.is_of_the_way() => in_doubt = true,
            Told::Failing(one) => {
                let on_their_own = if pods_are_well {
                    format!("on their own addresses, {} well", pods_are(ready.len()))
                } else {
                    "on their own addresses, the pods do not answer the operator's direct probes".to_owned()
                };
                let mut evidence =
                    vec![format!("through Service {service}: MCP: {}", one.words()), on_their_own];
                let foreign = foreign_words(case, service);
                let cause = match cause(one.fault.kind) {
                    _ if foreign.is_some() => Cause::ForeignEndpoints,
                    Cause::Wedged | Cause::ErrorAnswers | Cause::Malformed if pods_are_well => {
                        Cause::ProxyBuffering
                    }
                    other => other,
                };
                let is_outside = pods_are_well || foreign.is_some() || is_configuration(cause);
                let forbids = if is_outside { RESTARTS } else { &[] };
                evidence.extend(foreign);
                return Judgement::Found(finding(case, cause, [one].iter(), evidence, forbids));
            }
            Told::Wavering => in_doubt = true,
            Told::Well | Told::Nothing => {}
        }
    }
    if in_doubt { Judgement::Unknown } else { Judgement::Clear }
}

fn pods_are(pods: usize) -> String {
    if pods == 1 { "the one pod is".to_owned() } else { format!("all {pods} pods are") }
}

/// The pods on which MCP fails.
fn failing<'a, 'b>(probes: &Probes<'b>, ready: &[&'a Pod]) -> Vec<(&'a Pod, Failing<'b>)> {
    let told = ready.iter().map(|pod| (*pod, probes.of_pod(pod, ProbeQuestion::Mcp)));
    told.filter_map(|(pod, told)| match told {
        Told::Failing(failing) => Some((pod, failing)),
        _ => None,
    })
    .collect()
}

/// The pod that fails for longest.
pub(super) fn worst<'a>(case: &Case, server: &Server<'a>) -> Option<&'a Pod> {
    let probes = Probes::of(case, server)?;
    let ready: Vec<&Pod> = server.current_pods().into_iter().filter(|pod| pod.ready).collect();
    let failing = failing(&probes, &ready).into_iter();
    let mendable = failing.filter(|(_, one)| !is_configuration(cause(one.fault.kind)));
    mendable.min_by_key(|(pod, one)| (Reverse(one.faults), one.since, &pod.name)).map(|(pod, _)| pod)
}

/// MCP answers on the pod, by the operator's own probes of it.
pub(super) fn is_well(case: &Case, server: &Server, pod: &Pod) -> bool {
    Probes::of(case, server).is_some_and(|probes| probes.of_pod(pod, ProbeQuestion::Mcp) == Told::Well)
}

fn cause(kind: FaultKind) -> Cause {
    match kind {
        FaultKind::TimedOut | FaultKind::Buffered | FaultKind::Reset => Cause::Wedged,
        FaultKind::Unauthorized | FaultKind::Forbidden => Cause::AuthenticationRequired,
        FaultKind::HostNotAllowed => Cause::HostNotAllowed,
        FaultKind::VersionMismatch => Cause::VersionMismatch,
        FaultKind::SessionLost => Cause::SessionLost,
        FaultKind::NotFound | FaultKind::UnexpectedStatus | FaultKind::NotMcp => Cause::NotMcp,
        FaultKind::Redirected => Cause::Redirected,
        FaultKind::Refused => Cause::Refused,
        FaultKind::ConnectTimeout | FaultKind::Unreachable => Cause::Dropped,
        FaultKind::Dns => Cause::NameNotResolved,
        FaultKind::Tls | FaultKind::Unverified => Cause::TlsFailing,
        FaultKind::Unavailable | FaultKind::ServerError => Cause::ErrorAnswers,
        FaultKind::TooLarge
        | FaultKind::Malformed
        | FaultKind::RpcError
        | FaultKind::RateLimited
        | FaultKind::Unhealthy
        | FaultKind::ToolFailed => Cause::Malformed,
    }
}

/// A new process of the same template would be no other.
const fn is_configuration(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::AuthenticationRequired
            | Cause::HostNotAllowed
            | Cause::VersionMismatch
            | Cause::SessionLost
            | Cause::NotMcp
            | Cause::Redirected
            | Cause::Malformed
            | Cause::TlsFailing
            | Cause::NameNotResolved
    )
}

fn evidence(probes: &Probes, ready: &[&Pod], failing: &[(&Pod, Failing)]) -> Vec<String> {
    let mut evidence: Vec<String> = failing
        .iter()
        .take(NAMED)
        .map(|(pod, one)| {
            let besides = match probes.of_pod(pod, ProbeQuestion::Health) {
                Told::Well => "; its health path answers",
                Told::Failing(_) => "; its health path fails, too",
                Told::Wavering | Told::Nothing => "",
            };
            format!("pod {}: MCP: {}{besides}", pod.name, one.words())
        })
        .collect();
    let well = ready.iter().filter(|pod| probes.of_pod(pod, ProbeQuestion::Mcp) == Told::Well).count();
    evidence.push(format!(
        "MCP fails on {} of {}, and is well on {well}",
        failing.len(),
        words::count(ready.len(), "ready pod")
    ));
    evidence
}

fn finding<'a>(
    case: &Case,
    cause: Cause,
    failing: impl Iterator<Item = &'a Failing<'a>> + Clone,
    evidence: Vec<String>,
    forbids: &'static [ActionType],
) -> Finding {
    Finding {
        incident: IncidentType::McpProtocolFailing,
        rule: None,
        cause,
        severity: Severity::SEV2,
        since: failing.clone().map(|one| one.since).min().unwrap_or(case.now),
        evidence,
        youngest_pod: None,
        lapses: lapse(failing.map(|one| one.seen), patience(case.spec, ProbeQuestion::Mcp)),
        forbids,
    }
}

fn runbook(cause: Cause, server: &Server) -> &'static [ActionType] {
    let to_blame = server.rollout_is_to_blame();
    match cause {
        // A new template that turns the operator away may be meant to: no reason for a rollback.
        Cause::AuthenticationRequired
        | Cause::HostNotAllowed
        | Cause::VersionMismatch
        | Cause::Redirected
        | Cause::TlsFailing
        | Cause::ForeignEndpoints => &[],
        _ if is_configuration(cause) || cause == Cause::ProxyBuffering => {
            if to_blame {
                &[ActionType::Rollback]
            } else {
                &[]
            }
        }
        _ if to_blame => &[ActionType::Rollback, ActionType::RecyclePod, ActionType::RolloutRestart],
        _ => &[ActionType::RecyclePod, ActionType::RolloutRestart],
    }
}
