//! `spec.signals`: what is asked of the server and about it, beside what Kubernetes tells. Everything has a default;
//! paths, ports and names are settings, nothing is hard-wired.

use std::fmt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// What is asked of the server and about it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!has(self.dependencies) || !self.dependencies.exists(one, (one.name == 'postgres' && has(self.postgres)) || (one.name == 'redis' && has(self.redis)))").message("dependencies: postgres and redis are the names of signals.postgres and signals.redis"))]
#[serde(rename_all = "camelCase")]
pub struct SignalsSpec {
    /// How the server is asked whether it speaks MCP. Asked by default; where nothing of this is said and it never
    /// answered, that is no news.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp: Option<McpSignal>,
    /// Its own words on how it is, over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSignal>,
    /// Its metrics, from Prometheus; where the operator has none, from the pods themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusSignal>,
    /// Its metrics, from `GET /metrics` of each pod, where there is no Prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape: Option<ScrapeSignal>,
    /// Alerts about it that others have found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alertmanager: Option<AlertmanagerSignal>,
    /// Its PostgreSQL database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresSignal>,
    /// Its Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisSignal>,
    /// What else it depends on. A circuit breaker of the same name guards it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub dependencies: Vec<DependencySpec>,
}

/// How the server is asked whether it speaks MCP.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct McpSignal {
    /// False: it is not asked.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The path of its endpoint. Default `/mcp`; for the HTTP+SSE transport, that of the stream, as `/sse`.
    #[serde(default = "McpSignal::default_path")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("path: begins with a slash"))]
    pub path: String,
    /// The port of the pods. Default: the first port of the server's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535), extend("format" = "int32"))]
    pub port: Option<u16>,
    /// How MCP is carried. `Auto` finds out.
    #[serde(default)]
    pub transport: McpTransport,
    /// The pause between two questions. Default 15s.
    #[serde(default = "McpSignal::default_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')").message("interval: 1s to 1h"))]
    pub interval: Duration,
    /// How long an answer may take. Default 5s.
    #[serde(default = "McpSignal::default_timeout")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s') && duration(self) <= duration('30s')").message("timeout: at most 30s"))]
    pub timeout: Duration,
    /// Tools that the server must offer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub expect_tools: Vec<ToolName>,
    /// What it wants to see of whoever asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<McpAuth>,
    /// A tool that may be called to see whether tools work. Without it, none is ever called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_tool: Option<CanaryTool>,
}

const fn yes() -> bool {
    true
}

impl McpSignal {
    fn default_path() -> String {
        "/mcp".to_owned()
    }

    const fn default_interval() -> Duration {
        Duration::from_secs(15)
    }

    const fn default_timeout() -> Duration {
        Duration::from_secs(5)
    }
}

impl Default for McpSignal {
    fn default() -> Self {
        Self {
            enabled: true,
            path: Self::default_path(),
            port: None,
            transport: McpTransport::default(),
            interval: Self::default_interval(),
            timeout: Self::default_timeout(),
            expect_tools: Vec::new(),
            auth: None,
            canary_tool: None,
        }
    }
}

/// How MCP is carried.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum McpTransport {
    /// Found out.
    #[default]
    Auto,
    /// Streamable HTTP.
    StreamableHTTP,
    /// HTTP with server-sent events, as before 2025.
    SSE,
    /// WebSocket.
    WebSocket,
}

/// Name of an MCP tool.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
pub struct ToolName(#[schemars(length(min = 1, max = 128))] pub String);

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the server wants to see of whoever asks.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct McpAuth {
    /// A Secret in the object's namespace that holds the bearer token.
    pub token_secret_ref: SecretKeyRef,
}

/// A key of a Secret in the object's namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A tool that may be called to see whether tools work: one without effects.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CanaryTool {
    /// Its name.
    pub name: ToolName,
    /// Its arguments, as a JSON object. Default `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    #[x_kube(validation = Rule::new("self.startsWith('{') && self.endsWith('}')").message("arguments: a JSON object, as '{\"query\": \"health\"}'"))]
    pub arguments: Option<String>,
}

/// The server's own words on how it is, over HTTP.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpSignal {
    /// False: it is not asked.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The path that tells its health. Default `/health`.
    #[serde(default = "HttpSignal::default_health")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("health: begins with a slash"))]
    pub health: String,
    /// The path that lists its circuit breakers. Default `/circuit-breakers`.
    #[serde(default = "HttpSignal::default_circuit_breakers")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("circuitBreakers: begins with a slash"))]
    pub circuit_breakers: String,
    /// The port of the pods. Default: the first port of the server's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535), extend("format" = "int32"))]
    pub port: Option<u16>,
    /// The pause between two questions. Default 15s.
    #[serde(default = "McpSignal::default_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')").message("interval: 1s to 1h"))]
    pub interval: Duration,
    /// How long an answer may take. Default 5s.
    #[serde(default = "McpSignal::default_timeout")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s') && duration(self) <= duration('30s')").message("timeout: at most 30s"))]
    pub timeout: Duration,
}

impl HttpSignal {
    fn default_health() -> String {
        "/health".to_owned()
    }

    fn default_circuit_breakers() -> String {
        "/circuit-breakers".to_owned()
    }
}

impl Default for HttpSignal {
    fn default() -> Self {
        Self {
            enabled: true,
            health: Self::default_health(),
            circuit_breakers: Self::default_circuit_breakers(),
            port: None,
            interval: McpSignal::default_interval(),
            timeout: McpSignal::default_timeout(),
        }
    }
}

/// Its metrics, from Prometheus.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusSignal {
    /// False: Prometheus is not asked for it.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The Prometheus server, as `http://prometheus.monitoring:9090`. Default: the operator's own. Another one must be
    /// on the operator's allow-list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.startsWith('http://') || self.startsWith('https://')").message("url: begins with http:// or https://"))]
    pub url: Option<String>,
    /// How far back rates look. Default 5m. Rules that look back wait as long after an action.
    #[serde(default = "PrometheusSignal::default_window")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('1h')").message("window: 1m to 1h"))]
    pub window: Duration,
    /// Names of metrics that are called otherwise than by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 48), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["measure"]))]
    pub metrics: Vec<MetricName>,
    /// Names of labels that are called otherwise than by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["label"]))]
    pub labels: Vec<LabelName>,
    /// Labels that tell the replicas of a highly available Prometheus apart: series that differ only in these are one, and
    /// the freshest counts. Default: replica, prometheus_replica, prometheus, __replica__. Empty where such a label is the
    /// server's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 8),
        inner(length(min = 1, max = 128), regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub replica_labels: Option<Vec<String>>,
    /// The unit of `mcp_request_duration`, which does not say it. Default: seconds.
    #[serde(default)]
    pub duration_unit: DurationUnit,
    /// Queries of one's own in place of built-in ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 48), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["measure"]))]
    pub queries: Vec<OwnQuery>,
}

impl PrometheusSignal {
    const fn default_window() -> Duration {
        Duration::from_mins(5)
    }
}

impl Default for PrometheusSignal {
    fn default() -> Self {
        Self {
            enabled: true,
            url: None,
            window: Self::default_window(),
            metrics: Vec::new(),
            labels: Vec::new(),
            replica_labels: None,
            duration_unit: DurationUnit::default(),
            queries: Vec::new(),
        }
    }
}

/// The unit of a duration.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum DurationUnit {
    /// Seconds, as Prometheus has it.
    #[default]
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// What a metric is called here.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct MetricName {
    /// What is measured.
    pub measure: Measure,
    /// The metric's name.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    pub name: String,
}

/// What a label is called here.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct LabelName {
    /// What it tells.
    pub label: Label,
    /// The label's name.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub name: String,
}

/// A query of one's own in place of a built-in one. What it answers is this server's where its labels say so
/// (namespace with pod, service or deployment), and where it has none of them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct OwnQuery {
    /// What it measures: counters as a rate a second.
    pub measure: Measure,
    /// The query.
    #[schemars(length(min = 1, max = 2048))]
    pub promql: String,
}

/// What is measured. `crates/core/src/metrics/measures.rs` has the default name, kind and labels of each.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Requests, by endpoint and status (guide 000).
    Requests,
    /// Failed requests and tool calls, by type and tool (guide 004).
    Errors,
    /// Requests by duration, as a histogram in seconds.
    DurationBucket,
    /// The same, of the histogram that does not tell its unit (guide 004).
    UnitlessDurationBucket,
    /// The duration of requests, as a summary (guide 000).
    DurationQuantile,
    /// The sum of the durations of requests, by endpoint (guide 000).
    DurationSum,
    /// The number of requests whose durations were summed, by endpoint.
    DurationCount,
    /// Calls of tools, by tool.
    ToolCalls,
    /// Connections that the database pool may open (guide 000).
    DatabasePoolSize,
    /// Connections of the database pool in use.
    DatabasePoolInUse,
    /// Callers that wait for a database connection.
    DatabasePoolWaiters,
    /// Look-ups in the cache that found something.
    CacheHits,
    /// Look-ups in the cache that found nothing.
    CacheMisses,
    /// Sessions that are open.
    Sessions,
    /// Sessions without a message for an hour.
    IdleSessions,
    /// When the heartbeat was sent last, in seconds since 1970.
    HeartbeatTime,
    /// The time between two heartbeats, in seconds.
    HeartbeatInterval,
    /// Connections of clients that broke off.
    ConnectionDrops,
    /// Requests turned away because their client sent too many, by client.
    RateLimited,
    /// Messages that are no valid MCP, by code.
    InvalidMessages,
    /// Circuit breakers, by name: 0 closed, 1 half-open, 2 open.
    CircuitState,
    /// Periods in which a container could use the CPU, by container.
    CpuPeriods,
    /// Those of them in which it was throttled, by container.
    CpuThrottledPeriods,
    /// CPU that a container used, in seconds, by container.
    CpuSeconds,
    /// The working set of a container, in bytes, by container.
    WorkingSet,
    /// Bytes of memory that a container uses beside its page cache, by container.
    ResidentSet,
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a label tells.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// The namespace of the pod.
    Namespace,
    /// The pod's name.
    Pod,
    /// The container's name.
    Container,
    /// The Service's name.
    Service,
    /// The Deployment's name.
    Deployment,
    /// The address that was scraped.
    Instance,
    /// The server's endpoint.
    Endpoint,
    /// The HTTP status.
    Status,
    /// The MCP tool.
    Tool,
    /// The type of an error.
    Type,
    /// The code of an error.
    Code,
    /// The client.
    Client,
    /// The name of a part, as a circuit's.
    Name,
    /// The quantile of a summary.
    Quantile,
    /// The upper bound of a bucket.
    Bound,
}

/// Its metrics, from each pod.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ScrapeSignal {
    /// False: pods are not asked.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The path. Default `/metrics`.
    #[serde(default = "ScrapeSignal::default_path")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("path: begins with a slash"))]
    pub path: String,
    /// The port of the pods. Default: the first port of the server's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535), extend("format" = "int32"))]
    pub port: Option<u16>,
}

impl ScrapeSignal {
    fn default_path() -> String {
        "/metrics".to_owned()
    }
}

impl Default for ScrapeSignal {
    fn default() -> Self {
        Self { enabled: true, path: Self::default_path(), port: None }
    }
}

/// Alerts about it that others have found, from the operator's Alertmanager.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AlertmanagerSignal {
    /// False: no alert is looked at.
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl Default for AlertmanagerSignal {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Its PostgreSQL database. Its address must be on the operator's allow-list. The role that the operator comes as needs
/// `pg_monitor`, and `pg_signal_backend` where sessions may be ended.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PostgresSignal {
    /// A Secret in the object's namespace that holds the URL, as `postgres://mcp_health:…@postgres.mcp:5432/mcp_prod`.
    pub connection_secret_ref: SecretKeyRef,
    /// What the server's own sessions call themselves. Default `mcp-server`. Only those are ever ended.
    #[serde(default = "PostgresSignal::default_application_name")]
    #[schemars(length(min = 1, max = 63))]
    pub application_name: String,
    /// A Secret in the object's namespace that holds the certificate authorities to trust, as PEM. Default: the
    /// operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// The pause between two looks. Default 15s.
    #[serde(default = "McpSignal::default_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')").message("interval: 1s to 1h"))]
    pub interval: Duration,
    /// How long one answer may take. Default 5s.
    #[serde(default = "McpSignal::default_timeout")]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s') && duration(self) <= duration('30s')").message("timeout: at most 30s"))]
    pub timeout: Duration,
}

impl PostgresSignal {
    /// The name that dependencies and circuit breakers know it by.
    pub const NAME: &str = "postgres";

    fn default_application_name() -> String {
        "mcp-server".to_owned()
    }
}

/// Its Redis. Its address must be on the operator's allow-list.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RedisSignal {
    /// A Secret in the object's namespace that holds the URL, as `redis://:…@redis.mcp:6379/0`, with `rediss` for TLS.
    pub connection_secret_ref: SecretKeyRef,
    /// A Secret in the object's namespace that holds the certificate authorities to trust, as PEM. Default: the
    /// operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}

impl RedisSignal {
    /// The name that dependencies and circuit breakers know it by.
    pub const NAME: &str = "redis";
}

/// Something that the server depends on. Its endpoint must be on the operator's allow-list.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("[has(self.http), has(self.tcp), has(self.tls), has(self.dns), has(self.rabbitmq), has(self.s3), has(self.oidc)].exists_one(x, x)").message("a dependency names exactly one of http, tcp, tls, dns, rabbitmq, s3 and oidc"))]
#[serde(rename_all = "camelCase")]
pub struct DependencySpec {
    /// Its name: that of the circuit breaker that guards it, where there is one.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// It answers `GET` with 2xx or 3xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpDependency>,
    /// It takes connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpDependency>,
    /// It takes TLS connections, by a certificate that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsDependency>,
    /// A name that resolves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsDependency>,
    /// A RabbitMQ broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rabbitmq: Option<RabbitMqDependency>,
    /// A bucket of an object store that speaks S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Dependency>,
    /// An OpenID Connect issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcDependency>,
}

/// Something that takes TLS connections, by a certificate that holds.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TlsDependency {
    /// Host and port, as `api.example.com:443`.
    #[schemars(length(min = 3, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^.+:[0-9]+$')").message("address: host and port, as api.example.com:443"))]
    pub address: String,
    /// The name that its certificate is for. Default: the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub server_name: Option<String>,
    /// A Secret in the object's namespace that holds the certificate authorities to trust, as PEM. Default: the
    /// operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}

/// A name that resolves.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DnsDependency {
    /// The name, as `postgres.mcp.svc.cluster.local`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The addresses that it may resolve to; any, where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub addresses: Vec<IpAddress>,
}

/// An IP address, as `10.0.0.7`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
pub struct IpAddress(#[schemars(length(min = 2, max = 45), regex(pattern = "^[0-9a-fA-F:.]+$"))] pub String);

/// A RabbitMQ broker.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!has(self.queues) || has(self.managementUrl)").message("queues: their depth and consumers are told by the management API: name managementUrl"))]
#[serde(rename_all = "camelCase")]
pub struct RabbitMqDependency {
    /// A Secret in the object's namespace that holds the URL, as `amqp://mcp:…@rabbitmq.mcp:5672/%2f`, with `amqps` for
    /// TLS.
    pub connection_secret_ref: SecretKeyRef,
    /// The management API, as `http://rabbitmq.mcp:15672`; asked with the same user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.startsWith('http://') || self.startsWith('https://')").message("managementUrl: begins with http:// or https://"))]
    pub management_url: Option<String>,
    /// The queues that are looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub queues: Vec<QueueSpec>,
    /// A Secret in the object's namespace that holds the certificate authorities to trust, as PEM. Default: the
    /// operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}

/// A queue, and what is expected of it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct QueueSpec {
    /// Its name.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// The most messages that wait in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("format" = "int64"))]
    pub max_messages: Option<i64>,
    /// The fewest consumers that it has. For a queue that others take from: while one is missing, this server's pods
    /// are not restarted, though they may be the consumers that are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("format" = "int64"))]
    pub min_consumers: Option<i64>,
}

/// A bucket of an object store that speaks S3.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct S3Dependency {
    /// The store, as `https://s3.eu-central-1.amazonaws.com`.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.startsWith('http://') || self.startsWith('https://')").message("endpoint: begins with http:// or https://"))]
    pub endpoint: String,
    /// The bucket, as `mcp-storage`.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// The region. Default `us-east-1`.
    #[serde(default = "S3Dependency::default_region")]
    #[schemars(length(min = 1, max = 63))]
    pub region: String,
    /// The bucket's name is part of the host name, not of the path.
    #[serde(default)]
    pub virtual_hosts: bool,
    /// A Secret in the object's namespace that holds the access key's id.
    pub access_key_secret_ref: SecretKeyRef,
    /// A Secret in the object's namespace that holds the secret key.
    pub secret_key_secret_ref: SecretKeyRef,
    /// A Secret in the object's namespace that holds the certificate authorities to trust, as PEM. Default: the
    /// operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}

impl S3Dependency {
    fn default_region() -> String {
        "us-east-1".to_owned()
    }
}

/// An OpenID Connect issuer.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OidcDependency {
    /// The issuer, as `https://login.example.com/realms/mcp`.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.startsWith('http://') || self.startsWith('https://')").message("issuer: begins with http:// or https://"))]
    pub issuer: String,
    /// A Secret in the object's namespace that holds the certificate authorities to trust, as PEM. Default: the
    /// operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}

/// Something that answers `GET` with 2xx or 3xx.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpDependency {
    /// What is asked, as `http://external-api.mcp:8080/health`.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.startsWith('http://') || self.startsWith('https://')").message("url: begins with http:// or https://"))]
    pub url: String,
    /// A Secret in the object's namespace that holds the certificate authorities to trust, as PEM. Default: the
    /// operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}

/// Something that takes connections.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct TcpDependency {
    /// Host and port, as `redis.mcp:6379`.
    #[schemars(length(min = 3, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^.+:[0-9]+$')").message("address: host and port, as redis.mcp:6379"))]
    pub address: String,
}

/// An incident of one's own.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("[has(self.above), has(self.below)].exists_one(x, x)").message("a rule names exactly one of above and below"))]
#[serde(rename_all = "camelCase")]
pub struct UserRule {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z][A-Za-z0-9]*$"))]
    pub name: String,
    /// The query. Of what it answers, that is this server's whose labels say so (namespace with pod, service or
    /// deployment), and what has none of them.
    #[schemars(length(min = 1, max = 2048))]
    pub promql: String,
    /// It is an incident where a value is above this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<Decimal>,
    /// It is an incident where a value is below this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<Decimal>,
    /// How long it lasts before it is an incident. Default: at once.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('24h')").message("for: at most 24h"))]
    pub hold_for: Option<Duration>,
    /// How bad it is. Default SEV3.
    #[serde(default = "UserRule::default_severity")]
    pub severity: crate::Severity,
    /// The ladder of steps, tried in this order. A person comes after the last, and at once where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub runbook: Vec<crate::RunbookStep>,
}

impl UserRule {
    const fn default_severity() -> crate::Severity {
        crate::Severity::SEV3
    }
}

/// A decimal number, as a string: `"100"`, `"0.05"`, `"-1"`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
pub struct Decimal(
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^-?[0-9]+(\.[0-9]+)?$"))] pub String,
);

impl Decimal {
    /// Its value. What admission let through is a number.
    pub fn value(&self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }
}
