//! report: the draft and the decision as a status, its conditions, and the Events that tell of a change.
//! A status that says nothing new is equal to the one before, and is not written.

mod conditions;
mod events;

use conditions::{conditions, stalled};
pub use events::{News, news};
use jiff::Timestamp;
use mcp_health_api::{
    Attempt, Condition, ConditionType, Incident, IncidentState, McpServerHealthStatus, Outcome, Reason, Time,
};

use crate::{
    Case, Decision, Diagnosis, Server, StatusDraft,
    actions::did,
    catalogue::facts,
    start_budget,
    words::{self, LONGEST},
};

/// The status that tells the story, after the decision.
pub fn status(
    case: &Case,
    diagnosis: &Diagnosis,
    draft: &StatusDraft,
    decision: &Decision,
) -> McpServerHealthStatus {
    let mut incidents = draft.incidents.clone();
    for (rank, incident) in incidents.iter_mut().enumerate() {
        if rank == 0 {
            tell_decision(incident, decision);
        } else {
            let follows = incident.caused_by.as_ref().map(|primary| format!("follows {primary}"));
            let to_do = || Some(format!("a permanent fix: {}", incident.follow_ups.first()?.message));
            let person = || Some(format!("a person is needed: {}", incident.escalation.as_ref()?.message));
            let class = facts(incident.incident_type).class;
            let outside = || class.is_outside().then(|| class.next().to_owned());
            incident.next = follows.or_else(to_do).or_else(|| outside().map(|next| person().unwrap_or(next)));
        }
        incident.state = state_of(incident);
    }
    let mut status = McpServerHealthStatus {
        observed_generation: Some(case.generation),
        severity: incidents.iter().map(|incident| incident.severity).min(),
        summary: None,
        conditions: Vec::new(),
        target: draft.target.clone(),
        last_action: draft.last_action.clone(),
        incidents,
        pending: draft.pending.clone(),
        history: draft.history.clone(),
    };
    let server = Server::of(case);
    status.summary = Some(summary(case, server.as_ref(), &status));
    status.conditions = conditions(case, server.as_ref(), diagnosis, decision, &status);
    status
}

/// The status of an object whose evaluation failed, and why: what was known stands, and `Ready` is False
/// until an evaluation succeeds.
pub fn evaluation_failed(
    before: &McpServerHealthStatus,
    generation: i64,
    why: &str,
    now: Timestamp,
) -> McpServerHealthStatus {
    let message = format!("the operator failed to evaluate this object and takes no action on it: {why}");
    let kind = ConditionType::Ready.to_string();
    let mut status = before.clone();
    let known = status.conditions.iter().position(|one| one.type_ == kind);
    let known = known.map(|place| status.conditions.remove(place)).filter(|one| one.status == "False");
    let ready = Condition {
        last_transition_time: known.map_or(Time(now), |one| one.last_transition_time),
        message: words::shorten(&message, LONGEST),
        observed_generation: Some(generation),
        reason: Reason::EvaluationFailed.to_string(),
        status: "False".to_owned(),
        type_: kind,
    };
    status.summary = Some(ready.message.clone());
    status.conditions.insert(0, ready);
    status
}

/// Notes on the primary incident what was decided.
fn tell_decision(incident: &mut Incident, decision: &Decision) {
    match decision {
        Decision::Hold { hold, what } => {
            incident.next = Some(match &hold.until {
                Some(until) => {
                    format!("would {what}; held until {} ({})", words::moment(until.0), hold.reason)
                }
                None => format!("would {what}; held ({})", hold.reason),
            });
            incident.hold = Some(hold.clone());
        }
        Decision::Wait { next, .. } => {
            incident.hold = None;
            let escalation = incident.escalation.as_ref().filter(|_| incident.is_escalated());
            incident.next = match (escalation, next) {
                (Some(escalation), _) => Some(format!("a person is needed: {}", escalation.message)),
                (None, Some(next)) => Some(next.clone()),
                (None, None) => None,
            };
        }
        Decision::Act(_) | Decision::Resume { .. } => {
            incident.hold = None;
            incident.next = match incident.open_attempt() {
                Some(attempt) => attempt
                    .verify_at
                    .as_ref()
                    .map(|at| format!("resolved once ready and settled; given up at {}", words::moment(at.0)))
                    .or_else(|| Some(format!("{} is being carried out", attempt.action))),
                None => Some("decides anew".to_owned()),
            };
        }
        Decision::Escalate { message, .. } => {
            incident.hold = None;
            incident.next = Some(format!("a person is needed: {message}"));
        }
    }
}

fn state_of(incident: &Incident) -> IncidentState {
    if incident.is_escalated() {
        return IncidentState::Escalated;
    }
    match incident.open_attempt() {
        Some(attempt) if attempt.undoes.is_some() => IncidentState::Undoing,
        Some(attempt) if attempt.is_carried_out() => IncidentState::Verifying,
        Some(_) => IncidentState::Mitigating,
        None if incident.hold.is_some() => IncidentState::Held,
        None if incident.is_mitigated() => IncidentState::Mitigated,
        None => IncidentState::Detected,
    }
}

fn summary(case: &Case, server: Option<&Server>, status: &McpServerHealthStatus) -> String {
    if let Some((reason, message)) = stalled(case, status)
        && (status.incidents.is_empty() || reason != Reason::Forbidden)
    {
        return message;
    }
    let Some(incident) = status.incidents.first() else {
        return match server {
            None => case.signals.problems().first().map_or_else(
                || "nothing is known of the server yet".to_owned(),
                |problem| format!("the server cannot be judged: {problem}"),
            ),
            Some(server) if server.target.desired == 0 => "scaled to zero".to_owned(),
            Some(server) if server.is_rolled_out() => {
                format!("healthy: {} ready", words::count(server.ready(), "pod"))
            }
            Some(server) => {
                let current = server.current_pods().iter().filter(|pod| pod.ready).count();
                let wanted =
                    words::count(usize::try_from(server.target.desired).unwrap_or_default(), "wanted pod");
                let waits = start_budget::waits(server).map(|words| format!("; {words}"));
                format!(
                    "{} is coming up: {current} of {wanted} ready, {} in all{}",
                    server.current_words(),
                    server.ready(),
                    waits.unwrap_or_default()
                )
            }
        };
    };
    let mut sentence =
        format!("{} ({}) since {}", incident.name(), incident.cause, words::moment(incident.since.0));
    // What remains to be done says what was done.
    let escalation = incident.escalation.as_ref().filter(|_| incident.is_escalated());
    let mitigated = incident.is_mitigated() && escalation.is_none() && incident.hold.is_none();
    match incident.attempts.last() {
        Some(attempt) if mitigated => sentence.push_str(&format!(", mitigated by {}", attempt.action)),
        Some(attempt) => sentence.push_str(&format!("; {}", attempt_words(attempt))),
        None => {}
    }
    match (escalation, &incident.hold) {
        (None, None) if mitigated => {
            let follow_ups = incident.follow_ups.iter().map(|one| one.message.as_str());
            sentence.push_str(&format!("; to do: {}", follow_ups.collect::<Vec<_>>().join("; ")));
        }
        (Some(escalation), _) => sentence.push_str(&format!("; a person is needed: {}", escalation.message)),
        (None, Some(hold)) => sentence.push_str(&format!("; held: {}", hold.message)),
        (None, None) => {}
    }
    let (outside, follow): (Vec<&Incident>, Vec<_>) =
        status.incidents.iter().skip(1).partition(|one| facts(one.incident_type).class.is_outside());
    match follow.len() {
        0 => {}
        1 => sentence.push_str("; another incident follows from it"),
        others => sentence.push_str(&format!("; {others} other incidents follow from it")),
    }
    for one in outside {
        sentence.push_str(&format!("; beside it, {} ({})", one.name(), one.cause));
    }
    words::shorten(&sentence, LONGEST)
}

/// What an attempt did, and what came of it: `rolled back to template 41ab07; verifying until 12:02:10`.
fn attempt_words(attempt: &Attempt) -> String {
    let did = did(attempt);
    if !attempt.is_carried_out() && attempt.outcome.is_none() {
        let how = if attempt.has_begun() { "under way" } else { "recorded" };
        return format!("{} is {how}", attempt.action);
    }
    match (attempt.outcome, &attempt.verify_at) {
        (None, Some(until)) => format!("{did}, verifying until {}", words::moment(until.0)),
        (None, None) => format!("{did}, verifying"),
        (Some(Outcome::Improved), _) => format!("{did}, which helped"),
        (Some(Outcome::NoChange), _) => format!("{did}, which did not help"),
        (Some(Outcome::Worse), _) => format!("{did}, which made things worse"),
        (Some(Outcome::Inconclusive), _) => format!("{did}, and could not judge what came of it"),
        (Some(Outcome::Superseded), _) if attempt.has_begun() && !attempt.is_carried_out() => {
            format!("{} was not carried on", attempt.action)
        }
        (Some(Outcome::Superseded), _) => format!("{} was overtaken by another change", attempt.action),
        (Some(Outcome::Reverted), _) => format!("{did}, which somebody took back"),
        (Some(Outcome::Failed), _) => format!("{} failed: what became of it is not known", attempt.action),
        (Some(Outcome::Refused), _) if attempt.has_begun() => format!("{did}, and could not go on"),
        (Some(Outcome::Refused), _) => format!("{} was refused", attempt.action),
    }
}

/// When to look again though nothing changes: the earliest of what the draft and the decision ask for.
pub fn next_look(draft: &StatusDraft, decision: &Decision) -> Option<Timestamp> {
    let decided = match decision {
        Decision::Wait { until, .. } => *until,
        Decision::Hold { hold, .. } => hold.until.as_ref().map(|until| until.0),
        Decision::Act(_) | Decision::Resume { .. } | Decision::Escalate { .. } => None,
    };
    let due = draft
        .primary()
        .filter(|incident| incident.escalation.is_none() && !incident.is_answered())
        .and(draft.most_urgent())
        .map(|incident| incident.respond_by.0);
    draft.look_again.into_iter().chain(decided).chain(due).min()
}
