//! Why containers crash or cannot start, as a real node shows it; and what is done about each cause.

use mcp_health_e2e::{
    ActionType, Cause, Fault, IncidentType, Server, Severity, Story, environment, host, python::Python,
    server::Planned,
};
use serde_json::{Value, json};

/// What cannot start is not waited for as long as it is by default.
fn impatient() -> Value {
    json!({"overrides": [{"incident": "CrashLoop", "for": "5s"}]})
}

/// The pod template's spec in a manifest.
fn pod(manifest: &mut Value) -> &mut Value {
    &mut manifest["spec"]["template"]["spec"]
}

/// One more variable of the server's.
fn set(manifest: &mut Value, variable: Value) {
    let environment = pod(manifest)["containers"][0]["env"].as_array_mut();
    environment.expect("the manifest has an env").push(variable);
}

/// Another demo server in the same pod.
fn another(name: &str, port: u16, settings: &Value) -> Value {
    json!({
        "name": name,
        "image": environment::demo_image(),
        "env": [{"name": "MCP_PORT", "value": port.to_string()}, {"name": "MCP_ADMIN", "value": "true"}],
        "envFrom": settings,
    })
}

/// A revision with this change is rolled out to a healthy server: it is told why it crashes, with these words, and
/// is rolled back.
async fn is_rolled_back(name: &str, change: impl FnOnce(&mut Value), cause: Cause, says: &[&str]) {
    let story = Story::begin(name).await;
    let server = story.server().policy(impatient()).healthy().await;
    roll_out(&server, change).await;
    let incident = server.incident(IncidentType::CrashLoop, cause).await;
    let evidence = incident.evidence.join("\n");
    for words in says {
        assert!(evidence.contains(words), "no {words:?} in\n{evidence}");
    }
    server.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
    server.was_changed_by_operator(1).await;
    server.serves_mcp().await;
}

async fn roll_out(server: &Server, change: impl FnOnce(&mut Value)) {
    server.change_manifest(change);
    server.apply().await;
}

/// A server that takes settings from a `ConfigMap`.
async fn with_settings(story: &Story) -> Planned {
    story.kubectl(&["create", "configmap", "settings", "--from-literal=MCP_LOG_LEVEL=INFO"]).await;
    story.server().deployment(|manifest| {
        pod(manifest)["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
    })
}

/// A person is told, and nothing is touched.
async fn is_a_persons(server: &Server) {
    server.policy.escalated("NoAutomaticAction").await;
    server.policy.considered_again().await;
    server.is_untouched().await;
}

#[tokio::test]
async fn a_key_that_its_config_map_does_not_have_is_named_and_rolled_back() {
    let key = json!({"name": "A", "valueFrom": {"configMapKeyRef": {"name": "kube-root-ca.crt", "key": "no-such-key"}}});
    let says = ["CreateContainerConfigError", "no-such-key", "container server"];
    is_rolled_back("no-key", |manifest| set(manifest, key), Cause::ConfigError, &says).await;
}

#[tokio::test]
async fn a_config_map_that_cannot_be_mounted_is_named_and_rolled_back() {
    let mount = |manifest: &mut Value| {
        pod(manifest)["volumes"] = json!([{"name": "config", "configMap": {"name": "no-such-config"}}]);
        pod(manifest)["containers"][0]["volumeMounts"] = json!([{"name": "config", "mountPath": "/etc/mcp"}]);
    };
    let says = ["FailedMount", "configmap \"no-such-config\" not found"];
    is_rolled_back("no-volume", mount, Cause::ConfigError, &says).await;
}

#[tokio::test]
async fn a_secret_that_is_gone_is_named_and_nothing_is_done_about_it() {
    let story = Story::begin("no-secret").await;
    story.kubectl(&["create", "secret", "generic", "access", "--from-literal=A=b"]).await;
    let server = story.server().policy(impatient()).deployment(|manifest| {
        pod(manifest)["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "access"}}]);
    });
    let server = server.healthy().await;
    story.kubectl(&["delete", "secret", "access"]).await;
    story.kubectl(&["delete", "pod", "--selector=app=mcp-server"]).await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    assert_eq!(incident.severity, Severity::SEV1, "no pod is ready");
    server.policy.evidence(&incident, "secret \"access\" not found").await;
    is_a_persons(&server).await;

    // A person brings it back.
    story.kubectl(&["create", "secret", "generic", "access", "--from-literal=A=b"]).await;
    server.policy.resolved(&incident).await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn a_port_that_a_container_beside_it_holds_is_named_and_rolled_back() {
    let sidecar = |manifest: &mut Value| {
        let mut proxy = another("proxy", 8000, &json!([]));
        proxy["restartPolicy"] = json!("Always");
        proxy["ports"] = json!([{"containerPort": 8000}]);
        proxy["startupProbe"] = json!({"tcpSocket": {"port": 8000}, "periodSeconds": 1});
        pod(manifest)["initContainers"] = json!([proxy]);
    };
    let says =
        ["Address already in use", "container proxy declares port 8000 too", "container server: exit code 1"];
    is_rolled_back("port", sidecar, Cause::PortConflict, &says).await;
}

#[tokio::test]
async fn a_file_that_may_not_be_read_is_named_and_rolled_back() {
    let locked = |manifest: &mut Value| {
        let pod = pod(manifest);
        pod["securityContext"] = json!({"runAsUser": 65534, "runAsGroup": 65534});
        pod["volumes"] =
            json!([{"name": "config", "configMap": {"name": "kube-root-ca.crt", "defaultMode": 256}}]);
        pod["containers"][0]["volumeMounts"] = json!([{"name": "config", "mountPath": "/etc/mcp"}]);
        set(manifest, json!({"name": "MCP_CONFIG", "value": "/etc/mcp/ca.crt"}));
    };
    let says = ["cannot read /etc/mcp/ca.crt: Permission denied"];
    is_rolled_back("permission", locked, Cause::PermissionDenied, &says).await;
}

#[tokio::test]
async fn a_start_that_its_probe_does_not_wait_for_is_told_apart_and_rolled_back() {
    let slow = |manifest: &mut Value| {
        pod(manifest)["containers"][0]["startupProbe"] =
            json!({"tcpSocket": {"port": "http"}, "periodSeconds": 1, "failureThreshold": 3});
        set(manifest, json!({"name": "FAULT_SLOW_START", "value": "60s"}));
    };
    let says = ["killed by its startupProbe before it was up", "connection refused"];
    is_rolled_back("slow-start", slow, Cause::StartupTimeout, &says).await;
}

#[tokio::test]
async fn an_init_container_that_crashes_is_named_and_rolled_back() {
    let init = |manifest: &mut Value| {
        let mut prepare = another("prepare", 9000, &json!([]));
        prepare["env"] = json!([{"name": "MCP_REQUIRE", "value": "SCHEMA_VERSION"}]);
        pod(manifest)["initContainers"] = json!([prepare]);
    };
    let says = ["init container prepare: exit code 1", "required setting SCHEMA_VERSION is not set"];
    is_rolled_back("init", init, Cause::ConfigError, &says).await;
}

#[tokio::test]
async fn a_kill_that_is_not_the_memory_limits_is_not_taken_for_it() {
    let killed = |manifest: &mut Value| set(manifest, json!({"name": "FAULT_CRASH_EXIT", "value": "137"}));
    is_rolled_back("exit-137", killed, Cause::BadRollout, &["exit code 137 (Error)"]).await;
}

#[tokio::test]
async fn a_python_server_without_its_module_is_told_by_its_traceback_and_rolled_back() {
    if !host::is_this_machine("a_python_server_without_its_module_is_told_by_its_traceback_and_rolled_back") {
        return;
    }
    let python = Python::ready().await;
    let bad = python.pod("import os\nimport weather_data\n");
    let change = |manifest: &mut Value| {
        for part in ["containers", "volumes"] {
            pod(manifest)[part] = bad[part].clone();
        }
    };
    let says = ["ModuleNotFoundError: No module named 'weather_data'"];
    is_rolled_back("python-module", change, Cause::MissingDependency, &says).await;
}

#[tokio::test]
async fn a_container_that_crashes_beside_the_server_restarts_nothing() {
    let story = Story::begin("beside").await;
    story.kubectl(&["create", "configmap", "beside", "--from-literal=MCP_LOG_LEVEL=INFO"]).await;
    let server = story.server().deployment(|manifest| {
        let beside = another("beside", 9000, &json!([{"configMapRef": {"name": "beside"}}]));
        pod(manifest)["containers"].as_array_mut().expect("containers").push(beside);
    });
    let server = server.healthy().await;
    let pods = server.pod_names().await;
    let patch = r#"{"data": {"FAULT_CRASH_EXIT": "1"}}"#;
    story.kubectl(&["patch", "configmap", "beside", "--type=merge", "--patch", patch]).await;
    for name in &pods {
        server.break_container(name, 9000, json!({"fault": "crash"})).await;
    }
    let incident = server.incident(IncidentType::CrashLoop, Cause::ProcessExit).await;
    server.policy.evidence(&incident, "container server, the server itself, runs").await;
    server.policy.evidence(&incident, "container beside: exit code 1").await;
    is_a_persons(&server).await;
    assert_eq!(server.pod_names().await, pods);
}

#[tokio::test]
async fn a_database_that_refuses_every_pod_is_held_and_nothing_is_restarted_or_rolled_back() {
    let story = Story::begin("database").await;
    let server = with_settings(&story).await.replicas(2).healthy().await;
    // A healthy template before the one in force: there would be something to go back to.
    server.roll_out(Fault::None("2s")).await;
    server.rolled_out().await;
    server.policy.healthy().await;
    let pods = server.pod_names().await;
    let patch = r#"{"data": {"DATABASE_URL": "postgres://mcp:s3cret@127.0.0.1:5432/mcp"}}"#;
    story.kubectl(&["patch", "configmap", "settings", "--type=merge", "--patch", patch]).await;
    for name in &pods {
        server.break_pod(name, json!({"fault": "crash"})).await;
    }
    let incident = server.incident(IncidentType::CrashLoop, Cause::DatabaseConnection).await;
    server.policy.evidence(&incident, "database connection to 127.0.0.1:5432 failed").await;
    let held = server.policy.held("DatabaseUnavailable").await;
    let next = held.next.unwrap_or_default();
    assert!(next.starts_with("would restart all pods, rolling"), "{next}");
    server.policy.considered_again().await;
    server.is_untouched().await;
    assert_eq!(server.pod_names().await, pods);
    let status = format!("{:?}", server.policy.status().await);
    assert!(!status.contains("s3cret"), "{status}");

    // The database lets the server in again: here, nobody asks it any more.
    let patch = r#"[{"op": "remove", "path": "/data/DATABASE_URL"}]"#;
    story.kubectl(&["patch", "configmap", "settings", "--type=json", "--patch", patch]).await;
    server.policy.resolved(&incident).await;
    server.is_untouched().await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn a_revision_that_asks_for_another_database_is_rolled_back_while_the_old_pods_are_well() {
    let url = json!({"name": "DATABASE_URL", "value": "postgres://mcp:s3cret@127.0.0.1:5432/mcp"});
    let says = ["database connection to 127.0.0.1:5432 failed", "are well at this moment"];
    is_rolled_back("database-url", |manifest| set(manifest, url), Cause::DatabaseConnection, &says).await;
}
