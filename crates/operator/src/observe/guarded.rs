//! A policy object as the operator holds it: once, shared, and without what no rule reads.

use std::{borrow::Cow, sync::Arc};

use kube::{
    Resource,
    core::{DeserializeGuard, ObjectMeta, error_boundary::InvalidObject},
};
use mcp_health_api::McpServerHealth;
use serde::{Deserialize, Deserializer};

/// Where `kubectl apply` stores a second copy of the spec.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object, or what is wrong with it: one that cannot be read must not stop the watch of the others.
#[derive(Clone, Debug)]
pub struct Guarded(pub Result<Arc<McpServerHealth>, InvalidObject>);

impl<'de> Deserialize<'de> for Guarded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let DeserializeGuard(object) = DeserializeGuard::<McpServerHealth>::deserialize(deserializer)?;
        Ok(Self(object.map(|object| Arc::new(without_bookkeeping(object)))))
    }
}

/// The object without who set which field, and without the copy of its spec: most of its memory, and read by
/// no rule.
pub fn without_bookkeeping(mut object: McpServerHealth) -> McpServerHealth {
    object.metadata.managed_fields = None;
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    object
}

impl Resource for Guarded {
    type DynamicType = ();
    type Scope = <McpServerHealth as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        McpServerHealth::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        McpServerHealth::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        McpServerHealth::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        McpServerHealth::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|invalid| &invalid.metadata, |object| object.meta())
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0
            .as_mut()
            .map_or_else(|invalid| &mut invalid.metadata, |object| Arc::make_mut(object).meta_mut())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_held_without_its_managed_fields_and_without_a_second_copy_of_its_spec() {
        let read: Guarded = serde_json::from_value(json!({
            "apiVersion": "mcphealth.dev/v1alpha1",
            "kind": "McpServerHealth",
            "metadata": {
                "name": "search",
                "annotations": {LAST_APPLIED: "{}", "team": "search"},
                "managedFields": [{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "search"}},
        }))
        .unwrap();
        let object = read.0.unwrap();
        assert_eq!(object.metadata.managed_fields, None);
        assert_eq!(
            object.metadata.annotations.as_ref().unwrap().keys().collect::<Vec<_>>(),
            ["team"],
            "what others wrote stays"
        );
    }

    #[test]
    fn of_an_object_that_cannot_be_read_the_name_is_known() {
        let read: Guarded = serde_json::from_value(json!({
            "metadata": {"name": "search", "namespace": "mcp"},
            "spec": {"targetRef": 7},
        }))
        .unwrap();
        assert_eq!(read.meta().name.as_deref(), Some("search"));
        assert!(read.0.is_err());
    }
}
