//! McpProtocolFailing: pods run, and the way that clients talk to them does not work: MCP fails while the
//! rest answers.
//!
//! Judged by MCP probes of the pods in force, against those of their health path, and through the Services
//! against those of the pods. A server that turns the operator away is alive: that is configuration, and
//! never a restart.
//!
//! Whether MCP is spoken, the list of tools and the canary are three questions with a history each: `ping`
//! may answer while every `tools/list` fails. A list that fails counts on pods that speak MCP, where a list
//! with tools was told before. It is treated as MCP is: errors and hangs in a process that was well before
//! may end with that process, so one pod is recycled, and no more before its successor was judged.
//!
//! A canary tool leans on more than its server, so a canary alone restarts nothing: where it fails on some
//! pods and is well on others, one pod is recycled; where it fails on all of a new revision on which it
//! never was well, that goes back; else a human looks at what the tool needs.

use std::cmp::Reverse;

use mcp_health_api::{ActionType, Cause, Incident, IncidentType, Severity};

use super::{
    entry::{Entry, Evidence, Needs, Rule, USUAL},
    forbidden::RESTARTS,
    service_not_responding::is_silent,
};
use crate::{
    Case, Server,
    finding::{Finding, Judgement},
    mask::mask,
    probes::{Failing, PathState, ProbedPaths, foreign_words, in_turn},
    signals::{FaultKind, Pod, ProbeQuestion},
    time::lapse,
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::McpProtocolFailing,
    rule: Rule::Plain(judge),
    needs: Needs::All(&[Evidence::Probes]),
    worst_pod: worst,
    quiet_for: |case, cause| match cause {
        Cause::SessionLost | Cause::ForeignEndpoints => in_turn(case),
        _ => case.settings.settle,
    },
    is_well: |incident, case, server, pod| Some(is_well(incident, case, server, pod)),
    runbook,
    guide: &[("003", "Protocol Issues"), ("001", "Connection Problems")],
    ..USUAL
};

/// Pods that are named in evidence.
const NAMED: usize = 4;
/// The causes that only the canary has here.
const OF_CANARY: [Cause; 4] = [Cause::OnePod, Cause::BadRollout, Cause::ToolTimeout, Cause::ToolErrors];

fn judge(case: &Case, server: &Server) -> Judgement {
    let Some(probes) = ProbedPaths::of(case, server) else { return Judgement::Unknown };
    if is_silent(case, server) {
        // More than MCP does not answer: that is told, and mended, as such.
        return Judgement::Unknown;
    }
    let ready: Vec<&Pod> = server.current_pods().into_iter().filter(|pod| pod.ready).collect();
    let mut all_clear = true;
    for question in [ProbeQuestion::Mcp, ProbeQuestion::Tools] {
        match judge_question(case, server, &probes, &ready, question) {
            Judgement::Clear => {}
            found @ Judgement::Found(_) => return found,
            _ => all_clear = false,
        }
    }
    match judge_canary(case, server, &probes, &ready) {
        Judgement::Clear if !all_clear => Judgement::Unknown,
        judgement => judgement,
    }
}

/// One question, by what the pods answer and by what clients get.
fn judge_question(
    case: &Case,
    server: &Server,
    probes: &ProbedPaths,
    ready: &[&Pod],
    question: ProbeQuestion,
) -> Judgement {
    if question == ProbeQuestion::Tools && !probes.was_answered(question) {
        return Judgement::Clear;
    }
    let mut failing = failing(probes, ready, question);
    failing.sort_by_key(|(pod, one)| (Reverse(one.faults), &pod.name));
    if let Some((_, first)) = failing.first() {
        let evidence = evidence(probes, ready, question, &failing);
        let shown = cause(question, first.fault.kind);
        let cause = match shown {
            // A lost session is the template's where a pod loses it on its own address. Through a Service
            // it may have met another pod, so the cause alone brings nothing back.
            Cause::SessionLost if server.rollout_is_to_blame() => Cause::BadRollout,
            shown => shown,
        };
        let youngest = failing.iter().map(|(pod, _)| pod.created).max();
        let forbids = if is_configuration(shown) { RESTARTS } else { &[] };
        let finding = finding(case, cause, failing.iter().map(|(_, one)| one), evidence, forbids);
        return Judgement::Found(Finding { youngest_pod: youngest, ..finding });
    }
    let of_pod = |pod: &&Pod| probes.of_pod(pod, question);
    let is_well =
        |pod: &&Pod| of_pod(pod) == PathState::Well || probes.judged_through(pod, question).is_some();
    if !ready.is_empty() && ready.iter().all(is_well) {
        return judge_services(case, probes, ready, question, true);
    }
    if !ready.is_empty() && ready.iter().all(|pod| of_pod(pod) == PathState::Nothing) {
        // The operator has no path to the pods themselves: what clients get tells.
        return match judge_services(case, probes, ready, question, false) {
            found @ Judgement::Found(_) => found,
            _ => Judgement::Unknown,
        };
    }
    Judgement::Unknown
}

/// Judges the calls of the canary tool on these ready pods. Clear also where nobody calls it, or it was never
/// answered well.
fn judge_canary(case: &Case, server: &Server, probes: &ProbedPaths, ready: &[&Pod]) -> Judgement {
    let mcp = case.spec.signals.mcp.as_ref();
    let Some(tool) = mcp.and_then(|mcp| mcp.canary_tool.as_ref()) else { return Judgement::Clear };
    let told: Vec<(&Pod, PathState)> =
        ready.iter().map(|pod| (*pod, probes.of_pod(pod, ProbeQuestion::Canary))).collect();
    let well = told.iter().filter(|(_, told)| *told == PathState::Well).count();
    let mut failing = failing(probes, ready, ProbeQuestion::Canary);
    let is_in_doubt = told.iter().any(|(_, told)| *told == PathState::Wavering);
    let Some((_, first)) = failing.first().copied() else {
        // What a canary opened, only a canary that is well closes.
        let open = case.open(IncidentType::McpProtocolFailing);
        let is_open = open.is_some_and(|one| OF_CANARY.contains(&one.cause));
        let is_seen = !ready.is_empty() && well == ready.len();
        return if is_in_doubt || is_open && !is_seen { Judgement::Unknown } else { Judgement::Clear };
    };
    if well == 0 && is_in_doubt {
        return Judgement::Unknown;
    }
    worst_first(&mut failing);
    let was_well_here =
        |pod: &&Pod| probes.probed(pod, ProbeQuestion::Canary).is_some_and(|probed| probed.answered_here);
    let cause = match first.fault.kind {
        FaultKind::Unauthorized | FaultKind::Forbidden => Cause::AuthenticationRequired,
        _ if well > 0 => Cause::OnePod,
        _ if server.rollout_is_to_blame() && !ready.iter().any(was_well_here) => Cause::BadRollout,
        FaultKind::TimedOut | FaultKind::Buffered => Cause::ToolTimeout,
        _ => Cause::ToolErrors,
    };
    let name = words::shorten(&mask(&tool.name.0), 64);
    let describe = |(pod, one): &(&Pod, Failing)| {
        format!("pod {}: canary tool {name}: {}; MCP itself answers", pod.name, one.words())
    };
    let mut evidence: Vec<String> = failing.iter().take(NAMED).map(describe).collect();
    evidence.push(format!(
        "canary tool {name} fails on {} of {}, and is well on {well}",
        failing.len(),
        words::count(ready.len(), "ready pod")
    ));
    let youngest_pod = failing.iter().map(|(pod, _)| pod.created).max();
    let forbids = if is_configuration(cause) { RESTARTS } else { &[] };
    let finding = finding(case, cause, failing.iter().map(|(_, one)| one), evidence, forbids);
    Judgement::Found(Finding { youngest_pod, ..finding })
}

/// What clients get through the Services; the pods are well on their own addresses, or tell nothing there.
fn judge_services(
    case: &Case,
    probes: &ProbedPaths,
    ready: &[&Pod],
    question: ProbeQuestion,
    pods_are_well: bool,
) -> Judgement {
    let mut in_doubt = false;
    for (service, _, told) in probes.services().filter(|(_, asked, _)| *asked == question) {
        match told {
            // Where there is no way at all, ServiceNotResponding tells.
            PathState::Failing(one) if one.fault.kind.is_of_the_way() => in_doubt = true,
            PathState::Failing(one) => {
                let on_their_own = if pods_are_well {
                    format!("on their own addresses, {} well", pods_are(ready.len()))
                } else {
                    "on their own addresses, the pods do not answer the operator's direct probes".to_owned()
                };
                let mut evidence =
                    vec![format!("through Service {service}: {question}: {}", one.words()), on_their_own];
                let foreign = foreign_words(case, service);
                let cause = match cause(question, one.fault.kind) {
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
            PathState::Wavering => in_doubt = true,
            PathState::Well | PathState::Nothing => {}
        }
    }
    if in_doubt { Judgement::Unknown } else { Judgement::Clear }
}

fn pods_are(pods: usize) -> String {
    if pods == 1 { "the one pod is".to_owned() } else { format!("all {pods} pods are") }
}

/// The pods on which a question fails; beside MCP itself, only those that speak it.
fn failing<'a, 'b>(
    probes: &ProbedPaths<'b>,
    ready: &[&'a Pod],
    question: ProbeQuestion,
) -> Vec<(&'a Pod, Failing<'b>)> {
    let counts = |pod: &&&Pod| {
        question == ProbeQuestion::Mcp || probes.of_pod(pod, ProbeQuestion::Mcp) == PathState::Well
    };
    let told = ready.iter().filter(counts).map(|pod| (*pod, probes.of_pod(pod, question)));
    told.filter_map(|(pod, told)| match told {
        PathState::Failing(failing) => Some((pod, failing)),
        _ => None,
    })
    .collect()
}

/// The pod that fails for longest.
pub(super) fn worst<'a>(case: &Case, server: &Server<'a>) -> Option<&'a Pod> {
    let probes = ProbedPaths::of(case, server)?;
    let ready: Vec<&Pod> = server.current_pods().into_iter().filter(|pod| pod.ready).collect();
    for question in [ProbeQuestion::Mcp, ProbeQuestion::Tools] {
        let mut failing = failing(&probes, &ready, question);
        failing.retain(|(_, one)| !is_configuration(cause(question, one.fault.kind)));
        worst_first(&mut failing);
        if let Some((pod, _)) = failing.first() {
            return Some(pod);
        }
    }
    let Judgement::Found(_) = judge_canary(case, server, &probes, &ready) else { return None };
    let mut failing = failing(&probes, &ready, ProbeQuestion::Canary);
    worst_first(&mut failing);
    failing.first().map(|(pod, _)| *pod)
}

fn worst_first(failing: &mut [(&Pod, Failing)]) {
    failing.sort_by_key(|(pod, one)| (Reverse(one.faults), one.since, pod.name.clone()));
}

/// By the operator's own probes of it, the pod answers MCP, and its list of tools where one was told
/// before; where the canary opened the incident, that too.
pub(super) fn is_well(incident: &Incident, case: &Case, server: &Server, pod: &Pod) -> bool {
    let Some(probes) = ProbedPaths::of(case, server) else { return false };
    let answers = |question| probes.of_pod(pod, question) == PathState::Well;
    let lists = !probes.was_answered(ProbeQuestion::Tools) || answers(ProbeQuestion::Tools);
    let calls = incident.cause != Cause::OnePod || answers(ProbeQuestion::Canary);
    answers(ProbeQuestion::Mcp) && lists && calls
}

fn cause(question: ProbeQuestion, kind: FaultKind) -> Cause {
    match kind {
        FaultKind::RpcError if question == ProbeQuestion::Tools => Cause::ErrorAnswers,
        FaultKind::TimedOut | FaultKind::Buffered | FaultKind::Reset => Cause::Wedged,
        FaultKind::Unauthorized | FaultKind::Forbidden => Cause::AuthenticationRequired,
        FaultKind::HostNotAllowed => Cause::HostNotAllowed,
        FaultKind::VersionMismatch => Cause::VersionMismatch,
        FaultKind::SessionLost | FaultKind::SingleClient => Cause::SessionLost,
        FaultKind::NotFound | FaultKind::NotAcceptable | FaultKind::UnexpectedStatus | FaultKind::NotMcp => {
            Cause::NotMcp
        }
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

fn evidence(
    probes: &ProbedPaths,
    ready: &[&Pod],
    question: ProbeQuestion,
    failing: &[(&Pod, Failing)],
) -> Vec<String> {
    let mut evidence: Vec<String> = failing
        .iter()
        .take(NAMED)
        .map(|(pod, one)| {
            let besides = match probes.of_pod(pod, ProbeQuestion::Health) {
                _ if question == ProbeQuestion::Tools => "; MCP itself answers",
                PathState::Well => "; its health path answers",
                PathState::Failing(_) => "; its health path fails, too",
                PathState::Wavering | PathState::Nothing => "",
            };
            format!("pod {}: {question}: {}{besides}", pod.name, one.words())
        })
        .collect();
    let well = ready.iter().filter(|pod| probes.of_pod(pod, question) == PathState::Well).count();
    evidence.push(format!(
        "{question} fails on {} of {}, and is well on {well}",
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
        lapses: failing.clone().filter_map(|one| lapse([one.seen].into_iter(), one.patience)).min(),
        forbids,
        ..Finding::new(
            IncidentType::McpProtocolFailing,
            cause,
            Severity::SEV2,
            failing.map(|one| one.since).min().unwrap_or(case.now),
            evidence,
        )
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
        | Cause::ForeignEndpoints
        // It comes of the number of pods and of the Service's affinity, which a rollback does not change.
        // Where the pods themselves lose sessions since a new template, the cause is that.
        | Cause::SessionLost
        | Cause::ToolTimeout
        | Cause::ToolErrors => &[],
        // The canary's: see there.
        Cause::OnePod => &[ActionType::RecyclePod],
        // The canary's, or sessions that pods lose themselves.
        Cause::BadRollout => &[ActionType::Rollback],
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
