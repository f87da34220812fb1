//! CallHook: a declared HTTP hook is called on every ready pod, once. Nothing can be taken back. It has
//! helped only if every pod says so.

use mcp_health_api::{ActionType, Attempt, Effect, Step, StepState};

use super::plan::{Action, Asked, NOTHING, Plan, Planned, mark_target, no_follow_up, no_undo, step};
use crate::signals::{Pod, Target};

/// What pods answered to a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// How many answered with success.
    pub well: usize,
    /// How many were called.
    pub all: usize,
}

pub const ACTION: Action = Action {
    action: ActionType::CallHook,
    touches: NOTHING,
    plan,
    undo: no_undo,
    did,
    follow_up: no_follow_up,
};

fn plan(asked: &Asked) -> Planned {
    let Some(wanted) = asked.step.and_then(|step| step.call_hook.as_ref()) else {
        return Planned::impossible("UnknownHook", "the runbook names no hook to call");
    };
    if let Err(impossible) = callable(asked, &wanted.name) {
        return impossible;
    }
    let (incident, target) = (asked.incident, asked.server.target);
    Planned::Ready(Plan {
        action: ActionType::CallHook,
        what: format!("call hook {} on every ready pod", wanted.name),
        why: format!("{} ({})", incident.name(), incident.cause),
        steps: vec![mark_target(target), step_of(&wanted.name, target)],
        undoes: None,
    })
}

/// Whether a hook is declared, and can be called now.
pub(super) fn callable(asked: &Asked, name: &str) -> Result<(), Planned> {
    let Some(hook) = asked.case.spec.hooks.iter().find(|hook| hook.name == name) else {
        return Err(Planned::impossible("UnknownHook", format!("spec.hooks has no hook {name}")));
    };
    if hook.port.or(asked.server.port()).is_none() {
        let message = format!("hook {name} names no port, and the server's container declares none");
        return Err(Planned::impossible("NoPort", message));
    }
    if asked.server.ready() == 0 {
        return Err(Planned::impossible("NoReadyPod", format!("no pod is ready to hear hook {name}")));
    }
    Ok(())
}

/// The step that calls a hook.
pub(super) fn step_of(name: &str, target: &Target) -> Step {
    Step { from: None, resource_version: None, to: Some(name.to_owned()), ..step(Effect::CallHook, target) }
}

/// Whether a pod is to hear the hooks of an attempt: it is ready; or it was when the attempt began, and is
/// not because it was drained.
pub fn hears(pod: &Pod, attempt: &Attempt) -> bool {
    let begun = attempt.recorded_at.0;
    let was_ready = pod.created < begun && pod.ready_changed >= begun;
    pod.counts() && (pod.ready || was_ready)
}

/// How an attempt ends whose last hook did not do what it should.
pub(crate) struct Stop {
    /// What the pods answered.
    pub why: String,
    /// Something was done before: what comes next is a person's to decide, not the runbook's.
    pub half_way: bool,
}

/// Whether what the pods answered to the hook that was called last ends the attempt.
pub(crate) fn stop(attempt: &Attempt, answers: Answers) -> Option<Stop> {
    let mut called = attempt.steps.iter().filter(|step| step.effect == Effect::CallHook);
    let first = called.clone().next()?;
    let last = called.rfind(|step| step.state == StepState::Done)?;
    let drains = attempt.action == ActionType::DrainAndRestart && first == last;
    // Pods that were drained are of use only once they are replaced: those that were not end with them.
    let enough = if drains { answers.well > 0 } else { answers.well == answers.all && answers.all > 0 };
    if enough {
        return None;
    }
    let hook = last.to.as_deref().unwrap_or_default();
    let why = format!("hook {hook}: {}", last.note.as_deref().unwrap_or("no pod answered"));
    Some(Stop { why, half_way: first != last })
}

fn did(attempt: &Attempt) -> String {
    let hook = attempt.steps.iter().find_map(|step| step.to.as_deref()).unwrap_or("of the server");
    format!("called hook {hook}")
}
