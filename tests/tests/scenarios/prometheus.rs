//! What a real Prometheus tells of a server: by whatever labels it was scraped with, and worth nothing once it is silent.

use mcp_health_e2e::{
    ActionType, Cause, ConditionType, Fault, Incident, IncidentType, Reason, Server, Story,
    host::{self, Killer},
    prometheus::{self, Labels, Prometheus},
    server::Planned,
};
use serde_json::{Value, json};

/// A story whose operator asks its own Prometheus every second.
async fn begin(name: &str) -> Story {
    let url = format!("signals.prometheus.url={}", prometheus::URL);
    let quick = ["signals.prometheus.period=1s", "signals.prometheus.timeout=2s"];
    Story::begin_with_values(name, &[&[url.as_str()], &quick[..]].concat()).await
}

fn rule(above: &str) -> Value {
    json!({"rules": [{"name": "ToolsBusy", "promql": "mcp_tool_calls_total", "above": above}]})
}

/// A server whose policy has a person called after five calls of a tool.
fn watched(story: &Story) -> Planned {
    story.server().policy(rule("5"))
}

/// Calls of a tool by a real client, until the rule's incident is a person's.
async fn becomes_busy(server: &Server) -> Incident {
    for _ in 0..6 {
        server.serves_mcp().await;
    }
    let incident = server.policy.escalated("NoAutomaticAction").await;
    assert_eq!((incident.incident_type, incident.rule.as_deref()), (IncidentType::Rule, Some("ToolsBusy")));
    assert!(incident.evidence[0].contains(" is above 5"), "{incident:#?}");
    incident
}

async fn says(server: &Server, message: &str) {
    let told = |one: &&mcp_health_api::Condition| {
        one.type_ == ConditionType::SignalsAvailable.to_string() && one.status == "False"
    };
    let found = server.policy.until(message, |status| {
        status.conditions.iter().find(told).filter(|one| one.message.contains(message)).map(drop)
    });
    found.await;
}

#[tokio::test]
async fn what_prometheus_tells_is_an_incident_until_it_tells_otherwise_and_its_silence_is_neither() {
    if !host::is_this_machine("a Prometheus that goes away") {
        return;
    }
    let story = begin("prometheus-told").await;
    let prometheus = Prometheus::start(&story, Labels::Monitor).await;
    let killer = Killer::ready(&story).await;
    let server = watched(&story).healthy().await;
    let incident = becomes_busy(&server).await;

    prometheus.0.pause(&killer).await;
    says(&server, "its metrics: no answer since ").await;
    prometheus.0.resume(&killer).await;
    server.policy.until_condition(ConditionType::SignalsAvailable, "True", &Reason::AllSignalsFresh).await;

    prometheus.0.stop().await;
    says(&server, "its own rules: no answer since ").await;
    // What was told would be well by now, but nobody tells it.
    server.policy.change(&rule("1000")).await;
    let generation = Some(2);
    let open = server.policy.until("a look at the changed rule", |status| {
        (status.observed_generation == generation).then(|| status.incidents.clone())
    });
    assert_eq!(open.await.iter().map(|one| &one.id).collect::<Vec<_>>(), [&incident.id]);
    prometheus.0.start_again().await;
    let past = server.policy.resolved(&incident).await;
    assert_eq!(past.done(), "");
    server.policy.healthy().await;
    server.is_untouched().await;
}

#[tokio::test]
async fn a_server_is_known_by_other_labels_and_by_its_address_alone() {
    if !host::is_this_machine("a Prometheus of the story's own") {
        return;
    }
    for (labels, name) in [(Labels::Annotations, "prometheus-old"), (Labels::Bare, "prometheus-bare")] {
        let story = begin(name).await;
        let _prometheus = Prometheus::start(&story, labels).await;
        let other = story.server().named("other").policy(rule("5")).healthy().await;
        let server = watched(&story).healthy().await;
        becomes_busy(&server).await;
        other.policy.healthy().await;
        server.is_untouched().await;
    }
}

#[tokio::test]
async fn a_prometheus_that_hangs_keeps_nothing_from_being_healed() {
    if !host::is_this_machine("a Prometheus that hangs") {
        return;
    }
    let story = begin("prometheus-hangs").await;
    let prometheus = Prometheus::start(&story, Labels::Monitor).await;
    let killer = Killer::ready(&story).await;
    let server = story.server().healthy().await;
    prometheus.0.pause(&killer).await;
    server.roll_out(Fault::RefusesToStart("DATABASE_URL")).await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    server.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
    says(&server, "its metrics: no answer since ").await;
    prometheus.0.resume(&killer).await;
    server.policy.until_condition(ConditionType::SignalsAvailable, "True", &Reason::AllSignalsFresh).await;
    server.was_changed_by_operator(1).await;
}

#[tokio::test]
async fn a_rule_that_prometheus_does_not_take_and_a_url_that_is_not_allowed_are_said() {
    if !host::is_this_machine("a Prometheus of the story's own") {
        return;
    }
    let story = begin("prometheus-refuses").await;
    let _prometheus = Prometheus::start(&story, Labels::Monitor).await;
    let broken = json!({"rules": [{"name": "Broken", "promql": "sum(", "above": "1"}]});
    let server = story.server().policy(broken).healthy().await;
    says(&server, "rule Broken: ").await;
    says(&server, "parse error").await;
    let elsewhere =
        json!({"rules": null, "signals": {"prometheus": {"url": "http://me:s3cret@elsewhere:9090"}}});
    server.policy.change(&elsewhere).await;
    says(&server, "its metrics: http://elsewhere:9090 is not on the operator's allow-list").await;
    server.is_untouched().await;
}
