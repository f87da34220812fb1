//! verify: what came of the attempt that an earlier reconcile made, and with it the story so far: which
//! incidents are open, which are over. A later look, never a sleep.

mod standing;
mod successors;

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{
    ActionType, Attempt, Cause, EVIDENCE_LIMIT, Effect, FollowUp, HISTORY_LIMIT, Incident, IncidentState,
    LastAction, Outcome, PastIncident, SUBJECTS_LIMIT, Severity, StepState, Subject, Time,
};

use crate::{
    Case, Diagnosis, Server, actions, attempt,
    catalogue::{Class, facts, own_rules},
    decide::{NO_AUTOMATIC_ACTION, leads_to},
    digest,
    finding::Finding,
    healthy, prohibition, revert,
    story::{RESPONSE_OVERDUE, Story, escalate, escalation, reach_of},
    time::after,
    words,
};
use standing::{Standing, may_be_in_force, standing};
use successors::{Successors, successors};

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
        pending: diagnosis.pending.clone(),
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
    close_gone_rules(case, &mut story);
    lapse_follow_ups(case, server.as_ref(), &mut story);
    merge_findings(case, diagnosis, &mut story);
    close_quiet(case, server.as_ref(), diagnosis, &mut story);
    order(diagnosis, &mut story);
    prohibition::verify(case, diagnosis, &mut story);
    reevaluate(case, server.as_ref(), diagnosis, &mut story);
    call_for_what_lies_outside(case, &mut story);
    if let Some(server) = &server {
        // What may become an incident is no proof of health either.
        let wrong = diagnosis.findings.iter().any(|one| speaks_against(case, server, one))
            || !diagnosis.pending.is_empty();
        let (target, look_again) = healthy::target_status(case, server, wrong);
        story.target = Some(target);
        if let Some(at) = look_again {
            story.look_again_at(at);
        }
    }
    story
}

/// Whether a finding keeps the template in force from becoming known good. SEV4 is advice; a certificate and
/// a schema that changed at run time are not the template's doing; nor is a SEV3 incident that was open
/// before its pods were created.
fn speaks_against(case: &Case, server: &Server, one: &Finding) -> bool {
    let created = server.current_pods().iter().map(|pod| pod.created).min();
    let is_older = || {
        let open = case.status.incidents.iter().find(|incident| one.is_of(incident));
        open.zip(created).is_some_and(|(open, created)| open.opened_at.0 < created)
    };
    let counts = match one.severity {
        Severity::SEV4 => false,
        Severity::SEV3 => !is_older(),
        _ => true,
    };
    counts && (facts(one.incident).speaks_against_template)(one)
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
    for incident in std::mem::take(&mut story.incidents) {
        close(case, story, incident, why);
    }
}

fn close(case: &Case, story: &mut Story, mut incident: Incident, why: &str) {
    if let Some(attempt) = incident.open_attempt_mut() {
        attempt::end(attempt, Outcome::Superseded, why.to_owned(), case.now);
        note_outcome(&mut story.last_action, attempt);
    }
    resolve(case, &mut story.history, incident, why.to_owned());
}

/// Closes the incidents whose rule is gone from the policy: nobody asks about them any more. What is half
/// done is carried out first, and what is in force for a time is taken back when that is over.
fn close_gone_rules(case: &Case, story: &mut Story) {
    let is_over = |incident: &mut Incident| {
        let half_done = incident.open_attempt().is_some_and(|one| one.has_begun() && !one.is_carried_out());
        own_rules::is_gone(case, incident)
            && incident.follow_ups.is_empty()
            && !half_done
            && revert::due(incident).is_none()
    };
    let gone: Vec<_> = story.incidents.extract_if(.., is_over).collect();
    for incident in gone {
        close(case, story, incident, "the rule was removed from the policy");
    }
}

fn judge_attempts(case: &Case, server: Option<&Server>, diagnosis: &Diagnosis, story: &mut Story) {
    let mut looks = Vec::new();
    let mut over = Vec::new();
    for incident in &mut story.incidents {
        let seen = Seen::of(case, server, diagnosis, incident);
        let Some(attempt) = incident.open_attempt_mut() else { continue };
        advance(case, server, attempt);
        let awaits_rollout = attempt.next_step().is_some_and(|step| step.effect == Effect::AwaitRollout);
        if !attempt.has_begun() || !(attempt.is_carried_out() || awaits_rollout) {
            continue;
        }
        match judge(case, server, &seen, attempt) {
            Judged::Pending(at) => looks.push(at),
            // What is left of it comes first: it may prove the opposite.
            Judged::Ended(Outcome::Improved, _) if awaits_rollout => {}
            Judged::Extended(at) => {
                attempt.extended = true;
                attempt.verify_at = Some(Time(at));
                looks.push(at);
            }
            Judged::Ended(outcome, message) => {
                attempt::end(attempt, outcome, message, case.now);
                note_outcome(&mut story.last_action, attempt);
                let attempt = attempt.clone();
                if let Some(why) = standing::unproven(case, &attempt) {
                    call_for_proof(case, incident, &attempt, &why);
                }
                // Where other pods still show it, the next step of the runbook follows.
                let is_over = outcome == Outcome::Improved && seen.finding.is_none();
                if is_over && settles(case, incident, &attempt) {
                    over.push((incident.id.clone(), helped_words(incident, &attempt)));
                }
            }
        }
    }
    for at in looks {
        story.look_again_at(at);
    }
    for (id, resolution) in over {
        if let Some(at) = story.incidents.iter().position(|incident| incident.id == id) {
            let incident = story.incidents.remove(at);
            resolve(case, &mut story.history, incident, resolution);
        }
    }
}

/// Moves an attempt on over steps that only let time pass, or of which nothing tells any more.
fn advance(case: &Case, server: Option<&Server>, attempt: &mut Attempt) {
    let generation = attempt.steps.iter().filter_map(|step| step.generation).max();
    while let Some(step) = attempt.steps.iter_mut().find(|step| step.state != StepState::Done) {
        let over = step.until.as_ref().is_some_and(|until| until.0 <= case.now);
        let is_done = match step.effect {
            Effect::Wait => over,
            Effect::AwaitRollout => server.is_some_and(|server| {
                server.is_rolled_out() && generation.is_none_or(|wanted| server.target.generation >= wanted)
            }),
            // It was begun by an operator that did not live to note the answer: at most once.
            _ => step.state == StepState::Started,
        };
        if !is_done {
            return;
        }
        if step.state == StepState::Started {
            step.note = Some("its answer is not known: the operator was restarted".to_owned());
        }
        step.state = StepState::Done;
        let patience = server.map_or(case.settings.settle, |server| server.target.progress_deadline);
        attempt::begin_wait(attempt, patience, case.now);
    }
}

/// What was done is in force, and its Job did not prove it: however quiet the signals are, the incident is a
/// person's, until the template is another one or the Job is gone.
fn call_for_proof(case: &Case, incident: &mut Incident, attempt: &Attempt, why: &str) {
    let message = format!("{why}; look at its log, then put a better template in force, or delete the Job");
    incident.evidence.insert(0, why.to_owned());
    incident.evidence.truncate(EVIDENCE_LIMIT);
    incident.escalation = Some(escalation("SmokeTestFailed", &message, case.now));
    incident.follow_ups.push(FollowUp { attempt: attempt.id.clone(), message, take_back_at: None });
}

/// Whether an incident is over with an attempt that helped. It is not where something temporary remains.
fn settles(case: &Case, incident: &mut Incident, attempt: &Attempt) -> bool {
    if let Some(undone) = &attempt.undoes {
        let before = incident.follow_ups.len();
        incident.follow_ups.retain(|one| &one.attempt != undone);
        // What made things worse was taken back: the fault that it was meant for is still there, or quiet
        // soon.
        return incident.follow_ups.is_empty() && before > 0;
    }
    if let Some(follow_up) = actions::follow_up(case, attempt) {
        incident.follow_ups.push(follow_up);
        incident.quiet_since = Some(Time(case.now));
        incident.escalation = None;
    }
    incident.follow_ups.is_empty()
}

fn helped_words(incident: &Incident, attempt: &Attempt) -> String {
    match &attempt.undoes {
        Some(undone) if incident.attempts.iter().any(|one| &one.id == undone) => {
            format!("{} was only for a time, and all stays well without it", attempt.action)
        }
        _ => format!("{} helped", attempt.action),
    }
}

/// What was temporary and is not in force any more needs no follow-up: whoever owns the server has changed
/// it. While the operator itself takes it back, it is being judged whether it can be done without.
fn lapse_follow_ups(case: &Case, server: Option<&Server>, story: &mut Story) {
    let Some(server) = server else { return };
    let mut looks = Vec::new();
    for incident in &mut story.incidents {
        let attempts = &incident.attempts;
        incident.follow_ups.retain(|one| {
            let attempt = attempts.iter().find(|attempt| attempt.id == one.attempt);
            let mut open = attempts.iter().filter(|attempt| attempt.outcome.is_none());
            open.any(|open| open.undoes.as_ref() == Some(&one.attempt))
                || attempt.is_some_and(|attempt| {
                    may_be_in_force(case, server, attempt) && !standing::job_is_gone(case, attempt)
                })
        });
        looks.extend(incident.follow_ups.iter().filter_map(|one| {
            let attempt = attempts.iter().find(|attempt| attempt.id == one.attempt);
            one.take_back_at.as_ref().map(|at| at.0).or_else(|| actions::watched_until(attempt?))
        }));
    }
    for at in looks.into_iter().filter(|at| *at > case.now) {
        story.look_again_at(at);
    }
}

/// What is seen at this moment of the fault that an attempt is meant to mend.
struct Seen<'a> {
    finding: Option<&'a Finding>,
    is_clear: bool,
    /// For how long the past still shows.
    reach: SignedDuration,
    /// What became of the pods that it evicted.
    successors: Successors,
}

impl<'a> Seen<'a> {
    fn of(case: &Case, server: Option<&Server>, diagnosis: &'a Diagnosis, incident: &Incident) -> Self {
        let finding = diagnosis.finding_of(incident);
        Self {
            finding,
            is_clear: diagnosis.is_clear(incident),
            reach: reach_of(case, incident),
            successors: successors(case, server, incident, finding.is_some()),
        }
    }
}

/// How often the successors of evicted pods are looked at: an answer of one pod changes no verdict of its
/// own.
const SUCCESSORS_LOOK: SignedDuration = SignedDuration::from_secs(5);

/// Judges one attempt that was carried out.
fn judge(case: &Case, server: Option<&Server>, seen: &Seen, attempt: &Attempt) -> Judged {
    let now = case.now;
    // A rollout that what is left of the attempt waits for has a time of its own.
    let awaited = attempt.next_step().filter(|step| step.effect == Effect::AwaitRollout);
    let rollout = awaited.and_then(|step| step.until.as_ref()).filter(|_| !attempt.extended);
    let deadline = attempt.verify_at.iter().chain(rollout).map(|at| at.0).min().unwrap_or(now);
    let without_evidence = || without_evidence(case, attempt, deadline);
    let Some(server) = server else { return without_evidence() };
    let generation = attempt.steps.iter().filter_map(|step| step.generation).max();
    if generation.is_some_and(|generation| server.target.generation < generation) {
        // What is seen is older than what was done.
        return without_evidence();
    }
    match standing(case, server, attempt) {
        Standing::Ours => {}
        Standing::Unknown => return without_evidence(),
        Standing::Reverted(by) => return Judged::Ended(Outcome::Reverted, by),
        Standing::Overtaken(by) => return Judged::Ended(Outcome::Superseded, by),
    }
    let failed = |why: String| failed(server, attempt, &why);
    let finding = seen.finding;
    // Pods that were made by this attempt show the same fault: no need to wait for the deadline. (They may
    // have been made within the second in which it was recorded; those before it have taken longer to be
    // found.)
    let shown_by_new_pods = finding
        .filter(|finding| finding.youngest_pod.is_some_and(|created| created >= attempt.recorded_at.0))
        .and_then(|finding| finding.evidence.first());
    if let Some(evidence) = shown_by_new_pods {
        return failed(evidence.clone());
    }
    // Its Job comes after the rollout.
    let proof = if awaited.is_some() { standing::Proof::None } else { standing::job(case, attempt) };
    match proof {
        standing::Proof::None | standing::Proof::Good => {}
        standing::Proof::Awaited if now < deadline => return Judged::Pending(deadline),
        standing::Proof::Awaited => return without_evidence(),
        standing::Proof::Bad(job) => return failed(format!("Job {job} failed")),
    }
    if finding.is_none() && server.is_rolled_out() {
        if !seen.is_clear {
            // Its rule cannot see, or suspects it still: that is not well yet.
            return without_evidence();
        }
        let since = server.ready_since().unwrap_or(now).max(attempt.recorded_at.0);
        let settled = after(since, case.settings.settle.max(seen.reach));
        return if settled <= now {
            Judged::Ended(Outcome::Improved, helped(server, attempt, since))
        } else {
            Judged::Pending(settled)
        };
    }
    if (finding.is_some() || seen.is_clear)
        && let Some(judged) = judge_successors(case, seen, deadline)
    {
        return judged;
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

/// Where nothing tells how an attempt did: it has its time, once more, and is then over.
fn without_evidence(case: &Case, attempt: &Attempt, deadline: Timestamp) -> Judged {
    if case.now < deadline {
        Judged::Pending(deadline)
    } else if attempt.extended {
        Judged::Ended(Outcome::Inconclusive, "there was no evidence to judge it by".to_owned())
    } else {
        Judged::Extended(after(case.now, case.settings.settle.saturating_mul(4)))
    }
}

fn failed(server: &Server, attempt: &Attempt, why: &str) -> Judged {
    let ready = server.ready_replicas();
    // Pods that were lost with their node since are not the action's doing.
    let ready_or_lost = ready.saturating_add(i32::try_from(server.lost.len()).unwrap_or(i32::MAX));
    let outcome = if ready_or_lost < attempt.ready_before { Outcome::Worse } else { Outcome::NoChange };
    Judged::Ended(outcome, format!("{why}; {ready} pods are ready, {} were before", attempt.ready_before))
}

fn helped(server: &Server, attempt: &Attempt, since: Timestamp) -> String {
    if actions::touches(attempt.action).sessions {
        return "what it was done for is not found any more, and no pod was touched".to_owned();
    }
    let (ready, desired) = (server.ready_replicas(), server.target.desired);
    format!("{ready} of {desired} pods ready since {}", words::moment(since))
}

/// Other pods still show the fault, or another one: what became of the evicted ones decides, as soon as that
/// is known.
fn judge_successors(case: &Case, seen: &Seen, deadline: Timestamp) -> Option<Judged> {
    match seen.successors {
        Successors::NotJudged => None,
        Successors::Awaited => {
            let again = after(case.now, SUCCESSORS_LOOK).min(deadline);
            (case.now < deadline).then_some(Judged::Pending(again))
        }
        Successors::Well(since) => {
            let settled = after(since, case.settings.settle);
            if settled > case.now {
                return Some(Judged::Pending(settled));
            }
            let others = match seen.finding {
                Some(_) => "other pods still show the fault",
                None => "another pod is not ready for a fault of its own",
            };
            let words = format!(
                "what took the place of the evicted pod is well since {}; {others}",
                words::moment(since)
            );
            Some(Judged::Ended(Outcome::Improved, words))
        }
    }
}

fn note_outcome(last_action: &mut Option<LastAction>, attempt: &Attempt) {
    if let Some(last) = last_action.as_mut().filter(|last| last.attempt == attempt.id) {
        last.outcome = attempt.outcome;
    }
}

/// Opens an incident for each finding that has none, and brings those that have one up to date.
fn merge_findings(case: &Case, diagnosis: &Diagnosis, story: &mut Story) {
    for finding in &diagnosis.findings {
        let known = story.incidents.iter_mut().find(|incident| finding.is_of(incident));
        let Some(incident) = known else {
            story.incidents.push(open(case, finding));
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
        if prohibition::stays(case, incident, finding) {
            continue;
        }
        incident.forbids = finding.forbids.to_vec();
        // Of the server itself, the same fault on other pods is the same story.
        let is_of_others = class.is_outside() || class.is_told();
        let is_about_others = is_of_others && subjects(finding) != incident.subjects;
        // While an attempt is judged, the story stays what it was begun for.
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

/// Closes the incidents whose rule has been saying for long enough that all is well. A rule that cannot see
/// closes nothing.
fn close_quiet(case: &Case, server: Option<&Server>, diagnosis: &Diagnosis, story: &mut Story) {
    let well = server.is_some_and(|server| server.target.desired == 0 || server.is_rolled_out());
    let mut over = Vec::new();
    let mut looks = Vec::new();
    for incident in &mut story.incidents {
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
        story.look_again_at(at);
    }
    for id in over {
        if let Some(at) = story.incidents.iter().position(|incident| incident.id == id) {
            let incident = story.incidents.remove(at);
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
                        "{} was only for the time being: its owner has changed the server since, and all is well",
                        attempt.action
                    )
                }
                (Some(attempt), _) => format!("all is well again, some time after {}", attempt.action),
                (None, None) => "all is well again, without an action of the operator".to_owned(),
            };
            resolve(case, &mut story.history, incident, resolution);
        }
    }
}

/// It helped, and wanted something for good to follow.
fn was_for_a_time(case: &Case, attempt: &Attempt) -> bool {
    attempt.outcome == Some(Outcome::Improved) && actions::follow_up(case, attempt).is_some()
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

/// The primary incident first: the one that an attempt is under way for; else the one whose attempt made
/// things worse, because what else is found may come of that; else the one of the primary finding. The others
/// follow from it.
fn order(diagnosis: &Diagnosis, story: &mut Story) {
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
    story.incidents.sort_by_key(place);
    let primary = story.primary().map(|incident| incident.id.clone());
    for (rank, incident) in story.incidents.iter_mut().enumerate() {
        // What is mitigated, or outside the server, is a fault of its own, and waits for its own mending.
        let is_of_its_own = incident.is_mitigated() || incident.incident_type.is_outside();
        incident.caused_by = primary.clone().filter(|_| rank > 0 && !is_of_its_own);
        if rank > 0 {
            incident.hold = None;
        }
    }
}

/// What lies outside the server follows from nothing in it: where it is not the primary, a person is called
/// for it when its own answer is due.
fn call_for_what_lies_outside(case: &Case, story: &mut Story) {
    let mut looks = Vec::new();
    for incident in story.incidents.iter_mut().skip(1) {
        if !incident.incident_type.is_outside() || incident.escalation.is_some() || incident.is_answered() {
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
        story.look_again_at(at);
    }
}

/// How often an incident is judged again after an escalation: what changes back and forth is not a new
/// finding.
const REEVALUATIONS: i32 = 3;
/// Reasons of escalations that no other cause takes back.
const FINAL: [&str; 7] = [
    "LockedOut",
    "AttemptsExhausted",
    "Flapping",
    "MadeThingsWorse",
    "NeededForGood",
    "Reverted",
    "SmokeTestFailed",
];

/// An escalation was for what was found then. Where the cause is another one now, or evidence is back that
/// was missing, the incident is judged again: the escalation stays on record, and what was tried counts.
fn reevaluate(case: &Case, server: Option<&Server>, diagnosis: &Diagnosis, story: &mut Story) {
    for incident in &mut story.incidents {
        let is_blamed = server.is_some_and(|server| is_blamed_since(case, server, incident));
        let is_found = diagnosis.finding_of(incident).is_some() && incident.unseen_since.is_none();
        let may = is_found
            && incident.is_escalated()
            && incident.open_attempt().is_none()
            && !incident.incident_type.is_outside()
            && incident.reevaluations < REEVALUATIONS;
        let Some(escalation) = incident.escalation.as_mut().filter(|_| may) else { continue };
        // That the reason is not seen any more is no new reason.
        let tells_nothing =
            matches!(incident.cause, Cause::ProcessExit | Cause::NotReady | Cause::NeverHealthy);
        let is_other = !tells_nothing && escalation.cause.is_some_and(|cause| cause != incident.cause);
        let is_back = escalation.reason == prohibition::UNVERIFIED;
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
