//! Escalations over time: of what lies outside the server, when its answer is due; and taken back, once
//! something else is found than what was escalated.

use mcp_health_api::{ActionType, Incident, Time};

use crate::{
    Case, Diagnosis, Server, StatusDraft,
    catalogue::{entry::tells_no_reason, facts},
    escalation::{
        ATTEMPTS_EXHAUSTED, FLAPPING, LOCKED_OUT, MADE_THINGS_WORSE, NEEDED_FOR_GOOD, NO_AUTOMATIC_ACTION,
        PROHIBITION_UNVERIFIED, RESPONSE_OVERDUE, REVERTED, SMOKE_TEST_FAILED, escalate,
    },
    runbook::leads_to,
    words,
};

/// What lies outside the server follows from nothing in it: where it is not the primary, a person is called
/// for it when its own answer is due.
pub(super) fn call_for_what_lies_outside(case: &Case, draft: &mut StatusDraft) {
    let mut looks = Vec::new();
    for incident in draft.incidents.iter_mut().skip(1) {
        if !facts(incident.incident_type).class.is_outside()
            || incident.escalation.is_some()
            || incident.is_answered()
        {
            continue;
        }
        let due = incident.respond_by.0;
        if due > case.now {
            looks.push(due);
            continue;
        }
        let message = format!("unresolved after {}", words::span(due.duration_since(incident.opened_at.0)));
        escalate(case, incident, RESPONSE_OVERDUE, &message);
    }
    for at in looks {
        draft.look_again_at(at);
    }
}

/// How often an incident is judged again after an escalation: what changes back and forth is not a new
/// finding.
const REEVALUATIONS: i32 = 3;

/// Reasons of escalations that no other cause takes back.
const FINAL: [&str; 7] = [
    LOCKED_OUT,
    ATTEMPTS_EXHAUSTED,
    FLAPPING,
    MADE_THINGS_WORSE,
    NEEDED_FOR_GOOD,
    REVERTED,
    SMOKE_TEST_FAILED,
];

/// An escalation was for what was found then. Where the cause is another one now, or evidence is back that
/// was missing, the incident is judged again: the escalation stays on record, and what was tried counts.
pub(super) fn reevaluate(
    case: &Case,
    server: Option<&Server>,
    diagnosis: &Diagnosis,
    draft: &mut StatusDraft,
) {
    for incident in &mut draft.incidents {
        let is_blamed = server.is_some_and(|server| is_blamed_since(case, server, incident));
        let is_found = diagnosis.finding_of(incident).is_some() && incident.unseen_since.is_none();
        let may = is_found
            && incident.is_escalated()
            && incident.open_attempt().is_none()
            && !facts(incident.incident_type).class.is_outside()
            && incident.reevaluations < REEVALUATIONS;
        let Some(escalation) = incident.escalation.as_mut().filter(|_| may) else { continue };
        let is_other =
            !tells_no_reason(incident.cause) && escalation.cause.is_some_and(|cause| cause != incident.cause);
        let is_back = escalation.reason == PROHIBITION_UNVERIFIED;
        if (is_other || is_back || is_blamed) && !FINAL.contains(&escalation.reason.as_str()) {
            escalation.reevaluated_at = Some(Time(case.now));
            incident.reevaluations += 1;
        }
    }
}

/// No action corrects the reason that was judged; by now the revision in force is known to be to blame,
/// and a rollback has not been tried.
fn is_blamed_since(case: &Case, server: &Server, incident: &Incident) -> bool {
    let had_no_action = incident.escalation.as_ref().is_some_and(|one| one.reason == NO_AUTOMATIC_ACTION);
    had_no_action
        && (facts(incident.incident_type).is_blamed_later)(server, incident)
        && !incident.attempts.iter().any(|one| one.action == ActionType::Rollback)
        && leads_to(case, server, incident, ActionType::Rollback)
}
