//! record: an intent becomes an attempt on its incident before anything is touched; and what acting on it
//! came to. An attempt's steps go `Recorded → Done`, one effect each.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{
    ATTEMPTS_LIMIT, Attempt, Duration, Effect, Incident, LastAction, Outcome, StepState, Time,
};

use crate::{
    Case, Server, StatusDraft,
    actions::{Answers, Plan, Stop, run_job, stop, touches},
    catalogue::reach_of,
    escalation::{STEP_OVERDUE, escalation},
    signals::RecordedAction,
    time::after,
};

/// How long actions are remembered on the target: the longest window of a limit, and some.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);
/// After an attempt that came too late, the world is looked at again.
const SUPERSEDED_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// How long it is tried to tell whether a step took place, from when it could be carried out.
const STEP_DEADLINE: SignedDuration = SignedDuration::from_mins(10);
/// The most actions that are remembered on the target.
const REMEMBERED_MOST: usize = 60;

/// What acting came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acted {
    /// These steps took place, in order, from the first that was not done. Those that are left want a record
    /// of their own first, or time.
    Done(Vec<Effected>),
    /// The world had changed; nothing more was touched.
    Superseded(String),
    /// The API server refused; nothing more was touched.
    Refused {
        /// In one word.
        reason: String,
        /// In a sentence.
        message: String,
    },
    /// It could not be told in time whether the next step took place: why.
    Failed(String),
}

/// What one step came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effected {
    /// The target's generation after it, where it changed the target.
    pub generation: Option<i64>,
    /// Digest of the target's template after it, where it changed that.
    pub template: Option<String>,
    /// What is worth saying.
    pub note: Option<String>,
    /// What the pods answered, where a hook was called.
    pub answers: Option<Answers>,
}

/// Adds the intent to the incident, and returns the attempt's id.
pub fn record(case: &Case, server: &Server, incident: &mut Incident, plan: &Plan) -> String {
    let number = incident
        .attempts
        .last()
        .and_then(|last| last.id.rsplit('-').next()?.parse::<u32>().ok())
        .unwrap_or_default()
        .saturating_add(1);
    let id = format!("{}-{number}", incident.id);
    incident.attempts.push(Attempt {
        id: id.clone(),
        action: plan.action,
        undoes: plan.undoes.clone(),
        why: plan.why.clone(),
        recorded_at: Time(case.now),
        ready_before: server.ready_replicas(),
        steps: plan.steps.clone(),
        verify_at: None,
        extended: false,
        outcome: None,
        message: None,
        finished_at: None,
    });
    if incident.attempts.len() > ATTEMPTS_LIMIT {
        let unspent = incident.attempts.iter().position(|attempt| !attempt.is_spent()).unwrap_or(0);
        incident.attempts.remove(unspent);
    }
    incident.hold = None;
    id
}

impl StatusDraft {
    /// Notes that the next step of the open attempt begins, if nothing would tell afterwards. True where that
    /// is to be written before it does.
    pub fn begin_step(&mut self) -> bool {
        let attempt = self.incidents.iter_mut().find_map(Incident::open_attempt_mut);
        let step = attempt.and_then(|one| one.steps.iter_mut().find(|step| step.state != StepState::Done));
        let Some(step) = step.filter(|step| step.effect.is_untraceable()) else { return false };
        step.state = StepState::Started;
        true
    }

    /// Notes that the step that was about to begin was not sent.
    pub fn step_not_begun(&mut self) {
        let attempt = self.incidents.iter_mut().find_map(Incident::open_attempt_mut);
        let step = attempt.and_then(|one| one.steps.iter_mut().find(|step| step.state == StepState::Started));
        if let Some(step) = step {
            step.state = StepState::Recorded;
        }
    }

    /// Notes what acting on the open attempt came to.
    pub fn acted(&mut self, case: &Case, server: Option<&Server>, acted: &Acted) {
        let now = case.now;
        let Some(incident) = self.incidents.iter_mut().find(|incident| incident.open_attempt().is_some())
        else {
            return;
        };
        let reach = reach_of(case, incident);
        let Some(attempt) = incident.open_attempt_mut() else { return };
        match acted {
            Acted::Done(effects) => {
                let undone = attempt.steps.iter_mut().filter(|step| step.state != StepState::Done);
                for (step, effect) in undone.zip(effects) {
                    step.state = StepState::Done;
                    step.generation = effect.generation.or(step.generation);
                    step.template = effect.template.clone().or_else(|| step.template.take());
                    step.note = effect.note.clone().or_else(|| step.note.take());
                }
                let patience = patience(case, server, attempt);
                begin_wait(attempt, patience, now);
                let until = after(deadline(case, patience, attempt), reach);
                attempt.verify_at = Some(Time(until));
                if self.last_action.as_ref().is_none_or(|last| last.attempt != attempt.id) {
                    self.last_action = Some(LastAction {
                        action: attempt.action,
                        at: attempt.recorded_at.clone(),
                        attempt: attempt.id.clone(),
                        undoes: attempt.undoes.clone(),
                        from: attempt.steps.iter().find_map(|step| step.from.clone()),
                        outcome: None,
                    });
                }
                let again = if attempt.is_carried_out() { until } else { now };
                let answers = effects.iter().filter_map(|effect| effect.answers).next_back();
                if let Some(Stop { why, half_way }) = answers.and_then(|answers| stop(attempt, answers)) {
                    end(attempt, Outcome::NoChange, why.clone(), now);
                    note_outcome(&mut self.last_action, attempt);
                    if half_way {
                        incident.escalation = Some(escalation("HookFailed", &why, now));
                    }
                    self.look_again_at(now);
                }
                self.look_again_at(again);
            }
            Acted::Superseded(why) => {
                end(attempt, Outcome::Superseded, why.clone(), now);
                // What got in between is on its way to the tables, and need not change a verdict.
                let soon = after(now, SUPERSEDED_PAUSE);
                self.look_again_at(soon);
            }
            Acted::Refused { reason, message } => {
                end(attempt, Outcome::Refused, message.clone(), now);
                // A revert is tried again; on-call is notified once.
                if incident.escalation.as_ref().is_none_or(|one| &one.reason != reason) {
                    incident.escalation = Some(escalation(reason, message, now));
                }
            }
            Acted::Failed(why) => {
                let message = format!(
                    "it is not known whether {} took place, {} minutes after it could: {why}",
                    attempt.id,
                    STEP_DEADLINE.as_mins()
                );
                end(attempt, Outcome::Failed, message.clone(), now);
                note_outcome(&mut self.last_action, attempt);
                if incident.escalation.as_ref().is_none_or(|one| one.reason != STEP_OVERDUE) {
                    incident.escalation = Some(escalation(STEP_OVERDUE, &message, now));
                }
            }
        }
    }
}

/// When an attempt is judged at the latest: the rollout has its time, a Job its own, and what is seen then
/// settles. How long what an attempt does may take to show. Where no pod is touched, none is waited for.
fn patience(case: &Case, server: Option<&Server>, attempt: &Attempt) -> SignedDuration {
    let postgres = case.spec.signals.postgres.as_ref().filter(|_| touches(attempt.action).sessions);
    if let Some(postgres) = postgres {
        return postgres.interval.span().saturating_mul(4).max(SignedDuration::from_mins(1));
    }
    server.map_or(SignedDuration::from_mins(10), |server| server.target.progress_deadline)
}

fn deadline(case: &Case, patience: SignedDuration, attempt: &Attempt) -> Timestamp {
    let job = attempt.steps.iter().any(|step| step.effect == Effect::RunJob);
    let patience = if job { patience.saturating_add(run_job::PATIENCE) } else { patience };
    after(case.now, patience.saturating_add(case.settings.settle))
}

/// Whether the next step of an attempt could have been carried out for so long that it is given up where it
/// cannot be told what became of it: since the record, or since the last of its waits was over.
pub fn is_overdue(attempt: &Attempt, now: Timestamp) -> bool {
    let waits = attempt.steps.iter().filter_map(|step| step.until.as_ref()).map(|until| until.0);
    let since = waits.fold(attempt.recorded_at.0, Timestamp::max);
    now.duration_since(since) > STEP_DEADLINE
}

/// If the next step lets time pass, its time begins now.
pub fn begin_wait(attempt: &mut Attempt, patience: SignedDuration, now: Timestamp) {
    let Some(step) = attempt.steps.iter_mut().find(|step| step.state != StepState::Done) else { return };
    let span = match step.effect {
        Effect::Wait => step.to.as_deref().and_then(|text| text.parse::<Duration>().ok()).map(Duration::span),
        Effect::AwaitRollout => Some(patience),
        _ => None,
    };
    if let (Some(span), None) = (span, &step.until) {
        step.until = Some(Time(after(now, span)));
    }
}

/// Ends an attempt.
pub fn end(attempt: &mut Attempt, outcome: Outcome, message: String, now: Timestamp) {
    attempt.outcome = Some(outcome);
    attempt.message = Some(message);
    attempt.finished_at = Some(Time(now));
}

/// Notes how the last action ended.
pub(crate) fn note_outcome(last_action: &mut Option<LastAction>, attempt: &Attempt) {
    if let Some(last) = last_action.as_mut().filter(|last| last.attempt == attempt.id) {
        last.outcome = attempt.outcome;
    }
}

/// The actions on this server that limits count, oldest first: those that the target remembers, and those
/// of the status; without `except`.
pub fn past_actions(
    case: &Case,
    server: &Server,
    incidents: &[Incident],
    except: Option<&str>,
) -> Vec<RecordedAction> {
    let of_status =
        incidents.iter().flat_map(|incident| &incident.attempts).filter(|attempt| attempt.is_spent());
    let of_status = of_status.map(|attempt| RecordedAction {
        id: attempt.id.clone(),
        action: attempt.action,
        at: attempt.recorded_at.0,
        undoes: attempt.undoes.clone(),
    });
    let last = case.status.last_action.iter().map(|last| RecordedAction {
        id: last.attempt.clone(),
        action: last.action,
        at: last.at.0,
        undoes: last.undoes.clone(),
    });
    let mut past: Vec<RecordedAction> =
        server.target.actions.iter().cloned().chain(of_status).chain(last).collect();
    past.retain(|action| {
        Some(action.id.as_str()) != except && case.now.duration_since(action.at) < REMEMBERED
    });
    past.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    past.dedup_by(|a, b| a.id == b.id);
    past
}

/// What the target is to remember, once `attempt` has changed it.
pub fn remembered(before: &[RecordedAction], attempt: &Attempt) -> Vec<RecordedAction> {
    let at = attempt.recorded_at.0;
    let mut actions: Vec<RecordedAction> = before
        .iter()
        .filter(|action| action.id != attempt.id && at.duration_since(action.at) < REMEMBERED)
        .cloned()
        .collect();
    actions.push(RecordedAction {
        id: attempt.id.clone(),
        action: attempt.action,
        at,
        undoes: attempt.undoes.clone(),
    });
    if actions.len() > REMEMBERED_MOST {
        actions.drain(..actions.len() - REMEMBERED_MOST);
    }
    actions
}
