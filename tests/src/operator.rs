//! The operator as its users install it: the chart, by Helm.

use std::fmt::Write;

use serde_json::{Value, json};
use xtask::{Cluster, local_operator::LocalOperator};

use crate::{
    command::{Said, helm, helm_blocking, kubectl},
    environment,
    forward::Forward,
    until::until,
};

/// Short, and still as honest as longer ones: what is ready for 3 seconds is not crash-looping. Where metrics are looked
/// at, a template is proven only after a whole window of them: that is for the stories that are about metrics.
const TIMINGS: &[&str] = &[
    "verification.settle=5s",
    "healthyRevision.seenAfter=3s",
    "healthyRevision.replacesAfter=10s",
    "signals.scrapePeriod=0s",
];

/// A release of the chart that watches its own namespace only.
#[derive(Clone, Debug)]
pub struct Release {
    namespace: String,
}

impl Release {
    /// Name of the release.
    const NAME: &str = "operator";

    /// The release of a namespace.
    pub fn of(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned() }
    }

    /// The name of the operator's Deployment, ServiceAccount and Roles.
    pub fn name(&self) -> &str {
        &self.namespace
    }

    /// Installs it; does not wait until it is ready. `NAMESPACE` in a value stands for its own.
    pub async fn install(&self, values: &[String]) {
        let chart = environment::chart().display().to_string();
        let image = environment::operator_image();
        let (repository, tag) = image.rsplit_once(':').expect("the operator's image has a tag");
        let mut own: Vec<String> = TIMINGS.iter().map(|&value| value.to_owned()).collect();
        own.extend([
            format!("watchNamespaces={{{}}}", self.namespace),
            "crds.install=false".to_owned(),
            format!("fullnameOverride={}", self.name()),
            format!("image.repository={repository}"),
            "log.format=plain".to_owned(),
        ]);
        own.extend(values.iter().map(|value| value.replace("NAMESPACE", &self.namespace)));
        if environment::simulated().is_some() {
            own.push("replicaCount=0".to_owned());
        }
        // A tag may look like a number.
        let tag = format!("image.tag={tag}");
        let mut words =
            vec!["install", Self::NAME, &chart, "--namespace", &self.namespace, "--set-string", &tag];
        for value in &own {
            words.extend(["--set", value]);
        }
        helm(&words).await.ok();
    }

    /// Starts the operator on this machine, as the release describes it, where pods run nothing.
    pub async fn run_here(&self) -> Option<LocalOperator> {
        let cluster = environment::simulated()?;
        let (name, namespace) = (self.name().to_owned(), self.namespace.clone());
        let start = move || {
            let cluster = Cluster::open(&cluster)?;
            LocalOperator::start(&cluster, &environment::operator_program(), &name, &namespace)
        };
        let started = tokio::task::spawn_blocking(start).await.expect("the operator's start is awaited");
        Some(started.unwrap_or_else(|error| panic!("the operator does not start: {error}")))
    }

    /// Removes it with everything it has, on the cluster too.
    pub fn uninstall_blocking(&self) {
        let said =
            helm_blocking(&["uninstall", Self::NAME, "--namespace", &self.namespace, "--ignore-not-found"]);
        if !said.well {
            eprintln!("`{}` failed: {}", said.line, said.err);
        }
    }

    async fn kubectl(&self, arguments: &[&str]) -> Said {
        kubectl(&[&["--namespace", &self.namespace], arguments].concat(), "").await
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        let target = format!("deployment/{}", self.name());
        self.kubectl(&["rollout", "status", &target, "--timeout=120s"]).await.ok();
    }

    /// Deletes its pod, and waits for the next one. What it may do is asked of the API server anew.
    pub async fn restarted(&self) {
        environment::needs_a_node("an operator that is restarted by its Deployment");
        let selector = format!("--selector=app.kubernetes.io/instance={}", Self::NAME);
        self.kubectl(&["delete", "pod", &selector, "--wait=true"]).await.ok();
        self.ready().await;
    }

    /// How often its container was started anew, and whether it is ready; of the one pod that there is.
    pub async fn restarts(&self) -> Result<(i64, bool), String> {
        let selector = format!("--selector=app.kubernetes.io/instance={}", Self::NAME);
        let pods = self.kubectl(&["get", "pods", &selector, "--output=json"]).await.ok();
        let pods: Value = serde_json::from_str(&pods).map_err(|error| error.to_string())?;
        let status = &pods["items"][0]["status"]["containerStatuses"][0];
        let restarts = status["restartCount"].as_i64().ok_or_else(|| format!("no status yet: {status}"))?;
        Ok((restarts, status["ready"] == true))
    }

    /// The container that it runs in, by the container runtime's id.
    pub async fn container(&self) -> String {
        let selector = format!("--selector=app.kubernetes.io/instance={}", Self::NAME);
        let path = "--output=jsonpath={.items[0].status.containerStatuses[0].containerID}";
        let id = self.kubectl(&["get", "pods", &selector, path]).await.ok();
        id.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// Takes a rule away from its Role: the first that is about this resource alone.
    pub async fn forbid(&self, resource: &str) {
        let role = self.kubectl(&["get", "role", self.name(), "--output=json"]).await.ok();
        let role: Value = serde_json::from_str(&role).expect("kubectl writes JSON");
        let rules = role["rules"].as_array().expect("a Role has rules");
        let at = rules
            .iter()
            .position(|rule| rule["resources"] == json!([resource]))
            .unwrap_or_else(|| panic!("the operator's Role has no rule for {resource}: {role}"));
        let patch = format!(r#"[{{"op": "remove", "path": "/rules/{at}"}}]"#);
        self.kubectl(&["patch", "role", self.name(), "--type=json", "--patch", &patch]).await.ok();
    }

    /// All that it serves as metrics.
    pub async fn metrics(&self) -> String {
        let target = format!("deployment/{}", self.name());
        environment::needs_a_node("a port of the operator's pod");
        until("the operator's metrics", async || {
            let forward = Forward::open(&self.namespace, &target, 8080).await?;
            let answer = reqwest::get(format!("{}/metrics", forward.url)).await;
            let answer = answer.and_then(reqwest::Response::error_for_status);
            answer.map_err(|error| error.to_string())?.text().await.map_err(|error| error.to_string())
        })
        .await
    }

    /// All that it logged since its pod was started.
    pub async fn log(&self) -> String {
        let target = format!("deployment/{}", self.name());
        self.kubectl(&["logs", &target, "--tail=-1"]).await.ok()
    }

    /// The sum of a metric's series whose labels contain `labels`; 0 where there is none yet.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let page = self.metrics().await;
        let series = page.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// What a person would look at when it does not heal.
    pub fn report(&self, into: &mut String) {
        for (title, previous) in [("the operator's log", false), ("its log before that", true)] {
            let target = format!("deployment/{}", self.name());
            let mut words = vec!["--namespace", &self.namespace, "logs", &target, "--tail=120"];
            if previous {
                words.push("--previous");
            }
            let said = crate::command::kubectl_blocking(&words, "");
            if said.well {
                let _ = write!(into, "\n=== {title}\n{}", said.out);
            } else if !previous {
                let _ = write!(into, "\n=== {title}: {}", said.err);
            }
        }
    }
}
