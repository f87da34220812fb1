//! What servers depend on: what is down and what only seems so, whose fault it is, what is done and left alone, and
//! certificates that end.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use mcp_health_api::{
    ActionType, Cause, Effect::EvictPod, IncidentType, McpServerHealthStatus, NamedDigest, Severity,
};
use mcp_health_core::{
    Fleet, diagnose as ask_the_rules,
    diagnose::Verdict,
    finding::Judgement,
    report,
    signals::{
        Certificate, CheckStep, Circuit, CircuitState, Database, Dependency, Failure, Reading,
        database::{Grant, MissingGrant},
    },
};

use crate::support::{
    measured::{found, judged, word},
    moment,
    operator::Operator,
    policy,
    scene::Scene,
    watches::{QUEUE, Sight, Source},
    world::{Pod, Template, World},
};

const PLACE: &str = "rabbitmq.mcp:5672";

fn dependency(now: i64, name: &str, answers: &[bool]) -> Dependency {
    let result = |well: &bool| {
        if *well {
            Ok(())
        } else {
            Err(Failure::new(CheckStep::Port, "10.0.0.7:5672 refuses the connection"))
        }
    };
    let count = i64::try_from(answers.len()).unwrap();
    let ages = (0..count).map(|at| (count - 1 - at) * 15);
    Dependency {
        name: name.to_owned(),
        words: format!("a connection to {name}.mcp:5672"),
        place: format!("{name}.mcp:5672"),
        known_as: Some(NamedDigest::new(name, "3f9a1c")),
        ever_answered: true,
        results: ages.zip(answers).map(|(age, well)| (moment(now - age), result(well))).collect(),
        ..Dependency::default()
    }
}

/// A healthy server, and what its dependencies answered, the newest last.
fn scene(all: &[(&str, &[bool])]) -> Scene {
    Scene::healthy().with(|scene| {
        for (name, _) in all.iter().filter(|(name, _)| *name != "postgres") {
            scene.spec = policy::with_dependency(scene.spec.clone(), name, PLACE);
        }
        if all.iter().any(|(name, _)| *name == "postgres") {
            let postgres = serde_json::json!({"connectionSecretRef": {"name": "db", "key": "url"}});
            scene.spec.signals.postgres = Some(serde_json::from_value(postgres).unwrap());
        }
        let seen = all.iter().map(|(name, answers)| dependency(scene.now, name, answers));
        scene.signals.dependencies = Reading::Fresh(seen.collect());
    })
}

fn seen(scene: &mut Scene) -> &mut Vec<Dependency> {
    match &mut scene.signals.dependencies {
        Reading::Fresh(all) => all,
        other => panic!("no dependencies: {other:?}"),
    }
}

/// With an incident open, as it was found a moment before.
fn open(mut scene: Scene) -> Scene {
    scene.open_incident();
    scene
}

const DOWN: &[bool] = &[true, true, false, false, false];
const UP: &[bool] = &[false, false, false, true, true];
const WELL: &[bool] = &[true; 5];

#[test]
fn a_dependency_is_down_after_three_failures_and_well_after_two_answers() {
    let down = || open(scene(&[("queue", DOWN)]));
    let then = |answers: &'static [bool]| {
        down().with(|scene| seen(scene)[0] = dependency(scene.now, "queue", answers))
    };
    let rows: Vec<(&str, Scene, &str)> = vec![
        ("nothing is declared", Scene::healthy(), "Clear"),
        ("it answers", scene(&[("queue", WELL)]), "Clear"),
        ("it failed twice", scene(&[("queue", &[true, true, true, false, false])]), "Clear"),
        ("it failed three times", scene(&[("queue", DOWN)]), "DependencyDown"),
        ("the database", scene(&[("postgres", DOWN)]), "DatabaseConnection"),
        ("the database beside another", scene(&[("queue", DOWN), ("postgres", DOWN)]), "DatabaseConnection"),
        ("it answered once", then(&[false, false, false, false, true]), "Unknown"),
        ("and failed again", then(&[false, false, false, true, false]), "Unknown"),
        ("it answered twice", then(UP), "Clear"),
        ("its answers are old", then(UP).with(|scene| scene.now += 61), "Unknown"),
        ("its failures are old", down().with(|scene| scene.now += 61), "Unknown"),
        (
            "it may not be asked any more",
            down().with(|scene| {
                let one = &mut seen(scene)[0];
                (one.results, one.barred) = (Vec::new(), Some("not on the list".to_owned()));
            }),
            "Unknown",
        ),
        (
            "it is not declared any more",
            down().with(|scene| scene.spec.signals.dependencies.clear()),
            "Clear",
        ),
        (
            "another may not be asked, and this one answers",
            open(scene(&[("queue", DOWN), ("other", &[])])).with(|scene| {
                seen(scene)[0] = dependency(scene.now, "queue", UP);
                seen(scene)[1].barred = Some("not on the list".to_owned());
            }),
            "Clear",
        ),
        (
            "stale",
            down().with(|scene| {
                let value = seen(scene).clone();
                scene.signals.dependencies = Reading::Stale { value, at: moment(scene.now) };
            }),
            "Unknown",
        ),
        ("off", down().with(|scene| scene.signals.dependencies = Reading::Off), "Unknown"),
        ("scaled to zero", down().with(|scene| scene.target().desired = 0), "Clear"),
    ];
    for (what, scene, expected) in rows {
        assert_eq!(word(&judged(&scene, IncidentType::DependencyDown)), expected, "{what}");
    }
}

#[test]
fn what_never_answered_is_a_problem_and_holds_nothing_until_the_server_says_the_same() {
    let silent = |name: &'static str| {
        scene(&[(name, DOWN)]).with(|scene| {
            seen(scene)[0].ever_answered = false;
            seen(scene)[0].results.iter_mut().for_each(|(_, result)| {
                *result = Err(Failure::new(CheckStep::Route, "does not answer a connection within 5 s"));
            });
        })
    };
    let alone = silent("queue");
    assert_eq!(word(&judged(&alone, IncidentType::DependencyDown)), "Unknown");
    assert_eq!(alone.decision(), "Wait");
    let problems = alone.signals.problems();
    assert!(
        problems
            .iter()
            .any(|one| one.starts_with("dependency queue: DependencyNeverReached: ") && one.contains("route")),
        "{problems:?}"
    );
    // Pods that are not ready for a reason of their own are mended.
    let unready = |scene: &mut Scene| {
        let since = moment(scene.now - 60);
        scene.target().ready = 0;
        let Reading::Fresh(pods) = &mut scene.signals.pods else { unreachable!() };
        for pod in pods.iter_mut() {
            (pod.ready, pod.ready_changed) = (false, since);
        }
    };
    assert_eq!(silent("queue").with(unready).decision(), "Act RolloutRestart");
    // The server's own circuit breaker says so too.
    let circuit = silent("queue").with(|scene| {
        let pod = scene.signals.pods.fresh().unwrap()[0].name.clone();
        scene.signals.circuits = Reading::Fresh(vec![Circuit {
            pod,
            name: "queue".to_owned(),
            state: CircuitState::Open,
            failures: None,
            threshold: None,
            last_failure: None,
            recovery: Some(SignedDuration::from_secs(20)),
            at: moment(scene.now),
        }]);
    });
    assert_eq!(word(&judged(&circuit, IncidentType::DependencyDown)), "DependencyDown");
    assert_eq!(circuit.with(unready).decision(), "Wait", "nothing is done to the server");
    // Its last words do.
    let mut words = silent("postgres").with(|scene| scene.status = Scene::process_exit().status);
    words.status.incidents = words.concluded().story.incidents;
    assert_eq!(word(&judged(&words, IncidentType::DependencyDown)), "Unknown");
    let mut crash = Scene::process_exit();
    crash.open_incident().cause = Cause::DatabaseConnection;
    words.status.incidents = crash.status.incidents;
    assert_eq!(word(&judged(&words, IncidentType::DependencyDown)), "DatabaseConnection");
}

#[test]
fn it_says_what_was_asked_which_step_failed_since_when_and_who_else_leans_on_it() {
    let scene =
        scene(&[("queue", DOWN), ("redis-cache", DOWN), ("postgres", DOWN), ("well", WELL)]).with(|scene| {
            let all = seen(scene);
            all[0].others = 3;
            all[0].shared_with = vec!["a".to_owned(), "b".to_owned(), "other/c".to_owned()];
            all[0].remarks = vec!["has 40 messages waiting in orders".to_owned()];
            let failed = Err(Failure::new(CheckStep::Name, "its name redis-cache.mcp does not resolve"));
            all[1].results.last_mut().unwrap().1 = failed;
        });
    let finding = found(&scene, IncidentType::DependencyDown);
    let since = mcp_health_core::words::moment(moment(scene.now - 30));
    assert_eq!(
        finding.evidence,
        [
            format!(
                "dependency postgres is down (port): a connection to postgres.mcp:5672 failed the last 3 times, since \
                 {since}: 10.0.0.7:5672 refuses the connection"
            ),
            format!(
                "dependency redis-cache is down (name): a connection to redis-cache.mcp:5672 failed the last 3 times, \
                 since {since}: its name redis-cache.mcp does not resolve; at first: 10.0.0.7:5672 refuses the connection"
            ),
            format!(
                "dependency queue is down (port): a connection to queue.mcp:5672 failed the last 3 times, since {since}: \
                 10.0.0.7:5672 refuses the connection"
            ),
            "3 other servers lean on queue.mcp:5672: a, b, other/c".to_owned(),
            "queue has 40 messages waiting in orders".to_owned(),
            "3 pods ready, and left alone".to_owned(),
        ]
    );
    assert_eq!((finding.severity, finding.since), (Severity::SEV2, moment(scene.now - 30)));
}

#[test]
fn its_story_is_told_anew_when_it_is_about_more_and_not_when_values_change() {
    let verdict =
        |scene: &Scene| Verdict::of(&ask_the_rules(&scene.case()), &scene.signals, &scene.status.incidents);
    let one = open(scene(&[("queue", DOWN), ("other", WELL)]));
    let later = one.clone().with(|scene| {
        scene.now += 15;
        seen(scene)[0] = dependency(scene.now, "queue", &[true, false, false, false, false]);
        seen(scene)[0].remarks = vec!["has 41 messages waiting".to_owned()];
    });
    assert_eq!(verdict(&one), verdict(&later));
    assert_eq!(one.status.incidents[0].evidence, later.concluded().story.incidents[0].evidence);
    let more = one.clone().with(|scene| seen(scene)[1] = dependency(scene.now, "other", DOWN));
    assert_ne!(verdict(&one), verdict(&more));
    let evidence = &more.concluded().story.incidents[0].evidence;
    assert!(evidence.iter().any(|line| line.starts_with("dependency other is down")), "{evidence:#?}");
    // Of two, one is back: it stays open for the other.
    let mut two = open(more.clone());
    two = two.with(|scene| seen(scene)[0] = dependency(scene.now, "queue", UP));
    assert_ne!(verdict(&more), verdict(&two));
    let evidence = &two.concluded().story.incidents[0].evidence;
    assert!(!evidence.iter().any(|line| line.starts_with("dependency queue")), "{evidence:#?}");
}

/// Three pods that are probed, with a queue that answers.
fn operator(template: Template) -> Operator {
    let mut world = World::with(template, 3);
    (world.probed, world.measured) = (true, true);
    let spec = policy::with_all_actions(policy::with_cooldown(policy::enforcing(), 0));
    let mut operator = Operator::new(world, policy::with_dependency(spec, QUEUE, PLACE));
    operator.run(120, 1);
    operator
}

fn incident(status: &McpServerHealthStatus, kind: IncidentType) -> &mcp_health_api::Incident {
    status.incidents.iter().find(|one| one.incident_type == kind).unwrap_or_else(|| panic!("{status:#?}"))
}

#[test]
fn an_outage_is_waited_for_a_person_is_called_when_the_answer_is_due_and_it_closes_by_itself() {
    let mut operator = operator(Template::Good);
    operator.world.unanswered = Some(operator.world.now);
    operator.run_until("down", 60, |status| !status.incidents.is_empty());
    let status = operator.status();
    let first = &status.incidents[0];
    assert_eq!((first.incident_type, first.cause), (IncidentType::DependencyDown, Cause::DependencyDown));
    assert!(first.escalation.is_none() && first.hold.is_none(), "{first:#?}");
    assert_eq!(
        first.next.as_deref(),
        Some("waits until it is well; a person is called when the answer is due")
    );
    let writes = operator.looks.iter().filter(|look| look.wrote).count();
    operator.run(3500, 5);
    assert_eq!(operator.looks.iter().filter(|look| look.wrote).count(), writes, "nothing new is to be said");
    operator.run(200, 5);
    let escalation = operator.status().incidents[0].escalation.clone().unwrap();
    assert_eq!(
        (escalation.reason.as_str(), escalation.message.as_str()),
        ("ResponseOverdue", "unresolved after 1h")
    );
    operator.world.unanswered = None;
    operator.run(60, 1);
    assert!(operator.status().incidents.is_empty(), "{:#?}", operator.status());
    assert_eq!(operator.world.done, []);
}

#[test]
fn pods_that_end_for_want_of_it_follow_from_it_and_are_left_alone_until_it_is_back() {
    let mut operator = operator(Template::Good);
    let now = operator.world.now;
    (operator.world.unanswered, operator.world.dependency_down) = (Some(now - 45), true);
    operator.run(300, 1);
    let status = operator.status();
    assert_eq!(status.incidents[0].incident_type, IncidentType::DependencyDown);
    let root = Some(&status.incidents[0].id);
    let crash = incident(&status, IncidentType::CrashLoop);
    assert_eq!((crash.cause, crash.caused_by.as_ref()), (Cause::ProcessExit, root));
    assert_eq!(incident(&status, IncidentType::ServiceNotResponding).caused_by.as_ref(), root);
    assert_eq!(operator.world.done, []);
    // Its pace is that of the worst that follows from it: 15 minutes.
    operator.run(700, 5);
    let escalation = operator.status().incidents[0].escalation.clone().unwrap();
    assert!(escalation.message.contains("which follows from it, is unresolved after 15m"), "{escalation:?}");
    (operator.world.unanswered, operator.world.dependency_down) = (None, false);
    operator.run(900, 5);
    assert!(operator.status().incidents.is_empty(), "{:#?}", operator.status());
    assert!(operator.world.done.iter().all(|one| one.effect == EvictPod), "{:#?}", operator.world.done);
}

/// The queue is down, and all pods end for want of it, for so many seconds.
fn without_the_queue(seconds: i64) -> Operator {
    let mut operator = operator(Template::Good);
    let now = operator.world.now;
    (operator.world.unanswered, operator.world.dependency_down) = (Some(now - 45), true);
    operator.run(seconds, 1);
    operator
}

fn attempts(operator: &Operator) -> BTreeSet<String> {
    operator.world.done.iter().map(|done| done.attempt.clone()).collect()
}

#[test]
fn what_they_waited_for_is_back_and_all_pods_in_back_off_are_recycled_in_one_attempt() {
    let mut operator = without_the_queue(400);
    let pods: Vec<_> = operator.world.pods.iter().map(|pod| pod.name.clone()).collect();
    assert!(operator.world.pods.iter().all(Pod::is_backing_off));
    (operator.world.unanswered, operator.world.dependency_down) = (None, false);
    operator.run(90, 1);
    assert!(operator.status().incidents.is_empty(), "{:#?}", operator.status());
    let mut evicted: Vec<_> = operator.world.done.iter().map(|done| done.before.clone()).collect();
    evicted.sort();
    evicted.dedup();
    assert_eq!(evicted.len(), operator.world.done.len(), "each once: {:#?}", operator.world.done);
    assert!(evicted.len() > 1 && evicted.iter().all(|one| pods.contains(one)), "{evicted:?}");
    assert_eq!(attempts(&operator).len(), 1);
    let crash =
        operator.status().history.into_iter().find(|one| one.incident_type == IncidentType::CrashLoop);
    assert_eq!(crash.unwrap().done(), "RecyclePod: Improved");
}

#[test]
fn pods_that_end_though_what_they_waited_for_is_back_are_recycled_once_at_most() {
    let mut operator = without_the_queue(400);
    operator.world.unanswered = None;
    operator.run(600, 1);
    operator.world.done.retain(|one| one.effect == EvictPod);
    assert!(attempts(&operator).len() <= 1, "{:#?}", operator.world.done);
}

#[test]
fn while_it_is_not_known_whether_it_is_back_no_pod_is_recycled() {
    let mut blind = without_the_queue(400);
    (blind.world.unanswered, blind.world.dependency_down) = (None, false);
    let world = blind.world.clone();
    blind.watches.set(&world, Source::Dependencies, Sight::Gone);
    blind.run(120, 1);
    assert!(blind.world.done.iter().all(|one| one.effect != EvictPod), "{:#?}", blind.world.done);
}

#[test]
fn what_it_does_not_explain_is_mended_all_the_same() {
    // A rollout whose pods end before they are Ready, for a reason of their own, is rolled back while the queue is down.
    let mut operator = operator(Template::Good);
    operator.world.said = "ModuleNotFoundError: No module named 'search'";
    operator.world.unanswered = Some(operator.world.now);
    operator.run(120, 1);
    operator.world.roll_out(Template::CrashesAtOnce);
    operator.run(120, 1);
    assert_eq!(operator.world.done.len(), 1, "{:#?}", operator.status());
    assert_eq!(operator.world.done[0].effect, mcp_health_api::Effect::PatchTemplate);
    let status = operator.status();
    assert_eq!(status.incidents.len(), 1, "{status:#?}");
    assert_eq!(status.incidents[0].incident_type, IncidentType::DependencyDown);
    let verifying = operator.looks.iter().find(|look| look.intent.is_some()).unwrap();
    let intent = verifying.intent.as_ref().unwrap();
    assert_eq!(intent.incidents[0].incident_type, IncidentType::CrashLoop);
    let beside = incident(intent, IncidentType::DependencyDown);
    assert_eq!(beside.caused_by, None, "a rollout does not take a queue down");
    assert!(
        intent.summary.as_ref().unwrap().ends_with("; beside it, DependencyDown (DependencyDown)"),
        "{intent:#?}"
    );

    // What they say may come of the queue: it is waited for.
    let mut operator = self::operator(Template::Good);
    operator.world.unanswered = Some(operator.world.now);
    operator.run(120, 1);
    operator.world.roll_out(Template::CrashesAtOnce);
    operator.run(300, 1);
    assert_eq!(operator.world.done, [], "{:#?}", operator.status());

    // A kill at the memory limit is no queue's doing.
    let mut operator = self::operator(Template::NeedsMemory { needs: 100, limit: 128, after: 20 });
    operator.world.unanswered = Some(operator.world.now);
    operator.run(120, 1);
    operator.world.outgrow(200);
    operator.run(120, 1);
    let done: Vec<_> = operator.world.done.iter().map(|done| done.effect).collect();
    assert_eq!(done, [mcp_health_api::Effect::EditTemplate], "{:#?}", operator.status());
}

#[test]
fn one_of_lower_rank_has_its_own_time_and_hurries_nothing_else() {
    let mut scene = open(scene(&[("queue", DOWN)]));
    // It is overdue, and something else comes that it does not explain.
    let first = &mut scene.status.incidents[0];
    first.respond_by = mcp_health_api::Time(moment(scene.now - 1));
    let bad = Scene::bad_rollout();
    let (spec, status) = (scene.spec.clone(), scene.status.clone());
    let queue = dependency(bad.now, "queue", DOWN);
    let scene = bad.with(|scene| {
        scene.spec = spec;
        scene.status.incidents.extend(status.incidents);
        scene.signals.dependencies = Reading::Fresh(vec![queue]);
        let Reading::Fresh(pods) = &mut scene.signals.pods else { unreachable!() };
        for exit in pods.iter_mut().filter_map(|pod| pod.containers[0].last_exit.as_mut()) {
            exit.message = Some("ModuleNotFoundError: No module named 'search'".to_owned());
        }
    });
    let concluded = scene.concluded();
    assert_eq!(concluded.words(), "Act Rollback");
    let beside =
        concluded.story.incidents.iter().find(|one| one.incident_type == IncidentType::DependencyDown);
    let escalation = beside.unwrap().escalation.as_ref().unwrap();
    assert_eq!(escalation.reason, "ResponseOverdue");
}

#[test]
fn of_twenty_servers_that_lean_on_it_each_has_an_incident_and_none_is_acted_on() {
    let names: Vec<String> = (0..20).map(|number| format!("server-{number}")).collect();
    for name in &names {
        let scene = scene(&[("queue", DOWN)]).with(|scene| {
            let others = names.iter().filter(|other| *other != name);
            (seen(scene)[0].others, seen(scene)[0].shared_with) = (19, others.take(8).cloned().collect());
            let since = moment(scene.now - 60);
            scene.target().ready = 0;
            let Reading::Fresh(pods) = &mut scene.signals.pods else { unreachable!() };
            for pod in pods.iter_mut() {
                (pod.ready, pod.ready_changed) = (false, since);
            }
            scene.fleet = Fleet { servers: 39, unhealthy: 19, ..Fleet::default() };
        });
        let concluded = scene.concluded();
        assert_eq!(concluded.words(), "Wait", "{name}");
        let [root, follows] = concluded.story.incidents.as_slice() else { panic!("{:#?}", concluded.story) };
        assert_eq!(root.incident_type, IncidentType::DependencyDown);
        assert!(
            root.evidence.iter().any(|line| line.starts_with("19 other servers lean on queue.mcp:5672: "))
        );
        assert_eq!(follows.incident_type, IncidentType::ServiceNotResponding);
        assert_eq!((follows.cause, follows.caused_by.as_ref()), (Cause::DependencyDown, Some(&root.id)));
    }
}

#[test]
fn no_pod_is_restarted_or_added_or_rolled_back_for_it() {
    use ActionType::{DrainAndRestart, RecyclePod, Rollback, RolloutRestart, Scale};
    let forbids = |scene: &Scene| found(scene, IncidentType::DependencyDown).forbids;
    let all = [RolloutRestart, RecyclePod, DrainAndRestart, Scale, Rollback];
    assert_eq!(forbids(&scene(&[("queue", DOWN)])), all);
    let database = scene(&[("postgres", DOWN)]);
    assert_eq!(forbids(&database), all);
    let new = database.with(|scene| scene.target().template = "new".to_owned());
    assert_eq!(forbids(&new), all);
}

/// A dependency whose certificate holds for so long, from now on.
fn certified(holds: SignedDuration) -> Scene {
    scene(&[("idp", WELL)]).with(|scene| {
        let not_after = moment(scene.now).saturating_add(holds).unwrap();
        let (subject, issuer) = ("idp.example.com".to_owned(), "Example CA".to_owned());
        seen(scene)[0].certificate = Some(Certificate { subject, issuer, not_after });
    })
}

const DAY: SignedDuration = SignedDuration::from_hours(24);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

#[test]
fn a_certificate_is_as_bad_as_its_days_are_few_and_is_looked_at_when_they_are_fewer() {
    let rows = [
        ("a year", DAY * 365, None, DAY * 30),
        ("22 days", DAY * 22, None, DAY + SECOND),
        ("21 days", DAY * 21, None, SECOND),
        ("less than 21 days", DAY * 21 - SECOND, Some(Severity::SEV4), DAY * 14),
        ("7 days", DAY * 7, Some(Severity::SEV4), SECOND),
        ("less than 7 days", DAY * 7 - SECOND, Some(Severity::SEV3), DAY * 7),
        ("a second", SECOND, Some(Severity::SEV3), SECOND * 2),
        ("none", SignedDuration::ZERO, Some(Severity::SEV1), SECOND),
        ("yesterday", -DAY, Some(Severity::SEV1), SignedDuration::ZERO),
    ];
    for (what, holds, severity, next) in rows {
        let scene = certified(holds);
        let at = |until: Option<jiff::Timestamp>| {
            until.map_or(SignedDuration::ZERO, |at| at.duration_since(moment(scene.now)))
        };
        match (judged(&scene, IncidentType::CertificateExpiring), severity) {
            (Judgement::Suspected { until }, None) => assert_eq!(at(Some(until)), next, "{what}"),
            (Judgement::Found(finding), Some(severity)) => {
                assert_eq!((finding.severity, at(finding.lapses)), (severity, next), "{what}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    let ended = found(&certified(-DAY * 2), IncidentType::CertificateExpiring);
    let soon = found(&certified(DAY * 6 + SECOND), IncidentType::CertificateExpiring);
    assert!(
        ended.evidence[0]
            .starts_with("the certificate of idp has ended: idp.example.com, issued by Example CA, until ")
    );
    assert!(ended.evidence[0].ends_with("Z (2 days ago)"), "{:?}", ended.evidence);
    assert!(soon.evidence[0].ends_with("Z (6 days left)"), "{:?}", soon.evidence);
}

#[test]
fn a_certificate_closes_when_it_is_another_and_not_when_it_is_not_shown() {
    let ending = || open(certified(DAY * 3));
    let word = |scene: &Scene| word(&judged(scene, IncidentType::CertificateExpiring));
    assert_eq!(word(&ending()), "Certificate");
    let renewed = ending().with(|scene| {
        seen(scene)[0].certificate.as_mut().unwrap().not_after =
            moment(scene.now).saturating_add(DAY * 90).unwrap();
    });
    assert_eq!(word(&renewed), "Clear");
    let fail = |step| {
        ending().with(|scene| {
            seen(scene)[0].results.last_mut().unwrap().1 = Err(Failure::new(step, "it fails"));
        })
    };
    assert_eq!(word(&fail(CheckStep::Handshake)), "Unknown");
    assert_eq!(word(&fail(CheckStep::Certificate)), "Certificate");
    assert_eq!(word(&ending().with(|scene| scene.now += 61)), "Unknown");
    assert_eq!(word(&ending().with(|scene| scene.signals.dependencies = Reading::Off)), "Unknown");
    assert_eq!(word(&ending().with(|scene| scene.spec.signals.dependencies.clear())), "Clear");
}

#[test]
fn of_several_certificates_each_that_becomes_worse_is_told_and_days_alone_are_not() {
    let end = |scene: &mut Scene, at: usize, holds: SignedDuration| {
        let not_after = moment(scene.now).saturating_add(holds).unwrap();
        let (subject, issuer) = (format!("{at}.example.com"), "Example CA".to_owned());
        seen(scene)[at].certificate = Some(Certificate { subject, issuer, not_after });
    };
    let both = scene(&[("idp", WELL), ("queue", WELL)]).with(|scene| {
        end(scene, 0, -DAY);
        end(scene, 1, DAY * 20);
    });
    let mut both = both;
    let opened = both.open_incident().clone();
    let told = |scene: &Scene| scene.concluded().story.incidents[0].clone();
    let a_day_later = both.clone().with(|scene| end(scene, 1, DAY * 19));
    assert_eq!(told(&a_day_later).evidence, opened.evidence);
    let worse = told(&both.with(|scene| end(scene, 1, DAY * 6)));
    assert_eq!((&worse.id, worse.severity), (&opened.id, Severity::SEV1));
    assert!(worse.evidence[1].contains("the certificate of queue ends in less than 7 days"), "{worse:#?}");
}

#[test]
fn a_certificate_is_in_nobodys_way_and_no_sign_of_how_the_server_is() {
    let scene = open(certified(DAY * 3));
    let concluded = scene.concluded();
    assert_eq!(concluded.words(), "Wait");
    let status = report::status(&scene.case(), &concluded.diagnosis, &concluded.story, &concluded.decision);
    let ready = status.conditions.iter().find(|one| one.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "Healthy"));
    let next = status.incidents[0].next.as_deref();
    assert_eq!(next, Some("waits until it is renewed; a person is called when the answer is due"));
    // A bad rollout beside it, though the certificate's answer is long due.
    let (spec, mut incidents, seen) =
        (scene.spec.clone(), scene.status.incidents.clone(), scene.signals.dependencies.clone());
    incidents[0].respond_by = mcp_health_api::Time(moment(0));
    let bad = Scene::bad_rollout().with(|scene| {
        scene.spec = spec;
        scene.status.incidents = incidents;
        scene.signals.dependencies = seen;
        let now = moment(scene.now);
        let Reading::Fresh(all) = &mut scene.signals.dependencies else { unreachable!() };
        all[0].results = vec![(now, Ok(()))];
    });
    let concluded = bad.concluded();
    assert_eq!(concluded.words(), "Act Rollback");
    let last = concluded.story.incidents.last().unwrap();
    assert_eq!((last.incident_type, &last.caused_by), (IncidentType::CertificateExpiring, &None));
    assert!(last.escalation.is_some(), "a person is called for it in its own time");
}

#[test]
fn a_template_is_seen_healthy_while_a_certificate_ends() {
    let mut operator = operator(Template::Good);
    operator.world.measured = false;
    let template = operator.world.roll_out(Template::Good);
    let mut signals = operator.watches.look(&operator.world);
    for _ in 0..200 {
        operator.world.tick(1);
        signals = operator.watches.look(&operator.world);
        let Reading::Fresh(all) = &mut signals.dependencies else { unreachable!() };
        let not_after = moment(operator.world.now).saturating_add(DAY * 3).unwrap();
        let (subject, issuer) = ("queue".to_owned(), "CA".to_owned());
        for one in all.iter_mut() {
            one.certificate =
                Some(Certificate { subject: subject.clone(), issuer: issuer.clone(), not_after });
        }
        operator.look_at(&signals);
    }
    drop(signals);
    let status = operator.status();
    assert_eq!(status.incidents[0].incident_type, IncidentType::CertificateExpiring);
    assert_eq!(status.target.unwrap().last_healthy.unwrap().template, template);
}

#[test]
fn what_has_answered_is_remembered_across_operators_as_long_as_it_is_asked_the_same() {
    let mut operator = operator(Template::Good);
    let known = |operator: &Operator| operator.status().target.unwrap().answered_dependencies;
    assert_eq!(known(&operator), [NamedDigest::new(QUEUE, "3f9a1c")]);
    operator.watches.set(&operator.world, Source::Dependencies, Sight::Gone);
    operator.run(60, 1);
    assert_eq!(known(&operator), [NamedDigest::new(QUEUE, "3f9a1c")]);
    operator.watches.set(&operator.world, Source::Dependencies, Sight::Clear);
    operator.declare(|spec| spec.signals.dependencies.clear());
    let mut signals = operator.watches.look(&operator.world);
    signals.dependencies = Reading::Off;
    operator.look_at(&signals);
    assert!(known(&operator).is_empty());
}

#[test]
fn what_has_answered_is_remembered_while_a_new_operator_has_not_asked_it_yet() {
    let mut operator = operator(Template::Good);
    let mut signals = operator.watches.look(&operator.world);
    let before = [NamedDigest::new(QUEUE, "3f9a1c")];
    for (asked_as, remembered) in [(None, before.as_slice()), (Some("000000"), &[])] {
        let known_as = asked_as.map(|digest| NamedDigest::new(QUEUE, digest));
        let one = Dependency { name: QUEUE.to_owned(), known_as, ..Dependency::default() };
        signals.dependencies = Reading::Fresh(vec![one]);
        operator.look_at(&signals);
        let known = operator.status().target.unwrap().answered_dependencies;
        assert_eq!(known, remembered, "asked as {asked_as:?}");
    }
}

#[test]
fn an_operator_that_starts_in_the_middle_of_an_outage_finds_the_dependency_down_as_the_one_before_did() {
    let mut operator = operator(Template::Good);
    (operator.world.unanswered, operator.world.unready) = (Some(operator.world.now), true);
    operator.run_until("both are found", 120, |status| status.incidents.len() == 2);
    operator.restart(2);
    operator.run(30, 1);
    let status = operator.status();
    let down = incident(&status, IncidentType::DependencyDown);
    let unready = incident(&status, IncidentType::ServiceNotResponding);
    assert_eq!(
        (unready.cause, unready.caused_by.as_ref()),
        (Cause::DependencyDown, Some(&down.id)),
        "{status:#?}"
    );
    assert_eq!(operator.world.done, []);
}

#[test]
fn what_a_role_may_not_see_of_a_database_is_told_with_the_grant_that_is_missing() {
    let missing = MissingGrant { grant: Grant::Monitor, role: "mcp_health".to_owned() };
    let said = "sessions of other roles cannot be seen: GRANT pg_monitor TO mcp_health";
    let scene = Scene::healthy().with(|scene| {
        let database = Database { missing_grants: vec![missing.clone()], ..Database::default() };
        scene.signals.database = Reading::Fresh(database);
    });
    assert_eq!(scene.signals.problems(), [format!("its database: {said}")]);
}
