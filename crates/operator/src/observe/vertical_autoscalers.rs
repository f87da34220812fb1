//! VerticalPodAutoscalers: who else sets requests and limits. Their kind is an add-on: whether the cluster
//! has it is found out when the operator starts.

use std::{borrow::Cow, time::Duration};

use k8s_openapi::{
    api::autoscaling::v2::CrossVersionObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Client, Resource, core::NamespaceResourceScope};
use mcp_health_core::signals::{Autoscaler, Scaled};
use serde::Deserialize;

use super::{autoscalers::AutoscalerRow, table::Key};

const VERSION: &str = "autoscaling.k8s.io/v1";
const KIND: &str = "VerticalPodAutoscaler";
/// Before the API server is asked again, where it did not answer.
const PAUSE: Duration = Duration::from_secs(2);

/// An autoscaler as it comes over the wire.
#[derive(Deserialize, Clone, Debug)]
pub struct VerticalWire {
    metadata: ObjectMeta,
    spec: VerticalSpec,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
struct VerticalSpec {
    target_ref: Option<CrossVersionObjectReference>,
    #[serde(default)]
    update_policy: UpdatePolicy,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct UpdatePolicy {
    update_mode: Option<String>,
}

impl Resource for VerticalWire {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "autoscaling.k8s.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "verticalpodautoscalers".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Whether the cluster has the kind. Asks until there is an answer.
pub async fn are_installed(client: &Client) -> bool {
    loop {
        match client.list_api_group_resources(VERSION).await {
            Ok(list) => return list.resources.iter().any(|resource| resource.kind == KIND),
            Err(error) if crate::error::answer(&error).is_some_and(|status| status.code == 404) => {
                return false;
            }
            Err(error) => {
                tracing::warn!(%error, "it is not known whether the cluster has {KIND}s; asked again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The row of an autoscaler of a Deployment. One that only recommends sets nothing.
pub fn view(wire: &VerticalWire) -> Option<(Key, AutoscalerRow)> {
    let (namespace, name) = (wire.metadata.namespace.as_deref()?, wire.metadata.name.as_deref()?);
    let target = wire.spec.target_ref.as_ref()?;
    let sets = wire.spec.update_policy.update_mode.as_deref() != Some("Off");
    let autoscaler = Autoscaler { words: format!("{KIND}/{name}"), sets: Scaled::Resources };
    let row = AutoscalerRow { target: Key::new(namespace, &target.name), autoscaler };
    (sets && target.kind == "Deployment").then(|| (Key::new(namespace, name), row))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn an_autoscaler_of_a_deployment_that_does_more_than_recommend_is_told_of() {
        for (kind, mode, told) in [
            ("Deployment", Some("Auto"), true),
            ("Deployment", None, true),
            ("Deployment", Some("Initial"), true),
            ("Deployment", Some("Off"), false),
            ("StatefulSet", Some("Auto"), false),
        ] {
            let policy = mode.map_or(json!({}), |mode| json!({"updateMode": mode}));
            let wire = json!({
                "metadata": {"name": "mcp", "namespace": "mcp"},
                "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": kind, "name": "mcp-server"}, "updatePolicy": policy},
            });
            let row = view(&serde_json::from_value(wire).unwrap());
            assert_eq!(row.is_some(), told, "{kind} {mode:?}");
            if let Some((_, row)) = row {
                assert_eq!(row.target, Key::new("mcp", "mcp-server"));
                assert_eq!(row.autoscaler.sets, Scaled::Resources);
            }
        }
    }
}
