//! Alerts that others have found, as Alertmanager tells (guide 000).

use jiff::Timestamp;

/// An alert about the server that is active, and neither silenced nor inhibited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// `alertname`.
    pub name: String,
    /// Its label `severity`, as it is written.
    pub severity: Option<String>,
    /// Its summary or description, masked and bounded.
    pub summary: Option<String>,
    /// Since when it fires.
    pub since: Timestamp,
    /// Alertmanager's own name for it.
    pub fingerprint: String,
}
