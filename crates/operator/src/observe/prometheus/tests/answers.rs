//! What objects are told of what Prometheus answers.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{DurationUnit, Label, McpServerHealth, Measure, PrometheusSignal};
use mcp_health_core::signals::{Reading, Series, Span};
use serde_json::{Value, json};

use super::support::{Said, StandIn, World, address, mapped, namespace, pod, seconds, vector};

/// When the newest sample is said to be taken: some seconds ago.
const AGO: f64 = 30.0;

fn sampled() -> f64 {
    seconds(Timestamp::now()) - AGO
}

/// Of each pod of the first servers, that metric has this value.
fn each(query: &str, metric: &str, servers: usize, value: f64) -> Said {
    if !query.contains(metric) {
        return vector([]);
    }
    let value = if query.contains("timestamp(") { sampled() } else { value };
    vector((0..servers).flat_map(|number| (0..3).map(move |one| (pod(number, one), value))))
}

/// These labels on top of a pod's.
fn with(number: usize, one: usize, more: &Value) -> Value {
    let mut labels = pod(number, one);
    for (name, value) in more.as_object().unwrap() {
        labels[name] = value.clone();
    }
    labels
}

async fn told(says: impl Fn(&str) -> Said + Send + Sync + 'static, spec: Value) -> World {
    let prometheus = StandIn::new(says).await;
    let world = World::new(2, &["--prometheus-url", &prometheus.url], |_| spec.clone());
    world.tick().await;
    world
}

fn series(world: &World, number: usize, measure: Measure) -> Vec<Series> {
    let metrics = world.metrics(number);
    let all = metrics.fresh().unwrap().series.iter();
    all.filter(|one| one.measure == measure).cloned().collect()
}

fn values(world: &World, number: usize, measure: Measure) -> Vec<f64> {
    series(world, number, measure).iter().map(|one| one.value).collect()
}

fn failed(status: u16, kind: &str, error: &str) -> Said {
    (status, json!({"status": "error", "errorType": kind, "error": error}))
}

#[tokio::test]
async fn each_object_is_told_of_its_own_pods() {
    let prometheus = StandIn::new(|query| each(query, "mcp_sessions)", 3, 7.0)).await;
    let world = World::new(2, &["--prometheus-url", &prometheus.url], |_| json!({}));
    assert_eq!(world.metrics(0), Reading::Off, "not asked yet");
    world.tick().await;
    for number in 0..2 {
        let metrics = world.metrics(number);
        let metrics = metrics.fresh().unwrap();
        let pods: Vec<_> = metrics.series.iter().filter_map(|one| one.pod.clone()).collect();
        assert_eq!(pods, (0..3).map(|one| format!("server-{number}-rs-{one}")).collect::<Vec<_>>());
        assert_eq!(values(&world, number, Measure::Sessions), [7.0; 3]);
        assert!(metrics.missing.is_empty());
        assert!(metrics.query(Measure::Sessions, Span::Window).unwrap().contains("(mcp_sessions)"));
        let age = Timestamp::now().duration_since(metrics.series[0].at);
        assert!((30..35).contains(&age.as_secs()), "the sample's age, not the answer's");
    }
}

#[tokio::test]
async fn a_value_that_nothing_tells_the_age_of_is_no_value() {
    let says =
        |query: &str| if query.contains("timestamp(") { vector([]) } else { each(query, "mcp_", 2, 7.0) };
    let world = told(says, json!({})).await;
    assert_eq!(world.metrics(0).fresh().unwrap().series, []);
}

#[tokio::test]
async fn an_address_that_several_jobs_scrape_counts_once_and_several_ports_add_up() {
    let rows = |value: f64| {
        let at = |job: &str, port: u16| {
            with(0, 0, &json!({"job": job, "instance": format!("{}:{port}", address(0, 0))}))
        };
        vector([(at("a", 1), value), (at("b", 1), value), (at("a", 2), value)])
    };
    let says = move |query: &str| match query {
        _ if !query.contains("mcp_sessions)") => vector([]),
        _ if query.contains("timestamp(") => rows(sampled()),
        _ => rows(5.0),
    };
    let world = told(says, json!({})).await;
    assert_eq!(values(&world, 0, Measure::Sessions), [10.0]);
}

#[tokio::test]
async fn a_baseline_is_there_only_where_the_server_was_seen_at_its_beginning() {
    let says = |query: &str| match query {
        _ if !query.contains("mcp_requests_total") => vector([]),
        // Of the first server, one pod of three was there.
        _ if query.contains("timestamp(") && query.contains("offset") => {
            vector([(pod(0, 0), sampled() - 3900.0)])
        }
        _ => each(query, "mcp_requests_total", 2, 2.0),
    };
    let world = told(says, json!({})).await;
    let before = |number| {
        let all = series(&world, number, Measure::Requests).into_iter();
        all.filter(|one| one.span == Span::Before).collect::<Vec<_>>()
    };
    assert_eq!((before(0).len(), before(1).len()), (3, 0));
    let age = Timestamp::now().duration_since(before(0)[0].at);
    assert!((300..310).contains(&age.as_secs()), "the hour ended a window ago");
}

#[tokio::test]
async fn the_labels_of_a_measure_come_with_its_values_whatever_they_are_called() {
    let says = |query: &str| match query {
        _ if !query.contains("mcp_requests_total[300s]))") && !query.contains("(mcp_requests_total))") => {
            vector([])
        }
        _ if query.contains("timestamp(") => vector([(pod(0, 0), sampled())]),
        _ => vector([(
            with(0, 0, &json!({"exported_endpoint": "/mcp", "endpoint": "http", "code": "500"})),
            2.0,
        )]),
    };
    let world = told(says, json!({})).await;
    let labels = [(Label::Endpoint, "/mcp".to_owned()), (Label::Status, "500".to_owned())];
    assert_eq!(series(&world, 0, Measure::Requests)[0].labels, labels);
}

#[tokio::test]
async fn what_fails_once_keeps_its_values_and_what_fails_again_is_missing() {
    for (says, why) in [
        ((500, json!("<html>")), "it answered 500"),
        ((200, json!("<html>")), "its answer cannot be read"),
        (failed(503, "timeout", "query timed out"), "query timed out"),
        (failed(400, "bad_data", "parse error"), "parse error"),
        (
            (
                200,
                json!({"status": "success", "warnings": ["one store is gone"], "data": {"resultType": "vector", "result": []}}),
            ),
            "it warns: one store is gone",
        ),
    ] {
        let well = |query: &str| each(query, "mcp_", 2, 7.0);
        let prometheus = StandIn::new(well).await;
        let world = World::new(1, &["--prometheus-url", &prometheus.url], |_| json!({}));
        world.tick().await;
        prometheus.say(move |query| {
            if query.contains("mcp_sessions)") { says.clone() } else { each(query, "mcp_", 2, 7.0) }
        });
        world.tick().await;
        assert_eq!(values(&world, 0, Measure::Sessions), [7.0; 3], "{why}");
        world.tick().await;
        assert_eq!(values(&world, 0, Measure::Sessions).len(), 0, "{why}");
        assert_eq!(values(&world, 0, Measure::IdleSessions), [7.0; 3], "{why}");
        assert_eq!(world.metrics(0).fresh().unwrap().missing(Measure::Sessions, Span::Window), Some(why));
        prometheus.say(well);
        world.tick().await;
        assert_eq!(values(&world, 0, Measure::Sessions), [7.0; 3], "{why}");
    }
}

#[tokio::test]
async fn a_prometheus_that_never_answered_is_unavailable_and_says_why_in_stable_words() {
    let dead = World::new(1, &["--prometheus-url", "http://127.0.0.1:1"], |_| json!({}));
    dead.tick().await;
    let first = dead.metrics(0);
    assert_eq!(first, Reading::Unavailable("Prometheus http://127.0.0.1:1: connection refused".to_owned()));
    dead.tick().await;
    assert_eq!(dead.metrics(0), first);
}

#[tokio::test]
async fn one_that_has_answered_is_stale_after_a_while_and_fresh_when_it_is_back() {
    let well = |query: &str| each(query, "mcp_", 2, 7.0);
    let prometheus = StandIn::new(well).await;
    let world = World::new(1, &["--prometheus-url", &prometheus.url], |_| json!({}));
    let at = |later: i64| {
        let now = Timestamp::now() + SignedDuration::from_secs(later);
        world.stores.prometheus.readings(&world.objects[0], now).0
    };
    world.tick().await;
    let fresh = at(0);
    prometheus.say(|_| failed(500, "", ""));
    world.tick().await;
    assert_eq!(at(55), fresh, "once is no time");
    let Reading::Stale { value, .. } = at(65) else { panic!("{:?}", at(65)) };
    assert_eq!(Some(&value), fresh.fresh());
    prometheus.say(well);
    world.tick().await;
    assert!(at(5).fresh().is_some());
}

#[tokio::test]
async fn rules_are_told_of_their_own_server_and_of_what_says_nothing_of_whose_it_is() {
    let spec = |promql: &str| json!({"rules": [{"name": "R", "promql": promql, "above": "1"}]});
    let values = async |promql: &'static str, answer: Said| {
        let says = move |query: &str| if query == promql { answer.clone() } else { vector([]) };
        let world = told(says, spec(promql)).await;
        let rules = world.rules(1);
        let rules = rules.fresh().unwrap();
        assert_eq!((rules.len(), rules[0].name.as_str()), (1, "R"));
        rules[0].values.clone()
    };
    let rows = vector([(pod(0, 0), 1.0), (pod(1, 2), 2.0), (json!({"namespace": "elsewhere"}), 3.0)]);
    let words = format!("instance={}:8000, namespace={}, pod=server-1-rs-2", address(1, 2), namespace(1));
    assert_eq!(values("sum(a)", rows).await, Ok(vec![(words, 2.0)]));
    let rows = vector([(json!({"tool": "a"}), 1.0), (json!({"tool": "b"}), 3.0), (json!({}), f64::NAN)]);
    assert_eq!(
        values("sum(b)", rows).await,
        Ok(vec![("tool=b".to_owned(), 3.0), ("tool=a".to_owned(), 1.0)])
    );
    let service = json!({"namespace": namespace(1), "service": "server-1-svc"});
    assert!(values("sum(c)", vector([(service, 4.0)])).await.is_ok());
    assert_eq!(values("sum(d)", vector([])).await, Ok(Vec::new()));
    assert_eq!(values("sum(e)", vector([(pod(0, 0), 1.0)])).await, Ok(Vec::new()));
    let refused = failed(400, "bad_data", "1:3: parse error: unexpected end");
    assert_eq!(values("sum(", refused).await, Err("1:3: parse error: unexpected end".to_owned()));
}

#[tokio::test]
async fn an_error_of_a_rule_shows_among_the_problems() {
    let says = |query: &str| {
        if query == "sum(" { failed(400, "bad_data", "parse error: no") } else { vector([]) }
    };
    let world = told(says, json!({"rules": [{"name": "Backlog", "promql": "sum(", "above": "1"}]})).await;
    let signals = world.stores.signals(&world.objects[0], Timestamp::now());
    assert!(
        signals.problems().contains(&"rule Backlog: parse error: no".to_owned()),
        "{:?}",
        signals.problems()
    );
}

#[tokio::test]
async fn an_object_may_name_only_what_the_allow_list_permits() {
    let other = StandIn::new(|_| vector([])).await;
    let spec = mapped(&PrometheusSignal {
        url: Some(other.url.replace("http://", "http://me:s3cret@")),
        ..PrometheusSignal::default()
    });
    let refused = World::new(1, &[], |_| spec.clone());
    refused.tick().await;
    let words = format!("{} is not on the operator's allow-list (--allowed-endpoints)", other.url);
    assert_eq!(refused.metrics(0), Reading::Unavailable(words));
    assert_eq!(other.count(), 0);
    let permitted = World::new(1, &["--allowed-endpoints", "10.0.0.1,127.0.0.1"], |_| spec.clone());
    permitted.tick().await;
    assert!(permitted.metrics(0).fresh().unwrap().source.ends_with(&other.url));
}

#[tokio::test]
async fn without_a_prometheus_nothing_is_told_and_rules_say_so() {
    let world = World::new(1, &[], |_| json!({}));
    world.tick().await;
    assert_eq!((world.metrics(0), world.rules(0)), (Reading::Off, Reading::Off));
    let rule = json!({"rules": [{"name": "R", "promql": "x", "above": "1"}]});
    let world = World::new(1, &[], |_| rule.clone());
    assert!(matches!(world.rules(0), Reading::Unavailable(_)));
    let off = json!({"signals": {"prometheus": {"enabled": false}}});
    let world = World::new(1, &["--prometheus-url", "http://127.0.0.1:1"], |_| off.clone());
    world.tick().await;
    assert_eq!(world.metrics(0), Reading::Off);
}

#[tokio::test]
async fn what_another_mapping_was_told_is_not_told_to_a_changed_object() {
    let prometheus = StandIn::new(|query| each(query, "mcp_", 2, 7.0)).await;
    let mut world = World::new(1, &["--prometheus-url", &prometheus.url], |_| json!({}));
    world.tick().await;
    let mut object = McpServerHealth::clone(&world.objects[0]);
    object.spec.signals.prometheus =
        Some(PrometheusSignal { duration_unit: DurationUnit::Milliseconds, ..PrometheusSignal::default() });
    world.look(object);
    assert_eq!(world.metrics(0), Reading::Off);
    world.tick().await;
    assert!(world.metrics(0).fresh().is_some());
}

#[tokio::test]
async fn what_containers_use_is_prometheus_to_tell_where_it_knows_all_pods() {
    let says = |pods: usize| {
        move |query: &str| {
            let (value, more) = match query {
                _ if query.contains("timestamp(") => (sampled(), json!({"container": "server"})),
                _ if query.contains("container_cpu_usage") => (0.25, json!({"container": "server"})),
                _ if query.contains("working_set") => (64.0, json!({"container": "server"})),
                _ => return vector([]),
            };
            vector((0..pods).map(|one| (with(0, one, &more), value)))
        }
    };
    let prometheus = StandIn::new(says(3)).await;
    let world = World::new(1, &["--prometheus-url", &prometheus.url], |_| json!({}));
    assert!(!world.stores.prometheus_tells_usage("", Timestamp::now()));
    world.tick().await;
    assert!(world.stores.prometheus_tells_usage("", Timestamp::now()));
    let signals = world.stores.signals(&world.objects[0], Timestamp::now());
    let usage = signals.usage.fresh().unwrap();
    assert_eq!(usage.len(), 3);
    assert_eq!((usage[0].samples[0].cpu, usage[0].samples[0].memory), (250, 64));
    let prometheus = StandIn::new(says(2)).await;
    let world = World::new(1, &["--prometheus-url", &prometheus.url], |_| json!({}));
    world.tick().await;
    assert!(!world.stores.prometheus_tells_usage("", Timestamp::now()), "one pod of three is not told of");
}

/// Of each pod of the first server, both replicas of an HA pair tell this many sessions; one of them lags.
fn by_replicas(query: &str, label: &str) -> Said {
    if !query.contains("(mcp_sessions)") && query != "sessions_by_pod" {
        return vector([]);
    }
    let is_moment = query.contains("timestamp(");
    let rows = (0..3).flat_map(|one| {
        let of = move |replica: &str, sessions: f64, ago: f64| {
            (with(0, one, &json!({label: replica})), if is_moment { sampled() - ago } else { sessions })
        };
        [of("k8s-0", 60.0, 15.0), of("k8s-1", 61.0, 0.0)]
    });
    vector(rows)
}

#[tokio::test]
async fn what_both_replicas_of_a_prometheus_tell_counts_once_and_the_freshest_counts() {
    let world = told(|query| by_replicas(query, "prometheus_replica"), json!({})).await;
    assert_eq!(values(&world, 0, Measure::Sessions), [61.0; 3]);
    let age = Timestamp::now().duration_since(series(&world, 0, Measure::Sessions)[0].at);
    assert!((30..35).contains(&age.as_secs()));
    // A label of another name is the policy's to declare; one that is the server's own is as well.
    let named = json!({"signals": {"prometheus": {"replicaLabels": ["ha"]}}});
    let world = told(|query| by_replicas(query, "ha"), named).await;
    assert_eq!(values(&world, 0, Measure::Sessions), [61.0; 3]);
    let own_query = json!([{"measure": "Sessions", "promql": "sessions_by_pod"}]);
    for (labels, expected) in [(json!([]), 121.0), (json!(["replica"]), 61.0)] {
        let spec = json!({"signals": {"prometheus": {"replicaLabels": labels, "queries": own_query}}});
        let world = told(
            |query| {
                by_replicas(
                    &query.replace("timestamp(sessions_by_pod)", "timestamp((mcp_sessions))"),
                    "replica",
                )
            },
            spec,
        )
        .await;
        assert_eq!(values(&world, 0, Measure::Sessions), [expected; 3], "{labels}");
    }
}

#[tokio::test]
async fn a_rule_of_a_policys_own_is_told_once_by_both_replicas() {
    let rule = json!({"name": "Many", "promql": "sessions_by_pod", "above": "10", "severity": "SEV3"});
    let says = |query: &str| {
        by_replicas(&query.replace("timestamp(sessions_by_pod)", "timestamp((mcp_sessions))"), "replica")
    };
    let world = told(says, json!({"rules": [rule]})).await;
    let rules = world.rules(0);
    let values = rules.fresh().unwrap()[0].values.clone().unwrap();
    assert_eq!(values.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [61.0; 3]);
    assert!(values.iter().all(|(words, _)| !words.contains("replica")), "{values:?}");
}

#[tokio::test]
async fn a_proxy_that_lets_get_through_only_is_asked_by_get_and_not_by_post_again() {
    for status in [403, 405, 501] {
        let prometheus = StandIn::behind_proxy(status, |query| each(query, "mcp_sessions)", 1, 7.0)).await;
        let world = World::new(1, &["--prometheus-url", &prometheus.url], |_| json!({}));
        world.tick().await;
        assert_eq!(values(&world, 0, Measure::Sessions), [7.0; 3], "{status}");
        prometheus.count();
        world.tick().await;
        assert!(!prometheus.asked.lock().unwrap().contains(&"POST".to_owned()), "{status}");
    }
}

#[tokio::test]
async fn a_query_that_is_too_long_for_a_url_is_said_to_be_where_no_post_is_let_through() {
    let long = format!("max(x{{pod=~\"{}\"}})", "a|".repeat(2000));
    let rule = json!({"name": "Long", "promql": long, "above": "10", "severity": "SEV3"});
    let prometheus = StandIn::behind_proxy(405, |query| each(query, "mcp_sessions)", 1, 7.0)).await;
    let world = World::new(1, &["--prometheus-url", &prometheus.url], |_| json!({"rules": [rule]}));
    world.tick().await;
    assert_eq!(values(&world, 0, Measure::Sessions), [7.0; 3]);
    let rules = world.rules(0);
    let why = rules.fresh().unwrap()[0].values.clone().unwrap_err();
    assert!(why.starts_with("it takes no POST, and the query is too long for a URL"), "{why}");
}
