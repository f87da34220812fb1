//! Nodes: a row holds what explains why the pods of a node lost their readiness.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node as KubernetesNode, NodeCondition, Taint},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use mcp_health_core::signals::{Node, NodeReady, Reading};
use serde::Deserialize;

use super::{
    pods::PodRow,
    table::{Concerns, Key, Row, Table},
};

/// The taint by which a person says that a node is shut down.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A node as it comes over the wire: neither its images nor its addresses are read.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = KubernetesNode)]
pub struct NodeWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: NodeSpec,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
struct NodeSpec {
    unschedulable: bool,
    taints: Vec<Taint>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
struct NodeStatus {
    conditions: Vec<NodeCondition>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRow {
    /// What the core is given.
    pub node: Node,
}

impl Row for NodeRow {
    fn group(&self) -> Option<Key> {
        None
    }

    fn changes_verdict(&self, before: &Self) -> bool {
        // While it is well, its pressures and its cordon change nothing.
        self != before && (self.node.fails() || before.node.fails() || self.node.uid != before.node.uid)
    }

    fn concerns(&self, key: &Key) -> Concerns {
        Concerns::Node(key.name.clone())
    }
}

/// The row of a node. One without a `Ready` condition was just created: its kubelet did not report yet.
pub fn view(wire: &NodeWire) -> Option<(Key, NodeRow)> {
    let name = wire.metadata.name.as_deref()?;
    let condition = |kind: &str| wire.status.conditions.iter().find(|one| one.type_ == kind);
    let ready = condition("Ready");
    let created = wire.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0);
    let pressures = ["MemoryPressure", "DiskPressure", "PIDPressure"].into_iter();
    let is_true = |kind: &&str| condition(kind).is_some_and(|one| one.status == "True");
    let node = Node {
        name: name.to_owned(),
        uid: wire.metadata.uid.clone().unwrap_or_default(),
        ready: match ready.map(|one| one.status.as_str()) {
            Some("True") => NodeReady::Ready,
            Some("False") => NodeReady::NotReady,
            _ => NodeReady::Unknown,
        },
        since: ready.and_then(|one| one.last_transition_time.as_ref()).map_or(created, |at| at.0),
        reason: ready.and_then(|one| one.reason.clone()).unwrap_or_default(),
        message: ready.and_then(|one| one.message.clone()).unwrap_or_default(),
        out_of_service: wire.spec.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE),
        unschedulable: wire.spec.unschedulable,
        pressures: pressures.filter(is_true).map(str::to_owned).collect(),
    };
    Some((Key::new("", name), NodeRow { node }))
}

/// The nodes that these pods run on. Off where the operator may not read nodes.
pub fn reading<'a>(
    table: Option<&Table<NodeRow>>,
    pods: impl Iterator<Item = &'a PodRow>,
    now: Timestamp,
) -> Reading<Vec<Node>> {
    let Some(table) = table else { return Reading::Off };
    let mut names: Vec<&str> = pods.filter_map(|row| row.node.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    let rows = names.into_iter().filter_map(|name| table.get(&Key::new("", name)));
    table.reading("", now, rows.map(|row| row.node.clone()).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn row(ready: &Value, taints: &Value) -> NodeRow {
        let wire = json!({
            "metadata": {"name": "worker-1", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"taints": taints},
            "status": {"conditions": [ready, {"type": "DiskPressure", "status": "True"}], "images": [{"names": ["x"]}]},
        });
        view(&serde_json::from_value(wire).unwrap()).unwrap().1
    }

    fn ready(status: &str, reason: &str) -> Value {
        let at = "2026-01-01T00:05:00Z";
        json!({"type": "Ready", "status": status, "reason": reason, "lastTransitionTime": at})
    }

    #[test]
    fn a_node_is_read_by_its_conditions_and_taints() {
        let well = row(&ready("True", "KubeletReady"), &json!([]));
        assert!(!well.node.fails());
        assert_eq!(well.node.pressures, ["DiskPressure"]);
        let halted = row(&ready("Unknown", "NodeStatusUnknown"), &json!([]));
        assert_eq!(
            (halted.node.ready, halted.node.since),
            (NodeReady::Unknown, "2026-01-01T00:05:00Z".parse().unwrap())
        );
        assert!(row(&ready("False", "KubeletNotReady"), &json!([])).node.fails());
        let taint = json!([{"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}]);
        assert!(row(&ready("True", "KubeletReady"), &taint).node.fails());
        let created = row(&json!({"type": "NetworkUnavailable", "status": "False"}), &json!([]));
        assert_eq!(created.node.ready, NodeReady::Unknown, "its kubelet did not report yet");
    }

    #[test]
    fn only_what_makes_a_node_fail_or_well_again_wakes_servers() {
        let well = row(&ready("True", "KubeletReady"), &json!([]));
        let mut cordoned = well.clone();
        cordoned.node.unschedulable = true;
        assert!(!cordoned.changes_verdict(&well));
        let halted = row(&ready("Unknown", "NodeStatusUnknown"), &json!([]));
        assert!(halted.changes_verdict(&well) && well.changes_verdict(&halted));
        assert!(!halted.changes_verdict(&halted.clone()));
    }
}
