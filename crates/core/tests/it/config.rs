//! A ConfigMap that was broken: what healthy pods read comes back, and the bad content is kept.

use mcp_health_api::{ActionType, Cause, IncidentState, IncidentType, McpServerHealthStatus, Mode, Outcome};
use mcp_health_core::{healthy::copy_name, report, words};

use crate::support::{
    moment,
    operator::{Crash, Operator},
    policy,
    scene::Scene,
    watches::{Sight, Source},
    world::{BAD, CONFIG_MAP, Template, World},
};

const GOOD: &str = "good000000";
const BETTER: &str = "better0000";

/// A server of three pods that reads a ConfigMap and was seen healthy with it; its policy allows to bring that back,
/// and only that is tried.
fn healthy() -> Operator {
    let mut spec = policy::with_runbook(
        policy::enforcing(),
        IncidentType::CrashLoop,
        &[Some(ActionType::RollbackConfig)],
    );
    spec.actions.allow.push(ActionType::RollbackConfig);
    let mut world = World::with(Template::Good, 3);
    world.configure(GOOD);
    world.config.as_mut().unwrap().changed = -1;
    let mut operator = Operator::new(world, spec);
    operator.run(120, 1);
    operator
}

/// Somebody breaks the ConfigMap, and restarts the server to have it read.
fn broken() -> Operator {
    let mut operator = healthy();
    operator.world.configure(BAD);
    operator.world.restart();
    operator
}

/// The same, with all pods gone at once: nothing serves.
fn down() -> Operator {
    let mut operator = healthy();
    operator.world.configure(BAD);
    for pod in &mut operator.world.pods {
        pod.going = Some(operator.world.now + 1);
    }
    operator
}

fn content(operator: &Operator) -> &str {
    &operator.world.config.as_ref().unwrap().content
}

fn known(status: &McpServerHealthStatus) -> Vec<&str> {
    let healthy = status.target.as_ref().and_then(|target| target.last_healthy.as_ref());
    healthy.iter().flat_map(|healthy| &healthy.config).map(|config| config.content.as_str()).collect()
}

fn is_mitigated(status: &McpServerHealthStatus) -> bool {
    status.incidents.first().is_some_and(|incident| incident.state == IncidentState::Mitigated)
}

/// The first incident's escalation, in one word.
fn escalation(operator: &Operator) -> Option<String> {
    let looks = operator.looks.iter().filter_map(|look| look.after.incidents.first());
    looks.filter_map(|incident| incident.escalation.as_ref()).map(|why| why.reason.clone()).next()
}

#[test]
fn what_healthy_pods_read_comes_back_and_the_bad_content_is_kept_until_the_source_is_mended() {
    for make in [broken, down] {
        let mut operator = make();
        operator.run_until("mitigated", 120, is_mitigated);
        assert_eq!(content(&operator), GOOD);
        assert_eq!(operator.world.restored.len(), 1);
        assert_eq!(operator.world.done.len(), 1, "one restart");
        let kept = copy_name(CONFIG_MAP, BAD);
        assert_eq!(operator.world.copies.get(&kept).map(String::as_str), Some(BAD));
        let status = operator.status();
        let follow_up = &status.incidents[0].follow_ups[0];
        assert!(follow_up.message.contains(&kept), "{follow_up:?}");
        assert_eq!(status.incidents[0].attempts[0].outcome, Some(Outcome::Improved));

        // Another template is no mended source.
        operator.world.roll_out(Template::Good);
        for _ in 0..120 {
            operator.run(1, 1);
            assert!(is_mitigated(&operator.status()), "{:#?}", operator.status());
        }
        operator.world.configure(BETTER);
        operator.run_until("resolved", 60, |status| status.incidents.is_empty());
        assert_eq!(operator.status().history.len(), 1);
        assert_eq!(content(&operator), BETTER);
    }
}

#[test]
fn the_story_of_a_broken_config_map() {
    let mut operator = broken();
    operator.run_until("mitigated", 120, is_mitigated);
    insta::assert_yaml_snapshot!("mitigated", operator.status());
    operator.world.configure(BETTER);
    operator.run_until("resolved", 60, |status| status.incidents.is_empty());
    let told = operator.looks.iter().flat_map(|look| report::news(&look.before, &look.after));
    let told: Vec<_> = told.map(|one| format!("{} [{}] {}", one.reason, one.action, one.note)).collect();
    insta::assert_yaml_snapshot!("mitigated_events", told);
}

#[test]
fn a_content_that_no_pod_has_started_with_is_not_healthy() {
    let mut operator = healthy();
    assert_eq!(known(&operator.status()), [GOOD]);
    operator.world.configure(BETTER);
    operator.run(300, 1);
    assert_eq!(known(&operator.status()), [GOOD], "nobody has started with the new one");
    operator.world.restart();
    operator.run(120, 1);
    assert_eq!(known(&operator.status()), [BETTER]);
    assert_eq!(operator.world.copies.len(), 2);
}

#[test]
fn a_bad_content_that_one_new_pod_never_got_ready_with_is_not_known_good_and_what_was_before_comes_back() {
    let mut operator = healthy();
    operator.world.configure(BAD);
    operator.world.kill_a_pod();
    for _ in 0..120 {
        operator.run(1, 1);
        assert!(!known(&operator.status()).contains(&BAD), "{:#?}", operator.status());
    }
    assert_eq!(content(&operator), GOOD);
    assert_eq!(operator.world.restored.len(), 1);
}

#[test]
fn a_content_with_which_pods_end_after_half_a_minute_is_not_known_good() {
    let mut operator = healthy();
    operator.world.configure("late000000");
    operator.world.restart();
    operator.run(40, 1);
    assert!(operator.world.pods.iter().all(|pod| pod.ready), "{:#?}", operator.world.pods);
    assert_eq!(known(&operator.status()), [GOOD]);
    // As long as another template has to, they were ready.
    operator.run(60, 1);
    assert_eq!(known(&operator.status()), ["late000000"]);
}

#[test]
fn a_removed_key_that_no_managers_time_tells_of_is_not_known_good_by_the_pods_that_run() {
    for restarts in [false, true] {
        let mut operator = healthy();
        operator.run(30, 1);
        operator.world.configure_untold(BAD);
        if restarts {
            operator.restart(5);
        }
        operator.run(300, 1);
        assert_eq!(known(&operator.status()), [GOOD], "no pod has started with it");
        operator.world.kill_a_pod();
        operator.run_until("mitigated", 120, is_mitigated);
        assert_eq!(content(&operator), GOOD);
        assert_eq!(operator.world.restored.len(), 1);
    }
}

#[test]
fn a_key_that_was_removed_for_good_is_known_good_once_pods_started_without_it() {
    let mut operator = healthy();
    operator.run(30, 1);
    operator.world.configure_untold(BETTER);
    operator.run(5, 1);
    operator.world.restart();
    operator.run(120, 1);
    assert_eq!(known(&operator.status()), [BETTER]);
}

#[test]
fn of_pods_that_were_made_in_the_second_of_a_change_nobody_knows_what_they_read() {
    for (same, expected) in [(false, vec![]), (true, vec![GOOD])] {
        let mut operator = healthy();
        operator.world.deployment.as_mut().unwrap().recreate = true;
        operator.world.configure(if same { GOOD } else { BETTER });
        operator.world.restart();
        operator.run(6, 1);
        let created = operator.world.pods.iter().map(|pod| pod.created).max().unwrap();
        assert!(operator.world.pods.iter().all(|pod| pod.created == created));
        let config = operator.world.config.as_mut().unwrap();
        (config.changed, config.first_seen) = (created, created);
        operator.run(60, 1);
        assert_eq!(known(&operator.status()), expected);
    }
}

#[test]
fn what_cannot_be_copied_is_not_said_to_be_kept() {
    let mut operator = healthy();
    operator.world.configure(BETTER);
    operator.world.restart();
    // The tables still show what is not there any more.
    operator.watches.set(&operator.world.clone(), Source::Configs, Sight::Clear);
    operator.run(20, 1);
    let seen = operator.watches.look(&operator.world);
    operator.world.configure("again00000");
    operator.world.now += 120;
    operator.look_at(&seen);
    assert_eq!(known(&operator.status()), Vec::<&str>::new());
    assert_eq!(operator.world.copies.len(), 1);
}

#[test]
fn what_is_healthy_is_not_forgotten_while_config_maps_cannot_be_seen_or_are_gone() {
    let mut operator = healthy();
    operator.watches.set(&operator.world.clone(), Source::Configs, Sight::Gone);
    operator.run(60, 1);
    assert_eq!(known(&operator.status()), [GOOD]);
    operator.world.configure(BAD);
    operator.world.restart();
    operator.run(60, 1);
    assert_eq!(operator.world.restored, [], "what cannot be seen is not changed");
}

#[test]
fn a_follow_up_outlasts_a_config_map_that_cannot_be_seen() {
    let mut operator = broken();
    operator.run_until("mitigated", 120, is_mitigated);
    operator.watches.set(&operator.world.clone(), Source::Configs, Sight::Gone);
    operator.run(120, 1);
    assert!(is_mitigated(&operator.status()));
}

#[test]
fn wherever_the_operator_is_cut_off_the_content_comes_back_once_and_the_pods_are_restarted_once() {
    for crash in [Crash::Unrecorded, Crash::Undone, Crash::HalfDone, Crash::Unnoted] {
        for away in [3, 60] {
            let mut operator = broken();
            operator.crash = Some(crash);
            while operator.crash.is_some() {
                operator.run(1, 1);
            }
            operator.restart(away);
            operator.run_until("mitigated", 400, is_mitigated);
            assert_eq!(content(&operator), GOOD);
            assert_eq!(operator.world.restored.len(), 1, "{crash:?}");
            assert_eq!(operator.world.done.len(), 1, "{crash:?}");
        }
    }
}

#[test]
fn what_made_things_worse_is_taken_back_by_the_kept_content_while_it_is_still_ours() {
    for theirs in [false, true] {
        let mut operator = broken();
        operator.run_until("acted", 60, |status| status.last_action.is_some());
        operator.world.dependency_down = true;
        if theirs {
            // It was judged before somebody changed it.
            operator.world.configure(BETTER);
            let mut status = operator.status();
            status.incidents[0].attempts[0].outcome = Some(Outcome::Worse);
            operator.overwrite_status(&status);
        }
        operator.run(300, 1);
        let undone = operator.world.done.iter().any(|done| done.undoes.is_some());
        assert_eq!(undone, !theirs);
        assert_eq!(content(&operator), if theirs { BETTER } else { BAD });
    }
}

#[test]
fn what_somebody_puts_back_is_left_to_them() {
    let mut operator = broken();
    operator.run_until("acted", 60, |status| status.last_action.is_some());
    operator.world.configure(BAD);
    operator.run(300, 1);
    assert_eq!(operator.world.restored.len(), 1);
    assert_eq!(escalation(&operator).as_deref(), Some("Reverted"));
}

#[test]
fn each_reason_not_to_touch_a_config_map_is_named() {
    let mut operator = broken();
    operator.declare(|spec| spec.mode = Mode::Observe);
    operator.run(60, 1);
    let scene = Scene::of(&operator).with(|scene| scene.spec.mode = Mode::Enforce);
    assert_eq!(scene.decision(), "Act RollbackConfig");
    let with = |change: &dyn Fn(&mut World)| {
        let mut world = operator.world.clone();
        change(&mut world);
        let signals = operator.watches.look(&world);
        scene.clone().with(|scene| scene.signals = signals).decision()
    };
    let config = |change: &dyn Fn(&mut crate::support::world::ConfigMap)| {
        with(&|world| change(world.config.as_mut().unwrap()))
    };
    assert_eq!(config(&|one| one.immutable = true), "Escalate ConfigImmutable");
    assert_eq!(config(&|one| one.shared_with = vec!["CronJob nightly".to_owned()]), "Escalate ConfigShared");
    let unchecked = config(&|one| one.unchecked = vec!["CronJobs: forbidden".to_owned()]);
    assert_eq!(unchecked, "Escalate ConfigSharingUnknown");
    assert_eq!(config(&|one| one.gitops = Some("Argo CD".to_owned())), "Hold GitOpsManaged");
    assert_eq!(config(&|one| one.content = GOOD.to_owned()), "Escalate NothingToRollBack");
    assert_eq!(with(&|world| world.config = None), "Escalate ConfigRollbackOff");
    assert_eq!(with(&|world| world.deployment.as_mut().unwrap().paused = true), "Hold DeploymentPaused");
    let decision = |change: &dyn Fn(&mut Scene)| scene.clone().with(change).decision();
    assert_eq!(decision(&|scene| scene.spec.actions.allow.truncate(3)), "Escalate ActionNotAllowed");
    let healthy = |scene: &mut Scene| scene.status.target.as_mut().unwrap().last_healthy.take().unwrap();
    let forgotten = decision(&|scene| {
        let mut last = healthy(scene);
        last.config.clear();
        scene.status.target.as_mut().unwrap().last_healthy = Some(last);
    });
    assert_eq!(forgotten, "Escalate NoHealthyConfig");
    let other = decision(&|scene| {
        let mut last = healthy(scene);
        last.config[0].name = "other".to_owned();
        scene.status.target.as_mut().unwrap().last_healthy = Some(last);
    });
    assert_eq!(other, "Escalate ConfigGone");
}

/// The same server, whose policy does not allow to bring content back.
fn without_permission() -> Operator {
    let mut world = World::with(Template::Good, 3);
    world.configure(GOOD);
    world.config.as_mut().unwrap().changed = -1;
    let mut operator = Operator::new(world, policy::enforcing());
    operator.run(120, 1);
    assert_eq!(known(&operator.status()), [GOOD]);
    operator
}

#[test]
fn a_change_that_may_not_be_taken_back_is_the_cause_all_the_same_and_what_would_be_done_is_told() {
    let mut operator = without_permission();
    operator.world.configure(BAD);
    let changed = words::moment(moment(operator.world.now));
    operator.world.restart();
    operator.run_until("escalated", 120, |status| {
        status.incidents.first().is_some_and(|one| one.escalation.is_some())
    });
    operator.run(120, 1);
    let status = operator.status();
    let incident = &status.incidents[0];
    assert_eq!((incident.incident_type, incident.cause), (IncidentType::CrashLoop, Cause::ConfigError));
    let named = format!("ConfigMap {CONFIG_MAP} was changed at {changed}, since this template was well");
    assert!(incident.evidence.contains(&named), "{:#?}", incident.evidence);
    let escalation = incident.escalation.as_ref().unwrap();
    assert_eq!(escalation.reason, "ActionNotAllowed");
    let would = format!(
        "it would bring back the content {GOOD} of ConfigMap {CONFIG_MAP}, which was changed at {changed}, \
         and restart all pods"
    );
    assert!(escalation.message.contains(&would), "{}", escalation.message);
    assert_eq!(operator.world.done, []);
    assert!(operator.world.copies.is_empty(), "no copy of it is made");
    // It is allowed afterwards: there is no content to bring back, and nothing else is done instead.
    operator.declare(|spec| spec.actions.allow.push(ActionType::RollbackConfig));
    operator.run(120, 1);
    assert_eq!(operator.world.done, []);
    assert!(operator.world.restored.is_empty());
}

#[test]
fn pods_that_end_without_a_change_of_what_they_read_are_no_config_error() {
    let mut operator = without_permission();
    operator.world.dependency_down = true;
    operator.run_until("a restart", 120, |status| status.last_action.is_some());
    assert_eq!(operator.status().incidents[0].cause, Cause::ProcessExit);
}
