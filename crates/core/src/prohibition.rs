//! prohibition: what must not be done to a server while an incident is open. It stays forbidden until the
//! incident's rule says that all is well, also while its evidence is missing: across restarts, failovers and
//! lost sources. A user may lift it for a time, by an annotation that names the incident.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Incident, LIFT_PROHIBITION_ANNOTATION, Time};

use crate::{
    Case, Diagnosis, StatusDraft,
    catalogue::facts,
    escalation::{PROHIBITION_UNVERIFIED, escalate},
    signals::Lift,
    time::after,
    words,
};

/// The longest time for which a user can lift a prohibition.
const LONGEST_LIFT: SignedDuration = SignedDuration::from_hours(24);
/// A prohibition without evidence for so long escalates.
const UNVERIFIED_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// Reads `incident id,RFC 3339 time`; `Err` is a sentence on what is wrong with it.
pub fn parse_lift(text: &str) -> Result<Lift, String> {
    let wrong = || {
        format!(
            "annotation {LIFT_PROHIBITION_ANNOTATION} is \"{}\" and lifts nothing: write an incident's id and an end, as \
             crashloop-1a2b3c,2026-11-21T10:00:00Z",
            words::shorten(text, 80)
        )
    };
    let (incident, until) = text.split_once(',').ok_or_else(wrong)?;
    let (incident, until) = (incident.trim().to_owned(), until.trim().parse().map_err(|_| wrong())?);
    if incident.is_empty() { Err(wrong()) } else { Ok(Lift { incident, until }) }
}

/// Until when a user lifts what an incident forbids.
fn lifted_until(case: &Case, incident: &Incident) -> Option<Timestamp> {
    let lift = case.signals.lift.as_ref()?.as_ref().ok()?;
    let is_in_time = lift.until > case.now && lift.until <= after(case.now, LONGEST_LIFT);
    (lift.incident == incident.id && is_in_time).then_some(lift.until)
}

/// A lift that ends too late is not honoured: why, as a sentence.
pub(crate) fn problem(case: &Case) -> Option<String> {
    let lift = case.signals.lift.as_ref()?.as_ref().ok()?;
    (lift.until > after(case.now, LONGEST_LIFT)).then(|| {
        format!("annotation {LIFT_PROHIBITION_ANNOTATION} ends more than 24 hours ahead and lifts nothing until then")
    })
}

/// The open incident that forbids an action, unless its rule says that all is well or a user has lifted it.
pub fn forbidding<'a>(
    case: &Case,
    diagnosis: &Diagnosis,
    incidents: &'a [Incident],
    action: ActionType,
) -> impl Iterator<Item = &'a Incident> {
    incidents.iter().filter(move |one| {
        one.forbids.contains(&action) && !diagnosis.is_clear(one) && lifted_until(case, one).is_none()
    })
}

/// Notes since when evidence is missing for what incidents forbid, and escalates those that have been without
/// it for too long, once. Nothing is lifted by time alone.
pub(crate) fn verify(case: &Case, diagnosis: &Diagnosis, draft: &mut StatusDraft) {
    let mut looks = Vec::new();
    for incident in &mut draft.incidents {
        looks.extend(lifted_until(case, incident));
        let finding = diagnosis.finding_of(incident);
        let is_seen = finding
            .is_some_and(|finding| !(facts(incident.incident_type).keeps_cause)(case, incident, finding));
        if incident.forbids.is_empty() || is_seen || diagnosis.is_clear(incident) {
            incident.unseen_since = None;
            continue;
        }
        let since = incident.unseen_since.get_or_insert(Time(case.now)).0;
        let due = after(since, UNVERIFIED_AFTER);
        if incident.escalation.is_some() || incident.is_answered() {
        } else if due > case.now {
            looks.push(due);
        } else {
            let actions: Vec<String> = incident.forbids.iter().map(ToString::to_string).collect();
            let message = format!(
                "no evidence for {} ({}) since {}: {} stay forbidden on this server until there is, or until they are \
                 lifted by annotation {LIFT_PROHIBITION_ANNOTATION}",
                incident.name(),
                incident.cause,
                words::moment(since),
                actions.join(", ")
            );
            escalate(case, incident, PROHIBITION_UNVERIFIED, &message);
        }
    }
    for at in looks {
        draft.look_again_at(at);
    }
}
