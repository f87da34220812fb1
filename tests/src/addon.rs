//! A program of the cluster's namespace `monitoring`, started once more in a story's own namespace: there it can be
//! stopped, and nobody else is in it.

use serde_json::{Value, json};

use crate::{Story, environment, host::Killer, until};

/// Where the cluster has it.
const FROM: &str = "monitoring";

/// A copy.
pub struct Addon<'a> {
    story: &'a Story,
    name: &'static str,
    port: u16,
}

impl<'a> Addon<'a> {
    /// Starts it with this configuration in place of the cluster's, and these rights in its namespace; waits until it
    /// is ready.
    pub async fn start(
        story: &'a Story,
        (name, port): (&'static str, u16),
        config: &str,
        rules: Value,
    ) -> Self {
        environment::needs_a_node("a program beside the server");
        let file = format!("{name}.yml");
        let mut template = template(story, name).await;
        template["spec"]["serviceAccountName"] = json!(name);
        let labels = json!({"app": name});
        template["metadata"]["labels"] = labels.clone();
        let of_rbac = |kind: &str| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}});
        let (mut role, mut binding) = (of_rbac("Role"), of_rbac("RoleBinding"));
        role["rules"] = rules;
        binding["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
        binding["subjects"] = json!([{"kind": "ServiceAccount", "name": name, "namespace": story.namespace}]);
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
            role,
            binding,
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {file: config}},
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name},
                "spec": {
                    "replicas": 1,
                    "strategy": {"type": "Recreate"},
                    "selector": {"matchLabels": labels},
                    "template": template,
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"selector": labels, "ports": [{"name": "web", "port": port, "targetPort": "web"}]},
            },
        ]});
        story.kubectl_with(&["apply", "--server-side", "--filename=-"], &list.to_string()).await.ok();
        let addon = Self { story, name, port };
        addon.ready().await;
        addon
    }

    async fn ready(&self) {
        let deployment = format!("deployment/{}", self.name);
        self.story.kubectl(&["rollout", "status", &deployment, "--timeout=90s"]).await;
        // The Service's rules follow a moment later.
        until(&format!("{} answers", self.name), async || self.get("/-/ready").await.map(drop)).await;
    }

    /// What it answers to a GET of this path.
    pub async fn get(&self, path: &str) -> Result<String, String> {
        let (namespace, name, port) = (&self.story.namespace, self.name, self.port);
        let path = format!("/api/v1/namespaces/{namespace}/services/{name}:{port}/proxy{path}");
        let said = self.story.kubectl_with(&["--request-timeout=10s", "get", "--raw", &path], "").await;
        if said.well { Ok(said.out) } else { Err(said.err) }
    }

    /// Removes its pod: nobody listens any more.
    pub async fn stop(&self) {
        let deployment = format!("deployment/{}", self.name);
        self.story.kubectl(&["scale", &deployment, "--replicas=0"]).await;
        let selector = format!("--selector=app={}", self.name);
        self.story.kubectl(&["wait", "--for=delete", "pods", &selector, "--timeout=60s"]).await;
    }

    /// Starts it again, with nothing of what it knew.
    pub async fn start_again(&self) {
        self.story.kubectl(&["scale", &format!("deployment/{}", self.name), "--replicas=1"]).await;
        self.ready().await;
    }

    /// Halts it: it takes connections, and does not answer.
    pub async fn pause(&self, killer: &Killer<'_>) {
        killer.signal(&self.container().await, "STOP").await;
    }

    /// Lets it go on.
    pub async fn resume(&self, killer: &Killer<'_>) {
        killer.signal(&self.container().await, "CONT").await;
    }

    /// Its container, by the container runtime's id.
    async fn container(&self) -> String {
        let selector = format!("--selector=app={}", self.name);
        let path = "--output=jsonpath={.items[0].status.containerStatuses[0].containerID}";
        let id = self.story.kubectl(&["get", "pods", &selector, path]).await;
        id.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

/// The pod template that the cluster has for it.
async fn template(story: &Story, name: &str) -> Value {
    let words = ["--namespace", FROM, "get", "deployment", name, "--output=json"];
    let said = crate::command::kubectl(&words, "").await;
    assert!(
        said.well,
        "the cluster has no {name} in the namespace {FROM}; `cargo xtask cluster up` brings it: {}",
        said.err
    );
    let deployment: Value = serde_json::from_str(&said.out).expect("kubectl writes JSON");
    let mut template = deployment["spec"]["template"].clone();
    // Paused, it is not to be started anew; and what it scrapes is not to be scraped by the cluster's.
    template["spec"]["containers"][0].as_object_mut().expect("a container").remove("livenessProbe");
    assert!(template.is_object(), "{} has no template: {}", story.namespace, said.out);
    template
}
