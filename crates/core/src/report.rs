//! report: the story and the decision as a status, and the changes of state that are worth an Event.
//! A status that says nothing new is equal to the one before, and is not written.

use jiff::Timestamp;
use mcp_health_api::{
    Attempt, Condition, ConditionType, Incident, IncidentState, McpServerHealthStatus, Outcome, Reason,
    Severity, Time,
};

use crate::{
    Case, Decision, Diagnosis, Server, Story,
    actions::did,
    catalogue::{Class, facts},
    healthy::no_rollback_target,
    start_budget,
    words::{self, LONGEST},
};

/// The status that tells the story, after the decision.
pub fn status(
    case: &Case,
    diagnosis: &Diagnosis,
    story: &Story,
    decision: &Decision,
) -> McpServerHealthStatus {
    let mut incidents = story.incidents.clone();
    for (rank, incident) in incidents.iter_mut().enumerate() {
        if rank == 0 {
            tell_decision(incident, decision);
        } else {
            let follows = incident.caused_by.as_ref().map(|primary| format!("follows {primary}"));
            let to_do = || Some(format!("a permanent fix: {}", incident.follow_ups.first()?.message));
            let person = || Some(format!("a person is needed: {}", incident.escalation.as_ref()?.message));
            let kind = incident.incident_type;
            let outside = || kind.is_outside().then(|| facts(kind).class.next().to_owned());
            incident.next = follows.or_else(to_do).or_else(|| outside().map(|next| person().unwrap_or(next)));
        }
        incident.state = state_of(incident);
    }
    let mut status = McpServerHealthStatus {
        observed_generation: Some(case.generation),
        severity: incidents.iter().map(|incident| incident.severity).min(),
        summary: None,
        conditions: Vec::new(),
        target: story.target.clone(),
        last_action: story.last_action.clone(),
        incidents,
        pending: story.pending.clone(),
        history: story.history.clone(),
    };
    let server = Server::of(case);
    status.summary = Some(summary(case, server.as_ref(), &status));
    status.conditions = conditions(case, server.as_ref(), diagnosis, decision, &status);
    status
}

/// The status of an object whose evaluation failed, and why: what was known stands, and `Ready` is False until an
/// evaluation succeeds.
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
        status.incidents.iter().skip(1).partition(|one| one.incident_type.is_outside());
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
        (Some(Outcome::Refused), _) if attempt.has_begun() => format!("{did}, and could not go on"),
        (Some(Outcome::Refused), _) => format!("{} was refused", attempt.action),
    }
}

/// Why the operator cannot work on this object.
fn stalled(case: &Case, status: &McpServerHealthStatus) -> Option<(Reason, String)> {
    let name = &case.spec.target_ref.name;
    if let Some(rival) = &case.signals.rival {
        return Some((
            Reason::TargetConflict,
            format!(
                "McpServerHealth {rival} is older and has the same target, Deployment {name}: delete one of the two"
            ),
        ));
    }
    if case.signals.target.fresh().is_some_and(Option::is_none) {
        return Some((
            Reason::TargetNotFound,
            format!("there is no Deployment {name} in this namespace; the operator waits for it"),
        ));
    }
    let refused = status.incidents.iter().filter_map(|incident| incident.escalation.as_ref());
    let mut refused = refused.filter(|escalation| escalation.reason == Reason::Forbidden.to_string());
    if let Some(refused) = refused.next() {
        return Some((Reason::Forbidden, refused.message.clone()));
    }
    // In the API server's words: what a server answers is no word on the operator's rights.
    let forbidden = case.signals.problems().into_iter().find(|problem| problem.contains("forbidden: "))?;
    Some((Reason::Forbidden, forbidden))
}

fn conditions(
    case: &Case,
    server: Option<&Server>,
    diagnosis: &Diagnosis,
    decision: &Decision,
    status: &McpServerHealthStatus,
) -> Vec<Condition> {
    let summary = status.summary.clone().unwrap_or_default();
    let primary = status.incidents.first();
    let stalled = stalled(case, status);
    let problems = diagnosis.problems(case.signals);
    let open = primary.and_then(|incident| Some((incident, incident.open_attempt()?)));
    let escalated = status.incidents.iter().find_map(|incident| incident.escalation.as_ref());
    let named = |reason: &dyn std::fmt::Display| reason.to_string();
    let rolled_out = server.is_some_and(Server::is_rolled_out);

    // A certificate that still holds says nothing of how the server is.
    let is_ahead = |incident| facts(incident).class == Class::Ahead;
    let sick = primary.filter(|one| !is_ahead(one.incident_type) || one.severity == Severity::SEV1);
    let ready = if stalled.as_ref().is_some_and(|(reason, _)| *reason != Reason::Forbidden) {
        ("Unknown", stalled.as_ref().map_or_else(String::new, |(reason, _)| named(reason)), summary.clone())
    } else {
        let mut found = diagnosis.findings.iter();
        let is_well = found.all(|one| is_ahead(one.incident));
        match (server, sick) {
            (Some(server), Some(incident)) if server.ready() > 0 && incident.is_mitigated() && is_well => {
                ("True", named(&Reason::Mitigated), summary.clone())
            }
            (_, Some(incident)) => ("False", named(&incident.incident_type), summary.clone()),
            (None, None) => ("Unknown", named(&Reason::NoEvidence), summary.clone()),
            (Some(server), None) if server.target.desired == 0 => {
                ("Unknown", named(&Reason::ScaledToZero), summary.clone())
            }
            (Some(_), None) if rolled_out && is_well => ("True", named(&Reason::Healthy), summary.clone()),
            (Some(server), None) if server.ready() > 0 => {
                ("True", named(&Reason::Progressing), summary.clone())
            }
            (Some(_), None) => ("False", named(&Reason::Progressing), summary.clone()),
        }
    };
    let signals = match problems.first() {
        None => {
            ("True", named(&Reason::AllSignalsFresh), "everything that the rules need is seen".to_owned())
        }
        Some(_) => ("False", named(&Reason::SignalsMissing), words::shorten(&problems.join("; "), LONGEST)),
    };
    let active = match primary {
        Some(incident) => (
            "True",
            named(&incident.incident_type),
            format!("{} {}, severity {}", incident.id, incident.state, incident.severity),
        ),
        None => ("False", named(&Reason::NoIncident), "no incident is open".to_owned()),
    };
    let remediating = match open {
        Some((_, attempt)) if attempt.is_carried_out() => (
            "True",
            named(&Reason::Verifying),
            format!("{} ({}) is being judged", attempt.id, attempt.action),
        ),
        Some((_, attempt)) => (
            "True",
            named(&Reason::Acting),
            format!("{} ({}) is being carried out", attempt.id, attempt.action),
        ),
        None => ("False", named(&Reason::Idle), "nothing is under way".to_owned()),
    };
    let allowed = match decision {
        Decision::Hold { hold, .. } => ("False", hold.reason.clone(), hold.message.clone()),
        // An incident that was handed over and now follows from another does not keep that from being mended.
        _ => match (standing_hold(case), primary.filter(|incident| incident.is_escalated())) {
            (Some((reason, message)), _) => ("False", reason.to_owned(), message.to_owned()),
            (None, Some(_)) => {
                ("False", named(&Reason::PersonNeeded), "a person is in charge until this is over".to_owned())
            }
            (None, None) => match server.and_then(|server| no_rollback_target(case, server)) {
                // Other actions than a rollback may be taken.
                Some(why) => ("True", named(&Reason::NoRollbackTarget), why),
                None => {
                    ("True", named(&Reason::Permitted), "the operator may act, within its limits".to_owned())
                }
            },
        },
    };
    let person = match escalated {
        Some(escalation) => ("True", escalation.reason.clone(), escalation.message.clone()),
        None => ("False", named(&Reason::Working), "no person is needed".to_owned()),
    };
    let reconciling = match (&stalled, open) {
        (None, Some(_)) => ("True", named(&Reason::Verifying), summary.clone()),
        (None, None) if server.is_some() && primary.is_none() && !rolled_out => {
            ("True", named(&Reason::Progressing), summary)
        }
        _ => ("False", named(&Reason::Idle), "nothing is about to change by itself".to_owned()),
    };
    let stalled = match stalled {
        Some((reason, message)) => ("True", named(&reason), message),
        None => ("False", named(&Reason::Working), "nothing is in the way of the operator's work".to_owned()),
    };
    [
        (ConditionType::Ready, ready),
        (ConditionType::SignalsAvailable, signals),
        (ConditionType::IncidentActive, active),
        (ConditionType::Remediating, remediating),
        (ConditionType::RemediationAllowed, allowed),
        (ConditionType::Escalated, person),
        (ConditionType::Reconciling, reconciling),
        (ConditionType::Stalled, stalled),
    ]
    .into_iter()
    .map(|(kind, (value, reason, message))| condition(case, kind, value, reason, &message))
    .collect()
}

/// What would hold any action, also while there is nothing to do.
fn standing_hold(case: &Case) -> Option<(&'static str, &'static str)> {
    let signals = case.signals;
    if case.spec.mode == mcp_health_api::Mode::Observe {
        Some(("ObserveMode", "spec.mode is Observe: the operator reports and does not act"))
    } else if case.spec.suspend {
        Some(("Suspended", "spec.suspend is true on this object"))
    } else if signals.namespace_suspended.fresh() == Some(&true) {
        Some(("NamespaceSuspended", "the namespace is suspended"))
    } else if signals.cluster_suspended.fresh() == Some(&true) {
        Some(("ClusterSuspended", "the operator is suspended for the whole cluster"))
    } else if signals.namespace_suspended.fresh().is_none() || signals.cluster_suspended.fresh().is_none() {
        Some(("SwitchUnreadable", "a switch that suspends the operator cannot be read: it counts as thrown"))
    } else {
        None
    }
}

fn condition(case: &Case, kind: ConditionType, value: &str, reason: String, message: &str) -> Condition {
    let kind = kind.to_string();
    let before = case.status.conditions.iter().find(|before| before.type_ == kind && before.status == value);
    Condition {
        last_transition_time: before.map_or(Time(case.now), |before| before.last_transition_time.clone()),
        message: words::shorten(message, LONGEST),
        observed_generation: Some(case.generation),
        reason,
        status: value.to_owned(),
        type_: kind,
    }
}

/// A change of state, for `kubectl get events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    /// In one word.
    pub reason: &'static str,
    /// What it is about: the incident or the attempt, with its id, so that no two are taken for one.
    pub action: String,
    /// In a sentence.
    pub note: String,
}

/// What changed from one status to the next that people want to hear of.
pub fn news(before: &McpServerHealthStatus, after: &McpServerHealthStatus) -> Vec<News> {
    let mut news = Vec::new();
    let mut tell = |warning, reason, action: &dyn std::fmt::Display, note: String| {
        news.push(News { warning, reason, action: action.to_string(), note: words::shorten(&note, LONGEST) });
    };
    for incident in &after.incidents {
        let known = before.incidents.iter().find(|one| one.id == incident.id);
        let kind = incident.name();
        let about = format!("{kind} {}", incident.id);
        if known.is_none() {
            let evidence = incident.evidence.first().map_or("", String::as_str);
            let note = format!("{} ({}), {}: {evidence}", kind, incident.cause, incident.severity);
            tell(true, "IncidentOpened", &about, note);
        }
        for attempt in &incident.attempts {
            let was = known.and_then(|known| known.attempts.iter().find(|one| one.id == attempt.id));
            if attempt.is_carried_out() && was.is_none_or(|was| !was.is_carried_out()) {
                tell(
                    false,
                    "ActionTaken",
                    &format_args!("{} {}", attempt.action, attempt.id),
                    format!("{}, because {}", did(attempt), attempt.why),
                );
            }
            if let Some(outcome) = attempt.outcome.filter(|_| was.is_none_or(|was| was.outcome.is_none())) {
                let note =
                    format!("{} {outcome}: {}", attempt.id, attempt.message.as_deref().unwrap_or_default());
                tell(
                    outcome != Outcome::Improved,
                    "ActionJudged",
                    &format_args!("{} {}", attempt.action, attempt.id),
                    note,
                );
            }
        }
        if let Some(kept) = &incident.evidence_kept
            && known.and_then(|known| known.evidence_kept.as_ref()) != Some(kept)
        {
            tell(false, "EvidenceKept", &about, format!("logs, Events and states are in ConfigMap {kept}"));
        }
        let held = incident.hold.as_ref().map(|hold| &hold.reason);
        if let Some(hold) = &incident.hold
            && known.and_then(|known| known.hold.as_ref()).map(|hold| &hold.reason) != held
        {
            tell(true, "ActionHeld", &about, format!("{}: {}", hold.reason, hold.message));
        }
        if let Some(escalation) = &incident.escalation
            && known
                .and_then(|known| known.escalation.as_ref())
                .is_none_or(|known| (&known.reason, &known.at) != (&escalation.reason, &escalation.at))
        {
            tell(
                true,
                "Escalated",
                &about,
                format!("{} {}: {}", incident.severity, escalation.reason, escalation.message),
            );
        }
    }
    for past in after.history.iter().take_while(|past| !before.history.iter().any(|one| one.id == past.id)) {
        let done =
            if past.actions.is_empty() { String::new() } else { format!(" ({})", past.actions.join(", ")) };
        let note =
            format!("{} {} after {}: {}{done}", past.name(), past.id, past.time_to_resolve, past.resolution);
        tell(false, "IncidentResolved", &format_args!("{} {}", past.name(), past.id), note);
    }
    news
}

/// When to look again though nothing changes: the earliest of what the story and the decision ask for.
pub fn next_look(story: &Story, decision: &Decision) -> Option<Timestamp> {
    let decided = match decision {
        Decision::Wait { until, .. } => *until,
        Decision::Hold { hold, .. } => hold.until.as_ref().map(|until| until.0),
        Decision::Act(_) | Decision::Resume { .. } | Decision::Escalate { .. } => None,
    };
    let due = story
        .primary()
        .filter(|incident| incident.escalation.is_none() && !incident.is_answered())
        .and(story.most_urgent())
        .map(|incident| incident.respond_by.0);
    story.look_again.into_iter().chain(decided).chain(due).min()
}
