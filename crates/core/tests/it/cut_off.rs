//! Attempts of several steps, cut off at each place in turn: the operator that comes back goes on where the other
//! ended. What can be told from the world is done once; what cannot is done once at most.

use mcp_health_api::{ActionType, Attempt, Effect, IncidentType, Outcome};

use crate::support::{
    operator::{Crash, Operator},
    policy,
    world::{Template, World},
};

use ActionType::{CallHook, DrainAndRestart, ResetCircuit, Rollback, RunJob, Scale, SetEnv};

/// A server on which one action is tried, and nothing after it.
fn before(action: ActionType) -> Operator {
    let incident = match action {
        Rollback => IncidentType::CrashLoop,
        ResetCircuit => IncidentType::CircuitStuckOpen,
        _ => IncidentType::CpuSaturation,
    };
    let spec = policy::with_all_actions(policy::with_cooldown(policy::enforcing(), 0));
    let spec = policy::with_smoke_test(policy::with_runbook(spec, incident, &[Some(action)]));
    let mut world = World::with(Template::Good, 3);
    world.usage = Some(Vec::new());
    world.probed = action == ResetCircuit;
    let mut operator = Operator::new(world, spec);
    operator.run(120, 3);
    if action == Rollback {
        operator.world.roll_out(Template::CrashesAtOnce);
    } else if action == ResetCircuit {
        operator.world.circuits_stick = true;
        operator.world.circuits_open =
            operator.world.pods.iter().take(2).map(|pod| (pod.name.clone(), operator.world.now)).collect();
    } else {
        // Pods are ready, and the fault stays whatever is done.
        operator.world.demand = 100_000;
    }
    operator
}

fn effects(operator: &Operator, of: impl Fn(Effect) -> bool) -> Vec<(Effect, usize)> {
    operator.world.done.iter().map(|done| (done.effect, done.step)).filter(|one| of(one.0)).collect()
}

#[test]
fn whatever_step_it_is_cut_off_at_an_attempt_comes_to_the_same_end() {
    let expected: &[(ActionType, &[Effect])] = &[
        (DrainAndRestart, &[Effect::CallHook, Effect::CallHook, Effect::RestartPods, Effect::CallHook]),
        (CallHook, &[Effect::CallHook]),
        (RunJob, &[Effect::RunJob]),
        (Rollback, &[Effect::PatchTemplate, Effect::RunJob]),
        (Scale, &[Effect::SetReplicas]),
        (SetEnv, &[Effect::EditTemplate]),
        (ResetCircuit, &[Effect::ResetCircuit, Effect::ResetCircuit]),
    ];
    for (action, steps) in expected {
        let begun = before(*action);
        let mut whole = begun.clone();
        whole.run(1500, 5);
        let done: Vec<_> = whole.world.done.iter().map(|done| done.effect).collect();
        assert_eq!(done, *steps, "{action}: {:#?}", whole.status());
        let outcome = whole.status().last_action.unwrap().outcome;
        for crash in [Crash::Unrecorded, Crash::Undone, Crash::HalfDone, Crash::Unnoted] {
            for spared in 0..4 {
                let mut cut = begun.clone();
                (cut.crash, cut.spared) = (Some(crash), spared);
                cut.run(1500, 5);
                let what = format!("{action} cut off {crash:?} after {spared}");
                let traceable = |effect: Effect| !effect.is_untraceable();
                assert_eq!(effects(&cut, traceable), effects(&whole, traceable), "{what}");
                let (called, all) =
                    (effects(&cut, |one| !traceable(one)), effects(&whole, |one| !traceable(one)));
                assert!(called.iter().all(|one| all.contains(one)), "{what}: {called:?}");
                assert!(called.len() + 1 >= all.len(), "{what}: one answer at most is lost: {called:?}");
                let twice = called.iter().enumerate().any(|(at, one)| called[..at].contains(one));
                assert!(!twice, "{what}: {called:?}");
                let attempts = cut.status().last_action.map(|last| last.outcome);
                assert_eq!(attempts, Some(outcome), "{what}: {:#?}", cut.status());
            }
        }
    }
}

#[test]
fn an_attempt_that_is_stopped_half_way_does_no_more() {
    // After the drain, somebody throws the switch: the pods are not replaced.
    let mut operator = before(DrainAndRestart);
    operator.run_until("the drain", 900, |status| {
        status.incidents.iter().any(|one| one.open_attempt().is_some_and(Attempt::has_begun))
    });
    operator.run(2, 1);
    operator.declare(|spec| spec.suspend = true);
    operator.run(600, 3);
    assert_eq!(effects(&operator, |_| true), [(Effect::CallHook, 0)]);
    assert_eq!(operator.status().incidents[0].attempts[0].outcome, Some(Outcome::Superseded));
}

#[test]
fn a_drain_that_no_pod_hears_is_not_followed_by_a_restart() {
    let mut operator = before(DrainAndRestart);
    operator.world.hooks_fail = true;
    operator.run(1800, 3);
    assert_eq!(effects(&operator, |one| one == Effect::RestartPods), []);
}
