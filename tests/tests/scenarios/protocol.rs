//! Servers whose pods are ready, and that do not speak MCP as they should.

use mcp_health_api::Answered;
use mcp_health_e2e::{ActionType, Cause, IncidentType, Server, Story};
use serde_json::{Value, json};

/// MCP is asked for every second, and these tools are expected.
fn asked(tools: &[&str]) -> Value {
    json!({"signals": {
        "mcp": {"interval": "1s", "timeout": "1s", "expectTools": tools},
        "http": {"interval": "1s", "timeout": "1s"},
    }})
}

/// Waits until MCP was answered at least once: what never was is no evidence.
async fn answered(server: &Server) {
    server
        .policy
        .until("its pods have answered MCP", |status| {
            status.target.as_ref()?.answered.contains(&Answered::McpPod).then_some(())
        })
        .await;
}

#[tokio::test]
async fn the_pod_on_which_mcp_hangs_is_recycled_though_its_health_is_well() {
    let story = Story::begin("wedged").await;
    let server = story.server().replicas(2).policy(asked(&[])).healthy().await;
    answered(&server).await;
    let before = server.pod_names().await;
    let wedged = before.first().expect("a pod").clone();
    server.break_pod(&wedged, json!({"fault": "wedge-mcp"})).await;
    let incident = server.incident(IncidentType::McpProtocolFailing, Cause::Wedged).await;
    server.policy.evidence(&incident, &format!("pod {wedged}: MCP: ")).await;
    server.policy.evidence(&incident, "its health path answers").await;
    server.policy.evidence(&incident, "MCP fails on 1 of 2 ready pods, and is well on 1").await;
    server.resolved_by(&incident, ActionType::RecyclePod).await;
    let after = server.pod_names().await;
    assert!(!after.contains(&wedged), "{after:?}");
    assert_eq!(before.intersection(&after).count(), 1, "the other one stays");
    server.serves_mcp().await;
}

#[tokio::test]
async fn a_revision_that_hides_a_tool_that_is_expected_is_rolled_back() {
    let story = Story::begin("tool-gone").await;
    let mut policy = asked(&["search", "create_assignment"]);
    policy["overrides"] = json!([{"incident": "ToolsMissing", "for": "3s"}]);
    let server = story.server().replicas(2).policy(policy).healthy().await;
    answered(&server).await;
    server.change_manifest(|manifest| {
        let container = &mut manifest["spec"]["template"]["spec"]["containers"][0];
        let environment = container["env"].as_array_mut().expect("the manifest has an env");
        environment.push(json!({"name": "FAULT_HIDE_TOOL", "value": "search"}));
    });
    server.apply().await;
    let incident = server.incident(IncidentType::ToolsMissing, Cause::ToolGone).await;
    server.policy.evidence(&incident, "does not offer search").await;
    server.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
    server.was_changed_by_operator(1).await;
    server.serves_mcp().await;
}
