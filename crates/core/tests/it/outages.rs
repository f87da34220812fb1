//! What pods show while something that they depend on does not answer tells nothing of them, nor does it once
//! that answers again, until they had the time of a start.

use mcp_health_api::{Cause, Effect, IncidentType, McpServerHealthStatus};
use mcp_health_core::signals::{AnswersSince, Reading};

use crate::support::{
    moment,
    operator::Operator,
    scene::Scene,
    watches::QUEUE,
    world::{Done, Template},
};

/// What a pod has from the start of its containers: the least there is.
const BUDGET: i64 = 60;

/// The queue is down, and containers that start meanwhile do this.
fn queue_dies(operator: &mut Operator, starts_as: Template) {
    (operator.world.unanswered, operator.world.starts_as) = (Some(operator.world.now), Some(starts_as));
}

/// The queue answers again; what was found at that moment is looked at from then on.
fn queue_answers(operator: &mut Operator) -> i64 {
    operator.world.unanswered = None;
    operator.world.now
}

fn rolled_back(operator: &Operator) -> Option<&Done> {
    operator.world.done.iter().find(|done| done.effect == Effect::PatchTemplate)
}

fn restarted(operator: &Operator) -> Option<&Done> {
    operator.world.done.iter().find(|done| done.effect == Effect::RestartPods)
}

fn find(status: &McpServerHealthStatus, kind: IncidentType) -> Option<&mcp_health_api::Incident> {
    status.incidents.iter().find(|one| one.incident_type == kind)
}

#[test]
fn a_good_revision_rolled_out_while_a_dependency_is_down_is_not_rolled_back_when_that_answers_again() {
    for starts_as in [Template::CrashesAtOnce, Template::NeverReady] {
        for (recreate, outage, recovers_after) in
            [(false, 90, 0), (false, 90, 40), (false, 400, 0), (true, 90, 40), (true, 400, 0)]
        {
            let what = format!("{starts_as:?}, recreate {recreate}, {outage} s, {recovers_after} s");
            let mut operator = Operator::of_pods_that_need_a_queue(15);
            operator.world.deployment.as_mut().unwrap().recreate = recreate;
            queue_dies(&mut operator, starts_as);
            operator.run(60, 1);
            let template = operator.world.roll_out(Template::Good);
            operator.run(outage, 1);
            assert_eq!(operator.world.done, [], "{what}: while it is down");
            queue_answers(&mut operator);
            operator.run(recovers_after, 1);
            operator.world.starts_as = None;
            operator.run(500, 1);
            let changes = operator
                .world
                .done
                .iter()
                .find(|done| done.effect != Effect::EvictPod && done.effect != Effect::MarkTarget);
            assert_eq!(changes, None, "{what}");
            let status = operator.status();
            assert!(status.incidents.is_empty(), "{what}: {status:#?}");
            assert_eq!(status.target.unwrap().template, template, "{what}");
        }
    }
}

#[test]
fn a_revision_that_fails_when_its_pods_had_the_time_of_a_start_since_the_answer_is_rolled_back() {
    for starts_as in [Template::CrashesAtOnce, Template::NeverReady] {
        let mut operator = Operator::of_pods_that_need_a_queue(15);
        queue_dies(&mut operator, starts_as);
        operator.run(60, 1);
        operator.world.roll_out(Template::Good);
        operator.run(60, 1);
        let back = queue_answers(&mut operator);
        operator.run(BUDGET + 5 * 60 + 30, 1);
        let at =
            rolled_back(&operator).unwrap_or_else(|| panic!("{starts_as:?}: {:#?}", operator.status())).at;
        assert!(at >= back + BUDGET, "{starts_as:?}: {} s after the answer", at - back);
    }
}

#[test]
fn a_revision_that_was_rolled_out_when_pods_had_that_time_is_rolled_back_at_once() {
    for (pause, at_least) in [(BUDGET, 0), (20, BUDGET)] {
        let mut operator = Operator::of_pods_that_need_a_queue(15);
        queue_dies(&mut operator, Template::Good);
        operator.run(60, 1);
        let back = queue_answers(&mut operator);
        operator.run(pause + 5, 1);
        let applied = operator.world.now;
        operator.world.roll_out(Template::CrashesAtOnce);
        operator.run(70, 1);
        let at = rolled_back(&operator).unwrap_or_else(|| panic!("{:#?}", operator.status())).at;
        assert!(at >= back + at_least, "{} s after the answer", at - back);
        assert!(at <= applied.max(back + at_least) + 25, "{} s after it was applied", at - applied);
    }
}

#[test]
fn what_pods_say_of_another_cause_than_the_dependency_counts_though_they_said_it_while_that_was_down() {
    let mut operator = Operator::of_pods_that_need_a_queue(15);
    operator.world.said = "ModuleNotFoundError: No module named 'search'";
    operator.world.unanswered = Some(operator.world.now);
    // Two failures: it is not known to be down, and not known to answer.
    operator.run(31, 1);
    operator.world.roll_out(Template::CrashesAtOnce);
    operator.run(6, 1);
    let back = queue_answers(&mut operator);
    operator.run(BUDGET, 1);
    let at = rolled_back(&operator).unwrap_or_else(|| panic!("{:#?}", operator.status())).at;
    assert!(at < back + BUDGET, "{} s after the answer", at - back);
}

#[test]
fn known_good_pods_are_restarted_only_if_they_are_unready_for_longer_than_a_start_since_the_answer() {
    for recovers_after in [None, Some(40)] {
        let mut operator = Operator::of_pods_that_need_a_queue(15);
        (operator.world.unanswered, operator.world.unready) = (Some(operator.world.now), true);
        operator.run(90, 1);
        let down = operator.status();
        assert_eq!(find(&down, IncidentType::ServiceNotResponding).unwrap().cause, Cause::DependencyDown);
        let back = queue_answers(&mut operator);
        operator.run(recovers_after.unwrap_or_default(), 1);
        operator.world.unready = recovers_after.is_none();
        operator.run(90, 1);
        if recovers_after.is_some() {
            assert_eq!(operator.world.done, []);
        } else {
            let at = restarted(&operator).unwrap_or_else(|| panic!("{:#?}", operator.status())).at;
            assert!(at >= back + BUDGET, "{} s after the answer", at - back);
        }
    }
}

/// The queue answers for so many seconds.
fn answering(mut scene: Scene, seconds: i64, had_failed: bool) -> String {
    let at = moment(scene.now - seconds);
    let Reading::Fresh(all) = &mut scene.signals.dependencies else { panic!("no dependencies") };
    let queue = all.iter_mut().find(|one| one.name == QUEUE).unwrap();
    queue.answers_since = Some(AnswersSince { at, had_failed });
    scene.decision()
}

/// A moment before anything is done, two minutes and more after the pods were created.
fn about_to_act(mut operator: Operator) -> Scene {
    operator.declare(|spec| spec.mode = mcp_health_api::Mode::Observe);
    operator.run_until("an incident", 900, |status| !status.incidents.is_empty());
    operator.run(1, 1);
    Scene::of(&operator).with(|scene| scene.spec.mode = mcp_health_api::Mode::Enforce)
}

#[test]
fn no_pod_is_recycled_before_it_had_the_time_of_a_start_or_while_the_window_of_the_rule_shows_the_outage() {
    let mut wedged = Operator::of_pods_that_need_a_queue(15);
    wedged.world.wedge_a_pod();
    let wedged = about_to_act(wedged);
    let mut failing = Operator::of_pods_that_need_a_queue(15);
    failing.world.measured = true;
    failing.run(600, 1);
    let pod = failing.world.pods[0].name.clone();
    failing.world.failing.push(pod);
    let failing = about_to_act(failing);
    let rows = [
        ("wedged, after an outage", &wedged, BUDGET - 1, true, "Hold DependencySettling"),
        ("wedged, the outage is long over", &wedged, BUDGET, true, "Act RecyclePod"),
        ("wedged, asked for the first time", &wedged, BUDGET - 1, false, "Hold DependencySettling"),
        ("wedged, asked since before the pods", &wedged, 3600, false, "Act RecyclePod"),
        ("requests fail, after an outage", &failing, 5 * 60, true, "Hold DependencySettling"),
        ("requests fail, the outage is long over", &failing, 7 * 60, true, "Act RecyclePod"),
    ];
    for (what, scene, seconds, had_failed, decision) in rows {
        assert_eq!(answering(scene.clone(), seconds, had_failed), decision, "{what}");
    }
}

/// A revision whose containers end at once, rolled out while the known-good pods have lost their readiness
/// for the queue.
fn bad_revision_in_an_outage(said: &'static str) -> Operator {
    let mut operator = Operator::of_pods_that_need_a_queue(15);
    operator.world.said = said;
    (operator.world.unanswered, operator.world.unready) = (Some(operator.world.now), true);
    operator.run(20, 1);
    operator.world.roll_out(Template::CrashesAtOnce);
    operator.world.unready = false;
    for pod in &mut operator.world.pods {
        operator.world.broken.push(pod.name.clone());
    }
    operator.run(100, 1);
    assert_eq!(rolled_back(&operator), None, "while it is down: {:#?}", operator.status());
    operator
}

#[test]
fn an_escalated_crash_loop_is_rolled_back_once_known_good_pods_that_are_ready_again_show_the_blame() {
    let mut operator = bad_revision_in_an_outage("ModuleNotFoundError: No module named 'httpx_sse'");
    let status = operator.status();
    let escalated = find(&status, IncidentType::CrashLoop).unwrap();
    assert!(escalated.is_escalated() && escalated.cause == Cause::MissingDependency, "{status:#?}");
    assert!(!escalated.evidence.iter().any(|line| line.contains("these pods are not of")), "{status:#?}");
    operator.run(60, 1);
    assert_eq!(rolled_back(&operator), None, "while the known-good pods fail");
    queue_answers(&mut operator);
    operator.world.broken.clear();
    operator.run(60, 1);
    assert!(rolled_back(&operator).is_some(), "{:#?}", operator.status());
}
