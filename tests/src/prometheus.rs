//! A Prometheus of a story's own, which scrapes the pods of its namespace every second.

use serde_json::{Value, json};

use crate::{Server, Story, addon::Addon, until};

/// What the operator is told of it, as a value of the chart.
pub const URL: &str = "http://prometheus.NAMESPACE:9090";

/// Which labels series get from where they were scraped, beside `job` and `instance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// `namespace`, `pod` and `container`.
    Monitor,
    /// What a PodMonitor gives: these, and `endpoint` for the port, so that the server's own becomes
    /// `exported_endpoint`.
    PodMonitor,
    /// `kubernetes_namespace` and `kubernetes_pod_name`, as the annotations' customary configuration has them.
    Annotations,
    /// None: a pod is known by its address only.
    Bare,
}

impl Labels {
    /// The source of each label, and its name.
    fn relabelling(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Monitor => &[
                ("__meta_kubernetes_namespace", "namespace"),
                ("__meta_kubernetes_pod_name", "pod"),
                ("__meta_kubernetes_pod_container_name", "container"),
            ],
            Self::PodMonitor => &[
                ("__meta_kubernetes_namespace", "namespace"),
                ("__meta_kubernetes_pod_name", "pod"),
                ("__meta_kubernetes_pod_container_name", "container"),
                ("__meta_kubernetes_pod_container_port_name", "endpoint"),
            ],
            Self::Annotations => &[
                ("__meta_kubernetes_namespace", "kubernetes_namespace"),
                ("__meta_kubernetes_pod_name", "kubernetes_pod_name"),
            ],
            Self::Bare => &[],
        }
    }
}

/// See the module.
pub struct Prometheus<'a>(pub Addon<'a>);

impl<'a> Prometheus<'a> {
    /// Starts it, and waits until it answers.
    pub async fn start(story: &'a Story, labels: Labels) -> Self {
        // JSON is YAML.
        let config = config(&story.namespace, labels).to_string();
        let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]);
        Self(Addon::start(story, ("prometheus", 9090), &config, rules).await)
    }

    /// The series of an instant query: their labels, and the value at its end.
    pub async fn query(&self, query: &str) -> Result<Vec<(Value, f64)>, String> {
        let query = query.bytes().fold(String::new(), |all, byte| format!("{all}%{byte:02x}"));
        let said = self.0.get(&format!("/api/v1/query?query={query}")).await?;
        let said: Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        let series = said["data"]["result"].as_array().ok_or_else(|| format!("no series: {said}"))?;
        let value = |one: &Value| one["value"][1].as_str().and_then(|text| text.parse().ok());
        let read = |one: &Value| Some((one["metric"].clone(), value(one)?));
        series.iter().map(|one| read(one).ok_or_else(|| format!("no number: {one}"))).collect()
    }

    /// Waits until a query has at least one series, and gives the first's value.
    pub async fn value(&self, query: &str) -> f64 {
        until(&format!("a value of {query}"), async || {
            let series = self.query(query).await?;
            series.first().map(|(_, value)| *value).ok_or_else(|| "no series".to_owned())
        })
        .await
    }

    /// Waits until it has scraped every pod of a server.
    pub async fn has_scraped(&self, server: &Server) {
        for pod in server.pods().await {
            let address = pod.status.and_then(|status| status.pod_ip).unwrap_or_default();
            self.value(&format!("up{{instance=\"{address}:8000\"}} == 1")).await;
        }
    }
}

fn config(namespace: &str, labels: Labels) -> Value {
    let mut relabelling = vec![
        json!({"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "Succeeded|Failed", "action": "drop"}),
        json!({"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": "http|metrics", "action": "keep"}),
    ];
    let label = |(source, target): &(&str, &str)| json!({"source_labels": [source], "target_label": target});
    relabelling.extend(labels.relabelling().iter().map(label));
    json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{
            "job_name": "pods",
            "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [namespace]}}],
            "relabel_configs": relabelling,
        }],
    })
}
