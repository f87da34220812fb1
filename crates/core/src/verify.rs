//! verify: judges what an earlier reconcile did, in a later look, never by a sleep; and continues the
//! incidents with what is found now.

mod escalated;
mod judge;
mod standing;
mod successors;

use mcp_health_api::{
    Attempt, EVIDENCE_LIMIT, Effect, FollowUp, Incident, Outcome, Severity, StepState, Time,
};

use crate::{
    Case, Diagnosis, Server, StatusDraft, actions, attempt,
    catalogue::facts,
    escalation::{SMOKE_TEST_FAILED, escalation},
    finding::Finding,
    healthy, incident, prohibition,
};
use judge::{Assessment, FaultNow, judge};
use standing::{job_is_gone, may_be_in_force, unproven};

/// Continues the draft from the status: judges the open attempt, merges what is found, closes what is over.
pub fn verify(case: &Case, diagnosis: &Diagnosis) -> StatusDraft {
    let mut draft = StatusDraft {
        incidents: case.status.incidents.clone(),
        history: case.status.history.clone(),
        last_action: case.status.last_action.clone(),
        target: case.status.target.clone(),
        pending: diagnosis.pending.clone(),
        look_again: diagnosis.look_again,
    };
    if let Some(end) = incident::target_is_another(case) {
        incident::close_all(case, &mut draft, end);
        draft.target = None;
    }
    if case.signals.rival.is_some() {
        // Two objects with the same incident would page twice, and neither would know of the other's actions.
        incident::close_all(case, &mut draft, "another object is in charge of the target");
    }
    let server = Server::of(case);
    judge_attempts(case, server.as_ref(), diagnosis, &mut draft);
    incident::close_gone_rules(case, &mut draft);
    lapse_follow_ups(case, server.as_ref(), &mut draft);
    incident::merge(case, diagnosis, &mut draft);
    incident::close_quiet(case, server.as_ref(), diagnosis, &mut draft);
    incident::order(diagnosis, &mut draft);
    prohibition::verify(case, diagnosis, &mut draft);
    escalated::reevaluate(case, server.as_ref(), diagnosis, &mut draft);
    escalated::call_for_what_lies_outside(case, &mut draft);
    if let Some(server) = &server {
        // What may become an incident is no proof of health either.
        let wrong = diagnosis.findings.iter().any(|one| speaks_against(case, server, one))
            || !diagnosis.pending.is_empty();
        let (target, look_again) = healthy::target_status(case, server, wrong);
        draft.target = Some(target);
        if let Some(at) = look_again {
            draft.look_again_at(at);
        }
    }
    draft
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

fn judge_attempts(case: &Case, server: Option<&Server>, diagnosis: &Diagnosis, draft: &mut StatusDraft) {
    let mut looks = Vec::new();
    let mut over = Vec::new();
    for incident in &mut draft.incidents {
        let seen = FaultNow::of(case, server, diagnosis, incident);
        let Some(attempt) = incident.open_attempt_mut() else { continue };
        advance(case, server, attempt);
        let awaits_rollout = attempt.next_step().is_some_and(|step| step.effect == Effect::AwaitRollout);
        if !attempt.has_begun() || !(attempt.is_carried_out() || awaits_rollout) {
            continue;
        }
        match judge(case, server, &seen, attempt) {
            Assessment::Pending(at) => looks.push(at),
            // What is left of it comes first: it may prove the opposite.
            Assessment::Ended(Outcome::Improved, _) if awaits_rollout => {}
            Assessment::Extended(at) => {
                attempt.extended = true;
                attempt.verify_at = Some(Time(at));
                looks.push(at);
            }
            Assessment::Ended(outcome, message) => {
                attempt::end(attempt, outcome, message, case.now);
                attempt::note_outcome(&mut draft.last_action, attempt);
                let attempt = attempt.clone();
                if let Some(why) = unproven(case, &attempt) {
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
        draft.look_again_at(at);
    }
    for (id, resolution) in over {
        if let Some(at) = draft.incidents.iter().position(|incident| incident.id == id) {
            let incident = draft.incidents.remove(at);
            incident::resolve(case, &mut draft.history, incident, resolution);
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
    incident.escalation = Some(escalation(SMOKE_TEST_FAILED, &message, case.now));
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
fn lapse_follow_ups(case: &Case, server: Option<&Server>, draft: &mut StatusDraft) {
    let Some(server) = server else { return };
    let mut looks = Vec::new();
    for incident in &mut draft.incidents {
        let attempts = &incident.attempts;
        incident.follow_ups.retain(|one| {
            let attempt = attempts.iter().find(|attempt| attempt.id == one.attempt);
            let mut open = attempts.iter().filter(|attempt| attempt.outcome.is_none());
            open.any(|open| open.undoes.as_ref() == Some(&one.attempt))
                || attempt.is_some_and(|attempt| {
                    may_be_in_force(case, server, attempt) && !job_is_gone(case, attempt)
                })
        });
        looks.extend(incident.follow_ups.iter().filter_map(|one| {
            let attempt = attempts.iter().find(|attempt| attempt.id == one.attempt);
            one.take_back_at.as_ref().map(|at| at.0).or_else(|| actions::watched_until(attempt?))
        }));
    }
    for at in looks.into_iter().filter(|at| *at > case.now) {
        draft.look_again_at(at);
    }
}
