//! Every guard: what it permits, holds and refuses.

use jiff::Timestamp;
use mcp_health_api::{
    ActionOutcome, ActionType, Attempt, Cause, Duration, Effect, Escalation, IncidentType, LastAction, Mode,
    Outcome, PastIncident, RollbackPolicy, Severity, Step, StepState, Time,
};
use mcp_health_core::{
    Decision, Fleet, Server,
    actions::{self, Planned},
    attempt::{Acted, is_overdue},
    guards::{GuardAnswer, GuardQuestion, ask},
    signals::{Autoscaler, Budget, Reading, RecordedAction, Scaled, Strategy},
};

use crate::support::{moment, policy, scene::Scene};

fn hpa() -> Autoscaler {
    Autoscaler { words: "HorizontalPodAutoscaler/mcp".to_owned(), sets: Scaled::Replicas }
}

fn gone<T>() -> Reading<T> {
    Reading::Unavailable("the watch does not answer".to_owned())
}

/// So many other servers, so many of them broken.
fn broken(servers: usize, unhealthy: usize) -> Fleet {
    Fleet { servers, unhealthy, ..Fleet::default() }
}

/// So many seconds before the moment.
fn moments(scene: &Scene, ages: &[i64]) -> Vec<Timestamp> {
    ages.iter().map(|age| moment(scene.now - age)).collect()
}

/// Crash loops that a rollback ended so many seconds before the moment.
fn mended(scene: &Scene, ages: &[i64]) -> Vec<PastIncident> {
    let past = ages.iter().map(|age| PastIncident {
        evidence_kept: None,
        id: format!("crashloop-{age}"),
        incident_type: IncidentType::CrashLoop,
        rule: None,
        cause: Cause::BadRollout,
        severity: Severity::SEV2,
        opened_at: Time(moment(scene.now - age - 60)),
        resolved_at: Time(moment(scene.now - age)),
        resolution: "Rollback helped".to_owned(),
        evidence: Vec::new(),
        actions: vec![ActionOutcome { action: ActionType::Rollback, outcome: Some(Outcome::Improved) }],
        time_to_detect: "1s".to_owned(),
        time_to_mitigate: Some("1s".to_owned()),
        time_to_resolve: "1m".to_owned(),
    });
    past.collect()
}

/// Actions on the target, so many seconds before the moment.
fn acted(scene: &mut Scene, ages: &[i64]) {
    let now = scene.now;
    scene.target().actions = ages
        .iter()
        .map(|age| RecordedAction {
            id: format!("earlier-{age}"),
            action: ActionType::Rollback,
            at: moment(now - age),
            undoes: None,
        })
        .collect();
}

fn last_action(scene: &mut Scene, age: i64, outcome: Outcome) {
    scene.spec.limits.cooldown = Duration::from_secs(0);
    scene.status.last_action = Some(LastAction {
        action: ActionType::Rollback,
        at: Time(moment(scene.now - age)),
        attempt: "earlier-1".to_owned(),
        undoes: None,
        from: None,
        outcome: Some(outcome),
    });
}

/// An attempt at `action` that was carried out, and ended so.
fn ended(scene: &Scene, id: &str, action: ActionType, outcome: Option<Outcome>) -> Attempt {
    let (case, concluded) = (scene.case(), scene.concluded());
    let server = Server::of(&case).unwrap();
    let asked = actions::Asked {
        case: &case,
        server: &server,
        diagnosis: &concluded.diagnosis,
        incident: concluded.story.primary().unwrap(),
        step: None,
    };
    let Planned::Ready(plan) = actions::plan(action, &asked) else {
        panic!("{action} cannot be planned");
    };
    let done = |step: Step| Step {
        state: StepState::Done,
        template: step.to.clone().filter(|_| step.effect == Effect::PatchTemplate),
        ..step
    };
    let steps = plan.steps.into_iter().map(done).collect();
    Attempt {
        id: id.to_owned(),
        action,
        undoes: None,
        why: plan.why,
        recorded_at: Time(moment(scene.now - 4000)),
        ready_before: 3,
        steps,
        verify_at: Some(Time(moment(scene.now - 3000))),
        extended: false,
        outcome,
        message: None,
        finished_at: Some(Time(moment(scene.now - 3000))),
    }
}

#[test]
fn each_guard_has_its_say_about_a_rollback() {
    type Change = fn(&mut Scene);
    let rows: &[(&str, Change, &str)] = &[
        ("nothing is in the way", |_| {}, "Act Rollback"),
        ("Observe mode", |scene| scene.spec.mode = Mode::Observe, "Hold ObserveMode"),
        ("the object is suspended", |scene| scene.spec.suspend = true, "Hold Suspended"),
        (
            "the namespace is suspended",
            |scene| scene.signals.namespace_suspended = Reading::Fresh(true),
            "Hold NamespaceSuspended",
        ),
        (
            "the namespace's switch cannot be read",
            |scene| scene.signals.namespace_suspended = gone(),
            "Hold SwitchUnreadable",
        ),
        (
            "the cluster is suspended",
            |scene| scene.signals.cluster_suspended = Reading::Fresh(true),
            "Hold ClusterSuspended",
        ),
        (
            "the cluster's switch was read long ago",
            |scene| scene.signals.cluster_suspended = Reading::Stale { value: false, at: moment(0) },
            "Hold SwitchUnreadable",
        ),
        ("no action is allowed", |scene| scene.spec.actions.allow.clear(), "Escalate ActionNotAllowed"),
        (
            "a rollback would break the database",
            |scene| scene.spec.actions.rollback = RollbackPolicy::Never,
            "Escalate RollbackNever",
        ),
        ("autoscalers cannot be seen", |scene| scene.signals.autoscalers = gone(), "Hold EvidenceNotFresh"),
        ("the Deployment is paused", |scene| scene.target().paused = true, "Hold DeploymentPaused"),
        (
            "GitOps owns the Deployment",
            |scene| scene.target().gitops = Some("Flux".to_owned()),
            "Hold GitOpsManaged",
        ),
        (
            "the strategy is Recreate, and pods serve",
            |scene| scene.target().strategy = Strategy::Recreate,
            "Escalate Recreate",
        ),
        (
            "the strategy is Recreate, and no pod serves",
            |scene| {
                scene.target().strategy = Strategy::Recreate;
                scene.target().ready = 0;
                let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("no pods") };
                pods.retain(|pod| !pod.ready);
            },
            "Act Rollback",
        ),
        (
            "an autoscaler sets the replicas, not the template",
            |scene| {
                scene.signals.autoscalers = Reading::Fresh(vec![hpa()]);
            },
            "Act Rollback",
        ),
        (
            "another server is acted on",
            |scene| scene.fleet = Fleet { acting: vec!["mcp/other".to_owned()], ..Fleet::default() },
            "Hold ConcurrentActions",
        ),
        (
            "another server is acted on, and two may be",
            |scene| {
                scene.fleet = Fleet { acting: vec!["mcp/other".to_owned()], ..Fleet::default() };
                scene.settings.max_concurrent_actions = 2;
            },
            "Act Rollback",
        ),
        ("half of ten servers are broken", |scene| scene.fleet = broken(9, 4), "Act Rollback"),
        ("more than half of them", |scene| scene.fleet = broken(9, 5), "Hold FleetUnhealthy"),
        ("all of four, which is a small fleet", |scene| scene.fleet = broken(3, 3), "Act Rollback"),
        ("all of five", |scene| scene.fleet = broken(4, 4), "Hold FleetUnhealthy"),
        (
            "all of five, and the floor is six",
            |scene| (scene.fleet, scene.settings.unhealthy_floor) = (broken(4, 4), 6),
            "Act Rollback",
        ),
        (
            "all of a hundred, and the guard is switched off",
            |scene| (scene.fleet, scene.settings.max_unhealthy_percent) = (broken(99, 99), 100),
            "Act Rollback",
        ),
        (
            "this server is only degraded, where half of the others are broken",
            |scene| {
                scene.fleet = broken(9, 5);
                scene.spec =
                    policy::with_severity(scene.spec.clone(), IncidentType::CrashLoop, Severity::SEV3);
            },
            "Act Rollback",
        ),
        (
            "as many actions in the namespace as may be, the oldest almost an hour ago",
            |scene| scene.fleet.namespace_actions = moments(scene, &[3599; 20]),
            "Hold NamespaceActionsPerHour",
        ),
        (
            "the oldest of them over an hour ago",
            |scene| {
                scene.fleet.namespace_actions = moments(scene, &[3599; 19]);
                scene.fleet.namespace_actions.extend(moments(scene, &[3600]));
            },
            "Act Rollback",
        ),
        (
            "this server's own actions are of the namespace, too",
            |scene| {
                acted(scene, &[3000]);
                scene.fleet.namespace_actions = moments(scene, &[100; 19]);
            },
            "Hold NamespaceActionsPerHour",
        ),
        (
            "as many actions in the cluster as may be",
            |scene| scene.fleet.cluster_actions = moments(scene, &[10; 60]),
            "Hold ClusterActionsPerHour",
        ),
        (
            "mended three times within the hour, and back",
            |scene| scene.status.history = mended(scene, &[3599, 2000, 300]),
            "Escalate Flapping",
        ),
        (
            "the first of these over an hour ago",
            |scene| scene.status.history = mended(scene, &[3600, 2000, 300]),
            "Act Rollback",
        ),
        (
            "one of these came right without an action",
            |scene| {
                scene.status.history = mended(scene, &[3000, 2000, 300]);
                scene.status.history[1].actions.clear();
            },
            "Act Rollback",
        ),
        (
            "one of these was overtaken by a person",
            |scene| {
                scene.status.history = mended(scene, &[3000, 2000, 300]);
                scene.status.history[1].actions[0].outcome = Some(Outcome::Superseded);
            },
            "Act Rollback",
        ),
        (
            "one of these was of another type",
            |scene| {
                scene.status.history = mended(scene, &[3000, 2000, 300]);
                scene.status.history[1].incident_type = IncidentType::RolloutStuck;
            },
            "Act Rollback",
        ),
        ("an action a minute ago", |scene| acted(scene, &[60]), "Hold Cooldown"),
        ("an action six minutes ago", |scene| acted(scene, &[360]), "Act Rollback"),
        ("two actions in the hour", |scene| acted(scene, &[1000, 590]), "Hold Cooldown"),
        (
            "two actions in the hour, the last ten minutes ago",
            |scene| acted(scene, &[1000, 600]),
            "Act Rollback",
        ),
        (
            "four actions in the hour",
            |scene| {
                acted(scene, &[3599, 3500, 3400, 3300]);
                scene.spec.limits.cooldown = Duration::from_secs(1);
            },
            "Hold ActionsPerHour",
        ),
        (
            "the fourth action is over an hour ago",
            |scene| {
                acted(scene, &[3600, 3500, 3400, 3300]);
                scene.spec.limits.cooldown = Duration::from_secs(1);
            },
            "Act Rollback",
        ),
        ("a limit of none", |scene| scene.spec.limits.max_actions_per_hour = 0, "Hold ActionsPerHour"),
        (
            "the last rollback made things worse",
            |scene| last_action(scene, 1800, Outcome::Worse),
            "Escalate LockedOut",
        ),
        (
            "somebody took the last rollback back",
            |scene| last_action(scene, 1800, Outcome::Reverted),
            "Escalate LockedOut",
        ),
        ("it did so over an hour ago", |scene| last_action(scene, 3700, Outcome::Worse), "Act Rollback"),
        (
            "the last rollback did not help",
            |scene| last_action(scene, 1800, Outcome::NoChange),
            "Act Rollback",
        ),
        (
            "a refusal comes before a hold",
            |scene| {
                scene.spec.mode = Mode::Observe;
                scene.spec.actions.allow.clear();
            },
            "Escalate ActionNotAllowed",
        ),
    ];
    let scene = Scene::bad_rollout();
    for (what, change, decision) in rows {
        assert_eq!(scene.clone().with(change).decision(), *decision, "{what}");
    }
}

#[test]
fn a_rollout_in_progress_holds_a_restart_and_not_the_rollback_of_that_rollout() {
    let scene = Scene::process_exit();
    assert_eq!(scene.decision(), "Act RolloutRestart");
    let rolling = scene.with(|scene| scene.target().updated = 1);
    assert_eq!(rolling.decision(), "Hold RolloutInProgress");
    let mut rolling = Scene::bad_rollout();
    assert!(rolling.target().updated < rolling.target().desired);
    assert_eq!(rolling.decision(), "Act Rollback");
}

#[test]
fn the_pause_doubles_with_every_action_of_the_hour_and_says_until_when() {
    for (ages, until) in [(vec![10], 300), (vec![100, 10], 600), (vec![200, 100, 10], 1200)] {
        let mut scene = Scene::bad_rollout();
        acted(&mut scene, &ages);
        let Decision::Hold { hold, .. } = scene.concluded().decision else { panic!("not held") };
        assert_eq!(hold.until, Some(Time(moment(scene.now - 10 + until))), "{ages:?}");
    }
}

#[test]
fn the_limits_of_the_fleet_say_until_when() {
    let mut scene = Scene::bad_rollout();
    scene.settings.max_actions_per_hour_namespace = 2;
    scene.fleet.namespace_actions = moments(&scene, &[50, 3000, 2000]);
    let Decision::Hold { hold, .. } = scene.concluded().decision else { panic!("not held") };
    assert_eq!(hold.until, Some(Time(moment(scene.now - 2000 + 3600))), "{}", hold.message);
    scene.now += 1600;
    assert_eq!(scene.decision(), "Act Rollback");
}

/// A rollback made things worse: it is in place, and what it replaced is still there.
fn made_worse() -> Scene {
    let mut scene = Scene::bad_rollout();
    let mut attempt = ended(&scene, "x-1", ActionType::Rollback, Some(Outcome::Worse));
    attempt.recorded_at = Time(moment(scene.now - 60));
    let replaced = scene.target().template.clone();
    scene.target().template = attempt.steps[0].to.clone().unwrap();
    attempt.steps[0].from = Some(replaced);
    scene.open_incident().attempts = vec![attempt];
    scene
}

#[test]
fn each_guard_lets_a_revert_pass_or_holds_it_and_none_drops_it() {
    type Change = fn(&mut Scene);
    let rows: &[(&str, Change, &str)] = &[
        ("nothing is in the way", |_| {}, "Undo Rollback"),
        ("Observe mode", |scene| scene.spec.mode = Mode::Observe, "Hold ObserveMode"),
        ("the object is suspended", |scene| scene.spec.suspend = true, "Hold Suspended"),
        (
            "the namespace is suspended",
            |scene| scene.signals.namespace_suspended = Reading::Fresh(true),
            "Hold NamespaceSuspended",
        ),
        (
            "a switch cannot be read",
            |scene| scene.signals.cluster_suspended = gone(),
            "Hold SwitchUnreadable",
        ),
        (
            "the action is not allowed any more",
            |scene| scene.spec.actions.allow.clear(),
            "Hold ActionNotAllowed",
        ),
        (
            "rollbacks are not allowed any more",
            |scene| scene.spec.actions.rollback = RollbackPolicy::Never,
            "Hold RollbackNever",
        ),
        ("autoscalers cannot be seen", |scene| scene.signals.autoscalers = gone(), "Hold EvidenceNotFresh"),
        ("the Deployment is paused", |scene| scene.target().paused = true, "Hold DeploymentPaused"),
        (
            "GitOps owns the Deployment by now",
            |scene| scene.target().gitops = Some("Flux".to_owned()),
            "Hold GitOpsManaged",
        ),
        (
            "another server is acted on",
            |scene| scene.fleet = Fleet { acting: vec!["mcp/other".to_owned()], ..Fleet::default() },
            "Hold ConcurrentActions",
        ),
        ("a rollout is in progress", |scene| scene.target().updated = 1, "Undo Rollback"),
        ("most servers are broken", |scene| scene.fleet = broken(9, 9), "Undo Rollback"),
        (
            "the incident flaps",
            |scene| scene.status.history = mended(scene, &[3000, 2000, 300]),
            "Undo Rollback",
        ),
        ("an action a second ago", |scene| acted(scene, &[1]), "Undo Rollback"),
        ("all attempts are spent", |scene| scene.spec.limits.max_attempts = 1, "Undo Rollback"),
        ("the server's hour is used up", |scene| acted(scene, &[40, 30, 20, 10]), "Undo Rollback"),
        ("it has none", |scene| scene.spec.limits.max_actions_per_hour = 0, "Undo Rollback"),
        (
            "the namespace's hour is used up",
            |scene| scene.fleet.namespace_actions = moments(scene, &[10; 20]),
            "Undo Rollback",
        ),
        (
            "the cluster's hour is used up",
            |scene| scene.fleet.cluster_actions = moments(scene, &[10; 60]),
            "Undo Rollback",
        ),
        ("on-call is notified already", |scene| escalated(scene, "ResponseOverdue"), "Undo Rollback"),
        ("a webhook refused it once", |scene| escalated(scene, "AdmissionDenied"), "Undo Rollback"),
        (
            "it is not ours any more",
            |scene| scene.target().template = "theirs".to_owned(),
            "Escalate MadeThingsWorse",
        ),
    ];
    for (what, change, decision) in rows {
        let changed = made_worse().with(change);
        assert_eq!(changed.decision(), *decision, "{what}");
        if decision.starts_with("Hold") {
            // It lasts until the answer is due: on-call is notified, and it is held all the same.
            let late = changed.clone().with(|scene| scene.now += 3600);
            assert_eq!(late.decision(), "Escalate ResponseOverdue", "{what}");
            let late = late.with(|scene| escalated(scene, "ResponseOverdue"));
            assert_eq!(late.decision(), *decision, "{what}");
        }
    }
    let forbidden = made_worse();
    let mut diagnosis = forbidden.concluded().diagnosis;
    for finding in &mut diagnosis.findings {
        finding.forbids = &[ActionType::Rollback];
    }
    assert_eq!(forbidden.concluded_from(diagnosis).words(), "Hold Prohibited");
}

fn escalated(scene: &mut Scene, reason: &str) {
    let at = Time(moment(scene.now - 1));
    scene.status.incidents[0].escalation = Some(Escalation {
        reason: reason.to_owned(),
        message: String::new(),
        at,
        cause: None,
        reevaluated_at: None,
    });
}

#[test]
fn a_revert_happens_once_and_one_that_was_refused_or_failed_is_tried_again_with_pauses() {
    let mut scene = made_worse();
    let mut revert = scene.status.incidents[0].attempts[0].clone();
    (revert.id, revert.undoes) = ("x-2".to_owned(), Some("x-1".to_owned()));
    revert.outcome = Some(Outcome::NoChange);
    scene.status.incidents[0].attempts.push(revert.clone());
    assert_eq!(scene.decision(), "Escalate MadeThingsWorse", "it was reverted, and that did not help");
    for step in &mut revert.steps {
        (step.state, step.template) = (StepState::Recorded, None);
    }
    let cases = [Outcome::Refused, Outcome::Failed].map(|outcome| {
        [(1, 60), (2, 120), (7, 3840), (12, 3840)].map(|(times, pause)| (outcome, times, pause))
    });
    for (outcome, refusals, pause) in cases.into_iter().flatten() {
        revert.outcome = Some(outcome);
        let mut scene = made_worse();
        escalated(&mut scene, "AdmissionDenied");
        revert.finished_at = Some(Time(moment(scene.now)));
        scene.status.incidents[0].attempts.extend(vec![revert.clone(); refusals]);
        let Decision::Hold { hold, .. } = scene.concluded().decision else { panic!("not held") };
        assert_eq!(hold.until, Some(Time(moment(scene.now + pause))), "{outcome} {refusals}");
        assert_eq!(hold.reason, "RevertRefused");
        scene.now += pause;
        assert_eq!(scene.decision(), "Undo Rollback");
    }
}

#[test]
fn a_step_of_which_nothing_can_be_told_is_overdue_ten_minutes_after_it_could_be_carried_out() {
    let mut attempt = made_worse().status.incidents[0].attempts[0].clone();
    let recorded = attempt.recorded_at.0;
    let after = |seconds: i64| recorded + jiff::SignedDuration::from_secs(seconds);
    assert!(!is_overdue(&attempt, after(600)));
    assert!(is_overdue(&attempt, after(601)));
    attempt.steps[0].until = Some(Time(after(300)));
    assert!(!is_overdue(&attempt, after(900)), "the time of its waits does not count");
    assert!(is_overdue(&attempt, after(901)));
}

#[test]
fn an_attempt_that_failed_is_escalated_frees_its_place_and_counts_as_done() {
    let mut scene = made_worse();
    let attempt = &mut scene.status.incidents[0].attempts[0];
    (attempt.outcome, attempt.finished_at) = (None, None);
    for step in &mut attempt.steps {
        (step.state, step.template) = (StepState::Recorded, None);
    }
    let concluded = scene.concluded();
    let mut draft = concluded.story;
    draft.acted(&scene.case(), None, &Acted::Failed("reading it has no answer".to_owned()));
    let incident = &draft.incidents[0];
    assert!(incident.open_attempt().is_none(), "its place is free");
    let failed = &incident.attempts[0];
    assert_eq!(failed.outcome, Some(Outcome::Failed));
    assert!(failed.is_spent(), "it may have been done");
    let escalation = incident.escalation.as_ref().unwrap();
    assert_eq!(escalation.reason, "StepOverdue");
    assert!(escalation.message.contains("reading it has no answer"), "{}", escalation.message);
    scene.status.incidents = draft.incidents;
    assert!(matches!(scene.concluded().decision, Decision::Wait { .. }), "nothing more is done by itself");
}

#[test]
fn reverts_do_not_count_as_actions_of_the_hour() {
    let mut scene = Scene::bad_rollout();
    acted(&mut scene, &[3000, 2900, 2800, 2700, 2600]);
    scene.spec.limits.cooldown = Duration::from_secs(1);
    assert_eq!(scene.decision(), "Hold ActionsPerHour");
    for action in &mut scene.target().actions {
        (action.action, action.undoes) = (ActionType::Scale, Some("scaled-1".to_owned()));
    }
    assert_eq!(scene.decision(), "Act Rollback");
}

#[test]
fn after_so_many_attempts_a_person_takes_over_whatever_overtook_them() {
    let again = [Some(ActionType::Rollback), Some(ActionType::Rollback)];
    for outcome in [Outcome::NoChange, Outcome::Superseded] {
        let mut scene = Scene::bad_rollout();
        scene.spec = policy::with_runbook(scene.spec, IncidentType::CrashLoop, &again);
        let spent = ended(&scene, "x-1", ActionType::Rollback, Some(outcome));
        scene.open_incident().attempts = vec![spent];
        assert_eq!(scene.decision(), "Act Rollback", "{outcome}");
        scene.spec.limits.max_attempts = 1;
        assert_eq!(scene.decision(), "Escalate AttemptsExhausted", "{outcome}");
    }
}

#[test]
fn what_a_finding_forbids_is_refused_and_one_attempt_at_a_time_is_made() {
    let scene = Scene::process_exit();
    let (case, concluded) = (scene.case(), scene.concluded());
    let server = Server::of(&case).unwrap();
    let Decision::Act(plan) = concluded.decision else { panic!("it does not act") };
    let answer = |diagnosis: &_, incidents: &[_]| {
        ask(&GuardQuestion {
            case: &case,
            server: &server,
            diagnosis,
            incidents,
            incident: concluded.story.primary().unwrap(),
            plan: &plan,
            resumed: None,
            past: &[],
            fleet: &Fleet::default(),
        })
    };
    assert_eq!(answer(&concluded.diagnosis, &concluded.story.incidents), GuardAnswer::Permit);
    let mut busy = concluded.story.incidents.clone();
    busy[0].attempts = vec![ended(&scene, "x-1", ActionType::RolloutRestart, None)];
    let held = answer(&concluded.diagnosis, &busy);
    assert!(matches!(held, GuardAnswer::Hold { reason: "AttemptInFlight", .. }), "{held:?}");
    let mut forbidding = concluded.story.incidents.clone();
    forbidding[0].forbids = vec![ActionType::RolloutRestart];
    let refused = answer(&concluded.diagnosis, &forbidding);
    assert!(matches!(refused, GuardAnswer::Refuse { reason: "Prohibited", .. }), "{refused:?}");
}

#[test]
fn a_recorded_intent_passes_the_guards_again_and_is_not_done_when_it_is_old() {
    let mut scene = Scene::bad_rollout();
    let mut attempt = ended(&scene, "x-1", ActionType::Rollback, None);
    attempt.verify_at = None;
    attempt.recorded_at = Time(moment(scene.now - 5));
    for step in &mut attempt.steps {
        step.state = StepState::Recorded;
    }
    scene.open_incident().attempts = vec![attempt];
    assert_eq!(scene.decision(), "Resume");
    assert_eq!(scene.clone().with(|scene| scene.spec.suspend = true).decision(), "Resume only if done");
    assert_eq!(scene.clone().with(|scene| scene.now += 30).decision(), "Resume only if done");
    let blind = scene.clone().with(|scene| scene.signals.pods = gone());
    assert_eq!(blind.decision(), "Wait");
    assert_eq!(blind.with(|scene| scene.now += 3600).decision(), "Escalate ResponseOverdue");
}

/// What the guards say of an eviction of this pod.
fn of_an_eviction(scene: &Scene, uid: &str) -> GuardAnswer {
    let (case, concluded) = (scene.case(), scene.concluded());
    let server = Server::of(&case).unwrap();
    let incident = concluded.story.primary().unwrap();
    let asked = actions::Asked {
        case: &case,
        server: &server,
        diagnosis: &concluded.diagnosis,
        incident,
        step: None,
    };
    let Planned::Ready(mut plan) = actions::plan(ActionType::RecyclePod, &asked) else {
        panic!("RecyclePod cannot be planned");
    };
    uid.clone_into(&mut plan.steps[1].uid);
    ask(&GuardQuestion {
        case: &case,
        server: &server,
        diagnosis: &concluded.diagnosis,
        incidents: &concluded.story.incidents,
        incident,
        plan: &plan,
        resumed: None,
        past: &[],
        fleet: &Fleet::default(),
    })
}

/// All pods crash but so many, which are ready; with their uids, the ready ones first.
fn with_ready_pods(ready: usize) -> (Scene, Vec<String>) {
    let mut scene = Scene::process_exit();
    let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("no pods") };
    for pod in &mut pods[..ready] {
        (pod.ready, pod.containers) = (true, Vec::new());
    }
    let uids = pods.iter().map(|pod| pod.uid.clone()).collect();
    scene.target().ready = 1;
    (scene, uids)
}

#[test]
fn the_last_ready_pod_is_never_evicted_and_another_is() {
    let (scene, uids) = with_ready_pods(1);
    let last = of_an_eviction(&scene, &uids[0]);
    assert!(matches!(last, GuardAnswer::Refuse { reason: "LastReadyPod", .. }), "{last:?}");
    assert_eq!(of_an_eviction(&scene, &uids[1]), GuardAnswer::Permit, "it serves nobody");
    let (scene, uids) = with_ready_pods(2);
    assert_eq!(of_an_eviction(&scene, &uids[0]), GuardAnswer::Permit);
}

#[test]
fn a_disruption_budget_holds_the_eviction_of_a_ready_pod_by_its_name() {
    let budget = |name: &str, allowed| Budget { name: name.to_owned(), allowed };
    let (mut scene, uids) = with_ready_pods(2);
    let mut says = |budgets: Reading<Vec<Budget>>, uid: &str| {
        scene.signals.budgets = budgets;
        match of_an_eviction(&scene, uid) {
            GuardAnswer::Permit => "Permit".to_owned(),
            GuardAnswer::Hold { reason, message, .. } | GuardAnswer::Refuse { reason, message } => {
                format!("{reason}: {message}")
            }
        }
    };
    assert_eq!(says(Reading::Fresh(vec![budget("mcp", 1)]), &uids[0]), "Permit");
    let none = Reading::Fresh(vec![budget("mcp", 0)]);
    assert_eq!(
        says(none.clone(), &uids[0]),
        "DisruptionBudget: PodDisruptionBudget mcp lets no pod be evicted now"
    );
    assert_eq!(says(none, &uids[2]), "Permit", "it is not ready");
    let two = Reading::Fresh(vec![budget("mcp", 1), budget("all", 1)]);
    assert!(says(two, &uids[0]).starts_with("DisruptionBudgets: "));
    assert!(says(gone(), &uids[0]).starts_with("EvidenceNotFresh: "));
    assert_eq!(says(Reading::Off, &uids[0]), "Permit", "the API server asks by itself");
}

#[test]
fn disruption_budgets_that_cannot_be_seen_hold_nothing_but_evictions() {
    let scene = Scene::bad_rollout().with(|scene| scene.signals.budgets = gone());
    assert_eq!(scene.decision(), "Act Rollback");
}
