//! Crashes that no rollout caused are not answered by a rollback.

use mcp_health_e2e::{
    ActionType, Cause, Fault, IncidentType, Outcome, Severity, Story, server::Planned, until,
};
use serde_json::json;

/// A server that takes its settings from a `ConfigMap`, and reads them anew whenever its container starts.
async fn with_settings(story: &Story) -> Planned {
    story.kubectl(&["create", "configmap", "settings", "--from-literal=MCP_LOG_LEVEL=INFO"]).await;
    story.server().deployment(|deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
            json!([{"configMapRef": {"name": "settings"}}]);
    })
}

/// From now on, no container that starts with these settings stays up.
async fn spoil_settings(story: &Story) {
    let patch = r#"{"data": {"FAULT_CRASH_EXIT": "1"}}"#;
    story.kubectl(&["patch", "configmap", "settings", "--type=merge", "--patch", patch]).await;
}

#[tokio::test]
async fn a_crash_loop_on_the_healthy_template_is_restarted_once_and_then_a_persons() {
    let story = Story::begin("process-exit").await;
    let server = with_settings(&story).await.healthy().await;
    // A healthy template before the one in force: there would be something to go back to.
    server.roll_out(Fault::None("2s")).await;
    server.rolled_out().await;
    server.policy.healthy().await;

    spoil_settings(&story).await;
    for pod in server.pod_names().await {
        server.break_pod(&pod, json!({"fault": "crash"})).await;
    }
    let incident = server.incident(IncidentType::CrashLoop, Cause::ProcessExit).await;
    assert_eq!(incident.severity, Severity::SEV1, "no pod is ready");

    let incident = server.policy.escalated("RunbookExhausted").await;
    let did: Vec<_> = incident.attempts.iter().map(|attempt| (attempt.action, attempt.outcome)).collect();
    assert_eq!(did, [(ActionType::RolloutRestart, Some(Outcome::NoChange))]);
    server.policy.considered_again().await;
    server.was_changed_by_operator(1).await;

    // A person mends the settings: the operator sees that it is over.
    story
        .kubectl(&[
            "patch",
            "configmap",
            "settings",
            "--type=json",
            "--patch",
            r#"[{"op": "remove", "path": "/data/FAULT_CRASH_EXIT"}]"#,
        ])
        .await;
    story.kubectl(&["rollout", "restart", "deployment/mcp-server"]).await;
    server.policy.resolved(&incident).await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn one_crashing_pod_of_a_healthy_template_is_a_persons_while_the_others_serve() {
    let story = Story::begin("one-pod").await;
    let server = with_settings(&story).await.replicas(2).healthy().await;
    spoil_settings(&story).await;
    let pods = server.pod_names().await;
    let broken = pods.first().expect("two pods");
    server.break_pod(broken, json!({"fault": "crash"})).await;

    let incident = server.incident(IncidentType::CrashLoop, Cause::ProcessExit).await;
    assert_eq!(incident.severity, Severity::SEV2, "the other pod serves");
    server.policy.escalated("NoAutomaticAction").await;
    server.policy.considered_again().await;
    server.is_untouched().await;
    assert_eq!(server.pod_names().await, pods);
}

#[tokio::test]
async fn a_single_crash_is_no_incident() {
    let story = Story::begin("one-crash").await;
    let server = story.server().healthy().await;
    let pods = server.pod_names().await;
    let pod = pods.first().expect("a pod");
    server.break_pod(pod, json!({"fault": "crash"})).await;
    until("the container was started anew, and is ready", async || {
        let pods = server.pods().await;
        let statuses = pods.first().and_then(|pod| pod.status.as_ref()?.container_statuses.clone());
        let status = statuses.into_iter().flatten().next().ok_or("no status")?;
        if status.restart_count == 1 && status.ready { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    server.policy.considered_again().await;
    let status = server.policy.status().await;
    assert_eq!((status.incidents.len(), status.history.len()), (0, 0), "{status:#?}");
    server.is_untouched().await;
}
