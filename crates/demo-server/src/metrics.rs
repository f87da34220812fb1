//! What `GET /metrics` shows.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::circuit::{State, View};
use crate::config::DurationMetric;
use crate::pool::PoolUse;
use crate::sessions::Count;

/// What the text is served as.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];
const SUMMARY: &str = "mcp_request_duration_seconds";
/// A summary looks back at this many requests of an endpoint.
const SUMMARY_WINDOW: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    r#type: String,
    tool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ToolLabels {
    tool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClientLabels {
    client: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NameLabels {
    name: &'static str,
}

type Histograms = Family<EndpointLabels, Histogram, fn() -> Histogram>;

#[derive(Debug)]
enum Durations {
    Histogram(Histograms),
    Summary(Mutex<BTreeMap<String, Summary>>),
}

/// prometheus-client has no summary, so this one is written by hand.
#[derive(Debug, Default)]
struct Summary {
    recent: VecDeque<f64>,
    sum: f64,
    count: u64,
}

/// The metrics and their registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    durations: Durations,
    memory: Gauge,
    tool_calls: Family<ToolLabels, Counter>,
    sessions: Gauge,
    idle_sessions: Gauge,
    heartbeat: Gauge<f64, AtomicU64>,
    heartbeat_interval: Gauge<f64, AtomicU64>,
    connection_drops: Counter,
    rate_limited: Family<ClientLabels, Counter>,
    invalid_messages: Family<CodeLabels, Counter>,
    circuits: Family<NameLabels, Gauge>,
    cache: Option<CacheCounters>,
    pool: Option<PoolGauges>,
}

/// What is only known when it is asked for.
#[derive(Debug)]
pub struct Now {
    /// The pool, where there is a database.
    pub pool: Option<PoolUse>,
    /// The sessions.
    pub sessions: Count,
    /// The circuit.
    pub circuit: View,
}

#[derive(Debug, Default)]
struct CacheCounters {
    hits: Counter,
    misses: Counter,
}

#[derive(Debug, Default)]
struct PoolGauges {
    size: Gauge,
    in_use: Gauge,
    waiting: Gauge,
}

impl Metrics {
    /// All of them at zero. Those of the pool are there only with a database, those of the cache only with a
    /// cache.
    pub fn new(kind: DurationMetric, with_pool: bool, with_cache: bool) -> Self {
        let mut registry = Registry::default();
        let mut metrics = Self::of_requests(&mut registry, kind);
        registry.register("mcp_tool_calls", "Calls of tools", metrics.tool_calls.clone());
        registry.register("mcp_sessions", "Sessions that are open", metrics.sessions.clone());
        let idle = "Sessions without a message for an hour";
        registry.register("mcp_sessions_idle", idle, metrics.idle_sessions.clone());
        let beat = "When the heart beat last, in seconds since 1970";
        registry.register("mcp_heartbeat_timestamp_seconds", beat, metrics.heartbeat.clone());
        let interval = "The time between two heartbeats";
        registry.register("mcp_heartbeat_interval_seconds", interval, metrics.heartbeat_interval.clone());
        let drops = "Connections that broke off before they were answered";
        registry.register("mcp_connection_drops", drops, metrics.connection_drops.clone());
        let limited = "Requests of clients that sent too many";
        registry.register("mcp_rate_limited", limited, metrics.rate_limited.clone());
        let invalid = "Messages that are no valid MCP";
        registry.register("mcp_invalid_messages", invalid, metrics.invalid_messages.clone());
        let circuits = "Circuit breakers: 0 closed, 1 half-open, 2 open";
        registry.register("mcp_circuit_breaker_state", circuits, metrics.circuits.clone());
        if with_cache {
            let cache = CacheCounters::default();
            registry.register("mcp_cache_hits", "Look-ups that found an answer", cache.hits.clone());
            registry.register("mcp_cache_misses", "Look-ups that found none", cache.misses.clone());
            metrics.cache = Some(cache);
        }
        if with_pool {
            let pool = PoolGauges::default();
            let size = "Database connections the pool may open";
            registry.register("mcp_db_connection_pool_size", size, pool.size.clone());
            let in_use = "Database connections handed out";
            registry.register("mcp_db_connections_in_use", in_use, pool.in_use.clone());
            let waiting = "Callers that wait for a database connection";
            registry.register("mcp_db_connection_waiters", waiting, pool.waiting.clone());
            metrics.pool = Some(pool);
        }
        metrics.registry = registry;
        metrics
    }

    fn of_requests(registry: &mut Registry, kind: DurationMetric) -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        registry.register("mcp_requests", "Requests and tool calls", requests.clone());
        let errors = Family::<ErrorLabels, Counter>::default();
        registry.register("mcp_errors", "Failed tool calls", errors.clone());
        let memory = Gauge::<i64>::default();
        registry.register("process_resident_memory_bytes", "Resident memory", memory.clone());

        let name = match kind {
            DurationMetric::Histogram => Some("mcp_request_duration_seconds"),
            DurationMetric::UnitlessHistogram => Some("mcp_request_duration"),
            DurationMetric::Summary => None,
        };
        let durations = match name {
            Some(name) => {
                let histograms: Histograms = Family::new_with_constructor(|| Histogram::new(BUCKETS));
                registry.register(name, "Time to answer, in seconds", histograms.clone());
                Durations::Histogram(histograms)
            }
            None => Durations::Summary(Mutex::default()),
        };
        Self {
            registry: Registry::default(),
            requests,
            errors,
            durations,
            memory,
            tool_calls: Family::default(),
            sessions: Gauge::default(),
            idle_sessions: Gauge::default(),
            heartbeat: Gauge::default(),
            heartbeat_interval: Gauge::default(),
            connection_drops: Counter::default(),
            rate_limited: Family::default(),
            invalid_messages: Family::default(),
            circuits: Family::default(),
            cache: None,
            pool: None,
        }
    }

    /// Counts a request.
    pub fn request(&self, endpoint: &str, status: u16, took: Duration) {
        let endpoint = endpoint.to_owned();
        self.requests.get_or_create(&RequestLabels { endpoint: endpoint.clone(), status }).inc();
        let took = took.as_secs_f64();
        match &self.durations {
            Durations::Histogram(histograms) => {
                histograms.get_or_create(&EndpointLabels { endpoint }).observe(took);
            }
            Durations::Summary(summaries) => {
                let mut summaries = summaries.lock().unwrap_or_else(PoisonError::into_inner);
                summaries.entry(endpoint).or_default().observe(took);
            }
        }
    }

    /// Counts a failed tool call.
    pub fn error(&self, error_type: &str, tool: &str) {
        let labels = ErrorLabels { r#type: error_type.to_owned(), tool: tool.to_owned() };
        self.errors.get_or_create(&labels).inc();
    }

    /// Counts a call of a tool, however it went.
    pub fn tool_call(&self, tool: &str) {
        self.tool_calls.get_or_create(&ToolLabels { tool: tool.to_owned() }).inc();
    }

    /// Counts a look-up in the cache.
    pub fn cache(&self, found: bool) {
        if let Some(cache) = &self.cache {
            if found {
                cache.hits.inc()
            } else {
                cache.misses.inc()
            };
        }
    }

    /// Notes a heartbeat.
    pub fn heartbeat(&self, at: Timestamp, interval: Duration) {
        self.heartbeat.set(at.as_duration().as_secs_f64());
        self.heartbeat_interval.set(interval.as_secs_f64());
    }

    /// Counts a connection that broke off before it was answered.
    pub fn connection_drop(&self) {
        self.connection_drops.inc();
    }

    /// Counts a request of a client that sent too many.
    pub fn rate_limited(&self, client: &str) {
        self.rate_limited.get_or_create(&ClientLabels { client: client.to_owned() }).inc();
    }

    /// Counts a message that is not valid, by the code for what is wrong with it.
    pub fn invalid_message(&self, code: &'static str) {
        self.invalid_messages.get_or_create(&CodeLabels { code }).inc();
    }

    /// All of them, as text.
    pub fn encode(&self, now: &Now) -> Result<String, std::fmt::Error> {
        self.memory.set(i64::try_from(resident_bytes()).unwrap_or(i64::MAX));
        let set = |gauge: &Gauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.sessions, now.sessions.open);
        set(&self.idle_sessions, now.sessions.idle);
        self.circuits.get_or_create(&NameLabels { name: now.circuit.name }).set(match now.circuit.state {
            State::Closed => 0,
            State::HalfOpen => 1,
            State::Open => 2,
        });
        if let (Some(gauges), Some(pool)) = (&self.pool, now.pool) {
            set(&gauges.size, pool.size);
            set(&gauges.in_use, pool.in_use);
            set(&gauges.waiting, pool.waiting);
        }
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        if let Durations::Summary(summaries) = &self.durations {
            writeln!(text, "# HELP {SUMMARY} Time to answer, in seconds.\n# TYPE {SUMMARY} summary")?;
            for (endpoint, summary) in &*summaries.lock().unwrap_or_else(PoisonError::into_inner) {
                summary.encode(&mut text, endpoint)?;
            }
        }
        encode_eof(&mut text)?;
        Ok(text)
    }
}

impl Summary {
    fn observe(&mut self, seconds: f64) {
        self.sum += seconds;
        self.count += 1;
        self.recent.push_back(seconds);
        if self.recent.len() > SUMMARY_WINDOW {
            self.recent.pop_front();
        }
    }

    /// `endpoint` is one of our own routes or tools: nothing in it needs escaping.
    fn encode(&self, text: &mut String, endpoint: &str) -> std::fmt::Result {
        let mut sorted: Vec<f64> = self.recent.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        for quantile in QUANTILES {
            let value = at_quantile(&sorted, quantile);
            writeln!(text, "{SUMMARY}{{endpoint=\"{endpoint}\",quantile=\"{quantile}\"}} {value}")?;
        }
        writeln!(text, "{SUMMARY}_sum{{endpoint=\"{endpoint}\"}} {}", self.sum)?;
        writeln!(text, "{SUMMARY}_count{{endpoint=\"{endpoint}\"}} {}", self.count)
    }
}

/// The nearest rank.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn at_quantile(sorted: &[f64], quantile: f64) -> f64 {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Resident memory of this process; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exported(kind: DurationMetric) -> String {
        let metrics = Metrics::new(kind, false, false);
        for millis in 1..=100 {
            metrics.request("/mcp", 200, Duration::from_millis(millis));
        }
        metrics.error("tool_error", "search");
        let view = View {
            name: "external-api",
            state: State::Open,
            failure_count: 0,
            failure_threshold: 0,
            last_failure_time: None,
            recovery_timeout: 0.0,
            half_open_max_calls: 0,
        };
        let now = Now { pool: None, sessions: Count { open: 3, idle: 2 }, circuit: view };
        metrics.encode(&now).expect("text")
    }

    #[test]
    fn durations_are_exported_under_the_chosen_name() {
        let histogram = exported(DurationMetric::Histogram);
        let bucket = r#"mcp_request_duration_seconds_bucket{le="0.05",endpoint="/mcp"} 50"#;
        assert!(histogram.contains(bucket), "{histogram}");

        let unitless = exported(DurationMetric::UnitlessHistogram);
        assert!(
            unitless.contains(r#"mcp_request_duration_bucket{le="0.05",endpoint="/mcp"} 50"#),
            "{unitless}"
        );

        let summary = exported(DurationMetric::Summary);
        let quantile = r#"mcp_request_duration_seconds{endpoint="/mcp",quantile="0.99"} 0.099"#;
        assert!(summary.contains(quantile), "{summary}");
        assert!(summary.contains(r#"mcp_request_duration_seconds_count{endpoint="/mcp"} 100"#), "{summary}");
        assert!(summary.ends_with("# EOF\n"), "{summary}");
    }

    #[test]
    fn the_names_of_counters_end_in_total() {
        let text = exported(DurationMetric::Histogram);
        assert!(text.contains(r#"mcp_requests_total{endpoint="/mcp",status="200"} 100"#), "{text}");
        assert!(text.contains(r#"mcp_circuit_breaker_state{name="external-api"} 2"#), "{text}");
        assert!(text.contains("mcp_sessions 3\n") && text.contains("mcp_sessions_idle 2\n"), "{text}");
        assert!(text.contains(r#"mcp_errors_total{type="tool_error",tool="search"} 1"#), "{text}");
    }
}
