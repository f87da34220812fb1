//! record: an intent becomes an attempt on its incident before anything is touched; and what acting on it
//! came to. An attempt's steps go `Recorded → Done`, one effect each.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ATTEMPTS_LIMIT, Attempt, Incident, LastAction, Outcome, StepState, Time};

use crate::{Case, Server, Story, actions::Plan, signals::RecordedAction};

/// How long actions are remembered on the target: the longest window of a limit, and some.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);
/// After an attempt that came too late, the world is looked at again.
const SUPERSEDED_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// The most actions that are remembered on the target.
const REMEMBERED_MOST: usize = 60;

/// What acting came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acted {
    /// Every step took place.
    Done {
        /// The target's generation after it.
        generation: i64,
    },
    /// The world had changed; nothing was touched.
    Superseded(String),
    /// The API server refused; nothing was touched.
    Refused {
        /// In one word.
        reason: String,
        /// In a sentence.
        message: String,
    },
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

impl Story {
    /// Notes what acting on the open attempt came to.
    pub fn acted(&mut self, case: &Case, server: Option<&Server>, acted: &Acted) {
        let now = case.now;
        let Some(incident) = self.incidents.iter_mut().find(|incident| incident.open_attempt().is_some())
        else {
            return;
        };
        let Some(attempt) = incident.open_attempt_mut() else { return };
        match acted {
            Acted::Done { generation } => {
                for step in &mut attempt.steps {
                    step.state = StepState::Done;
                    step.generation = Some(*generation);
                }
                let patience =
                    server.map_or(SignedDuration::from_mins(10), |server| server.target.progress_deadline);
                let until = now.saturating_add(patience.saturating_add(case.settings.settle)).unwrap_or(now);
                attempt.verify_at = Some(Time(until));
                let from = attempt.steps.first().and_then(|step| step.from.clone());
                self.last_action = Some(LastAction {
                    action: attempt.action,
                    at: attempt.recorded_at.clone(),
                    attempt: attempt.id.clone(),
                    from,
                    outcome: None,
                });
                self.look_again_at(until);
            }
            Acted::Superseded(why) => {
                end(attempt, Outcome::Superseded, why.clone(), now);
                // What got in between is on its way to the tables, and need not change a verdict.
                let soon = now.saturating_add(SUPERSEDED_PAUSE).unwrap_or(now);
                self.look_again_at(soon);
            }
            Acted::Refused { reason, message } => {
                end(attempt, Outcome::Refused, message.clone(), now);
                incident.escalation = Some(crate::report::escalation(reason, message, now));
            }
        }
    }
}

/// Ends an attempt.
pub fn end(attempt: &mut Attempt, outcome: Outcome, message: String, now: Timestamp) {
    attempt.outcome = Some(outcome);
    attempt.message = Some(message);
    attempt.finished_at = Some(Time(now));
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
    });
    let last = case.status.last_action.iter().map(|last| RecordedAction {
        id: last.attempt.clone(),
        action: last.action,
        at: last.at.0,
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
    actions.push(RecordedAction { id: attempt.id.clone(), action: attempt.action, at });
    if actions.len() > REMEMBERED_MOST {
        actions.drain(..actions.len() - REMEMBERED_MOST);
    }
    actions
}
