//! The story as people read it: the status and the events, from a healthy server to one that was healed. Each
//! snapshot is what `kubectl get -o yaml` shows under `.status`.

use mcp_health_api::{ActionType, McpServerHealthStatus, Mode, Outcome};
use mcp_health_core::report;

use crate::support::{
    operator::{Look, Operator},
    policy,
    watches::{Sight, Source},
    world::{Template, World},
};

/// A server that was seen healthy, two minutes after its start.
fn healthy() -> Operator {
    let mut operator = Operator::new(World::with(Template::Good, 3), policy::enforcing());
    operator.run(120, 1);
    operator
}

/// The same, with a bad template rolled out.
fn after_a_bad_rollout() -> Operator {
    let mut operator = healthy();
    operator.world.roll_out(Template::CrashesAtOnce);
    operator
}

fn has_an_incident(status: &McpServerHealthStatus) -> bool {
    !status.incidents.is_empty()
}

/// The events of all looks, as `kubectl get events` lists them.
fn events(looks: &[Look]) -> Vec<String> {
    let told = looks.iter().flat_map(|look| {
        let news = report::news(&look.before, &look.after).into_iter();
        news.map(move |one| {
            let kind = if one.warning { "Warning" } else { "Normal" };
            format!("+{}s {kind} {} [{}] {}", look.at, one.reason, one.action, one.note)
        })
    });
    told.collect()
}

#[test]
fn a_healthy_server() {
    insta::assert_yaml_snapshot!(healthy().status());
}

#[test]
fn a_server_that_comes_up() {
    let mut operator = Operator::new(World::with(Template::ReadyAfter(20), 3), policy::enforcing());
    operator.run(5, 1);
    insta::assert_yaml_snapshot!(operator.status());
}

#[test]
fn a_bad_rollout_is_recorded_before_it_is_taken_back() {
    let mut operator = after_a_bad_rollout();
    operator.run_until("an incident", 60, has_an_incident);
    let intents: Vec<_> = operator.looks.iter().filter_map(|look| look.intent.as_ref()).collect();
    assert_eq!(intents.len(), 1);
    insta::assert_yaml_snapshot!("recorded", intents[0]);
    insta::assert_yaml_snapshot!("verifying", operator.status());
    operator.run_until("resolved", 60, |status| !has_an_incident(status));
    insta::assert_yaml_snapshot!("resolved", operator.status());
    insta::assert_yaml_snapshot!("events", events(&operator.looks));
}

#[test]
fn in_observe_mode_it_says_what_it_would_do() {
    let mut operator = after_a_bad_rollout();
    operator.declare(|spec| spec.mode = Mode::Observe);
    operator.run(30, 1);
    insta::assert_yaml_snapshot!(operator.status());
}

#[test]
fn a_deployment_of_gitops_is_held() {
    let mut operator = healthy();
    operator.world.change(|one| one.gitops = Some("Argo CD (argocd.argoproj.io/instance: mcp)".to_owned()));
    operator.world.roll_out(Template::CrashesAtOnce);
    operator.run(30, 1);
    insta::assert_yaml_snapshot!("held_by_gitops", operator.status());
    operator.world.undo();
    operator.run_until("resolved", 60, |status| !has_an_incident(status));
    insta::assert_yaml_snapshot!("held_by_gitops_events", events(&operator.looks));
}

#[test]
fn without_a_healthy_revision_a_person_is_needed() {
    let mut operator = Operator::new(World::with(Template::CrashesAtOnce, 2), policy::enforcing());
    operator.run(60, 1);
    insta::assert_yaml_snapshot!(operator.status());
}

#[test]
fn the_younger_of_two_objects_with_one_target_waits() {
    let mut operator = after_a_bad_rollout();
    operator.watches.rival = Some("older".to_owned());
    operator.run(60, 1);
    assert_eq!(operator.world.done, []);
    insta::assert_yaml_snapshot!(operator.status());
}

#[test]
fn a_target_that_is_not_there() {
    let mut operator = healthy();
    operator.world.delete();
    operator.run(30, 1);
    insta::assert_yaml_snapshot!(operator.status());
}

#[test]
fn a_server_that_cannot_be_seen() {
    let mut operator = healthy();
    operator.watches.set(&operator.world.clone(), Source::Pods, Sight::Stale);
    operator.watches.set(&operator.world.clone(), Source::ClusterSwitch, Sight::Gone);
    operator.run(30, 1);
    insta::assert_yaml_snapshot!(operator.status());
}

#[test]
fn a_service_that_leads_nowhere() {
    let mut operator = healthy();
    operator.world.service_astray = true;
    operator.run(90, 1);
    insta::assert_yaml_snapshot!(operator.status());
}

#[test]
fn while_the_healthy_template_crashes_too_nothing_is_rolled_back() {
    let mut operator = after_a_bad_rollout();
    operator.world.dependency_down = true;
    operator.run(1200, 1);
    assert_eq!(operator.world.done, []);
    insta::assert_yaml_snapshot!("dependency_down", operator.status());
    insta::assert_yaml_snapshot!("dependency_down_events", events(&operator.looks));
}

#[test]
fn a_rollback_that_does_not_help_is_followed_by_a_restart_and_then_by_a_person() {
    let mut operator = healthy();
    operator.world.deployment.as_mut().unwrap().recreate = true;
    operator.world.roll_out(Template::CrashesAfter(30));
    operator.run(20, 1);
    operator.world.dependency_down = true;
    operator.run(1800, 1);
    insta::assert_yaml_snapshot!("exhausted", operator.status());
    insta::assert_yaml_snapshot!("exhausted_events", events(&operator.looks));
}

#[test]
fn pods_made_in_the_very_second_of_a_restart_show_that_it_did_not_help() {
    let mut operator = healthy();
    operator.world.dependency_down = true;
    operator.run_until("a restart", 120, |status| status.last_action.is_some());
    let acted = operator.world.now;
    operator.run(1, 1);
    for pod in &mut operator.world.pods {
        pod.created = pod.created.min(acted);
    }
    operator.run_until("the judgement", 120, |status| {
        status.last_action.as_ref().is_some_and(|last| last.outcome.is_some())
    });
    let last = operator.status().last_action.unwrap();
    assert_eq!((last.action, last.outcome), (ActionType::RolloutRestart, Some(Outcome::NoChange)));
}
