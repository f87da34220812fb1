//! Nodes that nothing runs on: KWOK plays them and their pods, by the stages in `stages/`.
//!
//! The control plane and its controllers are real: scheduling, rollouts, ReplicaSets, EndpointSlices. What a
//! kubelet would report about a pod is played. What its first container does is read from annotations of its
//! template, all under `simulation.mcphealth.dev/`:
//!
//! | annotation | what happens |
//! |---|---|
//! | `ready-after: 300ms` | how long after its start it is ready |
//! | `never-ready: "true"` | its readiness probe fails for ever |
//! | `crash-after: 1s` | it ends that long after each start, with `exit-code` (1), `reason` and `message` |
//! | `memory: 60Mi` | it is OOM-killed where its limit is lower, 1 s or `crash-after` after each start |
//! | `waiting: CreateContainerConfigError` | it never starts, for this reason, with `message` |
//! | `complete-after: 1s` | a Job's pod ends well that long after it was ready |
//!
//! An image whose tag is `nope`, or whose registry is under `.invalid`, cannot be pulled. Where the
//! annotations say nothing, the demo server's own variables are read: `MCP_REQUIRE`, `FAULT_CRASH_*`,
//! `FAULT_LEAK_MEMORY*`, `FAULT_NEVER_READY` and `FAULT_SLOW_START`, as far as they stand in the template
//! itself. Nothing reads a `ConfigMap`, asks a probe, uses memory or writes a log.

use std::fmt::Write;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::handle::Cluster;
use crate::network::Network;
use crate::node::Node;
use crate::parts::Programs;
use crate::state::{Layout, Saved, write_file};

/// On nodes that are simulated beside others; ordinary pods do not tolerate it.
pub const TAINT: &str = "simulation.mcphealth.dev/node";

const STAGES: [&str; 5] = [
    include_str!("stages/node.yaml"),
    include_str!("stages/pod_create.yaml"),
    include_str!("stages/pod_start.yaml"),
    include_str!("stages/pod_crash.yaml"),
    include_str!("stages/pod_end.yaml"),
];

/// How long all nodes may take to be ready.
const LIMIT: Duration = Duration::from_mins(2);

/// Starts KWOK, without waiting for it.
pub fn start(
    layout: &Layout,
    network: Network,
    node: &Node,
    saved: &mut Saved,
    programs: &Programs,
) -> Result<()> {
    let config = layout.config("kwok.yaml");
    write_file(&config, &STAGES.join("---\n"))?;
    let arguments = [
        format!("--config={}", config.display()),
        format!("--kubeconfig={}", layout.kubeconfig().display()),
        format!("--manage-nodes-with-annotation-selector={TAINT}=true"),
        format!("--cidr={}", network.simulated_pods()),
        format!("--node-ip={}", network.simulated_node()),
        "--node-lease-duration-seconds=40".to_owned(),
    ];
    node.daemon(saved, "kwok", programs.path("kwok")?, &arguments)
}

/// Makes the cluster have exactly these simulated nodes, and waits until they are ready: `count` that
/// ordinary pods stay away from and, where there is no other, one for ordinary pods.
pub fn ensure_nodes(
    cluster: &Cluster,
    layout: &Layout,
    node: &Node,
    saved: &Saved,
    only: bool,
) -> Result<()> {
    let count = saved.simulated_nodes;
    let mut manifest = String::new();
    let mut add = |name: &str, tainted: bool| {
        let taints = if tainted {
            format!("  taints: [{{key: {TAINT}, value: \"true\", effect: NoSchedule}}]\n")
        } else {
            String::new()
        };
        let _ = write!(
            manifest,
            "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  annotations: {{{TAINT}: \"true\"}}\n  labels: \
             {{{TAINT}: \"true\", kubernetes.io/hostname: {name}, kubernetes.io/os: linux}}\nspec:\n  providerID: \
             simulated://{name}\n{taints}"
        );
    };
    if only {
        add(&layout.node_name(), false);
    }
    let name = |at: u32| format!("{}-simulated-{at}", layout.name);
    for at in 1..=count {
        add(&name(at), true);
    }
    if !manifest.is_empty() {
        cluster.apply(&manifest)?;
    }

    let selector = format!("--selector={TAINT}=true");
    let list =
        |path: &str| cluster.kubectl_run(["get", "nodes", &selector, "-o", &format!("jsonpath={path}")]);
    let wanted: Vec<String> =
        only.then(|| layout.node_name()).into_iter().chain((1..=count).map(name)).collect();
    let names = list("{.items[*].metadata.name}")?;
    let superfluous: Vec<&str> =
        names.split_whitespace().filter(|name| !wanted.iter().any(|one| one == name)).collect();
    if !superfluous.is_empty() {
        cluster.kubectl_run([&["delete", "nodes", "--wait=false"], &superfluous[..]].concat())?;
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let ready = "{.items[*].status.conditions[?(@.type=='Ready')].status}";
    node.await_daemon(saved, "kwok", LIMIT, || {
        list(ready)
            .is_ok_and(|said| said.split_whitespace().filter(|one| *one == "True").count() >= wanted.len())
    })
}

/// How many simulated nodes a cluster may have beside its own: pods' addresses and etcd have their bounds.
pub fn check_count(count: u32) -> Result<u32> {
    const MOST: u32 = 1000;
    if count > MOST {
        return Err(Error::other(format!("{count} simulated nodes are too many: at most {MOST}")));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_is_of_a_pod_or_a_node_and_has_a_name_of_its_own() {
        let all = STAGES.join("---\n");
        let mut names = Vec::new();
        for document in serde_yaml_ng::Deserializer::from_str(&all) {
            let stage: serde_json::Value = serde::Deserialize::deserialize(document).unwrap();
            assert_eq!(stage["kind"], "Stage");
            let kind = stage["spec"]["resourceRef"]["kind"].as_str().unwrap();
            assert!(["Pod", "Node"].contains(&kind), "{kind}");
            names.push(stage["metadata"]["name"].as_str().unwrap().to_owned());
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
