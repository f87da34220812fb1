//! `status`: the story. Full sentences where people read, enums where machines do. Everything that the
//! operator must remember across its own restarts stands here, and nothing changes with time alone.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ActionType, Duration, IncidentType, Severity};

/// The most incidents of the past that are kept.
pub const HISTORY_LIMIT: usize = 20;
/// The most lines of evidence an incident carries.
pub const EVIDENCE_LIMIT: usize = 8;
/// The most subjects that an incident names.
pub const SUBJECTS_LIMIT: usize = 8;
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
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub incidents: Vec<Incident>,
    /// What may become an incident if it lasts: since when the operator sees it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub pending: Vec<Pending>,
    /// The last incidents that were resolved, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub history: Vec<PastIncident>,
}

/// What may become an incident if it lasts.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// The catalogue's entry.
    #[serde(rename = "type")]
    pub incident_type: IncidentType,
    /// The rule of `spec.rules`, where it is one of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// When the operator saw it first; time in which it could not be seen does not count.
    pub since: Time,
    /// Since when it cannot be seen whether it is still so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen_since: Option<Time>,
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
    /// A pod of this template has been Ready, and the template is not known good yet: that other pods of it do not get
    /// Ready is then not the template's fault alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub became_ready: bool,
    /// The template to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_healthy: Option<HealthyRevision>,
    /// What has answered the operator's probes at least once: of the rest it is not known whether there is a way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub answered: Vec<Answered>,
    /// What of that which it depends on has answered the operator at least once, each with a digest of what was asked: of
    /// the rest it is not known whether there is a way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub answered_dependencies: Vec<NamedDigest>,
}

/// Something by its name, and a digest of what it was like: with another digest, it is another.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct NamedDigest {
    /// Its name.
    pub name: String,
    /// The digest.
    pub digest: String,
}

impl NamedDigest {
    /// Of these.
    pub fn new(name: impl Into<String>, digest: impl Into<String>) -> Self {
        Self { name: name.into(), digest: digest.into() }
    }
}

/// A kind of probe, and the way that it went.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answered {
    /// MCP, by a pod.
    McpPod,
    /// MCP, through a Service.
    McpService,
    /// `tools/list`, by a pod.
    ToolsPod,
    /// `tools/list`, through a Service.
    ToolsService,
    /// The health path, by a pod.
    HealthPod,
    /// The health path, through a Service.
    HealthService,
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
    /// The longest time from the start of a pod's containers until the pod was Ready, as far as the operator observed
    /// it; at most the progress deadline. A start is slow only beyond twice this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_start: Option<Duration>,
    /// The content of the ConfigMaps that its pods were started with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub config: Vec<HealthyConfig>,
    /// The tools that it offered, each with a digest of its schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tools: Vec<NamedDigest>,
}

/// The content of a `ConfigMap` that healthy pods were started with.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HealthyConfig {
    /// The `ConfigMap`.
    pub name: String,
    /// Digest of its content.
    pub content: String,
    /// The immutable copy that holds this content; none where the policy does not allow RollbackConfig.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub copy: String,
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
    /// The attempt that it reverted, where it was a revert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<String>,
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
    /// The API server refuses the pods: PodSecurity, an admission webhook, a LimitRange, an invalid template.
    AdmissionRefused,
    /// The kubelet rejects every pod that is placed on its node: a sysctl, a device, its own resources.
    PodRejected,
    /// Pods are evicted from their nodes again and again.
    Evicted,
    /// New pods wait for a pod that does not end.
    StuckTerminating,
    /// The controllers create no pod, and nothing tells why.
    NotCreated,
    /// The node does not get as far as starting the pod's containers: sandbox, network, volumes.
    NotStarted,
    /// The containers are ready, and a readiness gate of the pod is not set by the controller that it belongs to.
    ReadinessGate,
    /// No template of this server was ever seen healthy.
    NeverHealthy,
    /// The containers end by themselves, on a template that was healthy before.
    ProcessExit,
    /// Pods run and do not become ready, on a template that was healthy before.
    NotReady,
    /// A Service that selects this server's pods has none of them among its ready endpoints, or the Service
    /// of its name selects none of them.
    ServiceMismatch,
    /// The database that the server needs does not let it in, or does not answer.
    DatabaseConnection,
    /// What the server connects to refuses its credentials.
    CredentialsRejected,
    /// A certificate has expired, or is not trusted, on a connection that the server opens.
    CertificateRejected,
    /// What the server connects to lets it in, and refuses what it asks for: a grant is missing.
    PermissionMissing,
    /// What the pods waited for is back, and the kubelet delays their next start.
    BackOff,
    /// Killed at the memory limit.
    OutOfMemory,
    /// A `ConfigMap`, Secret or key is missing, a value is wrong, or the content was changed since the pods were
    /// well.
    ConfigError,
    /// A module, library, program or file that the server needs is not in its image.
    MissingDependency,
    /// A file, port or API may not be used.
    PermissionDenied,
    /// Killed by a probe before the start was over.
    StartupTimeout,
    /// The port is taken, or the container, its probes and its Services do not name the same one.
    PortConflict,
    /// The image cannot be had.
    ImagePull,
    /// More memory is needed than the limit allows.
    LimitTooSmall,
    /// Memory grows as long as the process runs.
    Leak,
    /// There is more work than the CPU limit allows.
    Saturation,
    /// The container's own log files.
    ContainerLogs,
    /// Files of the pod's own, which end with it.
    TemporaryFiles,
    /// Data on a volume that outlives the pod.
    VolumeData,
    /// PostgreSQL can write no file any more: the volume that its data is on is full.
    DatabaseDisk,
    /// An alert says so, whatever is behind it.
    Alert,
    /// Something that the server depends on does not answer the operator either.
    DependencyDown,
    /// The kubelet of a node reports that the node is not ready.
    NodeNotReady,
    /// The kubelet of a node stopped reporting.
    NodeUnreachable,
    /// A node was deleted, or is marked out of service.
    NodeGone,
    /// A circuit breaker is open though what it guards answers.
    CircuitOpen,
    /// One pod fails, and the others do not.
    OnePod,
    /// Most of what fails is one tool.
    OneTool,
    /// Most of what fails is one endpoint.
    OneEndpoint,
    /// Requests fail all over the server, and nothing tells why.
    ServerErrors,
    /// What lies between the clients and the server: a proxy, a gateway, a network.
    Upstream,
    /// What clients send, or how much of it.
    Clients,
    /// Sessions that nobody uses any more are not ended.
    IdleSessions,
    /// A pod has more sessions than it should hold.
    TooManySessions,
    /// A pod's heartbeat is not sent any more.
    HeartbeatSilent,
    /// Nothing listens on the server's port, or only on 127.0.0.1.
    Refused,
    /// Connections are not answered at all: dropped on their way, or the machine is stuck.
    Dropped,
    /// Pods are well, and what the Service leads to refuses connections: nobody listens on its `targetPort`.
    TargetPortMismatch,
    /// The Service's name does not resolve.
    NameNotResolved,
    /// No TLS session comes about.
    TlsFailing,
    /// Connections are taken, and nothing is answered in time.
    TimedOut,
    /// It answers with errors: 503, another 5xx, or JSON-RPC errors to `tools/list`.
    ErrorAnswers,
    /// MCP hangs, though the pod runs.
    Wedged,
    /// The pods answer, and through the Service their answers are kept back, cut off or replaced: a proxy in between.
    ProxyBuffering,
    /// A Service that selects this server's pods leads to pods of others as well.
    ForeignEndpoints,
    /// 421: the host's name is not on the server's list.
    HostNotAllowed,
    /// 401 or 403: it wants a credential that the operator does not have.
    AuthenticationRequired,
    /// What answers at the path is no MCP.
    NotMcp,
    /// The path redirects to another origin, which the operator does not follow.
    Redirected,
    /// What answers is MCP that contradicts itself.
    Malformed,
    /// It speaks no version of MCP that the operator does.
    VersionMismatch,
    /// The session that it gave is lost at once: through a Service, because the next request goes to another pod.
    SessionLost,
    /// A tool that the policy names, or that the very template offered before, is gone.
    ToolGone,
    /// The server offers no tool at all.
    NoTools,
    /// A tool takes other arguments than it did on the same template.
    SchemaDrift,
    /// A circuit breaker is open, and nothing tells whether what it guards answers.
    GuardUnknown,
    /// Answers are slow all over the server, and nothing tells why.
    SlowAnswers,
    /// All connections to the database are in use, or waited for.
    DatabasePool,
    /// Transactions that were begun and left alone.
    IdleTransactions,
    /// Connections that are held and do nothing, though no more is asked for than before.
    ConnectionLeak,
    /// More is asked for than before, and the connections are too few for it.
    PoolTooSmall,
    /// Connections of others use up what the database permits.
    OthersConnections,
    /// A transaction at work: a migration, a report.
    ActiveTransaction,
    /// A session of somebody else's.
    OthersSession,
    /// A prepared transaction that nobody has ended.
    PreparedTransaction,
    /// The database's own upkeep.
    DatabaseUpkeep,
    /// A statement reads tables from end to end, for want of an index.
    MissingIndex,
    /// The database plans by statistics that are out of date.
    StaleStatistics,
    /// One statement runs again and again for one request.
    RepeatedStatement,
    /// A statement takes long, and nothing tells why.
    SlowStatement,
    /// What the database reads from its disk is not what it wrote there.
    ChecksumFailure,
    /// The database says that its data, or an index, is damaged (SQLSTATE XX001, XX002).
    DataDamaged,
    /// The cache finds much less than before.
    CacheMisses,
    /// The CPU limit stops the containers again and again.
    CpuThrottled,
    /// A tool that is called is not there.
    ToolNotFound,
    /// A tool is called with arguments that it does not take.
    ToolArguments,
    /// A tool does not finish in time.
    ToolTimeout,
    /// A tool does not reach what it needs.
    ToolDependency,
    /// A tool fails by itself.
    ToolErrors,
    /// A certificate ends soon, or has ended.
    Certificate,
    /// The policy's own rule says so.
    OwnRule,
    /// A person's word.
    PersonsReport,
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
    /// Well again by something temporary: see the follow-ups.
    Mitigated,
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
    /// The rule of `spec.rules`, where it is one of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
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
    /// What it is about, where that is not the server itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub subjects: Vec<Subject>,
    /// The actions that it forbids on this server. They stay forbidden until its rule says that all is well, also while
    /// its evidence is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 24))]
    pub forbids: Vec<ActionType>,
    /// Since when evidence is missing for what it forbids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen_since: Option<Time>,
    /// What was done, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub attempts: Vec<Attempt>,
    /// The `ConfigMap` with the logs, events and states that were collected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_kept: Option<String>,
    /// What was done for the time being, and needs a permanent fix. While any remains, the incident is Mitigated,
    /// not Resolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["attempt"]))]
    pub follow_ups: Vec<FollowUp>,
    /// What comes next, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What keeps the operator from acting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Why a person is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<Escalation>,
    /// How often it was judged again after an escalation, because its cause had changed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reevaluations: i32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(count: &i32) -> bool {
    *count == 0
}

/// What an incident is about.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Its kind.
    pub kind: SubjectKind,
    /// Its name. Of a certificate, the name of the dependency that shows it; of a report, a digest of its
    /// words.
    pub name: String,
    /// How bad this one is, where each of several has its own severity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Since when, where another time is another subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

impl Subject {
    /// What its kind and its name tell.
    pub fn new(kind: SubjectKind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into(), severity: None, since: None }
    }
}

impl fmt::Display for SubjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The kinds of what an incident is about.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectKind {
    /// An alert of Alertmanager.
    Alert,
    /// The certificate of a dependency.
    Certificate,
    /// The server's own pools of database connections.
    ConnectionPool,
    /// The database that the policy declares.
    Database,
    /// What the policy declares its server to depend on.
    Dependency,
    /// A node.
    Node,
    /// A PersistentVolumeClaim.
    PersistentVolumeClaim,
    /// A pod.
    Pod,
    /// The report of a person.
    Report,
}

impl Incident {
    /// What people call it: by its rule, where the policy's own opened it; else by its type.
    pub fn name(&self) -> String {
        self.rule.clone().unwrap_or_else(|| self.incident_type.to_string())
    }

    /// The attempt whose outcome is not known yet.
    pub fn open_attempt(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.outcome.is_none())
    }

    /// The attempt whose outcome is not known yet, to be changed.
    pub fn open_attempt_mut(&mut self) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.outcome.is_none())
    }

    /// Whether it is escalated, and automatic actions are off until something new is found.
    pub fn is_escalated(&self) -> bool {
        self.escalation.as_ref().is_some_and(|escalation| escalation.reevaluated_at.is_none())
    }

    /// Whether an answer was given: something temporary is in force and all is well, or it is being taken back.
    pub fn is_answered(&self) -> bool {
        let taken_back = self.open_attempt().is_some_and(|attempt| attempt.undoes.is_some());
        self.is_mitigated() || (!self.follow_ups.is_empty() && taken_back)
    }

    /// Whether the signals are well, and only something temporary is in force.
    pub fn is_mitigated(&self) -> bool {
        !self.follow_ups.is_empty() && self.quiet_since.is_some() && self.open_attempt().is_none()
    }
}

impl McpServerHealthStatus {
    /// Whether an attempt is under way.
    pub fn is_acting(&self) -> bool {
        self.incidents.iter().any(|incident| incident.open_attempt().is_some())
    }
}

/// Something temporary that is in force.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FollowUp {
    /// The attempt that put it in force.
    pub attempt: String,
    /// What it is, and what would make it permanent.
    pub message: String,
    /// When the operator takes it back by itself, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take_back_at: Option<Time>,
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
    /// The cause that was found then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// When the incident was judged again, because its cause had changed. Automatic actions are possible since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reevaluated_at: Option<Time>,
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
    #[schemars(length(max = 8))]
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

    /// Whether any step touched the server, or may have.
    pub fn has_begun(&self) -> bool {
        let mut steps = self.steps.iter().filter(|step| step.effect != Effect::MarkTarget);
        steps.any(|step| step.state != StepState::Recorded)
    }

    /// The first step that is not done.
    pub fn next_step(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.state != StepState::Done)
    }

    /// Whether it counts against limits: it touched the target, or may have. A revert that failed does not: it is planned
    /// again from what is seen then.
    pub fn is_spent(&self) -> bool {
        let is_open_revert = self.undoes.is_some() && self.outcome == Some(Outcome::Failed);
        let is_unsent = matches!(self.outcome, Some(Outcome::Superseded | Outcome::Refused));
        self.has_begun() || !(is_unsent || is_open_revert)
    }
}

/// Exactly one effect, fenced by what is recorded here.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What is done.
    pub effect: Effect,
    /// What it is done to, as `Kind/name`. Absent: the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The fields of containers that are set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub edits: Vec<Edit>,
    /// The database sessions that are ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionFence>,
    /// Before: the digest of the template or of the content, or the number of replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// After: the same; for a restart, the moment that is written; for a hook or a circuit, its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Where the new content comes from: the ReplicaSet, the copy, the `CronJob`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Fence: the object's uid.
    pub uid: String,
    /// Fence: the object's resourceVersion. Absent where the content alone is the fence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// For a wait: when it ends at the latest. For what is only for a time: when it is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Digest of the target's template after the effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The target's generation after the effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// What came of it, where there is something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Whether it is done.
    pub state: StepState,
}

/// The most database sessions that one step ends.
pub const SESSIONS_LIMIT: usize = 200;

/// Database sessions, by everything that tells them from others: only what is still all of this is ended, by one
/// statement.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SessionFence {
    /// The database.
    pub database: String,
    /// The role that they came as.
    pub user: String,
    /// What they call themselves.
    pub application: String,
    /// Their state, as `pg_stat_activity` has it: `idle in transaction`, `idle in transaction (aborted)` or `idle`.
    pub state: String,
    /// Each as its process id, the moments that it began, that its transaction began (`-` without one) and that its state
    /// changed last, to the microsecond: `4711 2026-11-21T10:00:00.000001Z 2026-11-21T10:07:00.5Z 2026-11-21T10:07:01Z`.
    #[schemars(length(max = 200))]
    pub list: Vec<String>,
}

/// One field of a container, set to an absolute value.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Edit {
    /// The container.
    pub container: String,
    /// The field: `resources.limits.memory`, `startupProbe.failureThreshold`, `env.DB_POOL_SIZE`.
    pub field: String,
    /// Its value before; absent where it was not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its value after.
    pub to: String,
}

/// The effects that a step can have.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Replaces the pod template by that of a ReplicaSet.
    PatchTemplate,
    /// Sets fields of containers in the pod template.
    EditTemplate,
    /// Sets the restart annotation of the pod template.
    RestartPods,
    /// Sets the number of replicas.
    SetReplicas,
    /// Notes the attempt on the target, which is not changed otherwise.
    MarkTarget,
    /// Gives the fields that were changed back to the manager that owned the template before.
    HandBackOwnership,
    /// Evicts a pod.
    EvictPod,
    /// Replaces the content of a `ConfigMap` by that of a copy; the content before is kept in another copy.
    RestoreConfig,
    /// Calls a hook on every ready pod.
    CallHook,
    /// Lets time pass.
    Wait,
    /// Waits until the rollout is through, or the time is over.
    AwaitRollout,
    /// Creates a Job.
    RunJob,
    /// Has one pod close a circuit breaker.
    ResetCircuit,
    /// Ends database sessions.
    EndSessions,
}

impl Effect {
    /// Whether nothing tells afterwards if it took place: it is recorded by itself, and never repeated.
    pub const fn is_untraceable(self) -> bool {
        matches!(self, Self::CallHook | Self::ResetCircuit | Self::EndSessions)
    }
}

/// Whether an effect took place.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepState {
    /// Intended; it may have happened.
    Recorded,
    /// Begun; nothing tells whether it happened, and it counts as if it had.
    Started,
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
    /// A deadline passed, and it is not known whether its last step took place. It counts as if it did.
    Failed,
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
    /// The rule of `spec.rules`, where it was one of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
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
    /// The `ConfigMap` with the logs, events and states that were collected last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_kept: Option<String>,
    /// What was done, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub actions: Vec<ActionOutcome>,
    /// From the fault to its detection.
    pub time_to_detect: String,
    /// From detection to the action that helped; absent where none was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_mitigate: Option<String>,
    /// From detection to resolution.
    pub time_to_resolve: String,
}

impl PastIncident {
    /// What people call it: by its rule, where the policy's own opened it; else by its type.
    pub fn name(&self) -> String {
        self.rule.clone().unwrap_or_else(|| self.incident_type.to_string())
    }

    /// Whether an action was carried out on it.
    pub fn was_acted_on(&self) -> bool {
        let is_idle =
            |one: &ActionOutcome| matches!(one.outcome, Some(Outcome::Superseded | Outcome::Refused));
        !self.actions.iter().all(is_idle)
    }

    /// What was done, as `Rollback: Superseded, Rollback: Improved`; empty if nothing was.
    pub fn done(&self) -> String {
        self.actions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// What was done once, and how it ended.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ActionOutcome {
    /// What was done.
    pub action: ActionType,
    /// How it ended; absent where that was not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

impl fmt::Display for ActionOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            Some(outcome) => write!(f, "{}: {outcome}", self.action),
            None => write!(f, "{}", self.action),
        }
    }
}
