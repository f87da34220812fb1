//! The harness of the end-to-end scenarios: a [`Story`] is a namespace of a real cluster with an operator of its
//! own, a [`Server`] a Deployment in it with its policy. `tests/scenarios` tells what happens to them.
//!
//! A scenario awaits conditions, never a span of time. To show that *nothing* was done, it awaits a sign that
//! the operator has looked and decided (a hold, an escalation, a later `observedGeneration`), and compares then.

#![allow(clippy::missing_panics_doc, reason = "a harness fails a test by panicking")]

pub mod addon;
pub mod alertmanager;
pub mod command;
pub mod environment;
pub mod fault;
pub mod forward;
pub mod host;
pub mod load;
pub mod local_operator;
pub mod manifest;
pub mod mcp;
pub mod operator;
pub mod policy;
pub mod postgres;
pub mod program;
pub mod prometheus;
pub mod proxy;
pub mod python;
pub mod report;
pub mod server;
pub mod services;
pub mod story;
pub mod until;

pub use fault::Fault;
pub use mcp_health_api::{
    ActionType, Attempt, Cause, ConditionType, Incident, IncidentState, IncidentType, McpServerHealth,
    McpServerHealthSpec, McpServerHealthStatus, Mode, Outcome, PastIncident, Reason, SessionFence, Severity,
};
pub use policy::Policy;
pub use server::{Planned, Server};
pub use story::{Operator, Story};
pub use until::until;
