//! What made things worse, or what somebody took back, is not tried again: not while an incident is open
//! that it was tried for, and not within an hour of it. The target remembers what was taken back, so that a
//! recreated object does not forget it.

use mcp_health_api::Outcome;

use super::question::{GuardAnswer, GuardQuestion, HOUR};
use crate::escalation::LOCKED_OUT;

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    if question.plan.undoes.is_some() {
        return GuardAnswer::Permit;
    }
    let action = question.plan.action;
    // What was taken back as only for a time had helped.
    let helped = |id: &str| {
        let mut attempts = question.incidents.iter().flat_map(|incident| &incident.attempts);
        attempts.any(|attempt| attempt.id == id && attempt.outcome == Some(Outcome::Improved))
    };
    let undone = super::question::of_the_last_hour(question)
        .filter(|past| past.action == action)
        .find_map(|past| past.undoes.as_deref().filter(|id| !helped(id)));
    if let Some(undone) = undone {
        return GuardAnswer::refuse(LOCKED_OUT, format!("{action} is locked: {undone} made things worse"));
    }
    // On any open incident of the server: the pods are the same.
    let attempts = question.incidents.iter().flat_map(|incident| &incident.attempts);
    let here = attempts.filter(|attempt| attempt.action == action);
    let here =
        here.filter_map(|attempt| Some((attempt.outcome?, attempt.id.as_str(), attempt.recorded_at.0)));
    let last = question.case.status.last_action.as_ref().filter(|last| last.action == action);
    let last = last.and_then(|last| Some((last.outcome?, last.attempt.as_str(), last.at.0)));
    let recent = last.filter(|(_, _, at)| question.case.now.duration_since(*at) < HOUR);
    here.chain(recent).find(|(outcome, ..)| matches!(outcome, Outcome::Worse | Outcome::Reverted)).map_or(
        GuardAnswer::Permit,
        |(outcome, attempt, _)| {
            let why =
                if outcome == Outcome::Worse { "made things worse" } else { "was taken back by somebody" };
            GuardAnswer::refuse(LOCKED_OUT, format!("{action} is locked: {attempt} {why}"))
        },
    )
}
