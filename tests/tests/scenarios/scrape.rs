//! Metrics straight from the pods, where there is no Prometheus.

use mcp_health_e2e::{Cause, ConditionType, IncidentType, Reason, Story, load::Load};
use serde_json::json;

/// Asks pods more often than people would.
const OFTEN: &str = "signals.scrapePeriod=2s";

#[tokio::test]
async fn requests_that_fail_are_seen_at_the_pods_themselves_and_the_incident_closes_when_they_do_not() {
    let story = Story::begin_with_values("scrape", &[OFTEN]).await;
    // Probes would tell of it, too.
    let policy = json!({
        "signals": {
            "scrape": {},
            "prometheus": {"window": "1m"},
            "mcp": {"enabled": false}, "http": {"enabled": false},
        },
        "overrides": [{"incident": "HighErrorRate", "for": "2s", "thresholds": {"minRequests": 20}}],
    });
    let server = story.server().policy(policy).healthy().await;
    let pod = server.pod_names().await.pop_first().expect("a pod");
    let _load = Load::on_mcp(&story.namespace, &server.name);
    server.break_pod(&pod, json!({"fault": "fail-requests", "percent": 50})).await;
    let incident = server
        .policy
        .until("HighErrorRate", |status| {
            let first = status.incidents.first()?;
            (first.incident_type == IncidentType::HighErrorRate).then(|| first.clone())
        })
        .await;
    assert_ne!(incident.cause, Cause::BadRollout, "{incident:#?}");
    let told = incident.evidence.iter().any(|line| line.contains("GET /metrics of its pods"));
    assert!(told, "{:?}", incident.evidence);

    server.mend_pod(&pod, "fail-requests").await;
    let past = server.policy.resolved(&incident).await;
    assert_eq!(past.done(), "", "one pod of one: nothing is done about it");
    server.policy.healthy().await;
    server.is_untouched().await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn a_server_without_metrics_is_no_fault_unless_its_policy_wants_them() {
    let story = Story::begin_with_values("scrape-none", &[OFTEN]).await;
    let server = story.server().healthy().await;
    server.policy.until_condition(ConditionType::SignalsAvailable, "True", &Reason::AllSignalsFresh).await;
    let wants = story.server().named("wants").policy(json!({"signals": {"scrape": {"path": "/nothing"}}}));
    let wants = wants.applied().await;
    wants
        .policy
        .until("its metrics are missed", |status| {
            let mut conditions = status.conditions.iter();
            let one = conditions.find(|one| one.type_ == ConditionType::SignalsAvailable.to_string())?;
            one.message.contains("its metrics: GET :8000/nothing: it answers 404").then_some(())
        })
        .await;
    server.is_untouched().await;
}
