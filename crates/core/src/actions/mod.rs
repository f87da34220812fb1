//! What can be done to a server: one file an action. Each turns a situation into a plan of steps with one
//! effect each, and says what it touches, how it is taken back, and what remains to be done after it. Plans
//! are carried out by the operator, fenced by what they record. A new action is a file here, a line in
//! [`ACTIONS`], its name in the API, a test.

mod call_hook;
mod drain_and_restart;
mod end_database_sessions;
mod plan;
mod pool_bound;
mod raise_resources;
mod recycle_pod;
mod relax_startup_probe;
mod reset_circuit;
mod rollback;
pub(crate) mod rollback_config;
mod rollout_restart;
pub(crate) mod run_job;
mod scale;
mod set_env;
pub use call_hook::{Answers, hears};
pub(crate) use call_hook::{Stop, stop};
pub(crate) use end_database_sessions::watched_until;
pub use rollback_config::config_name;
pub use run_job::{PATIENCE as JOB_PATIENCE, job_name};
pub mod template_edit;

use mcp_health_api::{ActionType, Attempt, FollowUp};
pub use plan::{Action, Asked, Plan, Planned, Touches};

use crate::{Case, Server};

/// All actions.
pub const ACTIONS: &[Action] = &[
    raise_resources::ACTION,
    recycle_pod::ACTION,
    relax_startup_probe::ACTION,
    reset_circuit::ACTION,
    end_database_sessions::ACTION,
    rollback::ACTION,
    rollback_config::ACTION,
    rollout_restart::ACTION,
    set_env::ACTION,
    drain_and_restart::ACTION,
    call_hook::ACTION,
    run_job::ACTION,
    scale::ACTION,
];

/// The entry of an action. Every action of the API has one: a test sees to it.
pub fn entry(action: ActionType) -> Option<&'static Action> {
    ACTIONS.iter().find(|entry| entry.action == action)
}

/// What an action touches; of one that is not known, everything.
pub fn touches(action: ActionType) -> Touches {
    entry(action).map_or(
        Touches {
            template: true,
            replicas: true,
            resources: true,
            evicts: true,
            sessions: true,
            mends_rollout: false,
        },
        |entry| entry.touches,
    )
}

/// Plans an action for an incident.
pub fn plan(action: ActionType, asked: &Asked) -> Planned {
    match entry(action) {
        Some(entry) => (entry.plan)(asked),
        None => Planned::impossible("UnknownAction", format!("this operator does not know {action}")),
    }
}

/// Plans to take an attempt back; `None` where nothing can or need be taken back, or where it is not ours any
/// more.
pub fn plan_undo(case: &Case, server: &Server, attempt: &Attempt) -> Option<Plan> {
    (entry(attempt.action)?.undo)(case, server, attempt)
}

/// What an attempt did, as a sentence without a subject.
pub fn did(attempt: &Attempt) -> String {
    entry(attempt.action)
        .map_or_else(|| format!("carried out {}", attempt.action), |entry| (entry.did)(attempt))
}

/// What remains to be done after an attempt that helped.
pub fn follow_up(case: &Case, attempt: &Attempt) -> Option<FollowUp> {
    (entry(attempt.action)?.follow_up)(case, attempt)
}
