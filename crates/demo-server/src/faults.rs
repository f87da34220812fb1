//! Faults that can be switched on at the start, and most of them while running.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::circuit::Circuit;
use crate::fault::{Fault, Nonsense};
use crate::fault_tasks;
use crate::sessions::Sessions;
use crate::store::Store;

/// A transaction that is begun, and then forgotten.
const FORGOTTEN: &str = "BEGIN; SELECT 1";
/// One that nobody else gets by.
const LOCKED: &str = "BEGIN; LOCK TABLE mcp_assignments";

/// Why a fault cannot be switched on.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// It changes how the server starts.
    #[error("{0} works only from the start: set it in the environment or the configuration file")]
    OnlyAtStart(&'static str),
    /// It needs Postgres.
    #[error("{0} needs DATABASE_URL")]
    NeedsDatabase(&'static str),
    /// A number makes no sense.
    #[error(transparent)]
    Nonsense(#[from] Nonsense),
}

/// A fault that is on, with the task that keeps it up. Dropping it ends the task and frees what it holds.
#[derive(Debug)]
struct Active {
    fault: Fault,
    task: Option<AbortHandle>,
}

impl Drop for Active {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The faults that are on.
#[derive(Debug)]
pub struct Faults {
    active: watch::Sender<BTreeMap<&'static str, Arc<Active>>>,
    store: Arc<Store>,
    circuit: Arc<Circuit>,
    sessions: Arc<Sessions>,
    calls: AtomicU32,
    requests: AtomicU32,
    answers: AtomicU32,
}

impl Faults {
    /// No fault is on.
    pub fn new(store: Arc<Store>, circuit: Arc<Circuit>, sessions: Arc<Sessions>) -> Self {
        Self {
            active: watch::Sender::default(),
            store,
            circuit,
            sessions,
            calls: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            answers: AtomicU32::new(0),
        }
    }

    /// Switches a fault on while the server runs, in place of one of the same name.
    pub fn switch_on(&self, fault: Fault) -> Result<(), FaultError> {
        match fault {
            Fault::SlowStart { .. } | Fault::ListenLocalhost => Err(FaultError::OnlyAtStart(fault.name())),
            fault => self.switch_on_at_start(fault),
        }
    }

    /// Switches on a fault of the configuration.
    pub fn switch_on_at_start(&self, fault: Fault) -> Result<(), FaultError> {
        fault.check()?;
        if fault.needs_database() && self.store.pool().is_none() {
            return Err(FaultError::NeedsDatabase(fault.name()));
        }
        let task = match &fault {
            Fault::Crash { exit, after, message } => {
                Some(tokio::spawn(fault_tasks::crash(*exit, *after, message.clone())).abort_handle())
            }
            Fault::LeakMemory { rate, cap, after } => {
                Some(tokio::spawn(fault_tasks::leak(*rate, *cap, *after)).abort_handle())
            }
            Fault::BurnCpu { threads } => Some(tokio::spawn(fault_tasks::burn(*threads)).abort_handle()),
            Fault::FillDisk { rate, path, cap } => {
                Some(tokio::spawn(fault_tasks::fill(*rate, *cap, path.clone())).abort_handle())
            }
            Fault::HoldDbConnections { count } => {
                let hold = fault_tasks::hold_connections(Arc::clone(&self.store), *count, FORGOTTEN);
                Some(tokio::spawn(hold).abort_handle())
            }
            Fault::LockTable => {
                let hold = fault_tasks::hold_connections(Arc::clone(&self.store), 1, LOCKED);
                Some(tokio::spawn(hold).abort_handle())
            }
            Fault::LeakSessions { rate, cap } => {
                let leak = fault_tasks::leak_sessions(Arc::clone(&self.sessions), *rate, *cap);
                Some(tokio::spawn(leak).abort_handle())
            }
            Fault::StuckCircuit => {
                self.circuit.trip(Timestamp::now());
                None
            }
            _ => None,
        };
        tracing::warn!(target: "mcp.server", event = "fault_switched_on", fault = fault.name(), "Fault switched on");
        let name = fault.name();
        self.active.send_modify(|active| {
            active.insert(name, Arc::new(Active { fault, task }));
        });
        Ok(())
    }

    /// Switches a fault off. False if it was not on.
    pub fn clear(&self, name: &str) -> bool {
        let cleared = self.active.send_if_modified(|active| active.remove(name).is_some());
        if cleared {
            tracing::info!(target: "mcp.server", event = "fault_cleared", fault = name, "Fault cleared");
        }
        cleared
    }

    /// What is on.
    pub fn list(&self) -> Vec<Fault> {
        self.active.borrow().values().map(|active| active.fault.clone()).collect()
    }

    /// Whether a fault is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.active.borrow().contains_key(name)
    }

    /// Waits as long as the fault `slow` says.
    pub async fn slow_down(&self) {
        let delay = match self.active.borrow().get("slow").map(|active| &active.fault) {
            Some(Fault::Slow { delay }) => *delay,
            _ => return,
        };
        tokio::time::sleep(delay).await;
    }

    /// What the faults `slow-query` and `repeat-query` have every call ask the database: for how long, and
    /// how often.
    pub fn queries(&self) -> (Option<Duration>, u32) {
        let active = self.active.borrow();
        let slow = match active.get("slow-query").map(|active| &active.fault) {
            Some(Fault::SlowQuery { delay }) => Some(*delay),
            _ => None,
        };
        let repeated = match active.get("repeat-query").map(|active| &active.fault) {
            Some(Fault::RepeatQuery { count }) => *count,
            _ => 0,
        };
        (slow, repeated)
    }

    /// Waits while the fault `wedge-mcp` is on.
    pub async fn until_not_wedged(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.active.subscribe().wait_for(|active| !active.contains_key("wedge-mcp")).await;
    }

    /// Whether the fault `hide-tool` is on for this tool.
    pub fn hides(&self, name: &str) -> bool {
        match self.active.borrow().get("hide-tool").map(|active| &active.fault) {
            Some(Fault::HideTool { tool }) => tool == "*" || tool == name,
            _ => false,
        }
    }

    /// The type and message to fail this call with, if it is to fail.
    pub fn tool_failure(&self, called: &str) -> Option<(String, String)> {
        let active = self.active.borrow();
        let Fault::FailTool { tool, percent, error_type, message } = &active.get("fail-tool")?.fault else {
            return None;
        };
        if tool != "*" && tool != called {
            return None;
        }
        is_next_of(&self.calls, *percent).then(|| (error_type.clone(), message.clone()))
    }

    /// Whether the fault `fail-requests` fails this request.
    pub fn fails_request(&self) -> bool {
        match self.active.borrow().get("fail-requests").map(|active| &active.fault) {
            Some(Fault::FailRequests { percent }) => is_next_of(&self.requests, *percent),
            _ => false,
        }
    }

    /// Whether the fault `drop-connections` breaks this answer off.
    pub fn breaks_off(&self) -> bool {
        match self.active.borrow().get("drop-connections").map(|active| &active.fault) {
            Some(Fault::DropConnections { percent }) => is_next_of(&self.answers, *percent),
            _ => false,
        }
    }
}

/// Spread evenly rather than drawn: 30 percent are 3 of any 10.
fn is_next_of(counter: &AtomicU32, percent: u32) -> bool {
    let count = counter.fetch_add(1, Ordering::Relaxed) % 100;
    (count + 1) * percent / 100 > count * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CircuitConfig;

    #[tokio::test]
    async fn a_share_of_the_calls_fails_evenly() {
        let faults = {
            let config = CircuitConfig {
                failure_threshold: 1,
                recovery_timeout: Duration::ZERO,
                half_open_max_calls: 1,
            };
            Faults::new(Arc::new(Store::in_memory()), Arc::new(Circuit::new(config)), Arc::default())
        };
        let fault = serde_json::from_str(r#"{"fault": "fail-tool", "tool": "search", "percent": 30}"#);
        faults.switch_on(fault.expect("a fault")).expect("switched on");
        let failed = (0..100).filter(|_| faults.tool_failure("search").is_some()).count();
        assert_eq!(failed, 30);
        assert!(faults.tool_failure("list_assignments").is_none());
    }
}
