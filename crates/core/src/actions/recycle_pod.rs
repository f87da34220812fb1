//! RecyclePod: the one pod that shows the fault most is evicted, and its Deployment makes another (guide 004,
//! Application Restart). Never the last that is ready: a guard sees to it. Needs no undo: there is nothing to
//! bring back.
//!
//! Where what the pods waited for is back, all unready pods in a long back-off are evicted, each in a step of
//! its own; that counts as one action.

use mcp_health_api::{ActionType, Attempt, Cause, Effect, Step};

use super::plan::{Action, Asked, NOTHING, Plan, Planned, Touches, mark_target, no_follow_up, no_undo, step};
use crate::{
    Server,
    catalogue::{backing_off, own_rules, worst_pod},
    signals::Pod,
    words,
};

pub const ACTION: Action = Action {
    action: ActionType::RecyclePod,
    touches: Touches { evicts: true, ..NOTHING },
    plan,
    undo: no_undo,
    did,
    follow_up: no_follow_up,
};

/// The most pods that are evicted at once: an attempt has eight steps, and the first marks the target.
const MOST: usize = 7;

fn evict(server: &Server, pod: &Pod) -> Step {
    Step {
        object: Some(format!("Pod/{}", pod.name)),
        from: None,
        uid: pod.uid.clone(),
        resource_version: None,
        ..step(Effect::EvictPod, server.target)
    }
}

/// The pods that only the kubelet's back-off keeps from what they waited for.
fn plan_back_off(asked: &Asked) -> Planned {
    let Asked { server, incident, .. } = *asked;
    let pods: Vec<&Pod> = backing_off(server).into_iter().take(MOST).collect();
    if pods.is_empty() {
        return Planned::impossible("NoPodToRecycle", "no unready pod waits in the kubelet's back-off");
    }
    let count = words::count(pods.len(), "unready pod");
    let evictions = pods.iter().map(|pod| evict(server, pod));
    Planned::Ready(Plan {
        action: ActionType::RecyclePod,
        what: format!("evict {count}, so that new ones start without the kubelet's back-off"),
        why: format!("{} ({}): what the pods waited for is back", incident.name(), incident.cause),
        steps: [mark_target(server.target)].into_iter().chain(evictions).collect(),
        undoes: None,
    })
}

fn plan(asked: &Asked) -> Planned {
    let Asked { case, server, incident, .. } = *asked;
    if incident.cause == Cause::BackOff {
        return plan_back_off(asked);
    }
    let worst = match &incident.rule {
        Some(rule) => own_rules::worst(case, server, rule),
        None => worst_pod(incident.incident_type, case, server),
    };
    let Some(pod) = worst else {
        let why = format!("no pod shows {} more than the others", incident.name());
        return Planned::impossible("NoPodToRecycle", why);
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
        steps: vec![mark_target(server.target), evict(server, pod)],
        undoes: None,
    })
}

fn did(attempt: &Attempt) -> String {
    let evicted = attempt.steps.iter().filter(|step| step.effect == Effect::EvictPod);
    let pods: Vec<&str> = evicted.filter_map(|step| step.object.as_deref()?.strip_prefix("Pod/")).collect();
    match pods.as_slice() {
        [] => "evicted pod of its own".to_owned(),
        [pod] => format!("evicted pod {pod}"),
        pods => format!("evicted {} unready pods", pods.len()),
    }
}
