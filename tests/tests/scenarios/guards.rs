//! What keeps the operator's hands off: each guard holds the rollback of a bad rollout, and lets go of it.

use jiff::SignedDuration;
use mcp_health_api::Time;
use mcp_health_e2e::{ActionType, Cause, ConditionType, Fault, Incident, IncidentType, Server, Story};
use serde_json::json;

const BAD: Fault = Fault::RefusesToStart("DATABASE_URL");

/// A bad rollout is seen, the action is named, and held for this reason; nothing is touched.
async fn held(server: &Server, reason: &str) -> Incident {
    server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    let incident = server.policy.held(reason).await;
    let next = incident.next.clone().unwrap_or_default();
    assert!(next.starts_with("would roll back to the template of revision 1"), "{next}");
    server.policy.considered_again().await;
    server.is_untouched().await;
    incident
}

/// Nothing is in the way any more.
async fn heals(server: &Server, incident: &Incident) {
    server.resolved_by(incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
    server.was_changed_by_operator(1).await;
}

/// A bad rollout is seen and handed to a person for this reason; nothing is touched.
async fn escalates(server: &Server, reason: &str) {
    server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    server.policy.escalated(reason).await;
    server.policy.considered_again().await;
    server.is_untouched().await;
}

#[tokio::test]
async fn in_observe_mode_it_says_what_it_would_do_and_does_nothing() {
    let story = Story::begin("observe").await;
    let server = story.server().policy(json!({"mode": "Observe"})).healthy().await;
    server.roll_out(BAD).await;
    let incident = held(&server, "ObserveMode").await;
    server.policy.change(&json!({"mode": "Enforce"})).await;
    heals(&server, &incident).await;
}

#[tokio::test]
async fn a_suspended_policy_holds_every_action() {
    let story = Story::begin("suspend").await;
    let server = story.server().policy(json!({"suspend": true})).healthy().await;
    server.roll_out(BAD).await;
    let incident = held(&server, "Suspended").await;
    server.policy.change(&json!({"suspend": false})).await;
    heals(&server, &incident).await;
}

#[tokio::test]
async fn the_annotation_on_the_namespace_holds_every_action_in_it() {
    let story = Story::begin("ns-suspend").await;
    let server = story.server().healthy().await;
    let namespace = story.namespace.as_str();
    story.kubectl(&["annotate", "namespace", namespace, "mcphealth.dev/suspend=true"]).await;
    server.policy.until_condition(ConditionType::RemediationAllowed, "False", &"NamespaceSuspended").await;
    server.roll_out(BAD).await;
    let incident = held(&server, "NamespaceSuspended").await;
    story.kubectl(&["annotate", "namespace", namespace, "mcphealth.dev/suspend-"]).await;
    heals(&server, &incident).await;
}

#[tokio::test]
async fn the_cluster_wide_switch_holds_every_action_of_the_operator() {
    let story = Story::begin("switch").await;
    let server = story.server().healthy().await;
    let switch = format!("{}-switch", story.operator().name());
    let throw = async |to: &str| {
        let patch = json!({"data": {"suspend": to}}).to_string();
        story.kubectl(&["patch", "configmap", &switch, "--patch", &patch]).await;
    };
    throw("true").await;
    server.policy.until_condition(ConditionType::RemediationAllowed, "False", &"ClusterSuspended").await;
    server.roll_out(BAD).await;
    let incident = held(&server, "ClusterSuspended").await;
    throw("false").await;
    heals(&server, &incident).await;
}

#[tokio::test]
async fn an_action_that_is_not_allowed_is_a_persons() {
    let story = Story::begin("not-allowed").await;
    let server = story.server().policy(json!({"actions": {"allow": ["RolloutRestart"]}})).healthy().await;
    server.roll_out(BAD).await;
    escalates(&server, "ActionNotAllowed").await;
}

#[tokio::test]
async fn where_rollback_is_never_a_bad_rollout_is_a_persons() {
    let story = Story::begin("never").await;
    let server = story.server().policy(json!({"actions": {"rollback": "Never"}})).healthy().await;
    server.roll_out(BAD).await;
    escalates(&server, "RollbackNever").await;
}

#[tokio::test]
async fn a_paused_deployment_is_left_alone() {
    let story = Story::begin("paused").await;
    // Suspended first, so that the pause is there before the operator's hand.
    let server = story.server().policy(json!({"suspend": true})).healthy().await;
    server.roll_out(BAD).await;
    server.policy.held("Suspended").await;
    server.patch(&json!({"spec": {"paused": true}}), true).await;
    server.policy.considered_again().await;
    server.policy.change(&json!({"suspend": false})).await;
    let incident = held(&server, "DeploymentPaused").await;
    server.patch(&json!({"spec": {"paused": null}}), true).await;
    heals(&server, &incident).await;
}

#[tokio::test]
async fn a_deployment_that_gitops_owns_is_changed_in_git() {
    let story = Story::begin("gitops").await;
    let label = "argocd.argoproj.io/instance";
    let server = story.server().deployment(move |deployment| {
        deployment["metadata"]["labels"][label] = json!("mcp");
    });
    let server = server.healthy().await;
    server.roll_out(BAD).await;
    let incident = held(&server, "GitOpsManaged").await;
    let message = incident.hold.as_ref().map(|hold| hold.message.clone()).unwrap_or_default();
    assert!(message.contains("Argo CD"), "{message}");
    server.patch(&json!({"metadata": {"labels": {label: null}}}), false).await;
    heals(&server, &incident).await;
}

#[tokio::test]
async fn an_autoscaler_keeps_its_replicas_while_the_template_is_rolled_back() {
    let story = Story::begin("autoscaler").await;
    let server = story.server().replicas(2).healthy().await;
    story.kubectl(&["autoscale", "deployment", "mcp-server", "--min=2", "--max=3", "--cpu=80%"]).await;
    server.roll_out(BAD).await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    heals(&server, &incident).await;
    assert_eq!(server.deployment().await.spec.replicas, Some(2));
}

#[tokio::test]
async fn a_second_bad_rollout_waits_for_the_cooldown_and_says_until_when() {
    let story = Story::begin("cooldown").await;
    let server = story.server().healthy().await;
    server.roll_out(BAD).await;
    let first = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    server.resolved_by(&first, ActionType::Rollback).await;

    server.roll_out(Fault::RefusesToStart("API_KEY")).await;
    let second = server.policy.held("Cooldown").await;
    let last = server.policy.status().await.last_action.expect("the first rollback");
    let until = second.hold.as_ref().and_then(|hold| hold.until.clone());
    assert_eq!(until, Some(Time(last.at.0 + SignedDuration::from_mins(5))), "{:?}", second.hold);
    server.policy.considered_again().await;
    server.was_changed_by_operator(1).await;

    server.policy.change(&json!({"limits": {"cooldown": "1s"}})).await;
    server.resolved_by(&second, ActionType::Rollback).await;
    server.has_healthy_template().await;
    server.was_changed_by_operator(2).await;
}

#[tokio::test]
async fn the_hourly_limit_survives_the_deletion_of_the_object() {
    let story = Story::begin("hourly").await;
    let limits = json!({"limits": {"maxActionsPerHour": 1, "cooldown": "0s"}});
    let server = story.server().policy(limits).healthy().await;
    server.roll_out(BAD).await;
    let first = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    server.resolved_by(&first, ActionType::Rollback).await;

    server.policy.delete().await;
    server.apply_policy().await;
    server.policy.healthy().await;
    server.roll_out(Fault::RefusesToStart("API_KEY")).await;
    let second = server.policy.held("ActionsPerHour").await;
    assert!(second.hold.as_ref().is_some_and(|hold| hold.until.is_some()), "{:?}", second.hold);
    server.policy.considered_again().await;
    server.was_changed_by_operator(1).await;
}

#[tokio::test]
async fn of_two_servers_that_break_at_once_one_waits_and_both_heal() {
    // Time enough for the second to be found broken while the first is still being judged.
    let story = Story::begin_with_values("two-at-once", &["verification.settle=10s"]).await;
    let (one, other) =
        tokio::join!(story.server().named("one").healthy(), story.server().named("other").healthy());
    tokio::join!(one.roll_out(BAD), other.roll_out(BAD));
    let heal = async |server: &Server| {
        let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
        heals(server, &incident).await;
    };
    tokio::join!(heal(&one), heal(&other));
    let ended = async |server: &Server| {
        let status = server.policy.status().await;
        (status.last_action.expect("a rollback").at, status.history[0].resolved_at.clone())
    };
    let mut ended = [ended(&one).await, ended(&other).await];
    ended.sort();
    let [(_, first_resolved), (second_acted, _)] = ended;
    assert!(second_acted >= first_resolved, "acted at {second_acted:?}, before {first_resolved:?}");
    let waited = story.operator().metric("mcp_health_operator_holds_total", "ConcurrentActions").await;
    assert!(waited >= 1.0, "the metric tells that one waited");
}
