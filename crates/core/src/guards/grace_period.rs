//! A drain gives what is under way its time; a pod that the drain did not reach has its grace period only.
//! Where that is shorter, it would be cut off.

use mcp_health_api::ActionType;

use super::question::{Question, Verdict};
use crate::words;

pub fn check(question: &Question) -> Verdict {
    let drains = question.plan.action == ActionType::DrainAndRestart;
    let Some(policy) = question.case.spec.actions.drain.as_ref().filter(|_| drains) else {
        return Verdict::Permit;
    };
    let grace = question.server.target.grace_period;
    if grace >= policy.wait.span() {
        return Verdict::Permit;
    }
    Verdict::hold(
        "GracePeriodShort",
        format!(
            "terminationGracePeriodSeconds ({}) is shorter than spec.actions.drain.wait ({}): raise the one, or lower the other",
            words::span(grace),
            policy.wait
        ),
    )
}
