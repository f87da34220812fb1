//! What metrics tell of one server, wherever they come from: the same series from Prometheus and from the pods
//! themselves, so that the same rules judge both.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{Label, Measure};

/// More of a kind are not named in a sentence.
const NAMED: usize = 3;

/// What metrics tell of one server.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Where they come from, for people: `Prometheus http://prometheus.monitoring:9090`, `GET /metrics of its pods`.
    pub source: String,
    /// How far back rates look.
    pub window: SignedDuration,
    /// The time between two looks.
    pub interval: SignedDuration,
    /// What was measured.
    pub series: Vec<Series>,
    /// What could not be measured, and why. A measure that nobody exports is not among these: it has no series.
    pub missing: Vec<(Measure, Span, String)>,
    /// The queries that were asked, where it was Prometheus: evidence shows them.
    pub queries: Vec<(Measure, Span, String)>,
}

impl Metrics {
    /// What could not be measured, as a sentence.
    pub(super) fn gaps(&self) -> Option<String> {
        let mut by_reason: BTreeMap<&str, BTreeSet<Measure>> = BTreeMap::new();
        for (measure, _, why) in &self.missing {
            by_reason.entry(why).or_default().insert(*measure);
        }
        let named = by_reason.iter().take(NAMED).map(|(why, measures)| {
            let names: Vec<String> = measures.iter().take(NAMED).map(ToString::to_string).collect();
            match measures.len().saturating_sub(NAMED) {
                0 => format!("{}: {why}", names.join(", ")),
                more => format!("{} and {more} more: {why}", names.join(", ")),
            }
        });
        let named: Vec<String> = named.collect();
        (!named.is_empty()).then(|| format!("its metrics: {}", named.join("; ")))
    }
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What is measured.
    pub measure: Measure,
    /// When.
    pub span: Span,
    /// The pod, of today or of before; `None` where the value is the whole server's.
    pub pod: Option<String>,
    /// What else tells it from the others, of the measure's own labels.
    pub labels: Vec<(Label, String)>,
    /// Of a counter, its rate a second over the span, resets accounted for; of a gauge, its value. Always finite.
    pub value: f64,
    /// When the newest sample behind it was taken.
    pub at: Timestamp,
}

/// The time that a value speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// The window that ends now; of a gauge, now.
    Window,
    /// The last third of that window: what the window shows and this does not is over.
    Recent,
    /// The hour before that window: the baseline. It is there only where the server was seen at that hour's beginning.
    Before,
}

/// What a rule of the policy's own came to.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleReading {
    /// The rule's name.
    pub name: String,
    /// Its values: what tells each from the others, and how much; or why there are none.
    pub values: Result<Vec<(String, f64)>, String>,
    /// When the newest sample behind them was taken.
    pub at: Timestamp,
}
