//! HighLatency and throttled containers, by tables: by histograms and by summaries, and why answers are slow.

use mcp_health_api::{ActionType, Cause, Duration, IncidentType, Label, Measure, Severity, Thresholds};
use mcp_health_core::signals::{Circuit, CircuitState, Reading};

use crate::support::{
    measured::{
        Measured, Metrics, found, healthy, measured, pods, ready_for, rolled_out, with_thresholds, words,
    },
    moment,
    scene::Scene,
};

use IncidentType::{CpuSaturation, HighLatency};

/// Requests of a pod by how long they took: below 0.5 s, below 1 s, below 2.5 s, longer.
fn durations(one: Measured, measure: Measure, pod: &str, counts: [f64; 4]) -> Measured {
    let mut below = 0.0;
    ["0.5", "1.0", "2.5", "+Inf"].iter().zip(counts).fold(one, |one, (bound, count)| {
        below += count;
        one.with(measure, pod, &[(Label::Bound, bound)], below)
    })
}

fn seconds(one: Measured, pod: &str, counts: [f64; 4]) -> Measured {
    durations(one, Measure::DurationBucket, pod, counts)
}

/// A summary of a pod, at an endpoint with so many requests.
fn summary(one: Measured, pod: &str, [median, p95, p99]: [f64; 3], requests: f64) -> Measured {
    let endpoint = (Label::Endpoint, "/mcp");
    let one = one.with(Measure::DurationCount, pod, &[endpoint], requests);
    [("0.5", median), ("0.95", p95), ("0.99", p99)].iter().fold(one, |one, (quantile, value)| {
        one.with(Measure::DurationQuantile, pod, &[endpoint, (Label::Quantile, quantile)], *value)
    })
}

fn p99(seconds: u32) -> Thresholds {
    Thresholds { p99: Some(Duration::from_secs(seconds)), ..Thresholds::default() }
}

#[test]
fn what_was_slow_in_the_window_and_is_not_any_more_is_acted_on_by_nobody_and_closes_nothing() {
    let rows: &[(&str, [f64; 2], &str)] = &[
        ("still slow", [0.5, 1.0], "SEV2 SlowAnswers"),
        ("fast again", [1.0, 1.0], "Unknown"),
        ("nobody asks any more", [0.0, 0.0], "Unknown"),
    ];
    for (what, [below, all], wanted) in rows {
        let mut scene = healthy();
        let pod = pods(&scene)[0].clone();
        let mut one = seconds(Measured::at(scene.now), &pod, [200.0, 0.0, 100.0, 0.0]);
        for (bound, rate) in [("1.0", *below), ("2.5", *all), ("+Inf", *all)] {
            one = one.recent(Measure::DurationBucket, &pod, &[(Label::Bound, bound)], rate);
        }
        one.into_scene(&mut scene);
        ready_for(&mut scene, 20);
        assert_eq!(words(&scene, HighLatency), *wanted, "{what}");
    }
}

#[test]
fn slow_answers_are_found_by_histograms_and_by_summaries() {
    let rows: &[(&str, Metrics, &str)] = &[
        ("all fast", |one, pods| seconds(one, &pods[0], [300.0, 0.0, 0.0, 0.0]), "Clear"),
        ("at the threshold", |one, pods| seconds(one, &pods[0], [0.0, 300.0, 0.0, 0.0]), "Clear"),
        (
            "one of thirty is slow",
            |one, pods| seconds(one, &pods[0], [290.0, 0.0, 10.0, 0.0]),
            "SEV2 SlowAnswers",
        ),
        (
            "a little more than one of a hundred",
            |one, pods| seconds(one, &pods[0], [290.0, 6.0, 4.0, 0.0]),
            "SEV3 SlowAnswers",
        ),
        (
            "beyond the last bound",
            |one, pods| seconds(one, &pods[0], [200.0, 0.0, 0.0, 100.0]),
            "SEV2 SlowAnswers",
        ),
        (
            "five requests a minute, one of them slow",
            |one, pods| seconds(one, &pods[0], [24.0, 0.0, 1.0, 0.0]),
            "Clear",
        ),
        ("two of them", |one, pods| seconds(one, &pods[0], [23.0, 0.0, 2.0, 0.0]), "Clear"),
        ("three of them", |one, pods| seconds(one, &pods[0], [22.0, 0.0, 3.0, 0.0]), "SEV2 SlowAnswers"),
        (
            "all of nineteen: too few to tell",
            |one, pods| seconds(one, &pods[0], [0.0, 0.0, 19.0, 0.0]),
            "Unknown",
        ),
        ("all of twenty", |one, pods| seconds(one, &pods[0], [0.0, 0.0, 20.0, 0.0]), "SEV2 SlowAnswers"),
        ("no request", |one, pods| one.answers(&pods[0], 0.0, 0.0), "Unknown"),
        ("durations that nobody measures", |one, pods| one.answers(&pods[0], 300.0, 0.0), "Unknown"),
        ("old values", |one, pods| seconds(one, &pods[0], [200.0, 0.0, 100.0, 0.0]).aged(121), "Unknown"),
        (
            "a histogram without an end",
            |one, pods| one.with(Measure::DurationBucket, &pods[0], &[(Label::Bound, "0.5")], 300.0),
            "Unknown",
        ),
        (
            "pods with other bounds",
            |one, pods| {
                let one = seconds(one, &pods[0], [300.0, 0.0, 0.0, 0.0]);
                let one = one.with(Measure::DurationBucket, &pods[1], &[(Label::Bound, "0.7")], 100.0);
                one.with(Measure::DurationBucket, &pods[1], &[(Label::Bound, "+Inf")], 100.0)
            },
            "Unknown",
        ),
        (
            "pods summed up before the quantile",
            |one, pods| {
                let one = seconds(one, &pods[0], [900.0, 0.0, 0.0, 0.0]);
                seconds(one, &pods[1], [0.0, 0.0, 5.0, 0.0])
            },
            "Clear",
        ),
        (
            "without a unit: seconds",
            |one, pods| durations(one, Measure::UnitlessDurationBucket, &pods[0], [200.0, 0.0, 100.0, 0.0]),
            "SEV2 SlowAnswers",
        ),
        ("a summary", |one, pods| summary(one, &pods[0], [0.1, 0.2, 1.5], 300.0), "SEV3 SlowAnswers"),
        ("a fast one", |one, pods| summary(one, &pods[0], [0.1, 0.2, 0.9], 300.0), "Clear"),
        ("of five requests a minute", |one, pods| summary(one, &pods[0], [0.1, 0.2, 1.5], 25.0), "Clear"),
        (
            "most of which are slow",
            |one, pods| summary(one, &pods[0], [1.1, 1.2, 1.5], 25.0),
            "SEV3 SlowAnswers",
        ),
        (
            "of several, the worst, and no mean of them",
            |one, pods| {
                let one = summary(one, &pods[0], [0.1, 0.1, 0.1], 9000.0);
                summary(one, &pods[1], [0.1, 1.2, 2.5], 300.0)
            },
            "SEV2 OnePod",
        ),
        (
            "not one that nobody asks",
            |one, pods| {
                let one = summary(one, &pods[0], [0.1, 0.1, 0.1], 9000.0);
                summary(one, &pods[1], [9.0, 9.0, 9.0], 0.0)
            },
            "Clear",
        ),
        (
            "one without a count",
            |one, pods| one.with(Measure::DurationQuantile, &pods[0], &[(Label::Quantile, "0.99")], 9.0),
            "Unknown",
        ),
        (
            "the histogram before the summary",
            |one, pods| {
                let one = seconds(one, &pods[0], [300.0, 0.0, 0.0, 0.0]);
                summary(one, &pods[0], [9.0, 9.0, 9.0], 300.0)
            },
            "Clear",
        ),
    ];
    for (what, metrics, wanted) in rows {
        let mut scene = measured(healthy(), *metrics);
        ready_for(&mut scene, 20);
        assert_eq!(words(&scene, HighLatency), *wanted, "{what}");
    }
}

#[test]
fn durations_without_a_unit_are_read_in_the_unit_of_the_policy() {
    let metrics: Metrics = |one, pods| {
        let measure = Measure::UnitlessDurationBucket;
        let one = one.with(measure, &pods[0], &[(Label::Bound, "500")], 250.0);
        let one = one.with(measure, &pods[0], &[(Label::Bound, "2000")], 300.0);
        one.with(measure, &pods[0], &[(Label::Bound, "+Inf")], 300.0)
    };
    let mut scene = measured(healthy(), metrics);
    ready_for(&mut scene, 20);
    let evidence = found(&scene, HighLatency).evidence;
    assert!(evidence[0].starts_with("P99 is 1910.00s"), "as seconds: {evidence:?}");
    let in_milliseconds = serde_json::json!({"durationUnit": "milliseconds"});
    scene.spec.signals.prometheus = serde_json::from_value(in_milliseconds).unwrap();
    let finding = found(&scene, HighLatency);
    assert_eq!(finding.severity, Severity::SEV3);
    assert!(finding.evidence[0].starts_with("P99 is 1.91s (threshold 1.00s)"), "{:?}", finding.evidence);
    with_thresholds(&mut scene, HighLatency, p99(2));
    assert_eq!(words(&scene, HighLatency), "Clear");
}

#[test]
fn a_threshold_beyond_the_last_bound_cannot_be_judged() {
    let metrics: Metrics = |one, pods| seconds(one, &pods[0], [200.0, 0.0, 0.0, 100.0]);
    let mut scene = measured(healthy(), metrics);
    ready_for(&mut scene, 20);
    with_thresholds(&mut scene, HighLatency, p99(5));
    assert_eq!(words(&scene, HighLatency), "Unknown", "longer than 2.5 s, and nobody knows by how much");
}

#[test]
fn why_answers_are_slow_is_told_apart() {
    type Change = fn(&mut Scene);
    type Row = (&'static str, fn() -> Scene, Metrics, Change, Cause);
    const SLOW: Metrics =
        |one, pods| pods.iter().fold(one, |one, pod| seconds(one, pod, [80.0, 0.0, 20.0, 0.0]));
    const POOL: Metrics = |one, pods| {
        let one = SLOW(one, pods).with(Measure::DatabasePoolSize, &pods[0], &[], 10.0);
        one.with(Measure::DatabasePoolInUse, &pods[0], &[], 9.0)
    };
    let rows: &[Row] = &[
        ("a new template", rolled_out, SLOW, |_| {}, Cause::BadRollout),
        ("a new template that also drains its pool", rolled_out, POOL, |_| {}, Cause::BadRollout),
        ("nothing tells", healthy, SLOW, |_| {}, Cause::SlowAnswers),
        ("the pool is in use", healthy, POOL, |_| {}, Cause::DatabasePool),
        (
            "callers wait for a connection",
            healthy,
            |one, pods| SLOW(one, pods).with(Measure::DatabasePoolWaiters, &pods[1], &[], 2.0),
            |_| {},
            Cause::DatabasePool,
        ),
        (
            "a pool that is half in use",
            healthy,
            |one, pods| {
                let one = SLOW(one, pods).with(Measure::DatabasePoolSize, &pods[0], &[], 10.0);
                one.with(Measure::DatabasePoolInUse, &pods[0], &[], 5.0)
            },
            |_| {},
            Cause::SlowAnswers,
        ),
        (
            "one pod",
            healthy,
            |one, pods| {
                let one = seconds(one, &pods[0], [80.0, 0.0, 20.0, 0.0]);
                seconds(one, &pods[1], [100.0, 0.0, 0.0, 0.0])
            },
            |_| {},
            Cause::OnePod,
        ),
        (
            "the cache misses more than before",
            healthy,
            |one, pods| {
                let one = SLOW(one, pods).with(Measure::CacheHits, &pods[0], &[], 50.0);
                let one = one.with(Measure::CacheMisses, &pods[0], &[], 50.0);
                let one = one.before(Measure::CacheHits, "gone", &[], 8.0);
                one.before(Measure::CacheMisses, "gone", &[], 2.0)
            },
            |_| {},
            Cause::CacheMisses,
        ),
        (
            "the cache misses as before",
            healthy,
            |one, pods| {
                let one = SLOW(one, pods).with(Measure::CacheMisses, &pods[0], &[], 50.0);
                one.before(Measure::CacheMisses, "gone", &[], 2.0)
            },
            |_| {},
            Cause::SlowAnswers,
        ),
        (
            "the CPU limit",
            healthy,
            |one, pods| {
                let one = SLOW(one, pods).with(Measure::CpuPeriods, &pods[0], &[], 1000.0);
                one.with(Measure::CpuThrottledPeriods, &pods[0], &[], 260.0)
            },
            |_| {},
            Cause::CpuThrottled,
        ),
        (
            "a circuit of the database",
            healthy,
            SLOW,
            |scene| {
                let open = Circuit {
                    pod: pods(scene)[0].clone(),
                    name: "Database".to_owned(),
                    state: CircuitState::Open,
                    failures: None,
                    threshold: None,
                    last_failure: None,
                    recovery: None,
                    at: moment(scene.now),
                };
                scene.signals.circuits = Reading::Fresh(vec![open]);
            },
            Cause::DatabaseConnection,
        ),
    ];
    for (what, scene, metrics, change, cause) in rows {
        let scene = measured(scene(), *metrics).with(*change);
        let finding = found(&scene, HighLatency);
        assert_eq!(finding.cause, *cause, "{what}: {finding:#?}");
        let of_database = matches!(cause, Cause::DatabasePool | Cause::DatabaseConnection);
        for action in [ActionType::Scale, ActionType::RolloutRestart, ActionType::RecyclePod] {
            assert_eq!(finding.forbids.contains(&action), of_database, "{what}: {action}");
        }
    }
}

#[test]
fn the_slowest_endpoints_are_named_by_their_mean_and_not_by_their_traffic() {
    let metrics: Metrics = |one, pods| {
        let at = |endpoint: &'static str| [(Label::Endpoint, endpoint)];
        let one = seconds(one, &pods[0], [80.0, 0.0, 20.0, 0.0]);
        let one = one.with(Measure::DurationSum, &pods[0], &at("/busy"), 500.0);
        let one = one.with(Measure::DurationCount, &pods[0], &at("/busy"), 5000.0);
        let one = one.with(Measure::DurationSum, &pods[0], &at("/slow"), 50.0);
        let one = one.with(Measure::DurationCount, &pods[0], &at("/slow"), 20.0);
        one.with(Measure::DurationSum, &pods[0], &at("/idle"), 0.0)
    };
    let evidence = found(&measured(healthy(), metrics), HighLatency).evidence;
    let slowest = "slowest endpoints, by their mean: /slow (2.50s), /busy (100ms)".to_owned();
    assert!(evidence.contains(&slowest), "{evidence:#?}");
}

#[test]
fn throttled_containers_are_saturated_too() {
    fn throttled(one: Measured, pods: &[String], periods: f64) -> Measured {
        let one = one.with(Measure::CpuPeriods, &pods[0], &[], 1000.0);
        one.with(Measure::CpuThrottledPeriods, &pods[0], &[], periods)
    }
    let rows: &[(&str, Metrics, &str)] = &[
        ("a quarter of the time", |one, pods| throttled(one, pods, 250.0), "Clear"),
        ("more", |one, pods| throttled(one, pods, 251.0), "SEV3 CpuThrottled"),
        ("not measured", |one, _| one, "Unknown"),
        (
            "no limit, and so no periods",
            |one, pods| one.with(Measure::CpuPeriods, &pods[0], &[], 0.0),
            "Unknown",
        ),
        ("old values", |one, pods| throttled(one, pods, 900.0).aged(121), "Unknown"),
    ];
    for (what, metrics, wanted) in rows {
        let mut scene = measured(healthy(), *metrics);
        assert_eq!(scene.signals.usage, Reading::Off);
        assert_eq!(words(&scene, CpuSaturation), *wanted, "{what}");
        // Where usage should be seen and cannot, it is not told that it is well.
        scene.signals.usage = Reading::Unavailable("metrics-server does not answer".to_owned());
        let wanted = if *wanted == "Clear" { "Unknown" } else { *wanted };
        assert_eq!(words(&scene, CpuSaturation), wanted, "{what}, without usage");
    }
}
