//! RecyclePod: the one pod that shows the fault most is evicted, and its Deployment makes another (guide 004,
//! Application Restart). Never the last that is ready: a guard sees to it. Needs no undo: there is nothing to bring
//! back.

use mcp_health_api::{ActionType, Attempt, Effect, Step};

use super::{Action, Asked, NOTHING, Plan, Planned, Touches, mark_target, no_follow_up, no_undo, step};
use crate::catalogue::{own_rules, worst_pod};

pub const ACTION: Action = Action {
    action: ActionType::RecyclePod,
    touches: Touches { evicts: true, ..NOTHING },
    plan,
    undo: no_undo,
    did,
    follow_up: no_follow_up,
};

fn plan(asked: &Asked) -> Planned {
    let Asked { case, server, incident, .. } = *asked;
    let worst = match &incident.rule {
        Some(rule) => own_rules::worst(case, server, rule),
        None => worst_pod(incident.incident_type, case, server),
    };
    let Some(pod) = worst else {
        let why = format!("no pod shows {} more than the others", incident.name());
        return Planned::impossible("NoPodToRecycle", why);
    };
    let evict = Step {
        object: Some(format!("Pod/{}", pod.name)),
        from: None,
        uid: pod.uid.clone(),
        resource_version: None,
        ..step(Effect::EvictPod, server.target)
    };
    Planned::Ready(Plan {
        action: ActionType::RecyclePod,
        what: format!("evict pod {}, so that another takes its place", pod.name),
        why: format!(
            "{} ({}): pod {} shows it most, and {} ready besides",
            incident.name(),
            incident.cause,
            pod.name,
            match server.ready().saturating_sub(usize::from(pod.ready)) {
                1 => "1 is".to_owned(),
                others => format!("{others} are"),
            }
        ),
        steps: vec![mark_target(server.target), evict],
        undoes: None,
    })
}

fn did(attempt: &Attempt) -> String {
    let evicted = attempt.steps.iter().find(|step| step.effect == Effect::EvictPod);
    let pod = evicted.and_then(|step| step.object.as_deref()).and_then(|object| object.strip_prefix("Pod/"));
    format!("evicted pod {}", pod.unwrap_or("of its own"))
}
