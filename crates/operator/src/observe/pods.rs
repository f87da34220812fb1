//! Pods: a row holds readiness, restarts, exits and what keeps containers from running.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerState, ContainerStatus, PodCondition},
    apimachinery::pkg::util::intstr::IntOrString,
};
use mcp_health_core::{
    quantity,
    signals::{Container, Exit, LastWords, NodeSign, Placement, Pod, Role},
};

use super::table::{Concerns, Key, Row};

mod lifecycle;
pub mod wire;

use wire::{PodWire, SpecContainer, SpecResources};

/// A pod, by its key.
pub type KeyedPod = (Key, Arc<PodRow>);

/// The most ends of a container that are remembered.
const EXITS: usize = 5;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct PodRow {
    /// What the core is given.
    pub pod: Pod,
    /// The ReplicaSet that it belongs to, by uid.
    pub owner: Key,
    /// At least one of its containers runs, or is being started anew.
    pub running: bool,
    /// The node that runs it.
    pub node: Option<Arc<str>>,
    /// Its `emptyDir` volumes that have a size limit, and that limit in bytes.
    pub size_limits: Vec<(String, i64)>,
    /// Bytes of the node's disk that its containers may take together, where any of them has a limit.
    pub disk_limit: Option<i64>,
    /// The ports of which its own probes, or their names, say whether TLS is spoken there.
    pub schemes: Vec<(u16, bool)>,
}

impl PodRow {
    /// Whether TLS is spoken at a port, where that is known.
    pub fn speaks_tls(&self, port: u16) -> Option<bool> {
        self.schemes.iter().find(|(number, _)| *number == port).map(|(_, tls)| *tls)
    }
}

/// What the HTTP probes of a container, and the names of its ports, say of the scheme that is spoken there.
/// Probes come first: the kubelet relies on them.
fn schemes(container: &SpecContainer) -> impl Iterator<Item = (u16, bool)> {
    let probes = [&container.readiness_probe, &container.liveness_probe, &container.startup_probe];
    let asked = probes.into_iter().filter_map(|probe| probe.as_ref()?.http_get.as_ref());
    let number = |port: &IntOrString| match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            container.ports.iter().find(|port| port.name == *name).map(|port| port.container_port)
        }
    };
    let by_probes =
        asked.filter_map(move |http| Some((number(&http.port)?, http.scheme.as_deref() == Some("HTTPS"))));
    let named = container.ports.iter().filter(|port| port.name == "https");
    by_probes.chain(named.map(|port| (port.container_port, true)))
}

impl Row for PodRow {
    fn group(&self) -> Option<Key> {
        Some(self.owner.clone())
    }

    fn changes_verdict(&self, before: &Self) -> bool {
        self != before
    }

    fn succeed(&mut self, before: &Self) {
        self.pod.was_ready |= before.pod.was_ready && before.pod.uid == self.pod.uid;
        for container in &mut self.pod.containers {
            let Some(known) = before.pod.containers.iter().find(|one| one.name == container.name) else {
                continue;
            };
            let seen = std::mem::replace(&mut container.recent_exits, known.recent_exits.clone());
            let last = known.recent_exits.last();
            container.recent_exits.extend(seen.into_iter().filter(|at| last.is_none_or(|last| at > last)));
            let surplus = container.recent_exits.len().saturating_sub(EXITS);
            container.recent_exits.drain(..surplus);
        }
        lifecycle::remember(&mut self.pod, &before.pod);
    }

    fn concerns(&self, key: &Key) -> Concerns {
        Concerns::Pod { pod: key.clone(), owner: self.owner.clone() }
    }
}

/// Whether a pod is Ready or was. The kubelet writes `Ready=False` with its first status, not later than
/// `Initialized` becomes True; what was Ready changed after that.
fn was_ready(ready: Option<&PodCondition>, initialized: Option<&PodCondition>) -> bool {
    let Some(ready) = ready else { return false };
    let changed = |one: &PodCondition| one.last_transition_time.as_ref().map(|at| at.0);
    let initialized = initialized.filter(|one| one.status == "True").and_then(changed);
    ready.status == "True" || initialized.zip(changed(ready)).is_some_and(|(first, then)| then > first)
}

/// The row of a pod that belongs to a ReplicaSet.
pub fn view(wire: &PodWire) -> Option<(Key, PodRow)> {
    let meta = &wire.metadata;
    let namespace = meta.namespace.as_deref()?;
    let name = meta.name.clone()?;
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    if owner.kind != "ReplicaSet" {
        return None;
    }
    let created = meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0);
    let status = &wire.status;
    let condition = |kind: &str| status.conditions.iter().find(|condition| condition.type_ == kind);
    let ready = condition("Ready");
    let unschedulable = condition("PodScheduled")
        .filter(|condition| {
            condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable")
        })
        .map(|condition| condition.message.clone().unwrap_or_default());
    let init = wire.spec.init_containers.iter();
    let role = |name: &str| match init.clone().find(|one| one.name == name) {
        Some(one) if one.restart_policy.as_deref() == Some("Always") => Role::Sidecar,
        Some(_) => Role::Init,
        None => Role::Main,
    };
    let statuses = status.init_container_statuses.iter().chain(&status.container_statuses);
    let resources = |name: &str| {
        let main = wire.spec.containers.iter().map(|one| (&one.name, &one.resources));
        let mut all = main.chain(init.clone().map(|one| (&one.name, &one.resources)));
        all.find(|(of, _)| of.as_str() == name).map(|(_, resources)| resources)
    };
    let containers = statuses.map(|one| container(one, role(&one.name), resources(&one.name))).collect();
    let pod = Pod {
        name: name.clone(),
        uid: meta.uid.clone().unwrap_or_default(),
        revision: owner.uid.clone(),
        created,
        deleting: meta.deletion_timestamp.is_some(),
        finished: matches!(status.phase.as_str(), "Failed" | "Succeeded"),
        ready: ready.is_some_and(|condition| condition.status == "True"),
        ready_changed: ready
            .and_then(|condition| condition.last_transition_time.as_ref())
            .map_or(created, |at| at.0),
        was_ready: was_ready(ready, condition("Initialized")),
        address: status.pod_ip,
        unschedulable,
        placement: placement(wire, created),
        containers,
        troubles: Vec::new(),
        lifecycle: lifecycle::view(wire, &role),
    };
    let limits =
        wire.spec.containers.iter().filter_map(|one| one.resources.limits.ephemeral_storage.as_deref());
    let size_limits = wire.spec.volumes.iter().filter_map(|volume| {
        let limit = volume.empty_dir.as_ref()?.size_limit.as_deref()?;
        Some((volume.name.clone(), quantity::bytes(limit)?))
    });
    let row = PodRow {
        pod,
        owner: Key::new(namespace, &owner.uid),
        running: status.phase == "Running",
        node: wire.spec.node_name.as_deref().map(Arc::from),
        size_limits: size_limits.collect(),
        disk_limit: limits
            .filter_map(quantity::bytes)
            .fold(None, |sum: Option<i64>, limit| Some(sum.unwrap_or_default().saturating_add(limit))),
        schemes: wire.spec.containers.iter().flat_map(schemes).collect(),
    };
    Some((Key::new(namespace, &name), row))
}

/// Where it runs, and what the control plane did to it because its node fails. The node lifecycle controller
/// sets `Ready` to False and nothing else: what the kubelet reported last of the containers stays.
fn placement(wire: &PodWire, created: Timestamp) -> Option<Placement> {
    let node = wire.spec.node_name.clone()?;
    let condition = |kind: &str| wire.status.conditions.iter().find(|one| one.type_ == kind);
    let is = |kind: &str, status: &str| condition(kind).is_some_and(|one| one.status == status);
    let since = condition("PodScheduled").and_then(|one| one.last_transition_time.as_ref());
    let reason = |kind: &str| condition(kind).and_then(|one| one.reason.as_deref()).unwrap_or_default();
    let sign = if is("DisruptionTarget", "True") && reason("DisruptionTarget") == "DeletionByTaintManager" {
        Some(NodeSign::DeletedByTaint)
    } else if is("Ready", "False") && is("ContainersReady", "True") && reason("Ready").is_empty() {
        Some(NodeSign::MarkedUnready)
    } else {
        None
    };
    Some(Placement { node, since: since.map_or(created, |at| at.0), sign })
}

fn container(status: &ContainerStatus, role: Role, resources: Option<&SpecResources>) -> Container {
    let bytes = |amount: Option<&String>| amount.and_then(|amount| quantity::bytes(amount));
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
    let exit = |state: &Option<ContainerState>| {
        let ended = state.as_ref()?.terminated.as_ref()?;
        Some(Exit {
            code: ended.exit_code,
            reason: ended.reason.clone().unwrap_or_default(),
            at: ended.finished_at.as_ref()?.0,
            started: ended.started_at.as_ref().map(|at| at.0),
            message: ended.message.clone().filter(|message| !message.trim().is_empty()),
        })
    };
    let (before, now) = (exit(&status.last_state), exit(&status.state));
    // Whoever sees the pod for the first time, after a restart of the operator, sees the last two ends.
    let recent_exits = before.iter().chain(&now).map(|exit| exit.at).collect();
    Container {
        name: status.name.clone(),
        role,
        restarts: status.restart_count,
        memory_limit: bytes(resources.and_then(|one| one.limits.memory.as_ref())),
        memory_request: bytes(resources.and_then(|one| one.requests.memory.as_ref())),
        waiting: waiting.map(|waiting| {
            (waiting.reason.clone().unwrap_or_default(), waiting.message.clone().unwrap_or_default())
        }),
        recent_exits,
        ended: now.is_some(),
        last_exit: now.or(before),
        last_words: LastWords::NotAsked,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn ended(at: &str) -> Value {
        json!({"terminated": {"exitCode": 1, "reason": "Error", "startedAt": at, "finishedAt": at}})
    }

    fn row(state: &Value, last: &Value) -> PodRow {
        let container = json!({
            "name": "server", "image": "", "imageID": "", "ready": false, "restartCount": 1,
            "state": state, "lastState": last,
        });
        let wire = json!({
            "metadata": {
                "name": "a", "namespace": "mcp",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}],
            },
            "status": {"phase": "Running", "containerStatuses": [container]},
        });
        view(&serde_json::from_value(wire).unwrap()).unwrap().1
    }

    #[test]
    fn the_limit_of_a_container_is_the_pods_own_which_admission_may_have_set() {
        let wire = json!({
            "metadata": {
                "name": "a", "namespace": "mcp",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}],
            },
            "spec": {"containers": [
                {"name": "other"},
                {"name": "server", "resources": {"limits": {"memory": "128Mi"}, "requests": {"memory": "32Mi"}}},
            ]},
            "status": {"containerStatuses": [
                {"name": "server", "image": "", "imageID": "", "ready": true, "restartCount": 0},
                {"name": "other", "image": "", "imageID": "", "ready": true, "restartCount": 0},
            ]},
        });
        let pod = view(&serde_json::from_value(wire).unwrap()).unwrap().1.pod;
        let limits: Vec<_> =
            pod.containers.iter().map(|one| (one.memory_limit, one.memory_request)).collect();
        assert_eq!(limits, [(Some(128 << 20), Some(32 << 20)), (None, None)]);
    }

    fn sign(conditions: &Value) -> Option<NodeSign> {
        let wire = json!({
            "metadata": {"name": "a", "namespace": "mcp"},
            "spec": {"nodeName": "worker-1"},
            "status": {"phase": "Running", "conditions": conditions},
        });
        placement(&serde_json::from_value(wire).unwrap(), Timestamp::UNIX_EPOCH).unwrap().sign
    }

    #[test]
    fn a_pod_shows_that_the_control_plane_marked_it_for_its_node() {
        let ready = |status: &str, reason: &str| json!({"type": "Ready", "status": status, "reason": reason});
        let containers = |status: &str| json!({"type": "ContainersReady", "status": status});
        let rows = [
            (json!([ready("False", ""), containers("True")]), Some(NodeSign::MarkedUnready)),
            (json!([ready("False", "ContainersNotReady"), containers("False")]), None),
            (json!([ready("False", "ReadinessGatesNotReady"), containers("True")]), None),
            (json!([ready("True", ""), containers("True")]), None),
            (
                json!([{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]),
                Some(NodeSign::DeletedByTaint),
            ),
            (
                json!([{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]),
                None,
            ),
        ];
        for (conditions, expected) in rows {
            assert_eq!(sign(&conditions), expected, "{conditions}");
        }
    }

    const FIRST: &str = "2026-01-01T00:00:01Z";
    const SECOND: &str = "2026-01-01T00:00:03Z";
    const THIRD: &str = "2026-01-01T00:00:15Z";

    fn exits(row: &PodRow) -> Vec<String> {
        row.pod.containers[0].recent_exits.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_restarted_operator_sees_the_last_two_ends_of_a_container() {
        assert_eq!(exits(&row(&ended(SECOND), &ended(FIRST))), [FIRST, SECOND]);
    }

    #[test]
    fn each_end_of_a_container_is_remembered_once() {
        let mut second = row(&ended(SECOND), &ended(FIRST));
        second.succeed(&row(&ended(FIRST), &json!({})));
        assert_eq!(exits(&second), [FIRST, SECOND]);
        let mut waiting = row(&json!({"waiting": {"reason": "CrashLoopBackOff"}}), &ended(SECOND));
        waiting.succeed(&second);
        assert_eq!(exits(&waiting), [FIRST, SECOND]);
        let mut third = row(&ended(THIRD), &ended(SECOND));
        third.succeed(&waiting);
        assert_eq!(exits(&third), [FIRST, SECOND, THIRD]);
    }

    fn with_conditions(conditions: &[(&str, &str, &str)]) -> Pod {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(kind, status, at)| json!({"type": kind, "status": status, "lastTransitionTime": at}))
            .collect();
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true});
        let wire = json!({
            "metadata": {"name": "a", "namespace": "mcp", "ownerReferences": [owner]},
            "status": {"phase": "Running", "conditions": conditions},
        });
        view(&serde_json::from_value(wire).unwrap()).unwrap().1.pod
    }

    #[test]
    fn a_pod_was_ready_if_its_readiness_changed_after_its_init_containers_were_done() {
        type Condition = (&'static str, &'static str, &'static str);
        let rows: &[(&str, &[Condition], bool)] = &[
            ("no kubelet has it yet", &[], false),
            ("ready", &[("Initialized", "True", FIRST), ("Ready", "True", SECOND)], true),
            ("started", &[("Initialized", "True", FIRST), ("Ready", "False", FIRST)], false),
            ("init containers done", &[("Initialized", "True", SECOND), ("Ready", "False", FIRST)], false),
            ("init containers run", &[("Initialized", "False", FIRST), ("Ready", "False", FIRST)], false),
            ("readiness lost", &[("Initialized", "True", FIRST), ("Ready", "False", THIRD)], true),
        ];
        for (what, conditions, was_ready) in rows {
            assert_eq!(with_conditions(conditions).was_ready, *was_ready, "{what}");
        }
    }
}
