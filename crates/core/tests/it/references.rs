//! A rollback goes only to a template whose pods can still start: what it names exists, as far as it can be read.

use mcp_health_api::{ActionType, ConditionType};
use mcp_health_core::{
    Decision, Server, references,
    report::status,
    signals::{Presence, Reading, Reference, ReferenceKind, Referenced, Revision},
};

use crate::support::scene::Scene;

const CONFIG: &str = "search-config-7f9";

fn reference(name: &str) -> Reference {
    Reference { kind: ReferenceKind::ConfigMap, name: name.to_owned() }
}

/// The revisions of other templates than the target's name these ConfigMaps; and this was looked up.
fn naming(scene: Scene, names: &[&str], found: &[(&str, Presence)]) -> Scene {
    scene.with(|scene| {
        let template = scene.target().template.clone();
        let Reading::Fresh(revisions) = &mut scene.signals.revisions else { panic!("no revisions") };
        for revision in revisions.iter_mut().filter(|one| one.template != template) {
            revision.references = names.iter().map(|name| reference(name)).collect();
        }
        let found = found
            .iter()
            .map(|(name, presence)| Referenced { reference: reference(name), presence: presence.clone() });
        scene.signals.references = found.collect();
    })
}

fn rollback(names: &[&str], found: &[(&str, Presence)]) -> Decision {
    naming(Scene::bad_rollout(), names, found).concluded().decision
}

#[test]
fn a_template_whose_references_exist_is_gone_back_to() {
    let Decision::Act(plan) = rollback(&[CONFIG], &[(CONFIG, Presence::Exists)]) else { panic!("no act") };
    assert_eq!(plan.action, ActionType::Rollback);
    assert!(!plan.why.contains("not checked"), "{}", plan.why);
}

#[test]
fn a_template_whose_config_map_is_gone_is_no_rollback_target_though_its_old_pods_still_serve() {
    let found = [(CONFIG, Presence::Missing), ("other", Presence::Exists)];
    let Decision::Escalate { reason, message } = rollback(&[CONFIG, "other"], &found) else {
        panic!("no escalation")
    };
    assert_eq!(reason, "NoRollbackTarget");
    assert!(message.contains("ConfigMap search-config-7f9 is gone"), "{message}");
    assert!(!message.contains("other"), "{message}");
}

#[test]
fn what_may_not_be_read_does_not_block_and_is_listed_as_not_checked() {
    let found = [(CONFIG, Presence::NotChecked("the operator may not read it".to_owned()))];
    let Decision::Act(plan) = rollback(&[CONFIG], &found) else { panic!("no act") };
    let listed = "not checked: ConfigMap search-config-7f9 (the operator may not read it)";
    assert!(plan.why.ends_with(listed), "{}", plan.why);
}

#[test]
fn without_an_answer_nothing_is_rolled_back_and_it_is_asked_again() {
    for found in [vec![], vec![(CONFIG, Presence::Unknown("the API server answers 500".to_owned()))]] {
        let Decision::Wait { until: Some(_), next: Some(next) } = rollback(&[CONFIG], &found) else {
            panic!("no wait")
        };
        assert!(next.contains("ConfigMap search-config-7f9"), "{next}");
    }
}

#[test]
fn where_the_template_that_still_serves_cannot_start_again_the_remembered_one_is_gone_back_to() {
    let scene = naming(Scene::bad_rollout(), &[CONFIG], &[(CONFIG, Presence::Missing)]).with(|scene| {
        let healthy = scene.status.target.as_mut().unwrap().last_healthy.as_mut().unwrap();
        (healthy.template, healthy.uid, healthy.replica_set) =
            ("older".to_owned(), "set-older".to_owned(), "mcp-server-older".to_owned());
        let Reading::Fresh(revisions) = &mut scene.signals.revisions else { panic!("no revisions") };
        revisions.push(Revision {
            name: "mcp-server-older".to_owned(),
            uid: "set-older".to_owned(),
            template: "older".to_owned(),
            number: Some(0),
            replicas: 0,
            failure: None,
            references: Vec::new(),
        });
    });
    let Decision::Act(plan) = scene.concluded().decision else { panic!("no act") };
    assert_eq!(plan.steps[0].source.as_deref(), Some("mcp-server-older"));
}

#[test]
fn only_what_a_rollback_could_need_is_looked_up() {
    let names = ["a", "b", "a"];
    let healthy = naming(Scene::healthy(), &names, &[]);
    assert_eq!(references::wanted(&healthy.case()), []);
    let broken = naming(Scene::bad_rollout(), &names, &[]);
    assert_eq!(references::wanted(&broken.case()), [reference("a"), reference("b")]);
    let forbidden = broken.with(|scene| scene.spec.actions.allow.clear());
    assert_eq!(references::wanted(&forbidden.case()), []);
}

/// Status, reason and message of the condition that tells what may be done.
fn allowed(scene: &Scene) -> (String, String, String) {
    let (case, concluded) = (scene.case(), scene.concluded());
    assert!(Server::of(&case).is_some());
    let status = status(&case, &concluded.diagnosis, &concluded.story, &concluded.decision);
    let name = |kind: ConditionType| kind.to_string();
    let of = |kind| status.conditions.iter().find(|one| one.type_ == name(kind)).unwrap();
    assert_eq!(of(ConditionType::Ready).status, "True", "it does not make a server unhealthy");
    let allowed = of(ConditionType::RemediationAllowed);
    (allowed.status.clone(), allowed.reason.clone(), allowed.message.clone())
}

#[test]
fn a_deployment_that_keeps_no_revision_says_so_before_any_incident() {
    let keeps = Scene::healthy();
    assert_eq!(allowed(&keeps).1, "Permitted");
    let none = keeps.with(|scene| scene.target().keeps_no_revision = true);
    let (status, reason, message) = allowed(&none);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "NoRollbackTarget"));
    assert!(message.contains("revisionHistoryLimit"), "{message}");
    let forbidden = none.with(|scene| scene.spec.actions.allow.clear());
    assert_eq!(allowed(&forbidden).1, "Permitted", "where no rollback is allowed, none is missed");
}

#[test]
fn a_pruned_revision_or_config_map_says_so_before_any_incident() {
    let before = Scene::healthy().with(|scene| {
        let healthy = scene.status.target.as_mut().unwrap().last_healthy.as_mut().unwrap();
        (healthy.template, healthy.uid) = ("older".to_owned(), "set-older".to_owned());
        // It was ready for too short a time to be known good itself.
        let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("no pods") };
        for pod in pods {
            pod.ready_changed = super::support::moment(scene.now - 5);
        }
    });
    assert_eq!(allowed(&before).1, "NoRollbackTarget", "the ReplicaSet is gone");
    let kept = before.with(|scene| {
        let Reading::Fresh(revisions) = &mut scene.signals.revisions else { panic!("no revisions") };
        let older =
            Revision { template: "older".to_owned(), uid: "set-older".to_owned(), ..revisions[0].clone() };
        revisions.push(older);
    });
    let kept = naming(kept, &[CONFIG], &[(CONFIG, Presence::Exists)]);
    assert_eq!(allowed(&kept).1, "Permitted");
    let (_, reason, message) = allowed(&naming(kept, &[CONFIG], &[(CONFIG, Presence::Missing)]));
    assert_eq!(reason, "NoRollbackTarget");
    assert!(message.contains("ConfigMap search-config-7f9 is gone"), "{message}");
}
