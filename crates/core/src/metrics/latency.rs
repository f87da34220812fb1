//! How long requests take: from a histogram, else from the summaries of single pods. A quantile of quantiles is none:
//! of summaries, the worst counts.

use mcp_health_api::{DurationUnit, Label, Measure};

use super::{Buckets, Quantile, View};
use crate::signals::{Series, Span};

/// The share of requests that are at most so slow (guide 004, High Latency).
const P99: f64 = 0.99;
/// Fewer slow ones are chance: three tell something, as far as rates count them.
pub const FEWEST_SLOW: f64 = 2.5;

/// How long requests take.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// One request of a hundred takes longer, in seconds.
    pub p99: Quantile,
    /// Of a summary: the pod and the endpoint that it is of.
    pub of: Option<(String, Option<String>)>,
    /// The requests that it tells of, in the window.
    pub requests: f64,
    /// Those of them that took longer than the threshold, at the least.
    pub slow: f64,
    /// What it was taken from.
    pub measure: Measure,
}

impl View<'_> {
    /// How long requests take, by the best that there is; `None` where nothing tells.
    pub fn latency(&self, threshold: f64) -> Option<Latency> {
        self.of_histogram(Measure::DurationBucket, threshold)
            .or_else(|| self.of_histogram(Measure::UnitlessDurationBucket, threshold))
            .or_else(|| self.of_summaries(threshold))
    }

    /// In the last third of the window, requests were answered in time, or there were none. False where that is not
    /// told: a summary has no such times.
    pub fn is_fast_again(&self, measure: Measure, threshold: f64) -> bool {
        if self.series(measure, Span::Recent).next().is_none() {
            return false;
        }
        let p99 = self.buckets(measure, Span::Recent).and_then(|buckets| buckets.quantile(P99));
        p99.is_none_or(|p99| p99.value <= threshold && !p99.or_longer)
    }

    /// The histogram of a measure, in seconds.
    fn buckets(&self, measure: Measure, span: Span) -> Option<Buckets> {
        let unit = self.spec.signals.prometheus.as_ref().map(|signal| signal.duration_unit);
        let scale = match (measure, unit) {
            (Measure::UnitlessDurationBucket, Some(DurationUnit::Milliseconds)) => 1000.0,
            _ => 1.0,
        };
        Buckets::of(self.series(measure, span).map(|one| {
            let bound = one.label(Label::Bound).and_then(bound);
            (bound.map_or(f64::NAN, |bound| bound / scale), one.value.max(0.0))
        }))
    }

    fn of_histogram(&self, measure: Measure, threshold: f64) -> Option<Latency> {
        let buckets = self.buckets(measure, Span::Window)?;
        let p99 = buckets.quantile(P99)?;
        Some(Latency {
            p99,
            of: None,
            requests: self.in_window(buckets.total()),
            slow: self.in_window(buckets.above(threshold)),
            measure,
        })
    }

    /// The worst of the summaries whose pod and endpoint have requests.
    fn of_summaries(&self, threshold: f64) -> Option<Latency> {
        let quantiles = || self.series(Measure::DurationQuantile, Span::Window);
        let p99 = quantiles().filter(|one| quantile(one).is_some_and(|q| (q - P99).abs() < 1e-9));
        let summaries = p99.filter_map(|one| {
            let requests = self.requests_of(one)?;
            let of_same = |other: &&Series| other.pod == one.pod && same_endpoint(other, one);
            // What is above at a lower quantile is at least so many requests.
            let above = quantiles().filter(of_same).filter(|other| other.value > threshold);
            let slow = above.filter_map(quantile).map(|q| (1.0 - q) * requests).fold(0.0, f64::max);
            Some(Latency {
                p99: Quantile { value: one.value, or_longer: false },
                of: one.pod.clone().map(|pod| (pod, one.label(Label::Endpoint).map(str::to_owned))),
                requests,
                slow,
                measure: Measure::DurationQuantile,
            })
        });
        // The worst is the one with most slow requests; where none has enough of them, the one that tells most.
        let weight = |one: &Latency| (if one.slow >= FEWEST_SLOW { one.slow } else { 0.0 }, one.requests);
        summaries.filter(|one| one.requests > 0.0).max_by(|a, b| {
            let (a, b) = (weight(a), weight(b));
            a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
        })
    }

    /// The requests in the window that a summary tells of.
    fn requests_of(&self, summary: &Series) -> Option<f64> {
        let of_same = |one: &&Series| one.pod == summary.pod && same_endpoint(one, summary);
        let counted = |measure| {
            let counted = self.series(measure, Span::Window).filter(of_same).map(|one| one.value.max(0.0));
            counted.reduce(|sum, value| sum + value)
        };
        counted(Measure::DurationCount)
            .or_else(|| counted(Measure::Requests))
            .map(|rate| self.in_window(rate))
    }
}

fn same_endpoint(one: &Series, other: &Series) -> bool {
    match other.label(Label::Endpoint) {
        Some(endpoint) => one.label(Label::Endpoint) == Some(endpoint),
        None => true,
    }
}

fn quantile(series: &Series) -> Option<f64> {
    series.label(Label::Quantile)?.parse().ok().filter(|q| (0.0..=1.0).contains(q))
}

/// `0.5`, `+Inf`.
fn bound(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|bound| !bound.is_nan())
}
