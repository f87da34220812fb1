//! Pods that take long, and pods that wait for a controller of the cluster's: neither is the revision's fault.

use std::path::Path;

use mcp_health_e2e::{ActionType, Cause, IncidentType, Story, environment, host, until};
use serde_json::{Value, json};

/// Longer than the operator waits for pods that run and are not ready.
const LONG_INIT: &str = "75";

/// An init container that runs for so many seconds.
fn init_container(deployment: &mut Value, seconds: &str) {
    let system = host::system();
    let folders: Vec<&Path> = system.clone();
    let (volumes, mounts) = host::folders(&folders);
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["volumes"] = volumes;
    pod["initContainers"] = json!([{
        "name": "download",
        "image": host::IMAGE,
        "command": ["/usr/bin/sleep", seconds],
        "volumeMounts": mounts,
    }]);
}

#[tokio::test]
async fn a_revision_whose_init_container_takes_long_is_waited_for() {
    environment::needs_a_node("an init container that runs a program");
    if !host::is_this_machine("a_revision_whose_init_container_takes_long_is_waited_for") {
        return;
    }
    let story = Story::begin("slow-init").await;
    let server = story.server().healthy().await;
    server.change_manifest(|manifest| init_container(manifest, LONG_INIT));
    server.apply().await;
    server.rolled_out().await;
    server.policy.healthy().await;
    let status = server.policy.status().await;
    assert_eq!((status.incidents.len(), status.history.len()), (0, 0), "{status:#?}");
    server.is_untouched().await;
}

#[tokio::test]
async fn a_readiness_gate_that_no_controller_sets_is_named_and_not_rolled_back() {
    let story = Story::begin("gate").await;
    let server = story.server().healthy().await;
    let pods = server.pod_names().await;
    server.change_manifest(|manifest| {
        manifest["spec"]["progressDeadlineSeconds"] = json!(30);
        manifest["spec"]["template"]["spec"]["readinessGates"] =
            json!([{"conditionType": "target-health.example.com/mcp"}]);
    });
    server.apply().await;
    let incident = server.incident(IncidentType::RolloutStuck, Cause::ReadinessGate).await;
    let evidence = incident.evidence.join("\n");
    assert!(evidence.contains("target-health.example.com/mcp"), "{evidence}");
    server.policy.escalated("NoAutomaticAction").await;
    server.policy.considered_again().await;
    server.is_untouched().await;
    assert!(server.pod_names().await.is_superset(&pods), "the old pods serve on");
}

#[tokio::test]
async fn a_default_limit_of_the_namespace_that_is_too_small_is_named_and_raised() {
    let story = Story::begin("limit-range").await;
    let limits = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "defaults"},
        "spec": {"limits": [{"type": "Container", "default": {"memory": "48Mi"}, "defaultRequest": {"memory": "16Mi"}}]},
    });
    story.kubectl_with(&["create", "--filename=-"], &limits.to_string()).await.ok();
    let server = story
        .server()
        .deployment(|deployment| {
            let environment = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut();
            environment.expect("an env").extend([
                json!({"name": "FAULT_LEAK_MEMORY", "value": "30"}),
                json!({"name": "FAULT_LEAK_MEMORY_CAP", "value": "60"}),
                json!({"name": "FAULT_LEAK_MEMORY_AFTER", "value": "4s"}),
            ]);
        })
        .policy(json!({"actions": {
            "allow": ["Rollback", "RolloutRestart", "RaiseResources"],
            "raiseResources": {"maxMemory": "128Mi"},
        }}))
        .applied()
        .await;
    let incident = server.incident(IncidentType::OutOfMemory, Cause::LimitTooSmall).await;
    assert!(incident.evidence[0].contains("48Mi"), "{:?}", incident.evidence);
    server.policy.mitigated_by(&incident, ActionType::RaiseResources).await;
    server.serves_mcp().await;
    until("the limit is the server's own now", async || {
        let template = server.live_template().await;
        let limit = template["spec"]["containers"][0]["resources"]["limits"]["memory"].clone();
        if limit == "96Mi" { Ok(()) } else { Err(limit.to_string()) }
    })
    .await;
}
