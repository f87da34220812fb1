//! What every request needs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::cache::Cache;
use crate::circuit::{Circuit, Upstream};
use crate::config::Config;
use crate::faults::Faults;
use crate::limiter::Limiter;
use crate::metrics::Metrics;
use crate::sessions::Sessions;
use crate::store::Store;

/// What every request needs.
#[derive(Debug)]
pub struct App {
    /// What is set.
    pub config: Config,
    /// Where assignments are kept.
    pub store: Arc<Store>,
    /// The faults that are on.
    pub faults: Faults,
    /// What `/metrics` tells.
    pub metrics: Metrics,
    /// The circuit that guards the upstream.
    pub circuit: Arc<Circuit>,
    /// What `search` asks in addition.
    pub upstream: Option<Upstream>,
    /// The answers of `search` that are still good.
    pub cache: Option<Cache>,
    /// The requests of each client, where they are limited.
    pub limiter: Option<Limiter>,
    /// A call of a tool takes one; where none is free, it waits.
    pub places: Option<Semaphore>,
    /// The MCP sessions that are open.
    pub sessions: Arc<Sessions>,
    /// The calls of tools under way.
    pub calls: TaskTracker,
    /// Asked to drain: no new tool call is taken.
    pub draining: AtomicBool,
}
