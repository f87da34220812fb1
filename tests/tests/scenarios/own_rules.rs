//! Rules of a policy's own, judged by queries to a real Prometheus: an incident of the rule's name, and its runbook.

use mcp_health_e2e::{
    ActionType, Cause, IncidentType, Story, host,
    prometheus::{self, Labels, Prometheus},
};
use serde_json::json;

/// A story whose operator asks its own Prometheus every second.
async fn begin(name: &str) -> Story {
    let url = format!("signals.prometheus.url={}", prometheus::URL);
    Story::begin_with_values(name, &[&url, "signals.prometheus.period=1s"]).await
}

#[tokio::test]
async fn what_a_rule_of_ones_own_finds_is_mended_by_its_runbook() {
    if !host::is_this_machine("a Prometheus of the story's own") {
        return;
    }
    let story = begin("own-rule").await;
    let prometheus = Prometheus::start(&story, Labels::Monitor).await;
    let rule = json!({
        "name": "Crowded",
        "promql": "sum by (namespace, pod) (mcp_sessions)",
        "above": "50",
        "for": "10s",
        "severity": "SEV2",
        "runbook": [{"recyclePod": {}}],
    });
    let server = story.server().replicas(2).policy(json!({"rules": [rule]})).healthy().await;
    prometheus.has_scraped(&server).await;
    let before = server.pod_names().await;
    let pod = before.first().expect("a pod").clone();
    // Too few for the catalogue.
    server.break_pod(&pod, json!({"fault": "leak-sessions", "rate": 80, "cap": 80})).await;
    let incident = server.incident(IncidentType::Rule, Cause::OwnRule).await;
    assert_eq!(incident.rule.as_deref(), Some("Crowded"));
    assert!(incident.id.starts_with("crowded-"), "{incident:#?}");
    assert_eq!(incident.severity.to_string(), "SEV2");
    assert!(incident.evidence[0].contains(&pod), "{incident:#?}");
    assert!(incident.evidence[0].ends_with(" is above 50 for 10s"), "{incident:#?}");
    assert_eq!(incident.evidence[1], "query: sum by (namespace, pod) (mcp_sessions)");
    let lasted = incident.opened_at.0.duration_since(incident.since.0).as_secs();
    assert!((10..60).contains(&lasted), "it lasted {lasted} s");
    server.resolved_by(&incident, ActionType::RecyclePod).await;
    let now = server.pod_names().await;
    assert!(!now.contains(&pod) && now.intersection(&before).count() == 1, "{now:?}");
    server.serves_mcp().await;
}

#[tokio::test]
async fn a_rule_that_is_removed_takes_its_incident_with_it() {
    if !host::is_this_machine("a Prometheus of the story's own") {
        return;
    }
    let story = begin("rule-removed").await;
    let _prometheus = Prometheus::start(&story, Labels::Monitor).await;
    let rule = json!({"name": "Up", "promql": "min by (namespace, pod) (up)", "above": "0"});
    let server = story.server().policy(json!({"rules": [rule]})).applied().await;
    let incident = server.policy.escalated("NoAutomaticAction").await;
    assert_eq!(incident.rule.as_deref(), Some("Up"));
    server.policy.change(&json!({"rules": null})).await;
    let past = server.policy.resolved(&incident).await;
    assert_eq!(past.resolution, "the rule was removed from the policy");
    server.policy.healthy().await;
    server.is_untouched().await;
}
