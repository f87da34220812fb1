//! The last pod that is ready is not taken away: a restart through the template brings its successor up
//! first.

use mcp_health_api::{Effect, StepState};

use super::question::{GuardAnswer, GuardQuestion};
use crate::signals::Pod;

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    match evicted(question) {
        Some(pod) if pod.ready && question.server.ready() <= 1 => GuardAnswer::refuse(
            "LastReadyPod",
            format!("pod {} is the last that is ready: nobody would serve without it", pod.name),
        ),
        _ => GuardAnswer::Permit,
    }
}

/// The pod that would be evicted, while it counts; of several, one that is ready, if there is any.
pub(super) fn evicted<'a>(question: &GuardQuestion<'a>) -> Option<&'a Pod> {
    let steps = question.plan.steps.iter();
    let left = steps.filter(|step| step.effect == Effect::EvictPod && step.state != StepState::Done);
    let pods = left.filter_map(|step| question.server.pods.iter().copied().find(|pod| pod.uid == step.uid));
    pods.max_by_key(|pod| pod.ready)
}
