//! What comes of an action, and what follows from that.

use mcp_health_api::{ActionType, Duration, IncidentType, McpServerHealthStatus, Outcome, ScalePolicy};
use mcp_health_core::Decision;

use crate::support::{
    operator::{Crash, Operator},
    policy,
    watches::{SOURCES, Sight, Source},
    world::{Done, Template, World},
};

/// A bad template was rolled out and rolled back just now.
fn rolled_back() -> Operator {
    let mut operator = Operator::new(World::with(Template::Good, 3), policy::enforcing());
    operator.run(120, 1);
    operator.world.roll_out(Template::CrashesAtOnce);
    operator.run_until("an action", 60, |status| status.last_action.is_some());
    operator
}

fn outcome(operator: &Operator) -> Option<Outcome> {
    operator.status().last_action.unwrap().outcome
}

fn escalation(status: &McpServerHealthStatus) -> Option<&str> {
    Some(status.incidents.first()?.escalation.as_ref()?.reason.as_str())
}

#[test]
fn what_helped_closes_the_incident_once_it_has_settled() {
    let mut operator = rolled_back();
    operator.run(10, 1);
    assert_eq!(outcome(&operator), None);
    operator.run(10, 1);
    assert_eq!(outcome(&operator), Some(Outcome::Improved));
    assert!(operator.status().incidents.is_empty());
}

#[test]
fn what_somebody_takes_back_is_left_to_them() {
    let mut operator = rolled_back();
    operator.world.undo();
    operator.run(600, 1);
    assert_eq!(outcome(&operator), Some(Outcome::Reverted));
    assert_eq!(escalation(&operator.status()), Some("Reverted"));
    assert_eq!(operator.world.done.len(), 1);
}

#[test]
fn what_somebody_overtakes_is_superseded_and_decided_anew() {
    let mut operator = rolled_back();
    operator.world.roll_out(Template::Good);
    operator.run(60, 1);
    let status = operator.status();
    assert_eq!(outcome(&operator), Some(Outcome::Superseded));
    assert!(status.incidents.is_empty(), "{status:#?}");
}

#[test]
fn without_evidence_it_waits_once_longer_and_then_a_person_judges() {
    let mut operator = rolled_back();
    operator.watches.set(&operator.world.clone(), Source::Pods, Sight::Gone);
    operator.run(130, 1);
    assert!(!operator.status().incidents[0].attempts[0].extended);
    operator.run(20, 1);
    assert!(operator.status().incidents[0].attempts[0].extended);
    operator.run(70, 1);
    assert_eq!(outcome(&operator), Some(Outcome::Inconclusive));
    // It neither climbs the ladder nor undoes; and it closes once it can be seen to be well.
    operator.watches.set(&operator.world.clone(), Source::Pods, Sight::Clear);
    operator.run(2, 1);
    assert_eq!(operator.world.done.len(), 1);
    operator.run(60, 1);
    assert!(operator.status().incidents.is_empty());
}

#[test]
fn a_pod_that_the_action_created_is_not_held_against_it_while_it_starts() {
    let mut spec = policy::with_runbook(
        policy::enforcing(),
        IncidentType::ServiceNotResponding,
        &[Some(ActionType::Scale)],
    );
    spec.actions.allow.push(ActionType::Scale);
    spec.actions.scale = Some(ScalePolicy { max: 3, stateless: true });
    let mut operator = Operator::new(World::with(Template::ReadyAfter(8), 1), spec);
    operator.run(120, 1);
    operator.world.break_a_pod();
    operator.run_until("scaled", 60, |status| status.last_action.is_some());
    operator.run(5, 1);
    assert_eq!(outcome(&operator), None, "the second pod has not had its time to start");
    operator.world.broken.clear();
    operator.run_until("judged", 120, |status| status.last_action.as_ref().unwrap().outcome.is_some());
    assert_eq!(outcome(&operator), Some(Outcome::Improved));
}

#[test]
fn a_rollback_that_does_not_come_through_has_failed_though_a_smoke_test_was_to_follow() {
    let mut operator =
        Operator::new(World::with(Template::Good, 1), policy::with_smoke_test(policy::enforcing()));
    operator.world.deployment.as_mut().unwrap().recreate = true;
    operator.run(120, 1);
    operator.world.roll_out(Template::CrashesAtOnce);
    operator.run_until("an action", 120, |status| status.last_action.is_some());
    // Nothing of it can start.
    operator.world.quota = true;
    operator.world.kill_a_pod();
    operator.run(60, 1);
    assert_eq!(outcome(&operator), None);
    // The rollout's own time counts, not that of the Job after it; and nobody looks without end.
    operator.run(120, 1);
    assert!(
        matches!(outcome(&operator), Some(Outcome::NoChange | Outcome::Worse)),
        "{:#?}",
        operator.status()
    );
}

#[test]
fn a_service_that_cannot_be_seen_does_not_make_a_success() {
    let mut operator = Operator::new(World::with(Template::Good, 3), policy::enforcing());
    operator.run(120, 1);
    operator.world.deployment.as_mut().unwrap().recreate = true;
    operator.world.roll_out(Template::NeverReady);
    operator.run_until("an action", 120, |status| status.last_action.is_some());
    assert_eq!(operator.status().incidents[0].incident_type, IncidentType::ServiceNotResponding);
    operator.watches.set(&operator.world.clone(), Source::Services, Sight::Gone);
    operator.run(100, 1);
    assert_eq!(outcome(&operator), None);
    operator.watches.set(&operator.world.clone(), Source::Services, Sight::Clear);
    operator.run(20, 1);
    assert_eq!(outcome(&operator), Some(Outcome::Improved));
}

/// Rolled back from a template of which two pods served, to one that does not work any more.
fn made_worse() -> Operator {
    let mut operator = Operator::new(World::with(Template::Good, 4), policy::enforcing());
    operator.run(120, 1);
    operator.world.deployment.as_mut().unwrap().recreate = true;
    operator.world.roll_out(Template::CrashesAfter(25));
    operator.run_until("an action", 200, |status| status.last_action.is_some());
    operator
}

#[test]
fn what_made_things_worse_is_taken_back_if_it_is_still_ours_and_not_tried_again() {
    let mut operator = made_worse();
    let mut status = operator.status();
    // Two pods served before it, and the template that came back does not work.
    status.incidents[0].attempts[0].ready_before = 2;
    operator.overwrite_status(&status);
    operator.world.dependency_down = true;
    operator.run(300, 1);
    let done = operator.world.done.clone();
    assert_eq!(done.len(), 2, "{done:#?}");
    assert_eq!(done[1].undoes.as_ref(), Some(&done[0].attempt));
    assert_eq!((&done[1].before, &done[1].after), (&done[0].after, &done[0].before));
    operator.run(3600, 1);
    assert_eq!(escalation(&operator.status()), Some("MadeThingsWorse"));
    assert_eq!(operator.world.done.len(), 2);
}

#[test]
fn what_made_things_worse_is_taken_back_also_after_the_answer_was_overdue() {
    let mut operator = made_worse();
    let mut status = operator.status();
    status.incidents[0].attempts[0].ready_before = 2;
    status.incidents[0].respond_by = status.incidents[0].opened_at.clone();
    operator.overwrite_status(&status);
    operator.run(1, 1);
    assert_eq!(escalation(&operator.status()), Some("ResponseOverdue"));
    operator.world.dependency_down = true;
    operator.run(300, 1);
    assert_eq!(operator.world.done.len(), 2, "{:#?}", operator.status());
}

#[test]
fn a_revert_that_is_due_while_the_operator_is_suspended_is_done_when_that_is_over() {
    let mut operator = made_worse();
    let mut status = operator.status();
    status.incidents[0].attempts[0].ready_before = 2;
    operator.overwrite_status(&status);
    operator.world.dependency_down = true;
    operator.declare(|spec| spec.suspend = true);
    operator.run(2 * 3600, 5);
    let status = operator.status();
    let hold = status.incidents[0].hold.as_ref().map(|hold| hold.reason.as_str());
    assert_eq!((outcome(&operator), hold), (Some(Outcome::Worse), Some("Suspended")));
    // On-call was notified once, and waiting does not end it.
    let escalations: Vec<_> = operator
        .looks
        .iter()
        .filter_map(|look| look.after.incidents.first()?.escalation.clone())
        .map(|escalation| (escalation.reason, escalation.at))
        .collect();
    assert!(escalations.iter().all(|one| one == &escalations[0]), "once");
    assert_eq!(escalations[0].0, "ResponseOverdue");
    assert_eq!(operator.world.done.len(), 1);
    operator.restart(1);
    operator.declare(|spec| spec.suspend = false);
    operator.run(10, 1);
    let done = &operator.world.done;
    assert_eq!(done.len(), 2, "{:#?}", operator.status());
    assert_eq!(done[1].undoes.as_ref(), Some(&done[0].attempt));
}

#[test]
fn an_unanswered_incident_is_handed_over_when_the_answer_is_due_and_says_what_held() {
    let mut operator = Operator::new(World::with(Template::Good, 3), policy::observing());
    operator.run(120, 1);
    operator.world.dependency_down = true;
    operator.run(14 * 60, 1);
    assert_eq!(escalation(&operator.status()), None);
    operator.run(2 * 60, 1);
    let status = operator.status();
    assert_eq!(escalation(&status), Some("ResponseOverdue"));
    assert!(status.summary.unwrap().contains("ObserveMode"));
}

#[test]
fn wherever_the_operator_is_cut_off_the_rollback_happens_once_and_is_judged() {
    for crash in [Crash::Unrecorded, Crash::Undone, Crash::HalfDone, Crash::Unnoted] {
        for away in [1, 3, 40] {
            let mut operator = Operator::new(World::with(Template::Good, 3), policy::enforcing());
            operator.run(120, 1);
            operator.world.roll_out(Template::CrashesAtOnce);
            operator.crash = Some(crash);
            for _ in 0..30 {
                let looks = operator.looks.len();
                operator.run(1, 1);
                if operator.crash.is_none() && operator.looks.len() > looks {
                    operator.restart(away);
                    break;
                }
            }
            operator.run(200, 1);
            assert_eq!(operator.crash, None);
            assert_eq!(
                operator.world.done.len(),
                1,
                "{crash:?}, away for {away} s: {:#?}",
                operator.status()
            );
            assert!(operator.status().incidents.is_empty(), "{crash:?}: {:#?}", operator.status());
        }
    }
}

#[test]
fn neither_a_recreated_object_nor_a_restart_gives_more_actions_in_an_hour() {
    let mut spec = policy::with_cooldown(policy::enforcing(), 0);
    spec.limits.max_actions_per_hour = 2;
    let mut operator = Operator::new(World::with(Template::Good, 3), spec.clone());
    operator.run(60, 1);
    for _ in 0..5 {
        operator.world.roll_out(Template::CrashesAtOnce);
        operator.run(60, 1);
        operator.create_object(spec.clone());
        operator.restart(1);
        operator.run(60, 1);
        operator.world.roll_out(Template::Good);
        operator.run(60, 1);
    }
    assert_eq!(operator.world.done.len(), 2, "{:#?}", operator.world.done);
    let held = operator.looks.iter().any(
        |look| matches!(&look.decision, Some(Decision::Hold { hold, .. }) if hold.reason == "ActionsPerHour"),
    );
    assert!(held);
}

#[test]
fn an_incident_closes_though_nothing_is_seen_to_change_any_more() {
    let mut operator = Operator::new(World::with(Template::Good, 2), policy::observing());
    operator.declare(|spec| spec.limits.cooldown = Duration::from_secs(0));
    operator.run(120, 1);
    operator.world.dependency_down = true;
    operator.run(15, 1);
    operator.world.dependency_down = false;
    operator.run(60, 1);
    operator.run_with_still_signals(3600);
    assert!(operator.status().incidents.is_empty(), "{:#?}", operator.status().incidents);
}

#[test]
fn a_blind_operator_closes_nothing() {
    let mut operator = rolled_back();
    operator.crash = None;
    for source in SOURCES {
        operator.watches.set(&operator.world.clone(), source, Sight::Stale);
    }
    operator.run(3600, 5);
    let status = operator.status();
    assert_eq!(status.history, []);
    assert_eq!(status.incidents.len(), 1);
}

#[test]
fn what_is_not_ours_any_more_is_not_taken_back() {
    let mut operator = made_worse();
    let mut status = operator.status();
    status.incidents[0].attempts[0].outcome = Some(Outcome::Worse);
    for theirs in [Template::CrashesAtOnce, Template::NeverReady] {
        let mut operator = operator.clone();
        operator.world.roll_out(theirs);
        operator.overwrite_status(&status);
        operator.run(300, 1);
        let undone: Vec<_> = operator.world.done.iter().filter(|done| done.undoes.is_some()).collect();
        assert_eq!(undone, Vec::<&Done>::new());
        let handed_over =
            operator.looks.iter().any(|look| escalation(&look.after) == Some("MadeThingsWorse"));
        assert!(handed_over);
    }
    // An undo that was overtaken is not what is to be undone: the first attempt still is.
    let mut overtaken = status.incidents[0].attempts[0].clone();
    overtaken.id.push_str("-undo");
    overtaken.undoes = Some(status.incidents[0].attempts[0].id.clone());
    for step in &mut overtaken.steps {
        (step.from, step.to) = (step.to.clone(), step.from.clone());
        step.state = mcp_health_api::StepState::Recorded;
    }
    overtaken.outcome = Some(Outcome::Superseded);
    status.incidents[0].attempts.push(overtaken);
    operator.world.dependency_down = true;
    operator.run(5, 1);
    operator.overwrite_status(&status);
    operator.run(30, 1);
    let first = operator.world.done[0].attempt.clone();
    assert_eq!(operator.world.done[1].undoes, Some(first), "{:#?}", operator.world.done);
}

#[test]
fn an_object_that_another_one_replaces_keeps_no_incident_open() {
    let mut operator = rolled_back();
    operator.watches.rival = Some("older".to_owned());
    operator.run(2 * 3600, 5);
    let status = operator.status();
    assert_eq!(status.incidents, []);
    assert_eq!(status.history[0].resolution, "another object is in charge of the target");
    assert!(status.target.unwrap().last_healthy.is_some());
}
