//! The manifests of a demo server, as its team would write them.

use serde_json::{Value, json};

use crate::environment;

/// The Deployment: `replicas` demo servers that are asked for their health every second.
pub fn deployment(namespace: &str, name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 2,
                    "containers": [{
                        "name": "server",
                        "image": environment::demo_image(),
                        "imagePullPolicy": "IfNotPresent",
                        "env": [
                            {"name": "MCP_ADMIN", "value": "true"},
                            {"name": "MCP_WORKERS", "value": "1"},
                        ],
                        "ports": [{"name": "http", "containerPort": 8000}],
                        "readinessProbe": {
                            "httpGet": {"path": "/health", "port": "http"},
                            "periodSeconds": 1,
                        },
                    }],
                },
            },
        },
    })
}

/// The Service in front of it.
pub fn service(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    })
}

/// The policy: what a person would write, in the mode that acts.
pub fn policy(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "mcphealth.dev/v1alpha1",
        "kind": "McpServerHealth",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "mode": "Enforce",
        },
    })
}
