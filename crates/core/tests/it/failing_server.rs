//! A server whose requests fail, in the simulated world: rolled back once, proven by its metrics, and nothing begun anew
//! while a window shows the past.

use mcp_health_api::{
    ActionType, Cause, Duration, IncidentType, McpServerHealthSpec, McpServerHealthStatus, Override,
};

use crate::support::{
    operator::{Crash, Operator},
    policy,
    watches::{Sight, Source},
    world::{Template, World},
};

/// What the window of five minutes and a scrape come to.
const REACH: i64 = 360;

fn measured(spec: McpServerHealthSpec) -> Operator {
    let mut world = World::with(Template::Good, 3);
    world.measured = true;
    let mut operator = Operator::new(world, spec);
    operator.run(600, 5);
    assert!(operator.status().incidents.is_empty(), "{:#?}", operator.status());
    operator
}

fn is_over(status: &McpServerHealthStatus) -> bool {
    status.incidents.is_empty() && !status.history.is_empty()
}

fn last_healthy(operator: &Operator) -> String {
    operator.status().target.unwrap().last_healthy.unwrap().template
}

#[test]
fn a_new_template_that_fails_is_rolled_back_and_never_counts_as_healthy() {
    let mut operator = measured(policy::enforcing());
    let good = last_healthy(&operator);
    operator.world.roll_out(Template::Fails(20));
    operator.run_until("resolved", 1800, is_over);
    assert_eq!(last_healthy(&operator), good);
    assert_eq!(operator.world.deployment.as_ref().unwrap().template, good);
    let past = operator.status().history[0].clone();
    assert_eq!((past.incident_type, past.cause), (IncidentType::HighErrorRate, Cause::BadRollout));
    assert_eq!(past.done(), "Rollback: Improved");
}

#[test]
fn a_new_template_is_proven_once_the_window_shows_nothing_else() {
    let mut operator = measured(policy::enforcing());
    let good = last_healthy(&operator);
    let new = operator.world.roll_out(Template::Good);
    operator.run(REACH - 30, 5);
    assert_eq!(last_healthy(&operator), good);
    operator.run(90, 5);
    assert_eq!(last_healthy(&operator), new);
}

#[test]
fn wherever_the_operator_is_cut_off_it_rolls_back_once() {
    for crash in [Crash::Unrecorded, Crash::Undone, Crash::HalfDone, Crash::Unnoted] {
        let mut operator = measured(policy::enforcing());
        operator.world.roll_out(Template::Fails(20));
        operator.crash = Some(crash);
        operator.run_until("resolved", 1800, is_over);
        assert_eq!((operator.crash, operator.world.done.len()), (None, 1), "{crash:?}");
    }
}

/// Lasts five minutes before it is an incident.
fn patient() -> McpServerHealthSpec {
    let mut spec = policy::enforcing();
    spec.overrides.push(Override {
        incident: IncidentType::HighErrorRate,
        severity: None,
        hold_for: Some(Duration::from_secs(300)),
        thresholds: None,
        runbook: None,
    });
    spec
}

/// Seconds from the first sight to the incident, with something in between.
fn lasted(between: impl FnOnce(&mut Operator)) -> i64 {
    let mut operator = measured(patient());
    operator.world.roll_out(Template::Fails(50));
    operator.run_until("pending", 120, |status| !status.pending.is_empty());
    let since = operator.status().pending[0].since.0;
    operator.run(60, 5);
    between(&mut operator);
    operator.run_until("an incident", 1800, |status| !status.incidents.is_empty());
    operator.status().incidents[0].opened_at.0.duration_since(since).as_secs()
}

#[test]
fn how_long_it_lasts_is_counted_from_the_first_sight_and_not_while_nothing_is_seen() {
    let of = |between: fn(&mut Operator)| lasted(between);
    assert!((300..310).contains(&of(|_| {})));
    assert!((300..310).contains(&of(|operator| operator.restart(30))), "a restart forgets nothing");
    let blind = of(|operator| {
        operator.watches.set(&operator.world.clone(), Source::Metrics, Sight::Gone);
        operator.run(120, 5);
        operator.watches.set(&operator.world.clone(), Source::Metrics, Sight::Clear);
    });
    assert!((415..435).contains(&blind), "blind for two minutes: {blind}");
}

#[test]
fn a_second_remediation_waits_until_the_window_shows_the_first() {
    let steps = [Some(ActionType::RecyclePod), Some(ActionType::RolloutRestart)];
    let spec = policy::with_runbook(policy::enforcing(), IncidentType::HighErrorRate, &steps);
    let mut operator = measured(policy::with_cooldown(spec, 1));
    let pod = operator.world.pods[0].name.clone();
    operator.world.failing = vec![pod.clone()];
    operator.run_until("recycled", 300, |status| status.last_action.is_some());
    assert_eq!(operator.world.done[0].before, pod);
    assert_eq!(operator.status().incidents[0].cause, Cause::OnePod);
    operator.world.failing = operator.world.pods.iter().map(|pod| pod.name.clone()).collect();
    operator.run(60, 1);
    operator.world.failing = operator.world.pods.iter().map(|pod| pod.name.clone()).collect();
    operator.run(1800, 5);
    let at: Vec<i64> = operator.world.done.iter().map(|done| done.at).collect();
    assert!(at.len() >= 2 && at[1] - at[0] >= REACH, "{at:?}");
}
