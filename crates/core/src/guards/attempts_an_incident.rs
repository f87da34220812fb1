//! `spec.limits.maxAttempts`: after so many actions on one incident, a person takes over.

use super::question::{GuardAnswer, GuardQuestion};
use crate::escalation::ATTEMPTS_EXHAUSTED;

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let resumed = question.resumed.map(|attempt| attempt.id.as_str());
    let spent = question
        .incident
        .attempts
        .iter()
        .filter(|attempt| {
            attempt.is_spent() && Some(attempt.id.as_str()) != resumed && attempt.undoes.is_none()
        })
        .count();
    let limit = question.case.spec.limits.max_attempts as usize;
    if spent >= limit && question.plan.undoes.is_none() {
        return GuardAnswer::refuse(
            ATTEMPTS_EXHAUSTED,
            format!("{spent} of {limit} attempts (spec.limits.maxAttempts) are spent"),
        );
    }
    GuardAnswer::Permit
}
