//! How far a pod has come between its creation and its end, read from its conditions and its containers'
//! states.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus};
use mcp_health_core::signals::{Lifecycle, Pod, Role};

use super::wire::PodWire;

/// What the API object tells.
pub fn view(wire: &PodWire, role: &dyn Fn(&str) -> Role) -> Lifecycle {
    let status = &wire.status;
    let condition = |kind: &str| status.conditions.iter().find(|condition| condition.type_ == kind);
    let is_true = |kind: &str| condition(kind).is_some_and(|condition| condition.status == "True");
    let since = |kind: &str| {
        let known = condition(kind).filter(|condition| condition.status == "True")?;
        Some(known.last_transition_time.as_ref()?.0)
    };
    let gates = wire.spec.readiness_gates.iter().map(|gate| gate.condition_type.as_str());
    let init = status.init_container_statuses.iter().filter(|one| role(&one.name) == Role::Init);
    let runs = |one: &&ContainerStatus| one.state.as_ref().is_some_and(|state| state.running.is_some());
    let failed = status.phase == "Failed" && !(status.reason.is_empty() && status.message.is_empty());
    Lifecycle {
        scheduled: since("PodScheduled"),
        sandbox: condition("PodReadyToStartContainers").map(|condition| condition.status == "True"),
        init_running: init.clone().find(runs).map(|one| one.name.clone()),
        started: started(&status.container_statuses),
        started_last: status.container_statuses.iter().chain(init.clone()).filter_map(runs_since).max(),
        became_ready: None,
        containers_ready: since("ContainersReady"),
        unmet_gates: gates.filter(|gate| !is_true(gate)).map(str::to_owned).collect(),
        failure: failed.then(|| (status.reason.clone(), status.message.clone())),
        ends_by: wire.metadata.deletion_timestamp.as_ref().map(|at| at.0),
        grace: wire.metadata.deletion_grace_period_seconds.map(SignedDuration::from_secs),
        finalizers: wire.metadata.finalizers.clone().unwrap_or_default(),
    }
}

/// When the last of the main containers was started for the first time; `None` until all were.
fn started(statuses: &[ContainerStatus]) -> Option<Timestamp> {
    let started: Vec<Option<Timestamp>> = statuses.iter().map(first_start).collect();
    started.into_iter().collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Since when a container runs.
fn runs_since(status: &ContainerStatus) -> Option<Timestamp> {
    Some(status.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0)
}

/// The earlier of the two starts that a container's status knows.
fn first_start(status: &ContainerStatus) -> Option<Timestamp> {
    let of = |state: &Option<ContainerState>| {
        let state = state.as_ref()?;
        let running = state.running.as_ref().and_then(|one| one.started_at.as_ref());
        let ended = state.terminated.as_ref().and_then(|one| one.started_at.as_ref());
        running.or(ended).map(|at| at.0)
    };
    of(&status.last_state).into_iter().chain(of(&status.state)).min()
}

/// What an earlier version of the pod told, and this one does not any more.
pub fn remember(pod: &mut Pod, before: &Pod) {
    if pod.uid != before.uid {
        return;
    }
    let known = &before.lifecycle;
    let now = &mut pod.lifecycle;
    now.started = known.started.into_iter().chain(now.started).min();
    let first_time = pod.ready && !(before.ready || before.was_ready || before.lost_readiness());
    now.became_ready = known.became_ready.or_else(|| first_time.then_some(pod.ready_changed));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use jiff::SignedDuration;
    use serde_json::{Value, json};

    use super::super::{PodRow, view};
    use crate::observe::table::Row;

    fn row(spec: &Value, status: &Value, metadata: &Value) -> PodRow {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true});
        let mut meta = json!({
            "name": "a", "namespace": "mcp", "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [owner],
        });
        meta.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        let wire = json!({"metadata": meta, "spec": spec, "status": status});
        view(&serde_json::from_value(wire).unwrap()).unwrap().1
    }

    fn container(name: &str, state: &Value) -> Value {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
    }

    fn condition(kind: &str, status: &str, second: u8) -> Value {
        let at = format!("2026-01-01T00:00:{second:02}Z");
        json!({"type": kind, "status": status, "lastTransitionTime": at})
    }

    fn running(second: u8) -> Value {
        json!({"running": {"startedAt": format!("2026-01-01T00:00:{second:02}Z")}})
    }

    #[test]
    fn an_init_container_that_runs_is_named_and_the_main_containers_are_not_started() {
        let spec = json!({"initContainers": [{"name": "migrate"}], "containers": [{"name": "server"}]});
        let status = json!({
            "phase": "Pending",
            "conditions": [condition("PodScheduled", "True", 1), condition("PodReadyToStartContainers", "True", 2)],
            "initContainerStatuses": [container("migrate", &running(3))],
            "containerStatuses": [container("server", &json!({"waiting": {"reason": "PodInitializing"}}))],
        });
        let seen = row(&spec, &status, &json!({})).pod.lifecycle;
        assert_eq!(seen.init_running.as_deref(), Some("migrate"));
        assert_eq!((seen.sandbox, seen.started), (Some(true), None));
        assert_eq!(seen.scheduled.unwrap().to_string(), "2026-01-01T00:00:01Z");
    }

    #[test]
    fn a_restarted_container_counts_from_its_first_start() {
        let started = |name: &str, second: u8| {
            row(&json!({}), &json!({"containerStatuses": [container(name, &running(second))]}), &json!({}))
        };
        let first = started("server", 5);
        let mut later = started("server", 40);
        later.succeed(&first);
        assert_eq!(later.pod.lifecycle.started.unwrap().to_string(), "2026-01-01T00:00:05Z");
        assert_eq!(later.pod.lifecycle.started_last.unwrap().to_string(), "2026-01-01T00:00:40Z");
    }

    #[test]
    fn only_the_first_ready_that_was_observed_is_remembered() {
        let of = |ready: &str, second: u8| {
            let status = json!({
                "conditions": [condition("Ready", ready, second)],
                "containerStatuses": [container("server", &running(5))],
            });
            row(&json!({}), &status, &json!({}))
        };
        let next = |mut row: PodRow, before: &PodRow| {
            row.succeed(before);
            row
        };
        let starting = of("False", 1);
        let ready = next(of("True", 9), &starting);
        let lost = next(of("False", 30), &ready);
        let again = next(of("True", 50), &lost);
        assert_eq!(again.pod.lifecycle.became_ready.unwrap().to_string(), "2026-01-01T00:00:09Z");
        let met_later = next(of("True", 50), &of("False", 30));
        assert_eq!(met_later.pod.lifecycle.became_ready, None, "it may have been ready before");
    }

    #[test]
    fn a_gate_that_is_missing_or_false_is_unmet() {
        let spec = json!({"readinessGates": [{"conditionType": "lb/a"}, {"conditionType": "lb/b"}, {"conditionType": "lb/c"}]});
        let conditions = [
            condition("lb/b", "False", 1),
            condition("lb/c", "True", 1),
            condition("ContainersReady", "True", 4),
        ];
        let seen = row(&spec, &json!({"conditions": conditions}), &json!({})).pod.lifecycle;
        assert_eq!(seen.unmet_gates, ["lb/a", "lb/b"]);
        assert_eq!(seen.containers_ready.unwrap().to_string(), "2026-01-01T00:00:04Z");
    }

    #[test]
    fn a_rejected_pod_tells_the_kubelets_reason_and_one_that_ends_its_finalizers() {
        let status = json!({"phase": "Failed", "reason": "SysctlForbidden", "message": "forbidden sysctl: \"kernel.shm\""});
        let rejected = row(&json!({}), &status, &json!({})).pod;
        assert!(rejected.finished);
        assert_eq!(rejected.lifecycle.failure.unwrap().0, "SysctlForbidden");
        let metadata = json!({
            "deletionTimestamp": "2026-01-01T00:00:30Z",
            "deletionGracePeriodSeconds": 20,
            "finalizers": ["example.com/keep"],
        });
        let ending = row(&json!({}), &json!({"phase": "Running"}), &metadata).pod;
        assert!(ending.deleting && ending.lifecycle.failure.is_none());
        assert_eq!(ending.lifecycle.ends_by.unwrap().to_string(), "2026-01-01T00:00:30Z");
        assert_eq!(ending.lifecycle.grace, Some(SignedDuration::from_secs(20)));
        assert_eq!(ending.lifecycle.finalizers, ["example.com/keep"]);
    }
}
