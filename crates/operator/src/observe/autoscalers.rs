//! HorizontalPodAutoscalers (KEDA makes them too): who else sets a Deployment's number of replicas.

use k8s_openapi::{
    api::autoscaling::v2::{CrossVersionObjectReference, HorizontalPodAutoscaler},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use mcp_health_core::signals::{Autoscaler, Scaled};
use serde::Deserialize;

use super::table::{Concerns, Key, Row};

/// An autoscaler as it comes over the wire.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = HorizontalPodAutoscaler)]
pub struct AutoscalerWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    spec: AutoscalerSpec,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
struct AutoscalerSpec {
    scale_target_ref: CrossVersionObjectReference,
}

/// An autoscaler of a Deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct AutoscalerRow {
    /// The Deployment.
    pub target: Key,
    /// What the core is given: `HorizontalPodAutoscaler/name`, or `KEDA ScaledObject/name`.
    pub autoscaler: Autoscaler,
}

impl Row for AutoscalerRow {
    fn group(&self) -> Option<Key> {
        Some(self.target.clone())
    }

    fn changes_verdict(&self, before: &Self) -> bool {
        self != before
    }

    fn concerns(&self, _: &Key) -> Concerns {
        Concerns::Target(self.target.clone())
    }
}

/// The row of an autoscaler of a Deployment.
pub fn view(wire: &AutoscalerWire) -> Option<(Key, AutoscalerRow)> {
    let meta = &wire.metadata;
    let (namespace, name) = (meta.namespace.as_deref()?, meta.name.as_deref()?);
    let target = &wire.spec.scale_target_ref;
    let scaled_object = meta.labels.as_ref().and_then(|labels| labels.get("scaledobject.keda.sh/name"));
    let words = scaled_object.map_or_else(
        || format!("HorizontalPodAutoscaler/{name}"),
        |keda| format!("KEDA ScaledObject/{keda}"),
    );
    let autoscaler = Autoscaler { words, sets: Scaled::Replicas };
    let row = AutoscalerRow { target: Key::new(namespace, &target.name), autoscaler };
    (target.kind == "Deployment").then(|| (Key::new(namespace, name), row))
}
