//! Sessions that nobody ends, and a heart that stands still, as metrics tell: the pod that shows it makes room for
//! another.

use mcp_health_e2e::{ActionType, Cause, IncidentType, Server, Story};
use serde_json::{Value, json};

/// Two pods, of which one gets a fault; its name. Nobody but the operator asks them for their metrics.
async fn broken(story: &Story, fault: Value) -> (Server, String) {
    let server = story.server().replicas(2).healthy().await;
    let pod = server.pod_names().await.pop_first().expect("a pod");
    server.break_pod(&pod, fault).await;
    (server, pod)
}

async fn begin(name: &str) -> Story {
    Story::begin_with_values(name, &["signals.scrapePeriod=1s"]).await
}

#[tokio::test]
async fn the_pod_that_keeps_idle_sessions_is_recycled_while_the_other_serves() {
    let story = begin("sessions").await;
    let fault = json!({"fault": "leak-sessions", "rate": 150, "cap": 150});
    let (server, pod) = broken(&story, fault).await;
    let incident = server.incident(IncidentType::SessionLeak, Cause::IdleSessions).await;
    assert!(incident.evidence[0].ends_with(" sessions had no message for an hour"), "{incident:#?}");
    server.resolved_by(&incident, ActionType::RecyclePod).await;
    assert!(!server.pod_names().await.contains(&pod));
    server.serves_mcp().await;
}

#[tokio::test]
async fn the_pod_whose_heart_stands_still_is_recycled_though_it_is_ready() {
    let story = begin("heartbeat").await;
    let (server, pod) = broken(&story, json!({"fault": "stop-heartbeat"})).await;
    let incident = server.incident(IncidentType::HeartbeatFailing, Cause::HeartbeatSilent).await;
    let told = format!("pod {pod}: no heartbeat for ");
    assert!(incident.evidence[0].starts_with(&told), "{incident:#?}");
    server.resolved_by(&incident, ActionType::RecyclePod).await;
    assert!(!server.pod_names().await.contains(&pod));
    server.serves_mcp().await;
}
