//! Alerts that others wrote, told by a real Alertmanager: an incident for a person, which nothing is done about alone.

use mcp_health_e2e::{
    ActionType, Cause, ConditionType, Fault, IncidentType, Reason, Story,
    alertmanager::{self, Alertmanager},
    host::{self, Killer},
    prometheus::{Labels, Prometheus},
};
use serde_json::json;

/// A story whose operator asks its own Alertmanager every second.
async fn begin(name: &str) -> Story {
    let url = format!("signals.alertmanagerUrl={}", alertmanager::URL);
    Story::begin_with_values(name, &[&url, "extraArgs={--alertmanager-period=1s}"]).await
}

#[tokio::test]
async fn an_alert_on_a_server_is_a_persons_until_it_is_silenced_or_over() {
    if !host::is_this_machine("alerts of an Alertmanager") {
        return;
    }
    let story = begin("alert").await;
    let alertmanager = Alertmanager::start(&story).await;
    let server = story.server().healthy().await;
    alertmanager.fire("OtherSlow", &json!({"deployment": "other", "severity": "critical"}), "").await;
    let slow = json!({"deployment": "mcp-server", "severity": "warning"});
    alertmanager.fire("McpSlow", &slow, "P99 is 2.1 s, token=hunter2").await;
    let incident = server.policy.escalated("AlertFiring").await;
    assert_eq!((incident.incident_type, incident.cause), (IncidentType::AlertFiring, Cause::Alert));
    assert_eq!(incident.severity.to_string(), "SEV3");
    assert!(incident.evidence[0].starts_with("1 alert fires: McpSlow (warning) since "), "{incident:#?}");
    assert_eq!(incident.evidence[1], "McpSlow: P99 is 2.1 s, token=***");

    let pod = server.pod_names().await.pop_first().expect("a pod");
    let down = json!({"pod": pod, "severity": "critical"});
    alertmanager.fire("McpDown", &down, "nobody answers").await;
    server.policy.evidence(&incident, "2 alerts fire: McpDown (critical) since ").await;
    let now = server.policy.status().await;
    assert_eq!(now.incidents[0].severity.to_string(), "SEV2");

    alertmanager.end("McpDown", &down).await;
    server.policy.evidence(&incident, "1 alert fires: McpSlow ").await;
    alertmanager.silence("McpSlow").await;
    let past = server.policy.resolved(&incident).await;
    assert_eq!(past.resolution, "no alert fires any more");
    assert_eq!(past.done(), "");
    server.policy.healthy().await;
    server.is_untouched().await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn an_alertmanager_that_does_not_answer_is_said_and_closes_nothing() {
    if !host::is_this_machine("an Alertmanager that goes away") {
        return;
    }
    let story = begin("alert-unseen").await;
    let alertmanager = Alertmanager::start(&story).await;
    let killer = Killer::ready(&story).await;
    let server = story.server().healthy().await;
    let slow = json!({"service": "mcp-server", "severity": "warning"});
    alertmanager.fire("McpSlow", &slow, "P99 is 2.1 s").await;
    let incident = server.policy.escalated("AlertFiring").await;

    alertmanager.addon.pause(&killer).await;
    let signals = |message: &'static str| {
        let policy = server.policy.clone();
        async move {
            policy
                .until(message, |status| {
                    let one = status.conditions.iter().find(|one| {
                        one.type_ == ConditionType::SignalsAvailable.to_string() && one.status == "False"
                    })?;
                    one.message.contains(message).then_some(())
                })
                .await;
        }
    };
    signals("its alerts: no answer since ").await;
    alertmanager.addon.resume(&killer).await;
    server.policy.until_condition(ConditionType::SignalsAvailable, "True", &Reason::AllSignalsFresh).await;
    let open = server.policy.status().await.incidents;
    assert_eq!(open.iter().map(|one| &one.id).collect::<Vec<_>>(), [&incident.id]);

    alertmanager.addon.stop().await;
    signals("its alerts: no answer since ").await;
    // It knows nothing when it comes back, as after every restart.
    alertmanager.addon.start_again().await;
    server.policy.resolved(&incident).await;
    server.is_untouched().await;
}

#[tokio::test]
async fn an_alert_on_a_fault_that_is_seen_follows_from_it_and_the_fault_is_mended() {
    if !host::is_this_machine("alerts of an Alertmanager") {
        return;
    }
    let story = begin("alert-too").await;
    let alertmanager = Alertmanager::start(&story).await;
    // A policy that trusts its alerts: it is not asked twice.
    let runbook = json!({"overrides": [{"incident": "AlertFiring", "runbook": [{"rolloutRestart": {}}]}]});
    let server = story.server().policy(runbook).healthy().await;
    server.roll_out(Fault::RefusesToStart("DATABASE_URL")).await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    let crashing = json!({"deployment": "mcp-server", "severity": "critical"});
    alertmanager.fire("CrashLooping", &crashing, "").await;
    server.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
    alertmanager.end("CrashLooping", &crashing).await;
    server.policy.healthy().await;
    server.was_changed_by_operator(1).await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn a_prometheus_of_ones_own_scrapes_the_namespace_with_the_labels_it_is_told() {
    if !host::is_this_machine("a Prometheus of the story's own") {
        return;
    }
    let story = Story::begin_with("prometheus", mcp_health_e2e::Operator::None).await;
    let server = story.server().without_policy().replicas(2).healthy().await;
    let pods = server.pod_names().await;
    for (labels, named) in [
        (Labels::Monitor, "pod"),
        (Labels::PodMonitor, "pod"),
        (Labels::Annotations, "kubernetes_pod_name"),
        (Labels::Bare, "instance"),
    ] {
        let prometheus = Prometheus::start(&story, labels).await;
        prometheus.has_scraped(&server).await;
        let by = format!("count by ({named}) (mcp_requests_total or up)");
        let series = prometheus.query(&by).await.expect("series");
        let names: Vec<_> = series.iter().filter_map(|(labels, _)| labels[named].as_str()).collect();
        if labels == Labels::Bare {
            assert_eq!(names.len(), 2, "{names:?}");
            assert!(prometheus.query("up{pod!=\"\"}").await.expect("an answer").is_empty());
        } else {
            assert_eq!(
                names.iter().map(|name| (*name).to_owned()).collect::<std::collections::BTreeSet<_>>(),
                pods
            );
        }
        prometheus.0.stop().await;
        prometheus.query("up").await.expect_err("nobody answers");
    }
}
