//! RolloutRestart: all pods are replaced, rolling, as `kubectl rollout restart` does (guide 004,
//! Application Restart). Needs no undo: the template stays what it is.

use mcp_health_api::{ActionType, Effect, Step};

use super::plan::{Action, Asked, Plan, Planned, TEMPLATE, no_follow_up, no_undo, step};
use crate::Case;

pub const ACTION: Action = Action {
    action: ActionType::RolloutRestart,
    touches: TEMPLATE,
    plan,
    undo: no_undo,
    did: |_| "restarted all pods".to_owned(),
    follow_up: no_follow_up,
};

fn plan(asked: &Asked) -> Planned {
    let incident = asked.incident;
    Planned::Ready(Plan {
        action: ActionType::RolloutRestart,
        what: "restart all pods, rolling".to_owned(),
        why: format!("{} ({}): new pods may do what these cannot", incident.name(), incident.cause),
        // The annotation stays ours, as it stays kubectl's: an owner that was given it would remove it with
        // the next apply, and so restart once more.
        steps: vec![Step { to: Some(moment(asked.case)), ..step(Effect::RestartPods, asked.server.target) }],
        undoes: None,
    })
}

/// The moment as the restart annotation holds it. An absolute value: carried out twice, it is the same.
pub(super) fn moment(case: &Case) -> String {
    case.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
