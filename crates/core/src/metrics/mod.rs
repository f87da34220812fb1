//! metrics: what the series of a server come to. Rules ask here for totals, shares and quantiles; what is missing,
//! stale or not a number is told apart from what is well, and absent is not zero.

mod exposition;
mod latency;
mod measures;
pub mod promql;
mod quantile;
mod view;
mod windows;

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{McpServerHealthSpec, Measure, UserRule};

pub use latency::{FEWEST_SLOW, Latency};
pub use measures::{
    Definition, Kind, MEASURES, Naming, definition, label_names, label_names_of, metric_name, replica_labels,
};
pub use quantile::{Buckets, Quantile};
pub use view::{Traffic, View, ratio};
pub use windows::Windows;

use crate::signals::{Metrics, Series, Span};

/// Series whose newest sample is older tell nothing of now. Scrapes come every minute at the slowest.
pub const STALE: SignedDuration = SignedDuration::from_mins(2);
/// How far back rates look where the policy does not say.
const WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// What a scrape adds to the longest window in use.
const SCRAPE_INTERVAL: SignedDuration = SignedDuration::from_mins(1);

impl Metrics {
    /// The series of a measure that may be relied on at this moment.
    pub fn of(
        &self,
        measure: Measure,
        span: Span,
        now: Timestamp,
    ) -> impl Iterator<Item = &Series> + use<'_> {
        let of_measure = self.series.iter().filter(move |one| one.measure == measure && one.span == span);
        // A baseline speaks of the past: its newest sample is as old as it should be.
        of_measure.filter(move |one| span == Span::Before || now.duration_since(one.at) <= STALE)
    }

    /// Why a measure could not be measured, where it could not.
    pub fn missing(&self, measure: Measure, span: Span) -> Option<&str> {
        let mut missing = self.missing.iter().filter(|(one, of, _)| *one == measure && *of == span);
        missing.next().map(|(_, _, why)| why.as_str())
    }

    /// The query that was asked for a measure, where it was Prometheus.
    pub fn query(&self, measure: Measure, span: Span) -> Option<&str> {
        let mut queries = self.queries.iter().filter(|(one, of, _)| *one == measure && *of == span);
        queries.next().map(|(_, _, query)| query.as_str())
    }
}

/// How far back rates look for a server.
pub fn window(spec: &McpServerHealthSpec) -> SignedDuration {
    spec.signals.prometheus.as_ref().map_or(WINDOW, |signal| signal.window.span())
}

/// The time that what a span tells is counted over: of the hour before, as much as of the window.
pub fn reach_of(span: Span, window: SignedDuration) -> SignedDuration {
    match span {
        Span::Window | Span::Before => window,
        Span::Recent => window / 3,
    }
}

/// How long the past shows in what metrics tell the catalogue: the longest window in use, and a scrape. Until then
/// after an action, a rule may still show what was before it.
pub fn reach(spec: &McpServerHealthSpec) -> SignedDuration {
    let own =
        spec.signals.prometheus.iter().flat_map(|signal| &signal.queries).map(|own| own.promql.as_str());
    let longest = own.map(longest_range).max().unwrap_or_default();
    longest.max(window(spec)).saturating_add(SCRAPE_INTERVAL.min(window(spec) / 4))
}

/// How long the past shows in a rule of the policy's own: the longest range of its query, and a scrape.
pub fn reach_of_rule(rule: &UserRule) -> SignedDuration {
    longest_range(&rule.promql).saturating_add(SCRAPE_INTERVAL)
}

/// The longest range of a query: of `rate(x[5m])`, five minutes; of `x[1h:5m]`, an hour.
fn longest_range(promql: &str) -> SignedDuration {
    let ranges = promql.split('[').skip(1).filter_map(|rest| rest.split([']', ':']).next());
    ranges.map(prometheus_duration).max().unwrap_or_default()
}

/// `1d12h`, `90s`; zero where it is none.
fn prometheus_duration(text: &str) -> SignedDuration {
    let mut total = 0_i64;
    let mut rest = text.trim();
    while let Some(digits) = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0) {
        let Ok(number) = rest[..digits].parse::<i64>() else { return SignedDuration::ZERO };
        let letters = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..letters] {
            "ms" => 0,
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            "y" => 31_536_000,
            _ => return SignedDuration::ZERO,
        };
        total = total.saturating_add(number.saturating_mul(unit));
        rest = &rest[letters..];
    }
    SignedDuration::from_secs(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_range_of_a_query_is_found() {
        for (query, seconds) in [
            ("up", 0),
            ("sum(rate(x[5m])) / sum(rate(y[1h30m]))", 5400),
            ("max_over_time(rate(x[5m])[2d:5m])", 172_800),
            ("x[ä] + y[", 0),
            ("x[99999999999999999999s]", 0),
        ] {
            assert_eq!(longest_range(query).as_secs(), seconds, "{query}");
        }
    }

    #[test]
    fn every_measure_is_defined_once_and_under_a_name_of_its_own() {
        for one in MEASURES {
            assert_eq!(
                MEASURES.iter().filter(|other| other.metric == one.metric).count(),
                1,
                "{}",
                one.metric
            );
            assert_eq!(
                MEASURES.iter().filter(|other| other.measure == one.measure).count(),
                1,
                "{}",
                one.measure
            );
        }
    }
}
