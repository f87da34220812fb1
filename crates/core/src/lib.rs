//! What the operator concludes and decides, as pure functions: no I/O, no clock, no async. What is decided
//! here can be tested by a table, and replayed.
//!
//! One direction, in the order of the modules:
//! [`signals`] → [`diagnose`] (with the [`catalogue`]) → [`verify`] → [`decide`] (with [`actions`] and
//! [`guards`]) → [`attempt`] → [`report`]. Each takes the [`Case`]: one server at one moment.

pub mod actions;
pub mod attempt;
mod blame;
mod case;
pub mod catalogue;
pub mod circuits;
pub mod circuits_body;
mod database;
pub mod decide;
pub mod dependencies;
pub mod diagnose;
pub mod digest;
mod draft;
pub mod escalation;
pub mod finding;
pub mod guards;
pub mod health_body;
pub mod healthy;
pub mod incident;
pub mod last_words;
pub mod lost;
pub mod mask;
pub mod mcp;
pub mod metrics;
mod obstacles;
pub mod ownership;
pub mod probes;
pub mod prohibition;
pub mod quantity;
pub mod references;
pub mod refusals;
pub mod report;
mod revert;
mod runbook;
mod server;
pub mod service_ports;
pub mod signals;
mod start_budget;
mod time;
pub mod usage;
pub mod verify;
pub mod words;

pub use case::{Case, Fleet, Settings};
pub use decide::{Decision, decide};
pub use diagnose::diagnose;
pub use draft::StatusDraft;
pub use finding::Diagnosis;
pub use server::Server;
pub use verify::verify;
