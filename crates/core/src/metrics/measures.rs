//! What can be measured: under which name, of which kind, by which labels. The names of the guides are used as they
//! are (`SEED_FACTS` §1); for what no guide names, ours follow Prometheus' customs. Policies map both.

use mcp_health_api::{Label, LabelName, Measure, MetricName, PrometheusSignal};

use crate::signals::Span;

/// How a metric is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until its process ends: its rate is of use.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// One measure.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its name in policies.
    pub measure: Measure,
    /// The metric's default name.
    pub metric: &'static str,
    /// How it is read.
    pub kind: Kind,
    /// Labels of its own that rules look at; whatever else tells series apart is summed up (of a gauge without labels
    /// of its own, too; of a summary, the worst counts).
    pub labels: &'static [Label],
    /// The times that rules look at.
    pub spans: &'static [Span],
}

const NOW: &[Span] = &[Span::Window];
const NOW_AND_BEFORE: &[Span] = &[Span::Window, Span::Before];
const NOW_AND_RECENT: &[Span] = &[Span::Window, Span::Recent];
const ALL: &[Span] = &[Span::Window, Span::Recent, Span::Before];

const fn counter(
    measure: Measure,
    metric: &'static str,
    labels: &'static [Label],
    spans: &'static [Span],
) -> Definition {
    Definition { measure, metric, kind: Kind::Counter, labels, spans }
}

const fn gauge(measure: Measure, metric: &'static str, labels: &'static [Label]) -> Definition {
    Definition { measure, metric, kind: Kind::Gauge, labels, spans: NOW }
}

/// All of them.
pub const MEASURES: &[Definition] = &[
    counter(Measure::Requests, "mcp_requests_total", &[Label::Endpoint, Label::Status], ALL),
    counter(Measure::Errors, "mcp_errors_total", &[Label::Type, Label::Tool], ALL),
    counter(Measure::DurationBucket, "mcp_request_duration_seconds_bucket", &[Label::Bound], NOW_AND_RECENT),
    counter(Measure::UnitlessDurationBucket, "mcp_request_duration_bucket", &[Label::Bound], NOW_AND_RECENT),
    gauge(Measure::DurationQuantile, "mcp_request_duration_seconds", &[Label::Endpoint, Label::Quantile]),
    counter(Measure::DurationSum, "mcp_request_duration_seconds_sum", &[Label::Endpoint], NOW),
    counter(Measure::DurationCount, "mcp_request_duration_seconds_count", &[Label::Endpoint], NOW),
    counter(Measure::ToolCalls, "mcp_tool_calls_total", &[Label::Tool], NOW),
    gauge(Measure::DatabasePoolSize, "mcp_db_connection_pool_size", &[]),
    gauge(Measure::DatabasePoolInUse, "mcp_db_connections_in_use", &[]),
    gauge(Measure::DatabasePoolWaiters, "mcp_db_connection_waiters", &[]),
    counter(Measure::CacheHits, "mcp_cache_hits_total", &[], NOW_AND_BEFORE),
    counter(Measure::CacheMisses, "mcp_cache_misses_total", &[], NOW_AND_BEFORE),
    gauge(Measure::Sessions, "mcp_sessions", &[]),
    gauge(Measure::IdleSessions, "mcp_sessions_idle", &[]),
    gauge(Measure::HeartbeatTime, "mcp_heartbeat_timestamp_seconds", &[]),
    gauge(Measure::HeartbeatInterval, "mcp_heartbeat_interval_seconds", &[]),
    counter(Measure::ConnectionDrops, "mcp_connection_drops_total", &[], NOW_AND_BEFORE),
    counter(Measure::RateLimited, "mcp_rate_limited_total", &[Label::Client], NOW_AND_BEFORE),
    counter(Measure::InvalidMessages, "mcp_invalid_messages_total", &[Label::Code], NOW_AND_BEFORE),
    gauge(Measure::CircuitState, "mcp_circuit_breaker_state", &[Label::Name]),
    counter(Measure::CpuPeriods, "container_cpu_cfs_periods_total", &[Label::Container], NOW),
    counter(
        Measure::CpuThrottledPeriods,
        "container_cpu_cfs_throttled_periods_total",
        &[Label::Container],
        NOW,
    ),
    counter(Measure::CpuSeconds, "container_cpu_usage_seconds_total", &[Label::Container], NOW),
    gauge(Measure::WorkingSet, "container_memory_working_set_bytes", &[Label::Container]),
    gauge(Measure::ResidentSet, "container_memory_rss", &[Label::Container]),
];

/// The names that a label may have by default, the likeliest first. Scrape configurations differ: those that
/// PodMonitor and ServiceMonitor make, which rename a server's own `endpoint`; older customs; none at all, where only
/// the address tells.
pub fn label_names(label: Label) -> &'static [&'static str] {
    match label {
        Label::Namespace => &["namespace", "kubernetes_namespace", "k8s_namespace_name"],
        Label::Pod => &["pod", "kubernetes_pod_name", "pod_name", "k8s_pod_name"],
        Label::Container => &["container", "container_name", "k8s_container_name"],
        Label::Service => &["service", "kubernetes_name"],
        Label::Deployment => &["deployment", "k8s_deployment_name"],
        Label::Instance => &["instance"],
        Label::Endpoint => &["exported_endpoint", "endpoint"],
        Label::Status => &["status", "code", "status_code"],
        Label::Tool => &["tool", "tool_name"],
        Label::Type => &["type", "error_type"],
        Label::Code => &["code", "error_code"],
        Label::Client => &["client", "user", "user_id"],
        Label::Name => &["name", "circuit"],
        Label::Quantile => &["quantile"],
        Label::Bound => &["le"],
    }
}

/// How metrics and labels are called where a policy does not say: the operator's own setting, for all servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// Of metrics.
    pub metrics: Vec<MetricName>,
    /// Of labels.
    pub labels: Vec<LabelName>,
}

impl Naming {
    /// What a policy says, and below it what this says.
    pub fn below(&self, signal: Option<&PrometheusSignal>) -> PrometheusSignal {
        let mut signal = signal.cloned().unwrap_or_default();
        let metrics =
            self.metrics.iter().filter(|one| !signal.metrics.iter().any(|own| own.measure == one.measure));
        let metrics: Vec<_> = metrics.cloned().collect();
        signal.metrics.extend(metrics);
        let labels = self.labels.iter().filter(|one| !signal.labels.iter().any(|own| own.label == one.label));
        let labels: Vec<_> = labels.cloned().collect();
        signal.labels.extend(labels);
        signal
    }
}

/// The definition of a measure. Every measure of the API has one: a test sees to it.
pub fn definition(measure: Measure) -> Option<&'static Definition> {
    MEASURES.iter().find(|definition| definition.measure == measure)
}

/// The metric's name for a policy.
pub fn metric_name<'a>(definition: &'a Definition, signal: Option<&'a PrometheusSignal>) -> &'a str {
    let mapped = signal.and_then(|one| one.metrics.iter().find(|one| one.measure == definition.measure));
    mapped.map_or(definition.metric, |mapped| mapped.name.as_str())
}

/// The names that a label may have for a policy: the one that it says, else those by default.
pub fn label_names_of(label: Label, signal: &PrometheusSignal) -> Vec<&str> {
    match signal.labels.iter().find(|one| one.label == label) {
        Some(mapped) => vec![mapped.name.as_str()],
        None => label_names(label).to_vec(),
    }
}

/// What tells the replicas of a highly available Prometheus apart, by the usual names.
const REPLICA_LABELS: &[&str] = &["replica", "prometheus_replica", "prometheus", "__replica__"];

/// The labels in which series of one thing may differ: they are one.
pub fn replica_labels(signal: &PrometheusSignal) -> Vec<&str> {
    match &signal.replica_labels {
        Some(own) => own.iter().map(String::as_str).collect(),
        None => REPLICA_LABELS.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policys_own_names_come_before_the_operators() {
        let metric = |measure, name: &str| MetricName { measure, name: name.to_owned() };
        let naming = Naming {
            metrics: vec![metric(Measure::Requests, "everywhere"), metric(Measure::Errors, "errors")],
            labels: vec![LabelName { label: Label::Pod, name: "pod_name".to_owned() }],
        };
        let own = PrometheusSignal {
            metrics: vec![metric(Measure::Requests, "here")],
            ..PrometheusSignal::default()
        };
        let name = |measure, signal: &PrometheusSignal| {
            definition(measure).map(|one| metric_name(one, Some(signal)).to_owned())
        };
        let both = naming.below(Some(&own));
        assert_eq!(name(Measure::Requests, &both).as_deref(), Some("here"));
        assert_eq!(name(Measure::Errors, &both).as_deref(), Some("errors"));
        assert_eq!(name(Measure::Sessions, &both).as_deref(), Some("mcp_sessions"));
        assert_eq!(label_names_of(Label::Pod, &both), ["pod_name"]);
        assert_eq!(naming.below(None).metrics, naming.metrics);
    }
}
