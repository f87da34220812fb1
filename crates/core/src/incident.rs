//! An incident, from the finding that opens it until it is over: what is found is merged into it, it comes
//! after the one that it follows from, and it is closed by its rule's word.

use mcp_health_api::{
    ActionOutcome, Attempt, EVIDENCE_LIMIT, HISTORY_LIMIT, Incident, IncidentState, Outcome, PastIncident,
    SUBJECTS_LIMIT, Severity, Subject, Time,
};

use crate::{
    Case, Diagnosis, Server, StatusDraft, actions, attempt,
    catalogue::{Class, facts, own_rules},
    digest,
    finding::Finding,
    revert,
    time::after,
    words,
};

/// Opens an incident for each finding that has none, and brings those that have one up to date.
pub(crate) fn merge(case: &Case, diagnosis: &Diagnosis, draft: &mut StatusDraft) {
    for finding in &diagnosis.findings {
        let known = draft.incidents.iter_mut().find(|incident| finding.is_of(incident));
        let Some(incident) = known else {
            draft.incidents.push(open(case, finding));
            continue;
        };
        if incident.quiet_since.take().is_some() && !incident.follow_ups.is_empty() {
            // What helped for a time does not any more: the time to answer begins anew.
            incident.respond_by = respond_by(case, finding);
        }
        let class = facts(finding.incident).class;
        // What was seen once was so bad; what a person says is as the person says it now.
        let severity =
            if class == Class::Report { finding.severity } else { incident.severity.min(finding.severity) };
        if (facts(incident.incident_type).keeps_cause)(case, incident, finding) {
            continue;
        }
        incident.forbids = finding.forbids.to_vec();
        // Of the server itself, the same fault on other pods is the same story.
        let is_of_others = class.is_outside() || class.is_told();
        let is_about_others = is_of_others && subjects(finding) != incident.subjects;
        // While an attempt is judged, the incident stays what it was begun for.
        let cause = if incident.open_attempt().is_some() { incident.cause } else { finding.cause };
        if (severity, cause) != (incident.severity, incident.cause) || is_about_others {
            incident.severity = severity;
            incident.cause = cause;
            incident.subjects = subjects(finding);
            incident.respond_by = incident.respond_by.clone().min(respond_by(case, finding));
            incident.evidence = evidence(finding);
        }
    }
}

fn open(case: &Case, finding: &Finding) -> Incident {
    let uid = case.signals.target.fresh().and_then(|target| target.as_ref()).map_or("", |target| &target.uid);
    let name = finding.rule.clone().unwrap_or_else(|| finding.incident.to_string());
    let key = format!("{uid}/{name}/{}", case.now);
    Incident {
        id: format!("{}-{}", name.to_lowercase(), digest::short(key.as_bytes(), 6)),
        incident_type: finding.incident,
        rule: finding.rule.clone(),
        cause: finding.cause,
        caused_by: None,
        severity: finding.severity,
        state: IncidentState::Detected,
        since: Time(finding.since),
        opened_at: Time(case.now),
        respond_by: respond_by(case, finding),
        quiet_since: None,
        evidence: evidence(finding),
        subjects: subjects(finding),
        forbids: finding.forbids.to_vec(),
        unseen_since: None,
        attempts: Vec::new(),
        evidence_kept: None,
        follow_ups: Vec::new(),
        next: None,
        hold: None,
        escalation: None,
        reevaluations: 0,
    }
}

fn respond_by(case: &Case, finding: &Finding) -> Time {
    Time(after(case.now, finding.severity.response_time().span()))
}

fn evidence(finding: &Finding) -> Vec<String> {
    finding.evidence.iter().take(EVIDENCE_LIMIT).map(|line| words::shorten(line, 400)).collect()
}

fn subjects(finding: &Finding) -> Vec<Subject> {
    finding.subjects.iter().take(SUBJECTS_LIMIT).cloned().collect()
}

/// The primary incident first: the one that an attempt is under way for; else the one whose attempt made
/// things worse, because what else is found may come of that; else the one of the primary finding. The others
/// follow from it.
pub(crate) fn order(diagnosis: &Diagnosis, draft: &mut StatusDraft) {
    let place = |incident: &Incident| {
        let found = diagnosis.findings.iter().position(|finding| finding.is_of(incident));
        (
            incident.open_attempt().is_none(),
            revert::due(incident).is_none(),
            // Nobody acts on it: it is in nobody's way.
            facts(incident.incident_type).class == Class::Ahead,
            found.is_none(),
            found,
            incident.caused_by.is_some(),
        )
    };
    draft.incidents.sort_by_key(place);
    let primary = draft.primary().map(|incident| incident.id.clone());
    for (rank, incident) in draft.incidents.iter_mut().enumerate() {
        // What is mitigated, or outside the server, is a fault of its own, and waits for its own mending.
        let is_of_its_own = incident.is_mitigated() || facts(incident.incident_type).class.is_outside();
        incident.caused_by = primary.clone().filter(|_| rank > 0 && !is_of_its_own);
        if rank > 0 {
            incident.hold = None;
        }
    }
}

/// The Deployment that the status is about is gone, or is another one of the same name.
pub(crate) fn target_is_another(case: &Case) -> Option<&'static str> {
    let remembered = case.status.target.as_ref()?;
    match case.signals.target.fresh()? {
        None => Some("the Deployment was deleted"),
        Some(target) if target.uid != remembered.uid => Some("the Deployment was deleted and created anew"),
        Some(_) => None,
    }
}

pub(crate) fn close_all(case: &Case, draft: &mut StatusDraft, why: &str) {
    for incident in std::mem::take(&mut draft.incidents) {
        close(case, draft, incident, why);
    }
}

fn close(case: &Case, draft: &mut StatusDraft, mut incident: Incident, why: &str) {
    if let Some(attempt) = incident.open_attempt_mut() {
        attempt::end(attempt, Outcome::Superseded, why.to_owned(), case.now);
        attempt::note_outcome(&mut draft.last_action, attempt);
    }
    resolve(case, &mut draft.history, incident, why.to_owned());
}

/// Closes the incidents whose rule is gone from the policy: nobody asks about them any more. What is half
/// done is carried out first, and what is in force for a time is taken back when that is over.
pub(crate) fn close_gone_rules(case: &Case, draft: &mut StatusDraft) {
    let is_over = |incident: &mut Incident| {
        let half_done = incident.open_attempt().is_some_and(|one| one.has_begun() && !one.is_carried_out());
        own_rules::is_gone(case, incident)
            && incident.follow_ups.is_empty()
            && !half_done
            && revert::due(incident).is_none()
    };
    let gone: Vec<_> = draft.incidents.extract_if(.., is_over).collect();
    for incident in gone {
        close(case, draft, incident, "the rule was removed from the policy");
    }
}

/// Closes the incidents whose rule has been saying for long enough that all is well. A rule that cannot see
/// closes nothing.
pub(crate) fn close_quiet(
    case: &Case,
    server: Option<&Server>,
    diagnosis: &Diagnosis,
    draft: &mut StatusDraft,
) {
    let well = server.is_some_and(|server| server.target.desired == 0 || server.is_rolled_out());
    let mut over = Vec::new();
    let mut looks = Vec::new();
    for incident in &mut draft.incidents {
        // While something temporary is in force, the rule alone tells: another fault, or a rollout, is
        // another story.
        let quiet = (well || !incident.follow_ups.is_empty())
            && diagnosis.is_clear(incident)
            && incident.open_attempt().is_none();
        if !quiet {
            // A rollout of the owner's, or a pod that moves, is no end of what was mitigated.
            if incident.follow_ups.is_empty() {
                incident.quiet_since = None;
            }
            continue;
        }
        let since = incident.quiet_since.get_or_insert(Time(case.now)).0;
        let due = facts(incident.incident_type).closes_at(case, incident, since);
        match due <= case.now {
            true if incident.follow_ups.is_empty() => over.push(incident.id.clone()),
            true => {}
            false => looks.push(due),
        }
    }
    for at in looks {
        draft.look_again_at(at);
    }
    for id in over {
        if let Some(at) = draft.incidents.iter().position(|incident| incident.id == id) {
            let incident = draft.incidents.remove(at);
            let spent = incident.attempts.iter().rev().find(|attempt| attempt.is_spent());
            let class = facts(incident.incident_type).class;
            let resolution = match (spent, &incident.caused_by) {
                _ if class == Class::Report => "the report was taken back".to_owned(),
                (None, None) if class == Class::Alert => "no alert fires any more".to_owned(),
                (None, Some(primary)) => format!("over with {primary}, which it followed from"),
                (Some(attempt), _)
                    if actions::watched_until(attempt).is_some_and(|until| until <= case.now) =>
                {
                    format!("{} helped, and it did not happen again", attempt.action)
                }
                (Some(attempt), _) if was_for_a_time(case, attempt) => {
                    format!(
                        "{} was only for the time being: its owner has changed the server since, and all is \
                         well",
                        attempt.action
                    )
                }
                (Some(attempt), _) => format!("all is well again, some time after {}", attempt.action),
                (None, None) => "all is well again, without an action of the operator".to_owned(),
            };
            resolve(case, &mut draft.history, incident, resolution);
        }
    }
}

/// It helped, and wanted something for good to follow.
fn was_for_a_time(case: &Case, attempt: &Attempt) -> bool {
    attempt.outcome == Some(Outcome::Improved) && actions::follow_up(case, attempt).is_some()
}

pub(crate) fn resolve(case: &Case, history: &mut Vec<PastIncident>, incident: Incident, resolution: String) {
    let opened = incident.opened_at.0;
    let helped = incident.attempts.iter().rev().find(|attempt| attempt.outcome == Some(Outcome::Improved));
    let past = PastIncident {
        time_to_detect: words::span(opened.duration_since(incident.since.0)),
        time_to_mitigate: helped.map(|attempt| words::span(attempt.recorded_at.0.duration_since(opened))),
        time_to_resolve: words::span(case.now.duration_since(opened)),
        actions: incident
            .attempts
            .iter()
            .map(|one| ActionOutcome { action: one.action, outcome: one.outcome })
            .collect(),
        id: incident.id,
        incident_type: incident.incident_type,
        rule: incident.rule,
        cause: incident.cause,
        severity: incident.severity,
        evidence: incident.evidence,
        evidence_kept: incident.evidence_kept,
        opened_at: incident.opened_at,
        resolved_at: Time(case.now),
        resolution,
    };
    history.insert(0, past);
    history.truncate(HISTORY_LIMIT);
}

/// Whether the server is down or a major part of it is broken, by what was seen of it. A person's word or an
/// alert alone does not count, nor what is mitigated.
pub fn breaks_the_server(incident: &Incident) -> bool {
    incident.severity <= Severity::SEV2
        && !facts(incident.incident_type).class.is_told()
        && !incident.is_mitigated()
}
