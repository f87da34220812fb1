//! What every object that the operator creates bears: whose it is, and what it is for. It goes with the
//! McpServerHealth that it belongs to.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use mcp_health_api::{ATTEMPT_ANNOTATION, KIND_LABEL, McpServerHealth, OBJECT_LABEL};
use mcp_health_core::digest;

/// The longest value that a label can have.
const LABEL: usize = 63;

/// The metadata of an object of this kind (one of `KIND_*`) that belongs to `object`.
pub fn metadata(object: &McpServerHealth, name: String, kind: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: object.metadata.namespace.clone(),
        labels: Some(labels(object, kind)),
        owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// The labels of objects of this kind that belong to `object`.
pub fn labels(object: &McpServerHealth, kind: &str) -> BTreeMap<String, String> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let name = if name.len() > LABEL { digest::short(name.as_bytes(), LABEL) } else { name };
    [(KIND_LABEL.to_owned(), kind.to_owned()), (OBJECT_LABEL.to_owned(), name)].into()
}

/// Whether an object is the one that this attempt on `object` made.
pub fn is_of(meta: &ObjectMeta, object: &McpServerHealth, attempt: &str) -> bool {
    let owners = meta.owner_references.iter().flatten();
    let ours = owners.map(|owner| &owner.uid).any(|uid| object.metadata.uid.as_ref() == Some(uid));
    let annotations = meta.annotations.as_ref();
    ours && annotations.and_then(|all| all.get(ATTEMPT_ANNOTATION)).is_some_and(|id| id == attempt)
}
