//! Reverts: an action that made things worse is reverted, once, as soon as nothing holds that. A revert that is due is
//! held, never dropped, until it is done or what it would revert is not ours any more.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{Attempt, Effect, Incident, Outcome};

use crate::{Case, Server, actions, actions::Plan, escalation::MADE_THINGS_WORSE, time::after};

/// The first pause after the API server refused a revert; it doubles.
const REFUSED_PAUSE: SignedDuration = SignedDuration::from_mins(1);
/// The longest of these pauses is 64 times the first: about an hour.
const MOST_DOUBLINGS: usize = 6;

/// The attempt whose revert is due: the last one that touched the server made things worse. An escalation that says that
/// no revert is possible ends that; any other does not.
pub(crate) fn due(incident: &Incident) -> Option<&Attempt> {
    let is_final = incident.escalation.as_ref().is_some_and(|one| one.reason == MADE_THINGS_WORSE);
    let last = incident.attempts.iter().rev().find(|attempt| attempt.is_spent())?;
    let worse = last.outcome == Some(Outcome::Worse) && last.undoes.is_none();
    (worse && !is_final).then_some(last)
}

/// What can be done about an attempt that is to be reverted.
pub(crate) enum Revert {
    /// This.
    Possible(Box<Plan>),
    /// What it would revert cannot be seen: why.
    Unknown(String),
    /// Nothing: it left nothing behind, or what it did is not ours any more.
    Impossible,
}

/// Plans the one revert that an attempt may have.
pub(crate) fn plan(case: &Case, server: &Server, incident: &Incident, attempt: &Attempt) -> Revert {
    let is_reverted =
        incident.attempts.iter().any(|one| one.undoes.as_ref() == Some(&attempt.id) && one.is_spent());
    if is_reverted {
        return Revert::Impossible;
    }
    if let Some(plan) = actions::plan_undo(case, server, attempt) {
        return Revert::Possible(Box::new(plan));
    }
    let changed_config = attempt.steps.iter().any(|step| step.effect == Effect::RestoreConfig);
    match case.signals.configs.problem("its ConfigMaps").filter(|_| changed_config) {
        Some(problem) => Revert::Unknown(problem),
        None => Revert::Impossible,
    }
}

/// When a revert that the API server refused, or of which nothing could be told, is tried again.
pub(crate) fn refused_until(incident: &Incident) -> Option<Timestamp> {
    let mut refused = incident.attempts.iter().rev().take_while(|one| {
        let is_not_done = matches!(one.outcome, Some(Outcome::Refused | Outcome::Failed));
        one.undoes.is_some() && is_not_done && !one.is_spent()
    });
    let last = refused.next()?.finished_at.as_ref()?.0;
    let doublings = refused.count().min(MOST_DOUBLINGS);
    Some(after(last, REFUSED_PAUSE.saturating_mul(1 << doublings)))
}
