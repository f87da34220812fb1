//! ReplicaSets: the revisions of a Deployment. A row holds the digest of the template, not the template.

use k8s_openapi::{api::apps::v1::ReplicaSet, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use mcp_health_core::{digest, signals::Revision};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Stores, references,
    table::{Key, Row},
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

    fn wake(&self, _: &Key, stores: &Stores) {
        stores.wake_target(&self.deployment);
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
        },
        owner: Key::new(namespace, &owner.uid),
        deployment: Key::new(namespace, &owner.name),
    };
    (owner.kind == "Deployment").then(|| (Key::new(namespace, &uid), row))
}
