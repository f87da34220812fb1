//! What was seen of a server: the typed, bounded views that the collectors keep and the rules judge.
//! A reading is never a bare value: it is fresh, stale or unavailable, and says why.

mod alerts;
mod circuits;
pub mod database;
mod dependencies;
mod metrics;
mod nodes;
mod pod;
mod probes;
mod reading;
mod references;

pub use alerts::Alert;
pub use circuits::{Circuit, CircuitState};
pub use database::Database;
pub use dependencies::{
    AnswersSince, Certificate, CheckStep, Dependency, Failure, KEPT as DEPENDENCY_KEPT,
    NAMED as LEANING_NAMED,
};
use jiff::{SignedDuration, Timestamp};
use mcp_health_api::ActionType;
pub use metrics::{Metrics, RuleReading, Series, Span};
pub use nodes::{Node, NodeReady, NodeSign, Placement};
pub use pod::{Container, Exit, LastWords, Lifecycle, Pod, Role};
pub use probes::{
    Fault, FaultKind, KEPT as PROBES_KEPT, ProbePath, ProbeQuestion, ProbeResult, Probed, Tool,
};
pub use reading::Reading;
pub use references::{Presence, Reference, ReferenceKind, Referenced};
use serde::{Deserialize, Serialize};

/// Everything that is seen of one server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signals {
    /// Whether the McpServerHealth object itself is known as it is now.
    pub policy: Reading<()>,
    /// The Deployment; `None` inside a fresh reading: there is none of that name.
    pub target: Reading<Option<Target>>,
    /// Its ReplicaSets.
    pub revisions: Reading<Vec<Revision>>,
    /// Its pods.
    pub pods: Reading<Vec<Pod>>,
    /// The nodes that its pods run on; off where the operator may not read nodes.
    pub nodes: Reading<Vec<Node>>,
    /// The Services that select its pods, or carry its name.
    pub services: Reading<Vec<Service>>,
    /// The autoscalers that set its number of replicas.
    pub autoscalers: Reading<Vec<Autoscaler>>,
    /// The autoscalers that set its requests and limits; off where the cluster has none.
    pub vertical_autoscalers: Reading<Vec<Autoscaler>>,
    /// The disruption budgets that cover its pods.
    pub budgets: Reading<Vec<Budget>>,
    /// What its namespace limits.
    pub quotas: Reading<Vec<Quota>>,
    /// Whether what a rollback's template names exists; only what was looked up.
    pub references: Vec<Referenced>,
    /// The ConfigMaps that its template names, as far as they exist.
    pub configs: Reading<Vec<Config>>,
    /// The Jobs that the operator made for it.
    pub jobs: Reading<Vec<Job>>,
    /// What its containers use of CPU and memory.
    pub usage: Reading<Vec<Usage>>,
    /// What of that memory is no page cache, by Prometheus or by the kubelets; off where neither tells.
    pub resident: Reading<Vec<Usage>>,
    /// How full the volumes of its pods are.
    pub volumes: Reading<Vec<Volume>>,
    /// What its metrics tell; off where nobody is asked for them.
    pub metrics: Reading<Metrics>,
    /// What the policy's own rules came to.
    pub rules: Reading<Vec<RuleReading>>,
    /// What probes of its pods and Services came to.
    pub probes: Reading<Vec<Probed>>,
    /// Its circuit breakers, pod by pod; off where it tells of none.
    pub circuits: Reading<Vec<Circuit>>,
    /// What it depends on, its database among it.
    pub dependencies: Reading<Vec<Dependency>>,
    /// What its PostgreSQL database tells; unavailable while that cannot be asked.
    pub database: Reading<Database>,
    /// Alerts about it.
    pub alerts: Reading<Vec<Alert>>,
    /// What a person says in the object's annotation.
    pub report: Option<String>,
    /// Up to when a person has dealt with what its database finds damaged, by the object's annotation.
    pub settled: Option<Timestamp>,
    /// What a user lifts of what an incident forbids, by the object's annotation; `Err` says what is wrong
    /// with it.
    pub lift: Option<Result<Lift, String>>,
    /// Whether its namespace is suspended.
    pub namespace_suspended: Reading<bool>,
    /// Whether the cluster-wide switch is thrown.
    pub cluster_suspended: Reading<bool>,
    /// Name of an older object with the same target.
    pub rival: Option<String>,
}

/// What is seen, for people, and what it is worth.
type Source = (&'static str, Reading<()>);

fn problems(sources: impl IntoIterator<Item = Source>) -> impl Iterator<Item = String> {
    sources.into_iter().filter_map(|(source, reading)| reading.problem(source))
}

/// A user's word that what one incident forbids may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lift {
    /// The incident's id.
    pub incident: String,
    /// Until then.
    pub until: Timestamp,
}

impl Signals {
    /// What an action or its fences rest on.
    fn fences(&self) -> [Source; 6] {
        [
            ("the Deployment", self.target.worth()),
            ("its ReplicaSets", self.revisions.worth()),
            ("its pods", self.pods.worth()),
            ("its autoscalers", self.autoscalers.worth()),
            ("its ConfigMaps", self.configs.worth()),
            ("its Jobs", self.jobs.worth()),
        ]
    }

    /// What a change of requests and limits rests on beside that.
    fn fences_of_resources(&self) -> [Source; 2] {
        [
            ("its vertical autoscalers", self.vertical_autoscalers.worth()),
            ("its namespace's quotas", self.quotas.worth()),
        ]
    }

    /// What is seen beside that.
    fn other_sources(&self) -> [Source; 15] {
        [
            ("its nodes", self.nodes.worth()),
            ("its Services", self.services.worth()),
            ("its disruption budgets", self.budgets.worth()),
            ("its usage", self.usage.worth()),
            ("its volumes", self.volumes.worth()),
            ("its metrics", self.metrics.worth()),
            ("its own rules", self.rules.worth()),
            ("its probes", self.probes.worth()),
            ("its circuit breakers", self.circuits.worth()),
            ("its dependencies", self.dependencies.worth()),
            ("its database", self.database.worth()),
            ("its alerts", self.alerts.worth()),
            ("this object", self.policy.worth()),
            ("the namespace's switch", self.namespace_suspended.worth()),
            ("the cluster-wide switch", self.cluster_suspended.worth()),
        ]
    }

    /// What an action or its fences rest on and cannot be relied on, as sentences.
    pub fn problems_of_fences(&self) -> Vec<String> {
        problems(self.fences()).collect()
    }

    /// What a change of requests and limits rests on beside that and cannot be relied on, as sentences.
    pub fn problems_of_resources(&self) -> Vec<String> {
        problems(self.fences_of_resources()).collect()
    }

    /// The first source that the API server does not let the operator see, as a sentence.
    pub fn forbidden(&self) -> Option<String> {
        let all = self.fences().into_iter().chain(self.fences_of_resources()).chain(self.other_sources());
        problems(all.filter(|(_, reading)| matches!(reading, Reading::Forbidden(_)))).next()
    }

    /// What the end of database sessions rests on beside that and cannot be relied on, as sentences.
    pub fn problems_of_sessions(&self) -> Vec<String> {
        self.problem_of_database().into_iter().collect()
    }

    /// Why what its database tells may not be relied on.
    pub fn problem_of_database(&self) -> Option<String> {
        self.database.problem("its database").or_else(|| self.unread_database())
    }

    /// Its database answers, and could not be read.
    fn unread_database(&self) -> Option<String> {
        Some(format!("its database: {}", self.database.fresh()?.unread.as_ref()?))
    }

    /// Which of the policy's own rules have no answer, as sentences.
    fn problems_of_rules(&self) -> impl Iterator<Item = String> + use<'_> {
        self.rules.fresh().into_iter().flatten().filter_map(|rule| match &rule.values {
            Err(why) => Some(format!("rule {}: {why}", rule.name)),
            Ok(values) if values.is_empty() => Some(format!(
                "rule {}: its query answers nothing for this server, and absent is not zero",
                rule.name
            )),
            Ok(_) => None,
        })
    }

    /// Which dependencies are not asked, or have never answered, as sentences.
    fn problems_of_dependencies(&self) -> impl Iterator<Item = String> + use<'_> {
        let all = self.dependencies.fresh().into_iter().flatten();
        all.filter_map(|one| match &one.barred {
            Some(why) => Some(format!("dependency {}: {why}", one.name)),
            None if one.never_answered() => Some(format!(
                "dependency {}: DependencyNeverReached: {} has never answered the operator ({} fails): a NetworkPolicy or the DNS \
                 of the operator's namespace may be in between; by itself it is no evidence until it has",
                one.name,
                one.words,
                one.failure()?.step
            )),
            None => None,
        })
    }

    /// What the database does not tell for want of a grant, as sentences.
    fn problems_of_grants(&self) -> impl Iterator<Item = String> + use<'_> {
        let missing = self.database.fresh().into_iter().flat_map(|database| &database.missing_grants);
        missing.map(|missing| format!("its database: {missing}"))
    }

    /// What was declared to be asked and never answered, or is left to clients.
    fn never_answered(&self) -> Option<String> {
        let pods = self.pods.fresh().map(Vec::as_slice).unwrap_or_default();
        let probes = self.probes.fresh()?;
        let problem = probes::single_client(probes).or_else(|| probes::never_answered(probes, pods))?;
        Some(format!("its probes: {problem}"))
    }

    /// Everything that cannot be relied on, as sentences.
    pub fn problems(&self) -> Vec<String> {
        let others = [
            self.metrics.fresh().and_then(Metrics::gaps),
            self.never_answered(),
            self.unread_database(),
            self.lift.as_ref().and_then(|lift| lift.as_ref().err().cloned()),
        ];
        problems(self.fences())
            .chain(problems(self.fences_of_resources()))
            .chain(problems(self.other_sources()))
            .chain(others.into_iter().flatten())
            .chain(self.problems_of_rules())
            .chain(self.problems_of_dependencies())
            .chain(self.problems_of_grants())
            .collect()
    }
}

/// The Deployment, as far as any rule asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// Another uid is another server, whatever its name.
    pub uid: String,
    /// Fence of the next change.
    pub resource_version: String,
    /// Counts changes of the Deployment's spec.
    pub generation: i64,
    /// The generation that the Deployment controller has acted on.
    pub observed_generation: i64,
    /// Digest of its pod template, see [`crate::digest`].
    pub template: String,
    /// Replicas wanted.
    pub desired: i32,
    /// How a change of the template replaces pods.
    pub strategy: Strategy,
    /// Replicas that a rolling update makes beside those wanted.
    pub surge: i32,
    /// Replicas there are, of any revision, by the Deployment's status.
    pub replicas: i32,
    /// Replicas of the template in force, by the Deployment's status.
    pub updated: i32,
    /// Ready replicas, by the Deployment's status.
    pub ready: i32,
    /// `spec.paused`.
    pub paused: bool,
    /// `spec.revisionHistoryLimit` is 0: no ReplicaSet is kept once a rollout is complete.
    pub keeps_no_revision: bool,
    /// The message of `Progressing=False, ProgressDeadlineExceeded`.
    pub deadline_exceeded: Option<String>,
    /// The message of `ReplicaFailure=True`, and since when.
    pub replica_failure: Option<(String, Timestamp)>,
    /// `spec.progressDeadlineSeconds`.
    pub progress_deadline: SignedDuration,
    /// How long the template's own probes give a pod to become ready.
    pub startup_budget: SignedDuration,
    /// The containers of its pod template, init containers included, in that order.
    pub containers: Vec<ContainerSpec>,
    /// The ConfigMaps that its pod template names.
    pub config_maps: Vec<ConfigUse>,
    /// The Secrets that its containers read.
    pub secrets: Vec<SecretUse>,
    /// The PersistentVolumeClaims that its pods share.
    pub claims: Vec<String>,
    /// The field manager that owns its number of replicas: its next apply would set it, or fail if it is
    /// another's.
    pub replicas_owner: Option<String>,
    /// How long a pod may take to end.
    pub grace_period: SignedDuration,
    /// The attempt that changed it last.
    pub attempt: Option<String>,
    /// The operator's last actions on it, whoever asked for them.
    pub actions: Vec<RecordedAction>,
    /// The GitOps tool that owns it.
    pub gitops: Option<String>,
}

impl Target {
    /// The server's own container: the one that the policy names; else the first with a port.
    pub fn container(&self, named: Option<&str>) -> Option<&ContainerSpec> {
        let mut main = self.containers.iter().filter(|one| one.role == Role::Main);
        match named {
            Some(name) => main.find(|one| one.name == name),
            None => main.clone().find(|one| !one.ports.is_empty()).or_else(|| main.next()),
        }
    }
}

/// One action, as it is kept in an annotation of the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedAction {
    /// The attempt.
    pub id: String,
    /// What was done.
    pub action: ActionType,
    /// When.
    pub at: Timestamp,
    /// The attempt that it took back, because that had made things worse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<String>,
}

/// What the pod template says of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerSpec {
    /// Its name.
    pub name: String,
    /// When it runs.
    pub role: Role,
    /// `resources.requests.memory`, in bytes.
    pub memory_request: Option<i64>,
    /// `resources.limits.memory`, in bytes.
    pub memory_limit: Option<i64>,
    /// `resources.requests.cpu`, in millicores.
    pub cpu_request: Option<i64>,
    /// `resources.limits.cpu`, in millicores.
    pub cpu_limit: Option<i64>,
    /// `resources.limits.ephemeral-storage`, in bytes.
    pub disk_limit: Option<i64>,
    /// The ports that it declares: name and number.
    pub ports: Vec<(String, i64)>,
    /// Its probes.
    pub probes: Vec<Probe>,
    /// Its environment: names, and values where they are given in the clear. Never shown.
    pub env: Vec<(String, Option<String>)>,
}

impl ContainerSpec {
    /// The port that it declares first.
    pub fn port(&self) -> Option<u16> {
        u16::try_from(self.ports.first()?.1).ok()
    }
}

/// How a change of the template replaces pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Some at a time: others serve meanwhile.
    #[default]
    RollingUpdate,
    /// All old pods end before a new one starts.
    Recreate,
}

/// A probe of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Which one.
    pub kind: ProbeKind,
    /// How it asks.
    pub handler: ProbeHandler,
    /// The port that it asks, as it is written: a number, or a name.
    pub port: Option<String>,
    /// `initialDelaySeconds`.
    pub delay: i64,
    /// `periodSeconds`.
    pub period: i64,
    /// `failureThreshold`.
    pub failures: i64,
}

/// How a probe of a container asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbeHandler {
    /// `httpGet`.
    Http,
    /// `httpGet` with `scheme: HTTPS`.
    Https,
    /// `tcpSocket`: a connection is enough.
    Tcp,
    /// `exec` or `grpc`.
    #[default]
    Other,
}

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// `startupProbe`.
    Startup,
    /// `readinessProbe`.
    Readiness,
    /// `livenessProbe`.
    Liveness,
}

/// A ConfigMap that a pod template names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigUse {
    /// Its name.
    pub name: String,
    /// Containers read it as environment, which is read at their start only.
    pub as_env: bool,
}

/// A Secret that a container reads. Its content is never looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretUse {
    /// The container.
    pub container: String,
    /// The Secret's name.
    pub name: String,
    /// The container reads it as environment, which is read at its start only; else from a volume.
    pub as_env: bool,
}

/// A ConfigMap as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Fence of the next change.
    pub resource_version: String,
    /// Digest of its content.
    pub content: String,
    /// When its content was changed last, as far as its managers tell, or as the operator observed it; a
    /// second before its creation, where it is as it was created: pods that need it cannot have started
    /// without it.
    pub changed: Timestamp,
    /// Since when the operator observes this content. Its managers do not tell when another one removed a key
    /// of theirs.
    pub first_seen: Timestamp,
    /// Who owns its content, as [`ownership`](crate::ownership) names it.
    pub owner: Option<String>,
    /// `immutable: true`.
    pub immutable: bool,
    /// The GitOps tool that owns it.
    pub gitops: Option<String>,
    /// What else names it: `Deployment other`, `CronJob nightly`, whether pods of it run or not.
    pub shared_with: Vec<String>,
    /// Kinds that may name it and cannot be seen.
    pub unchecked: Vec<String>,
}

/// Who else sets fields of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Autoscaler {
    /// `Kind/name`.
    pub words: String,
    /// What it sets.
    pub sets: Scaled,
}

/// What an autoscaler sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaled {
    /// The number of replicas.
    Replicas,
    /// Requests and limits.
    Resources,
}

/// A PodDisruptionBudget that covers pods of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Its name.
    pub name: String,
    /// How many pods may be evicted now.
    pub allowed: i32,
}

/// What a ResourceQuota or a LimitRange of the namespace allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// `ResourceQuota/name` or `LimitRange/name`.
    pub words: String,
    /// Bytes of memory limits that all pods together may still be given.
    pub memory_limits_left: Option<i64>,
    /// Bytes of memory requests that all pods together may still be given.
    pub memory_requests_left: Option<i64>,
    /// The highest memory limit, in bytes, of one container.
    pub memory_limit_max: Option<i64>,
    /// The highest memory limit, in bytes, of all containers of a pod.
    pub pod_memory_limit_max: Option<i64>,
}

/// A Job that the operator made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// `Some(true)` when it succeeded, `Some(false)` when it failed.
    pub succeeded: Option<bool>,
}

/// What one container uses, by metrics-server.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// Oldest first; bounded.
    pub samples: Vec<Sample>,
}

/// What a container used at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was measured.
    pub at: Timestamp,
    /// CPU, in millicores, over the window that ends at `at`.
    pub cpu: i64,
    /// The working set of memory, in bytes.
    pub memory: i64,
}

/// A space that a pod writes to, by the kubelet's statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// The pod.
    pub pod: String,
    /// What it is.
    pub kind: VolumeKind,
    /// Name of the volume, or of the claim behind it.
    pub name: String,
    /// Bytes used.
    pub used: i64,
    /// Bytes that may be used.
    pub capacity: i64,
    /// When it was measured.
    pub at: Timestamp,
}

/// What a pod writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeKind {
    /// A volume of the pod's own: gone with it.
    Ephemeral,
    /// All that the pod may write to, mostly its containers' own files: gone with the pod.
    Files,
    /// All that the pod may write to, mostly its containers' log files: gone with the pod.
    Logs,
    /// A PersistentVolumeClaim: it outlives the pod.
    Claim,
}

/// A ReplicaSet of the target.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// Its name.
    pub name: String,
    /// Its uid: pods point to it.
    pub uid: String,
    /// Digest of its template.
    pub template: String,
    /// The Deployment's number for it. For display and for the order in time only.
    pub number: Option<i64>,
    /// Replicas it is asked for.
    pub replicas: i32,
    /// The objects that its template names, and not as `optional`.
    pub references: Vec<Reference>,
    /// The message of its condition `ReplicaFailure=True`, and since when: the API server refuses its pods.
    pub failure: Option<(String, Timestamp)>,
}

/// A Service that should lead to the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its selector matches the pod template's labels.
    pub selects_pods: bool,
    /// Its selector, for people.
    pub selector: String,
    /// It keeps a client on its pod (`sessionAffinity: ClientIP`).
    pub sticky: bool,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Those of its ports, by name, that no endpoint of it has a port for: no container has one of that name.
    pub unresolved: Vec<String>,
    /// Ready endpoints in its EndpointSlices.
    pub ready_endpoints: usize,
    /// Whose pods are among its ready endpoints beside the target's: `Deployment other`, `pod x`; each once.
    pub foreign: Vec<String>,
    /// Since when it has some, or none, as far as the operator saw.
    pub since: Timestamp,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty where it has none.
    pub name: String,
    /// Its number.
    pub number: u16,
    /// Where it leads, as it is written: a number, or the name of a container's port.
    pub target: String,
    /// Its `appProtocol` says that TLS is spoken behind it.
    pub is_https: bool,
}
