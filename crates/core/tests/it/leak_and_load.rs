//! A leak and a load in the simulated world: a pod recycled before the kill, replicas added and taken back, once,
//! wherever the operator is cut off.

use mcp_health_api::{
    ActionType, IncidentState, IncidentType, McpServerHealthSpec, McpServerHealthStatus, Outcome, ScalePolicy,
};
use mcp_health_core::{
    Decision,
    signals::{Autoscaler, Reading, Scaled},
};

use crate::support::{
    operator::{Crash, Operator},
    policy,
    scene::Scene,
    watches::{Sight, Source},
    world::{MEMORY_LIMIT, Template, World},
};

const CRASHES: [Crash; 4] = [Crash::Unrecorded, Crash::Undone, Crash::HalfDone, Crash::Unnoted];

/// So many pods, measured for twenty minutes.
fn measured(pods: i32, spec: McpServerHealthSpec) -> Operator {
    let mut world = World::with(Template::Good, pods);
    world.usage = Some(Vec::new());
    let mut operator = Operator::new(world, spec);
    operator.run(1200, 5);
    assert!(operator.status().incidents.is_empty(), "{:#?}", operator.status());
    operator
}

fn leaking(pods: i32) -> (Operator, String) {
    let mut operator = measured(pods, policy::enforcing());
    let pod = operator.world.pods[0].name.clone();
    operator.world.leaks = vec![(pod.clone(), operator.world.now)];
    (operator, pod)
}

#[test]
fn page_cache_that_grows_recycles_no_pod() {
    let mut operator = measured(2, policy::enforcing());
    operator.world.caches = true;
    operator.world.leaks = vec![(operator.world.pods[0].name.clone(), operator.world.now)];
    operator.run(1800, 5);
    assert!(operator.status().incidents.is_empty(), "{:#?}", operator.status().incidents);
    assert_eq!(acted(&operator), []);
}

fn is_over(status: &McpServerHealthStatus) -> bool {
    status.incidents.is_empty() && !status.history.is_empty()
}

fn names(operator: &Operator) -> Vec<&str> {
    operator.world.pods.iter().map(|pod| pod.name.as_str()).collect()
}

fn acted(operator: &Operator) -> Vec<ActionType> {
    let attempts = operator.looks.iter().filter_map(|look| match &look.decision {
        Some(Decision::Act(plan)) => Some(plan.action),
        _ => None,
    });
    attempts.collect()
}

#[test]
fn a_leaking_pod_is_recycled_before_it_is_killed_while_the_other_serves() {
    let (mut operator, pod) = leaking(2);
    operator.run_until("resolved", 1800, is_over);
    let evicted: Vec<_> = operator.world.done.iter().map(|done| done.before.as_str()).collect();
    assert_eq!(evicted, [&pod]);
    let used = operator.looks.iter().filter_map(|look| look.signals.usage.fresh());
    let most = used.flatten().flat_map(|one| &one.samples).map(|sample| sample.memory).max();
    assert!(most.unwrap() < MEMORY_LIMIT, "before the kill");
    assert_eq!(operator.status().history[0].resolution, "RecyclePod helped");
    assert!(
        operator.looks.iter().all(|look| look
            .after
            .target
            .as_ref()
            .is_none_or(|one| one.ready_replicas != 0)
            || look.at <= 10)
    );
}

#[test]
fn of_two_leaking_pods_one_is_recycled_at_a_time() {
    let (mut operator, pod) = leaking(2);
    let other = names(&operator).into_iter().find(|name| *name != pod).unwrap().to_owned();
    operator.world.leaks.push((other, operator.world.now + 60));
    operator.run(3600, 5);
    let ready = operator.looks.iter().filter(|look| look.at > 60);
    let fewest = ready.filter_map(|look| Some(look.after.target.as_ref()?.ready_replicas)).min();
    assert_eq!(fewest, Some(1), "one serves at any time");
    assert_eq!(acted(&operator), [ActionType::RecyclePod, ActionType::RecyclePod]);
    assert!(is_over(&operator.status()), "{:#?}", operator.status());
}

#[test]
fn the_only_pod_is_not_evicted_but_replaced_by_a_restart() {
    let (mut operator, _) = leaking(1);
    operator.run_until("resolved", 1800, is_over);
    assert_eq!(acted(&operator), [ActionType::RolloutRestart]);
    let (mut operator, pod) = leaking(1);
    let only = [Some(ActionType::RecyclePod)];
    operator.declare(|spec| *spec = policy::with_runbook(spec.clone(), IncidentType::MemoryLeak, &only));
    operator.run_until("escalated", 1800, |status| {
        let first = status.incidents.first();
        first.and_then(|one| one.escalation.as_ref()).is_some_and(|why| why.reason == "LastReadyPod")
    });
    assert_eq!(names(&operator), [pod]);
}

#[test]
fn wherever_the_operator_is_cut_off_one_leaking_pod_is_recycled_once() {
    for crash in CRASHES {
        let (mut operator, pod) = leaking(2);
        operator.crash = Some(crash);
        operator.run_until("resolved", 3600, is_over);
        assert_eq!(operator.crash, None, "{crash:?} came to pass");
        let evicted: Vec<_> = operator.world.done.iter().map(|done| done.before.as_str()).collect();
        assert_eq!(evicted, [&pod], "{crash:?}");
    }
}

#[test]
fn while_nobody_measures_a_leak_is_neither_acted_on_nor_closed() {
    for sight in [Sight::Stale, Sight::Gone] {
        let (mut operator, _) = leaking(2);
        operator.declare(|spec| spec.mode = mcp_health_api::Mode::Observe);
        operator.run_until("found", 1800, |status| !status.incidents.is_empty());
        operator.watches.set(&operator.world.clone(), Source::Usage, sight);
        operator.declare(|spec| spec.mode = mcp_health_api::Mode::Enforce);
        operator.world.leaks.clear();
        operator.run(1800, 5);
        assert_eq!(operator.world.done, [], "{sight:?}");
        let status = operator.status();
        assert_eq!((status.incidents.len(), status.history.len()), (1, 0), "{sight:?}: {status:#?}");
    }
}

// ---- Scale

fn scaling(max: i32) -> McpServerHealthSpec {
    let mut spec = policy::enforcing();
    spec.actions.allow.push(ActionType::Scale);
    spec.actions.scale = Some(ScalePolicy { max, stateless: true });
    spec
}

/// Two pods with work for nearly all of their CPU.
fn busy(spec: McpServerHealthSpec) -> Operator {
    let mut operator = measured(2, spec);
    operator.world.demand = 900;
    operator
}

fn desired(operator: &Operator) -> i32 {
    operator.world.deployment.as_ref().unwrap().desired
}

fn is_mitigated(status: &McpServerHealthStatus) -> bool {
    status.incidents.first().is_some_and(|one| one.state == IncidentState::Mitigated)
}

#[test]
fn a_busy_server_is_given_one_more_replica_and_a_person_is_told_what_remains() {
    let mut operator = busy(scaling(4));
    operator.run_until("mitigated", 1800, is_mitigated);
    assert_eq!(desired(&operator), 3);
    let incident = operator.status().incidents[0].clone();
    assert_eq!(
        incident.follow_ups[0].message,
        "it runs with 3 replicas instead of 2: write that into its manifest, or give its containers more CPU"
    );
    operator.run(3600, 15);
    assert_eq!(desired(&operator), 3, "nothing more is done");
    // A person finds another answer.
    operator.world.demand = 100;
    operator.world.change(|one| one.desired = 2);
    operator.run_until("resolved", 900, is_over);
}

#[test]
fn wherever_the_operator_is_cut_off_it_scales_once() {
    for crash in CRASHES {
        let mut operator = busy(scaling(4));
        operator.crash = Some(crash);
        operator.run_until("mitigated", 3600, is_mitigated);
        assert_eq!((operator.crash, desired(&operator)), (None, 3), "{crash:?}");
        assert_eq!(operator.world.done.len(), 1, "{crash:?}");
    }
}

#[test]
fn what_made_things_worse_is_scaled_back_only_while_the_number_is_still_ours() {
    for theirs in [None, Some(5)] {
        let mut operator = busy(scaling(4));
        operator.world.demand = 2000;
        operator.run_until("scaled", 1800, |status| status.last_action.is_some());
        // No further pod finds a node, and one of the old ones ends.
        operator.world.full = true;
        operator.world.kill_a_pod();
        if let Some(theirs) = theirs {
            operator.run(60, 5);
            operator.world.change(|one| one.desired = theirs);
        }
        operator.run(1800, 5);
        let back: Vec<_> = operator.world.done.iter().filter(|done| done.undoes.is_some()).collect();
        match theirs {
            None => {
                assert_eq!((back.len(), desired(&operator)), (1, 2), "{:#?}", operator.status());
                let outcomes = operator.looks.iter().flat_map(|look| &look.after.incidents);
                let mut outcomes = outcomes.flat_map(|one| &one.attempts).filter_map(|one| one.outcome);
                assert!(outcomes.any(|outcome| outcome == Outcome::Worse));
            }
            Some(theirs) => assert_eq!((back.len(), desired(&operator)), (0, theirs)),
        }
    }
}

/// About to scale.
fn before_scaling(max: i32) -> Scene {
    let mut operator = busy(scaling(max));
    operator.declare(|spec| spec.mode = mcp_health_api::Mode::Observe);
    operator.run_until("found", 1800, |status| !status.incidents.is_empty());
    Scene::of(&operator).with(|scene| scene.spec.mode = mcp_health_api::Mode::Enforce)
}

#[test]
fn it_scales_only_within_its_policy_and_where_any_pod_can_answer() {
    type Change = fn(&mut Scene);
    fn sticky(scene: &mut Scene, sticky: bool) {
        scene.spec.actions.scale = Some(ScalePolicy { max: 4, stateless: false });
        let Reading::Fresh(services) = &mut scene.signals.services else { panic!("Services") };
        services[0].sticky = sticky;
    }
    let rows: &[(&str, Change, &str)] = &[
        ("nothing is in the way", |_| {}, "Act Scale"),
        ("not allowed", |scene| scene.spec.actions.allow.clear(), "Escalate ActionNotAllowed"),
        ("no policy", |scene| scene.spec.actions.scale = None, "Escalate NoScalePolicy"),
        (
            "at its maximum",
            |scene| scene.spec.actions.scale = Some(ScalePolicy { max: 2, stateless: true }),
            "Escalate ScaleMaximum",
        ),
        ("sessions that stay in one pod", |scene| sticky(scene, false), "Escalate NotStateless"),
        ("a Service that keeps clients on their pods", |scene| sticky(scene, true), "Act Scale"),
        (
            "no Service at all",
            |scene| {
                sticky(scene, true);
                scene.signals.services = Reading::Fresh(Vec::new());
            },
            "Escalate NotStateless",
        ),
        (
            "Services that cannot be seen",
            |scene| {
                sticky(scene, true);
                scene.signals.services = Reading::Unavailable("gone".to_owned());
            },
            "Wait",
        ),
        (
            "a claim that all pods share",
            |scene| scene.target().claims = vec!["data".to_owned()],
            "Escalate SharedVolume",
        ),
        (
            "an autoscaler",
            |scene| {
                let words = "HorizontalPodAutoscaler/mcp".to_owned();
                scene.signals.autoscalers =
                    Reading::Fresh(vec![Autoscaler { words, sets: Scaled::Replicas }]);
            },
            "Hold AutoscalerOwned",
        ),
    ];
    let scene = before_scaling(4);
    for (what, change, decision) in rows {
        assert_eq!(scene.clone().with(change).decision(), *decision, "{what}");
    }
}

#[test]
fn the_number_is_given_back_to_who_named_it_and_to_nobody_else() {
    for owner in [None, Some("helm".to_owned())] {
        let mut scene = before_scaling(3);
        scene.target().replicas_owner.clone_from(&owner);
        let step: mcp_health_api::RunbookStep =
            serde_json::from_value(serde_json::json!({"scale": {"by": 5}})).unwrap();
        scene.spec.overrides.push(mcp_health_api::Override {
            incident: IncidentType::CpuSaturation,
            severity: None,
            hold_for: None,
            thresholds: None,
            runbook: Some(vec![step]),
        });
        let Decision::Act(plan) = scene.concluded().decision else { panic!("it does not act") };
        assert_eq!(
            (plan.steps[0].from.as_deref(), plan.steps[0].to.as_deref()),
            (Some("2"), Some("3")),
            "at most 3"
        );
        let given: Vec<_> = plan.steps[1..].iter().map(|step| step.source.clone()).collect();
        assert_eq!(given, owner.map(Some).into_iter().collect::<Vec<_>>());
    }
}
