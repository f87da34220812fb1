//! HighErrorRate, by tables: what is found, why, how bad it is, and what is not concluded of what is not seen.

use mcp_health_api::{Cause, Decimal, IncidentType, Label, Measure, Severity, Thresholds};
use mcp_health_core::{
    Server,
    signals::{
        CheckStep, Circuit, CircuitState, Dependency, Failure, Fault, FaultKind, ProbeQuestion, Probed,
        Reading,
    },
};

use crate::support::{
    measured::{
        Measured, Metrics, found, healthy, measured, pods, probed, ready_for, rolled_out, with_thresholds,
        words,
    },
    moment,
    operator::Operator,
    policy,
    scene::Scene,
    world::{Template, World},
};

use IncidentType::HighErrorRate;

const FAILS: [(Label, &str); 2] = [(Label::Type, "tool_error"), (Label::Tool, "search")];

#[test]
fn too_many_requests_that_fail_are_found_and_what_cannot_be_seen_is_not_concluded() {
    let rows: &[(&str, Metrics, &str)] = &[
        ("nothing fails", |one, pods| one.answers(&pods[0], 300.0, 0.0), "Clear"),
        ("at the threshold", |one, pods| one.answers(&pods[0], 95.0, 5.0), "Clear"),
        ("above it", |one, pods| one.answers(&pods[0], 94.0, 6.0), "SEV2 ServerErrors"),
        ("all of fifty", |one, pods| one.answers(&pods[0], 0.0, 50.0), "SEV2 ServerErrors"),
        ("all of forty-nine: too few to tell", |one, pods| one.answers(&pods[0], 0.0, 49.0), "Unknown"),
        ("five requests a minute, one of which fails", |one, pods| one.answers(&pods[0], 24.0, 1.0), "Clear"),
        (
            "five requests a minute, three of which fail",
            |one, pods| one.answers(&pods[0], 22.0, 3.0),
            "Unknown",
        ),
        ("one request, which was well", |one, pods| one.answers(&pods[0], 1.0, 0.0), "Unknown"),
        ("no request", |one, pods| one.answers(&pods[0], 0.0, 0.0), "Unknown"),
        ("no series", |one, _| one, "Unknown"),
        (
            "only errors are counted, and not of how many",
            |one, pods| one.with(Measure::Errors, &pods[0], &FAILS, 100.0),
            "Unknown",
        ),
        ("old values", |one, pods| one.answers(&pods[0], 0.0, 100.0).aged(121), "Unknown"),
        ("values just in time", |one, pods| one.answers(&pods[0], 0.0, 100.0).aged(120), "SEV2 ServerErrors"),
        ("of a pod that is gone", |one, _| one.answers("gone", 0.0, 100.0), "Unknown"),
        (
            "of a pod that is gone, while others are well",
            |one, pods| {
                let one = one.answers("gone", 0.0, 1000.0);
                pods.iter().fold(one, |one, pod| one.answers(pod, 50.0, 0.0))
            },
            "Clear",
        ),
        ("of the server as a whole", |one, _| one.answers("", 80.0, 20.0), "SEV2 ServerErrors"),
        (
            "the server's own count, where answers are 200",
            |one, pods| one.answers(&pods[0], 100.0, 0.0).with(Measure::Errors, &pods[0], &FAILS, 20.0),
            "SEV2 OneTool",
        ),
        (
            "what clients did wrong",
            |one, pods| {
                let theirs = [(Label::Type, "validation_error"), (Label::Tool, "search")];
                one.answers(&pods[0], 300.0, 0.0).with(Measure::Errors, &pods[0], &theirs, 200.0)
            },
            "Clear",
        ),
        (
            "health checks dilute nothing",
            |one, pods| {
                let health = [(Label::Endpoint, "/health"), (Label::Status, "200")];
                let one = one.with(Measure::Requests, &pods[0], &health, 10_000.0);
                one.answers(&pods[0], 90.0, 10.0)
            },
            "SEV2 ServerErrors",
        ),
        (
            "and are no traffic",
            |one, pods| one.with(Measure::Requests, &pods[0], &[(Label::Endpoint, "/health/tools")], 900.0),
            "Unknown",
        ),
        (
            "the errors could not be asked for",
            |one, pods| one.answers(&pods[0], 100.0, 0.0).missing(Measure::Errors),
            "Unknown",
        ),
        (
            "nor the requests",
            |one, pods| one.answers(&pods[0], 0.0, 100.0).missing(Measure::Requests),
            "Unknown",
        ),
    ];
    for (what, metrics, wanted) in rows {
        let mut scene = measured(healthy(), *metrics);
        // Two of three pods show nothing: they were not ready for long enough to be missed.
        ready_for(&mut scene, 20);
        assert_eq!(words(&scene, HighErrorRate), *wanted, "{what}");
    }
    let mut scene = healthy();
    scene.signals.metrics = Reading::Unavailable("Prometheus does not answer".to_owned());
    assert_eq!(words(&scene, HighErrorRate), "Unknown");
}

#[test]
fn what_failed_in_the_window_and_does_not_any_more_is_acted_on_by_nobody_and_closes_nothing() {
    let status = |status| [(Label::Endpoint, "/mcp"), (Label::Status, status)];
    let rows: &[(&str, f64, f64, &str)] = &[
        ("it still fails", 0.7, 0.3, "SEV2 ServerErrors"),
        ("it fails less, and still too much", 0.93, 0.07, "SEV2 ServerErrors"),
        ("it is over", 1.0, 0.0, "Unknown"),
        ("nobody asks any more", 0.0, 0.0, "Unknown"),
    ];
    for (what, well, failed, wanted) in rows {
        let mut scene = healthy();
        let pod = pods(&scene)[0].clone();
        let one = Measured::at(scene.now).answers(&pod, 80.0, 20.0);
        let one = one.recent(Measure::Requests, &pod, &status("200"), *well);
        one.recent(Measure::Requests, &pod, &status("500"), *failed).into_scene(&mut scene);
        ready_for(&mut scene, 20);
        assert_eq!(words(&scene, HighErrorRate), *wanted, "{what}");
    }
}

#[test]
fn without_requests_an_incident_is_over_only_if_probes_are_answered() {
    let rows: &[(&str, Metrics, &str, &str)] = &[
        ("none", |one, pods| one.answers(&pods[0], 0.0, 0.0), "Clear", "Unknown"),
        ("a few, and well", |one, pods| one.answers(&pods[0], 3.0, 0.0), "Clear", "Unknown"),
        ("a few, and not well", |one, pods| one.answers(&pods[0], 3.0, 3.0), "Unknown", "Unknown"),
        ("not seen at all", |one, _| one, "Unknown", "Unknown"),
    ];
    for (what, metrics, answered, silent) in rows {
        let mut scene = measured(healthy(), *metrics);
        ready_for(&mut scene, 20);
        assert_eq!(words(&scene, HighErrorRate), *silent, "{what}: nobody probes");
        probed(&mut scene, true);
        assert_eq!(words(&scene, HighErrorRate), *answered, "{what}: probes are answered");
        probed(&mut scene, false);
        assert_eq!(words(&scene, HighErrorRate), *silent, "{what}: probes fail");
        probed(&mut scene, true);
        let Reading::Fresh(probes) = &mut scene.signals.probes else { panic!("probes") };
        let walled = Probed { ever_answered: false, results: Vec::new(), ..probes[0].clone() };
        probes.push(walled);
        assert_eq!(words(&scene, HighErrorRate), *answered, "{what}: one way has a wall in between");
        scene.signals.probes = Reading::Stale { value: Vec::new(), at: moment(0) };
        assert_eq!(words(&scene, HighErrorRate), *silent, "{what}: probes are not seen");
    }
}

#[test]
fn pods_that_show_nothing_may_hide_errors_and_do_not_hide_those_of_others() {
    const WELL: Metrics = |one, pods| one.answers(&pods[0], 100.0, 0.0).answers(&pods[1], 100.0, 0.0);
    let mut scene = measured(healthy(), WELL);
    ready_for(&mut scene, 20);
    assert_eq!(words(&scene, HighErrorRate), "Clear", "it is young");
    ready_for(&mut scene, 120);
    assert_eq!(words(&scene, HighErrorRate), "Unknown", "it should be seen by now");
    let bad: Metrics = |one, pods| one.answers(&pods[0], 50.0, 50.0).answers(&pods[1], 50.0, 50.0);
    let mut scene = measured(healthy(), bad);
    ready_for(&mut scene, 120);
    assert_eq!(words(&scene, HighErrorRate), "SEV2 ServerErrors");
    let unseen = pods(&scene)[2].clone();
    let evidence = found(&scene, HighErrorRate).evidence.join("\n");
    assert!(evidence.contains(&format!("no metrics of pod {unseen} are seen")), "{evidence}");
    // A pod that nobody asks counts no request, and tells of other things.
    let idle: Metrics = |one, pods| WELL(one, pods).with(Measure::DatabasePoolSize, &pods[2], &[], 20.0);
    let mut scene = measured(healthy(), idle);
    ready_for(&mut scene, 120);
    assert_eq!(words(&scene, HighErrorRate), "Clear");
    // What the node tells of it is no word of its own.
    let node: Metrics = |one, pods| WELL(one, pods).with(Measure::CpuSeconds, &pods[2], &[], 20.0);
    let mut scene = measured(healthy(), node);
    ready_for(&mut scene, 120);
    assert_eq!(words(&scene, HighErrorRate), "Unknown");
}

#[test]
fn why_requests_fail_is_told_apart() {
    type Change = fn(&mut Scene);
    const ALL_BAD: Metrics = |one, pods| pods.iter().fold(one, |one, pod| one.answers(pod, 50.0, 50.0));
    const ONE_BAD: Metrics = |one, pods| {
        one.answers(&pods[0], 50.0, 50.0).answers(&pods[1], 100.0, 0.0).answers(&pods[2], 99.0, 1.0)
    };
    fn circuit(pod: &str, state: CircuitState, scene: &Scene) -> Circuit {
        Circuit {
            pod: pod.to_owned(),
            name: "external-api".to_owned(),
            state,
            failures: None,
            threshold: None,
            last_failure: None,
            recovery: None,
            at: moment(scene.now),
        }
    }
    type Row = (&'static str, fn() -> Scene, Metrics, Change, Cause);
    let rows: &[Row] = &[
        ("a new template", rolled_out, ALL_BAD, |_| {}, Cause::BadRollout),
        ("a known one", healthy, ALL_BAD, |_| {}, Cause::ServerErrors),
        (
            "a new one, and it was so in the hour before",
            rolled_out,
            |one, pods| {
                ALL_BAD(one, pods).before(Measure::Requests, "gone", &[(Label::Status, "200")], 1.0).before(
                    Measure::Requests,
                    "gone",
                    &[(Label::Status, "503")],
                    1.0,
                )
            },
            |_| {},
            Cause::ServerErrors,
        ),
        (
            "a new one, and it was well in the hour before",
            rolled_out,
            |one, pods| ALL_BAD(one, pods).before(Measure::Requests, "gone", &[(Label::Status, "200")], 1.0),
            |_| {},
            Cause::BadRollout,
        ),
        (
            "a new one that also says that its database is why: the rollout comes first",
            rolled_out,
            |one, pods| {
                ALL_BAD(one, pods).with(Measure::Errors, &pods[0], &[(Label::Type, "database_error")], 50.0)
            },
            |_| {},
            Cause::BadRollout,
        ),
        ("one pod", healthy, ONE_BAD, |_| {}, Cause::OnePod),
        (
            "one of two, and nothing is known of the other",
            healthy,
            |one, pods| one.answers(&pods[0], 50.0, 50.0).answers(&pods[1], 5.0, 0.0),
            |_| {},
            Cause::ServerErrors,
        ),
        (
            "the database, by the types of errors",
            healthy,
            |one, pods| {
                let one = one.answers(&pods[0], 100.0, 0.0);
                one.with(Measure::Errors, &pods[0], &[(Label::Type, "database_error")], 12.0).with(
                    Measure::Errors,
                    &pods[0],
                    &[(Label::Type, "tool_error")],
                    8.0,
                )
            },
            |_| {},
            Cause::DatabaseConnection,
        ),
        (
            "the database, by the health answer",
            healthy,
            ALL_BAD,
            |scene| {
                probed(scene, false);
                let Reading::Fresh(probes) = &mut scene.signals.probes else { panic!("probes") };
                probes[0].question = ProbeQuestion::Health;
                let said = "says unhealthy: failed_components: database".to_owned();
                probes[0].results[0].outcome = Err(Fault { kind: FaultKind::Unhealthy, said });
            },
            Cause::DatabaseConnection,
        ),
        (
            "a dependency that is down for the operator too",
            healthy,
            ALL_BAD,
            |scene| {
                let spec = serde_json::json!({"name": "queue", "tcp": {"address": "queue:5672"}});
                scene.spec.signals.dependencies = vec![serde_json::from_value(spec).unwrap()];
                let failed =
                    (moment(scene.now), Err(Failure::new(CheckStep::Port, "refuses the connection")));
                scene.signals.dependencies = Reading::Fresh(vec![Dependency {
                    name: "queue".to_owned(),
                    words: "queue:5672".to_owned(),
                    results: vec![failed; 3],
                    ever_answered: true,
                    ..Dependency::default()
                }]);
            },
            Cause::DependencyDown,
        ),
        (
            "an open circuit on a pod that fails",
            healthy,
            ONE_BAD,
            |scene| {
                let open = circuit(&pods(scene)[0], CircuitState::Open, scene);
                scene.signals.circuits = Reading::Fresh(vec![open]);
            },
            Cause::CircuitOpen,
        ),
        (
            "an open circuit on a pod that does not",
            healthy,
            ONE_BAD,
            |scene| {
                let open = circuit(&pods(scene)[1], CircuitState::Open, scene);
                scene.signals.circuits = Reading::Fresh(vec![open]);
            },
            Cause::OnePod,
        ),
        (
            "a circuit that closed again",
            healthy,
            ALL_BAD,
            |scene| {
                let closed = circuit(&pods(scene)[0], CircuitState::HalfOpen, scene);
                scene.signals.circuits = Reading::Fresh(vec![closed]);
            },
            Cause::ServerErrors,
        ),
        (
            "one endpoint of several",
            healthy,
            |one, pods| {
                let fetch = |status| [(Label::Endpoint, "/tools/fetch"), (Label::Status, status)];
                let one = pods.iter().fold(one, |one, pod| one.answers(pod, 100.0, 0.0));
                pods.iter().fold(one, |one, pod| one.with(Measure::Requests, pod, &fetch("502"), 30.0))
            },
            |_| {},
            Cause::OneEndpoint,
        ),
        (
            "one tool",
            healthy,
            |one, pods| {
                let one = one.answers("", 100.0, 0.0);
                one.with(Measure::Errors, "", &FAILS, 20.0).with(Measure::Errors, &pods[0], &[], 1.0)
            },
            |_| {},
            Cause::OneTool,
        ),
    ];
    for (what, scene, metrics, change, cause) in rows {
        let scene = measured(scene(), *metrics).with(*change);
        let finding = found(&scene, HighErrorRate);
        assert_eq!(finding.cause, *cause, "{what}: {finding:#?}");
    }
}

#[test]
fn a_rollout_is_not_blamed_for_what_its_pods_do_not_do_or_what_was_there_before() {
    // The new template's pods beside two of the old one.
    let mut operator = Operator::new(World::with(Template::Good, 3), policy::enforcing());
    operator.run(120, 1);
    operator.world.roll_out(Template::NeverReady);
    operator.run(10, 1);
    let scene = Scene::of(&operator);
    let new = pods(&scene);
    let case = scene.case();
    let server = Server::of(&case).unwrap();
    let old: Vec<String> =
        server.pods.iter().map(|pod| pod.name.clone()).filter(|name| !new.contains(name)).collect();
    assert!(!new.is_empty() && !old.is_empty());
    let rows = [
        ("the new pod fails, the old ones do not", (50.0, 50.0), (100.0, 0.0), Cause::BadRollout),
        ("all fail", (50.0, 50.0), (50.0, 50.0), Cause::ServerErrors),
        ("the old ones fail", (100.0, 0.0), (50.0, 50.0), Cause::ServerErrors),
        ("the old ones are not asked", (50.0, 50.0), (2.0, 0.0), Cause::BadRollout),
    ];
    for (what, theirs, others, cause) in rows {
        let mut scene = scene.clone();
        let one = Measured::at(scene.now).answers(&new[0], theirs.0, theirs.1);
        let one = old.iter().fold(one, |one, pod| one.answers(pod, others.0, others.1));
        one.into_scene(&mut scene);
        assert_eq!(found(&scene, HighErrorRate).cause, cause, "{what}");
    }
    // The operator saw it before the rollout.
    let bad: Metrics = |one, pods| pods.iter().fold(one, |one, pod| one.answers(pod, 50.0, 50.0));
    let mut scene = measured(rolled_out(), bad);
    for (seen, cause) in [(scene.now - 3600, Cause::ServerErrors), (scene.now, Cause::BadRollout)] {
        scene.status.pending = vec![mcp_health_api::Pending {
            incident_type: HighErrorRate,
            rule: None,
            since: mcp_health_api::Time(moment(seen)),
            unseen_since: None,
        }];
        assert_eq!(found(&scene, HighErrorRate).cause, cause);
    }
}

#[test]
fn one_type_of_error_that_keeps_coming_for_an_hour_is_told_without_a_page() {
    let rows = [
        ("both spans", 30.0, 6.0, 1500.0, "SEV3 OneTool"),
        ("only lately", 30.0, 4.0, 1500.0, "Clear"),
        ("only before", 20.0, 6.0, 1500.0, "Clear"),
        ("of so many requests that it is noise", 30.0, 6.0, 300_000.0, "Clear"),
    ];
    for (what, lately, before, requests, wanted) in rows {
        let mut scene = healthy();
        let pod = pods(&scene)[0].clone();
        let one = Measured::at(scene.now).answers(&pod, requests, 0.0);
        let one = one.with(Measure::Errors, &pod, &FAILS, lately).before(
            Measure::Errors,
            "gone",
            &FAILS,
            before / 60.0,
        );
        one.into_scene(&mut scene);
        ready_for(&mut scene, 20);
        assert_eq!(words(&scene, HighErrorRate), wanted, "{what}");
    }
}

#[test]
fn the_object_names_other_thresholds() {
    let metrics: Metrics = |one, pods| one.answers(&pods[0], 29.0, 1.0);
    let mut scene = measured(healthy(), metrics);
    ready_for(&mut scene, 20);
    assert_eq!(words(&scene, HighErrorRate), "Clear");
    let percent = Some(Decimal("2.5".to_owned()));
    with_thresholds(
        &mut scene,
        HighErrorRate,
        Thresholds { percent, min_requests: Some(30), ..Thresholds::default() },
    );
    assert_eq!(words(&scene, HighErrorRate), "SEV2 ServerErrors");
    scene.spec.overrides[0].severity = Some(Severity::SEV4);
    scene.spec.overrides[0].hold_for = Some(mcp_health_api::Duration::from_secs(0));
    assert_eq!(scene.concluded().diagnosis.finding(HighErrorRate).unwrap().severity, Severity::SEV4);
}

#[test]
fn what_people_read_says_how_much_where_and_since_when_it_is_otherwise() {
    let metrics: Metrics = |one, pods| {
        let one = one.answers(&pods[0], 250.0, 0.0).answers(&pods[1], 250.0, 50.0);
        one.before(Measure::Requests, "gone", &[(Label::Status, "200")], 2.0)
    };
    let mut scene = measured(healthy(), metrics);
    ready_for(&mut scene, 20);
    let (failing, evidence) = (pods(&scene)[1].clone(), found(&scene, HighErrorRate).evidence);
    assert_eq!(
        evidence,
        [
            "9.1 % of requests fail: 50 of 550 in the last 5m (threshold 5 %)".to_owned(),
            format!("most by status: 500 (50); by endpoint: /mcp (50); by pod: {failing} (50)"),
            format!("only pod {failing} fails: the others are well"),
            "in the hour before, 0 % failed".to_owned(),
            "by Prometheus http://prometheus:9090".to_owned(),
        ]
    );
}

#[test]
fn more_errors_than_requests_are_all_of_them() {
    let metrics: Metrics =
        |one, pods| one.answers(&pods[0], 60.0, 0.0).with(Measure::Errors, &pods[0], &FAILS, 60.4);
    let evidence = found(&measured(healthy(), metrics), HighErrorRate).evidence;
    assert_eq!(evidence[0], "100 % of requests fail: 60 of 60 in the last 5m (threshold 5 %)");
}
