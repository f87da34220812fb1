//! Slow is not broken: what a start may take before anything is done, and what ends that patience.

use mcp_health_api::{ActionType, Cause, IncidentType, McpServerHealthStatus};

use crate::support::{
    operator::Operator,
    policy,
    world::{Template, World},
};

/// A known-good server of three pods, with a progress deadline of ten minutes.
fn server() -> Operator {
    let mut world = World::with(Template::Good, 3);
    world.deployment.as_mut().unwrap().deadline = 600;
    let mut operator = Operator::new(world, policy::enforcing());
    operator.run(120, 1);
    assert!(operator.status().incidents.is_empty(), "{:#?}", operator.status());
    operator
}

fn is_untouched(operator: &Operator) {
    let status = operator.status();
    assert!(status.incidents.is_empty() && status.history.is_empty(), "{status:#?}");
    assert!(operator.world.done.is_empty(), "{:#?}", operator.world.done);
}

fn reason(status: &McpServerHealthStatus, condition: &str) -> String {
    status.conditions.iter().find(|one| one.type_ == condition).unwrap().reason.clone()
}

fn found(status: &McpServerHealthStatus) -> Vec<(IncidentType, Cause)> {
    status.incidents.iter().map(|one| (one.incident_type, one.cause)).collect()
}

#[test]
fn a_new_revision_whose_init_container_takes_two_minutes_is_waited_for() {
    let mut operator = server();
    let new = operator.world.roll_out(Template::InitTakes(120));
    operator.run(60, 1);
    let status = operator.status();
    assert_eq!(reason(&status, "Ready"), "Progressing");
    let summary = status.summary.unwrap();
    assert!(summary.contains("init container migrate has not completed"), "{summary}");
    operator.run(600, 1);
    is_untouched(&operator);
    assert_eq!(operator.status().target.unwrap().last_healthy.unwrap().template, new);
}

#[test]
fn a_slow_image_pull_is_waited_for() {
    let mut operator = server();
    operator.world.roll_out(Template::PullTakes(180));
    operator.run(900, 1);
    is_untouched(&operator);
}

#[test]
fn an_init_container_that_hangs_beyond_the_progress_deadline_is_rolled_back() {
    let mut operator = server();
    operator.world.roll_out(Template::InitTakes(100_000));
    operator.run(590, 1);
    is_untouched(&operator);
    operator.run_until("an incident", 60, |status| !status.incidents.is_empty());
    let incident = operator.status().incidents[0].clone();
    assert_eq!((incident.incident_type, incident.cause), (IncidentType::RolloutStuck, Cause::BadRollout));
    assert!(
        incident.evidence[0].contains("init container migrate has not completed"),
        "{:#?}",
        incident.evidence
    );
    operator.run_until("resolved", 120, |status| status.incidents.is_empty());
    assert_eq!(operator.status().history[0].done(), "Rollback: Improved");
}

#[test]
fn two_minutes_until_a_busy_node_starts_the_containers_are_no_incident() {
    let mut operator = server();
    operator.world.busy_node = 120;
    operator.world.deployment.as_mut().unwrap().recreate = true;
    operator.world.restart();
    operator.run(400, 1);
    is_untouched(&operator);
    let mut first = Operator::new(World::with(Template::Good, 2), policy::enforcing());
    first.world.deployment.as_mut().unwrap().deadline = 600;
    first.world.busy_node = 120;
    first.run(200, 1);
    is_untouched(&first);
}

#[test]
fn a_node_that_starts_no_container_until_the_deadline_is_named_and_nothing_is_restarted() {
    let mut operator = server();
    operator.world.busy_node = 100_000;
    operator.world.deployment.as_mut().unwrap().recreate = true;
    operator.world.restart();
    operator.run(900, 1);
    let status = operator.status();
    assert!(found(&status).contains(&(IncidentType::ServiceNotResponding, Cause::NotStarted)), "{status:#?}");
    assert!(operator.world.done.is_empty() && status.incidents[0].escalation.is_some(), "{status:#?}");
}

#[test]
fn pods_that_wait_for_an_autoscaler_are_no_incident_before_the_deadline() {
    let mut operator = server();
    operator.world.full = true;
    operator.world.change(|one| one.desired = 5);
    operator.run(300, 1);
    is_untouched(&operator);
    operator.world.full = false;
    operator.run(120, 1);
    is_untouched(&operator);
    operator.world.full = true;
    operator.world.roll_out(Template::Good);
    operator.run(700, 1);
    let status = operator.status();
    assert_eq!(found(&status)[0], (IncidentType::RolloutStuck, Cause::Unschedulable), "{status:#?}");
    assert!(operator.world.done.is_empty());
}

/// All pods of a server that was up are gone at once, and no node takes others.
fn without_a_node(autoscales: bool) -> Operator {
    let mut operator = server();
    (operator.world.full, operator.world.autoscales) = (true, autoscales);
    for _ in 0..operator.world.pods.len() {
        operator.world.kill_a_pod();
    }
    operator
}

#[test]
fn a_server_that_was_up_and_has_no_node_for_any_pod_is_down_after_a_minute() {
    let mut operator = without_a_node(false);
    operator.run(55, 1);
    is_untouched(&operator);
    operator.run(15, 1);
    let status = operator.status();
    assert_eq!(found(&status)[0], (IncidentType::ServiceNotResponding, Cause::Unschedulable), "{status:#?}");
    let first = &status.incidents[0];
    assert!(first.evidence.iter().any(|line| line.contains("no node takes it: 0/1 nodes")), "{first:#?}");
    assert!(first.escalation.is_some() && operator.world.done.is_empty(), "{status:#?}");
    operator.world.full = false;
    operator.run_until("resolved", 120, |status| status.incidents.is_empty());
}

#[test]
fn a_node_that_an_autoscaler_promises_is_waited_for_though_no_pod_is_left() {
    let mut operator = without_a_node(true);
    operator.run(300, 1);
    is_untouched(&operator);
}

#[test]
fn a_start_may_take_twice_as_long_as_the_known_good_one_took() {
    let slow = |known: i64, new: i64| {
        let mut world = World::with(Template::ReadyAfter(known), 3);
        world.deployment.as_mut().unwrap().deadline = 600;
        let mut operator = Operator::new(world, policy::enforcing());
        operator.run(300, 1);
        assert!(operator.status().incidents.is_empty(), "{:#?}", operator.status());
        operator.world.roll_out(Template::ReadyAfter(new));
        operator.run(new + 60, 1);
        operator
    };
    is_untouched(&slow(55, 100));
    let beyond = slow(55, 200);
    assert_eq!(beyond.world.done[0].effect, mcp_health_api::Effect::PatchTemplate);
    let known = slow(55, 100).status().target.unwrap().last_healthy.unwrap();
    assert_eq!(known.longest_start.unwrap().span().as_secs(), 55);
}

#[test]
fn a_readiness_gate_that_is_not_set_is_named_and_nothing_is_rolled_back() {
    for recreate in [false, true] {
        let mut operator = server();
        operator.world.deployment.as_mut().unwrap().recreate = recreate;
        operator.world.roll_out(Template::GateUnset);
        operator.run(900, 1);
        let status = operator.status();
        let incident = &status.incidents[0];
        assert_eq!(incident.cause, Cause::ReadinessGate, "{status:#?}");
        assert!(
            incident.evidence.iter().any(|line| line.contains("readiness gate target-health.example.com/lb"))
        );
        assert!(incident.escalation.is_some() && operator.world.done.is_empty(), "{status:#?}");
    }
}

#[test]
fn pods_that_never_get_ready_are_rolled_back_though_they_have_no_gate_to_wait_for() {
    let mut operator = server();
    operator.world.roll_out(Template::NeverReady);
    operator.run_until("resolved", 200, |status| !status.history.is_empty());
    assert_eq!(operator.status().last_action.unwrap().action, ActionType::Rollback);
}
