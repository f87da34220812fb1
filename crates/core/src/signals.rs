//! What was seen of a server: the typed, bounded views that the collectors keep and the rules judge.
//! A reading is never a bare value: it is fresh, stale or unavailable, and says why.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::ActionType;
use serde::{Deserialize, Serialize};

/// A value and what it is worth.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading<T> {
    /// Seen, and still so as far as anybody can tell.
    Fresh(T),
    /// Seen once; its source has not answered since `at`.
    Stale {
        /// The value then.
        value: T,
        /// When the source answered last.
        at: Timestamp,
    },
    /// Not seen; the reason is a sentence for people.
    Unavailable(String),
}

impl<T> Reading<T> {
    /// The value, if it may be relied on.
    pub fn fresh(&self) -> Option<&T> {
        match self {
            Self::Fresh(value) => Some(value),
            Self::Stale { .. } | Self::Unavailable(_) => None,
        }
    }

    /// Why the value may not be relied on.
    pub fn problem(&self, source: &str) -> Option<String> {
        match self {
            Self::Fresh(_) => None,
            Self::Stale { at, .. } => {
                Some(format!("{source}: no answer since {}", crate::words::moment(*at)))
            }
            Self::Unavailable(why) => Some(format!("{source}: {why}")),
        }
    }
}

/// Everything that is seen of one server.
#[derive(Clone, Debug, PartialEq)]
pub struct Signals {
    /// The Deployment; `None` inside a fresh reading: there is none of that name.
    pub target: Reading<Option<Target>>,
    /// Its ReplicaSets.
    pub revisions: Reading<Vec<Revision>>,
    /// Its pods.
    pub pods: Reading<Vec<Pod>>,
    /// The Services that select its pods, or carry its name.
    pub services: Reading<Vec<Service>>,
    /// The autoscalers that set its number of replicas, by `Kind/name`.
    pub autoscalers: Reading<Vec<String>>,
    /// Whether its namespace is suspended.
    pub namespace_suspended: Reading<bool>,
    /// Whether the cluster-wide switch is thrown.
    pub cluster_suspended: Reading<bool>,
    /// Name of an older object with the same target.
    pub rival: Option<String>,
}

/// The Deployment, as far as any rule asks.
#[derive(Clone, Debug, PartialEq)]
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
    /// Replicas there are, of any revision, by the Deployment's status.
    pub replicas: i32,
    /// Replicas of the template in force, by the Deployment's status.
    pub updated: i32,
    /// Ready replicas, by the Deployment's status.
    pub ready: i32,
    /// `spec.paused`.
    pub paused: bool,
    /// The message of `Progressing=False, ProgressDeadlineExceeded`.
    pub deadline_exceeded: Option<String>,
    /// The message of `ReplicaFailure=True`, and since when.
    pub replica_failure: Option<(String, Timestamp)>,
    /// `spec.progressDeadlineSeconds`.
    pub progress_deadline: SignedDuration,
    /// How long the template's own probes give a pod to become ready.
    pub startup_budget: SignedDuration,
    /// Whether `metadata.annotations` is there (a JSON patch must not presume it).
    pub has_annotations: bool,
    /// Whether the pod template has annotations.
    pub template_has_annotations: bool,
    /// The attempt that changed it last.
    pub attempt: Option<String>,
    /// The operator's last actions on it, whoever asked for them.
    pub actions: Vec<RecordedAction>,
    /// The GitOps tool that owns it.
    pub gitops: Option<String>,
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
}

/// A pod of the target.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// The uid of the ReplicaSet that owns it.
    pub revision: String,
    /// When it was created.
    pub created: Timestamp,
    /// It is being deleted: no rule counts it.
    pub deleting: bool,
    /// It failed or succeeded as a whole and will not run again (evicted, for example).
    pub finished: bool,
    /// Its `Ready` condition.
    pub ready: bool,
    /// Since when its `Ready` condition is as it is.
    pub ready_changed: Timestamp,
    /// Why no node takes it.
    pub unschedulable: Option<String>,
    /// Its containers, init containers included.
    pub containers: Vec<Container>,
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// How often it was started anew.
    pub restarts: i32,
    /// Why it does not run: reason and message.
    pub waiting: Option<(String, String)>,
    /// How it ended last.
    pub last_exit: Option<Exit>,
    /// When it ended the last times, oldest first; as far as they were seen.
    pub recent_exits: Vec<Timestamp>,
}

/// The end of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// Its exit code.
    pub code: i32,
    /// The kubelet's word for it: `Error`, `OOMKilled`, `Completed`.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// The container's own last words, where its termination message policy keeps them.
    pub message: Option<String>,
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
    /// Ready endpoints in its EndpointSlices.
    pub ready_endpoints: usize,
    /// Since when it has some, or none, as far as the operator saw.
    pub since: Timestamp,
}

impl Pod {
    /// Whether any rule may count it: it is neither on its way out nor over.
    pub fn counts(&self) -> bool {
        !self.deleting && !self.finished
    }
}
