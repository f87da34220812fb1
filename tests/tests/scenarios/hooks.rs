//! What runs beside the server: the smoke test after a rollback, hooks on its pods, and what is kept as evidence.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use mcp_health_api::{Effect, StepState};
use mcp_health_e2e::{
    ActionType, Cause, Fault, Incident, IncidentType, Outcome, Server, Story, manifest, server::Planned,
    until,
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
    let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
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
    let first = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
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
    let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
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

/// The hooks of the demo server, and a runbook of them for pods whose disk fills: they are ready all the time.
fn drained(wait: &str, restore: bool, runbook: &Value) -> Value {
    let mut drain = json!({"hook": "drain", "wait": wait, "saveHook": "save"});
    if restore {
        drain["restoreHook"] = json!("restore");
    }
    json!({
        "hooks": [
            {"name": "drain", "path": "/admin/drain"},
            {"name": "save", "path": "/admin/save-state"},
            {"name": "restore", "path": "/admin/restore-state"},
            {"name": "silent", "path": "/mcp", "timeout": "1s"},
        ],
        "actions": {"allow": ["DrainAndRestart", "CallHook"], "drain": drain},
        "overrides": [{"incident": "DiskFilling", "runbook": runbook}],
    })
}

/// Has fullness looked at more often than people would.
const DISKS: &[&str] = &["extraArgs={--kubelet-stats-period=5s}", "signals.kubeletStats=true"];

/// One of its pods fills its disk. Awaits the incident.
async fn fills(server: &Server) -> Incident {
    let pod = server.pod_names().await.first().expect("a pod").clone();
    server.break_pod(&pod, json!({"fault": "fill-disk", "rate": 20, "path": "/state", "cap": 35})).await;
    server.incident(IncidentType::DiskFilling, Cause::TemporaryFiles).await
}

/// A server that keeps its state in a file of each pod's own, whose pods may take their time to end.
fn with_state(story: &Story) -> Planned {
    story.server().replicas(2).deployment(|deployment| {
        let pod = &mut deployment["spec"]["template"]["spec"];
        pod["terminationGracePeriodSeconds"] = json!(60);
        pod["volumes"] = json!([{"name": "state", "emptyDir": {"sizeLimit": "40Mi"}}]);
        let container = &mut pod["containers"][0];
        container["volumeMounts"] = json!([{"name": "state", "mountPath": "/state"}]);
        let environment = container["env"].as_array_mut().expect("the manifest has an env");
        environment.push(json!({"name": "MCP_STATE_FILE", "value": "/state/assignments.json"}));
    })
}

/// What the steps of the first attempt came to, once it has ended or all of them are done.
async fn notes(server: &Server) -> Vec<(Effect, StepState, String)> {
    let attempt = server
        .policy
        .until("its steps are done, or it has ended", |status| {
            let attempt = status.incidents.first()?.attempts.first()?;
            (attempt.is_carried_out() || attempt.outcome.is_some()).then(|| attempt.clone())
        })
        .await;
    attempt.steps.into_iter().map(|step| (step.effect, step.state, step.note.unwrap_or_default())).collect()
}

const BOTH: &str = "2 of 2 pods answered with success";

#[tokio::test]
async fn pods_are_drained_have_their_time_save_their_state_and_are_replaced() {
    let story = Story::begin_with_values("drain", DISKS).await;
    let policy = drained("3s", false, &json!([{"drainAndRestart": {}}]));
    let server = with_state(&story).policy(policy).healthy().await;
    let before = server.pod_names().await;
    let incident = fills(&server).await;
    let steps = notes(&server).await;
    let (effects, notes): (Vec<_>, Vec<_>) =
        steps.into_iter().map(|(effect, state, note)| ((effect, state), note)).unzip();
    let done = [Effect::CallHook, Effect::Wait, Effect::CallHook, Effect::RestartPods, Effect::AwaitRollout];
    assert_eq!(effects, done.map(|effect| (effect, StepState::Done)));
    assert_eq!([notes[0].as_str(), notes[2].as_str()], [BOTH, BOTH]);
    server.rolled_out().await;
    assert!(server.pod_names().await.is_disjoint(&before), "all pods are new");
    server.serves_mcp().await;
    server.resolved_by(&incident, ActionType::DrainAndRestart).await;
}

#[tokio::test]
async fn a_restart_whose_sessions_do_not_come_back_is_a_persons() {
    let story = Story::begin_with_values("restore", DISKS).await;
    let policy = drained("1s", true, &json!([{"drainAndRestart": {}}, {"callHook": {"name": "drain"}}]));
    let server = with_state(&story).policy(policy).healthy().await;
    fills(&server).await;
    // The file ended with its pod.
    let incident = server.policy.escalated("HookFailed").await;
    let message = incident.escalation.as_ref().map(|why| why.message.clone()).unwrap_or_default();
    assert!(message.contains("hook restore: 0 of 2 pods answered with success"), "{message}");
    assert!(message.contains("it answered 404"), "{message}");
    assert_eq!(incident.attempts.len(), 1, "the runbook's next step is not taken");
    assert_eq!(incident.attempts[0].outcome, Some(Outcome::NoChange));
    server.rolled_out().await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn a_drain_that_is_suspended_while_it_waits_stops_there_and_says_so() {
    let story = Story::begin_with_values("drain-suspended", DISKS).await;
    let policy = drained("10s", false, &json!([{"drainAndRestart": {}}]));
    let server = with_state(&story).policy(policy).healthy().await;
    let before = server.pod_names().await;
    fills(&server).await;
    server
        .policy
        .until("it waits", |status| {
            let step = status.incidents.first()?.attempts.first()?.next_step()?;
            (step.effect == Effect::Wait && step.until.is_some()).then_some(())
        })
        .await;
    server.policy.change(&json!({"suspend": true})).await;
    let states: Vec<_> = notes(&server).await.into_iter().map(|(_, state, _)| state).collect();
    let (done, not) = (StepState::Done, StepState::Recorded);
    assert_eq!(states, [done, done, not, not, not]);
    let incident = server.policy.escalated("RunbookExhausted").await;
    assert_eq!(incident.attempts[0].outcome, Some(Outcome::Superseded));
    let message = incident.attempts[0].message.clone().unwrap_or_default();
    assert!(message.contains("stopped half-way, before CallHook: spec.suspend is true"), "{message}");
    assert_eq!(server.pod_names().await, before);
    server.was_changed_by_operator(0).await;
}

#[tokio::test]
async fn a_hook_that_no_pod_answers_has_not_helped_and_the_next_step_is_taken() {
    let story = Story::begin_with_values("hook-silent", DISKS).await;
    let runbook = json!([{"callHook": {"name": "silent"}}, {"escalate": {}}]);
    let policy = drained("1s", false, &runbook);
    let server = with_state(&story).policy(policy).healthy().await;
    for pod in server.pod_names().await {
        server.break_pod(&pod, json!({"fault": "wedge-mcp"})).await;
    }
    fills(&server).await;
    let incident = server.policy.escalated("Runbook").await;
    let attempt = &incident.attempts[0];
    assert_eq!((attempt.action, attempt.outcome), (ActionType::CallHook, Some(Outcome::NoChange)));
    let message = attempt.message.as_deref().unwrap_or_default();
    assert!(message.contains("0 of 2 pods") && message.contains("no answer within 1s"), "{message}");
    server.has_healthy_template().await;
}
