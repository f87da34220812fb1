//! A drain gives what is under way its time; a pod that the drain did not reach has its grace period only.
//! Where that is shorter, it would be cut off.

use mcp_health_api::ActionType;

use super::question::{GuardAnswer, GuardQuestion};
use crate::words;

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let drains = question.plan.action == ActionType::DrainAndRestart;
    let Some(policy) = question.case.spec.actions.drain.as_ref().filter(|_| drains) else {
        return GuardAnswer::Permit;
    };
    let grace = question.server.target.grace_period;
    if grace >= policy.wait.span() {
        return GuardAnswer::Permit;
    }
    GuardAnswer::hold(
        "GracePeriodShort",
        format!(
            "terminationGracePeriodSeconds ({}) is shorter than spec.actions.drain.wait ({}): raise the one, or lower the other",
            words::span(grace),
            policy.wait
        ),
    )
}
