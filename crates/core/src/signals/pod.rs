//! A pod, its containers, and how they ended.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use super::Placement;

/// When a container of a pod runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Beside the others.
    #[default]
    Main,
    /// Before the others, to its end.
    Init,
    /// Started before the others, and beside them from then on.
    Sidecar,
}

/// A pod of the target.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own.
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
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
    /// It is Ready, or was at some time since its creation.
    pub was_ready: bool,
    /// Its address in the cluster.
    pub address: Option<IpAddr>,
    /// Why no node takes it.
    pub unschedulable: Option<String>,
    /// Where it runs, once a node has taken it.
    pub placement: Option<Placement>,
    /// Its containers, init containers included.
    pub containers: Vec<Container>,
    /// What keeps it from running or being ready, by the kubelet's Events; newest last, as reason and
    /// message.
    pub troubles: Vec<(String, String)>,
    /// How far it has come between its creation and its end.
    pub lifecycle: Lifecycle,
}

/// What the scheduler, the kubelet and the API server say of a pod's way from its creation to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// Since when it has a node: `PodScheduled=True`.
    pub scheduled: Option<Timestamp>,
    /// Whether its node has made its sandbox, with network and volumes: `PodReadyToStartContainers`. `None`
    /// where the kubelet does not tell.
    pub sandbox: Option<bool>,
    /// The init container that runs; sidecars are none.
    pub init_running: Option<String>,
    /// When the last of its main containers was started for the first time, as far as the operator observed
    /// it; `None` until all of them were started.
    pub started: Option<Timestamp>,
    /// When the last of its containers that run was started.
    pub started_last: Option<Timestamp>,
    /// When it was Ready for the first time. Only where the operator observed that it was not Ready before.
    pub became_ready: Option<Timestamp>,
    /// Since when all its containers are ready: `ContainersReady=True`.
    pub containers_ready: Option<Timestamp>,
    /// The condition types of `spec.readinessGates` that are missing, or not `True`.
    pub unmet_gates: Vec<String>,
    /// Of a pod that failed as a whole: `status.reason` and `status.message`.
    pub failure: Option<(String, String)>,
    /// When its deletion is due, grace period included: `metadata.deletionTimestamp`.
    pub ends_by: Option<Timestamp>,
    /// The grace period of that: `metadata.deletionGracePeriodSeconds`.
    pub grace: Option<SignedDuration>,
    /// What must be removed before the API server forgets it.
    pub finalizers: Vec<String>,
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// When it runs.
    pub role: Role,
    /// How often it was started anew.
    pub restarts: i32,
    /// Its memory limit in bytes, by the pod's own spec: what a LimitRange set at admission is part of it,
    /// and not of the template.
    pub memory_limit: Option<i64>,
    /// Its memory request in bytes, by the pod's own spec.
    pub memory_request: Option<i64>,
    /// Why it does not run: reason and message.
    pub waiting: Option<(String, String)>,
    /// It has ended, and was not started anew since.
    pub ended: bool,
    /// How it ended last.
    pub last_exit: Option<Exit>,
    /// When it ended the last times, oldest first; as far as they were seen.
    pub recent_exits: Vec<Timestamp>,
    /// The last lines of its log before it ended, masked.
    pub last_words: LastWords,
}

/// The last lines of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LastWords {
    /// Nobody asked: it did not end, or its termination message has them.
    #[default]
    NotAsked,
    /// Asked for, since then.
    Awaited(Timestamp),
    /// Here they are, oldest first.
    Lines(Vec<String>),
    /// They cannot be had: why.
    Missing(String),
}

impl LastWords {
    /// How long actions are held for previous logs that are not fetched yet: they may say that nothing is to
    /// be restarted. After that they count as unavailable.
    pub const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(30);
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
    /// When it had started.
    pub started: Option<Timestamp>,
    /// The container's own last words, where its termination message policy keeps them.
    pub message: Option<String>,
}

impl Pod {
    /// Whether any rule may count it: it is neither on its way out nor over.
    pub fn counts(&self) -> bool {
        !self.deleting && !self.finished
    }
}
