//! `spec.limits.cooldown`: the pause after an action. It doubles with every further action within an hour.
//! Taking back what made things worse does not wait.

use super::question::{GuardAnswer, GuardQuestion, of_the_last_hour};
use crate::{time::after, words};

/// The pause is doubled at most so often.
const MOST_DOUBLINGS: u32 = 6;

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let Some(last) = question.past.last() else { return GuardAnswer::Permit };
    if question.plan.undoes.is_some() || question.resumed.is_some() {
        return GuardAnswer::Permit;
    }
    let recent = u32::try_from(of_the_last_hour(question).count()).unwrap_or(u32::MAX);
    let doublings = recent.saturating_sub(1).min(MOST_DOUBLINGS);
    let pause = question.case.spec.limits.cooldown.span().saturating_mul(1 << doublings);
    let until = after(last.at, pause);
    if until <= question.case.now {
        return GuardAnswer::Permit;
    }
    GuardAnswer::hold_until(
        "Cooldown",
        format!(
            "pause of {} after {} at {} (spec.limits.cooldown)",
            words::span(pause),
            last.action,
            words::moment(last.at)
        ),
        until,
    )
}
