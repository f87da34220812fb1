//! The series of some of a server's pods at one moment, and what they add up to. Pods that are gone count only where
//! the past is asked for; what is not there is not zero, unless its denominator is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mcp_health_api::{Label, McpServerHealthSpec, Measure};

use crate::{
    Case, Server,
    signals::{Metrics, Pod, Series, Span},
};

/// Whose series are looked at.
#[derive(Clone, Debug)]
enum Whose<'a> {
    /// Of the window, those of the pods that count and those of the server as a whole; of the past, all.
    Servers(Vec<&'a str>),
    /// Those of these pods alone.
    Of(Vec<&'a str>),
    /// Of the window, those of the pods that count without these; of the past, all but theirs.
    Without { counting: Vec<&'a str>, these: Vec<&'a str> },
}

/// See the module.
#[derive(Clone, Debug)]
pub struct View<'a> {
    metrics: &'a Metrics,
    pub(super) spec: &'a McpServerHealthSpec,
    now: Timestamp,
    whose: Whose<'a>,
}

/// How many requests there are, by the request counter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Traffic {
    /// It cannot be seen.
    Unknown,
    /// The counter is there, and stands still.
    None,
    /// There are some.
    Some {
        /// Requests a second.
        per_second: f64,
        /// Requests in the window, or whatever time it is that was asked for.
        in_window: f64,
    },
}

impl Traffic {
    /// Requests in the window, where they can be seen.
    pub fn in_window(self) -> Option<f64> {
        match self {
            Self::Unknown => None,
            Self::None => Some(0.0),
            Self::Some { in_window, .. } => Some(in_window),
        }
    }
}

impl<'a> View<'a> {
    /// Of the whole server; `None` where its metrics cannot be relied on.
    pub fn of(case: &Case<'a>, server: &Server<'a>) -> Option<Self> {
        let metrics = case.signals.metrics.fresh()?;
        let whose = Whose::Servers(names(&server.pods));
        Some(Self { metrics, spec: case.spec, now: case.now, whose })
    }

    /// Of these pods alone.
    #[must_use]
    pub fn only(&self, pods: &[&'a Pod]) -> Self {
        Self { whose: Whose::Of(names(pods)), ..self.clone() }
    }

    /// Of all others.
    #[must_use]
    pub fn without(&self, pods: &[&'a Pod]) -> Self {
        let counting = match &self.whose {
            Whose::Servers(names) | Whose::Of(names) => names.clone(),
            Whose::Without { counting, .. } => counting.clone(),
        };
        Self { whose: Whose::Without { counting, these: names(pods) }, ..self.clone() }
    }

    /// What is looked at.
    pub fn metrics(&self) -> &'a Metrics {
        self.metrics
    }

    /// The series of a measure that may be relied on.
    pub fn series(&self, measure: Measure, span: Span) -> impl Iterator<Item = &'a Series> + use<'a, '_> {
        let is_counted = move |one: &&Series| {
            let Some(pod) = one.pod.as_deref() else {
                return match self.whose {
                    Whose::Servers(_) => true,
                    Whose::Of(_) => false,
                    Whose::Without { .. } => span == Span::Before,
                };
            };
            match &self.whose {
                Whose::Servers(names) => span == Span::Before || names.contains(&pod),
                Whose::Of(names) => names.contains(&pod),
                Whose::Without { counting, these } => {
                    (span == Span::Before || counting.contains(&pod)) && !these.contains(&pod)
                }
            }
        };
        self.metrics.of(measure, span, self.now).filter(|one| one.value.is_finite()).filter(is_counted)
    }

    /// The same, without what is asked for operation's sake: health, circuits and metrics are nobody's requests.
    pub fn requests(&self, span: Span) -> impl Iterator<Item = &'a Series> + use<'a, '_> {
        self.series(Measure::Requests, span).filter(|one| !self.is_of_operation(one))
    }

    fn is_of_operation(&self, series: &Series) -> bool {
        let Some(endpoint) = series.label(Label::Endpoint) else { return false };
        let signals = &self.spec.signals;
        let http = signals.http.clone().unwrap_or_default();
        let metrics = signals.scrape.clone().unwrap_or_default().path;
        [http.health, http.circuit_breakers, metrics].iter().any(|path| {
            endpoint.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }) || ["/healthz", "/livez", "/readyz"].contains(&endpoint)
    }

    /// What the series of a counter add up to, a second; `None` where there is none.
    pub fn total(&self, measure: Measure, span: Span) -> Option<f64> {
        sum(self.series(measure, span))
    }

    /// Failures, a second. Where none was ever counted, and the requests can be seen, there are none.
    pub fn failures(&self, measure: Measure, span: Span, count: impl Fn(&Series) -> bool) -> Option<f64> {
        if self.metrics.missing(measure, span).is_some() || self.traffic_of(span) == Traffic::Unknown {
            return None;
        }
        Some(sum(self.series(measure, span).filter(|one| count(one))).unwrap_or_default())
    }

    /// How many requests there are.
    pub fn traffic(&self) -> Traffic {
        self.traffic_of(Span::Window)
    }

    /// The same, of the window or of the hour before.
    pub fn traffic_of(&self, span: Span) -> Traffic {
        if self.metrics.missing(Measure::Requests, span).is_some() {
            return Traffic::Unknown;
        }
        let is_seen = self.series(Measure::Requests, span).next().is_some();
        match sum(self.requests(span)) {
            Some(per_second) if per_second > 0.0 => {
                let reach = super::reach_of(span, self.metrics.window);
                Traffic::Some { per_second, in_window: per_second * reach.as_secs_f64() }
            }
            _ if is_seen => Traffic::None,
            _ => Traffic::Unknown,
        }
    }

    /// By how much a counter grew in the window.
    pub fn in_window(&self, per_second: f64) -> f64 {
        per_second * self.metrics.window.as_secs_f64()
    }

    /// What a counter adds up to by a label's values, the largest first; what has no such label is left out.
    pub fn by(&self, series: impl Iterator<Item = &'a Series>, label: Label) -> Vec<(&'a str, f64)> {
        grouped(series.filter_map(|one| Some((one.label(label)?, one.value))))
    }

    /// The same, by pod.
    pub fn by_pod(&self, series: impl Iterator<Item = &'a Series>) -> Vec<(&'a str, f64)> {
        grouped(series.filter_map(|one| Some((one.pod.as_deref()?, one.value))))
    }

    /// Pods that should have been seen by now, and are not: ready for longer than two looks take, and without a
    /// series of their own while others have some. What is found counts all the same; that all is well does not.
    pub fn unseen(&self, pods: &[&'a Pod]) -> Vec<&'a str> {
        let own =
            self.metrics.series.iter().filter(|one| one.span == Span::Window && !is_of_the_node(one.measure));
        let own: Vec<&Series> = own.filter(|one| self.now.duration_since(one.at) <= super::STALE).collect();
        if own.iter().any(|one| one.pod.is_none() && one.measure == Measure::Requests) {
            return Vec::new();
        }
        let seen = |pod: &Pod| own.iter().any(|one| one.pod.as_deref() == Some(pod.name.as_str()));
        let due = self.metrics.interval.saturating_mul(2).saturating_add(super::SCRAPE_INTERVAL);
        let late = pods.iter().filter(|pod| pod.is_ready_for(due, self.now) && !seen(pod));
        late.map(|pod| pod.name.as_str()).collect()
    }

    /// When the first of a measure's series was sampled.
    pub fn sampled(&self, measure: Measure) -> Option<Timestamp> {
        self.series(measure, Span::Window).map(|one| one.at).min()
    }
}

impl Series {
    /// The value of one of its labels.
    pub fn label(&self, label: Label) -> Option<&str> {
        self.labels.iter().find(|(one, _)| *one == label).map(|(_, value)| value.as_str())
    }
}

/// How many times as much as before; `None` where nothing was before, or that is not known.
pub fn ratio(now: f64, before: Option<f64>) -> Option<f64> {
    before.filter(|before| *before > 0.0).map(|before| now / before)
}

/// What cAdvisor tells, not the server.
fn is_of_the_node(measure: Measure) -> bool {
    matches!(
        measure,
        Measure::CpuPeriods
            | Measure::CpuThrottledPeriods
            | Measure::CpuSeconds
            | Measure::WorkingSet
            | Measure::ResidentSet
    )
}

fn names<'a>(pods: &[&'a Pod]) -> Vec<&'a str> {
    pods.iter().map(|pod| pod.name.as_str()).collect()
}

/// Of none, none. A rate is never negative, whatever a query of one's own answers.
fn sum<'a>(series: impl Iterator<Item = &'a Series>) -> Option<f64> {
    series.map(|one| one.value.max(0.0)).reduce(|sum, value| sum + value)
}

fn grouped<'a>(values: impl Iterator<Item = (&'a str, f64)>) -> Vec<(&'a str, f64)> {
    let mut groups: BTreeMap<&str, f64> = BTreeMap::new();
    for (key, value) in values {
        *groups.entry(key).or_default() += value.max(0.0);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    groups
}
