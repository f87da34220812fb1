//! ReplicaSets: the revisions of a Deployment. A row holds the digest of the template, not the template.

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{ReplicaSet, ReplicaSetCondition},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use mcp_health_core::{digest, signals::Revision};
use serde::Deserialize;
use serde_json::Value;

use super::{
    references,
    table::{Concerns, Key, Row},
};

/// The Deployment's number for a ReplicaSet.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// A ReplicaSet as it comes over the wire.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = ReplicaSet)]
pub struct ReplicaSetWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is asked for.
    #[serde(default)]
    pub spec: ReplicaSetSpec,
    /// What its controller says.
    #[serde(default)]
    pub status: ReplicaSetStatus,
}

/// The fields of a ReplicaSet's status that are looked at.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
pub struct ReplicaSetStatus {
    conditions: Vec<ReplicaSetCondition>,
}

/// The fields of a ReplicaSet's spec that are looked at.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
pub struct ReplicaSetSpec {
    /// Replicas it is asked for.
    pub replicas: Option<i32>,
    /// The pod template.
    pub template: Value,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaSetRow {
    /// What the core is given.
    pub revision: Revision,
    /// The Deployment that it belongs to, by uid.
    pub owner: Key,
    /// The Deployment that it belongs to, by name.
    pub deployment: Key,
}

impl Row for ReplicaSetRow {
    fn group(&self) -> Option<Key> {
        Some(self.owner.clone())
    }

    fn changes_verdict(&self, before: &Self) -> bool {
        self != before
    }

    fn concerns(&self, _: &Key) -> Concerns {
        Concerns::Target(self.deployment.clone())
    }
}

/// The row of a ReplicaSet that belongs to a Deployment; keyed by its uid, as pods point to it.
pub fn view(wire: &ReplicaSetWire) -> Option<(Key, ReplicaSetRow)> {
    let meta = &wire.metadata;
    let namespace = meta.namespace.as_deref()?;
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    let uid = meta.uid.clone()?;
    let row = ReplicaSetRow {
        revision: Revision {
            name: meta.name.clone()?,
            uid: uid.clone(),
            template: digest::of_template(&wire.spec.template),
            number: meta.annotations.as_ref().and_then(|all| all.get(REVISION)?.parse().ok()),
            replicas: wire.spec.replicas.unwrap_or(1),
            references: references::of_template(&wire.spec.template),
            failure: failure(&wire.status),
        },
        owner: Key::new(namespace, &owner.uid),
        deployment: Key::new(namespace, &owner.name),
    };
    (owner.kind == "Deployment").then(|| (Key::new(namespace, &uid), row))
}

/// The API server refuses its pods: the message, and since when.
fn failure(status: &ReplicaSetStatus) -> Option<(String, Timestamp)> {
    let mut conditions = status.conditions.iter();
    let is = |field: &Option<String>, wanted: &str| field.as_deref() == Some(wanted);
    let failure = conditions.find(|one| is(&one.type_, "ReplicaFailure") && is(&one.status, "True"))?;
    let since = failure.last_transition_time.as_ref()?.0;
    Some((failure.message.clone().unwrap_or_default(), since))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_replica_set_whose_pods_are_refused_says_why_and_since_when() {
        let of = |status: &str| {
            let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "s", "uid": "d", "controller": true});
            let wire = json!({
                "metadata": {"name": "s-1", "namespace": "mcp", "uid": "r", "ownerReferences": [owner]},
                "status": {"replicas": 0, "conditions": [{
                    "type": "ReplicaFailure", "status": status, "reason": "FailedCreate",
                    "lastTransitionTime": "2026-01-01T00:00:01Z",
                    "message": "pods \"s-1-x\" is forbidden: violates PodSecurity \"restricted:latest\"",
                }]},
            });
            view(&serde_json::from_value(wire).unwrap()).unwrap().1.revision.failure
        };
        let (message, since) = of("True").unwrap();
        assert!(message.contains("violates PodSecurity"));
        assert_eq!(since.to_string(), "2026-01-01T00:00:01Z");
        assert_eq!(of("False"), None);
    }
}
