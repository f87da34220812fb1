//! What else than Deployments reads ConfigMaps: StatefulSets, DaemonSets and CronJobs, whether pods of them
//! run or not. Of each, only the names of the ConfigMaps are kept.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, StatefulSet},
        batch::v1::CronJob,
        core::v1::PodSpec,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use serde::Deserialize;
use serde_json::Value;

use super::{
    pod_spec,
    services::namespace_group,
    table::{Concerns, Key, Row, Table},
};

/// A StatefulSet as it comes over the wire.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = StatefulSet)]
pub struct StatefulSetWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
}

/// A DaemonSet as it comes over the wire.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = DaemonSet)]
pub struct DaemonSetWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
}

/// A CronJob as it comes over the wire.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = CronJob)]
pub struct CronJobWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
}

/// The ConfigMaps that one object's pods read.
#[derive(Clone, Debug, PartialEq)]
pub struct ReaderRow {
    namespace: Key,
    config_maps: Vec<String>,
}

impl Row for ReaderRow {
    fn group(&self) -> Option<Key> {
        Some(self.namespace.clone())
    }

    fn changes_verdict(&self, before: &Self) -> bool {
        self != before
    }

    fn concerns(&self, key: &Key) -> Concerns {
        let key = |name: &String| Key::new(&key.namespace, name);
        Concerns::ConfigMaps(self.config_maps.iter().map(key).collect())
    }
}

fn view(meta: &ObjectMeta, spec: &Value, template: &str) -> Option<(Key, ReaderRow)> {
    let namespace = meta.namespace.as_deref()?;
    let key = Key::new(namespace, meta.name.as_deref()?);
    let pods =
        spec.pointer(template).cloned().and_then(|pods| serde_json::from_value::<PodSpec>(pods).ok())?;
    let config_maps: Vec<String> = pod_spec::config_maps(&pods).into_iter().map(|used| used.name).collect();
    let namespace = namespace_group(namespace);
    (!config_maps.is_empty()).then_some((key, ReaderRow { namespace, config_maps }))
}

/// The row of a StatefulSet that reads any ConfigMap.
pub fn view_stateful_set(wire: &StatefulSetWire) -> Option<(Key, ReaderRow)> {
    view(&wire.metadata, &wire.spec, "/template/spec")
}

/// The row of a DaemonSet that reads any ConfigMap.
pub fn view_daemon_set(wire: &DaemonSetWire) -> Option<(Key, ReaderRow)> {
    view(&wire.metadata, &wire.spec, "/template/spec")
}

/// The row of a CronJob that reads any ConfigMap.
pub fn view_cron_job(wire: &CronJobWire) -> Option<(Key, ReaderRow)> {
    view(&wire.metadata, &wire.spec, "/jobTemplate/spec/template/spec")
}

/// A table for each kind.
pub struct ConfigReaders {
    /// StatefulSets.
    pub stateful_sets: Table<ReaderRow>,
    /// DaemonSets.
    pub daemon_sets: Table<ReaderRow>,
    /// CronJobs.
    pub cron_jobs: Table<ReaderRow>,
}

impl ConfigReaders {
    /// Empty tables for these scopes, whose rows are stale so long after the last proof of life.
    pub fn new(scopes: &[Option<String>], stale_after: Duration) -> Self {
        Self {
            stateful_sets: Table::new(scopes, stale_after),
            daemon_sets: Table::new(scopes, stale_after),
            cron_jobs: Table::new(scopes, stale_after),
        }
    }

    fn all(&self) -> [(&'static str, &Table<ReaderRow>); 3] {
        [("StatefulSet", &self.stateful_sets), ("DaemonSet", &self.daemon_sets), ("CronJob", &self.cron_jobs)]
    }

    /// What reads a ConfigMap: `CronJob nightly`.
    pub fn of(&self, namespace: &str, config_map: &str) -> Vec<String> {
        let group = namespace_group(namespace);
        let of_kind = |(kind, table): (&str, &Table<ReaderRow>)| {
            let rows = table.of_group(&group).into_iter();
            let reading = rows.filter(|(_, row)| row.config_maps.iter().any(|name| name == config_map));
            reading.map(|(key, _)| format!("{kind} {}", key.name)).collect::<Vec<_>>()
        };
        self.all().into_iter().flat_map(of_kind).collect()
    }

    /// The kinds that cannot be seen, each with why.
    pub fn unchecked(&self, namespace: &str, now: Timestamp) -> Vec<String> {
        let problem = |(kind, table): (&str, &Table<ReaderRow>)| {
            table.reading(namespace, now, ()).problem(&format!("{kind}s"))
        };
        self.all().into_iter().filter_map(problem).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_cron_job_or_a_stateful_set_at_rest_is_seen_to_read_a_config_map() {
        let readers = ConfigReaders::new(&[None], Duration::from_mins(1));
        let pods =
            json!({"containers": [{"name": "a", "envFrom": [{"configMapRef": {"name": "settings"}}]}]});
        let meta = |name: &str| json!({"name": name, "namespace": "mcp"});
        let cron = json!({
            "metadata": meta("nightly"),
            "spec": {"schedule": "0 3 * * *", "suspend": true, "jobTemplate": {"spec": {"template": {"spec": pods}}}},
        });
        let (key, row) = view_cron_job(&serde_json::from_value(cron).unwrap()).unwrap();
        readers.cron_jobs.apply("", key, row);
        let set = json!({"metadata": meta("store"), "spec": {"replicas": 0, "template": {"spec": pods}}});
        let (key, row) = view_stateful_set(&serde_json::from_value(set).unwrap()).unwrap();
        readers.stateful_sets.apply("", key, row);
        assert_eq!(readers.of("mcp", "settings"), ["StatefulSet store", "CronJob nightly"]);
        assert_eq!(readers.of("other", "settings"), [""; 0]);
        assert_eq!(readers.of("mcp", "others"), [""; 0]);
        let daemon = json!({"metadata": meta("agent"), "spec": {"template": {"spec": {"containers": []}}}});
        assert!(view_daemon_set(&serde_json::from_value(daemon).unwrap()).is_none(), "it reads none");
    }

    #[test]
    fn a_kind_that_was_never_listed_is_not_checked() {
        let readers = ConfigReaders::new(&[None], Duration::from_mins(1));
        assert_eq!(readers.unchecked("mcp", Timestamp::UNIX_EPOCH).len(), 3);
    }
}
