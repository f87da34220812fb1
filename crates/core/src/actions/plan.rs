//! What an action is, what it is planned in, what a plan is; and the steps that several plans are made of.

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
    pub(super) fn impossible(reason: &'static str, message: impl Into<String>) -> Self {
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
pub(super) const NOTHING: Touches = Touches {
    template: false,
    replicas: false,
    resources: false,
    evicts: false,
    sessions: false,
    mends_rollout: false,
};
/// Replaces the pods through the template, and nothing else.
pub(super) const TEMPLATE: Touches = Touches { template: true, ..NOTHING };

/// Nothing need be taken back.
pub(super) fn no_undo(_: &Case, _: &Server, _: &Attempt) -> Option<Plan> {
    None
}

/// Nothing remains to be done.
pub(super) fn no_follow_up(_: &Case, _: &Attempt) -> Option<FollowUp> {
    None
}

/// Takes a change of the template back, by the ReplicaSet that holds the template before: only while it is
/// still ours, not a word of it changed since.
pub(super) fn undo_template(_: &Case, server: &Server, attempt: &Attempt) -> Option<Plan> {
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

/// How long an edit of the template remains to be done: whoever applies the very same value is not told from
/// nobody.
pub(super) const UNTIL: &str = "over with the next change of the pod template";

/// The fields of containers that an attempt has set.
pub(super) fn edits_of(attempt: &Attempt) -> impl Iterator<Item = &Edit> {
    attempt.steps.iter().flat_map(|step| &step.edits)
}

/// Edits of the template, and the fields handed back. The generation after it is known before: it is fenced
/// by the version, and one change makes one generation.
pub(super) fn edit_steps(target: &Target, edits: Vec<Edit>) -> Vec<Step> {
    let generation = Some(target.generation.saturating_add(1));
    vec![Step { edits, generation, ..step(Effect::EditTemplate, target) }, hand_back(target)]
}

/// A step on the Deployment, fenced by what it is now.
pub(super) fn step(effect: Effect, target: &Target) -> Step {
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
pub(super) fn hand_back(target: &Target) -> Step {
    Step { from: None, ..step(Effect::HandBackOwnership, target) }
}

/// Notes an attempt on the target that does not change it otherwise: its limits outlive the object.
pub(super) fn mark_target(target: &Target) -> Step {
    Step { resource_version: None, ..step(Effect::MarkTarget, target) }
}

/// Waits until the rollout is through; its time begins when it is the next.
pub(super) fn await_rollout(target: &Target) -> Step {
    Step { from: None, resource_version: None, ..step(Effect::AwaitRollout, target) }
}
