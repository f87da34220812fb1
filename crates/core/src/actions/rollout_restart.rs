//! RolloutRestart: all pods are replaced, rolling, as `kubectl rollout restart` does (guide 004,
//! Application Restart). Needs no undo: the template stays what it is.

use mcp_health_api::{ActionType, Effect, Incident};

use super::{Plan, Planned, step};
use crate::{Case, Server};

pub fn plan(case: &Case, server: &Server, incident: &Incident) -> Planned {
    let target = server.target;
    // An absolute value: carried out twice, it is the same.
    let moment = case.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Planned::Ready(Plan {
        action: ActionType::RolloutRestart,
        what: "restart all pods, rolling".to_owned(),
        why: format!("{} ({}): new pods may do what these cannot", incident.incident_type, incident.cause),
        // The annotation stays ours, as it stays kubectl's: an owner that was given it would remove it with the
        // next apply, and so restart once more.
        steps: vec![step(Effect::RestartPods, target, Some(moment), None)],
        undoes: None,
    })
}
