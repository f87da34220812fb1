//! What else happens meanwhile: things vanish, people intervene, rights are missing, the operator is killed.

use mcp_health_e2e::{
    ActionType, Cause, ConditionType, Fault, Incident, IncidentType, Outcome, Reason, Server, Story,
    environment, host::Killer, until,
};
use serde_json::json;

const BAD: Fault = Fault::RefusesToStart("DATABASE_URL");
/// So long a time to settle that whatever the test does next falls into the verification.
const SLOW: &[&str] = &["verification.settle=30s"];

/// A rollback is done, and being judged.
async fn verifying(server: &Server) -> Incident {
    server.roll_out(BAD).await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    server.policy.until_condition(ConditionType::Remediating, "True", &Reason::Verifying).await;
    server.was_changed_by_operator(1).await;
    incident
}

#[tokio::test]
async fn a_deployment_deleted_during_an_attempt_ends_it_and_its_successor_begins_anew() {
    let story = Story::begin_with_values("deleted", SLOW).await;
    let server = story.server().healthy().await;
    let incident = verifying(&server).await;

    story.kubectl(&["delete", "deployment", "mcp-server", "--cascade=foreground"]).await;
    server.begins_anew();
    let past = server.policy.resolved(&incident).await;
    assert!(past.resolution.contains("deleted"), "{}", past.resolution);
    assert_eq!(past.done(), format!("{}: {}", ActionType::Rollback, Outcome::Superseded));
    server.policy.stalled(Reason::TargetNotFound).await;

    // The same name, and the bad template from the start: nothing of the predecessor's may be brought back.
    server.apply().await;
    server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    server.policy.escalated("NoAutomaticAction").await;
    server.is_untouched().await;
}

#[tokio::test]
async fn a_policy_deleted_during_an_attempt_undoes_nothing_and_lets_the_next_server_go_on() {
    let story = Story::begin_with_values("policy-gone", SLOW).await;
    let (server, other) = tokio::join!(story.server().healthy(), story.server().named("other").healthy());
    verifying(&server).await;
    server.policy.delete().await;
    // At most one server is acted on at once; this one would wait for half a minute.
    verifying(&other).await;
    server.rolled_out().await;
    server.has_healthy_template().await;
    server.was_changed_by_operator(1).await;
}

#[tokio::test]
async fn a_rollout_that_a_person_undoes_first_is_over_without_an_action() {
    let story = Story::begin("person-first").await;
    let server = story.server().policy(json!({"suspend": true})).healthy().await;
    server.roll_out(BAD).await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    server.policy.held("Suspended").await;
    story.kubectl(&["rollout", "undo", "deployment/mcp-server"]).await;
    server.changed_by_the_test();
    server.policy.change(&json!({"suspend": false})).await;
    let past = server.policy.resolved(&incident).await;
    assert_eq!(past.done(), "", "{past:?}");
    server.has_healthy_template().await;
    server.is_untouched().await;
}

#[tokio::test]
async fn a_person_who_brings_the_bad_template_back_is_not_fought() {
    let story = Story::begin_with_values("reverted", SLOW).await;
    let server = story.server().policy(json!({"limits": {"cooldown": "0s"}})).healthy().await;
    verifying(&server).await;
    server.apply().await;
    let incident = server.policy.escalated("Reverted").await;
    assert_eq!(incident.attempts[0].outcome, Some(Outcome::Reverted));
    server.policy.considered_again().await;
    server.was_changed_by_operator(1).await;
    let live = server.live_template().await;
    assert!(live.to_string().contains("DATABASE_URL"), "what the person wants: {live}");
}

#[tokio::test]
async fn without_the_right_to_patch_it_says_so_and_hands_over() {
    let values = ["actions.rollback=false", "actions.rolloutRestart=false"];
    let story = Story::begin_with_values("no-patch", &values).await;
    let server = story.server().healthy().await;
    server.roll_out(BAD).await;
    server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    let incident = server.policy.escalated("Forbidden").await;
    assert_eq!(incident.attempts[0].outcome, Some(Outcome::Refused));
    let stalled = server.policy.stalled(Reason::Forbidden).await;
    assert!(stalled.message.contains("cannot patch resource \"deployments\""), "{}", stalled.message);
    server.policy.considered_again().await;
    server.is_untouched().await;
}

#[tokio::test]
async fn without_the_right_to_list_pods_it_says_so_and_does_nothing() {
    let story = Story::begin("no-list").await;
    let server = story.server().healthy().await;
    story.operator().forbid("pods").await;
    story.operator().restarted().await;
    let seen = server
        .policy
        .until_condition(ConditionType::SignalsAvailable, "False", &Reason::SignalsMissing)
        .await;
    assert!(seen.message.contains("its pods"), "{}", seen.message);
    let stalled = server.policy.stalled(Reason::Forbidden).await;
    assert!(stalled.message.contains("cannot list resource \"pods\""), "{}", stalled.message);
    assert_eq!(server.policy.condition(ConditionType::Ready).await.status, "Unknown");

    server.roll_out(BAD).await;
    until("the new revision crash-loops", async || {
        let pods = format!("{:?}", server.pods().await);
        if pods.contains("CrashLoopBackOff") { Ok(()) } else { Err(pods) }
    })
    .await;
    server.policy.considered_again().await;
    assert_eq!(server.policy.status().await.incidents, []);
    server.is_untouched().await;
}

#[tokio::test]
async fn a_healthy_template_whose_replica_set_is_gone_cannot_come_back() {
    let story = Story::begin("target-gone").await;
    let server = story.server().recreate().deployment(|deployment| {
        deployment["spec"]["revisionHistoryLimit"] = json!(0);
    });
    let server = server.healthy().await;
    // Ready for a moment: long enough for the rollout to be complete and the old ReplicaSet to be removed, and not
    // long enough to be healthy.
    server.roll_out(Fault::CrashesAfter("5s")).await;
    server.incident(IncidentType::CrashLoop, Cause::BadRollout).await;
    let incident = server.policy.escalated("RollbackTargetGone").await;
    assert_eq!(incident.attempts, []);
    server.policy.considered_again().await;
    server.is_untouched().await;
}

#[tokio::test]
async fn a_server_that_never_was_healthy_is_a_persons() {
    let story = Story::begin("never-healthy").await;
    let server = story.server().planned();
    server.apply_service().await;
    server.apply_policy().await;
    server.roll_out(BAD).await;
    server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    server.policy.escalated("NoAutomaticAction").await;
    server.policy.considered_again().await;
    server.is_untouched().await;
}

#[tokio::test]
async fn an_operator_killed_during_an_attempt_comes_to_the_same_end() {
    let story = Story::begin_with_values("killed", &["verification.settle=15s"]).await;
    let server = story.server().replicas(2).healthy().await;
    if environment::foreign_context().is_some() {
        let incident = verifying(&server).await;
        let pods = "--selector=app.kubernetes.io/name=mcp-health-operator";
        story.kubectl(&["delete", "pod", pods, "--grace-period=0", "--force"]).await;
        server.resolved_by(&incident, ActionType::Rollback).await;
        server.was_changed_by_operator(1).await;
        return;
    }
    let killer = Killer::ready(&story).await;
    let container = story.operator().container().await;
    let incident = verifying(&server).await;
    killer.kill(&container).await;
    until("the operator was started anew, and is ready", async || {
        let restarts = story.operator().restarts().await?;
        if restarts == (1, true) { Ok(()) } else { Err(format!("{restarts:?}")) }
    })
    .await;
    server.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
    server.was_changed_by_operator(1).await;
}
