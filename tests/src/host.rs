//! Pods that use what is on the node itself, with the tiny image that a cluster of `cargo xtask cluster` has.

use std::{io::Write, path::Path};

use serde_json::{Value, json};

use crate::{Story, environment};

/// The image of a cluster of ours that has nothing in it: folders of the node are mounted into it.
pub const IMAGE: &str = "mcp-health.local/tiny:1";

/// Whether pods can use this machine's programs; else says so, by name.
pub fn is_this_machine(scenario: &str) -> bool {
    let foreign = environment::foreign_context();
    if let Some(context) = &foreign {
        let told = format!(
            "NOT TESTED on the context {context}: {scenario}. Its pods run programs of this machine, which only the \
             node of `cargo xtask cluster` has.\n"
        );
        // Not by a macro: what those print is kept back of a test that passes.
        std::io::stderr().write_all(told.as_bytes()).expect("standard error can be written");
    }
    foreign.is_none()
}

/// Volumes and mounts that show folders of this machine at their own places, read-only.
pub fn folders(paths: &[&Path]) -> (Value, Value) {
    let named =
        || paths.iter().enumerate().map(|(at, path)| (format!("host-{at}"), path.display().to_string()));
    let volumes = named().map(|(name, path)| json!({"name": name, "hostPath": {"path": path}})).collect();
    let mounts =
        named().map(|(name, path)| json!({"name": name, "mountPath": path, "readOnly": true})).collect();
    (volumes, mounts)
}

/// The folders that programs of this machine need.
pub fn system() -> Vec<&'static Path> {
    ["/usr", "/lib", "/lib64"].into_iter().map(Path::new).filter(|path| path.exists()).collect()
}

/// A pod that sees the node's processes and can end them.
pub struct Killer<'a> {
    story: &'a Story,
}

impl<'a> Killer<'a> {
    /// Gets it ready.
    pub async fn ready(story: &'a Story) -> Self {
        environment::needs_a_node("a pod that ends another one's processes");
        let (volumes, mounts) = folders(&system());
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "killer"},
            "spec": {
                "hostPID": true,
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "killer", "image": IMAGE, "volumeMounts": mounts,
                    "securityContext": {"privileged": true},
                }],
                "volumes": volumes,
            },
        });
        story.kubectl_with(&["create", "--filename=-"], &pod.to_string()).await.ok();
        story.kubectl(&["wait", "--for=condition=Ready", "pod/killer", "--timeout=60s"]).await;
        Self { story }
    }

    /// Kills every process of a container, without a word of warning.
    pub async fn kill(&self, container: &str) {
        self.signal(container, "KILL").await;
    }

    /// Sends every process of a container a signal.
    pub async fn signal(&self, container: &str, signal: &str) {
        let script = "n=0; for p in /proc/[0-9]*; do \
             if grep -q \"$1\" $p/cgroup 2>/dev/null; then kill -s $2 ${p#/proc/} && n=$((n+1)); fi; done; echo $n";
        let words = ["exec", "killer", "--", "/usr/bin/sh", "-c", script, "sh", container, signal];
        let reached = self.story.kubectl(&words).await;
        assert_ne!(reached.trim(), "0", "no process of container {container} is there");
    }
}
