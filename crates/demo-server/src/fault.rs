//! One fault: what it is called, what can be set of it, and how it is read from the settings.

use std::path::PathBuf;
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact;
use serde::{Deserialize, Serialize};

use crate::settings::{ConfigError, Settings, invalid};

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// The process ends.
    Crash {
        /// With this exit code.
        #[serde(default = "one")]
        exit: u8,
        /// This long from now.
        #[serde(default, with = "compact::required")]
        after: Duration,
        /// With this last line on standard error.
        #[serde(default = "crash_message")]
        message: String,
    },
    /// `/health` answers 503.
    NeverReady,
    /// It takes this long until it listens.
    SlowStart {
        /// How long.
        #[serde(with = "compact::required")]
        delay: Duration,
    },
    /// Memory grows.
    LeakMemory {
        /// MiB a second.
        rate: u32,
        /// MiB at which it stops growing.
        #[serde(default = "gib")]
        cap: u32,
        /// This long from now.
        #[serde(default, with = "compact::required")]
        after: Duration,
    },
    /// Threads compute without a pause.
    BurnCpu {
        /// How many: each keeps one core busy.
        threads: u16,
    },
    /// A file grows.
    FillDisk {
        /// MiB a second.
        rate: u32,
        /// The folder of the file.
        #[serde(default = "temporary")]
        path: PathBuf,
        /// MiB at which it stops growing.
        #[serde(default = "gib")]
        cap: u32,
    },
    /// Every tool call and request takes longer.
    Slow {
        /// By this much.
        #[serde(with = "compact::required")]
        delay: Duration,
    },
    /// Tool calls fail.
    FailTool {
        /// Of this tool; `*` for all.
        #[serde(default = "every_tool")]
        tool: String,
        /// This share of the calls.
        #[serde(default = "hundred")]
        percent: u32,
        /// The error type in metrics and logs.
        #[serde(default = "tool_error")]
        error_type: String,
        /// What the caller and the log are told.
        #[serde(default = "tool_message")]
        message: String,
    },
    /// A tool is not registered: neither listed nor found.
    HideTool {
        /// Which one; `*` for all.
        #[serde(default = "every_tool")]
        tool: String,
    },
    /// Connections are taken from the pool and left idle in a transaction.
    HoldDbConnections {
        /// How many.
        count: u32,
    },
    /// A transaction that locks the table is left idle: whoever needs the table waits.
    LockTable,
    /// Every tool call first runs a statement that takes long in the database.
    SlowQuery {
        /// How long.
        #[serde(with = "compact::required")]
        delay: Duration,
    },
    /// Every tool call first asks the database for single rows, one by one.
    RepeatQuery {
        /// How often.
        count: u32,
    },
    /// `/mcp` accepts requests and does not answer them.
    WedgeMcp,
    /// It listens on 127.0.0.1 only.
    ListenLocalhost,
    /// The circuit opens and does not recover by itself.
    StuckCircuit,
    /// Sessions pile up that nobody speaks in any more.
    LeakSessions {
        /// So many a second.
        rate: u32,
        /// How many at most.
        #[serde(default = "thousand")]
        cap: u32,
    },
    /// The heartbeat stops.
    StopHeartbeat,
    /// Answers at `/mcp` break off.
    DropConnections {
        /// This share of them.
        #[serde(default = "hundred")]
        percent: u32,
    },
    /// Requests to `/mcp` get 500.
    FailRequests {
        /// This share of them.
        #[serde(default = "hundred")]
        percent: u32,
    },
}

fn one() -> u8 {
    1
}
fn hundred() -> u32 {
    100
}
fn thousand() -> u32 {
    1000
}
fn gib() -> u32 {
    1024
}
fn temporary() -> PathBuf {
    PathBuf::from("/tmp")
}
fn every_tool() -> String {
    "*".to_owned()
}
fn tool_error() -> String {
    "tool_error".to_owned()
}
fn tool_message() -> String {
    "the fault fail-tool is on".to_owned()
}
fn crash_message() -> String {
    "fatal: the fault crash is on".to_owned()
}

/// A number of a fault that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Nonsense {
    /// The setting that gives this number at the start.
    setting: &'static str,
    reason: &'static str,
}

impl Fault {
    /// The settings that [`Fault::from_settings`] reads.
    const SETTINGS: [&'static str; 30] = [
        "FAULT_CRASH_EXIT",
        "FAULT_CRASH_AFTER",
        "FAULT_CRASH_MESSAGE",
        "FAULT_NEVER_READY",
        "FAULT_SLOW_START",
        "FAULT_LEAK_MEMORY",
        "FAULT_LEAK_MEMORY_CAP",
        "FAULT_LEAK_MEMORY_AFTER",
        "FAULT_BURN_CPU",
        "FAULT_FILL_DISK",
        "FAULT_FILL_DISK_PATH",
        "FAULT_FILL_DISK_CAP",
        "FAULT_SLOW",
        "FAULT_FAIL_TOOL",
        "FAULT_FAIL_TOOL_PERCENT",
        "FAULT_FAIL_TOOL_ERROR_TYPE",
        "FAULT_FAIL_TOOL_MESSAGE",
        "FAULT_HIDE_TOOL",
        "FAULT_HOLD_DB_CONNECTIONS",
        "FAULT_LOCK_TABLE",
        "FAULT_SLOW_QUERY",
        "FAULT_REPEAT_QUERY",
        "FAULT_WEDGE_MCP",
        "FAULT_LISTEN_LOCALHOST",
        "FAULT_STUCK_CIRCUIT",
        "FAULT_LEAK_SESSIONS",
        "FAULT_LEAK_SESSIONS_CAP",
        "FAULT_STOP_HEARTBEAT",
        "FAULT_DROP_CONNECTIONS",
        "FAULT_FAIL_REQUESTS",
    ];

    /// The faults that the settings switch on.
    pub fn from_settings(settings: &Settings) -> Result<Vec<Self>, ConfigError> {
        if let Some(name) = settings.names_with("FAULT_").find(|name| !Self::SETTINGS.contains(name)) {
            return Err(ConfigError::UnknownFault(name.to_owned()));
        }
        let text =
            |name: &str, default: fn() -> String| settings.get(name).map_or_else(default, str::to_owned);
        let mut faults = Vec::new();

        faults.extend(Self::crash(settings)?);
        if let Some(delay) = settings.duration("FAULT_SLOW_START")? {
            faults.push(Self::SlowStart { delay });
        }
        if let Some(rate) = settings.parse("FAULT_LEAK_MEMORY")? {
            let cap = settings.parse("FAULT_LEAK_MEMORY_CAP")?.unwrap_or_else(gib);
            let after = settings.duration("FAULT_LEAK_MEMORY_AFTER")?.unwrap_or_default();
            faults.push(Self::LeakMemory { rate, cap, after });
        }
        if let Some(threads) = settings.parse("FAULT_BURN_CPU")? {
            faults.push(Self::BurnCpu { threads });
        }
        if let Some(rate) = settings.parse("FAULT_FILL_DISK")? {
            let path = settings.get("FAULT_FILL_DISK_PATH").map_or_else(temporary, PathBuf::from);
            let cap = settings.parse("FAULT_FILL_DISK_CAP")?.unwrap_or_else(gib);
            faults.push(Self::FillDisk { rate, path, cap });
        }
        if let Some(delay) = settings.duration("FAULT_SLOW")? {
            faults.push(Self::Slow { delay });
        }
        if let Some(tool) = settings.get("FAULT_FAIL_TOOL") {
            faults.push(Self::FailTool {
                tool: tool.to_owned(),
                percent: settings.parse("FAULT_FAIL_TOOL_PERCENT")?.unwrap_or_else(hundred),
                error_type: text("FAULT_FAIL_TOOL_ERROR_TYPE", tool_error),
                message: text("FAULT_FAIL_TOOL_MESSAGE", tool_message),
            });
        }
        if let Some(tool) = settings.get("FAULT_HIDE_TOOL") {
            faults.push(Self::HideTool { tool: tool.to_owned() });
        }
        if let Some(count) = settings.parse("FAULT_HOLD_DB_CONNECTIONS")? {
            faults.push(Self::HoldDbConnections { count });
        }
        if let Some(delay) = settings.duration("FAULT_SLOW_QUERY")? {
            faults.push(Self::SlowQuery { delay });
        }
        if let Some(count) = settings.parse("FAULT_REPEAT_QUERY")? {
            faults.push(Self::RepeatQuery { count });
        }
        if let Some(rate) = settings.parse("FAULT_LEAK_SESSIONS")? {
            let cap = settings.parse("FAULT_LEAK_SESSIONS_CAP")?.unwrap_or_else(thousand);
            faults.push(Self::LeakSessions { rate, cap });
        }
        if let Some(percent) = settings.parse("FAULT_DROP_CONNECTIONS")? {
            faults.push(Self::DropConnections { percent });
        }
        if let Some(percent) = settings.parse("FAULT_FAIL_REQUESTS")? {
            faults.push(Self::FailRequests { percent });
        }
        faults.extend(Self::switches(settings)?);
        for fault in &faults {
            fault.check().map_err(|error| invalid(error.setting, error.reason))?;
        }
        Ok(faults)
    }

    /// The crash, which two settings switch on.
    fn crash(settings: &Settings) -> Result<Option<Self>, ConfigError> {
        let exit = settings.parse("FAULT_CRASH_EXIT")?;
        let after = settings.duration("FAULT_CRASH_AFTER")?;
        let message = settings.get("FAULT_CRASH_MESSAGE").map_or_else(crash_message, str::to_owned);
        Ok((exit.is_some() || after.is_some()).then(|| Self::Crash {
            exit: exit.unwrap_or_else(one),
            after: after.unwrap_or_default(),
            message,
        }))
    }

    /// Those of which nothing can be set but that they are on.
    fn switches(settings: &Settings) -> Result<Vec<Self>, ConfigError> {
        let mut faults = Vec::new();
        for (name, fault) in [
            ("FAULT_NEVER_READY", Self::NeverReady),
            ("FAULT_LOCK_TABLE", Self::LockTable),
            ("FAULT_WEDGE_MCP", Self::WedgeMcp),
            ("FAULT_LISTEN_LOCALHOST", Self::ListenLocalhost),
            ("FAULT_STUCK_CIRCUIT", Self::StuckCircuit),
            ("FAULT_STOP_HEARTBEAT", Self::StopHeartbeat),
        ] {
            if settings.flag(name)? {
                faults.push(fault);
            }
        }
        Ok(faults)
    }

    /// The name it is listed and cleared under.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::NeverReady => "never-ready",
            Self::SlowStart { .. } => "slow-start",
            Self::LeakMemory { .. } => "leak-memory",
            Self::BurnCpu { .. } => "burn-cpu",
            Self::FillDisk { .. } => "fill-disk",
            Self::Slow { .. } => "slow",
            Self::FailTool { .. } => "fail-tool",
            Self::HideTool { .. } => "hide-tool",
            Self::HoldDbConnections { .. } => "hold-db-connections",
            Self::LockTable => "lock-table",
            Self::SlowQuery { .. } => "slow-query",
            Self::RepeatQuery { .. } => "repeat-query",
            Self::WedgeMcp => "wedge-mcp",
            Self::ListenLocalhost => "listen-localhost",
            Self::StuckCircuit => "stuck-circuit",
            Self::LeakSessions { .. } => "leak-sessions",
            Self::StopHeartbeat => "stop-heartbeat",
            Self::DropConnections { .. } => "drop-connections",
            Self::FailRequests { .. } => "fail-requests",
        }
    }

    /// Whether it shows in a database only.
    pub fn needs_database(&self) -> bool {
        matches!(
            self,
            Self::HoldDbConnections { .. }
                | Self::LockTable
                | Self::SlowQuery { .. }
                | Self::RepeatQuery { .. }
        )
    }

    /// An error where one of its numbers makes no sense.
    pub fn check(&self) -> Result<(), Nonsense> {
        let (setting, reason) = match self {
            Self::LeakMemory { rate: 0, .. } => {
                ("FAULT_LEAK_MEMORY", "the rate of leak-memory must be at least 1")
            }
            Self::BurnCpu { threads: 0 } => ("FAULT_BURN_CPU", "the threads of burn-cpu must be at least 1"),
            Self::FillDisk { rate: 0, .. } => ("FAULT_FILL_DISK", "the rate of fill-disk must be at least 1"),
            Self::FailTool { percent, .. } if !(1..=100).contains(percent) => {
                ("FAULT_FAIL_TOOL_PERCENT", "the percent of fail-tool must be 1 to 100")
            }
            Self::LeakSessions { rate: 0, .. } => {
                ("FAULT_LEAK_SESSIONS", "the rate of leak-sessions must be at least 1")
            }
            Self::DropConnections { percent } if !(1..=100).contains(percent) => {
                ("FAULT_DROP_CONNECTIONS", "the percent of drop-connections must be 1 to 100")
            }
            Self::FailRequests { percent } if !(1..=100).contains(percent) => {
                ("FAULT_FAIL_REQUESTS", "the percent of fail-requests must be 1 to 100")
            }
            _ => return Ok(()),
        };
        Err(Nonsense { setting, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_as_it_is_listed() {
        let json = r#"{"fault":"slow","delay":"1s 500ms"}"#;
        let fault: Fault = serde_json::from_str(json).expect("a fault");
        assert_eq!(fault, Fault::Slow { delay: Duration::from_millis(1500) });
        assert_eq!(serde_json::to_string(&fault).expect("JSON"), json);
        assert!(serde_json::from_str::<Fault>(r#"{"fault":"slow","dellay":"1s"}"#).is_err());
    }
}
