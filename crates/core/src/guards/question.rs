//! What guards are asked, what they answer, and what several of them count.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{Attempt, Incident};

use crate::{Case, Diagnosis, Fleet, Server, actions::Plan, signals::RecordedAction};

/// May this be done, here and now?
#[derive(Clone, Copy, Debug)]
pub struct GuardQuestion<'a> {
    /// The server and the moment.
    pub case: &'a Case<'a>,
    /// The server, as seen.
    pub server: &'a Server<'a>,
    /// What is found wrong with it.
    pub diagnosis: &'a Diagnosis,
    /// All open incidents of the server.
    pub incidents: &'a [Incident],
    /// The one to act on.
    pub incident: &'a Incident,
    /// What would be done.
    pub plan: &'a Plan,
    /// The attempt, where it is recorded already and asked about again after a restart.
    pub resumed: Option<&'a Attempt>,
    /// The actions on this server in the last day, oldest first, without the one in question.
    pub past: &'a [RecordedAction],
    /// What happens on other servers.
    pub fleet: &'a Fleet,
}

/// A guard's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardAnswer {
    /// Nothing against it.
    Permit,
    /// Not now.
    Hold {
        /// In one word.
        reason: &'static str,
        /// In a sentence.
        message: String,
        /// When it lifts by itself, if it does.
        until: Option<Timestamp>,
    },
    /// Not this action, here: the runbook's next step, or a person.
    Refuse {
        /// In one word.
        reason: &'static str,
        /// In a sentence.
        message: String,
    },
}

impl GuardAnswer {
    pub(super) fn hold(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Hold { reason, message: message.into(), until: None }
    }

    pub(super) fn hold_until(reason: &'static str, message: impl Into<String>, until: Timestamp) -> Self {
        Self::Hold { reason, message: message.into(), until: Some(until) }
    }

    pub(super) fn refuse(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Refuse { reason, message: message.into() }
    }
}

/// An hour, the window of the limits.
pub(super) const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// The actions of the last hour that hour limits count: all but reverts.
pub(super) fn counted<'a>(question: &'a GuardQuestion) -> impl Iterator<Item = &'a RecordedAction> {
    of_the_last_hour(question).filter(|action| action.undoes.is_none())
}

/// The actions of the last hour.
pub(super) fn of_the_last_hour<'a>(question: &'a GuardQuestion) -> impl Iterator<Item = &'a RecordedAction> {
    let now = question.case.now;
    question.past.iter().filter(move |action| now.duration_since(action.at) < HOUR)
}
