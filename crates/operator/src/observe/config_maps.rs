//! ConfigMaps, where the operator may roll configuration back: what their content is, by its digest, and
//! since when. The content itself is hashed, and dropped.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use mcp_health_core::{digest, ownership::content_owner, signals::Config};
use serde::Deserialize;
use serde_json::Value;

use super::{
    deployments::gitops_owner,
    table::{Concerns, Key, Row},
};

/// A ConfigMap as it comes over the wire.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = ConfigMap)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its values.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// Those that are not text, in base64.
    #[serde(default)]
    pub binary_data: BTreeMap<String, String>,
    /// Its content cannot be changed.
    #[serde(default)]
    pub immutable: bool,
}

impl ConfigMapWire {
    /// The digest of its content.
    pub fn content(&self) -> String {
        digest::of_content(&self.data, &self.binary_data)
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigMapRow {
    /// What the core is given, but for who else reads it.
    pub config: Config,
}

impl Row for ConfigMapRow {
    fn group(&self) -> Option<Key> {
        None
    }

    fn changes_verdict(&self, before: &Self) -> bool {
        // A new resourceVersion alone says nothing, but the next change must be fenced by it.
        let mut same = self.config.clone();
        same.resource_version.clone_from(&before.config.resource_version);
        same != before.config
    }

    fn succeed(&mut self, before: &Self) {
        let (now, known) = (&mut self.config, &before.config);
        if now.content == known.content {
            now.first_seen = known.first_seen;
            now.changed = now.changed.max(known.changed);
        } else if now.changed <= known.changed {
            // A manager's time does not move when another manager removes a key of its own.
            now.changed = now.first_seen;
        }
    }

    fn concerns(&self, key: &Key) -> Concerns {
        Concerns::ConfigMaps(vec![key.clone()])
    }
}

/// The row of a ConfigMap.
pub fn view(wire: &ConfigMapWire) -> Option<(Key, ConfigMapRow)> {
    let meta = &wire.metadata;
    let key = Key::new(meta.namespace.as_deref()?, meta.name.as_deref()?);
    let config = Config {
        name: key.name.to_string(),
        uid: meta.uid.clone()?,
        resource_version: meta.resource_version.clone()?,
        content: wire.content(),
        changed: changed(meta),
        first_seen: whole_second(Timestamp::now()),
        owner: content_owner(&managed_fields(meta)),
        immutable: wire.immutable,
        gitops: gitops_owner(meta),
        shared_with: Vec::new(),
        unchecked: Vec::new(),
    };
    Some((key, ConfigMapRow { config }))
}

fn managed_fields(meta: &ObjectMeta) -> Vec<Value> {
    meta.managed_fields.iter().flatten().filter_map(|entry| serde_json::to_value(entry).ok()).collect()
}

/// When it was changed last. (A manager's time moves on with every field that it changes, so this is not too
/// early.)
fn changed(meta: &ObjectMeta) -> Timestamp {
    let created = meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0);
    let main = meta.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none());
    let newest = main.filter_map(|entry| entry.time.as_ref()).map(|at| at.0).max();
    match newest.filter(|newest| *newest > created) {
        Some(newest) => newest,
        None => created.saturating_sub(SignedDuration::from_secs(1)).unwrap_or(created),
    }
}

/// As the API server's own times are kept.
fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn row(change: impl FnOnce(&mut Value)) -> Config {
        let mut wire = json!({
            "metadata": {
                "name": "settings", "namespace": "mcp", "uid": "u", "resourceVersion": "1",
                "creationTimestamp": "2026-01-01T00:00:10Z",
                "managedFields": [{"manager": "team", "operation": "Apply", "time": "2026-01-01T00:00:10Z"}],
            },
            "data": {"A": "1"},
        });
        change(&mut wire);
        view(&serde_json::from_value(wire).unwrap()).unwrap().1.config
    }

    fn at(time: &str) -> Timestamp {
        format!("2026-01-01T{time}Z").parse().unwrap()
    }

    #[test]
    fn only_another_content_is_another_digest() {
        let same = row(|_| {}).content;
        assert_eq!(row(|wire| wire["metadata"]["labels"] = json!({"a": "b"})).content, same);
        assert_eq!(row(|wire| wire["binaryData"] = json!({})).content, same);
        assert_ne!(row(|wire| wire["data"]["A"] = json!("2")).content, same);
        assert_ne!(row(|wire| wire["binaryData"] = json!({"B": "MQ=="})).content, same);
    }

    #[test]
    fn what_was_never_changed_is_older_than_whatever_started_with_it() {
        let created: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
        assert!(row(|_| {}).changed < created);
        let later = json!({"manager": "kubectl-edit", "operation": "Update", "time": "2026-01-01T00:00:30Z"});
        let edited = row(|wire| wire["metadata"]["managedFields"].as_array_mut().unwrap().push(later));
        assert_eq!(edited.changed, "2026-01-01T00:00:30Z".parse().unwrap());
    }

    #[test]
    fn a_key_that_another_manager_removes_is_a_change_although_no_managers_time_moves() {
        let before = ConfigMapRow { config: Config { first_seen: at("00:00:20"), ..row(|_| {}) } };
        let mut removed = ConfigMapRow { config: row(|wire| wire["data"] = json!({})) };
        removed.config.first_seen = at("00:05:00");
        assert_eq!(removed.config.changed, before.config.changed);
        removed.succeed(&before);
        assert_eq!((removed.config.changed, removed.config.first_seen), (at("00:05:00"), at("00:05:00")));
        // Observed again, it is the same change.
        let mut same = ConfigMapRow { config: row(|wire| wire["data"] = json!({})) };
        same.config.first_seen = at("00:06:00");
        same.succeed(&removed);
        assert_eq!((same.config.changed, same.config.first_seen), (at("00:05:00"), at("00:05:00")));
    }

    #[test]
    fn where_a_managers_time_tells_of_a_change_that_is_when_it_was() {
        let before = ConfigMapRow { config: row(|_| {}) };
        let mut edited = ConfigMapRow {
            config: row(|wire| {
                wire["data"] = json!({"A": "2"});
                wire["metadata"]["managedFields"][0]["time"] = json!("2026-01-01T00:04:00Z");
            }),
        };
        edited.succeed(&before);
        assert_eq!(edited.config.changed, at("00:04:00"));
    }

    #[test]
    fn a_new_version_without_another_content_wakes_nobody() {
        let (before, mut after) =
            (ConfigMapRow { config: row(|_| {}) }, ConfigMapRow { config: row(|_| {}) });
        after.config.first_seen = before.config.first_seen;
        after.config.resource_version = "2".to_owned();
        assert!(!after.changes_verdict(&before));
        after.config.content = "other".to_owned();
        assert!(after.changes_verdict(&before));
    }
}
