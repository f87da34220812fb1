//! Circuit breakers: which are stuck, what is known of that which they guard, and what resets them.

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Attempt, Cause, Effect, IncidentType, Outcome};
use mcp_health_core::{
    Decision,
    signals::{CheckStep, Circuit, CircuitState, Dependency, Failure, Reading},
};

use crate::support::{
    measured::{judged, word},
    moment,
    operator::Operator,
    policy,
    scene::Scene,
    world::{Template, World},
};

use CircuitState::{Closed, HalfOpen, Open};

/// Three pods, each with one circuit: its state, and the age of its last failure. It recovers within 20 s.
fn scene(states: [(CircuitState, Option<i64>); 3]) -> Scene {
    Scene::healthy().with(|scene| {
        let pods = scene.signals.pods.fresh().unwrap().clone();
        let circuit =
            |(pod, (state, age)): (&mcp_health_core::signals::Pod, (CircuitState, Option<i64>))| Circuit {
                pod: pod.name.clone(),
                name: "external-api".to_owned(),
                state,
                failures: Some(5),
                threshold: Some(5),
                last_failure: age.map(|age| moment(scene.now - age)),
                recovery: Some(SignedDuration::from_secs(20)),
                at: moment(scene.now - 5),
            };
        scene.signals.circuits = Reading::Fresh(pods.iter().zip(states).map(circuit).collect());
        scene.spec.actions.allow.push(ActionType::ResetCircuit);
    })
}

fn circuits(scene: &mut Scene) -> &mut Vec<Circuit> {
    match &mut scene.signals.circuits {
        Reading::Fresh(circuits) => circuits,
        other => panic!("no circuits: {other:?}"),
    }
}

/// The policy names what the circuit guards; its last answers, the newest last.
fn guarding(answers: &'static [bool]) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let spec =
            serde_json::json!({"name": "external-api", "http": {"url": "http://external-api:8080/health"}});
        scene.spec.signals.dependencies = vec![serde_json::from_value(spec).unwrap()];
        let result = |well: &bool| {
            if *well { Ok(()) } else { Err(Failure::new(CheckStep::Answer, "does not answer within 5 s")) }
        };
        let results = answers.iter().map(|well| (moment(scene.now), result(well))).collect();
        scene.signals.dependencies = Reading::Fresh(vec![Dependency {
            name: "external-api".to_owned(),
            words: "GET http://external-api:8080/health".to_owned(),
            ever_answered: true,
            results,
            ..Dependency::default()
        }]);
    }
}

/// It has lasted, by the operator's own sight.
fn lasted(mut scene: Scene) -> Scene {
    scene.status.pending = scene.concluded().diagnosis.pending;
    scene.now += 21;
    let now = scene.now;
    for one in circuits(&mut scene) {
        one.at = moment(now);
    }
    scene
}

const WELL: (CircuitState, Option<i64>) = (Closed, None);
const STUCK: (CircuitState, Option<i64>) = (Open, Some(41));

#[test]
fn a_circuit_is_stuck_where_it_is_open_for_too_long_and_what_it_guards_answers() {
    let rows: Vec<(&str, Scene, &str)> = vec![
        ("all closed", scene([WELL; 3]), "Clear"),
        ("half open", scene([(HalfOpen, Some(500)), WELL, WELL]), "Clear"),
        ("its time is not over", scene([(Open, Some(39)), WELL, WELL]), "Suspected"),
        ("its time is over twice", scene([STUCK, WELL, WELL]), "CircuitOpen"),
        ("it does not tell its last failure", scene([(Open, None), WELL, WELL]), "Unknown"),
        ("its last failure is yet to come", scene([(Open, Some(-100)), WELL, WELL]), "Unknown"),
        ("open everywhere", scene([STUCK; 3]), "GuardUnknown"),
        ("what it guards answers", scene([STUCK; 3]).with(guarding(&[false, true, true])), "CircuitOpen"),
        ("what it guards is down", scene([STUCK; 3]).with(guarding(&[false; 3])), "Clear"),
        ("down, whatever another pod says", scene([STUCK, WELL, WELL]).with(guarding(&[false; 3])), "Clear"),
        ("now so, now so", scene([STUCK; 3]).with(guarding(&[true, false])), "Unknown"),
        ("not asked yet", scene([STUCK, WELL, WELL]).with(guarding(&[])), "Unknown"),
        (
            "asked long ago",
            scene([STUCK; 3]).with(guarding(&[true; 3])).with(|scene| {
                let Reading::Fresh(all) = &mut scene.signals.dependencies else { unreachable!() };
                all[0].results.iter_mut().for_each(|(at, _)| *at = moment(scene.now - 121));
            }),
            "Unknown",
        ),
        (
            "it does not say how long",
            scene([STUCK, WELL, WELL]).with(|scene| {
                circuits(scene)[0].recovery = None;
            }),
            "Suspected",
        ),
        (
            "told long ago",
            scene([STUCK, WELL, WELL]).with(|scene| {
                let then = moment(scene.now - 121);
                circuits(scene)[0].at = then;
            }),
            "Unknown",
        ),
        (
            "a pod that is not ready",
            scene([STUCK, WELL, WELL]).with(|scene| {
                let Reading::Fresh(pods) = &mut scene.signals.pods else { unreachable!() };
                pods[0].ready = false;
            }),
            "Clear",
        ),
        (
            "stale",
            scene([STUCK, WELL, WELL]).with(|scene| {
                let value = circuits(scene).clone();
                scene.signals.circuits = Reading::Stale { value, at: moment(scene.now) };
            }),
            "Unknown",
        ),
        ("off", scene([WELL; 3]).with(|scene| scene.signals.circuits = Reading::Off), "Unknown"),
    ];
    for (what, scene, expected) in rows {
        assert_eq!(word(&judged(&scene, IncidentType::CircuitStuckOpen)), expected, "{what}");
    }
}

#[test]
fn it_lasts_by_the_operators_own_clock_before_anything_is_done() {
    // A pod's clock that is a day behind.
    let scene = scene([(Open, Some(86_400)), WELL, WELL]);
    assert_eq!(scene.decision(), "Wait");
    assert_eq!(scene.concluded().diagnosis.pending[0].incident_type, IncidentType::CircuitStuckOpen);
    assert_eq!(lasted(scene).decision(), "Act ResetCircuit");
}

#[test]
fn every_stuck_circuit_is_reset_on_its_own_pod_the_one_open_for_longest_first() {
    let scene = lasted(scene([STUCK, WELL, (Open, Some(100))]));
    let Decision::Act(plan) = scene.concluded().decision else { panic!("acts") };
    let pods = scene.signals.pods.fresh().unwrap();
    let steps: Vec<_> =
        plan.steps.iter().map(|step| (step.effect, step.object.clone(), step.to.clone())).collect();
    let reset = |pod: usize| {
        (Effect::ResetCircuit, Some(format!("Pod/{}", pods[pod].name)), Some("external-api".to_owned()))
    };
    assert_eq!(steps, [(Effect::MarkTarget, None, None), reset(2), reset(0)]);
    assert_eq!(plan.steps[1].uid, pods[2].uid, "that very pod");
    assert!(plan.why.contains("the same circuit is closed on pod"), "{}", plan.why);
}

#[test]
fn an_attempt_has_eight_steps_at_most() {
    let scene = lasted(scene([STUCK, WELL, WELL]).with(|scene| {
        let first = circuits(scene)[0].clone();
        circuits(scene).extend((0..20).map(|at| Circuit { name: format!("c{at}"), ..first.clone() }));
        let pod = circuits(scene)[1].pod.clone();
        let closed = (0..20).map(|at| Circuit {
            name: format!("c{at}"),
            state: Closed,
            pod: pod.clone(),
            ..first.clone()
        });
        circuits(scene).extend(closed);
    }));
    let Decision::Act(plan) = scene.concluded().decision else { panic!("acts") };
    assert_eq!(plan.steps.len(), 8);
}

#[test]
fn what_is_not_known_or_not_allowed_is_a_persons() {
    assert_eq!(lasted(scene([STUCK; 3])).decision(), "Escalate NoAutomaticAction");
    let finding = lasted(scene([STUCK; 3])).concluded().diagnosis.findings[0].clone();
    assert!(finding.evidence.iter().any(|line| line.contains("spec.signals.dependencies")), "{finding:#?}");
    let forbidden = lasted(scene([STUCK, WELL, WELL])).with(|scene| {
        scene.spec.actions.allow.retain(|action| *action != ActionType::ResetCircuit);
    });
    assert_eq!(forbidden.decision(), "Escalate ActionNotAllowed");
}

/// Three pods, one circuit each, and what they guard answers.
fn operator() -> Operator {
    let mut world = World::with(Template::Good, 3);
    world.probed = true;
    let mut operator = Operator::new(world, policy::with_all_actions(policy::enforcing()));
    operator.run(120, 1);
    operator
}

#[test]
fn a_stuck_circuit_is_reset_and_that_helps() {
    let mut operator = operator();
    operator.world.open_a_circuit();
    let pod = operator.world.circuits_open[0].0.clone();
    operator.run_until("resolved", 600, |status| !status.history.is_empty());
    let done: Vec<_> = operator.world.done.iter().map(|done| (done.effect, done.before.as_str())).collect();
    assert_eq!(done, [(Effect::ResetCircuit, pod.as_str())]);
    let past = &operator.status().history[0];
    assert_eq!((past.cause, past.resolution.as_str()), (Cause::CircuitOpen, "ResetCircuit helped"));
}

#[test]
fn a_circuit_that_opens_again_and_again_is_handed_over() {
    let mut operator = operator();
    operator.world.circuits_stick = true;
    operator.world.open_a_circuit();
    operator.run(3600, 5);
    assert_eq!(operator.world.done.len(), 1, "once");
    let incident = &operator.status().incidents[0];
    assert_eq!(
        incident.attempts.iter().map(|one: &Attempt| one.outcome).collect::<Vec<_>>(),
        [Some(Outcome::NoChange)]
    );
    assert_eq!(incident.escalation.as_ref().unwrap().reason, "RunbookExhausted");
}
