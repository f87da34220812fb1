//! The last pod that is ready is not taken away: a restart through the template brings its successor up first.

use mcp_health_api::Effect;

use super::{Question, Verdict};
use crate::signals::Pod;

pub fn check(question: &Question) -> Verdict {
    match evicted(question) {
        Some(pod) if pod.ready && question.server.ready() <= 1 => Verdict::refuse(
            "LastReadyPod",
            format!("pod {} is the last that is ready: nobody would serve without it", pod.name),
        ),
        _ => Verdict::Permit,
    }
}

/// The pod that would be evicted, while it counts.
pub(super) fn evicted<'a>(question: &Question<'a>) -> Option<&'a Pod> {
    let step = question.plan.steps.iter().find(|step| step.effect == Effect::EvictPod)?;
    question.server.pods.iter().copied().find(|pod| pod.uid == step.uid)
}
