//! What probes from outside say of a server whose pods are ready by their own word: none of them answers, or
//! there is no way through the Service.

use jiff::Timestamp;
use mcp_health_api::{Cause, IncidentType, Severity};

use crate::{
    Case, Server,
    catalogue::forbidden::{RESTARTS, RESTARTS_AND_ROLLBACK},
    database, dependencies,
    finding::{Finding, Judgement},
    probes::{Failing, PathState, ProbedPaths, foreign_words},
    signals::{FaultKind, Pod, ProbeQuestion},
    time::lapse,
    words,
};

const QUESTIONS: [ProbeQuestion; 2] = [ProbeQuestion::Mcp, ProbeQuestion::Health];
/// Pods that are named in evidence.
const NAMED: usize = 3;

/// What the probes of one pod come to.
enum Pods<'a> {
    /// It answers something.
    Answers,
    /// Whatever it is asked, it does not answer.
    Silent(ProbeQuestion, Failing<'a>),
    /// Not to be told.
    Unknown,
}

/// Judges by probes alone.
pub fn judge(case: &Case, server: &Server) -> Judgement {
    let Some(probes) = ProbedPaths::of(case, server) else { return Judgement::Unknown };
    let ready: Vec<&Pod> = server.pods.iter().copied().filter(|pod| pod.ready).collect();
    let told: Vec<_> = ready.iter().map(|pod| (*pod, of_pod(&probes, pod))).collect();
    if told.iter().any(|(_, told)| matches!(told, Pods::Answers)) {
        return judge_way(case, server, &probes, &ready);
    }
    let silent: Vec<(&Pod, ProbeQuestion, Failing)> = told
        .iter()
        .filter_map(|(pod, told)| match told {
            Pods::Silent(question, failing) => Some((*pod, *question, *failing)),
            _ => None,
        })
        .collect();
    match silent.first() {
        Some((_, _, first)) if silent.len() == told.len() => {
            Judgement::Found(nobody_answers(case, server, &silent, first))
        }
        _ => Judgement::Unknown,
    }
}

/// Whether every ready pod is silent, whatever it is asked.
pub fn is_silent(case: &Case, server: &Server) -> bool {
    matches!(judge(case, server), Judgement::Found(finding) if finding.youngest_pod.is_some())
}

fn of_pod<'a>(probes: &ProbedPaths<'a>, pod: &Pod) -> Pods<'a> {
    let mut silent = None;
    let mut in_doubt = false;
    for question in QUESTIONS {
        match probes.of_pod(pod, question) {
            PathState::Well => return Pods::Answers,
            // What a server that is there says of itself: by itself, that is no silence.
            PathState::Failing(failing) if failing.fault.kind == FaultKind::Unhealthy => {}
            // Whoever turns a question down is there.
            PathState::Failing(failing) if cause(failing.fault.kind).is_none() => return Pods::Answers,
            PathState::Failing(failing) => silent = silent.or(Some((question, failing))),
            PathState::Wavering => in_doubt = true,
            // It turns the operator away, or answers clients through the Service.
            PathState::Nothing
                if probes.is_turned_away(pod, question) || probes.judged_through(pod, question).is_some() =>
            {
                return Pods::Answers;
            }
            PathState::Nothing => {}
        }
    }
    match silent {
        Some((question, failing)) if !in_doubt => Pods::Silent(question, failing),
        _ => Pods::Unknown,
    }
}

/// What a fault says of a pod that is silent; `None` where it is not.
fn cause(kind: FaultKind) -> Option<Cause> {
    match kind {
        FaultKind::TimedOut | FaultKind::Buffered | FaultKind::Reset => Some(Cause::TimedOut),
        FaultKind::Unavailable | FaultKind::ServerError => Some(Cause::ErrorAnswers),
        other => cause_of_way(other),
    }
}

fn cause_of_way(kind: FaultKind) -> Option<Cause> {
    match kind {
        FaultKind::Refused => Some(Cause::Refused),
        FaultKind::ConnectTimeout | FaultKind::Unreachable => Some(Cause::Dropped),
        FaultKind::Dns => Some(Cause::NameNotResolved),
        FaultKind::Tls => Some(Cause::TlsFailing),
        _ => None,
    }
}

fn nobody_answers(
    case: &Case,
    server: &Server,
    silent: &[(&Pod, ProbeQuestion, Failing)],
    first: &Failing,
) -> Finding {
    // A new template that nobody hears has a fault of its own, whatever else is down.
    let down = dependencies::down_words(case).map(|words| (Cause::DependencyDown, words));
    let down = down.or_else(|| Some((Cause::DatabaseConnection, database::shut_words(case)?)));
    let down = down.filter(|_| !server.rollout_is_to_blame());
    let mut evidence = vec![format!(
        "{} ready by the kubelet, and none of them answers",
        if silent.len() == 1 { "1 pod is".to_owned() } else { format!("{} pods are", silent.len()) }
    )];
    evidence.extend(
        silent
            .iter()
            .take(NAMED)
            .map(|(pod, question, failing)| format!("pod {}: {}: {}", pod.name, question, failing.words())),
    );
    let cause = match &down {
        Some((cause, _)) => *cause,
        None => cause(first.fault.kind).unwrap_or(Cause::TimedOut),
    };
    evidence.extend(down.map(|(_, words)| words));
    finding(
        case,
        cause,
        silent.iter().map(|(_, question, failing)| (*question, failing)),
        evidence,
        silent.iter().map(|(pod, ..)| pod.created).max(),
    )
}

/// Pods answer: is there a way through the Services?
fn judge_way(case: &Case, server: &Server, probes: &ProbedPaths, ready: &[&Pod]) -> Judgement {
    let mut in_doubt = probes.asked_without_endpoint();
    for (service, question, told) in probes.services().filter(|(_, asked, _)| QUESTIONS.contains(asked)) {
        match told {
            PathState::Failing(failing) => {
                let Some(cause) = cause_of_way(failing.fault.kind) else { continue };
                // Which pods the Service led to before these were ready is not known.
                let well = |pod: &Pod| {
                    pod.ready_changed <= failing.since && probes.of_pod(pod, question) == PathState::Well
                };
                if !ready.iter().all(|pod| well(pod)) {
                    in_doubt = true;
                    continue;
                }
                // What a Service refuses leads to a port that nobody listens on.
                let foreign = foreign_words(case, service);
                let (cause, advice) = match cause {
                    _ if foreign.is_some() => (Cause::ForeignEndpoints, "look at its selector"),
                    Cause::Refused => (Cause::TargetPortMismatch, "look at its ports and targetPort"),
                    Cause::Dropped => (cause, "look at NetworkPolicies, and at kube-proxy on the nodes"),
                    Cause::NameNotResolved => (cause, "look at the cluster's DNS"),
                    _ => (cause, "look at its certificate"),
                };
                let mut evidence = vec![
                    format!("through Service {service}: {question}: {}; {advice}", failing.words()),
                    format!("on their own addresses, {} well", are(ready.len())),
                ];
                evidence.extend(foreign);
                if cause == Cause::TargetPortMismatch {
                    evidence.extend(ports_words(case, server, service));
                }
                let finding = finding(case, cause, [(question, &failing)].into_iter(), evidence, None);
                return Judgement::Found(finding);
            }
            PathState::Wavering => in_doubt = true,
            PathState::Well | PathState::Nothing => {}
        }
    }
    if in_doubt { Judgement::Unknown } else { Judgement::Clear }
}

/// Where the ports of a Service lead, and which ports the pods have.
fn ports_words(case: &Case, server: &Server, service: &str) -> Option<String> {
    let service = case.signals.services.fresh()?.iter().find(|one| one.name == service)?;
    Some(server.pod_ports(case.spec)?.words(service))
}

fn are(pods: usize) -> String {
    if pods == 1 { "the one pod is".to_owned() } else { format!("all {pods} pods are") }
}

fn finding<'a>(
    case: &Case,
    cause: Cause,
    failing: impl Iterator<Item = (ProbeQuestion, &'a Failing<'a>)>,
    evidence: Vec<String>,
    youngest_pod: Option<Timestamp>,
) -> Finding {
    let failing: Vec<_> = failing.collect();
    let lapses = failing.iter().filter_map(|(_, one)| lapse([one.seen].into_iter(), one.patience));
    Finding {
        youngest_pod,
        lapses: lapses.min(),
        forbids: match cause {
            Cause::DependencyDown | Cause::DatabaseConnection => RESTARTS,
            // The pods are well; nothing that is done to them brings a way back.
            _ if youngest_pod.is_none() => RESTARTS_AND_ROLLBACK,
            _ => &[],
        },
        ..Finding::new(
            IncidentType::ServiceNotResponding,
            cause,
            Severity::SEV1,
            failing.iter().map(|(_, one)| one.since).max().unwrap_or(case.now),
            evidence.into_iter().map(|line| words::shorten(&line, 400)).collect(),
        )
    }
}
