//! No action on missing or stale evidence: everything that the action or its fences rest on is fresh, and
//! the incident is still being found.

use super::question::{GuardAnswer, GuardQuestion};
use crate::actions::touches;

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let signals = question.case.signals;
    let mut problems = signals.problems_of_fences();
    let touches = touches(question.plan.action);
    if touches.resources {
        problems.extend(signals.problems_of_resources());
    }
    if touches.sessions {
        problems.extend(signals.problems_of_sessions());
    }
    if let Some(problem) = problems.into_iter().next() {
        return GuardAnswer::hold("EvidenceNotFresh", problem);
    }
    // Taking back what made things worse needs no finding: its verification was the evidence.
    if question.plan.undoes.is_none() && question.diagnosis.finding_of(question.incident).is_none() {
        return GuardAnswer::hold("EvidenceGone", "the incident is not being found at this moment");
    }
    GuardAnswer::Permit
}
