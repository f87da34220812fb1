//! What can be done to a server: one file an action. Each turns a situation into a plan of steps with one
//! effect each, and says what it touches, how it is taken back, and what remains to be done after it. Plans are
//! carried out by the operator, fenced by what they record. A new action is a file here, a line in [`ACTIONS`],
//! its name in the API, a test.

mod call_hook;
mod drain_and_restart;
mod end_database_sessions;
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
pub use call_hook::hears;
pub(crate) use call_hook::{Stop, stop};
pub(crate) use end_database_sessions::watched_until;
pub use rollback_config::config_name;
pub use run_job::{PATIENCE as JOB_PATIENCE, job_name};
pub mod template_edit;

use jiff::Timestamp;
use mcp_health_api::{ActionType, Attempt, Edit, Effect, FollowUp, Incident, RunbookStep, Step, StepState};

use crate::{Case, Diagnosis, Server, signals::Target};

/// One action.
pub struct Action {
    /// Its name.
    pub action: ActionType,
    /// What it changes.
    pub touches: Touches,
    /// Turns a situation into a plan.
    pub plan: fn(&Asked) -> Planned,
    /// Takes back what made things worse, or was only for a time; `None` where nothing can or need be taken
    /// back, or where it is not ours any more.
    pub undo: fn(&Case, &Server, &Attempt) -> Option<Plan>,
    /// What was done, as a sentence without a subject: `restarted all pods`.
    pub did: fn(&Attempt) -> String,
    /// What remains to be done once it has helped, if it is only for the time being.
    pub follow_up: fn(&Case, &Attempt) -> Option<FollowUp>,
}

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

/// The situation that an action is planned in.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The server and the moment.
    pub case: &'a Case<'a>,
    /// The server, as seen.
    pub server: &'a Server<'a>,
    /// What is found wrong with it.
    pub diagnosis: &'a Diagnosis,
    /// What is to be mended.
    pub incident: &'a Incident,
    /// The runbook's own step, with its parameters; `None` where it is the catalogue's.
    pub step: Option<&'a RunbookStep>,
}

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

impl Planned {
    /// It cannot, here.
    fn impossible(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Impossible { reason, message: message.into() }
    }
}

/// What an action changes. Guards ask.
#[allow(clippy::struct_excessive_bools)] // Each is a question of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touches {
    /// The pod template: new pods.
    pub template: bool,
    /// The number of replicas.
    pub replicas: bool,
    /// Requests and limits.
    pub resources: bool,
    /// It takes a pod away without another in its place before.
    pub evicts: bool,
    /// Sessions in its database.
    pub sessions: bool,
    /// It may be what mends a rollout under way, where that is the cause.
    pub mends_rollout: bool,
}

/// Changes nothing of the Deployment, and takes no pod away.
const NOTHING: Touches = Touches {
    template: false,
    replicas: false,
    resources: false,
    evicts: false,
    sessions: false,
    mends_rollout: false,
};
/// Replaces the pods through the template, and nothing else.
const TEMPLATE: Touches = Touches { template: true, ..NOTHING };

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

/// Nothing need be taken back.
fn no_undo(_: &Case, _: &Server, _: &Attempt) -> Option<Plan> {
    None
}

/// Nothing remains to be done.
fn no_follow_up(_: &Case, _: &Attempt) -> Option<FollowUp> {
    None
}

/// Takes a change of the template back, by the ReplicaSet that holds the template before: only while it is
/// still ours, not a word of it changed since.
fn undo_template(_: &Case, server: &Server, attempt: &Attempt) -> Option<Plan> {
    let done = attempt.steps.iter().find(|step| step.template.is_some())?;
    let before = done.from.as_ref()?;
    let ours = done.template.as_ref() == Some(&server.target.template) && done.template != done.from;
    let source = server.revisions.iter().find(|revision| &revision.template == before)?;
    let worse = attempt.outcome != Some(mcp_health_api::Outcome::Improved);
    ours.then(|| Plan {
        action: attempt.action,
        what: format!("take {} back: template {before} again", attempt.id),
        why: format!("{} {}", attempt.id, if worse { "made things worse" } else { "was only for a time" }),
        steps: vec![
            Step {
                to: Some(before.clone()),
                source: Some(source.name.clone()),
                ..step(Effect::PatchTemplate, server.target)
            },
            hand_back(server.target),
        ],
        undoes: Some(attempt.id.clone()),
    })
}

/// How long an edit of the template remains to be done: whoever applies the very same value is not told from nobody.
const UNTIL: &str = "over with the next change of the pod template";

/// The fields of containers that an attempt has set.
fn edits_of(attempt: &Attempt) -> impl Iterator<Item = &Edit> {
    attempt.steps.iter().flat_map(|step| &step.edits)
}

/// Edits of the template, and the fields handed back. The generation after it is known before: it is fenced by the
/// version, and one change makes one generation.
fn edit_steps(target: &Target, edits: Vec<Edit>) -> Vec<Step> {
    let generation = Some(target.generation.saturating_add(1));
    vec![Step { edits, generation, ..step(Effect::EditTemplate, target) }, hand_back(target)]
}

/// A step on the Deployment, fenced by what it is now.
fn step(effect: Effect, target: &Target) -> Step {
    Step {
        effect,
        object: None,
        edits: Vec::new(),
        sessions: None,
        from: Some(target.template.clone()),
        to: None,
        source: None,
        uid: target.uid.clone(),
        resource_version: Some(target.resource_version.clone()),
        until: None,
        template: None,
        generation: None,
        note: None,
        state: StepState::Recorded,
    }
}

/// After a change of the template, the fields go back to whoever owned them: the owner's next apply must
/// go through.
fn hand_back(target: &Target) -> Step {
    Step { from: None, ..step(Effect::HandBackOwnership, target) }
}

/// Notes an attempt on the target that does not change it otherwise: its limits outlive the object.
fn mark_target(target: &Target) -> Step {
    Step { resource_version: None, ..step(Effect::MarkTarget, target) }
}

/// Waits until the rollout is through; its time begins when it is the next.
fn await_rollout(target: &Target) -> Step {
    Step { from: None, resource_version: None, ..step(Effect::AwaitRollout, target) }
}
