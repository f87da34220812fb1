//! The draft of a status: what it will tell of a server, before and after the decision.

use jiff::Timestamp;
use mcp_health_api::{Attempt, Incident, LastAction, PastIncident, Pending, TargetStatus};

use crate::catalogue::facts;

/// Everything that the status will tell, before anything new is decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusDraft {
    /// Open incidents; the primary one first.
    pub incidents: Vec<Incident>,
    /// Resolved ones, newest first.
    pub history: Vec<PastIncident>,
    /// The last action.
    pub last_action: Option<LastAction>,
    /// The target.
    pub target: Option<TargetStatus>,
    /// What may become an incident if it lasts.
    pub pending: Vec<Pending>,
    /// When to look again though nothing changes.
    pub look_again: Option<Timestamp>,
}

impl StatusDraft {
    /// The one incident that may act.
    pub fn primary(&self) -> Option<&Incident> {
        self.incidents.first()
    }

    /// The one incident that may act, to be changed.
    pub fn primary_mut(&mut self) -> Option<&mut Incident> {
        self.incidents.first_mut()
    }

    /// The incident that wants an answer first: what follows from the primary one may be worse than it.
    pub fn most_urgent(&self) -> Option<&Incident> {
        let primary = self.primary().map(|primary| primary.id.as_str());
        // What lies outside the server has a pace of its own.
        let counts = |one: &&Incident| {
            Some(one.id.as_str()) == primary || !facts(one.incident_type).class.is_outside()
        };
        let waiting = self.incidents.iter().filter(|one| !one.is_answered());
        waiting.filter(counts).min_by_key(|one| one.respond_by.0)
    }

    /// The attempt under way: of the primary incident, or of none.
    pub fn open_attempt(&self) -> Option<&Attempt> {
        self.primary()?.open_attempt()
    }

    pub(crate) fn look_again_at(&mut self, at: Timestamp) {
        self.look_again = Some(self.look_again.map_or(at, |look| look.min(at)));
    }
}
