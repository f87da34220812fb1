//! A ConfigMap that somebody breaks: what healthy pods read comes back, the bad content is kept, and the owner's
//! mended one goes through. What is not the server's alone is left alone.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use mcp_health_e2e::{
    ActionType, Cause, ConditionType, Incident, IncidentState, IncidentType, Outcome, Server, Story,
    server::Planned, until,
};
use serde_json::{Value, json};

const GOOD: &str = "MCP_LOG_LEVEL: INFO";
const BAD: &str = "MCP_REQUIRE: DATABASE_URL";

/// The chart lets the operator see and change ConfigMaps.
async fn story(name: &str) -> Story {
    Story::begin_with_values(name, &["actions.rollbackConfig=true"]).await
}

/// The team's manifest of a ConfigMap.
fn settings(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data})
}

/// The team applies its ConfigMap.
async fn apply(story: &Story, flags: &[&str], data: &Value) {
    let words = [&["apply", "--filename=-"], flags].concat();
    story.kubectl_with(&words, &settings(data).to_string()).await.ok();
}

/// Somebody changes it by hand.
async fn spoil(story: &Story, data: &Value) {
    let patch = json!({ "data": data }).to_string();
    story.kubectl(&["patch", "configmap", "settings", "--type=merge", "--patch", &patch]).await;
}

/// Restarts the server, as a person does to have its settings read.
async fn restart(story: &Story, server: &Server) {
    story.kubectl(&["rollout", "restart", "deployment/mcp-server"]).await;
    server.changed_by_the_test();
}

/// A server that reads the ConfigMap as a file; its policy lets the operator bring the content back.
fn reading_a_file(story: &Story) -> Planned {
    allowed(story.server()).deployment(|deployment| {
        let pod = &mut deployment["spec"]["template"]["spec"];
        pod["volumes"] = json!([{"name": "settings", "configMap": {"name": "settings"}}]);
        let server = &mut pod["containers"][0];
        server["volumeMounts"] = json!([{"name": "settings", "mountPath": "/etc/mcp"}]);
        let environment = server["env"].as_array_mut().expect("the manifest has an env");
        environment.push(json!({"name": "MCP_CONFIG", "value": "/etc/mcp/config.yaml"}));
    })
}

/// A server that reads it as its environment.
fn reading_its_environment(story: &Story) -> Planned {
    allowed(story.server()).deployment(|deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
            json!([{"configMapRef": {"name": "settings"}}]);
    })
}

fn allowed(server: Planned) -> Planned {
    server.policy(json!({
        "actions": {"allow": ["Rollback", "RolloutRestart", "RollbackConfig"]},
    }))
}

/// A ConfigMap as it is.
async fn config_map(story: &Story, name: &str) -> ConfigMap {
    let api: Api<ConfigMap> = Api::namespaced(story.client.clone(), &story.namespace);
    api.get(name).await.unwrap_or_else(|error| panic!("ConfigMap {name}: {error}"))
}

/// What the ConfigMap holds.
async fn content(story: &Story) -> Value {
    json!(config_map(story, "settings").await.data)
}

/// Awaits that what the pods read is kept: an immutable copy that ends with the policy.
async fn kept(story: &Story, server: &Server, data: &Value) {
    let copy = until("what the pods read is kept", async || {
        let status = server.policy.status().await;
        let healthy = status.target.and_then(|target| target.last_healthy).ok_or("nothing is healthy yet")?;
        let config = healthy.config.first().ok_or("no ConfigMap is healthy yet")?;
        let holds = json!(config_map(story, &config.copy).await.data);
        if holds == *data { Ok(config.copy.clone()) } else { Err(holds.to_string()) }
    })
    .await;
    holds(story, server, &copy, data).await;
}

async fn holds(story: &Story, server: &Server, copy: &str, data: &Value) {
    let copy = config_map(story, copy).await;
    assert_eq!((json!(copy.data), copy.immutable), (data.clone(), Some(true)));
    let owner = &copy.metadata.owner_references.expect("an owner")[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("McpServerHealth", server.name.as_str()));
}

/// Awaits that the server is well again by what it read before, with the bad content kept.
async fn mitigated(story: &Story, server: &Server, good: &Value, bad: &Value) -> Incident {
    let incident = server
        .policy
        .until("mitigated", |status| {
            status.incidents.first().filter(|one| one.state == IncidentState::Mitigated).cloned()
        })
        .await;
    assert_eq!((incident.incident_type, incident.cause), (IncidentType::CrashLoop, Cause::ConfigError));
    let done: Vec<_> =
        incident.attempts.iter().filter(|one| one.outcome != Some(Outcome::Superseded)).collect();
    assert_eq!(done.len(), 1, "{incident:#?}");
    assert_eq!((done[0].action, done[0].outcome), (ActionType::RollbackConfig, Some(Outcome::Improved)));
    assert_eq!(content(story).await, *good);
    let message = &incident.follow_ups[0].message;
    let (_, rest) = message.split_once("kept in ConfigMap ").expect("where the bad content is kept");
    let (copy, _) = rest.split_once(':').expect("what is to be done");
    holds(story, server, copy, bad).await;
    server.policy.until_condition(ConditionType::Ready, "True", &"Mitigated").await;
    server.was_changed_by_operator(1).await;
    server.serves_mcp().await;
    incident
}

/// Nobody has touched it: it holds this, and does not bear our name.
async fn is_untouched(story: &Story, server: &Server, data: &Value) {
    server.policy.considered_again().await;
    assert_eq!(content(story).await, *data);
    let metadata = config_map(story, "settings").await.metadata;
    let managers: Vec<_> =
        metadata.managed_fields.iter().flatten().filter_map(|one| one.manager.as_deref()).collect();
    assert!(!managers.contains(&"mcp-health-operator"), "{managers:?}");
    server.was_changed_by_operator(0).await;
}

/// The owner breaks what the pods read as a file, and restarts them; it applies as `flags` say.
async fn the_owner_goes_on(name: &str, flags: &[&str]) {
    let story = story(name).await;
    let (good, bad) = (json!({"config.yaml": GOOD}), json!({"config.yaml": BAD}));
    apply(&story, flags, &good).await;
    let server = reading_a_file(&story).replicas(2).healthy().await;
    kept(&story, &server, &good).await;

    apply(&story, flags, &bad).await;
    restart(&story, &server).await;
    let incident = mitigated(&story, &server, &good, &bad).await;

    // Mended at its source: another value for what was brought back, and more besides.
    let better = json!({"config.yaml": "MCP_LOG_LEVEL: WARNING", "more.yaml": "A: 1"});
    apply(&story, flags, &better).await;
    assert_eq!(content(&story).await, better);
    let past = server.policy.resolved(&incident).await;
    assert!(past.done().contains("RollbackConfig: Improved"), "{past:?}");
    restart(&story, &server).await;
    server.rolled_out().await;
    kept(&story, &server, &better).await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn a_broken_config_file_is_rolled_back_and_the_owners_server_side_apply_goes_through() {
    the_owner_goes_on("config-server", &["--server-side", "--field-manager=team"]).await;
}

#[tokio::test]
async fn a_broken_config_file_is_rolled_back_and_the_owners_client_side_apply_goes_through() {
    the_owner_goes_on("config-client", &[]).await;
}

#[tokio::test]
async fn a_broken_environment_is_rolled_back_where_nothing_serves_any_more() {
    let story = story("config-env").await;
    let good = json!({"MCP_LOG_LEVEL": "INFO"});
    apply(&story, &["--server-side"], &good).await;
    let server = reading_its_environment(&story).healthy().await;
    kept(&story, &server, &good).await;

    spoil(&story, &json!({"MCP_REQUIRE": "DATABASE_URL"})).await;
    for pod in server.pod_names().await {
        server.break_pod(&pod, json!({"fault": "crash"})).await;
    }
    let bad = json!({"MCP_LOG_LEVEL": "INFO", "MCP_REQUIRE": "DATABASE_URL"});
    mitigated(&story, &server, &good, &bad).await;
}

#[tokio::test]
async fn a_config_map_that_another_server_reads_is_a_persons() {
    let story = story("config-shared").await;
    let good = json!({"config.yaml": GOOD});
    apply(&story, &["--server-side"], &good).await;
    let server = reading_a_file(&story).healthy().await;
    reading_a_file(&story).named("other").without_policy().applied().await;
    kept(&story, &server, &good).await;
    let bad = json!({"config.yaml": BAD});
    spoil(&story, &bad).await;
    restart(&story, &server).await;
    let incident = server.policy.escalated("ConfigShared").await;
    let message = incident.escalation.map(|why| why.message).unwrap_or_default();
    assert!(message.contains("Deployment other"), "{message}");
    is_untouched(&story, &server, &bad).await;
}

#[tokio::test]
async fn a_config_map_of_gitops_is_held() {
    let story = story("config-gitops").await;
    let good = json!({"config.yaml": GOOD});
    let mut manifest = settings(&good);
    manifest["metadata"]["labels"] = json!({"argocd.argoproj.io/instance": "mcp"});
    story.kubectl_with(&["apply", "--server-side", "--filename=-"], &manifest.to_string()).await.ok();
    let server = reading_a_file(&story).healthy().await;
    kept(&story, &server, &good).await;
    let bad = json!({"config.yaml": BAD});
    spoil(&story, &bad).await;
    restart(&story, &server).await;
    let incident = server.policy.held("GitOpsManaged").await;
    let message = incident.hold.map(|hold| hold.message).unwrap_or_default();
    assert!(message.contains("ConfigMap settings") && message.contains("Argo CD"), "{message}");
    is_untouched(&story, &server, &bad).await;
    story.kubectl(&["label", "configmap", "settings", "argocd.argoproj.io/instance-"]).await;
    mitigated(&story, &server, &good, &bad).await;
}

#[tokio::test]
async fn without_the_policys_word_a_config_map_is_a_persons() {
    let story = story("config-not-allowed").await;
    let good = json!({"config.yaml": GOOD});
    apply(&story, &["--server-side"], &good).await;
    let server = reading_a_file(&story)
        .policy(json!({"actions": {"allow": ["Rollback", "RolloutRestart"]}}))
        .healthy()
        .await;
    let bad = json!({"config.yaml": BAD});
    spoil(&story, &bad).await;
    restart(&story, &server).await;
    server.policy.escalated("ActionNotAllowed").await;
    is_untouched(&story, &server, &bad).await;
    let copies = story
        .kubectl(&["get", "configmaps", "--selector=mcphealth.dev/kind=config-copy", "--output=name"])
        .await;
    assert_eq!(copies.trim(), "", "nothing is kept");
}
