//! A rollout that does not get through: its own fault is rolled back, the cluster's is a person's.

use mcp_health_e2e::{ActionType, Cause, Fault, IncidentType, Server, Story, until};
use serde_json::{Value, json};

fn impatient() -> Value {
    json!({"overrides": [{"incident": "RolloutStuck", "for": "5s"}]})
}

#[tokio::test]
async fn a_rollout_to_an_image_that_does_not_exist_is_rolled_back() {
    let story = Story::begin("no-image").await;
    let impatient = json!({"overrides": [{"incident": "CrashLoop", "for": "5s"}]});
    let server = story.server().replicas(2).policy(impatient).healthy().await;
    let pods = server.pod_names().await;
    server.roll_out(Fault::MissingImage).await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::ImagePull).await;
    assert!(incident.evidence[0].contains("registry.invalid"), "{:?}", incident.evidence);
    server.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
    server.was_changed_by_operator(1).await;
    assert_eq!(server.pod_names().await, pods, "the pods that served all the time");
}

#[tokio::test]
async fn a_rollout_whose_pods_stay_unready_beside_the_old_ones_is_rolled_back() {
    let story = Story::begin("unready").await;
    let server = story.server().policy(impatient()).healthy().await;
    server.roll_out(Fault::NeverReady).await;
    let incident = server.incident(IncidentType::RolloutStuck, Cause::BadRollout).await;
    server.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
    server.was_changed_by_operator(1).await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn a_rollout_that_the_quota_refuses_is_a_persons() {
    let story = Story::begin("quota").await;
    let server = story.server().policy(impatient()).healthy().await;
    // As many pods as there are: the operator's, and the server's.
    story.kubectl(&["create", "quota", "pods", "--hard=pods=2"]).await;
    until("the quota is counted", async || {
        let used = story.kubectl(&["get", "quota", "pods", "--output=jsonpath={.status.used.pods}"]).await;
        if used == "2" { Ok(()) } else { Err(used) }
    })
    .await;
    let pods = server.pod_names().await;
    server.roll_out(Fault::None("2s")).await;
    let incident = server.incident(IncidentType::RolloutStuck, Cause::QuotaExceeded).await;
    assert!(incident.evidence[0].contains("exceeded quota"), "{:?}", incident.evidence);
    left_alone(&server, &pods).await;

    // A person raises the quota: the rollout goes on, and the incident ends.
    story.kubectl(&["delete", "quota", "pods"]).await;
    server.policy.resolved(&incident).await;
}

#[tokio::test]
async fn a_rollout_that_no_node_takes_is_a_persons() {
    let story = Story::begin("no-node").await;
    let server = story.server().policy(impatient()).healthy().await;
    let pods = server.pod_names().await;
    server.roll_out(Fault::NoSuchNode).await;
    let incident = server.incident(IncidentType::RolloutStuck, Cause::Unschedulable).await;
    assert!(incident.evidence[0].contains("no node takes it"), "{:?}", incident.evidence);
    left_alone(&server, &pods).await;
}

/// Escalated, not acted on, and the old pods are still there.
async fn left_alone(server: &Server, pods: &std::collections::BTreeSet<String>) {
    server.policy.escalated("NoAutomaticAction").await;
    server.policy.considered_again().await;
    server.is_untouched().await;
    assert!(server.pod_names().await.is_superset(pods), "the old pods serve on");
}
