//! `spec`: what a team declares. Invalid objects are rejected at admission, by the rules that stand here.

// Every printcolumn has the same keys as the next.
#![allow(clippy::duplicated_attributes)]

use std::fmt;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, McpServerHealthStatus};

/// The health policy of one MCP server: what to watch, what may be done about it, and how much of it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "mcphealth.dev",
    version = "v1alpha1",
    kind = "McpServerHealth",
    plural = "mcpserverhealths",
    singular = "mcpserverhealth",
    shortname = "mcph",
    category = "mcp",
    namespaced,
    status = "McpServerHealthStatus",
    derive = "PartialEq",
    doc = "The health policy of one MCP server, and the state of its incidents.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Severity", type_ = "string", json_path = ".status.severity"),
    printcolumn(name = "Incident", type_ = "string", json_path = ".status.incidents[0].type"),
    printcolumn(name = "Last-Action", type_ = "string", json_path = ".status.lastAction.action"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.lastAction.outcome"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", priority = "1"),
    printcolumn(
        name = "Hold",
        type_ = "string",
        json_path = ".status.incidents[0].hold.reason",
        priority = "1"
    ),
    printcolumn(name = "Template", type_ = "string", json_path = ".status.target.template", priority = "1")
)]
#[serde(rename_all = "camelCase")]
pub struct McpServerHealthSpec {
    /// The Deployment that runs the MCP server, in the object's own namespace.
    pub target_ref: TargetRef,

    /// `Observe` reports and says what it would do; `Enforce` does it.
    #[serde(default)]
    pub mode: Mode,

    /// Holds every action on this server while true. Diagnosis goes on.
    #[serde(default)]
    pub suspend: bool,

    /// What the operator may do to this server.
    #[serde(default)]
    pub actions: Actions,

    /// Changes to entries of the catalogue, by incident type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["incident"]))]
    pub overrides: Vec<Override>,

    /// How much the operator may do to this server.
    #[serde(default)]
    pub limits: Limits,
}

/// Reference to the target, by kind and name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// `apps/v1`.
    #[x_kube(validation = Rule::new("self == 'apps/v1'").message("only Deployments can be targets: write apiVersion: apps/v1"))]
    #[schemars(length(max = 32))]
    pub api_version: String,
    /// `Deployment`.
    #[x_kube(validation = Rule::new("self == 'Deployment'").message("only Deployments can be targets: write kind: Deployment"))]
    #[schemars(length(max = 32))]
    pub kind: String,
    /// Name of the Deployment.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Whether the operator acts.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Reports, and says what it would do.
    #[default]
    Observe,
    /// Acts, within guards and limits.
    Enforce,
}

/// What the operator may do to the target.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Actions {
    /// The actions allowed. An empty list allows none: every incident is handed to a person.
    #[serde(default = "Actions::default_allow")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub allow: Vec<ActionType>,
    /// `Never` where going back to an older template would break, as after a database migration.
    #[serde(default)]
    pub rollback: RollbackPolicy,
}

impl Actions {
    fn default_allow() -> Vec<ActionType> {
        vec![ActionType::RolloutRestart, ActionType::Rollback]
    }
}

impl Default for Actions {
    fn default() -> Self {
        Self { allow: Self::default_allow(), rollback: RollbackPolicy::default() }
    }
}

/// Whether an older template may come back.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RollbackPolicy {
    /// A template that was seen healthy may come back.
    #[default]
    Allow,
    /// No rollback, whatever is found.
    Never,
}

/// What the operator can do to a server.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActionType {
    /// Brings a template back that was seen healthy (guide 004, Rollback Procedure).
    Rollback,
    /// Replaces all pods, rolling, as `kubectl rollout restart` does (guide 004, Application Restart).
    RolloutRestart,
}

impl fmt::Display for ActionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How bad an incident is, and how soon it wants an answer (guide 004, Severity Levels).
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Down, or data at risk: 15 minutes.
    SEV1,
    /// A major function broken: 1 hour.
    SEV2,
    /// A minor function broken, or degraded: 4 hours.
    SEV3,
    /// To look at: 1 day.
    SEV4,
}

impl Severity {
    /// The time within which an incident of this severity is to be answered.
    pub const fn response_time(self) -> Duration {
        match self {
            Self::SEV1 => Duration::from_mins(15),
            Self::SEV2 => Duration::from_mins(60),
            Self::SEV3 => Duration::from_mins(4 * 60),
            Self::SEV4 => Duration::from_mins(24 * 60),
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The incident types of the catalogue.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IncidentType {
    /// Containers start and end, again and again.
    CrashLoop,
    /// A rollout does not get through.
    RolloutStuck,
    /// No pod of the server, or none behind its Service, is ready.
    ServiceNotResponding,
}

impl fmt::Display for IncidentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Changes to one entry of the catalogue, for this server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("has(self.severity) || has(self.runbook) || has(self.for)").message("an override changes something: set severity, for or runbook"))]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// The entry to change.
    pub incident: IncidentType,
    /// The severity, whatever the catalogue says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// How long the symptom lasts before it is an incident. Only for types that wait: RolloutStuck,
    /// ServiceNotResponding.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')").message("for: at most 1h"))]
    pub hold_for: Option<Duration>,
    /// The ladder of steps, tried in this order, instead of the catalogue's. A person comes after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub runbook: Option<Vec<RunbookStep>>,
}

/// One step of a runbook: exactly one of its fields is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("[has(self.rollback), has(self.rolloutRestart), has(self.escalate)].exists_one(x, x)").message("a runbook step names exactly one action: rollback: {}, rolloutRestart: {} or escalate: {}"))]
#[serde(rename_all = "camelCase")]
pub struct RunbookStep {
    /// Bring the template back that was last seen healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<NoParameters>,
    /// Replace all pods, rolling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_restart: Option<NoParameters>,
    /// Hand over to a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate: Option<NoParameters>,
}

impl RunbookStep {
    /// The action that the step names; `None` hands over to a person.
    pub fn action(&self) -> Option<ActionType> {
        if self.rollback.is_some() {
            Some(ActionType::Rollback)
        } else if self.rollout_restart.is_some() {
            Some(ActionType::RolloutRestart)
        } else {
            None
        }
    }
}

/// A step without parameters: `{}`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoParameters {}

/// How much the operator may do to this server. Counted over restarts of the operator, and over deletion
/// and recreation of the object.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// The pause after an action before the next; doubles with every action within an hour. Default 5m.
    #[serde(default = "Limits::default_cooldown")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('24h')").message("cooldown: at most 24h"))]
    pub cooldown: Duration,
    /// Actions on one incident before a person takes over. Default 3.
    #[serde(default = "Limits::default_max_attempts")]
    #[schemars(range(min = 1, max = 10), extend("format" = "int32"))]
    pub max_attempts: u32,
    /// Actions on this server in any hour. Default 4.
    #[serde(default = "Limits::default_max_actions_per_hour")]
    #[schemars(range(min = 1, max = 60), extend("format" = "int32"))]
    pub max_actions_per_hour: u32,
}

impl Limits {
    const fn default_cooldown() -> Duration {
        Duration::from_mins(5)
    }
    const fn default_max_attempts() -> u32 {
        3
    }
    const fn default_max_actions_per_hour() -> u32 {
        4
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cooldown: Self::default_cooldown(),
            max_attempts: Self::default_max_attempts(),
            max_actions_per_hour: Self::default_max_actions_per_hour(),
        }
    }
}
