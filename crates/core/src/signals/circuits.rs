//! The circuit breakers of a server, as its own pods tell (guides 002 and 004).

use jiff::{SignedDuration, Timestamp};

/// A circuit breaker, as one pod has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circuit {
    /// The pod.
    pub pod: String,
    /// Its name.
    pub name: String,
    /// Whether calls go through.
    pub state: CircuitState,
    /// Failures in a row.
    pub failures: Option<i64>,
    /// Failures in a row that open it.
    pub threshold: Option<i64>,
    /// Its last failure.
    pub last_failure: Option<Timestamp>,
    /// How long it stays open after its last failure.
    pub recovery: Option<SignedDuration>,
    /// When the pod told.
    pub at: Timestamp,
}

/// Whether calls go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CircuitState {
    /// They do.
    Closed,
    /// A few do, on trial.
    HalfOpen,
    /// They do not.
    Open,
}
