//! What every reconcile is given.

use std::sync::Arc;

use kube::{Client, runtime::events::Recorder};
use mcp_health_core::Settings;

use crate::{
    act::Unsent, fleet::Fleet, keep::Copies, lease::Lease, observe::Stores, status::Statuses,
    telemetry::Metrics,
};

/// What every reconcile is given.
pub struct Context {
    /// The client.
    pub client: Client,
    /// What is seen.
    pub stores: Arc<Stores>,
    /// What was written.
    pub statuses: Statuses,
    /// What is being done on all servers.
    pub fleet: Fleet,
    /// Copies of what healthy pods read.
    pub copies: Copies,
    /// The right to act.
    pub lease: Lease,
    /// Steps that were begun and not sent.
    pub unsent: Unsent,
    /// Namespace and name of the `ConfigMap` that stops the operator, if there is one.
    pub switch: Option<(String, String)>,
    /// Where events go.
    pub recorder: Recorder,
    /// The operator's configuration.
    pub settings: Settings,
    /// Whether evidence is collected.
    pub keep_evidence: bool,
    /// The operator's metrics.
    pub metrics: Arc<Metrics>,
}
