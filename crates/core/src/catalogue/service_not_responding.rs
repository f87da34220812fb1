//! ServiceNotResponding: no pod of the server is ready, or none behind its Service, or none answers.
//!
//! Judged by the pods' readiness and by EndpointSlices; where those say that all is well, by probes from
//! outside.

mod outside;

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use super::{
    entry::{Entry, Evidence, Needs, Rule, USUAL},
    forbidden::{RESTARTS, RESTARTS_AND_ROLLBACK},
};
use crate::{
    Case, Server,
    case::lasting,
    database, dependencies,
    finding::{Finding, Judgement},
    obstacles::{self, Obstacle},
    probes::in_turn,
    signals::{Pod, Service},
    start_budget::{self, Phase, StartBudget},
    time::after,
    words,
};

pub(super) use outside::is_silent;

pub const ENTRY: Entry = Entry {
    incident: IncidentType::ServiceNotResponding,
    rule: Rule::Plain(judge),
    needs: Needs::All(&[Evidence::Pods, Evidence::Services]),
    lasting: Some(PATIENCE),
    judges_pods: |finding| finding.youngest_pod.is_some(),
    shows_outage: true,
    quiet_for: |case, cause| match cause {
        Cause::ForeignEndpoints => in_turn(case),
        _ => case.settings.settle,
    },
    runbook,
    guide: &[("004", "Service Not Responding"), ("001", "Client Can't Connect to Server")],
    ..USUAL
};

/// A pod whose container ended within this time does not just wait for something.
const ENDED: SignedDuration = SignedDuration::from_mins(10);
/// How long nothing may be ready. A rollout that replaces all pods at once takes a moment.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

fn judge(case: &Case, server: &Server) -> Judgement {
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
                Cause::BadRollout
                    | Cause::NeverHealthy
                    | Cause::NotReady
                    | Cause::ServiceMismatch
                    | Cause::ReadinessGate
                    | Cause::Unschedulable
                    | Cause::NotStarted
                    | Cause::NotCreated
                    | Cause::QuotaExceeded
                    | Cause::AdmissionRefused
                    | Cause::PodRejected
                    | Cause::StuckTerminating
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
    if let Some(judgement) = without_pods(case, server, &pods) {
        return judgement;
    }
    let budgets: Vec<_> =
        pods.iter().map(|pod| start_budget::of(case, server, pod, ENTRY.incident, PATIENCE)).collect();
    let Some((since, due)) = since_and_due(server, &pods, &budgets) else { return Judgement::Unknown };
    if due > case.now {
        return Judgement::Suspected { until: due };
    }
    let own = cause_of_pods(server, &pods);
    // Pods that run, of a template that was well, and what they need is down by the operator's own look. Pods
    // that end, and those of a new template, have another fault than that.
    let ends = pods.iter().any(|pod| pod.ended_within(ENDED, case.now));
    let waits = own == Cause::NotReady && !ends;
    let down = dependencies::down_words(case).map(|words| (Cause::DependencyDown, words));
    let down = down.or_else(|| Some((Cause::DatabaseConnection, database::shut_words(case)?)));
    let (cause, down) = match down.filter(|_| waits) {
        Some((cause, words)) => (cause, Some(words)),
        None => (own, None),
    };
    let mut evidence = vec![none_ready(case, server, since), known_good_words(server)];
    let forbids = if down.is_some() { RESTARTS } else { &[] };
    evidence.extend(down);
    evidence.extend(pods.first().map(|pod| start_budget::words(server, pod)));
    // What the kubelet says of a pod that is not ready: its probe's answer, its volume.
    evidence.extend(pods.iter().find_map(|pod| pod.trouble()));
    // A pod that is within the time of its start shows no fault yet.
    let failing = pods.iter().zip(&budgets).filter(|(_, budget)| due_of(server, budget) <= case.now);
    let youngest_pod = failing.map(|(pod, _)| pod.created).max();
    Judgement::Found(Finding { youngest_pod, forbids, ..down_since(cause, since, evidence) })
}

/// There is no pod to judge: why, by what the API server and the kubelet say; or for how long there was none.
fn without_pods(case: &Case, server: &Server, pods: &[&Pod]) -> Option<Judgement> {
    let obstacles = obstacles::of(case, server);
    let rejected = |one: &&Obstacle| pods.is_empty() || one.lapses.is_some();
    if let Some(first) = obstacles.iter().filter(rejected).min_by_key(|one| one.due) {
        if first.due > case.now {
            return Some(Judgement::Suspected { until: first.due });
        }
        let evidence = vec![none_ready(case, server, first.since), first.evidence.clone()];
        let finding = down_since(first.cause, first.since, evidence);
        return Some(Judgement::Found(Finding { lapses: first.lapses, ..finding }));
    }
    if !pods.is_empty() || !server.lost.is_empty() {
        return None;
    }
    // Pods that end have the time to do so before others are created.
    let lasting = server.target.grace_period.saturating_add(PATIENCE.saturating_mul(2));
    let evidence = vec![format!("there is no pod of {}, and nothing tells why", server.current_words())];
    let finding = down_since(Cause::NotCreated, case.now, evidence);
    Some(Judgement::Symptom { finding, lasting })
}

/// Since when none is ready, and when that is an incident. Pods that were ready count first: a server that
/// was up is down, whatever else is coming up. Pods that never were ready have the time of their start.
fn since_and_due(server: &Server, pods: &[&Pod], budgets: &[StartBudget]) -> Option<(Timestamp, Timestamp)> {
    let last_change = pods.iter().map(|pod| pod.ready_changed).max()?;
    let lost = budgets.iter().filter(|budget| budget.phase == Phase::Lost);
    let due = lost
        .map(|budget| budget.due)
        .max()
        .or_else(|| budgets.iter().map(|budget| due_of(server, budget)).min())?;
    Some((last_change, due))
}

/// Until when a pod may be unready. One that never was ready has all of its startup probe's time.
fn due_of(server: &Server, budget: &StartBudget) -> Timestamp {
    match budget.phase {
        Phase::Lost | Phase::Unscheduled => budget.due,
        _ => after(budget.since, server.target.startup_budget).max(budget.due),
    }
}

/// Why no pod is ready: what none of them gets past.
fn cause_of_pods(server: &Server, pods: &[&Pod]) -> Cause {
    let all = |phase: Phase| pods.iter().all(|pod| start_budget::phase(server, pod) == phase);
    if all(Phase::Gated) {
        Cause::ReadinessGate
    } else if all(Phase::Unscheduled) {
        Cause::Unschedulable
    } else if all(Phase::NotStarted) {
        Cause::NotStarted
    } else {
        server.cause(Cause::NotReady)
    }
}

fn none_ready(case: &Case, server: &Server, since: Timestamp) -> String {
    format!(
        "none of {} wanted pods is ready since {} ({})",
        server.target.desired,
        words::moment(since),
        words::span(case.now.duration_since(since))
    )
}

fn known_good_words(server: &Server) -> String {
    match server.healthy_ends_too() {
        Some(healthy) => {
            format!("pods of template {}, which was seen healthy, end too", healthy.template)
        }
        None if server.template_was_healthy() => {
            format!("{} was seen healthy before", server.current_words())
        }
        None => format!("{} was never seen healthy", server.current_words()),
    }
}

fn down_since(cause: Cause, since: Timestamp, evidence: Vec<String>) -> Finding {
    Finding::new(IncidentType::ServiceNotResponding, cause, Severity::SEV1, since, evidence)
}

/// Pods are ready: do the Services lead to them?
fn judge_services(case: &Case, server: &Server) -> Judgement {
    let Some(services) = case.signals.services.fresh() else { return Judgement::Unknown };
    let Some(broken) = services.iter().find(|service| service.ready_endpoints == 0) else {
        return judge_ports(case, server, services);
    };
    // Endpoints follow readiness within seconds: wait until every ready pod has been so for a while.
    let ready = server.pods.iter().filter(|pod| pod.ready).map(|pod| pod.ready_changed);
    let Some(since) = ready.chain([broken.since]).max() else { return Judgement::Clear };
    let due = after(since, lasting(case, IncidentType::ServiceNotResponding, PATIENCE));
    if due > case.now {
        return Judgement::Suspected { until: due };
    }
    let evidence = vec![
        format!(
            "{} ready, and none of them is a ready endpoint of Service {}",
            if server.ready() == 1 { "1 pod is".to_owned() } else { format!("{} pods are", server.ready()) },
            broken.name
        ),
        if broken.selects_pods {
            format!("its selector {} matches the pods: look at its ports and targetPort", broken.selector)
        } else {
            format!("its selector {} matches no label of the pod template", broken.selector)
        },
    ];
    let finding = down_since(Cause::ServiceMismatch, since, evidence);
    // The pods are well; nothing that is done to them brings the Service back.
    Judgement::Found(Finding { forbids: RESTARTS_AND_ROLLBACK, ..finding })
}

/// A port that is meant for MCP leads to a name that no container has: no endpoint has a port for it, and
/// every connection is refused. (A number is judged from outside: something may listen that is not declared.)
fn judge_ports(case: &Case, server: &Server, services: &[Service]) -> Judgement {
    let Some(pods) = server.pod_ports(case.spec) else { return Judgement::Clear };
    let broken =
        services.iter().filter(|one| one.selects_pods && one.foreign.is_empty()).find_map(|service| {
            let others = services.iter().filter(|other| other.selects_pods && other.name != service.name);
            let port = pods.astray(&service.ports, others.map(|other| other.ports.as_slice()))?;
            service.unresolved.contains(&port.name).then_some((service, port))
        });
    let Some((service, port)) = broken else { return Judgement::Clear };
    let evidence = vec![
        format!(
            "Service {} refuses every connection to its port {}: no container has a port of the name {}",
            service.name, port.number, port.target
        ),
        pods.words(service),
    ];
    let finding = down_since(Cause::TargetPortMismatch, case.now, evidence);
    Judgement::Symptom { finding: Finding { forbids: RESTARTS_AND_ROLLBACK, ..finding }, lasting: PATIENCE }
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
