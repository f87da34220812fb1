//! Which revision a failure belongs to: what is rolled back, and what is not.

use jiff::SignedDuration;
use mcp_health_api::{Cause, Effect};
use mcp_health_core::{
    Server,
    signals::{Exit, Pod, Reading},
};

use crate::support::{
    moment,
    operator::Operator,
    policy,
    scene::Scene,
    world::{Template, World},
};

/// Three pods whose template is known good.
fn healthy() -> Operator {
    let mut operator = Operator::new(World::with(Template::Good, 3), policy::enforcing());
    operator.run(120, 1);
    assert!(operator.status().target.unwrap().last_healthy.is_some());
    operator
}

fn is_rolled_out(operator: &Operator) -> bool {
    Server::of(&Scene::of(operator).case()).unwrap().is_rolled_out()
}

/// Whether the template was changed within ten minutes.
fn is_rolled_back(mut operator: Operator) -> bool {
    operator.run(600, 1);
    operator.world.done.iter().any(|done| done.effect == Effect::PatchTemplate)
}

#[test]
fn a_new_revision_that_was_ready_is_not_rolled_back_when_what_all_templates_need_dies() {
    for recreate in [false, true] {
        for ready_for in [20, 35, 50] {
            let mut operator = healthy();
            operator.world.deployment.as_mut().unwrap().recreate = recreate;
            operator.world.roll_out(Template::Good);
            operator.run(1, 1);
            for _ in 0..60 {
                operator.run(i64::from(!is_rolled_out(&operator)), 1);
            }
            assert!(is_rolled_out(&operator));
            operator.run(ready_for, 1);
            operator.world.unready = true;
            assert!(!is_rolled_back(operator), "recreate {recreate}, ready for {ready_for} s");
        }
    }
}

#[test]
fn a_new_revision_that_never_gets_ready_or_ends_is_rolled_back_though_no_other_pod_is_left() {
    for template in [Template::NeverReady, Template::CrashesAtOnce, Template::CrashesAfter(25)] {
        let mut operator = healthy();
        operator.world.deployment.as_mut().unwrap().recreate = true;
        operator.world.roll_out(template);
        assert!(is_rolled_back(operator), "{template:?}");
    }
}

/// The pods of the new template; those of the known-good one are the others.
fn pods(scene: &mut Scene) -> (Vec<&mut Pod>, Vec<&mut Pod>) {
    let case = scene.case();
    let current = Server::of(&case).unwrap().current().unwrap().uid.clone();
    let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("no pods") };
    pods.iter_mut().partition(|pod| pod.revision == current)
}

/// Pods of a new template that are not ready and never were, beside those of the known-good one.
fn rolling_out() -> Scene {
    let mut operator = healthy();
    operator.declare(|spec| spec.mode = mcp_health_api::Mode::Observe);
    operator.world.roll_out(Template::NeverReady);
    operator.run(70, 1);
    Scene::of(&operator)
}

fn loses_readiness(scene: &mut Scene) {
    for pod in pods(scene).0 {
        pod.was_ready = true;
        pod.ready_changed = pod.created.saturating_add(SignedDuration::from_secs(40)).unwrap();
    }
}

fn ends_after(scene: &mut Scene, seconds: i64) {
    for pod in pods(scene).0 {
        let at = pod.created.saturating_add(SignedDuration::from_secs(seconds)).unwrap();
        (pod.was_ready, pod.ready_changed) = (true, at);
        let container = &mut pod.containers[0];
        (container.restarts, container.recent_exits) = (1, vec![at]);
        let (code, reason) = (1, "Error".to_owned());
        container.last_exit = Some(Exit { code, reason, at, started: None, message: None });
    }
}

fn alone(scene: &mut Scene) {
    let keep = pods(scene).0.into_iter().map(|pod| pod.uid.clone()).collect::<Vec<_>>();
    let Reading::Fresh(all) = &mut scene.signals.pods else { panic!("no pods") };
    all.retain(|pod| keep.contains(&pod.uid));
}

#[test]
fn a_revision_is_to_blame_by_a_failure_of_its_own_or_beside_known_good_pods_that_do_not_fail() {
    type Change = fn(&mut Scene);
    let rows: &[(&str, &[Change], Cause)] = &[
        ("never ready, while known-good pods serve", &[], Cause::BadRollout),
        ("never ready, and no other pod is left", &[alone], Cause::BadRollout),
        ("readiness lost, while known-good pods serve", &[loses_readiness], Cause::BadRollout),
        ("readiness lost, and no other pod is left", &[loses_readiness, alone], Cause::NotReady),
        (
            "readiness lost, and a known-good pod has lost it, too",
            &[loses_readiness, |scene| {
                let now = scene.now;
                let mut others = pods(scene).1;
                (others[0].ready, others[0].ready_changed) = (false, moment(now - 5));
            }],
            Cause::NotReady,
        ),
        (
            "never ready, and a known-good pod has only just been created",
            &[|scene| {
                let now = scene.now;
                let mut others = pods(scene).1;
                let pod = &mut *others[0];
                (pod.ready, pod.was_ready) = (false, false);
                (pod.created, pod.ready_changed) = (moment(now - 5), moment(now - 5));
                pod.lifecycle.started = Some(moment(now - 4));
            }],
            Cause::BadRollout,
        ),
        ("ends, and no other pod is left", &[|scene| ends_after(scene, 30), alone], Cause::BadRollout),
        (
            "ends after the progress deadline, while known-good pods serve",
            &[|scene| {
                scene.status.incidents.clear();
                scene.target().progress_deadline = SignedDuration::from_secs(20);
                ends_after(scene, 30);
            }],
            Cause::NotReady,
        ),
        (
            "ends after the progress deadline, and the open incident tells that it began before",
            &[|scene| {
                scene.target().progress_deadline = SignedDuration::from_secs(20);
                ends_after(scene, 30);
                let created = pods(scene).0[0].created;
                scene.open_incident().since = mcp_health_api::Time(created);
            }],
            Cause::BadRollout,
        ),
    ];
    for (what, changes, cause) in rows {
        let mut scene = rolling_out();
        changes.iter().for_each(|change| change(&mut scene));
        assert_eq!(Server::of(&scene.case()).unwrap().cause(Cause::NotReady), *cause, "{what}");
    }
}
