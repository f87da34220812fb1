//! verify: what came of the attempt that an earlier reconcile made, and with it the story so far: which
//! incidents are open, which are over. A later look, never a sleep.

use jiff::Timestamp;
use mcp_health_api::{
    Attempt, EVIDENCE_LIMIT, Effect, HISTORY_LIMIT, Incident, IncidentState, IncidentType, LastAction,
    Outcome, PastIncident, TargetStatus, Time,
};

use crate::{
    Case, Diagnosis, Server, attempt, diagnose::Finding, digest, healthy, report::escalation, words,
};

/// Everything that the status will tell, before anything new is decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Story {
    /// Open incidents; the primary one first.
    pub incidents: Vec<Incident>,
    /// Resolved ones, newest first.
    pub history: Vec<PastIncident>,
    /// The last action.
    pub last_action: Option<LastAction>,
    /// The target.
    pub target: Option<TargetStatus>,
    /// When to look again though nothing changes.
    pub look_again: Option<Timestamp>,
}

impl Story {
    /// The one incident that may act.
    pub fn primary(&self) -> Option<&Incident> {
        self.incidents.first()
    }

    /// The one incident that may act, to be changed.
    pub fn primary_mut(&mut self) -> Option<&mut Incident> {
        self.incidents.first_mut()
    }

    pub(crate) fn look_again_at(&mut self, at: Timestamp) {
        self.look_again = Some(self.look_again.map_or(at, |look| look.min(at)));
    }
}

/// How an attempt stands.
enum Judged {
    /// Not to be told yet.
    Pending(Timestamp),
    /// Once more, for want of evidence.
    Extended(Timestamp),
    /// Over.
    Ended(Outcome, String),
}

/// Continues the story from the status: judges the open attempt, merges what is found, closes what is over.
pub fn verify(case: &Case, diagnosis: &Diagnosis) -> Story {
    let mut story = Story {
        incidents: case.status.incidents.clone(),
        history: case.status.history.clone(),
        last_action: case.status.last_action.clone(),
        target: case.status.target.clone(),
        look_again: diagnosis.look_again,
    };
    if let Some(end) = target_is_another(case) {
        close_all(case, &mut story, end);
        story.target = None;
    }
    if case.signals.rival.is_some() {
        // Two objects with the same incident would page twice, and neither would know of the other's actions.
        close_all(case, &mut story, "another object is in charge of the target");
    }
    let server = Server::of(case);
    judge_attempts(case, server.as_ref(), diagnosis, &mut story);
    merge_findings(case, diagnosis, &mut story);
    close_quiet(case, server.as_ref(), diagnosis, &mut story);
    order(diagnosis, &mut story);
    if let Some(server) = &server {
        let wrong = !diagnosis.findings.is_empty();
        let (target, look_again) = healthy::target_status(case, server, wrong);
        story.target = Some(target);
        if let Some(at) = look_again {
            story.look_again_at(at);
        }
    }
    story
}

/// The Deployment that the story is about is gone, or is another one of the same name.
fn target_is_another(case: &Case) -> Option<&'static str> {
    let remembered = case.status.target.as_ref()?;
    match case.signals.target.fresh()? {
        None => Some("the Deployment was deleted"),
        Some(target) if target.uid != remembered.uid => Some("the Deployment was deleted and created anew"),
        Some(_) => None,
    }
}

fn close_all(case: &Case, story: &mut Story, why: &str) {
    for mut incident in std::mem::take(&mut story.incidents) {
        if let Some(attempt) = incident.open_attempt_mut() {
            attempt::end(attempt, Outcome::Superseded, why.to_owned(), case.now);
            note_outcome(&mut story.last_action, attempt);
        }
        resolve(case, &mut story.history, incident, why.to_owned());
    }
}

fn judge_attempts(case: &Case, server: Option<&Server>, diagnosis: &Diagnosis, story: &mut Story) {
    let mut looks = Vec::new();
    let mut improved = Vec::new();
    for incident in &mut story.incidents {
        let incident_type = incident.incident_type;
        let Some(attempt) = incident.open_attempt_mut().filter(|attempt| attempt.is_carried_out()) else {
            continue;
        };
        match judge(case, server, diagnosis, incident_type, attempt) {
            Judged::Pending(at) => looks.push(at),
            Judged::Extended(at) => {
                attempt.extended = true;
                attempt.verify_at = Some(Time(at));
                looks.push(at);
            }
            Judged::Ended(outcome, message) => {
                attempt::end(attempt, outcome, message, case.now);
                note_outcome(&mut story.last_action, attempt);
                if outcome == Outcome::Improved && attempt.undoes.is_none() {
                    improved.push(incident.id.clone());
                }
            }
        }
    }
    for at in looks {
        story.look_again_at(at);
    }
    for id in improved {
        if let Some(at) = story.incidents.iter().position(|incident| incident.id == id) {
            let incident = story.incidents.remove(at);
            let helped =
                incident.attempts.last().map(|attempt| attempt.action.to_string()).unwrap_or_default();
            resolve(case, &mut story.history, incident, format!("{helped} helped"));
        }
    }
}

/// Judges one attempt that was carried out.
fn judge(
    case: &Case,
    server: Option<&Server>,
    diagnosis: &Diagnosis,
    incident: IncidentType,
    attempt: &Attempt,
) -> Judged {
    let now = case.now;
    let deadline = attempt.verify_at.as_ref().map_or(now, |at| at.0);
    let without_evidence = || {
        if now < deadline {
            Judged::Pending(deadline)
        } else if attempt.extended {
            Judged::Ended(Outcome::Inconclusive, "there was no evidence to judge it by".to_owned())
        } else {
            Judged::Extended(now.saturating_add(case.settings.settle.saturating_mul(4)).unwrap_or(now))
        }
    };
    let Some(server) = server else { return without_evidence() };
    let Some(step) = attempt.steps.first() else {
        return Judged::Ended(Outcome::Inconclusive, "it had no step".to_owned());
    };
    let template = &server.target.template;
    if step.generation.is_some_and(|generation| server.target.generation < generation) {
        // What is seen is older than what was done.
        return without_evidence();
    }
    let expected = if step.effect == Effect::PatchTemplate { &step.to } else { &step.from };
    if expected.as_ref() != Some(template) {
        let by = format!("somebody has put template {template} in force meanwhile");
        let reverted = step.effect == Effect::PatchTemplate && step.from.as_ref() == Some(template);
        return Judged::Ended(if reverted { Outcome::Reverted } else { Outcome::Superseded }, by);
    }
    let ready = server.ready_replicas();
    let failed = |why: String| {
        let outcome = if ready < attempt.ready_before { Outcome::Worse } else { Outcome::NoChange };
        Judged::Ended(outcome, format!("{why}; {ready} pods are ready, {} were before", attempt.ready_before))
    };
    let finding = diagnosis.finding(incident);
    // Pods that were made by this attempt show the same fault: no need to wait for the deadline. (They may have been
    // made within the second in which it was recorded; those before it have taken longer to be found.)
    let shown_by_new_pods = finding
        .filter(|finding| finding.youngest_pod.is_some_and(|created| created >= attempt.recorded_at.0))
        .and_then(|finding| finding.evidence.first());
    if let Some(evidence) = shown_by_new_pods {
        return failed(evidence.clone());
    }
    if finding.is_none() && server.is_rolled_out() {
        if !diagnosis.clear.contains(&incident) {
            // Its rule cannot see, or suspects it still: that is not well yet.
            return without_evidence();
        }
        let since = server.ready_since().unwrap_or(now).max(attempt.recorded_at.0);
        let settled = since.saturating_add(case.settings.settle).unwrap_or(now);
        return if settled <= now {
            let since = words::moment(since);
            Judged::Ended(
                Outcome::Improved,
                format!("{ready} of {} pods ready since {since}", server.target.desired),
            )
        } else {
            Judged::Pending(settled)
        };
    }
    if now < deadline {
        return Judged::Pending(deadline);
    }
    failed(
        finding
            .and_then(|finding| finding.evidence.first())
            .cloned()
            .unwrap_or_else(|| format!("the rollout did not complete until {}", words::moment(deadline))),
    )
}

fn note_outcome(last_action: &mut Option<LastAction>, attempt: &Attempt) {
    if let Some(last) = last_action.as_mut().filter(|last| last.attempt == attempt.id) {
        last.outcome = attempt.outcome;
    }
}

/// Opens an incident for each finding that has none, and brings those that have one up to date.
fn merge_findings(case: &Case, diagnosis: &Diagnosis, story: &mut Story) {
    for finding in &diagnosis.findings {
        let known = story.incidents.iter_mut().find(|incident| incident.incident_type == finding.incident);
        let Some(incident) = known else {
            story.incidents.push(open(case, finding));
            continue;
        };
        incident.quiet_since = None;
        let severity = incident.severity.min(finding.severity);
        // While an attempt is judged, the story stays what it was begun for.
        let cause = if incident.open_attempt().is_some() { incident.cause } else { finding.cause };
        if (severity, cause) != (incident.severity, incident.cause) {
            incident.severity = severity;
            incident.cause = cause;
            incident.respond_by = incident.respond_by.clone().min(respond_by(case, finding));
            incident.evidence = evidence(finding);
        }
    }
}

fn open(case: &Case, finding: &Finding) -> Incident {
    let uid = case.signals.target.fresh().and_then(|target| target.as_ref()).map_or("", |target| &target.uid);
    let key = format!("{uid}/{}/{}", finding.incident, case.now);
    Incident {
        id: format!("{}-{}", finding.incident.to_string().to_lowercase(), digest::short(key.as_bytes(), 6)),
        incident_type: finding.incident,
        cause: finding.cause,
        caused_by: None,
        severity: finding.severity,
        state: IncidentState::Detected,
        since: Time(finding.since),
        opened_at: Time(case.now),
        respond_by: respond_by(case, finding),
        quiet_since: None,
        evidence: evidence(finding),
        attempts: Vec::new(),
        next: None,
        hold: None,
        escalation: None,
    }
}

fn respond_by(case: &Case, finding: &Finding) -> Time {
    Time(case.now.saturating_add(finding.severity.response_time().span()).unwrap_or(case.now))
}

fn evidence(finding: &Finding) -> Vec<String> {
    finding.evidence.iter().take(EVIDENCE_LIMIT).map(|line| words::shorten(line, 400)).collect()
}

/// Closes the incidents whose rule has been saying for long enough that all is well. A rule that cannot see
/// closes nothing.
fn close_quiet(case: &Case, server: Option<&Server>, diagnosis: &Diagnosis, story: &mut Story) {
    let well = server.is_some_and(|server| server.target.desired == 0 || server.is_rolled_out());
    let mut over = Vec::new();
    let mut looks = Vec::new();
    for incident in &mut story.incidents {
        let quiet =
            well && diagnosis.clear.contains(&incident.incident_type) && incident.open_attempt().is_none();
        if !quiet {
            incident.quiet_since = None;
            continue;
        }
        let since = incident.quiet_since.get_or_insert(Time(case.now)).0;
        let due = since.saturating_add(case.settings.settle).unwrap_or(since);
        if due <= case.now { over.push(incident.id.clone()) } else { looks.push(due) }
    }
    for at in looks {
        story.look_again_at(at);
    }
    for id in over {
        if let Some(at) = story.incidents.iter().position(|incident| incident.id == id) {
            let incident = story.incidents.remove(at);
            let spent = incident.attempts.iter().rev().find(|attempt| attempt.is_spent());
            let resolution = match (spent, &incident.caused_by) {
                (None, Some(primary)) => format!("over with {primary}, which it followed from"),
                (Some(attempt), _) => format!("all is well again, some time after {}", attempt.action),
                (None, None) => "all is well again, without an action of the operator".to_owned(),
            };
            resolve(case, &mut story.history, incident, resolution);
        }
    }
}

fn resolve(case: &Case, history: &mut Vec<PastIncident>, incident: Incident, resolution: String) {
    let opened = incident.opened_at.0;
    let helped = incident.attempts.iter().rev().find(|attempt| attempt.outcome == Some(Outcome::Improved));
    let past = PastIncident {
        time_to_detect: words::span(opened.duration_since(incident.since.0)),
        time_to_mitigate: helped.map(|attempt| words::span(attempt.recorded_at.0.duration_since(opened))),
        time_to_resolve: words::span(case.now.duration_since(opened)),
        actions: incident
            .attempts
            .iter()
            .map(|attempt| match attempt.outcome {
                Some(outcome) => format!("{}: {outcome}", attempt.action),
                None => attempt.action.to_string(),
            })
            .collect(),
        id: incident.id,
        incident_type: incident.incident_type,
        cause: incident.cause,
        severity: incident.severity,
        evidence: incident.evidence,
        opened_at: incident.opened_at,
        resolved_at: Time(case.now),
        resolution,
    };
    history.insert(0, past);
    history.truncate(HISTORY_LIMIT);
}

/// The primary incident first: the one that an attempt is under way for; else the one of the primary
/// finding. The others follow from it.
fn order(diagnosis: &Diagnosis, story: &mut Story) {
    let place = |incident: &Incident| {
        let found = diagnosis.findings.iter().position(|finding| finding.incident == incident.incident_type);
        (incident.open_attempt().is_none(), found.is_none(), found, incident.caused_by.is_some())
    };
    story.incidents.sort_by_key(place);
    let primary = story.primary().map(|incident| incident.id.clone());
    for (rank, incident) in story.incidents.iter_mut().enumerate() {
        incident.caused_by = if rank == 0 { None } else { primary.clone() };
        if rank > 0 {
            incident.hold = None;
        }
    }
}

/// Hands an incident to a person.
pub fn escalate(case: &Case, incident: &mut Incident, reason: &str, message: &str) {
    incident.hold = None;
    incident.escalation = Some(escalation(reason, message, case.now));
}
