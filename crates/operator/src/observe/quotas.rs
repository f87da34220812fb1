//! ResourceQuotas and LimitRanges: how much memory pods may still be given. Asked before a limit is raised,
//! and of no interest otherwise: a change of them wakes nobody.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{LimitRange, ResourceQuota},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::Resource;
use mcp_health_core::{quantity, signals::Quota};
use serde::Deserialize;

use super::{
    services::namespace_group,
    table::{Key, Row},
};

/// A ResourceQuota as it comes over the wire.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = ResourceQuota)]
pub struct QuotaWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: QuotaSpec,
    #[serde(default)]
    status: QuotaStatus,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
struct QuotaSpec {
    hard: BTreeMap<String, Quantity>,
    scopes: Vec<String>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
struct QuotaStatus {
    used: BTreeMap<String, Quantity>,
}

/// A LimitRange as it comes over the wire.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = LimitRange)]
pub struct LimitRangeWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: LimitRangeSpec,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
struct LimitRangeSpec {
    limits: Vec<LimitRangeItem>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
struct LimitRangeItem {
    #[serde(rename = "type")]
    kind: String,
    max: BTreeMap<String, Quantity>,
}

/// What limits the memory of a namespace's pods.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaRow {
    namespace: Key,
    /// What the core is given.
    pub quota: Quota,
}

impl Row for QuotaRow {
    fn group(&self) -> Option<Key> {
        Some(self.namespace.clone())
    }

    fn changes_verdict(&self, _: &Self) -> bool {
        false
    }
}

fn bytes(amounts: &BTreeMap<String, Quantity>, name: &str) -> Option<i64> {
    quantity::bytes(&amounts.get(name)?.0)
}

/// The row of a ResourceQuota that limits memory, of pods that run until they are told to end.
pub fn view_quota(wire: &QuotaWire) -> Option<(Key, QuotaRow)> {
    let (namespace, name) = (wire.metadata.namespace.as_deref()?, wire.metadata.name.as_deref()?);
    let others = wire.spec.scopes.iter().any(|scope| scope == "Terminating" || scope == "BestEffort");
    let left = |name: &str| {
        let used = bytes(&wire.status.used, name).unwrap_or_default();
        Some(bytes(&wire.spec.hard, name)?.saturating_sub(used))
    };
    let quota = Quota {
        words: format!("ResourceQuota/{name}"),
        memory_limits_left: left("limits.memory"),
        memory_requests_left: left("requests.memory").into_iter().chain(left("memory")).min(),
        memory_limit_max: None,
        pod_memory_limit_max: None,
    };
    row(namespace, name, quota).filter(|_| !others)
}

/// The row of a LimitRange that limits memory.
pub fn view_limit_range(wire: &LimitRangeWire) -> Option<(Key, QuotaRow)> {
    let (namespace, name) = (wire.metadata.namespace.as_deref()?, wire.metadata.name.as_deref()?);
    let most = |kind: &str| {
        let of_kind = wire.spec.limits.iter().filter(|item| item.kind == kind);
        of_kind.filter_map(|item| bytes(&item.max, "memory")).min()
    };
    let quota = Quota {
        words: format!("LimitRange/{name}"),
        memory_limits_left: None,
        memory_requests_left: None,
        memory_limit_max: most("Container"),
        pod_memory_limit_max: most("Pod"),
    };
    row(namespace, name, quota)
}

fn row(namespace: &str, name: &str, quota: Quota) -> Option<(Key, QuotaRow)> {
    let limits = [
        quota.memory_limits_left,
        quota.memory_requests_left,
        quota.memory_limit_max,
        quota.pod_memory_limit_max,
    ];
    limits.iter().any(Option::is_some).then(|| {
        let row = QuotaRow { namespace: namespace_group(namespace), quota };
        (Key::new(namespace, name), row)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn quota(spec: &Value, used: &Value) -> Option<Quota> {
        let wire = json!({
            "metadata": {"name": "mcp", "namespace": "mcp"}, "spec": spec, "status": {"hard": {}, "used": used},
        });
        view_quota(&serde_json::from_value(wire).unwrap()).map(|(_, row)| row.quota)
    }

    #[test]
    fn of_a_quota_is_told_what_is_left_of_memory() {
        let hard = json!({"hard": {"limits.memory": "1Gi", "requests.memory": "512Mi", "pods": "10"}});
        let found = quota(&hard, &json!({"limits.memory": "256Mi", "requests.memory": "1Gi"})).unwrap();
        assert_eq!(found.memory_limits_left, Some(768 << 20));
        assert_eq!(found.memory_requests_left, Some(-(512 << 20)), "more is used than is allowed now");
        let short = quota(&json!({"hard": {"memory": "1Gi"}}), &json!({})).unwrap();
        assert_eq!((short.memory_limits_left, short.memory_requests_left), (None, Some(1 << 30)));
        assert_eq!(quota(&json!({"hard": {"pods": "10"}}), &json!({})), None);
        let of_jobs = json!({"hard": {"limits.memory": "1Gi"}, "scopes": ["Terminating"]});
        assert_eq!(quota(&of_jobs, &json!({})), None);
    }

    #[test]
    fn of_a_limit_range_is_told_how_much_a_container_and_a_pod_may_have() {
        let wire = json!({"metadata": {"name": "mcp", "namespace": "mcp"}, "spec": {"limits": [
            {"type": "Container", "max": {"memory": "1Gi", "cpu": "2"}, "default": {"memory": "256Mi"}},
            {"type": "Container", "max": {"memory": "512Mi"}},
            {"type": "Pod", "max": {"memory": "2Gi"}},
            {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
        ]}});
        let (_, row) = view_limit_range(&serde_json::from_value(wire).unwrap()).unwrap();
        assert_eq!(row.quota.memory_limit_max, Some(512 << 20));
        assert_eq!(row.quota.pod_memory_limit_max, Some(2 << 30));
    }
}
