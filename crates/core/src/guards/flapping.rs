//! What comes back as often as it is mended is not mended: after [`TIMES`] incidents of one type that were
//! acted on and resolved within an hour, the next is a person's (guide 004: find the root cause).

use super::question::{GuardAnswer, GuardQuestion, HOUR};
use crate::escalation::FLAPPING;

/// So often may one type come back within the hour. With the default cooldown, which doubles, that takes half
/// an hour at least.
const TIMES: usize = 3;

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let (incident, case) = (question.incident, question.case);
    let mended = case.status.history.iter().filter(|past| {
        past.incident_type == incident.incident_type
            && past.rule == incident.rule
            && past.was_acted_on()
            && case.now.duration_since(past.resolved_at.0) < HOUR
    });
    let times = mended.count();
    if times < TIMES || question.plan.undoes.is_some() {
        return GuardAnswer::Permit;
    }
    GuardAnswer::refuse(
        FLAPPING,
        format!(
            "{} was mended {times} times within the hour, and is back: what mends it does not last",
            incident.name()
        ),
    )
}
