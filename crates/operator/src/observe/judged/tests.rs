//! The rules are asked again whenever metrics come in; only what they say otherwise wakes.

#![allow(clippy::unwrap_used)]

use clap::Parser;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use jiff::Timestamp;
use mcp_health_api::McpServerHealthStatus;
use mcp_health_core::{Case, diagnose};
use serde_json::json;

use super::*;
use crate::{
    config::Config,
    observe::{Stores, deployments, note_targets, pods, replica_sets, switches, table::Row, table::Table},
};

fn table<V: Row>(table: &Table<V>, row: Option<(Key, V)>) {
    table.begin_list("");
    if let Some((key, row)) = row {
        table.apply("", key, row);
    }
    table.end_list("");
}

/// A Deployment with one ready pod, and an object that has the default policy.
fn healthy_server() -> (Stores, UnboundedReceiver<Key>, Arc<McpServerHealth>) {
    let (wake, woken) = unbounded();
    let stores = Stores::new(&Config::parse_from(["mcp-health-operator"]), wake).unwrap();
    let created = "2026-01-01T00:00:00Z";
    let owned = |kind: &str, name: &str, uid: &str| {
        json!({
            "name": name, "namespace": "mcp", "uid": name, "creationTimestamp": created, "resourceVersion": "1",
            "generation": 1, "labels": {"app": "server"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": kind, "name": uid, "uid": uid, "controller": true}
            ],
        })
    };
    let template = json!({
        "metadata": {"labels": {"app": "server"}},
        "spec": {"containers": [{"name": "server", "image": "server", "ports": [{"containerPort": 8000}]}]},
    });
    let deployment = json!({
        "metadata": owned("None", "server", "none"),
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "server"}}, "template": template},
        "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1},
    });
    let set = json!({
        "metadata": owned("Deployment", "set", "server"),
        "spec": {"replicas": 1, "template": template},
    });
    let pod = json!({
        "metadata": owned("ReplicaSet", "pod", "set"),
        "spec": {"containers": [{"name": "server"}]},
        "status": {
            "phase": "Running", "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": created}],
        },
    });
    table(&stores.objects, None);
    table(&stores.deployments, deployments::view(&serde_json::from_value(deployment).unwrap()));
    table(&stores.replica_sets, replica_sets::view(&serde_json::from_value(set).unwrap()));
    table(&stores.pods, pods::view(&serde_json::from_value(pod).unwrap()));
    table(&stores.services, None);
    table(&stores.slices, None);
    table(&stores.autoscalers, None);
    table(&stores.vertical_autoscalers, None);
    table(&stores.quotas, None);
    table(&stores.limit_ranges, None);
    table(&stores.budgets, None);
    let namespace = serde_json::from_value(json!({"metadata": {"name": "mcp"}})).unwrap();
    table(&stores.namespaces, switches::view_namespace(&namespace));
    let object: McpServerHealth = serde_json::from_value(json!({
        "apiVersion": "mcphealth.dev/v1alpha1", "kind": "McpServerHealth",
        "metadata": {"name": "health", "namespace": "mcp", "creationTimestamp": created},
        "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "server"}},
    }))
    .unwrap();
    let event = kube::runtime::watcher::Event::Apply(crate::observe::Guarded(Ok(Arc::new(object.clone()))));
    note_targets(&stores.targets, "", &event);
    (stores, woken, Arc::new(object))
}

/// What a reconcile notes.
fn reconcile(stores: &Stores, object: &Arc<McpServerHealth>, now: Timestamp) {
    let signals = stores.signals(object, now);
    assert_eq!(signals.problems(), [] as [String; 0]);
    let status = McpServerHealthStatus::default();
    let case = Case {
        generation: 1,
        spec: &object.spec,
        status: &status,
        signals: &signals,
        settings: &stores.settings,
        now,
    };
    stores.judged.note(&key(), Arc::clone(object), Verdict::of(&diagnose(&case), &signals, &[]));
}

fn key() -> Key {
    Key::new("mcp", "health")
}

#[test]
fn a_changed_value_wakes_nobody_and_a_changed_verdict_does() {
    let (stores, mut woken, object) = healthy_server();
    let start = 1_800_000_000;
    let at = |second: i64| Timestamp::from_second(start + second).unwrap();
    let tell = |second: i64, failed: i64| {
        let (well, seconds) = (second * (3 + second % 7), (second % 11 + 1) * 10);
        let text = format!(
            "mcp_requests_total{{endpoint=\"/mcp\",status=\"200\"}} {well}\n\
             mcp_requests_total{{endpoint=\"/mcp\",status=\"500\"}} {failed}\n\
             mcp_sessions {seconds}\n"
        );
        stores.scraped.as_ref().unwrap().take(&key(), &object, "pod", &text, at(second));
    };
    for second in (0..=300).step_by(15) {
        tell(second, 0);
    }
    assert!(stores.signals(&object, at(300)).metrics.fresh().is_some());
    reconcile(&stores, &object, at(300));
    while woken.try_recv().is_ok() {}
    for second in (315..=3900).step_by(15) {
        tell(second, 0);
        stores.judge_again([key()], at(second));
    }
    assert!(woken.try_recv().is_err(), "a value alone has woken the reconcile");
    for second in (3915..=4200).step_by(15) {
        tell(second, (second - 3900) * 100);
        stores.judge_again([key()], at(second));
    }
    assert_eq!(woken.try_recv().ok(), Some(key()));
    // An object that was not looked at yet, or is gone, will be looked at anyway.
    while woken.try_recv().is_ok() {}
    stores.judged.forget(&key());
    stores.judge_again([key()], at(4200));
    assert!(woken.try_recv().is_err());
}
