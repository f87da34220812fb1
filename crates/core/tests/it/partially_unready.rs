//! Some pods of the known-good revision are not ready for good, and others serve.

use mcp_health_api::{Cause, IncidentType, McpServerHealthStatus, Severity};

use crate::support::{
    operator::Operator,
    policy,
    world::{Template, World},
};

fn server(pods: i32) -> Operator {
    let mut operator = Operator::new(World::with(Template::Good, pods), policy::enforcing());
    operator.run(120, 1);
    operator
}

fn is_over(status: &McpServerHealthStatus) -> bool {
    status.incidents.is_empty() && !status.history.is_empty()
}

#[test]
fn one_pod_of_three_that_stays_unready_is_recycled() {
    let mut operator = server(3);
    let pod = operator.world.break_a_pod();
    operator.run(55, 1);
    assert!(operator.status().incidents.is_empty(), "it may come back: {:#?}", operator.status());
    operator.run_until("an incident", 15, |status| !status.incidents.is_empty());
    let incident = operator.status().incidents[0].clone();
    let seen = (incident.incident_type, incident.cause, incident.severity);
    assert_eq!(seen, (IncidentType::PartiallyUnready, Cause::NotReady, Severity::SEV3));
    assert!(incident.evidence[0].starts_with("1 of 3 wanted pods is not ready"), "{:#?}", incident.evidence);
    operator.run_until("resolved", 120, is_over);
    assert_eq!(operator.world.done.len(), 1);
    assert_eq!(operator.world.done[0].before, pod);
    assert_eq!(operator.status().history[0].done(), "RecyclePod: Improved");
}

#[test]
fn a_pod_that_comes_back_in_time_is_left_alone() {
    let mut operator = server(3);
    operator.world.break_a_pod();
    operator.run(40, 1);
    operator.world.broken.clear();
    operator.run(120, 1);
    let status = operator.status();
    assert!(status.incidents.is_empty() && status.history.is_empty(), "{status:#?}");
    assert!(operator.world.done.is_empty());
}

#[test]
fn a_majority_that_is_unready_is_a_major_incident() {
    let mut operator = server(3);
    operator.world.break_a_pod();
    operator.world.break_a_pod();
    operator.run_until("an incident", 80, |status| !status.incidents.is_empty());
    assert_eq!(operator.status().incidents[0].severity, Severity::SEV2);
}

#[test]
fn two_of_four_pods_that_stay_unready_are_recycled_one_after_the_other() {
    let spec = policy::with_cooldown(policy::enforcing(), 30);
    let mut operator = Operator::new(World::with(Template::Good, 4), spec);
    operator.run(120, 1);
    let broken = [operator.world.break_a_pod(), operator.world.break_a_pod()];
    operator.run_until("resolved", 300, is_over);
    let evicted: Vec<_> = operator.world.done.iter().map(|done| done.before.clone()).collect();
    assert_eq!(evicted, broken);
    assert_eq!(operator.status().history[0].done(), "RecyclePod: Improved, RecyclePod: Improved");
}

#[test]
fn a_successor_that_stays_unready_as_well_escalates() {
    let mut operator = server(3);
    operator.world.break_a_pod();
    for _ in 0..600 {
        operator.run(1, 1);
        let world = &mut operator.world;
        let serving = world.pods.iter().filter(|pod| pod.ready).count();
        let young = world.pods.iter().filter(|pod| pod.created > 120).map(|pod| pod.name.clone());
        world.broken.extend(young.filter(|_| serving <= 2).collect::<Vec<_>>());
    }
    let status = operator.status();
    assert_eq!(operator.world.done.len(), 1, "{status:#?}");
    assert_eq!(status.incidents[0].escalation.as_ref().unwrap().reason, "RunbookExhausted");
}

#[test]
fn pods_are_not_recycled_while_what_they_need_is_down() {
    let spec = policy::with_dependency(policy::enforcing(), "queue", "rabbitmq.mcp:5672");
    let mut world = World::with(Template::Good, 3);
    world.probed = true;
    let mut operator = Operator::new(world, spec);
    operator.run(120, 1);
    operator.world.unanswered = Some(operator.world.now);
    operator.world.break_a_pod();
    operator.run(200, 1);
    let status = operator.status();
    let found: Vec<_> = status.incidents.iter().map(|one| (one.incident_type, one.cause)).collect();
    assert!(found.contains(&(IncidentType::PartiallyUnready, Cause::DependencyDown)), "{status:#?}");
    assert!(operator.world.done.is_empty(), "{:#?}", operator.world.done);
}

#[test]
fn a_revision_that_was_never_healthy_is_no_partly_unready_one() {
    let mut operator = server(3);
    operator.world.roll_out(Template::NeverReady);
    operator.run(300, 1);
    let status = operator.status();
    let types = status.history.iter().map(|one| one.incident_type);
    assert_eq!(types.collect::<Vec<_>>(), [IncidentType::RolloutStuck], "{status:#?}");
}
