//! `status`: the story. Full sentences where people read, enums where machines do. Everything that the
//! operator must remember across its own restarts stands here, and nothing changes with time alone.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ActionType, IncidentType, Severity};

/// The most incidents of the past that are kept.
pub const HISTORY_LIMIT: usize = 20;
/// The most lines of evidence an incident carries.
pub const EVIDENCE_LIMIT: usize = 8;
/// The most attempts kept on one incident; superseded ones go first.
pub const ATTEMPTS_LIMIT: usize = 16;

/// What the operator knows, did and will do.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct McpServerHealthStatus {
    /// The generation of `spec` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The worst open incident's; absent when healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// The whole story in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Ready, SignalsAvailable, IncidentActive, Remediating, RemediationAllowed, Escalated, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The target as it was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,
    /// The last action of the operator on this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_action: Option<LastAction>,
    /// Open incidents; the primary one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub incidents: Vec<Incident>,
    /// The last incidents that were resolved, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub history: Vec<PastIncident>,
}

/// The target as it was last seen.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// The Deployment's uid. Another one is another server.
    pub uid: String,
    /// Pods that are ready.
    pub ready_replicas: i32,
    /// Pods that are wanted.
    pub desired_replicas: i32,
    /// Digest of the pod template in force.
    pub template: String,
    /// The template to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_healthy: Option<HealthyRevision>,
}

/// A template whose pods the operator saw ready, long enough and without a restart.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HealthyRevision {
    /// Digest of the template: this identifies it.
    pub template: String,
    /// The ReplicaSet that holds it.
    pub replica_set: String,
    /// The ReplicaSet's uid.
    pub uid: String,
    /// The Deployment's number for it when it was seen. For display: a rollback renumbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// When all its pods were ready.
    pub since: Time,
}

/// The last action on the server.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastAction {
    /// What was done.
    pub action: ActionType,
    /// When it was recorded.
    pub at: Time,
    /// The attempt.
    pub attempt: String,
    /// Digest of the template that it replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How it ended; absent while it is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// Why an incident happens, as far as the operator can tell.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The template in force was never seen healthy, and another one was.
    BadRollout,
    /// A quota forbids the pods.
    QuotaExceeded,
    /// No node takes the pods.
    Unschedulable,
    /// No template of this server was ever seen healthy.
    NeverHealthy,
    /// The containers end by themselves, on a template that was healthy before.
    ProcessExit,
    /// Pods run and do not become ready, on a template that was healthy before.
    NotReady,
    /// A Service that selects this server's pods has none of them among its ready endpoints, or the Service
    /// of its name selects none of them.
    ServiceMismatch,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where an incident stands.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IncidentState {
    /// Seen; nothing done yet.
    Detected,
    /// An action is recorded, and maybe done.
    Mitigating,
    /// An action is done, and its effect is judged.
    Verifying,
    /// An action that made things worse is being taken back.
    Undoing,
    /// A guard holds the action.
    Held,
    /// A person is needed.
    Escalated,
    /// Over.
    Resolved,
}

impl fmt::Display for IncidentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One thing that is wrong, and what is done about it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Incident {
    /// Unique over time.
    pub id: String,
    /// The catalogue's entry.
    #[serde(rename = "type")]
    pub incident_type: IncidentType,
    /// Why, as far as known.
    pub cause: Cause,
    /// The incident of this server that this one follows from. Only an incident without one acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caused_by: Option<String>,
    /// How bad.
    pub severity: Severity,
    /// Where it stands.
    pub state: IncidentState,
    /// When the fault began, as far as the evidence tells.
    pub since: Time,
    /// When the operator saw it.
    pub opened_at: Time,
    /// When an answer is due; unresolved then, it escalates.
    pub respond_by: Time,
    /// Since when the signals are quiet; it is resolved when they stay so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_since: Option<Time>,
    /// What was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub evidence: Vec<String>,
    /// What was done, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub attempts: Vec<Attempt>,
    /// What comes next, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What keeps the operator from acting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Why a person is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<Escalation>,
}

impl Incident {
    /// The attempt whose outcome is not known yet.
    pub fn open_attempt(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.outcome.is_none())
    }

    /// The attempt whose outcome is not known yet, to be changed.
    pub fn open_attempt_mut(&mut self) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.outcome.is_none())
    }
}

/// What keeps the operator from acting: the guard's reason, and what would lift it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// The guard's name for it.
    pub reason: String,
    /// In a sentence.
    pub message: String,
    /// When it lifts by itself, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// Why a person is needed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Escalation {
    /// In one word.
    pub reason: String,
    /// In a sentence.
    pub message: String,
    /// Since when.
    pub at: Time,
}

/// One action on the server: its intent, recorded before anything is touched, its steps, its outcome.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The incident's id and a number.
    pub id: String,
    /// What is done.
    pub action: ActionType,
    /// Set where this attempt takes another one back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<String>,
    /// Why this, in a sentence.
    pub why: String,
    /// When the intent was recorded.
    pub recorded_at: Time,
    /// Ready pods when it was recorded: what an outcome is compared with.
    pub ready_before: i32,
    /// The effects, in order; one each.
    #[schemars(length(max = 4))]
    pub steps: Vec<Step>,
    /// When its effect is judged at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_at: Option<Time>,
    /// Set once the time to judge was extended for want of evidence.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extended: bool,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The outcome in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

impl Attempt {
    /// Whether every step is done.
    pub fn is_carried_out(&self) -> bool {
        self.steps.iter().all(|step| step.state == StepState::Done)
    }

    /// Whether it counts against limits: it touched the target, or may have.
    pub fn is_spent(&self) -> bool {
        self.is_carried_out() || !matches!(self.outcome, Some(Outcome::Superseded | Outcome::Refused))
    }
}

/// Exactly one effect, fenced by what is recorded here.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What is done.
    pub effect: Effect,
    /// Digest of the template before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Digest of the template after; for a restart, the moment that is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The ReplicaSet that the template comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_set: Option<String>,
    /// Fence: the target's uid.
    pub target_uid: String,
    /// Fence: the target's resourceVersion.
    pub resource_version: String,
    /// The target's generation after the effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Whether it is done.
    pub state: StepState,
}

/// The effects that a step can have.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Replaces the pod template by that of a ReplicaSet.
    PatchTemplate,
    /// Sets the restart annotation of the pod template.
    RestartPods,
    /// Gives the fields that were changed back to the manager that owned the template before.
    HandBackOwnership,
}

/// Whether an effect took place.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepState {
    /// Intended; it may have happened.
    Recorded,
    /// It happened.
    Done,
}

/// How an attempt ended.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It helped.
    Improved,
    /// It did not help.
    NoChange,
    /// It made things worse.
    Worse,
    /// There was no evidence to judge it by, even after waiting longer.
    Inconclusive,
    /// The world changed before it was carried out or judged; it does not count.
    Superseded,
    /// It was taken back by somebody else.
    Reverted,
    /// It was not carried out: the API server refused it.
    Refused,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An incident that is over.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PastIncident {
    /// Its id.
    pub id: String,
    /// The catalogue's entry.
    #[serde(rename = "type")]
    pub incident_type: IncidentType,
    /// Why it happened.
    pub cause: Cause,
    /// How bad it was.
    pub severity: Severity,
    /// When the operator saw it.
    pub opened_at: Time,
    /// When it was over.
    pub resolved_at: Time,
    /// How it ended, in a sentence.
    pub resolution: String,
    /// What was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub evidence: Vec<String>,
    /// What was done, as `Action: Outcome`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// From the fault to its detection.
    pub time_to_detect: String,
    /// From detection to the action that helped; absent where none was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_mitigate: Option<String>,
    /// From detection to resolution.
    pub time_to_resolve: String,
}
