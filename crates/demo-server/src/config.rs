//! What can be set, checked.

use std::net::IpAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use crate::fault::Fault;
use crate::settings::{ConfigError, Settings, invalid};

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// `2025-01-01T12:00:00.123 LEVEL [module] message`.
    Plain,
}

/// Under which name and type request durations are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationMetric {
    /// `mcp_request_duration_seconds_bucket`.
    Histogram,
    /// `mcp_request_duration_seconds{quantile="0.99"}`.
    Summary,
    /// `mcp_request_duration_bucket`: a histogram without a unit in its name.
    UnitlessHistogram,
}

/// Where Postgres is and how many connections to it may be open.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// Address, user, password, database.
    pub postgres: tokio_postgres::Config,
    /// Connections kept open.
    pub pool_size: usize,
    /// Connections opened beyond that under load, and closed after use.
    pub max_overflow: usize,
    /// How long a call may take, the wait for a connection included.
    pub timeout: Duration,
}

/// When the circuit opens and how it closes again.
#[derive(Clone, Copy, Debug)]
pub struct CircuitConfig {
    /// Failures in a row that open it.
    pub failure_threshold: u32,
    /// How long it stays open after its last failure.
    pub recovery_timeout: Duration,
    /// Trial calls that must succeed before it closes.
    pub half_open_max_calls: u32,
}

/// Everything that can be set, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// `MCP_BIND`: the address to listen on.
    pub bind: IpAddr,
    /// `MCP_PORT`: the port to listen on; 0 takes a free one.
    pub port: u16,
    /// `MCP_ALLOWED_HOSTS`: accepted `Host` headers; empty accepts any.
    pub allowed_hosts: Vec<String>,
    /// `MCP_ADMIN`: whether faults can be switched and hooks called over HTTP.
    pub admin: bool,
    /// `MCP_STATE_FILE`: where the hooks save assignments to and restore them from.
    pub state_file: Option<PathBuf>,
    /// `MCP_DRAIN`: how long requests under way may take to finish on shutdown.
    pub drain: Duration,
    /// `MCP_WORKERS`: threads.
    pub workers: usize,
    /// `MCP_LOG_FORMAT`.
    pub log_format: LogFormat,
    /// `MCP_LOG_LEVEL`.
    pub log_level: tracing::Level,
    /// `MCP_DURATION_METRIC`.
    pub duration_metric: DurationMetric,
    /// `DATABASE_URL` and the settings of its pool; without it the store is in memory.
    pub database: Option<DatabaseConfig>,
    /// `EXTERNAL_API_URL`: what the `search` tool asks in addition.
    pub external_api: Option<String>,
    /// `MCP_CACHE_TTL`: how long its answers are kept; without it they are not.
    pub cache_ttl: Option<Duration>,
    /// The circuit that guards it.
    pub circuit: CircuitConfig,
    /// `MCP_HEARTBEAT_INTERVAL`.
    pub heartbeat: Duration,
    /// `MCP_RATE_LIMIT`: requests a minute that each client may send; without it, any number.
    pub rate_limit: Option<u32>,
    /// `MCP_MAX_CONCURRENT_CALLS`: calls of tools that run at once, the others wait; without it, any number.
    pub max_concurrent_calls: Option<NonZero<usize>>,
    /// Faults that are on from the start.
    pub faults: Vec<Fault>,
}

impl Config {
    /// Checks the settings.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        for name in list(settings.get("MCP_REQUIRE").unwrap_or_default()) {
            if settings.get(&name).is_none() {
                return Err(ConfigError::Missing(name));
            }
        }
        let external_api = settings.get("EXTERNAL_API_URL").map(str::to_owned);
        if external_api.as_deref().is_some_and(|url| !url.starts_with("http://")) {
            return Err(invalid("EXTERNAL_API_URL", "only http:// is supported"));
        }
        Ok(Self {
            bind: settings.parse("MCP_BIND")?.unwrap_or(IpAddr::from([0, 0, 0, 0])),
            port: settings.parse("MCP_PORT")?.unwrap_or(8000),
            allowed_hosts: match settings.get("MCP_ALLOWED_HOSTS") {
                None | Some("*") => Vec::new(),
                Some(hosts) => list(hosts).collect(),
            },
            admin: settings.flag("MCP_ADMIN")?,
            state_file: settings.get("MCP_STATE_FILE").map(PathBuf::from),
            drain: settings.duration("MCP_DRAIN")?.unwrap_or(Duration::from_secs(5)),
            workers: settings.parse("MCP_WORKERS")?.unwrap_or(2).clamp(1, 64),
            log_format: match settings.get("MCP_LOG_FORMAT") {
                None | Some("json") => LogFormat::Json,
                Some("plain") => LogFormat::Plain,
                Some(_) => return Err(invalid("MCP_LOG_FORMAT", "expected json or plain")),
            },
            log_level: log_level(settings)?,
            duration_metric: match settings.get("MCP_DURATION_METRIC") {
                None | Some("histogram") => DurationMetric::Histogram,
                Some("summary") => DurationMetric::Summary,
                Some("mcp_request_duration") => DurationMetric::UnitlessHistogram,
                Some(_) => {
                    let reason = "expected histogram, summary or mcp_request_duration";
                    return Err(invalid("MCP_DURATION_METRIC", reason));
                }
            },
            database: database(settings)?,
            external_api,
            cache_ttl: settings.duration("MCP_CACHE_TTL")?,
            heartbeat: match settings.duration("MCP_HEARTBEAT_INTERVAL")? {
                None => Duration::from_secs(15),
                Some(Duration::ZERO) => {
                    return Err(invalid("MCP_HEARTBEAT_INTERVAL", "expected more than 0s"));
                }
                Some(interval) => interval,
            },
            rate_limit: settings.parse("MCP_RATE_LIMIT")?,
            max_concurrent_calls: settings.parse("MCP_MAX_CONCURRENT_CALLS")?,
            circuit: CircuitConfig {
                failure_threshold: settings.parse("CIRCUIT_FAILURE_THRESHOLD")?.unwrap_or(5).max(1),
                recovery_timeout: seconds(settings, "CIRCUIT_RECOVERY_TIMEOUT", 30)?,
                half_open_max_calls: settings.parse("CIRCUIT_HALF_OPEN_MAX_CALLS")?.unwrap_or(3).max(1),
            },
            faults: Fault::from_settings(settings)?,
        })
    }
}

fn database(settings: &Settings) -> Result<Option<DatabaseConfig>, ConfigError> {
    let Some(mut postgres) = settings.parse::<tokio_postgres::Config>("DATABASE_URL")? else {
        return Ok(None);
    };
    if postgres.get_hosts().is_empty() {
        return Err(invalid("DATABASE_URL", "it names no host"));
    }
    if postgres.get_application_name().is_none() {
        postgres.application_name(settings.get("DB_APPLICATION_NAME").unwrap_or("mcp-server"));
    }
    if postgres.get_connect_timeout().is_none() {
        postgres.connect_timeout(Duration::from_secs(5));
    }
    Ok(Some(DatabaseConfig {
        postgres,
        pool_size: settings.parse("DB_POOL_SIZE")?.unwrap_or(10).max(1),
        max_overflow: settings.parse("DB_POOL_MAX_OVERFLOW")?.unwrap_or(0),
        timeout: seconds(settings, "DB_POOL_TIMEOUT", 30)?,
    }))
}

fn seconds(settings: &Settings, name: &str, default: u64) -> Result<Duration, ConfigError> {
    Ok(Duration::from_secs(settings.parse(name)?.unwrap_or(default)))
}

fn log_level(settings: &Settings) -> Result<tracing::Level, ConfigError> {
    match settings.get("MCP_LOG_LEVEL").map(str::to_ascii_uppercase).as_deref() {
        Some("TRACE") => Ok(tracing::Level::TRACE),
        Some("DEBUG") => Ok(tracing::Level::DEBUG),
        None | Some("INFO") => Ok(tracing::Level::INFO),
        Some("WARN" | "WARNING") => Ok(tracing::Level::WARN),
        Some("ERROR" | "CRITICAL") => Ok(tracing::Level::ERROR),
        Some(_) => Err(invalid("MCP_LOG_LEVEL", "expected DEBUG, INFO, WARNING or ERROR")),
    }
}

fn list(names: &str) -> impl Iterator<Item = String> {
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(values: &[(&str, &str)]) -> Settings {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::load(values).expect("settings without a file always load")
    }

    #[test]
    fn the_defaults_listen_everywhere_on_port_8000_and_accept_any_host() {
        let config = Config::from_settings(&settings(&[])).expect("defaults");
        assert_eq!((config.bind.to_string().as_str(), config.port), ("0.0.0.0", 8000));
        assert!(config.allowed_hosts.is_empty() && config.faults.is_empty() && !config.admin);
    }

    #[test]
    fn an_empty_value_counts_as_not_set() {
        let error = Config::from_settings(&settings(&[("MCP_REQUIRE", "A, B"), ("A", "1"), ("B", "")]));
        let error = error.expect_err("B is required").to_string();
        assert_eq!(error, "configuration error: required setting B is not set");
    }

    #[test]
    fn a_bad_value_is_named_but_not_shown() {
        let error = Config::from_settings(&settings(&[("DATABASE_URL", "postgres://u:hunter2@h:x/d")]));
        let error = error.expect_err("the port is not a number").to_string();
        assert!(error.starts_with("configuration error: DATABASE_URL is not valid"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), r#"{"MCP_PORT": 9000, "MCP_ADMIN": true, "MCP_BIND": null}"#)
            .expect("written");
        let path = file.path().to_str().expect("a plain path");
        let config = Config::from_settings(&settings(&[("MCP_CONFIG", path), ("MCP_PORT", "9001")]));
        let config = config.expect("valid");
        assert_eq!((config.port, config.admin), (9001, true));
    }

    #[test]
    fn a_misspelt_fault_is_refused() {
        let error = Config::from_settings(&settings(&[("FAULT_SLOWW", "1s")])).expect_err("unknown");
        assert_eq!(error.to_string(), "configuration error: unknown fault setting FAULT_SLOWW");
    }
}
