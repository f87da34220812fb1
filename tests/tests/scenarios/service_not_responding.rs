//! No pod is ready, or the Service does not lead to those that are.

use mcp_health_e2e::{ActionType, Cause, Fault, IncidentType, Severity, Story};
use serde_json::{Value, json};

fn impatient() -> Value {
    json!({"overrides": [{"incident": "ServiceNotResponding", "for": "5s"}]})
}

#[tokio::test]
async fn a_revision_that_never_gets_ready_and_left_no_old_pods_is_rolled_back() {
    let story = Story::begin("never-ready").await;
    let server = story.server().replicas(2).recreate().policy(impatient()).healthy().await;
    server.roll_out(Fault::NeverReady).await;
    let incident = server.incident(IncidentType::ServiceNotResponding, Cause::BadRollout).await;
    assert_eq!(incident.severity, Severity::SEV1);
    server.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
    server.was_changed_by_operator(1).await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn a_service_that_selects_no_pod_is_a_persons_and_the_pods_are_left_alone() {
    let story = Story::begin("mismatch").await;
    let server = story.server().replicas(2).policy(impatient()).healthy().await;
    let pods = server.pod_names().await;
    let select = async |app: &str| {
        let patch = json!({"spec": {"selector": {"app": app}}}).to_string();
        story.kubectl(&["patch", "service", "mcp-server", "--patch", &patch]).await;
    };
    select("mcp-sever").await;
    let incident = server.incident(IncidentType::ServiceNotResponding, Cause::ServiceMismatch).await;
    assert!(incident.evidence.join("\n").contains("app=mcp-sever"), "{:?}", incident.evidence);
    server.policy.escalated("NoAutomaticAction").await;
    server.policy.considered_again().await;
    server.is_untouched().await;
    assert_eq!(server.pod_names().await, pods, "not restarted: nothing is wrong with them");

    select("mcp-server").await;
    server.policy.resolved(&incident).await;
    server.serves_mcp().await;
}
