//! The poll of metrics-server.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Client, core::Status};
use mcp_health_core::{
    quantity,
    signals::{Sample, Usage},
};
use serde::Deserialize;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{
    super::{stores::Stores, table::Key},
    PATIENCE, UsageRow,
};
use crate::error::{SourceFailure, answer};

/// Where the cluster has no metrics-server, it is looked for again after so many ticks.
const LOOK_AGAIN: u32 = 20;

const GROUP: &str = "/apis/metrics.k8s.io/v1beta1";

/// Measures the pods of a scope whenever the clock ticks, until the operator ends.
pub async fn keep(stores: Arc<Stores>, client: Client, scope: Option<String>, period: Duration) {
    let scope = scope.unwrap_or_default();
    let mut clock = interval(period);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut absent_for, mut failing) = (None, false);
    loop {
        clock.tick().await;
        if stores.targets.is_empty_in(&scope) || stores.prometheus_tells_usage(&scope, Timestamp::now()) {
            continue;
        }
        if let Some(ticks) = absent_for.as_mut().filter(|ticks| **ticks < LOOK_AGAIN) {
            *ticks += 1;
            continue;
        }
        let measured = &stores.usage;
        match list(&client, &scope).await {
            Ok(pods) => {
                absent_for = None;
                measured.is_on.store(true, Ordering::Relaxed);
                note(&stores, &scope, pods);
                failing = false;
            }
            Err(Trouble::Absent) => {
                if measured.is_on.swap(false, Ordering::Relaxed) {
                    stores.wake_all();
                }
                absent_for = Some(0);
            }
            Err(Trouble::Failed(failed)) => {
                absent_for = None;
                measured.is_on.store(true, Ordering::Relaxed);
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(
                        scope,
                        why = failed.why,
                        "metrics-server does not answer; it is tried again"
                    );
                }
                measured.table.failed(&scope, failed);
            }
        }
        if measured.table.has_changed_fitness(&scope) {
            stores.wake(stores.targets.in_scope(&scope));
        }
        stores.judge_again(stores.targets.in_scope(&scope), Timestamp::now());
    }
}

enum Trouble {
    /// The cluster has no such API.
    Absent,
    Failed(SourceFailure),
}

#[derive(Deserialize)]
struct PodMetricsList {
    #[serde(default)]
    items: Vec<PodMetrics>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: ObjectMeta,
    timestamp: Timestamp,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    usage: ContainerUsage,
}

#[derive(Deserialize)]
struct ContainerUsage {
    #[serde(default)]
    cpu: String,
    #[serde(default)]
    memory: String,
}

async fn list(client: &Client, scope: &str) -> Result<PodMetricsList, Trouble> {
    let uri =
        if scope.is_empty() { format!("{GROUP}/pods") } else { format!("{GROUP}/namespaces/{scope}/pods") };
    let request = http::Request::get(uri)
        .body(Vec::new())
        .map_err(|error| Trouble::Failed(error.to_string().into()))?;
    match timeout(PATIENCE, client.request(request)).await {
        Err(_) => Err(Trouble::Failed(format!("no answer within {} s", PATIENCE.as_secs()).into())),
        Ok(Ok(list)) => Ok(list),
        Ok(Err(error)) => Err(match answer(&error) {
            Some(Status { code: 404, .. }) => Trouble::Absent,
            _ => Trouble::Failed(SourceFailure::of_client(&error)),
        }),
    }
}

/// Continues the series of targets' pods; those of pods that are gone end.
fn note(stores: &Stores, scope: &str, pods: PodMetricsList) {
    let table = &stores.usage.table;
    table.begin_list(scope);
    for pod in pods.items {
        let meta = &pod.metadata;
        let Some(key) = meta.namespace.as_deref().zip(meta.name.as_deref()) else { continue };
        let key = Key::new(key.0, key.1);
        if stores.is_of_a_target(&key) {
            let usages = pod.containers.iter().filter_map(|one| view(&key, pod.timestamp, one)).collect();
            table.apply(scope, key, UsageRow(usages));
        }
    }
    // metrics-server leaves a pod out for a moment where its kubelet is late: its series goes on.
    for (key, row) in table.unlisted(scope) {
        if stores.is_of_a_target(&key) {
            table.apply(scope, key, UsageRow::clone(&row));
        }
    }
    table.end_list(scope);
}

fn view(pod: &Key, at: Timestamp, container: &ContainerMetrics) -> Option<Usage> {
    let sample = Sample {
        at,
        cpu: quantity::millis(&container.usage.cpu)?,
        memory: quantity::bytes(&container.usage.memory)?,
    };
    Some(Usage { pod: pod.name.to_string(), container: container.name.clone(), samples: vec![sample] })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn what_metrics_server_tells_is_read_and_what_is_no_number_is_left_out() {
        let list: PodMetricsList = serde_json::from_value(json!({"items": [{
            "metadata": {"name": "a", "namespace": "mcp"},
            "timestamp": "2026-01-01T00:00:15Z",
            "window": "10.0s",
            "containers": [
                {"name": "server", "usage": {"cpu": "125000001n", "memory": "65536Ki"}},
                {"name": "odd", "usage": {"cpu": "NaN", "memory": "1Ki"}},
                {"name": "none", "usage": {}},
            ],
        }]}))
        .unwrap();
        let pod = &list.items[0];
        let key = Key::new("mcp", "a");
        let seen: Vec<_> = pod.containers.iter().filter_map(|one| view(&key, pod.timestamp, one)).collect();
        assert_eq!(seen.len(), 1);
        let sample = seen[0].samples[0];
        assert_eq!((sample.cpu, sample.memory), (126, 64 << 20));
    }
}
