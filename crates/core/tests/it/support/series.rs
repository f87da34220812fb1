//! Metrics by hand: what is counted in a window of five minutes, as the source hands it to the rules.

use jiff::SignedDuration;
use mcp_health_api::{Label, Measure};
use mcp_health_core::signals::{Metrics as Seen, Series, Span};

use super::moment;

/// The window's seconds.
pub const WINDOW: i64 = 300;

/// See the module.
#[derive(Clone, Debug)]
pub struct Measured {
    pub metrics: Seen,
    pub now: i64,
}

impl Measured {
    pub fn at(now: i64) -> Self {
        let metrics = Seen {
            source: "Prometheus http://prometheus:9090".to_owned(),
            window: SignedDuration::from_secs(WINDOW),
            interval: SignedDuration::from_secs(15),
            series: Vec::new(),
            missing: Vec::new(),
            queries: Vec::new(),
        };
        Self { metrics, now }
    }

    /// So many in the window; of a gauge, the value itself.
    pub fn with(self, measure: Measure, pod: &str, labels: &[(Label, &str)], value: f64) -> Self {
        let is_gauge = mcp_health_core::metrics::definition(measure)
            .is_some_and(|one| one.kind == mcp_health_core::metrics::Kind::Gauge);
        #[allow(clippy::cast_precision_loss)]
        let value = if is_gauge { value } else { value / WINDOW as f64 };
        self.series(measure, Span::Window, pod, labels, value)
    }

    /// So many a second in the hour before.
    pub fn before(self, measure: Measure, pod: &str, labels: &[(Label, &str)], value: f64) -> Self {
        self.series(measure, Span::Before, pod, labels, value)
    }

    /// So many a second in the last third of the window.
    pub fn recent(self, measure: Measure, pod: &str, labels: &[(Label, &str)], value: f64) -> Self {
        self.series(measure, Span::Recent, pod, labels, value)
    }

    fn series(
        mut self,
        measure: Measure,
        span: Span,
        pod: &str,
        labels: &[(Label, &str)],
        value: f64,
    ) -> Self {
        self.metrics.series.push(Series {
            measure,
            span,
            pod: (!pod.is_empty()).then(|| pod.to_owned()),
            labels: labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect(),
            value,
            at: moment(self.now - 10),
        });
        self
    }

    /// The source could not be asked for this.
    pub fn missing(mut self, measure: Measure) -> Self {
        self.metrics.missing.push((measure, Span::Window, "the query took too long".to_owned()));
        self
    }

    /// The newest samples are so many seconds old.
    pub fn aged(mut self, seconds: i64) -> Self {
        for one in &mut self.metrics.series {
            one.at = moment(self.now - seconds);
        }
        self
    }

    /// Answers of a pod: so many well, so many with 500.
    pub fn answers(self, pod: &str, well: f64, failed: f64) -> Self {
        let endpoint = (Label::Endpoint, "/mcp");
        self.with(Measure::Requests, pod, &[endpoint, (Label::Status, "200")], well).with(
            Measure::Requests,
            pod,
            &[endpoint, (Label::Status, "500")],
            failed,
        )
    }
}
