//! Requests that fail, told by a real Prometheus under a small load: a new revision that fails is rolled back.

use mcp_health_e2e::{
    ActionType, Cause, Fault, IncidentType, Story, host,
    load::Load,
    prometheus::{self, Labels, Prometheus},
};
use serde_json::json;

#[tokio::test]
async fn a_revision_whose_tool_fails_under_load_is_rolled_back() {
    if !host::is_this_machine("a Prometheus of the story's own") {
        return;
    }
    let url = format!("signals.prometheus.url={}", prometheus::URL);
    let values = [url.as_str(), "signals.prometheus.period=1s", "signals.prometheus.timeout=2s"];
    let story = Story::begin_with_values("errors", &values).await;
    let _prometheus = Prometheus::start(&story, Labels::Monitor).await;
    let quick = json!({
        "signals": {"prometheus": {"window": "1m"}},
        "overrides": [{"incident": "HighErrorRate", "for": "2s", "thresholds": {"minRequests": 20}}],
    });
    let server = story.server().replicas(2).policy(quick).healthy().await;
    let load = Load::on(&story.namespace, &server.name);
    server.roll_out(Fault::FailsTool("search")).await;
    let incident = server.incident(IncidentType::HighErrorRate, Cause::BadRollout).await;
    assert_eq!(incident.severity.to_string(), "SEV2", "{incident:#?}");
    assert!(incident.evidence[0].contains("% of requests fail"), "{incident:#?}");
    assert!(incident.evidence.iter().any(|line| line.contains("search")), "{incident:#?}");
    server.resolved_by(&incident, ActionType::Rollback).await;
    drop(load);
    server.has_healthy_template().await;
    server.was_changed_by_operator(1).await;
    server.serves_mcp().await;
}
