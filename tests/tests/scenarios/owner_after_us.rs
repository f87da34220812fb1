//! After a rollback, the owner's next change goes through as if nobody had been there, by whichever tool; and
//! what the owner no longer names disappears.

use std::collections::BTreeMap;

use mcp_health_e2e::{ActionType, Cause, Fault, IncidentType, Server, Story, command};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How a team brings its manifest to the cluster.
#[derive(Clone, Copy)]
enum Tool {
    Kubectl(&'static [&'static str]),
    Helm(&'static [&'static str]),
}

impl Tool {
    /// Server-side apply knows what its owner owns, and what was handed back to it. A comparison with the manifest that
    /// was applied before knows only that manifest: what it had dropped already, it does not drop again. (It is the same
    /// after `kubectl rollout undo`.)
    fn knows_what_the_rollback_brought_back(self) -> bool {
        let (Self::Kubectl(flags) | Self::Helm(flags)) = self;
        flags.iter().any(|flag| ["--server-side", "--server-side=true"].contains(flag))
    }

    /// Applies the manifest as it says now.
    async fn apply(self, story: &Story, server: &Server) {
        let manifest = server.manifest();
        match self {
            Self::Kubectl(flags) => {
                let words = [&["apply", "--filename=-"], flags].concat();
                story.kubectl_with(&words, &manifest.to_string()).await.ok();
            }
            Self::Helm(flags) => {
                let folder = chart(&manifest);
                let chart = folder.path().display().to_string();
                let words = ["upgrade", "--install", "team", &chart, "--namespace", &story.namespace];
                command::helm(&[&words, flags].concat()).await.ok();
            }
        }
        server.changed_by_the_test();
    }
}

/// The team's chart: the manifest, and nothing to set.
fn chart(manifest: &Value) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder for the chart");
    let write =
        |file: &str, content: String| std::fs::write(folder.path().join(file), content).expect("a file");
    std::fs::create_dir(folder.path().join("templates")).expect("a folder for the templates");
    write("Chart.yaml", json!({"apiVersion": "v2", "name": "team", "version": "0.1.0"}).to_string());
    write("templates/deployment.yaml", manifest.to_string());
    folder
}

/// What the team sets in one revision: its own notes and settings, and what is wrong.
fn revise(manifest: &mut Value, fault: Fault, notes: &Value, settings: &[(&str, &str)]) {
    fault.put_into(manifest, &mcp_health_e2e::environment::demo_image());
    let template = &mut manifest["spec"]["template"];
    template["metadata"]["annotations"] = notes.clone();
    let environment = template["spec"]["containers"][0]["env"].as_array_mut().expect("an env");
    environment.retain(|one| !one["name"].as_str().unwrap_or_default().starts_with("MCP_LOG_"));
    environment.extend(settings.iter().map(|(name, value)| json!({"name": name, "value": value})));
}

/// The settings of a pod template's container, in no order.
fn settings(template: &Value) -> BTreeMap<&str, &str> {
    let all = template["spec"]["containers"][0]["env"].as_array().expect("an env");
    all.iter().filter_map(|one| Some((one["name"].as_str()?, one["value"].as_str()?))).collect()
}

async fn the_owner_goes_on(name: &str, tool: Tool) {
    let story = Story::begin(name).await;
    let server = story.server().planned();
    server.change_manifest(|manifest| {
        let notes = json!({"team/note": "first", "team/kept": "yes", "team/dropped": "yes"});
        let settings = [("MCP_LOG_LEVEL", "DEBUG"), ("MCP_LOG_FORMAT", "json")];
        revise(manifest, Fault::None("2s"), &notes, &settings);
    });
    server.apply_service().await;
    tool.apply(&story, &server).await;
    server.apply_policy().await;
    server.policy.healthy().await;
    server.note_healthy_template().await;

    // Some things have other values, one is gone: the rollback sets the values, and brings it back.
    server.change_manifest(|manifest| {
        let notes = json!({"team/note": "second", "team/kept": "yes"});
        let settings = [("MCP_LOG_LEVEL", "WARNING"), ("MCP_LOG_FORMAT", "json")];
        revise(manifest, Fault::RefusesToStart("DATABASE_URL"), &notes, &settings);
    });
    tool.apply(&story, &server).await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    server.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
    server.was_changed_by_operator(1).await;

    // Mended: values of its own for what the rollback has set, and without what was there all the time.
    server.change_manifest(|manifest| {
        revise(manifest, Fault::None("3s"), &json!({"team/note": "third"}), &[("MCP_LOG_LEVEL", "INFO")]);
    });
    tool.apply(&story, &server).await;
    let mut live = server.live_template().await;
    if !tool.knows_what_the_rollback_brought_back() {
        let notes = live["metadata"]["annotations"].as_object_mut().expect("annotations");
        assert!(notes.remove("team/dropped").is_some(), "it compares with the bad revision's manifest");
    }
    let wanted = &server.manifest()["spec"]["template"];
    assert_eq!(settings(&live), settings(wanted), "{live:#}");
    assert_eq!(live["metadata"]["annotations"], wanted["metadata"]["annotations"], "{live:#}");
    server.rolled_out().await;
    server.policy.healthy().await;
    server.was_changed_by_operator(1).await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn after_a_rollback_kubectl_apply_goes_through() {
    the_owner_goes_on("client-side", Tool::Kubectl(&[])).await;
}

#[tokio::test]
async fn after_a_rollback_kubectl_apply_server_side_goes_through_without_force() {
    the_owner_goes_on("server-side", Tool::Kubectl(&["--server-side"])).await;
}

#[tokio::test]
async fn after_a_rollback_kubectl_apply_server_side_with_force_goes_through() {
    the_owner_goes_on("forced", Tool::Kubectl(&["--server-side", "--force-conflicts"])).await;
}

#[tokio::test]
async fn after_a_rollback_helm_upgrade_goes_through() {
    the_owner_goes_on("helm", Tool::Helm(&["--server-side=true"])).await;
}

#[tokio::test]
async fn after_a_rollback_helm_upgrade_of_a_client_side_release_goes_through() {
    the_owner_goes_on("helm-client", Tool::Helm(&["--server-side=false"])).await;
}
