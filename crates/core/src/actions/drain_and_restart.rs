//! DrainAndRestart: the pods take no more work, have time for what is under way, keep their sessions, are
//! replaced, and take the sessions up again (guide 002, Graceful Restart). Needs no undo: the template stays
//! what it is.

use mcp_health_api::{ActionType, Attempt, Effect, Step, StepState};

use super::plan::{Action, Asked, Plan, Planned, TEMPLATE, await_rollout, no_follow_up, no_undo, step};
use super::{call_hook, rollout_restart::moment};

pub const ACTION: Action = Action {
    action: ActionType::DrainAndRestart,
    touches: TEMPLATE,
    plan,
    undo: no_undo,
    did,
    follow_up: no_follow_up,
};

fn plan(asked: &Asked) -> Planned {
    let Some(policy) = &asked.case.spec.actions.drain else {
        return Planned::impossible("NoDrainPolicy", "spec.actions.drain does not say how pods are drained");
    };
    for name in [Some(&policy.hook), policy.save_hook.as_ref(), policy.restore_hook.as_ref()] {
        if let Some(Err(impossible)) = name.map(|name| call_hook::callable(asked, name)) {
            return impossible;
        }
    }
    let (incident, target) = (asked.incident, asked.server.target);
    let hook = |name: &Option<String>| name.as_ref().map(|name| call_hook::step_of(name, target));
    let wait = Step {
        from: None,
        resource_version: None,
        to: Some(policy.wait.to_string()),
        ..step(Effect::Wait, target)
    };
    // The drain changes the target's status, and with it its version: the content alone is the fence.
    let restart =
        Step { resource_version: None, to: Some(moment(asked.case)), ..step(Effect::RestartPods, target) };
    let steps = [
        Some(call_hook::step_of(&policy.hook, target)),
        Some(wait),
        hook(&policy.save_hook),
        Some(restart),
        Some(await_rollout(target)),
        hook(&policy.restore_hook),
    ];
    Planned::Ready(Plan {
        action: ActionType::DrainAndRestart,
        what: format!("drain all pods for {}, then replace them", policy.wait),
        why: format!("{} ({}): new pods may do what these cannot", incident.name(), incident.cause),
        steps: steps.into_iter().flatten().collect(),
        undoes: None,
    })
}

fn did(attempt: &Attempt) -> String {
    let is_done =
        |effect| attempt.steps.iter().any(|step| step.effect == effect && step.state == StepState::Done);
    match (is_done(Effect::RestartPods), is_done(Effect::Wait)) {
        (true, _) => "drained and replaced all pods",
        (false, true) => "drained the pods, and did not replace them",
        (false, false) => "called the hook that drains the pods",
    }
    .to_owned()
}
