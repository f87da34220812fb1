//! Containers that are really killed at their memory limit, starts that take too long, and a variable that is set for
//! a time: what the operator edits in the pod template, what remains to be done after it, and how that ends.

use mcp_health_e2e::{
    ActionType, Cause, Incident, IncidentState, IncidentType, Server, Story, server::Planned,
};
use serde_json::{Value, json};

/// A server that takes 60 MiB beside its own soon after each start, and may have 48.
fn hungry(story: &Story, most: &str) -> Planned {
    story
        .server()
        .deployment(|deployment| {
            let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
            container["resources"] = json!({"requests": {"memory": "16Mi"}, "limits": {"memory": "48Mi"}});
            leak(deployment);
        })
        .policy(json!({"actions": {
            "allow": ["Rollback", "RolloutRestart", "RaiseResources"],
            "raiseResources": {"maxMemory": most},
        }}))
}

fn leak(deployment: &mut Value) {
    let environment = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut();
    environment.expect("an env").extend([
        json!({"name": "FAULT_LEAK_MEMORY", "value": "30"}),
        json!({"name": "FAULT_LEAK_MEMORY_CAP", "value": "60"}),
        json!({"name": "FAULT_LEAK_MEMORY_AFTER", "value": "4s"}),
    ]);
}

async fn memory_limit(server: &Server) -> String {
    let template = server.live_template().await;
    let limit = &template["spec"]["containers"][0]["resources"]["limits"]["memory"];
    limit.as_str().expect("a memory limit").to_owned()
}

/// Awaits a crash loop, and gives its id.
async fn crash_loop(server: &Server) -> String {
    server
        .policy
        .until("a crash loop", |status| {
            let found = status.incidents.iter().find(|one| one.incident_type == IncidentType::CrashLoop);
            found.map(|one| one.id.clone())
        })
        .await
}

/// Awaits that this incident is mitigated.
async fn mitigated(server: &Server, id: &str) -> Incident {
    server
        .policy
        .until(&format!("{id} is mitigated"), |status| {
            let known = status.incidents.iter().find(|one| one.id == id)?;
            (known.state == IncidentState::Mitigated).then(|| known.clone())
        })
        .await
}

async fn raised_until_the_owner_goes_on(name: &str, flags: &[&str]) {
    let story = Story::begin(name).await;
    let server = hungry(&story, "128Mi").planned();
    let apply = async || {
        let words = [&["apply", "--filename=-"], flags].concat();
        story.kubectl_with(&words, &server.manifest().to_string()).await.ok();
        server.changed_by_the_test();
    };
    server.apply_service().await;
    apply().await;
    server.apply_policy().await;

    let incident = server.incident(IncidentType::OutOfMemory, Cause::LimitTooSmall).await;
    let incident = mitigated(&server, &incident.id).await;
    assert_eq!(memory_limit(&server).await, "96Mi");
    let todo = &incident.follow_ups[0].message;
    assert!(todo.contains("is 96Mi instead of 48Mi"), "{todo}");
    server.was_changed_by_operator(1).await;
    server.serves_mcp().await;

    // The owner found out what it takes: the manifest goes through, and that is what is in force.
    server.change_manifest(|manifest| {
        manifest["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] =
            json!("112Mi");
    });
    apply().await;
    assert_eq!(memory_limit(&server).await, "112Mi");
    let past = server.policy.resolved(&incident).await;
    assert!(past.resolution.contains("its owner has changed the server since"), "{past:#?}");
    server.was_changed_by_operator(1).await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn a_limit_that_is_too_small_is_raised_until_kubectl_apply_brings_the_owners() {
    raised_until_the_owner_goes_on("raised", &[]).await;
}

#[tokio::test]
async fn a_limit_that_is_too_small_is_raised_until_kubectl_apply_server_side_brings_the_owners() {
    raised_until_the_owner_goes_on("raised-ssa", &["--server-side"]).await;
}

#[tokio::test]
async fn at_the_cap_a_person_is_called_and_nothing_is_raised() {
    let story = Story::begin("at-the-cap").await;
    let server = hungry(&story, "48Mi").applied().await;
    let incident = server.policy.escalated("MemoryCapReached").await;
    assert_eq!(incident.incident_type, IncidentType::OutOfMemory);
    server.policy.considered_again().await;
    server.is_untouched().await;
}

#[tokio::test]
async fn what_a_quota_does_not_leave_is_not_raised_and_named() {
    let story = Story::begin("quota").await;
    // The operator's own 128Mi, the server's 48Mi, and less than the rollout takes.
    story.kubectl(&["create", "quota", "memory", "--hard=limits.memory=250Mi"]).await;
    let server = hungry(&story, "128Mi").applied().await;
    let incident = server.policy.escalated("QuotaTooSmall").await;
    let message = incident.escalation.expect("escalated").message;
    assert!(message.contains("ResourceQuota/memory: limits.memory takes 144Mi more"), "{message}");
    server.policy.considered_again().await;
    server.is_untouched().await;
}

#[tokio::test]
async fn a_rollout_that_runs_out_of_memory_is_rolled_back_and_not_raised() {
    let story = Story::begin("oom-rollout").await;
    let server = story
        .server()
        .deployment(|deployment| {
            let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
            container["resources"] = json!({"limits": {"memory": "48Mi"}});
        })
        .policy(json!({"actions": {
            "allow": ["Rollback", "RaiseResources"],
            "raiseResources": {"maxMemory": "128Mi"},
        }}))
        .healthy()
        .await;
    server.change_manifest(leak);
    server.apply().await;
    let incident = server.incident(IncidentType::OutOfMemory, Cause::LimitTooSmall).await;
    server.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
    server.was_changed_by_operator(1).await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn a_start_that_its_probe_ends_is_given_more_time() {
    let story = Story::begin("slow-start").await;
    let server = story
        .server()
        .deployment(|deployment| {
            let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
            let probe = json!({"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1, "failureThreshold": 8});
            container["startupProbe"] = probe;
            let environment = container["env"].as_array_mut().expect("an env");
            environment.push(json!({"name": "FAULT_SLOW_START", "value": "12s"}));
        })
        .policy(json!({
            "actions": {"allow": ["RelaxStartupProbe"]},
            "overrides": [{"incident": "CrashLoop", "runbook": [{"relaxStartupProbe": {}}]}],
        }))
        .applied()
        .await;
    let id = crash_loop(&server).await;
    let incident = mitigated(&server, &id).await;
    let todo = &incident.follow_ups[0].message;
    assert!(todo.contains("startupProbe.failureThreshold of container server is 16 instead of 8"), "{todo}");
    let template = server.live_template().await;
    assert_eq!(template["spec"]["containers"][0]["startupProbe"]["failureThreshold"], 16);
    server.was_changed_by_operator(1).await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn a_variable_that_is_set_for_a_time_is_taken_back_by_itself() {
    let story = Story::begin("set-env").await;
    story.kubectl(&["create", "configmap", "settings", "--from-literal=MCP_LOG_LEVEL=INFO"]).await;
    let server = story
        .server()
        .deployment(|deployment| {
            deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
                json!([{"configMapRef": {"name": "settings"}}]);
        })
        .policy(json!({
            "actions": {"allow": ["SetEnv"], "setEnv": {"allow": ["WARM_UP"]}},
            "overrides": [{"incident": "CrashLoop", "runbook": [
                {"setEnv": {"name": "WARM_UP", "value": "yes", "for": "40s"}},
            ]}],
        }))
        .healthy()
        .await;
    let require = |value: &str| format!(r#"{{"data": {{"MCP_REQUIRE": "{value}"}}}}"#);
    let patch = async |value: &str| {
        story.kubectl(&["patch", "configmap", "settings", "--type=merge", "--patch", &require(value)]).await
    };
    patch("WARM_UP").await;
    for pod in server.pod_names().await {
        server.break_pod(&pod, json!({"fault": "crash"})).await;
    }
    let id = crash_loop(&server).await;
    let incident = mitigated(&server, &id).await;
    assert!(incident.follow_ups[0].take_back_at.is_some(), "{incident:#?}");
    server.serves_mcp().await;
    // What was missing is not asked for any more: it can be done without.
    patch("").await;
    let past = server.policy.resolved(&incident).await;
    assert_eq!(past.resolution, "SetEnv was only for a time, and all stays well without it");
    server.has_healthy_template().await;
    server.was_changed_by_operator(2).await;
    server.serves_mcp().await;
}
