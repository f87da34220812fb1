//! The operator's own configuration: flags, each with an environment variable.

use clap::{Parser, ValueEnum};
use http::Uri;
use mcp_health_api::{Duration, LabelName, MetricName};
use mcp_health_core::{Settings, metrics::Naming};
use serde::de::{DeserializeOwned, IntoDeserializer, value::Error as ValueError};

/// Heals MCP servers on Kubernetes by the health policies that their teams declare.
#[derive(Parser, Clone, Debug)]
#[command(name = "mcp-health-operator", version)]
#[allow(clippy::struct_excessive_bools)] // Each is a switch of its own.
pub struct Config {
    /// Namespaces to watch, separated by commas; empty: the whole cluster.
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',', default_value = "")]
    pub watch_namespaces: Vec<String>,
    /// Hold a Lease, so that of several operators one acts.
    #[arg(long, env = "LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_election: bool,
    /// Namespace of the Lease and of the switch.
    #[arg(long, env = "POD_NAMESPACE", default_value = "mcp-health-system")]
    pub lease_namespace: String,
    /// Name of the Lease.
    #[arg(long, env = "LEASE_NAME", default_value = "mcp-health-operator")]
    pub lease_name: String,
    /// How long a leader may be silent before another takes over.
    #[arg(long, env = "LEASE_DURATION", default_value = "15s")]
    pub lease_duration: Duration,
    /// This operator's name among the candidates. Default: the pod's name.
    #[arg(long, env = "POD_NAME", default_value = "mcp-health-operator")]
    pub identity: String,
    /// `ConfigMap` in the lease's namespace whose key `suspend`, set to "true", stops every action. Empty: none.
    #[arg(long, env = "SWITCH_CONFIGMAP", default_value = "")]
    pub switch_configmap: String,
    /// Where /metrics, /healthz and /readyz are served. Empty: nowhere.
    #[arg(long, env = "METRICS_ADDR", default_value = "0.0.0.0:8080")]
    pub metrics_addr: String,
    /// How long the pods of a server's first template are ready before it counts as healthy.
    #[arg(long, env = "SEEN_HEALTHY_AFTER", default_value = "10s")]
    pub seen_healthy_after: Duration,
    /// How long the pods of a new template are ready before it takes the place of the last healthy one.
    #[arg(long, env = "REPLACES_HEALTHY_AFTER", default_value = "60s")]
    pub replaces_healthy_after: Duration,
    /// How long signals are quiet before an effect is judged or an incident closed.
    #[arg(long, env = "SETTLE", default_value = "15s")]
    pub settle: Duration,
    /// How many servers may be acted on at once, in the cluster.
    #[arg(long, env = "MAX_CONCURRENT_ACTIONS", default_value_t = 1)]
    pub max_concurrent_actions: usize,
    /// Actions in any hour, over all servers of a namespace.
    #[arg(long, env = "MAX_ACTIONS_PER_HOUR_NAMESPACE", default_value_t = 20)]
    pub max_actions_per_hour_namespace: usize,
    /// Actions in any hour, over all servers.
    #[arg(long, env = "MAX_ACTIONS_PER_HOUR_CLUSTER", default_value_t = 60)]
    pub max_actions_per_hour_cluster: usize,
    /// The share of servers that may be broken, in percent, before nothing is done: more have one cause.
    #[arg(long, env = "MAX_UNHEALTHY_PERCENT", default_value_t = 50)]
    pub max_unhealthy_percent: usize,
    /// Fewer broken servers never count as that: a small fleet heals.
    #[arg(long, env = "UNHEALTHY_FLOOR", default_value_t = 5)]
    pub unhealthy_floor: usize,
    /// Keep logs, Events and states in a ConfigMap before an action destroys them, and when a person is called.
    #[arg(long, env = "KEEP_EVIDENCE", default_value_t = true, action = clap::ArgAction::Set)]
    pub keep_evidence: bool,
    /// Run Jobs from CronJobs that policies name (smoke tests, RunJob); without it, Jobs are neither made nor watched.
    #[arg(long, env = "RUN_JOBS", default_value_t = false, action = clap::ArgAction::Set)]
    pub run_jobs: bool,
    /// How often CPU and memory are read from metrics-server, where there is one; 0s: never.
    #[arg(long, env = "USAGE_PERIOD", default_value = "15s")]
    pub usage_period: Duration,
    /// Ask servers for MCP, their health, their circuit breakers, and what they depend on.
    #[arg(long, env = "PROBES", default_value_t = true, action = clap::ArgAction::Set)]
    pub probes: bool,
    /// How many questions are asked at the same time.
    #[arg(long, env = "PROBE_CONCURRENCY", default_value_t = 64)]
    pub probe_concurrency: usize,
    /// How many requests a minute for MCP and health one server gets at most, over all its pods and paths.
    #[arg(long, env = "PROBE_REQUESTS_PER_MINUTE", default_value_t = 240)]
    pub probe_requests_per_minute: u32,
    /// Read the Secrets that policies name (needs the right to get secrets).
    #[arg(long, env = "READ_SECRETS", default_value_t = false, action = clap::ArgAction::Set)]
    pub read_secrets: bool,
    /// Watch nodes, to tell pods that lost their readiness with their node from pods that fail by themselves (needs the
    /// right to list and watch nodes; without it, the pods' own conditions are read).
    #[arg(long, env = "WATCH_NODES", default_value_t = false, action = clap::ArgAction::Set)]
    pub nodes: bool,
    /// Read how full volumes are from the kubelets of nodes that run targets' pods (needs the right to get nodes/proxy).
    #[arg(long, env = "KUBELET_STATS", default_value_t = false, action = clap::ArgAction::Set)]
    pub kubelet_stats: bool,
    /// How often.
    #[arg(long, env = "KUBELET_STATS_PERIOD", default_value = "30s")]
    pub kubelet_stats_period: Duration,
    /// How often the pods of servers are asked for their metrics, where no Prometheus tells them; 0s: never.
    #[arg(long, env = "SCRAPE_PERIOD", default_value = "15s")]
    pub scrape_period: Duration,
    /// Alertmanager, as `http://alertmanager.monitoring:9093`: alerts whose labels name a server's namespace and a pod, a
    /// Service or the Deployment of it become incidents. Without it, nobody is asked.
    #[arg(long, env = "ALERTMANAGER_URL", value_parser = http_url)]
    pub alertmanager_url: Option<Uri>,
    /// How often it is asked.
    #[arg(long, env = "ALERTMANAGER_PERIOD", default_value = "15s")]
    pub alertmanager_period: Duration,
    /// Watch ConfigMaps, and bring their content back where a policy allows RollbackConfig.
    #[arg(long = "config-rollback", env = "CONFIG_ROLLBACK", default_value_t = false, action = clap::ArgAction::Set)]
    pub rolls_config_back: bool,
    /// The Prometheus that knows the servers' metrics, as `http://prometheus.monitoring:9090`. Empty: none, but what
    /// objects name.
    #[arg(long, env = "PROMETHEUS_URL", default_value = "", hide_env_values = true)]
    pub prometheus_url: String,
    /// How often it is asked.
    #[arg(long, env = "PROMETHEUS_PERIOD", default_value = "15s")]
    pub prometheus_period: Duration,
    /// How long an answer may take.
    #[arg(long, env = "PROMETHEUS_TIMEOUT", default_value = "10s")]
    pub prometheus_timeout: Duration,
    /// File with a bearer token for it, read at every tick. Only the operator's own Prometheus gets to see it.
    #[arg(long, env = "PROMETHEUS_TOKEN_FILE", default_value = "")]
    pub prometheus_token_file: String,
    /// File with the certificates to trust over https, instead of the system's.
    #[arg(long, env = "PROMETHEUS_CA_FILE", default_value = "")]
    pub prometheus_ca_file: String,
    /// What metrics are called in this cluster where an object does not say, as `Requests=http_requests_total`, separated
    /// by commas.
    #[arg(long, env = "METRIC_NAMES", value_delimiter = ',', value_parser = metric_name)]
    pub metric_names: Vec<MetricName>,
    /// What labels are called, as `Pod=kubernetes_pod_name`, separated by commas.
    #[arg(long, env = "METRIC_LABELS", value_delimiter = ',', value_parser = label_name)]
    pub metric_labels: Vec<LabelName>,
    /// What objects may name for the operator to contact, separated by commas: `host`, `host:port`, `*.suffix`, or the
    /// beginning of a URL.
    #[arg(long, env = "ALLOWED_ENDPOINTS", value_delimiter = ',', default_value = "")]
    pub allowed_endpoints: Vec<String>,
    /// Form of the log.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Plain)]
    pub log_format: LogFormat,
    /// Level of the log: a level, or directives as in `info,kube=debug`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// An address in the cluster that is asked without credentials.
fn http_url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error| format!("{error}"))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err("begins with http:// or https://".to_owned());
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) || url.query().is_some() {
        return Err("holds no credentials and no query".to_owned());
    }
    Ok(url)
}

/// `Requests=http_requests_total`.
fn metric_name(text: &str) -> Result<MetricName, String> {
    let (measure, name) = named(text, "Requests=http_requests_total")?;
    Ok(MetricName { measure, name })
}

/// `Pod=kubernetes_pod_name`.
fn label_name(text: &str) -> Result<LabelName, String> {
    let (label, name) = named(text, "Pod=kubernetes_pod_name")?;
    Ok(LabelName { label, name })
}

fn named<T: DeserializeOwned>(text: &str, example: &str) -> Result<(T, String), String> {
    let (what, name) = text.trim().split_once('=').ok_or_else(|| format!("write it as {example}"))?;
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    };
    if !is_name(name) {
        return Err(format!("{name:?} is no name in Prometheus"));
    }
    let what = T::deserialize(what.into_deserializer()).map_err(|error: ValueError| error.to_string())?;
    Ok((what, name.to_owned()))
}

/// Form of the log.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Plain,
}

impl Config {
    /// The namespaces to watch; `None` stands for the whole cluster.
    pub fn scopes(&self) -> Vec<Option<String>> {
        let named: Vec<_> =
            self.watch_namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
        if named.is_empty() {
            vec![None]
        } else {
            named.into_iter().map(|name| Some(name.to_owned())).collect()
        }
    }

    /// How metrics and labels are called where an object does not say.
    pub fn naming(&self) -> Naming {
        Naming { metrics: self.metric_names.clone(), labels: self.metric_labels.clone() }
    }

    /// What of it the pure core is given.
    pub fn settings(&self) -> Settings {
        Settings {
            seen_healthy_after: self.seen_healthy_after.span(),
            replaces_healthy_after: self.replaces_healthy_after.span(),
            settle: self.settle.span(),
            max_concurrent_actions: self.max_concurrent_actions.max(1),
            max_actions_per_hour_namespace: self.max_actions_per_hour_namespace,
            max_actions_per_hour_cluster: self.max_actions_per_hour_cluster,
            max_unhealthy_percent: self.max_unhealthy_percent,
            unhealthy_floor: self.unhealthy_floor,
        }
    }
}
