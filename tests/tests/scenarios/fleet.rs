//! What spans servers: the limits of a namespace, a fleet that breaks as a whole, and what comes back again and
//! again.

use futures::future::join_all;
use mcp_health_e2e::{ActionType, Cause, Fault, IncidentType, Server, Story};
use serde_json::json;

const BAD: Fault = Fault::RefusesToStart("DATABASE_URL");

async fn heals(server: &Server) {
    let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    server.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
}

#[tokio::test]
async fn the_namespace_has_its_hourly_limit_and_a_restarted_operator_knows_what_was_done() {
    let story = Story::begin_with_values("ns-hourly", &["limits.maxActionsPerHour.namespace=1"]).await;
    let (one, other) =
        tokio::join!(story.server().named("one").healthy(), story.server().named("other").healthy());
    one.roll_out(BAD).await;
    heals(&one).await;
    // Its object goes: what was done stays counted.
    one.policy.delete().await;
    story.operator().restarted().await;
    other.roll_out(BAD).await;
    other.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    let held = other.policy.held("NamespaceActionsPerHour").await;
    assert!(held.hold.as_ref().is_some_and(|hold| hold.until.is_some()), "{:?}", held.hold);
    other.policy.considered_again().await;
    other.is_untouched().await;
}

#[tokio::test]
async fn a_fleet_that_breaks_as_a_whole_is_left_to_a_person_and_what_is_left_of_it_heals() {
    let story = Story::begin("storm").await;
    let names = ["a", "b", "c", "d", "e", "f"];
    let servers = join_all(names.map(|name| story.server().named(name).healthy())).await;
    let switch = format!("{}-switch", story.operator().name());
    let throw = async |to: &str| {
        let patch = json!({"data": {"suspend": to}}).to_string();
        story.kubectl(&["patch", "configmap", &switch, "--patch", &patch]).await;
    };
    // Held first, so that all are broken before anything could be done.
    throw("true").await;
    join_all(servers.iter().map(|server| server.roll_out(BAD))).await;
    join_all(servers.iter().map(|server| server.policy.held("ClusterSuspended"))).await;
    throw("false").await;
    join_all(servers.iter().map(|server| server.policy.held("FleetUnhealthy"))).await;
    for server in &servers {
        server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
        server.policy.considered_again().await;
        server.is_untouched().await;
    }
    let metric = async |name: &str, labels: &str| story.operator().metric(name, labels).await;
    assert!((metric("mcp_health_operator_servers_unhealthy", "").await - 6.0).abs() < 0.1);
    assert!((metric("mcp_health_operator_servers_held", "FleetUnhealthy").await - 6.0).abs() < 0.1);

    // A person mends two: four are below the floor, and heal one after the other.
    let (mended, left) = servers.split_at(2);
    join_all(mended.iter().map(|server| server.roll_out(Fault::None("2s")))).await;
    join_all(left.iter().map(heals)).await;
    join_all(mended.iter().map(|server| server.policy.healthy())).await;
    assert!(metric("mcp_health_operator_servers_unhealthy", "").await < 0.1);
}

#[tokio::test]
async fn what_is_mended_three_times_within_the_hour_and_comes_back_is_a_persons() {
    let story = Story::begin("flapping").await;
    let limits = json!({"limits": {"maxActionsPerHour": 20, "cooldown": "0s"}});
    let server = story.server().policy(limits).healthy().await;
    for variable in ["ONE", "TWO", "THREE"] {
        server.roll_out(Fault::RefusesToStart(variable)).await;
        heals(&server).await;
    }
    server.roll_out(Fault::RefusesToStart("FOUR")).await;
    let incident = server.policy.escalated("Flapping").await;
    assert_eq!(incident.attempts, []);
    server.policy.considered_again().await;
    server.was_changed_by_operator(3).await;
}

#[tokio::test]
async fn a_watched_namespace_without_a_policy_keeps_nobody_waiting() {
    let story = Story::begin_with_values("two-namespaces", &["watchNamespaces={NAMESPACE,default}"]).await;
    let server = story.server().healthy().await;
    server.roll_out(BAD).await;
    heals(&server).await;
}
