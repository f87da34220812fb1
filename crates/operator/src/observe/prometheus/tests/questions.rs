//! How often Prometheus is asked.

use std::time::Duration;

use mcp_health_api::{Measure, MetricName, PrometheusSignal};
use mcp_health_core::metrics::{MEASURES, promql};
use serde_json::json;

use super::support::{SILENCE, StandIn, World, mapped, vector};

/// What one mapping asks: a query and its companion for each measure and span.
fn of_one_mapping() -> usize {
    2 * MEASURES.iter().map(|one| one.spans.len()).sum::<usize>()
}

#[tokio::test]
async fn as_much_is_asked_for_one_object_as_for_five_hundred() {
    let prometheus = StandIn::new(|_| vector([])).await;
    for count in [1, 10, 500] {
        let world = World::new(count, &["--prometheus-url", &prometheus.url], |_| json!({}));
        world.tick().await;
        assert_eq!(prometheus.count(), of_one_mapping(), "{count} objects");
    }
}

#[tokio::test]
async fn objects_that_call_one_metric_otherwise_add_that_query_alone() {
    let prometheus = StandIn::new(|_| vector([])).await;
    let signal = |number: usize| {
        let name = MetricName { measure: Measure::Sessions, name: format!("sessions_{}", number % 5) };
        mapped(&PrometheusSignal { metrics: vec![name], ..PrometheusSignal::default() })
    };
    for (count, names) in [(1, 1), (10, 5), (500, 5)] {
        let world = World::new(count, &["--prometheus-url", &prometheus.url], signal);
        world.tick().await;
        assert_eq!(prometheus.count(), of_one_mapping() + 2 * (names - 1), "{count} objects");
    }
}

#[tokio::test]
async fn rules_with_the_same_query_ask_once_and_a_plain_selector_asks_when_it_was_sampled() {
    let prometheus = StandIn::new(|_| vector([])).await;
    let spec = |number: usize| {
        let rule = |name: &str, promql: &str| json!({"name": name, "promql": promql, "above": "1"});
        json!({"rules": [rule(&format!("R{number}"), "sum by (pod) (x)"), rule("Plain", "x{a=\"b\"}")]})
    };
    let world = World::new(20, &["--prometheus-url", &prometheus.url], spec);
    world.tick().await;
    assert_eq!(prometheus.count(), of_one_mapping() + 1 + 2);
    let texts = promql::queries(&PrometheusSignal::default(), &["ns-0"]);
    assert_eq!(2 * texts.len(), of_one_mapping());
}

#[tokio::test]
async fn a_prometheus_that_never_answers_delays_no_other_and_is_not_asked_over_and_over() {
    let (slow, quick) = (StandIn::new(|_| SILENCE).await, StandIn::new(|_| vector([])).await);
    let flags =
        ["--prometheus-url", &quick.url, "--prometheus-period", "1s", "--allowed-endpoints", "127.0.0.1"];
    let url = slow.url.clone();
    let world = World::new(2, &flags, |number| {
        if number == 0 {
            mapped(&PrometheusSignal { url: Some(url.clone()), ..PrometheusSignal::default() })
        } else {
            json!({})
        }
    });
    let polling = tokio::spawn(world.poller.keep(world.stores.clone()));
    let three_ticks = async {
        while quick.asked.lock().unwrap().len() < 3 * of_one_mapping() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), three_ticks).await.unwrap();
    polling.abort();
    assert!(slow.count() <= 8, "no more than at once, in three ticks of the other");
}
