//! Nodes, as far as they explain why a pod is not ready.

use jiff::Timestamp;

/// A node, by its object in the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its uid: a node that was replaced under the same name has another one.
    pub uid: String,
    /// Its `Ready` condition.
    pub ready: NodeReady,
    /// Since when that condition has this status.
    pub since: Timestamp,
    /// The condition's reason: `KubeletNotReady`, `NodeStatusUnknown`.
    pub reason: String,
    /// The condition's message.
    pub message: String,
    /// The taint `node.kubernetes.io/out-of-service`: an operator of the cluster says that it is shut down.
    pub out_of_service: bool,
    /// `spec.unschedulable`: cordoned.
    pub unschedulable: bool,
    /// Conditions that report pressure and are True: `MemoryPressure`, `DiskPressure`, `PIDPressure`.
    pub pressures: Vec<String>,
}

/// The status of a node's `Ready` condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeReady {
    /// `True`.
    Ready,
    /// `False`: its kubelet says so itself.
    NotReady,
    /// `Unknown`: its kubelet stopped reporting.
    Unknown,
}

impl Node {
    /// Whether what its kubelet reported of pods can be relied on no more.
    pub fn fails(&self) -> bool {
        self.ready != NodeReady::Ready || self.out_of_service
    }
}

/// Where a pod runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The node's name.
    pub node: String,
    /// When the scheduler placed the pod there, by its condition `PodScheduled`.
    pub since: Timestamp,
    /// What the control plane did to the pod because its node fails.
    pub sign: Option<NodeSign>,
}

/// What the control plane does to the pods of a node that fails. It shows on the pod itself, so that it is seen where
/// nodes may not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeSign {
    /// The node lifecycle controller set `Ready` to False, while all containers are ready by the kubelet's last report.
    MarkedUnready,
    /// Taint eviction deleted it (`DisruptionTarget` with reason `DeletionByTaintManager`).
    DeletedByTaint,
}
