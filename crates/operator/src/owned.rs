//! What every object that the operator creates bears: whose it is, and what it is for. It goes with the
//! McpServerHealth that it belongs to.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams, Preconditions},
};
use mcp_health_api::{ATTEMPT_ANNOTATION, KIND_LABEL, McpServerHealth, OBJECT_LABEL};
use mcp_health_core::digest;

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

/// Selects the objects of this kind that belong to an object of this name. Those of another object whose name
/// makes the same label are told apart by their owner.
pub fn selector(object: &McpServerHealth, kind: &str) -> String {
    let labels: Vec<_> = labels(object, kind).iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.join(",")
}

/// Deletes, oldest first, the oldest ConfigMaps that the object with this uid alone owns, beyond the `most`
/// newest of each group, but for those that are needed.
pub async fn prune(
    api: &Api<ConfigMap>,
    selector: &str,
    owner: &str,
    most: usize,
    group: fn(&ObjectMeta) -> Option<&String>,
    needed: &BTreeSet<String>,
) -> Result<(), kube::Error> {
    let found = api.list_metadata(&ListParams::default().labels(selector)).await?.items;
    let is_own =
        |meta: &ObjectMeta| matches!(meta.owner_references.as_deref(), Some([only]) if only.uid == owner);
    let mut groups = BTreeMap::<Option<&String>, Vec<&ObjectMeta>>::new();
    for meta in found.iter().map(|one| &one.metadata) {
        groups.entry(group(meta)).or_default().push(meta);
    }
    for mut members in groups.into_values() {
        members.sort_by(|a, b| (&b.creation_timestamp, &b.name).cmp(&(&a.creation_timestamp, &a.name)));
        for meta in members.into_iter().skip(most).rev().filter(|meta| is_own(meta)) {
            let Some(name) = meta.name.as_ref().filter(|name| !needed.contains(*name)) else { continue };
            let same = Preconditions { uid: meta.uid.clone(), ..Preconditions::default() };
            api.delete(name, &DeleteParams { preconditions: Some(same), ..DeleteParams::default() }).await?;
        }
    }
    Ok(())
}

/// The labels of objects of this kind that belong to `object`.
pub fn labels(object: &McpServerHealth, kind: &str) -> BTreeMap<String, String> {
    let name = digest::label_value(object.metadata.name.as_deref().unwrap_or_default());
    [(KIND_LABEL.to_owned(), kind.to_owned()), (OBJECT_LABEL.to_owned(), name)].into()
}

/// Whether an object is the one that this attempt on `object` made.
pub fn is_of(meta: &ObjectMeta, object: &McpServerHealth, attempt: &str) -> bool {
    let owners = meta.owner_references.iter().flatten();
    let ours = owners.map(|owner| &owner.uid).any(|uid| object.metadata.uid.as_ref() == Some(uid));
    let annotations = meta.annotations.as_ref();
    ours && annotations.and_then(|all| all.get(ATTEMPT_ANNOTATION)).is_some_and(|id| id == attempt)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mcp_health_api::{KIND_CONFIG_COPY, KIND_EVIDENCE};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_made_for_an_object_with_a_long_name_is_found_by_the_label_that_it_bears() {
        let spec = json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}});
        for length in [1, 63, 64, 253] {
            let object =
                McpServerHealth::new(&"n".repeat(length), serde_json::from_value(spec.clone()).unwrap());
            for kind in [KIND_EVIDENCE, KIND_CONFIG_COPY] {
                let made = metadata(&object, "made".to_owned(), kind).labels.unwrap();
                let label = &made[OBJECT_LABEL];
                assert!(label.len() <= 63, "{label}");
                assert_eq!(selector(&object, kind), format!("{KIND_LABEL}={kind},{OBJECT_LABEL}={label}"));
            }
        }
    }
}
