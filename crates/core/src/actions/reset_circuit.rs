//! ResetCircuit: pods close circuit breakers that are stuck, one pod and circuit a step, the one that is open
//! for longest first (guide 004, External Service Failures). Only where what a circuit guards is known to
//! answer. Nothing can be taken back: a circuit that has reason to will open again.

use mcp_health_api::{ActionType, Attempt, Effect, Step};

use super::plan::{Action, Asked, NOTHING, Plan, Planned, mark_target, no_follow_up, no_undo, step};
use crate::circuits::{self, GuardedState, Open, name_words};

pub const ACTION: Action = Action {
    action: ActionType::ResetCircuit,
    touches: NOTHING,
    plan,
    undo: no_undo,
    did,
    follow_up: no_follow_up,
};

/// The most circuits in one attempt: its steps are bounded, and the mark is one.
const MOST: usize = 7;

fn plan(asked: &Asked) -> Planned {
    let Asked { case, server, incident, .. } = *asked;
    let Some(open) = circuits::open(case, server) else {
        return Planned::impossible("NoCircuits", "the circuit breakers of its pods cannot be seen");
    };
    let answered = open.iter().filter(|one| matches!(one.guarded, GuardedState::Answers(_)));
    let (stuck, soon): (Vec<&Open>, Vec<&Open>) = answered.partition(|one| one.is_stuck(case.now));
    let Some(first) = stuck.first() else {
        return match soon.iter().filter_map(|one| one.stuck_at).min() {
            Some(until) => {
                Planned::Later { until, why: "an open circuit has its time to close by itself".to_owned() }
            }
            None => Planned::impossible(
                "NoCircuitToReset",
                "no circuit is open of which it is known that what it guards answers",
            ),
        };
    };
    if case.spec.signals.http.as_ref().and_then(|http| http.port).or(server.port()).is_none() {
        let message = "spec.signals.http names no port, and the server's container declares none";
        return Planned::impossible("NoPort", message);
    }
    let reset = |one: &&Open| Step {
        object: Some(format!("Pod/{}", one.pod.name)),
        from: None,
        to: Some(one.circuit.name.clone()),
        uid: one.pod.uid.clone(),
        resource_version: None,
        ..step(Effect::ResetCircuit, server.target)
    };
    let steps: Vec<Step> = stuck.iter().take(MOST).map(reset).collect();
    let circuit = name_words(&first.circuit.name);
    Planned::Ready(Plan {
        action: ActionType::ResetCircuit,
        what: match steps.len() {
            1 => format!("reset circuit {circuit} on pod {}", first.pod.name),
            many => format!("reset {many} circuits, the first of them {circuit} on pod {}", first.pod.name),
        },
        why: match &first.guarded {
            GuardedState::Answers(how) => format!("{} ({}): {how}", incident.incident_type, incident.cause),
            GuardedState::Down | GuardedState::Undecided | GuardedState::Unknown => {
                format!("{} ({})", incident.incident_type, incident.cause)
            }
        },
        steps: [mark_target(server.target)].into_iter().chain(steps).collect(),
        undoes: None,
    })
}

fn did(attempt: &Attempt) -> String {
    let resets: Vec<&Step> =
        attempt.steps.iter().filter(|step| step.effect == Effect::ResetCircuit).collect();
    match resets.as_slice() {
        [one] => format!(
            "reset circuit {} on pod {}",
            name_words(one.to.as_deref().unwrap_or_default()),
            one.object.as_deref().and_then(|object| object.strip_prefix("Pod/")).unwrap_or_default()
        ),
        many => format!("reset {} circuits", many.len()),
    }
}
