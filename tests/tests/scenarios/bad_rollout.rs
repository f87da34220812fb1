//! A rollout whose pods crash is rolled back.

use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
use mcp_health_e2e::{ActionType, Cause, Fault, IncidentType, Severity, Story};

#[tokio::test]
async fn a_rollout_that_crash_loops_is_rolled_back() {
    let story = Story::begin("bad-rollout").await;
    let server = story.server().replicas(3).healthy().await;

    server.roll_out(Fault::RefusesToStart("DATABASE_URL")).await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    // The old pods still serve: a major function is at risk, not the server.
    assert_eq!(incident.severity, Severity::SEV2);
    server.policy.evidence(&incident, "exit code 1").await;
    // The server's own last words.
    server.policy.evidence(&incident, "DATABASE_URL").await;

    let past = server.resolved_by(&incident, ActionType::Rollback).await;
    assert!(past.time_to_mitigate.is_some(), "{past:?}");
    server.serves_mcp().await;
    server.rolled_out().await;
    server.has_healthy_template().await;
    server.was_changed_by_operator(1).await;

    let events: Api<Event> = Api::namespaced(story.client.clone(), &story.namespace);
    let events = events.list(&ListParams::default()).await.expect("events can be listed");
    let told: Vec<&str> = events
        .items
        .iter()
        .filter(|event| event.reporting_controller.as_deref() == Some("mcp-health-operator"))
        .filter_map(|event| event.reason.as_deref())
        .collect();
    for reason in ["IncidentOpened", "ActionTaken", "IncidentResolved"] {
        assert!(told.contains(&reason), "no Event {reason} among {told:?}");
    }
}
