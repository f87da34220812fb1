//! What can be done to a server: one file an action. Each turns a situation into a plan of steps with one
//! effect each, and says what it touches. Plans are carried out by the operator, fenced by what they record.

mod rollback;
mod rollout_restart;

use jiff::Timestamp;
use mcp_health_api::{ActionType, Attempt, Effect, Incident, Step, StepState};

use crate::{Case, Server, signals::Target};

/// What would be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The action.
    pub action: ActionType,
    /// What it comes down to, as a sentence without a subject: `roll back to …`.
    pub what: String,
    /// Why, as a sentence.
    pub why: String,
    /// The effects, in order.
    pub steps: Vec<Step>,
    /// The attempt that it takes back.
    pub undoes: Option<String>,
}

/// Whether an action can be planned.
#[derive(Clone, Debug, PartialEq)]
pub enum Planned {
    /// It can.
    Ready(Plan),
    /// Not yet: look again then.
    Later {
        /// The time of the next look.
        until: Timestamp,
        /// What is waited for.
        why: String,
    },
    /// It cannot, here: reason and sentence.
    Impossible {
        /// In one word.
        reason: &'static str,
        /// In a sentence.
        message: String,
    },
}

/// What an action changes on the Deployment. Guards ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touches {
    /// The pod template: new pods.
    pub template: bool,
    /// The number of replicas.
    pub replicas: bool,
}

/// What an action touches.
pub const fn touches(action: ActionType) -> Touches {
    match action {
        ActionType::Rollback | ActionType::RolloutRestart => Touches { template: true, replicas: false },
    }
}

/// Plans an action for an incident.
pub fn plan(action: ActionType, case: &Case, server: &Server, incident: &Incident) -> Planned {
    match action {
        ActionType::Rollback => rollback::plan(case, server, incident),
        ActionType::RolloutRestart => rollout_restart::plan(case, server, incident),
    }
}

/// Plans to take back what made things worse; `None` where nothing can or need be taken back, or where it
/// is not ours any more.
pub fn plan_undo(server: &Server, attempt: &Attempt) -> Option<Plan> {
    match attempt.action {
        ActionType::Rollback => rollback::plan_undo(server, attempt),
        ActionType::RolloutRestart => None,
    }
}

/// A step on the Deployment, fenced by what it is now.
fn step(effect: Effect, target: &Target, to: Option<String>, replica_set: Option<String>) -> Step {
    Step {
        effect,
        from: Some(target.template.clone()),
        to,
        replica_set,
        target_uid: target.uid.clone(),
        resource_version: target.resource_version.clone(),
        generation: None,
        state: StepState::Recorded,
    }
}

/// After a change of the template, the fields go back to whoever owned them: the owner's next apply must
/// go through.
fn hand_back(target: &Target) -> Step {
    Step { from: None, ..step(Effect::HandBackOwnership, target, None, None) }
}
