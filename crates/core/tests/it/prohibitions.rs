//! What an open incident forbids stays forbidden, and what a dependency could explain is not acted on before it is known
//! whether the dependencies answer.

use mcp_health_api::{
    Cause, Effect, IncidentType, McpServerHealthStatus, NamedDigest, Subject, SubjectKind, Time,
};
use mcp_health_core::{
    prohibition::parse_lift,
    signals::{CheckStep, Dependency, Failure, Reading},
};

use crate::support::{
    moment,
    operator::{Operator, QUEUE_PLACE},
    policy,
    scene::Scene,
    watches::{QUEUE, Sight, Source},
    world::{Template, World},
};

const DAY: i64 = 24 * 3600;

fn open(status: &McpServerHealthStatus, kind: IncidentType) -> Option<&mcp_health_api::Incident> {
    status.incidents.iter().find(|one| one.incident_type == kind)
}

/// The queue is down, pods are not ready for it, and then nothing tells of it any more.
fn blind() -> Operator {
    let mut operator = Operator::of_pods_that_need_a_queue(15);
    (operator.world.unanswered, operator.world.unready) = (Some(operator.world.now), true);
    operator.run(90, 1);
    let down = open(&operator.status(), IncidentType::DependencyDown).unwrap().clone();
    assert_eq!(down.subjects, [Subject::new(SubjectKind::Dependency, QUEUE)]);
    operator.watches.set(&operator.world.clone(), Source::Dependencies, Sight::Gone);
    operator.run(1, 1);
    operator
}

#[test]
fn what_a_dependency_forbids_stays_forbidden_without_evidence_for_a_day_and_across_restarts() {
    let mut operator = blind();
    operator.run(600, 5);
    let down = open(&operator.status(), IncidentType::DependencyDown).unwrap().clone();
    assert_eq!(down.escalation, None);
    operator.restart(30);
    operator.run(600, 5);
    let down = open(&operator.status(), IncidentType::DependencyDown).unwrap().clone();
    let escalation = down.escalation.unwrap();
    assert_eq!(escalation.reason, "ProhibitionUnverified");
    assert!(escalation.message.contains("RolloutRestart"), "{}", escalation.message);
    operator.run(DAY, 60);
    let still = open(&operator.status(), IncidentType::DependencyDown).unwrap().clone();
    assert_eq!(still.escalation, Some(escalation), "it escalates once");
    assert_eq!(operator.world.done, []);
}

#[test]
fn it_ends_when_the_rule_says_clear_and_when_the_dependency_is_not_declared_any_more() {
    let mut answers = blind();
    answers.world.unanswered = None;
    answers.run(5, 1);
    assert_eq!(answers.world.done, []);
    answers.watches.set(&answers.world.clone(), Source::Dependencies, Sight::Clear);
    answers.run(60, 1);
    assert!(
        !answers.world.done.is_empty(),
        "the queue is back, and the pods are not: {:#?}",
        answers.status()
    );

    let mut removed = blind();
    removed.declare(|spec| spec.signals.dependencies.clear());
    removed.run(60, 1);
    assert!(!removed.world.done.is_empty(), "{:#?}", removed.status());
}

/// An annotation, by an incident's id and the moment.
type Text<'a> = &'a dyn Fn(&str, i64) -> String;

#[test]
fn a_user_lifts_it_for_one_incident_until_an_end_and_nothing_else_does() {
    let lift = |text: &dyn Fn(&str, i64) -> String| {
        let mut operator = blind();
        let id = open(&operator.status(), IncidentType::DependencyDown).unwrap().id.clone();
        operator.watches.lift = Some(parse_lift(&text(&id, operator.world.now)));
        // The dependency guard speaks for itself: what cannot be known is declared no more.
        let mut scene = Scene::of(&operator);
        scene.status.target.as_mut().unwrap().answered_dependencies.clear();
        scene.signals.dependencies = Reading::Unavailable("nothing can be reached".to_owned());
        scene.concluded()
    };
    let at = |seconds: i64| moment(seconds).to_string();
    let rows: &[(&str, Text, &str)] = &[
        ("its incident", &|id, now| format!("{id},{}", at(now + 600)), "Act RolloutRestart"),
        ("with spaces", &|id, now| format!(" {id} , {} ", at(now + 600)), "Act RolloutRestart"),
        (
            "another incident",
            &|_, now| format!("crashloop-1,{}", at(now + 600)),
            "Hold DependencyUnavailable",
        ),
        ("its end is over", &|id, now| format!("{id},{}", at(now - 1)), "Hold DependencyUnavailable"),
        ("for two days", &|id, now| format!("{id},{}", at(now + 2 * DAY)), "Hold DependencyUnavailable"),
        ("without an end", &|id, _| id.to_owned(), "Hold DependencyUnavailable"),
        ("with another end", &|id, _| format!("{id},tomorrow"), "Hold DependencyUnavailable"),
    ];
    for (what, text, decision) in rows {
        assert_eq!(lift(text).words(), *decision, "{what}");
    }
    let ends = lift(&|id, now| format!("{id},{}", at(now + 600)));
    assert!(ends.story.look_again.is_some(), "its end is looked at");
    let problems = |text: &str| parse_lift(text).unwrap_err();
    assert!(problems("crashloop-1").contains("lift-prohibition"), "{}", problems("crashloop-1"));
}

#[test]
fn a_database_that_last_lines_told_of_forbids_a_restart_also_when_the_lines_are_lost() {
    let mut operator = Operator::new(World::with(Template::Good, 3), policy::enforcing());
    operator.run(120, 1);
    operator.world.said = "psycopg.OperationalError: connection to server at \"10.0.0.9\", port 5432 failed: Connection refused";
    operator.world.dependency_down = true;
    operator.run(60, 1);
    assert_eq!(operator.status().incidents[0].cause, Cause::DatabaseConnection);
    operator.world.said = "";
    operator.restart(10);
    operator.run(600, 1);
    assert_eq!(operator.world.done, []);
    operator.run(1200, 5);
    assert_eq!(operator.world.done, []);
    assert!(operator.status().incidents[0].escalation.is_some());
}

#[test]
fn on_first_onset_a_dependency_is_known_to_be_down_before_anything_is_restarted_whatever_its_interval() {
    for interval in [15, 60, 300] {
        let mut operator = Operator::of_pods_that_need_a_queue(interval);
        (operator.world.unanswered, operator.world.unready) = (Some(operator.world.now), true);
        let onset = operator.world.now;
        operator
            .run_until("DependencyDown", 60, |status| open(status, IncidentType::DependencyDown).is_some());
        assert!(operator.world.now - onset <= 50, "interval {interval}: {}", operator.world.now - onset);
        operator.run(600, 1);
        assert_eq!(operator.world.done, [], "interval {interval}");
    }
}

#[test]
fn while_the_dependencies_answer_pods_are_restarted_as_fast_as_before() {
    for interval in [15, 60, 300] {
        let mut operator = Operator::of_pods_that_need_a_queue(interval);
        operator.world.unready = true;
        let onset = operator.world.now;
        operator.run_until("a restart", 60, |status| status.last_action.is_some());
        assert!(operator.world.now - onset <= 40, "interval {interval}: {}", operator.world.now - onset);
    }
}

/// What begins at the same moment as the fault of the queue, or beside a queue that answers; what is done for
/// it; and how long after the onset it is done while the queue answers.
type Onset = (&'static str, fn(&mut World), Effect, i64);

const ONSETS: [Onset; 3] = [
    ("a restart", |world| world.unready = true, Effect::RestartPods, 45),
    ("a recycle", World::wedge_a_pod, Effect::EvictPod, 75),
    ("a rollback", |world| drop(world.roll_out(Template::CrashesAtOnce)), Effect::PatchTemplate, 45),
];

/// The moment of the first look that found something, and of the first effect of this kind.
fn found_and_done(operator: &Operator, onset: i64, effect: Effect) -> (i64, Option<i64>) {
    let mut looks = operator.looks.iter().filter(|look| look.at > onset && !look.after.incidents.is_empty());
    let found = looks.next().expect("an incident").at;
    (found, operator.world.done.iter().find(|done| done.effect == effect).map(|done| done.at))
}

#[test]
fn at_first_onset_every_kind_of_action_waits_for_an_answer_since_then_and_goes_on_within_twenty_seconds() {
    for interval in [15, 60] {
        for (what, begin, effect, at_most) in ONSETS {
            let mut operator = Operator::of_pods_that_need_a_queue(interval);
            let onset = operator.world.now;
            begin(&mut operator.world);
            operator.run(120, 1);
            let (found, done) = found_and_done(&operator, onset, effect);
            let done = done.unwrap_or_else(|| panic!("{what}, {interval} s: {:#?}", operator.status()));
            assert!(done - found <= 20, "{what}, {interval} s: {} s after it was found", done - found);
            assert!(done - onset <= at_most, "{what}, {interval} s: {} s after the onset", done - onset);
            let look = operator.looks.iter().find(|look| look.intent.is_some()).unwrap();
            let all = look.signals.dependencies.fresh().unwrap();
            let (at, _) = all.iter().find(|one| one.name == QUEUE).unwrap().results.last().unwrap();
            assert!(*at >= moment(onset), "{what}, {interval} s: it answered since the onset");
        }
    }
}

#[test]
fn at_first_onset_no_kind_of_action_is_taken_where_the_queue_dies_at_the_same_moment() {
    for interval in [15, 60] {
        for (what, begin, _, _) in ONSETS {
            // Just after it was asked, so that the next question is an interval away.
            let mut operator = Operator::of_pods_that_need_a_queue(interval);
            operator.run(interval - operator.world.now % interval + 1, 1);
            operator.world.unanswered = Some(operator.world.now);
            begin(&mut operator.world);
            operator.run(600, 1);
            assert_eq!(operator.world.done, [], "{what}, {interval} s");
            let status = operator.status();
            assert!(
                open(&status, IncidentType::DependencyDown).is_some(),
                "{what}, {interval} s: {status:#?}"
            );
        }
    }
}

#[test]
fn a_dependency_that_never_answered_holds_every_kind_of_action_for_twenty_seconds_at_most() {
    for interval in [15, 60] {
        for (what, begin, effect, at_most) in ONSETS {
            let mut world = World::with(Template::Good, 3);
            (world.probed, world.queue_interval, world.queue_is_walled) = (true, interval, true);
            let mut operator = Operator::new(world, policy::with_cooldown(policy::enforcing(), 0));
            operator.run(150, 1);
            let onset = operator.world.now;
            operator.declare(|spec| *spec = policy::with_dependency(spec.clone(), QUEUE, QUEUE_PLACE));
            operator.world.queue_asked = vec![(onset, true)];
            begin(&mut operator.world);
            operator.run(120, 1);
            let (found, done) = found_and_done(&operator, onset, effect);
            let done = done.unwrap_or_else(|| panic!("{what}, {interval} s: {:#?}", operator.status()));
            assert!(done - found <= 20, "{what}, {interval} s: {} s after it was found", done - found);
            let after = done - onset;
            assert!((10..=at_most).contains(&after), "{what}, {interval} s: {after} s after the onset");
        }
    }
}

fn dependency(scene: &Scene, ever_answered: bool, answers: &[(i64, bool)]) -> Dependency {
    let result = |well: bool| if well { Ok(()) } else { Err(Failure::new(CheckStep::Port, "refuses")) };
    Dependency {
        name: QUEUE.to_owned(),
        words: "a connection to queue:5672".to_owned(),
        known_as: Some(NamedDigest::new(QUEUE, "1")),
        ever_answered,
        results: answers.iter().map(|(age, well)| (moment(scene.now - age), result(*well))).collect(),
        ..Dependency::default()
    }
}

/// All processes end since eight seconds; of the queue this is known.
fn ending(ever_answered: bool, answers: &[(i64, bool)]) -> Scene {
    let mut scene = Scene::process_exit();
    scene.spec = policy::with_dependency(scene.spec.clone(), QUEUE, QUEUE_PLACE);
    let since = scene.open_incident().since.0;
    scene.status.incidents.clear();
    scene.now = moment(0).duration_until(since).as_secs() + 8;
    scene.signals.dependencies = Reading::Fresh(vec![dependency(&scene, ever_answered, answers)]);
    scene
}

#[test]
fn what_a_dependency_could_explain_waits_until_it_has_answered_since_the_onset_or_is_down() {
    let rows: Vec<(&str, Scene, &str)> = vec![
        ("it answered since", ending(true, &[(20, true), (2, true)]), "Act RolloutRestart"),
        ("it answered before", ending(true, &[(20, true), (9, true)]), "Hold DependencyUnknown"),
        ("it failed once since", ending(true, &[(20, true), (2, false)]), "Hold DependencyUnknown"),
        (
            "it failed twice since",
            ending(true, &[(20, true), (7, false), (2, false)]),
            "Hold DependencyUnknown",
        ),
        ("it was not asked yet", ending(true, &[]), "Hold DependencyUnknown"),
        ("it is down", ending(true, &[(12, false), (7, false), (2, false)]), "Wait"),
        ("it never answered", ending(false, &[(12, false), (7, false)]), "Hold DependencyUnknown"),
        (
            "it never answered in 20 s",
            ending(false, &[(12, false), (7, false)]).with(|scene| scene.now += 12),
            "Act RolloutRestart",
        ),
        (
            "nothing is declared",
            ending(true, &[]).with(|scene| scene.spec.signals.dependencies.clear()),
            "Act RolloutRestart",
        ),
    ];
    for (what, scene, decision) in rows {
        assert_eq!(scene.decision(), decision, "{what}");
        let undecided = scene.concluded().diagnosis.undecided;
        assert!(!undecided.is_empty() || decision != "Hold DependencyUnknown", "{what}: it is asked at once");
    }
    // No dependency explains that an image cannot be pulled.
    let mut operator = Operator::of_pods_that_need_a_queue(300);
    operator.world.roll_out(Template::NoImage);
    operator.run(20, 1);
    let scene = Scene::of(&operator).with(|scene| scene.signals.dependencies = Reading::Fresh(Vec::new()));
    assert!(operator.status().last_action.is_some(), "{}", scene.decision());
}

#[test]
fn a_hold_for_dependencies_ends_by_itself_only_where_none_ever_answered() {
    let until = |scene: &Scene| match scene.concluded().decision {
        mcp_health_core::Decision::Hold { hold, .. } => hold.until,
        other => panic!("{other:?}"),
    };
    let soon = ending(false, &[]);
    assert_eq!(until(&soon), Some(Time(moment(soon.now + 12))));
    let later = ending(true, &[]).with(|scene| scene.now += 60);
    assert_eq!(until(&later), None);
    let lost = later.with(|scene| {
        scene.signals.dependencies = Reading::Unavailable("nothing can be reached".to_owned());
        scene.status.target.as_mut().unwrap().answered_dependencies = vec![NamedDigest::new(QUEUE, "1")];
    });
    assert_eq!(lost.decision(), "Hold DependencyUnknown");
}

/// An incident that was escalated for a reason and a cause, in a scene in which a new template crashes.
fn escalated(reason: &str, cause: &str, reevaluations: i32) -> Scene {
    let mut scene = Scene::bad_rollout();
    let now = scene.now;
    let why = serde_json::json!({
        "reason": reason, "message": "", "at": moment(now - 5).to_string(), "cause": cause,
    });
    let incident = scene.open_incident();
    incident.escalation = Some(serde_json::from_value(why).unwrap());
    incident.reevaluations = reevaluations;
    scene
}

#[test]
fn an_escalated_incident_is_judged_again_when_its_cause_is_another_one_and_not_for_ever() {
    let rows = [
        ("another cause", "NoAutomaticAction", "ProcessExit", 0, "Act Rollback"),
        ("the same cause", "NoAutomaticAction", "BadRollout", 0, "Wait"),
        ("the last time", "NoAutomaticAction", "ProcessExit", 2, "Act Rollback"),
        ("too often", "NoAutomaticAction", "ProcessExit", 3, "Wait"),
        ("locked out", "LockedOut", "ProcessExit", 0, "Wait"),
        ("all attempts are used", "AttemptsExhausted", "ProcessExit", 0, "Wait"),
        ("made worse", "MadeThingsWorse", "ProcessExit", 0, "Wait"),
        ("evidence is back", "ProhibitionUnverified", "BadRollout", 0, "Act Rollback"),
    ];
    for (what, reason, cause, reevaluations, decision) in rows {
        let scene = escalated(reason, cause, reevaluations);
        let concluded = scene.concluded();
        assert_eq!(concluded.words(), decision, "{what}");
        let incident = &concluded.story.incidents[0];
        let escalation = incident.escalation.as_ref().unwrap();
        assert_eq!(escalation.reason, reason, "{what}: it stays on record");
        assert_eq!(escalation.reevaluated_at.is_some(), decision == "Act Rollback", "{what}");
        assert_eq!(incident.reevaluations, reevaluations + i32::from(decision == "Act Rollback"), "{what}");
    }
}
