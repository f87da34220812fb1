//! After a rollback, the owner's next change goes through as if nobody had been there, by whichever tool; and
//! what the owner no longer names disappears.

use std::path::PathBuf;

use mcp_health_e2e::{ActionType, Cause, Fault, IncidentType, Server, Story, command};
use serde_json::{Value, json};

/// How a team brings its manifest to the cluster.
#[derive(Clone, Copy)]
enum Tool {
    Kubectl(&'static [&'static str]),
    Helm(&'static [&'static str]),
}

impl Tool {
    /// Applies the manifest as it says now.
    async fn apply(self, story: &Story, server: &Server) {
        let manifest = server.manifest();
        match self {
            Self::Kubectl(flags) => {
                let words = [&["apply", "--filename=-"], flags].concat();
                story.kubectl_with(&words, &manifest.to_string()).await.ok();
            }
            Self::Helm(flags) => {
                let chart = chart(&story.namespace, &manifest);
                let chart = chart.display().to_string();
                let words = ["upgrade", "--install", "team", &chart, "--namespace", &story.namespace];
                command::helm(&[&words, flags].concat()).await.ok();
            }
        }
        server.changed_by_the_test();
    }
}

/// The team's chart: the manifest, and nothing to set.
fn chart(namespace: &str, manifest: &Value) -> PathBuf {
    let folder = std::env::temp_dir().join(namespace).join("team");
    std::fs::create_dir_all(folder.join("templates")).expect("a folder for the chart");
    let write = |file: &str, content: String| std::fs::write(folder.join(file), content).expect("a file");
    write("Chart.yaml", json!({"apiVersion": "v2", "name": "team", "version": "0.1.0"}).to_string());
    write("templates/deployment.yaml", manifest.to_string());
    folder
}

/// The container of a manifest or of a live template.
fn environment(pod: &Value) -> Vec<&str> {
    let all = pod["spec"]["containers"][0]["env"].as_array().expect("an env");
    all.iter().filter_map(|one| one["name"].as_str()).collect()
}

async fn the_owner_goes_on(name: &str, tool: Tool) {
    let story = Story::begin(name).await;
    let server = story
        .server()
        .deployment(|deployment| {
            let template = &mut deployment["spec"]["template"];
            template["metadata"]["annotations"] = json!({"team/note": "first"});
            let container = &mut template["spec"]["containers"][0];
            let environment = container["env"].as_array_mut().expect("an env");
            environment.push(json!({"name": "MCP_LOG_LEVEL", "value": "DEBUG"}));
        })
        .planned();
    server.apply_service().await;
    tool.apply(&story, &server).await;
    server.apply_policy().await;
    server.policy.healthy().await;
    server.note_healthy_template().await;

    server.change_manifest(|manifest| {
        let image = manifest["spec"]["template"]["spec"]["containers"][0]["image"].clone();
        Fault::RefusesToStart("DATABASE_URL").put_into(manifest, image.as_str().expect("an image"));
    });
    tool.apply(&story, &server).await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::BadRollout).await;
    server.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
    server.was_changed_by_operator(1).await;

    // Mended; and two things are not wanted any more, one of them new with the bad revision.
    server.change_manifest(|manifest| {
        let image = manifest["spec"]["template"]["spec"]["containers"][0]["image"].clone();
        Fault::None("3s").put_into(manifest, image.as_str().expect("an image"));
        let template = &mut manifest["spec"]["template"];
        template["metadata"]["annotations"] = json!({"team/note": "third"});
        let environment = template["spec"]["containers"][0]["env"].as_array_mut().expect("an env");
        environment.retain(|one| one["name"] != "MCP_LOG_LEVEL");
    });
    tool.apply(&story, &server).await;
    let live = server.live_template().await;
    assert_eq!(environment(&live), environment(&server.manifest()["spec"]["template"]), "{live:#}");
    assert_eq!(live["metadata"]["annotations"]["team/note"], "third", "{live:#}");
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
