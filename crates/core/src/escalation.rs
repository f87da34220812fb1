//! Escalation: an incident is handed over, because automation is not the answer. The reasons that other parts
//! ask for have a name here.

use jiff::Timestamp;
use mcp_health_api::{Escalation, Incident, Time};

use crate::{
    Case,
    words::{self, LONGEST},
};

/// The action that was to be taken made things worse before.
pub(crate) const LOCKED_OUT: &str = "LockedOut";
/// The incident has had all its attempts.
pub(crate) const ATTEMPTS_EXHAUSTED: &str = "AttemptsExhausted";
/// The incident comes again and again.
pub(crate) const FLAPPING: &str = "Flapping";
/// An action made things worse, and a revert did not end that or is not possible.
pub(crate) const MADE_THINGS_WORSE: &str = "MadeThingsWorse";
/// What was done for a time is needed for good.
pub(crate) const NEEDED_FOR_GOOD: &str = "NeededForGood";
/// What was done was taken back by somebody else.
pub(crate) const REVERTED: &str = "Reverted";
/// The Job that was to prove an action failed.
pub(crate) const SMOKE_TEST_FAILED: &str = "SmokeTestFailed";
/// Nothing has helped in the time that the severity leaves.
pub(crate) const RESPONSE_OVERDUE: &str = "ResponseOverdue";
/// It could not be told in time whether a step of an action took place.
pub(crate) const STEP_OVERDUE: &str = "StepOverdue";
/// The runbook names no action for what was found.
pub(crate) const NO_AUTOMATIC_ACTION: &str = "NoAutomaticAction";
/// Evidence is missing for too long for what an incident forbids.
pub(crate) const PROHIBITION_UNVERIFIED: &str = "ProhibitionUnverified";

/// Why a person is needed.
pub fn escalation(reason: &str, message: &str, now: Timestamp) -> Escalation {
    Escalation {
        reason: reason.to_owned(),
        message: words::shorten(message, LONGEST),
        at: Time(now),
        cause: None,
        reevaluated_at: None,
    }
}

/// Hands an incident to a person.
pub fn escalate(case: &Case, incident: &mut Incident, reason: &str, message: &str) {
    incident.hold = None;
    let cause = Some(incident.cause);
    incident.escalation = Some(Escalation { cause, ..escalation(reason, message, case.now) });
}
