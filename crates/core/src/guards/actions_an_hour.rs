//! `spec.limits.maxActionsPerHour`: of any kind, for any incident. Reverts do not count and are not limited:
//! each attempt has one at most. Counted on the target too, so that neither a restart nor a recreated object
//! resets it.

use super::question::{GuardAnswer, GuardQuestion, HOUR, counted};
use crate::time::after;

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let limit = question.case.spec.limits.max_actions_per_hour as usize;
    let recent: Vec<_> = counted(question).collect();
    if recent.len() < limit || question.plan.undoes.is_some() {
        return GuardAnswer::Permit;
    }
    // It lifts when as many have aged out as there are too many.
    let oldest = recent.get(recent.len() - limit).map_or(question.case.now, |action| action.at);
    GuardAnswer::hold_until(
        "ActionsPerHour",
        format!("{} actions in the last hour (spec.limits.maxActionsPerHour: {limit})", recent.len()),
        after(oldest, HOUR),
    )
}
