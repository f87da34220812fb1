//! What runs beside the server: the smoke test after a rollback, hooks on its pods, and what is kept as evidence.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use mcp_health_e2e::{
    ActionType, Cause, Fault, Incident, IncidentType, Outcome, Server, Story, manifest, until,
};
use serde_json::{Value, json};

/// A rollback is proven by a Job of the CronJob `smoke`.
fn proven() -> Value {
    json!({"smokeTest": {"jobTemplateRef": {"kind": "CronJob", "name": "smoke"}}})
}

/// The demo server again, that ends by itself with this exit code: a Job's only pod.
async fn smoke_test(story: &Story, exit: &str) {
    let mut pod = manifest::deployment(&story.namespace, "smoke", 1)["spec"]["template"]["spec"].take();
    let container = &mut pod["containers"][0];
    container["readinessProbe"].take();
    container["env"] = json!([
        {"name": "FAULT_CRASH_EXIT", "value": exit},
        {"name": "FAULT_CRASH_AFTER", "value": "1s"},
    ]);
    pod["restartPolicy"] = json!("Never");
    let job = json!({"backoffLimit": 0, "template": {"spec": pod}});
    let cron_job = json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "smoke"},
        "spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": job}},
    });
    story.kubectl_with(&["apply", "--filename=-"], &cron_job.to_string()).await.ok();
}

#[tokio::test]
async fn a_rollback_has_helped_once_its_smoke_test_has_succeeded() {
    let story = Story::begin_with_values("smoke-good", &["actions.runJob=true"]).await;
    smoke_test(&story, "0").await;
    let server = story.server().policy(proven()).healthy().await;
    server.roll_out(Fault::RefusesToStart("DATABASE_URL")).await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::BadRollout).await;
    server.resolved_by(&incident, ActionType::Rollback).await;
    let jobs = story.kubectl(&["get", "jobs", "--output=name"]).await;
    assert_eq!(jobs.trim(), format!("job.batch/mcph-{}-1", incident.id));
    server.has_healthy_template().await;
    server.was_changed_by_operator(1).await;
    // It goes with the policy.
    server.policy.delete().await;
    until("the Job is gone", async || {
        let jobs = story.kubectl(&["get", "jobs", "--output=name"]).await;
        if jobs.is_empty() { Ok(()) } else { Err(jobs) }
    })
    .await;
}

#[tokio::test]
async fn a_rollback_whose_smoke_test_fails_is_a_persons_though_all_pods_are_ready() {
    let story = Story::begin_with_values("smoke-bad", &["actions.runJob=true"]).await;
    smoke_test(&story, "1").await;
    let server = story.server().policy(proven()).healthy().await;
    server.roll_out(Fault::RefusesToStart("DATABASE_URL")).await;
    let first = server.incident(IncidentType::CrashLoop, Cause::BadRollout).await;
    let incident = server.policy.escalated("SmokeTestFailed").await;
    assert_eq!(incident.attempts[0].outcome, Some(Outcome::NoChange));
    let job = format!("mcph-{}-1", first.id);
    assert!(incident.evidence[0].contains(&job), "{:?}", incident.evidence);
    server.rolled_out().await;
    server.has_healthy_template().await;

    // A person has looked at it.
    story.kubectl(&["delete", "job", &job]).await;
    server.policy.resolved(&incident).await;
}

#[tokio::test]
async fn a_smoke_test_that_the_operator_may_not_run_is_said_and_the_rollback_stands() {
    let story = Story::begin("smoke-forbidden").await;
    let server = story.server().policy(proven()).healthy().await;
    server.roll_out(Fault::RefusesToStart("DATABASE_URL")).await;
    let incident = server.policy.escalated("Forbidden").await;
    let message = incident.escalation.expect("it is escalated").message;
    assert!(message.contains("actions.runJob=true"), "{message}");
    server.rolled_out().await;
    server.has_healthy_template().await;
}

/// The texts of the evidence that an incident names.
async fn evidence(story: &Story, server: &Server, incident: &Incident) -> BTreeMap<String, String> {
    let name = server
        .policy
        .until("evidence is kept", |status| {
            let open = status.incidents.iter().find(|one| one.id == incident.id);
            let past = status.history.iter().find(|one| one.id == incident.id);
            open.and_then(|one| one.evidence_kept.clone()).or(past.and_then(|one| one.evidence_kept.clone()))
        })
        .await;
    let found: ConfigMap = Api::namespaced(story.client.clone(), &story.namespace)
        .get(&name)
        .await
        .expect("the ConfigMap that the incident names is there");
    assert_eq!(found.immutable, Some(true));
    let data = found.data.expect("it has texts");
    assert!(data.values().map(String::len).sum::<usize>() <= 200 * 1024, "it is bounded");
    data
}

#[tokio::test]
async fn what_an_action_destroys_is_kept_and_shows_no_credential() {
    let story = Story::begin("evidence").await;
    let server = story
        .server()
        .deployment(|deployment| {
            let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
            let environment = container["env"].as_array_mut().expect("the manifest has an env");
            environment.push(json!({"name": "API_TOKEN", "value": "planted-token"}));
        })
        .healthy()
        .await;
    // A revision whose last words hold what must not be shown.
    server.change_manifest(|manifest| {
        let container = &mut manifest["spec"]["template"]["spec"]["containers"][0];
        let environment = container["env"].as_array_mut().expect("the manifest has an env");
        let url = "postgres://mcp:planted-password@nowhere.invalid:5432/mcp";
        environment.push(json!({"name": "DATABASE_URL", "value": url}));
        environment.push(json!({"name": "MCP_REQUIRE", "value": "MISSING_planted-token"}));
    });
    server.apply().await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::BadRollout).await;
    let kept = evidence(&story, &server, &incident).await;
    let told: Vec<String> = kept.iter().map(|(key, text)| format!("{key}\n{text}")).collect();
    let told = told.join("\n");
    for says in ["CrashLoop", "Rollback", "not ready", "restarts", "Progressing="] {
        assert!(told.contains(says), "{says:?} is not in {told}");
    }
    assert!(kept.keys().any(|key| key.ends_with(".previous.log")), "{:?}", kept.keys());
    assert!(kept["events.txt"].contains("Pod/mcp-server-"), "{told}");
    assert!(!told.contains("planted"), "{told}");
    server.resolved_by(&incident, ActionType::Rollback).await;

    server.policy.delete().await;
    until("the evidence goes with the policy", async || {
        let selector = "--selector=mcphealth.dev/kind=evidence";
        let left = story.kubectl(&["get", "configmaps", selector, "--output=name"]).await;
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}
