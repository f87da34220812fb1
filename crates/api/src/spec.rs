//! `spec`: what a team declares. Invalid objects are rejected at admission, by the rules that stand here.

// Every printcolumn has the same keys as the next.
#![allow(clippy::duplicated_attributes)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Decimal, Duration, McpServerHealthStatus, SignalsSpec, UserRule,
    env::{EnvName, none_is_denied},
    kinds::{ActionType, IncidentType, Severity},
    runbook::{JobTemplateRef, RunbookStep},
};

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

    /// Which container of the pods is the server, where there are several. Default: the first that has a
    /// port, else the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,

    /// `Observe` reports and says what it would do; `Enforce` does it.
    #[serde(default)]
    pub mode: Mode,

    /// Holds every action on this server while true. Diagnosis goes on.
    #[serde(default)]
    pub suspend: bool,

    /// What is asked of the server and about it, beside what Kubernetes tells.
    #[serde(default)]
    pub signals: SignalsSpec,

    /// What the operator may do to this server.
    #[serde(default)]
    pub actions: Actions,

    /// Changes to entries of the catalogue, by incident type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["incident"]))]
    pub overrides: Vec<Override>,

    /// Incidents of one's own, judged by queries to Prometheus.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub rules: Vec<UserRule>,

    /// HTTP calls to the server's own pods that runbooks may make, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub hooks: Vec<Hook>,

    /// A Job that is run after a rollback: the rollback has helped only if it succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoke_test: Option<SmokeTest>,

    /// How much the operator may do to this server.
    #[serde(default)]
    pub limits: Limits,
}

impl McpServerHealthSpec {
    /// Whether memory limits may be raised.
    pub fn raises_resources(&self) -> bool {
        self.actions.allow.contains(&ActionType::RaiseResources) && self.actions.raise_resources.is_some()
    }

    /// Whether a Job may be run for it: after a rollback, or as a step of a runbook.
    pub fn runs_jobs(&self) -> bool {
        let own = self.overrides.iter().flat_map(|one| one.runbook.iter().flatten());
        let mut own = own.chain(self.rules.iter().flat_map(|rule| &rule.runbook));
        self.smoke_test.is_some() || own.any(|step| step.run_job.is_some())
    }
}

/// One HTTP call to the server's pods: `POST`, without a body. An answer of 2xx is success.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Its name, by which runbooks call it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The path, as `/admin/drain`.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("path: begins with a slash"))]
    pub path: String,
    /// The port. Default: the first port of the server's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535), extend("format" = "int32"))]
    pub port: Option<u16>,
    /// How long a pod may take to answer. Default 5s.
    #[serde(default = "Hook::default_timeout")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s') && duration(self) <= duration('30s')").message("timeout: at most 30s"))]
    pub timeout: Duration,
}

impl Hook {
    const fn default_timeout() -> Duration {
        Duration::from_secs(5)
    }
}

/// The Job that proves a rollback.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SmokeTest {
    /// Where its template is taken from.
    pub job_template_ref: JobTemplateRef,
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
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub allow: Vec<ActionType>,
    /// `Never` where going back to an older template would break, as after a database migration.
    #[serde(default)]
    pub rollback: RollbackPolicy,
    /// How far RaiseResources may go. Without it, nothing is raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raise_resources: Option<RaiseResourcesPolicy>,
    /// How far RelaxStartupProbe may go.
    #[serde(default)]
    pub relax_startup_probe: RelaxStartupProbePolicy,
    /// How far Scale may go. Without it, nothing is scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<ScalePolicy>,
    /// Which variables SetEnv may set. Without it, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_env: Option<SetEnvPolicy>,
    /// How DrainAndRestart empties the pods before it replaces them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainPolicy>,
    /// Whose sessions EndDatabaseSessions may end, beside those that come from the server's own pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_database_sessions: Option<EndDatabaseSessionsPolicy>,
}

/// How far RaiseResources may go.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RaiseResourcesPolicy {
    /// The highest memory limit that a container may be given, as `4Gi`.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message("maxMemory: a quantity, as 4Gi"))]
    pub max_memory: String,
}

/// How far RelaxStartupProbe may go.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RelaxStartupProbePolicy {
    /// The longest time that a start may be given. Default 10m.
    #[serde(default = "RelaxStartupProbePolicy::default_max")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s') && duration(self) <= duration('1h')").message("maxStartupTime: at most 1h"))]
    pub max_startup_time: Duration,
}

impl RelaxStartupProbePolicy {
    const fn default_max() -> Duration {
        Duration::from_mins(10)
    }
}

impl Default for RelaxStartupProbePolicy {
    fn default() -> Self {
        Self { max_startup_time: Self::default_max() }
    }
}

/// How far Scale may go.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ScalePolicy {
    /// The most replicas.
    #[schemars(range(min = 1, max = 1000), extend("format" = "int32"))]
    pub max: i32,
    /// Any pod can answer any request. Where this is false, every Service of the server must keep a client on
    /// its pod (`sessionAffinity: ClientIP`).
    #[serde(default)]
    pub stateless: bool,
}

/// Which variables SetEnv may set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SetEnvPolicy {
    /// Their names. None that weakens authentication or TLS, loads code, or holds a credential.
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set"))]
    #[x_kube(validation = Rule::new(none_is_denied()).message("setEnv.allow: the operator never sets what weakens authentication or TLS, loads code, redirects traffic or holds a credential"))]
    pub allow: Vec<EnvName>,
}

/// Whose sessions EndDatabaseSessions may end.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EndDatabaseSessionsPolicy {
    /// Where the server's sessions come from in PostgreSQL's eyes, where those are not the addresses of its
    /// pods: a node, a gateway, as `10.0.0.0/24` or `10.0.0.7`. Name only what leads no other application
    /// there under the same `application_name`; never the address of a pooler.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub clients: Vec<IpNetwork>,
}

/// An IP address, or a network of them, as `10.0.0.0/24`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
pub struct IpNetwork(
    #[schemars(length(min = 2, max = 49), regex(pattern = "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"))] pub String,
);

/// How DrainAndRestart empties the pods before it replaces them (guide 002, Graceful Restart).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DrainPolicy {
    /// The hook by which a pod stops taking work.
    #[schemars(length(min = 1, max = 63))]
    pub hook: String,
    /// How long what is under way may take. At most 5m.
    #[x_kube(validation = Rule::new("duration(self) <= duration('5m')").message("wait: at most 5m"))]
    pub wait: Duration,
    /// The hook by which a pod keeps its sessions before it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub save_hook: Option<String>,
    /// The hook by which a new pod takes the sessions up again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub restore_hook: Option<String>,
}

impl Actions {
    fn default_allow() -> Vec<ActionType> {
        vec![ActionType::RolloutRestart, ActionType::RecyclePod, ActionType::Rollback]
    }
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            allow: Self::default_allow(),
            rollback: RollbackPolicy::default(),
            raise_resources: None,
            relax_startup_probe: RelaxStartupProbePolicy::default(),
            scale: None,
            set_env: None,
            drain: None,
            end_database_sessions: None,
        }
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

/// `for` of a type that does not wait would change nothing.
fn only_waiting_types_take_for() -> kube::core::Rule {
    let names: Vec<String> = IncidentType::WAITING.iter().map(ToString::to_string).collect();
    let rule = format!("!has(self.for) || self.incident in ['{}']", names.join("', '"));
    let message = format!("for: only these wait for a symptom to last: {}", names.join(", "));
    kube::core::Rule::new(rule).message(message.as_str())
}

/// Changes to one entry of the catalogue, for this server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("has(self.severity) || has(self.runbook) || has(self.for) || has(self.thresholds)").message("an override changes something: set severity, for, thresholds or runbook"))]
#[x_kube(validation = only_waiting_types_take_for())]
#[x_kube(validation = Rule::new("self.incident != 'Rule'").message("incident: a rule of one's own is changed where it stands, in spec.rules"))]
#[x_kube(validation = Rule::new("self.incident != 'Reported' || !has(self.runbook)").message("runbook: a person's report leads to no action; a person comes at once"))]
#[x_kube(validation = Rule::new("!has(self.thresholds) || !has(self.thresholds.percent) || self.incident in ['HighErrorRate', 'ToolFailing']").message("thresholds.percent: only HighErrorRate and ToolFailing are judged by a share"))]
#[x_kube(validation = Rule::new("!has(self.thresholds) || !has(self.thresholds.minRequests) || self.incident in ['HighErrorRate', 'HighLatency', 'ToolFailing']").message("thresholds.minRequests: only HighErrorRate, HighLatency and ToolFailing want to see requests"))]
#[x_kube(validation = Rule::new("!has(self.thresholds) || !has(self.thresholds.p99) || self.incident == 'HighLatency'").message("thresholds.p99: only HighLatency is judged by a duration"))]
#[x_kube(validation = Rule::new("!has(self.thresholds) || !has(self.thresholds.count) || self.incident in ['SessionLeak', 'ConnectionDrops']").message("thresholds.count: only SessionLeak and ConnectionDrops are judged by a number"))]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// The entry to change.
    pub incident: IncidentType,
    /// The severity, whatever the catalogue says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// How long the symptom lasts before it is an incident. Only for types that wait: CrashLoop (a container
    /// that cannot start), RolloutStuck, ServiceNotResponding, PartiallyUnready, MemoryLeak, CpuSaturation,
    /// HighErrorRate, HighLatency, ToolFailing, ToolsMissing, CircuitStuckOpen, DependencyDown, NodeProblem,
    /// AlertFiring, TrafficLost, ConnectionDrops, InvalidMessages, RateLimited, DatabasePoolExhausted; of
    /// DatabaseIdleInTransaction (default 5m) and DatabaseBlockingLocks (1m), how long a session is idle or
    /// waits.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')").message("for: at most 1h"))]
    pub hold_for: Option<Duration>,
    /// Other numbers than the catalogue's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Thresholds>,
    /// The ladder of steps, tried in this order, instead of the catalogue's. A person comes after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub runbook: Option<Vec<RunbookStep>>,
}

/// The numbers that a rule judges by. Each belongs to the incident types that it names; no other takes it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[schemars(extend("minProperties" = 1))]
#[serde(rename_all = "camelCase")]
pub struct Thresholds {
    /// HighErrorRate, ToolFailing: more than this share fails, in percent, as `"2.5"`. Default 5; of one
    /// tool, 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,3}([.][0-9]{1,6})?$') && double(self) > 0.0 && double(self) < 100.0").message("percent: a number between 0 and 100, as \"2.5\""))]
    pub percent: Option<Decimal>,
    /// HighErrorRate, HighLatency, ToolFailing: fewer requests within the window tell nothing. Default 50; of
    /// durations, 20; of one tool, 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000), extend("format" = "int32"))]
    pub min_requests: Option<u32>,
    /// HighLatency: one request of a hundred takes longer than this. Default 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s') && duration(self) <= duration('10m')").message("p99: at most 10m"))]
    pub p99: Option<Duration>,
    /// SessionLeak: more idle sessions than that on the server; default 100. ConnectionDrops: more than that
    /// an hour; default 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000), extend("format" = "int32"))]
    pub count: Option<u32>,
}

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
    /// Actions on this server in any hour; reverts do not count and are not limited. Default 4.
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
