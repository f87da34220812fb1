//! What the pods themselves tell at their metrics path, and what windows in memory make of it.

use jiff::SignedDuration;
use mcp_health_api::{Label, McpServerHealthSpec, Measure, PrometheusSignal};
use mcp_health_core::{
    metrics::Windows,
    signals::{Metrics, Span},
};
use proptest::prelude::*;

use crate::support::{moment, policy};

const PERIOD: i64 = 15;

fn signal(spec: &McpServerHealthSpec) -> PrometheusSignal {
    spec.signals.prometheus.clone().unwrap_or_default()
}

/// A server whose pods are asked every 15 seconds.
struct Scraped {
    spec: McpServerHealthSpec,
    windows: Windows,
    now: i64,
}

impl Scraped {
    fn new() -> Self {
        Self { spec: policy::observing(), windows: Windows::default(), now: 0 }
    }

    /// Asks all pods so often: each is told what it answers, by the second.
    fn look(&mut self, times: i64, tell: impl Fn(i64) -> Vec<(&'static str, i32, String)>) {
        for _ in 0..times {
            self.now += PERIOD;
            for (pod, restarts, text) in tell(self.now) {
                assert!(
                    self.windows.note(&signal(&self.spec), pod, restarts, &text, moment(self.now)),
                    "{text}"
                );
            }
        }
    }

    fn metrics(&self) -> Metrics {
        self.windows.metrics(&signal(&self.spec), SignedDuration::from_secs(PERIOD), moment(self.now))
    }

    fn sum(&self, measure: Measure, span: Span) -> Option<f64> {
        let metrics = self.metrics();
        metrics.of(measure, span, moment(self.now)).map(|one| one.value).reduce(|sum, one| sum + one)
    }
}

fn requests(count: i64) -> String {
    format!("mcp_requests_total{{endpoint=\"/mcp\",status=\"200\"}} {count}\n")
}

fn is(value: Option<f64>, expected: f64) {
    let value = value.unwrap();
    assert!((value - expected).abs() < expected.abs().max(0.01) * 1e-4, "{value} is not {expected}");
}

#[test]
fn rates_are_told_once_half_a_window_was_seen() {
    let mut server = Scraped::new();
    server.look(10, |now| vec![("a", 0, requests(now * 3))]);
    let metrics = server.metrics();
    // It lacks nothing that somebody could mend.
    assert!(metrics.missing.is_empty() && metrics.series.is_empty(), "{metrics:?}");
    server.look(1, |now| vec![("a", 0, requests(now * 3))]);
    is(server.sum(Measure::Requests, Span::Window), 3.0);
    server.look(40, |now| vec![("a", 0, requests(now * 3))]);
    is(server.sum(Measure::Requests, Span::Window), 3.0);
}

#[test]
fn a_counter_that_begins_anew_goes_on_from_zero() {
    let mut server = Scraped::new();
    server.look(20, |now| vec![("a", 0, requests(now * 2))]);
    server.look(20, |now| vec![("a", 1, requests((now - 20 * PERIOD) * 2))]);
    is(server.sum(Measure::Requests, Span::Window), 2.0);
}

#[test]
fn a_restart_that_the_kubelet_tells_counts_though_the_counter_did_not_fall_and_once_only() {
    let mut server = Scraped::new();
    server.look(1, |_| vec![("a", 0, requests(10))]);
    server.look(1, |_| vec![("a", 1, requests(310))]);
    server.look(19, |_| vec![("a", 1, requests(310))]);
    is(server.sum(Measure::Requests, Span::Window), 310.0 / 300.0);
    // Seen by the counter first, and told by the kubelet after that.
    let mut server = Scraped::new();
    server.look(1, |_| vec![("a", 0, requests(1000))]);
    server.look(1, |_| vec![("a", 0, requests(100))]);
    server.look(19, |_| vec![("a", 1, requests(300))]);
    is(server.sum(Measure::Requests, Span::Window), 300.0 / 300.0);
}

#[test]
fn a_counter_that_shows_up_has_grown_from_zero_unless_its_pod_is_new() {
    let failed = "mcp_requests_total{endpoint=\"/mcp\",status=\"500\"} 30\n";
    let mut server = Scraped::new();
    server.look(12, |now| vec![("a", 0, requests(now))]);
    server.look(8, |now| vec![("a", 0, requests(now) + failed), ("b", 0, requests(5000))]);
    let metrics = server.metrics();
    let of = |pod, status| {
        let mut all = metrics.series.iter().filter(|one| one.pod.as_deref() == Some(pod));
        Some(all.find(|one| one.label(Label::Status) == Some(status))?.value)
    };
    is(of("a", "500"), 30.0 / 285.0);
    is(of("b", "200"), 0.0);
}

#[test]
fn a_pod_that_was_seen_for_a_moment_weighs_as_if_for_half_a_window() {
    let mut server = Scraped::new();
    server.look(20, |now| vec![("a", 0, requests(now))]);
    server.look(2, |now| vec![("a", 0, requests(now)), ("b", 0, requests((now - 20 * PERIOD) * 10))]);
    is(server.sum(Measure::Requests, Span::Window), 1.0 + 150.0 / 150.0);
}

#[test]
fn a_pod_that_does_not_answer_for_a_while_has_its_growth_spread_over_that_time() {
    let mut server = Scraped::new();
    server.look(20, |now| vec![("a", 0, requests(now))]);
    server.now += 600;
    server.look(1, |now| vec![("a", 0, requests(now))]);
    is(server.sum(Measure::Requests, Span::Window), 1.0);
    // And one that does not answer any more tells nothing of now.
    server.now += 121;
    assert_eq!(server.sum(Measure::Requests, Span::Window), None);
}

#[test]
fn gauges_add_up_where_no_rule_tells_them_apart_and_of_a_summary_the_worst_counts() {
    let text = "mcp_sessions{shard=\"1\"} 3\nmcp_sessions{shard=\"2\"} 4\nmcp_sessions_idle NaN\n\
        mcp_request_duration_seconds{endpoint=\"/\",quantile=\"0.99\",shard=\"1\"} 0.5\n\
        mcp_request_duration_seconds{endpoint=\"/\",quantile=\"0.99\",shard=\"2\"} 0.25\n";
    let mut server = Scraped::new();
    server.look(3, |_| vec![("a", 0, text.to_owned())]);
    is(server.sum(Measure::Sessions, Span::Window), 7.0);
    is(server.sum(Measure::DurationQuantile, Span::Window), 0.5);
    assert_eq!(server.sum(Measure::IdleSessions, Span::Window), None);
}

#[test]
fn the_hour_before_the_window_is_known_once_it_was_seen_from_its_beginning() {
    let mut server = Scraped::new();
    // Ten a second, and a hundred from the 60th minute on; what a pod had counted when it was seen first is not
    // of that hour.
    let tell = |now: i64| {
        let other = (now > 1800).then(|| ("b", 0, requests(1_000_000)));
        [("a", 0, requests(now * 10 + (now - 3600).max(0) * 90))].into_iter().chain(other).collect()
    };
    server.look(4 * 64, tell);
    assert_eq!(server.sum(Measure::Requests, Span::Before), None);
    assert_eq!(server.metrics().missing, []);
    server.look(4 * 2, tell);
    is(server.sum(Measure::Requests, Span::Window), 100.0);
    let before = server.sum(Measure::Requests, Span::Before).unwrap();
    assert!((10.0..13.0).contains(&before), "{before}");
    // It stays what it was though the pod that it came from is gone.
    server.windows.retain(|_| false);
    server.look(4, |_| vec![("b", 0, requests(0))]);
    assert!(server.sum(Measure::Requests, Span::Before).unwrap() > 10.0);
}

#[test]
fn metrics_and_labels_are_found_by_the_names_that_the_policy_gives_them() {
    let mut server = Scraped::new();
    server.spec.signals.prometheus = Some(
        serde_json::from_value(serde_json::json!({
            "metrics": [{"measure": "Requests", "name": "http_server_requests"}],
            "labels": [{"label": "Status", "name": "http_status"}],
        }))
        .unwrap(),
    );
    let text = "http_server_requests{http_status=\"500\",status=\"?\"} ";
    server.look(20, |now| vec![("a", 0, format!("{text}{now}\n"))]);
    let metrics = server.metrics();
    assert_eq!(metrics.series[0].labels, [(Label::Status, "500".to_owned())]);
    // Under another mapping all begins anew.
    let mut other = server.spec.clone();
    other.signals.prometheus = None;
    let metrics =
        server.windows.metrics(&signal(&other), SignedDuration::from_secs(PERIOD), moment(server.now));
    assert_eq!(metrics.series, []);
}

#[test]
fn a_pod_that_tells_too_much_is_not_judged_by_a_part_of_it() {
    let mut server = Scraped::new();
    let many = |count: i64| {
        let lines =
            (0..count).map(|at| format!("mcp_requests_total{{endpoint=\"/{at}\",status=\"200\"}} 1\n"));
        lines.collect::<String>()
    };
    server.look(20, |_| vec![("a", 0, format!("mcp_sessions 3\n{}", many(2001)))]);
    let metrics = server.metrics();
    let why = metrics.missing(Measure::Requests, Span::Window);
    assert_eq!(why, Some("its pods tell more than 2000 series"));
    assert_eq!(server.sum(Measure::Requests, Span::Window), None);
    is(server.sum(Measure::Sessions, Span::Window), 3.0);
}

#[test]
fn what_is_no_metrics_is_not_noted() {
    let mut windows = Windows::default();
    for text in ["", "<html><body class=\"x\">404</body></html>", "# EOF\n", "{\"status\": \"healthy\"}"] {
        assert!(!windows.note(&signal(&policy::observing()), "a", 0, text, moment(0)), "{text}");
    }
    assert!(windows.is_empty());
}

proptest! {
    #[test]
    fn whatever_pods_tell_every_value_is_a_number_and_no_rate_is_negative(
        looks in prop::collection::vec(
            (0_i64..4000, "[ab]", 0_i32..3, prop::collection::vec(
                (prop::sample::select(vec![
                    "mcp_requests_total{status=\"200\"}", "mcp_requests_total{status=\"500\"}", "mcp_sessions",
                    "mcp_invalid_messages_total", "mcp_request_duration_seconds_bucket{le=\"+Inf\"}",
                ]), prop::num::f64::ANY), 0..8)),
            0..60),
    ) {
        let spec = policy::observing();
        let (mut windows, mut now) = (Windows::default(), 0);
        for (pause, pod, restarts, samples) in looks {
            now += pause;
            let lines: Vec<_> = samples.iter().map(|(name, value)| format!("{name} {value}")).collect();
            let text = lines.join("\n");
            windows.note(&signal(&spec), &pod, restarts, &text, moment(now));
            for series in windows.metrics(&signal(&spec), SignedDuration::from_secs(15), moment(now + 3)).series {
                prop_assert!(series.value.is_finite(), "{series:?}");
                if series.measure != Measure::Sessions {
                    prop_assert!(series.value >= 0.0, "{series:?}");
                }
            }
        }
    }
}
