//! The circuit breakers of a server, as its own pods tell (guides 002 and 004), and what they guard.

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

/// What the server depends on, as the operator finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Its name.
    pub name: String,
    /// What is asked, for people: `GET http://external-api.mcp:8080/health`.
    pub words: String,
    /// The last answers, oldest first; bounded. `Err` says which step failed.
    pub results: Vec<(Timestamp, Result<(), String>)>,
}

impl Dependency {
    /// It answered the last times that it was asked.
    pub fn answers(&self) -> bool {
        !self.results.is_empty() && self.results.iter().rev().take(2).all(|(_, result)| result.is_ok())
    }

    /// It failed the last times that it was asked.
    pub fn is_down(&self) -> bool {
        self.results.len() >= 3 && self.results.iter().rev().take(3).all(|(_, result)| result.is_err())
    }
}
