//! A rollout under way holds everything, but what mends that very rollout: where it is to blame, or where its
//! own pods show the fault.

use mcp_health_api::{Effect, StepState};

use super::question::{GuardAnswer, GuardQuestion};
use crate::actions::touches;

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let finding = question.diagnosis.finding_of(question.incident);
    let its_pods_show_it = finding.is_some_and(|finding| finding.youngest_pod.is_some());
    let mends = touches(question.plan.action).mends_rollout
        && (question.server.rollout_is_to_blame() || its_pods_show_it);
    let rolling_out = question.server.is_rolling_out() && !is_own_mark(question);
    if rolling_out && !mends && question.plan.undoes.is_none() {
        return GuardAnswer::hold(
            "RolloutInProgress",
            format!("{} is being rolled out", question.server.current_words()),
        );
    }
    GuardAnswer::Permit
}

/// The attempt itself has marked the Deployment, whose controller has not seen that yet: an annotation counts
/// as a change, and no pod follows from it.
fn is_own_mark(question: &GuardQuestion) -> bool {
    let target = question.server.target;
    let mut steps = question.resumed.into_iter().flat_map(|attempt| &attempt.steps);
    let marked = steps.any(|step| {
        (step.effect, step.state, step.generation)
            == (Effect::MarkTarget, StepState::Done, Some(target.generation))
    });
    let all_else_seen = target.observed_generation.saturating_add(1) >= target.generation;
    marked && all_else_seen && target.updated >= target.desired && target.replicas <= target.updated
}
