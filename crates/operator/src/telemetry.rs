//! What the operator tells of itself: its log, and /metrics, /healthz, /readyz.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use jiff::Timestamp;
use mcp_health_api::{ActionType, McpServerHealthStatus, Outcome};
use mcp_health_core::signals::CheckStep;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::{
    caught,
    config::{Config, LogFormat},
    fleet::Counts,
};

/// The media type of OpenMetrics text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IncidentLabels {
    incident: String,
    severity: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: String,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HoldLabels {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProbeLabels {
    question: &'static str,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuestionLabels {
    question: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabels {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    kind: &'static str,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceLabels {
    place: String,
}

/// The operator's metrics. Names and units by Prometheus custom.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<ReconcileLabels, Counter>,
    incidents: Family<IncidentLabels, Counter>,
    actions: Family<ActionLabels, Counter>,
    holds: Family<HoldLabels, Counter>,
    duration: Histogram,
    servers: Gauge,
    unhealthy: Gauge,
    held: Family<HoldLabels, Gauge>,
    queries: Family<QueryLabels, Counter>,
    polls: Histogram,
    probes: Family<ProbeLabels, Counter>,
    probe_duration: Family<QuestionLabels, Histogram, fn() -> Histogram>,
    requests: Family<ServerLabels, Counter>,
    checks: Family<CheckLabels, Counter>,
    check_duration: Family<KindLabels, Histogram, fn() -> Histogram>,
    certificates: Family<PlaceLabels, Gauge>,
    ready: AtomicBool,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("mcp_health_operator");
        let (reconciles, incidents) = (Family::default(), Family::default());
        let (actions, holds) = (Family::default(), Family::default());
        let duration = Histogram::new([0.000_1, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0]);
        registry.register("reconciles", "Reconciles, by result", Family::clone(&reconciles));
        registry.register(
            "incidents_opened",
            "Incidents opened, by type and severity",
            Family::clone(&incidents),
        );
        registry.register(
            "actions_judged",
            "Actions that were judged, by action and outcome",
            Family::clone(&actions),
        );
        registry.register("holds", "Actions that a guard began to hold, by reason", Family::clone(&holds));
        registry.register("reconcile_duration_seconds", "Duration of a reconcile", duration.clone());
        registry.register(
            "failures_caught",
            "Panics and unreadable objects, caught at one object, by where",
            caught::counts(),
        );
        let (servers, unhealthy, held) = (Gauge::default(), Gauge::default(), Family::default());
        registry.register("servers", "McpServerHealth objects", Gauge::clone(&servers));
        registry.register(
            "servers_unhealthy",
            "Servers with an unmitigated incident of SEV1 or SEV2",
            Gauge::clone(&unhealthy),
        );
        registry.register(
            "servers_held",
            "Servers whose action a guard holds, by reason",
            Family::clone(&held),
        );
        let (queries, polls) = of_prometheus(&mut registry);
        let probe_times: fn() -> Histogram =
            || Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0]);
        let probe_duration = Family::new_with_constructor(probe_times);
        let (probes, requests) = of_probes(&mut registry, &probe_duration);
        let (checks, check_duration, certificates) = of_dependencies(&mut registry, probe_times);
        Self {
            registry,
            reconciles,
            incidents,
            actions,
            holds,
            duration,
            servers,
            unhealthy,
            held,
            queries,
            polls,
            probes,
            probe_duration,
            requests,
            checks,
            check_duration,
            certificates,
            ready: AtomicBool::new(false),
        }
    }
}

/// What Prometheus is asked.
fn of_prometheus(registry: &mut Registry) -> (Family<QueryLabels, Counter>, Histogram) {
    let (queries, polls) = (Family::default(), Histogram::new([0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0]));
    registry.register("prometheus_queries", "Queries of Prometheus, by outcome", Family::clone(&queries));
    registry.register(
        "prometheus_poll_duration_seconds",
        "Duration of all queries that one Prometheus is asked at a tick",
        polls.clone(),
    );
    (queries, polls)
}

/// The checks of what servers depend on: outcomes, durations, and certificates.
type OfDependencies = (
    Family<CheckLabels, Counter>,
    Family<KindLabels, Histogram, fn() -> Histogram>,
    Family<PlaceLabels, Gauge>,
);

/// What the things are asked that servers depend on.
fn of_dependencies(registry: &mut Registry, times: fn() -> Histogram) -> OfDependencies {
    let (checks, certificates) = (Family::default(), Family::default());
    let check_duration = Family::new_with_constructor(times);
    registry.register(
        "dependency_checks",
        "Questions to what servers depend on, by kind and outcome: Ok, or the step that failed",
        Family::clone(&checks),
    );
    registry.register(
        "dependency_check_duration_seconds",
        "Duration of a question to what servers depend on",
        Family::clone(&check_duration),
    );
    registry.register(
        "dependency_certificate_expiry_timestamp_seconds",
        "Until when the certificate of what servers depend on holds, by its place, in seconds since 1970",
        Family::clone(&certificates),
    );
    (checks, check_duration, certificates)
}

/// What servers are asked, and how many requests they get.
fn of_probes(
    registry: &mut Registry,
    duration: &Family<QuestionLabels, Histogram, fn() -> Histogram>,
) -> (Family<ProbeLabels, Counter>, Family<ServerLabels, Counter>) {
    let (probes, requests) = (Family::default(), Family::default());
    registry.register("probes", "Questions to servers, by question and outcome", Family::clone(&probes));
    registry.register(
        "probe_duration_seconds",
        "Duration of a question to a server",
        Family::clone(duration),
    );
    registry.register(
        "server_requests",
        "Requests of the operator's own at a server: MCP, health, circuit breakers, metrics; without a name, \
         at all servers beyond the first thousand",
        Family::clone(&requests),
    );
    (probes, requests)
}

impl Metrics {
    /// A reconcile ended.
    pub fn reconciled(&self, result: &'static str, seconds: f64) {
        self.reconciles.get_or_create(&ReconcileLabels { result }).inc();
        self.duration.observe(seconds);
    }

    /// A query of Prometheus came to this.
    pub fn queried(&self, outcome: &'static str) {
        self.queries.get_or_create(&QueryLabels { outcome }).inc();
    }

    /// All queries of a tick took so long.
    pub fn polled(&self, seconds: f64) {
        self.polls.observe(seconds);
    }

    /// Counts what changed from one status to the next.
    pub fn note(&self, before: &McpServerHealthStatus, after: &McpServerHealthStatus) {
        for incident in &after.incidents {
            let known = before.incidents.iter().find(|one| one.id == incident.id);
            if known.is_none() {
                let (kind, severity) = (incident.incident_type.to_string(), incident.severity.to_string());
                self.incidents.get_or_create(&IncidentLabels { incident: kind, severity }).inc();
            }
            let held = known.and_then(|known| known.hold.as_ref()).map(|hold| &hold.reason);
            if let Some(hold) = incident.hold.as_ref().filter(|hold| Some(&hold.reason) != held) {
                self.holds.get_or_create(&HoldLabels { reason: hold.reason.clone() }).inc();
            }
        }
        let judged = |status: &McpServerHealthStatus| -> Option<(String, ActionType, Outcome)> {
            let last = status.last_action.as_ref()?;
            Some((last.attempt.clone(), last.action, last.outcome?))
        };
        if let Some((attempt, action, outcome)) = judged(after)
            && judged(before).is_none_or(|(known, ..)| known != attempt)
        {
            let labels = ActionLabels { action: action.to_string(), outcome: outcome.to_string() };
            self.actions.get_or_create(&labels).inc();
        }
    }

    /// A server was asked.
    pub fn probed(&self, question: &'static str, outcome: String, took: std::time::Duration) {
        self.probes.get_or_create(&ProbeLabels { question, outcome }).inc();
        self.probe_duration.get_or_create(&QuestionLabels { question }).observe(took.as_secs_f64());
    }

    /// How many requests were made, by namespace and name of the server: at these, and at no others any more.
    pub fn count_requests(&self, counts: impl Iterator<Item = (String, String, u64)>) {
        self.requests.clear();
        for (namespace, name, made) in counts {
            self.requests.get_or_create(&ServerLabels { namespace, name }).inc_by(made);
        }
    }

    /// Something that servers depend on was asked: the step that failed, if any.
    pub fn checked(&self, kind: &'static str, failed: Option<CheckStep>, took: std::time::Duration) {
        let outcome = failed.map_or_else(|| "Ok".to_owned(), |step| format!("{step:?}"));
        self.checks.get_or_create(&CheckLabels { kind, outcome }).inc();
        self.check_duration.get_or_create(&KindLabels { kind }).observe(took.as_secs_f64());
    }

    /// Until when certificates hold, by their place: these, and no others any more.
    pub fn certify(&self, certificates: BTreeMap<String, Timestamp>) {
        self.certificates.clear();
        for (place, not_after) in certificates {
            self.certificates.get_or_create(&PlaceLabels { place }).set(not_after.as_second());
        }
    }

    /// What happens on all servers now.
    pub fn count(&self, counts: &Counts) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.servers.set(number(counts.servers));
        self.unhealthy.set(number(counts.unhealthy));
        self.held.clear();
        for (reason, count) in &counts.held {
            self.held.get_or_create(&HoldLabels { reason: reason.clone() }).set(number(*count));
        }
    }

    /// From now on, /readyz answers 200.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// All of them, as Prometheus reads them.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Listens where metrics and probes are served.
pub async fn listen(address: &str) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| format!("cannot serve metrics and probes at {address}: {error}"))
}

/// Serves /metrics, /healthz and /readyz until the operator ends.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>) {
    let ready = Arc::clone(&metrics);
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route(
            "/readyz",
            get(move || async move {
                if ready.ready.load(Ordering::Relaxed) {
                    (StatusCode::OK, "ok")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "the first lists are not complete yet")
                }
            }),
        )
        .route(
            "/metrics",
            get(move || async move {
                match metrics.text() {
                    Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
                    Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
                }
            }),
        );
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(%error, "metrics and probes are served no more");
    }
}

/// Starts the log.
pub fn start_log(config: &Config) {
    let filter = EnvFilter::try_new(&config.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    match config.log_format {
        LogFormat::Json => log.json().init(),
        LogFormat::Plain => log.with_ansi(false).init(),
    }
}
