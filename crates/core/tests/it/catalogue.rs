//! Every entry of the catalogue: when it is found, why, and how bad it is.

use mcp_health_api::{Cause, Duration, IncidentType, McpServerHealth, Override, Severity, SignalsSpec};
use mcp_health_core::{
    Server,
    catalogue::{self, CATALOGUE, Evidence, Needs, Rule, Threshold},
    finding::{Finding, Judgement},
    healthy::{RollbackTarget, way_back},
    signals::{Reading, Signals},
};

use crate::support::{
    measured,
    operator::Operator,
    policy,
    scene::Scene,
    world::{Template, World},
};

use Cause::{
    BadRollout, ImagePull, NeverHealthy, NotReady, ProcessExit, QuotaExceeded, ServiceMismatch, Unschedulable,
};
use IncidentType::{CrashLoop, Reported, RolloutStuck, ServiceNotResponding};

/// A server of three pods that was seen healthy, then `change`, then so many seconds.
fn after(change: impl FnOnce(&mut Operator), seconds: i64) -> Operator {
    let mut operator = Operator::new(World::with(Template::Good, 3), policy::observing());
    operator.run(120, 1);
    change(&mut operator);
    operator.run(seconds, 1);
    operator
}

fn judged(operator: &Operator, incident: IncidentType) -> Judgement {
    measured::judged(&Scene::of(operator), incident)
}

fn found(operator: &Operator, incident: IncidentType) -> Finding {
    match judged(operator, incident) {
        Judgement::Found(finding) => finding,
        other => panic!("{incident} is not found: {other:?}"),
    }
}

fn roll_out(template: Template) -> impl FnOnce(&mut Operator) {
    move |operator| drop(operator.world.roll_out(template))
}

fn all_at_once(template: Template) -> impl FnOnce(&mut Operator) {
    move |operator| {
        operator.world.deployment.as_mut().unwrap().recreate = true;
        operator.world.roll_out(template);
    }
}

/// What the API says of an override: its incident types, and the rules that admission checks.
fn overrides() -> (Vec<IncidentType>, Vec<String>) {
    let crd = serde_json::to_value(<McpServerHealth as kube::CustomResourceExt>::crd()).unwrap();
    let items = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/overrides/items";
    let items = crd.pointer(items).unwrap();
    let types = serde_json::from_value(items["properties"]["incident"]["enum"].clone()).unwrap();
    let rules = items["x-kubernetes-validations"].as_array().unwrap().iter();
    (types, rules.map(|rule| rule["rule"].as_str().unwrap().to_owned()).collect())
}

#[test]
fn every_incident_type_of_the_api_has_exactly_one_entry() {
    let (types, _) = overrides();
    // A rule of the policy's own has its entry there.
    assert_eq!(types.len(), CATALOGUE.len() + 1);
    for incident in types {
        let entries = CATALOGUE.iter().filter(|entry| entry.incident == incident).count();
        assert_eq!(entries, usize::from(incident != IncidentType::Rule), "{incident}");
        assert_eq!(catalogue::entry(incident).is_some(), incident != IncidentType::Rule, "{incident}");
    }
}

#[test]
fn every_entry_says_what_it_needs_which_guide_it_follows_and_whether_it_waits() {
    for entry in CATALOGUE {
        let incident = entry.incident;
        let (Needs::All(needs) | Needs::Any(needs)) = entry.needs;
        assert!(!needs.is_empty(), "{incident} needs something");
        assert!(!entry.guide.is_empty(), "{incident} follows a guide");
        for (guide, section) in entry.guide {
            assert!(["000", "001", "002", "003", "004"].contains(guide), "{incident}: {guide}");
            assert!(!section.is_empty(), "{incident}: guide {guide}");
        }
        assert_eq!(
            entry.lasting.is_some(),
            IncidentType::WAITING.contains(&incident),
            "{incident}: admission takes for, or does not"
        );
        let is_outside =
            [IncidentType::DependencyDown, IncidentType::NodeProblem, IncidentType::CertificateExpiring]
                .contains(&incident);
        assert_eq!(entry.class.is_outside(), is_outside, "{incident}");
        assert_eq!(
            entry.class.is_told(),
            [IncidentType::Reported, IncidentType::AlertFiring].contains(&incident),
            "{incident}"
        );
        if matches!(entry.rule, Rule::Metric(_)) {
            assert_eq!(entry.needs, Needs::All(&[Evidence::Metrics]), "{incident}");
        }
    }
}

#[test]
fn admission_takes_the_thresholds_that_entries_name_and_no_others() {
    let (_, rules) = overrides();
    let fields = [
        (Threshold::Percent, "percent"),
        (Threshold::MinRequests, "minRequests"),
        (Threshold::P99, "p99"),
        (Threshold::Count, "count"),
    ];
    for (threshold, field) in fields {
        let rule = rules.iter().find(|rule| rule.contains(&format!("has(self.thresholds.{field})"))).unwrap();
        for entry in CATALOGUE {
            let is_taken = rule.contains(&format!("'{}'", entry.incident));
            assert_eq!(is_taken, entry.thresholds.contains(&threshold), "{}: {rule}", entry.incident);
        }
    }
}

/// A healthy server whose policy declares every source, while nothing is known but its pods.
fn without_evidence() -> Scene {
    Scene::healthy().with(|scene| {
        scene.spec = policy::with_dependency(scene.spec.clone(), "queue", "queue.mcp:5672");
        let postgres = serde_json::json!({"connectionSecretRef": {"name": "db", "key": "url"}});
        scene.spec.signals.postgres = Some(serde_json::from_value(postgres).unwrap());
        let unseen = Signals::default();
        let (target, revisions, pods) =
            (scene.signals.target.clone(), scene.signals.revisions.clone(), scene.signals.pods.clone());
        scene.signals = Signals { target, revisions, pods, ..unseen };
    })
}

#[test]
fn a_rule_without_the_evidence_that_it_needs_says_nothing() {
    let scene = without_evidence();
    for entry in CATALOGUE {
        let sees_enough = matches!(entry.needs, Needs::All([Evidence::Pods | Evidence::Annotation]));
        let expected = if sees_enough { Judgement::Clear } else { Judgement::Unknown };
        assert_eq!(measured::judged(&scene, entry.incident), expected, "{}", entry.incident);
    }
}

#[test]
fn what_the_policy_does_without_is_clear() {
    let scene = without_evidence().with(|scene| {
        scene.spec.signals.postgres = None;
        scene.spec.signals.dependencies.clear();
        let off = serde_json::json!({
            "mcp": {"enabled": false}, "http": {"enabled": false}, "alertmanager": {"enabled": false},
        });
        let signals: SignalsSpec = serde_json::from_value(off).unwrap();
        scene.spec.signals.mcp = signals.mcp;
        scene.spec.signals.http = signals.http;
        scene.spec.signals.alertmanager = signals.alertmanager;
    });
    for entry in CATALOGUE {
        let is_off = |one: &Evidence| {
            use Evidence::{Alerts, Circuits, Database, Dependencies, Probes};
            matches!(one, Alerts | Circuits | Database | Dependencies | Probes)
        };
        if matches!(entry.needs, Needs::All(needs) if needs.iter().any(is_off)) {
            assert_eq!(measured::judged(&scene, entry.incident), Judgement::Clear, "{}", entry.incident);
        }
    }
}

#[test]
fn a_server_that_is_scaled_to_zero_is_asked_only_by_the_rules_that_say_so() {
    let mut scene = without_evidence();
    scene.target().desired = 0;
    for entry in CATALOGUE.iter().filter(|entry| !entry.at_zero) {
        assert_eq!(measured::judged(&scene, entry.incident), Judgement::Clear, "{}", entry.incident);
    }
    for incident in [IncidentType::DatabaseCorruption, IncidentType::AlertFiring] {
        assert_eq!(measured::judged(&scene, incident), Judgement::Unknown, "{incident}");
    }
}

#[test]
fn what_is_wrong_is_found_with_its_cause_and_severity() {
    type Change = Box<dyn FnOnce(&mut Operator)>;
    let rows: Vec<(&str, Change, i64, IncidentType, Cause, Severity)> = vec![
        (
            "a new template crashes",
            Box::new(roll_out(Template::CrashesAtOnce)),
            10,
            CrashLoop,
            BadRollout,
            Severity::SEV2,
        ),
        (
            "it crashes everywhere",
            Box::new(all_at_once(Template::CrashesAtOnce)),
            10,
            CrashLoop,
            BadRollout,
            Severity::SEV1,
        ),
        (
            "the healthy template crashes",
            Box::new(|one| one.world.dependency_down = true),
            10,
            CrashLoop,
            ProcessExit,
            Severity::SEV1,
        ),
        (
            "the old template crashes like the new one",
            Box::new(|one| {
                one.world.roll_out(Template::CrashesAtOnce);
                one.world.dependency_down = true;
            }),
            10,
            CrashLoop,
            ProcessExit,
            Severity::SEV1,
        ),
        (
            "an image does not exist",
            Box::new(roll_out(Template::NoImage)),
            20,
            CrashLoop,
            ImagePull,
            Severity::SEV2,
        ),
        (
            "new pods stay unready beside old ones",
            Box::new(roll_out(Template::NeverReady)),
            65,
            RolloutStuck,
            BadRollout,
            Severity::SEV2,
        ),
        (
            "a quota refuses the pods",
            Box::new(|one| {
                one.world.quota = true;
                one.world.roll_out(Template::Good);
            }),
            20,
            RolloutStuck,
            QuotaExceeded,
            Severity::SEV2,
        ),
        (
            "no node takes the pods",
            Box::new(|one| {
                one.world.full = true;
                one.world.roll_out(Template::Good);
            }),
            // An autoscaler has until the progress deadline.
            125,
            RolloutStuck,
            Unschedulable,
            Severity::SEV2,
        ),
        (
            "the progress deadline passes",
            Box::new(all_at_once(Template::NeverReady)),
            130,
            RolloutStuck,
            BadRollout,
            Severity::SEV2,
        ),
        (
            "nothing is ready",
            Box::new(all_at_once(Template::NeverReady)),
            70,
            ServiceNotResponding,
            BadRollout,
            Severity::SEV1,
        ),
        (
            "nothing is ready, on the healthy template",
            Box::new(|one| one.world.dependency_down = true),
            40,
            ServiceNotResponding,
            NotReady,
            Severity::SEV1,
        ),
        (
            "the Service selects nothing",
            Box::new(|one| one.world.service_astray = true),
            2,
            ServiceNotResponding,
            ServiceMismatch,
            Severity::SEV1,
        ),
    ];
    for (what, change, seconds, incident, cause, severity) in rows {
        let finding = found(&after(change, seconds), incident);
        assert_eq!((finding.cause, finding.severity), (cause, severity), "{what}: {finding:#?}");
        assert!(!finding.evidence.is_empty(), "{what}");
    }
}

#[test]
fn what_may_come_right_by_itself_is_waited_for() {
    type Change = Box<dyn FnOnce(&mut Operator)>;
    let rows: Vec<(&str, Change, i64, IncidentType)> = vec![
        (
            "new pods have the time that their probes ask for",
            Box::new(roll_out(Template::NeverReady)),
            50,
            RolloutStuck,
        ),
        ("an image may appear", Box::new(roll_out(Template::NoImage)), 10, CrashLoop),
        (
            "a Service that was changed just now",
            Box::new(|one| (one.world.service_astray, one.world.service_since) = (true, one.world.now)),
            20,
            ServiceNotResponding,
        ),
        (
            "a moment without a ready pod",
            Box::new(all_at_once(Template::NeverReady)),
            20,
            ServiceNotResponding,
        ),
    ];
    for (what, change, seconds, incident) in rows {
        let judgement = judged(&after(change, seconds), incident);
        assert!(matches!(judgement, Judgement::Suspected { .. }), "{what}: {judgement:?}");
    }
    for incident in [CrashLoop, RolloutStuck, ServiceNotResponding] {
        assert_eq!(judged(&after(roll_out(Template::Good), 60), incident), Judgement::Clear, "{incident}");
    }
    let zero = after(|one| one.world.change(|deployment| deployment.desired = 0), 60);
    assert_eq!(judged(&zero, ServiceNotResponding), Judgement::Clear);
}

#[test]
fn a_server_that_never_was_healthy_blames_nobody() {
    let mut operator = Operator::new(World::with(Template::CrashesAtOnce, 2), policy::observing());
    operator.run(20, 1);
    assert_eq!(found(&operator, CrashLoop).cause, NeverHealthy);
}

#[test]
fn services_that_cannot_be_seen_are_not_judged() {
    let mut scene = Scene::of(&after(|_| {}, 1));
    scene.signals.services = Reading::Unavailable("the watch does not answer".to_owned());
    let diagnosis = scene.concluded().diagnosis;
    assert!(!diagnosis.clear.contains(&ServiceNotResponding), "{:?}", diagnosis.clear);
    assert!(diagnosis.clear.contains(&CrashLoop) && diagnosis.clear.contains(&RolloutStuck));
    assert_eq!(diagnosis.findings, []);
}

#[test]
fn the_finding_nearest_to_the_root_is_the_primary_and_the_others_follow_from_it() {
    let operator = after(all_at_once(Template::CrashesAtOnce), 200);
    let status = operator.status();
    let types: Vec<_> = status.incidents.iter().map(|incident| incident.incident_type).collect();
    assert_eq!(types, [CrashLoop, RolloutStuck, ServiceNotResponding]);
    let primary = Some(status.incidents[0].id.clone());
    let causes: Vec<_> = status.incidents.iter().map(|incident| incident.caused_by.clone()).collect();
    assert_eq!(causes, [None, primary.clone(), primary]);
}

#[test]
fn the_way_back_leads_to_what_was_seen_healthy_and_nowhere_else() {
    let way = |operator: &Operator| {
        let scene = Scene::of(operator);
        way_back(&scene.case(), &Server::of(&scene.case()).unwrap())
    };
    assert_eq!(way(&after(|_| {}, 1)), RollbackTarget::AlreadyThere);
    let crashing = after(all_at_once(Template::CrashesAtOnce), 10);
    let healthy = crashing.status().target.unwrap().last_healthy.unwrap();
    assert_eq!(way(&crashing), RollbackTarget::To(healthy.clone()));
    let mut cleaned = crashing.clone();
    cleaned.world.sets.retain(|set| set.uid != healthy.uid);
    assert_eq!(way(&cleaned), RollbackTarget::Gone(healthy));
    let mut never = Operator::new(World::with(Template::CrashesAtOnce, 2), policy::observing());
    never.run(20, 1);
    assert_eq!(way(&never), RollbackTarget::NeverSeen);
    // What serves beside the bad template counts, once it has been ready for a while.
    let mut young = Operator::new(World::with(Template::Good, 3), policy::observing());
    young.run(5, 1);
    young.world.roll_out(Template::CrashesAtOnce);
    young.run(3, 1);
    assert!(matches!(way(&young), RollbackTarget::Soon(_)), "{:?}", way(&young));
    young.run(10, 1);
    assert!(matches!(way(&young), RollbackTarget::To(_)), "{:?}", way(&young));
}

/// What is concluded of a healthy server while somebody says this of it.
fn reported(said: &str) -> Operator {
    after(|operator| operator.watches.report = Some(said.to_owned()), 5)
}

#[test]
fn what_a_person_says_is_an_incident_as_bad_as_they_say_and_never_acted_on() {
    let rows = [
        ("SEV2: searches hang", Severity::SEV2, "somebody reports: searches hang"),
        ("sev1 : nobody can log in", Severity::SEV1, "somebody reports: nobody can log in"),
        ("SEV-4: a typo", Severity::SEV4, "somebody reports: a typo"),
        ("searches hang: since noon", Severity::SEV3, "somebody reports: searches hang: since noon"),
        ("SEV9: all is lost", Severity::SEV3, "somebody reports: all is lost"),
        ("severe: it hangs", Severity::SEV3, "somebody reports: severe: it hangs"),
        ("it  hangs\n\tagain", Severity::SEV3, "somebody reports: it hangs again"),
        ("SEV3: with password=hunter2", Severity::SEV3, "somebody reports: with password=***"),
        (
            "SEV1",
            Severity::SEV1,
            "somebody reports a fault, without a word on it (annotation mcphealth.dev/report)",
        ),
        (
            "",
            Severity::SEV3,
            "somebody reports a fault, without a word on it (annotation mcphealth.dev/report)",
        ),
    ];
    for (said, severity, evidence) in rows {
        let mut operator = reported(said);
        operator.declare(|spec| spec.mode = mcp_health_api::Mode::Enforce);
        operator.run(300, 1);
        let status = operator.status();
        let incident = &status.incidents[0];
        assert_eq!((incident.incident_type, incident.cause), (Reported, Cause::PersonsReport), "{said}");
        assert_eq!((incident.severity, incident.evidence[0].as_str()), (severity, evidence), "{said}");
        assert_eq!(incident.escalation.as_ref().unwrap().message, evidence, "{said}");
        assert_eq!(operator.world.done, [], "{said}");
    }
    let odd = reported("SEV9: all is lost").status();
    assert_eq!(odd.incidents[0].evidence[1], "SEV9 is no severity (SEV1 to SEV4): taken as SEV3");
    assert!(reported(&"x".repeat(10_000)).status().incidents[0].evidence[0].len() < 330);
}

#[test]
fn a_report_is_told_anew_when_it_changes_and_is_over_when_it_is_taken_back() {
    let mut operator = reported("SEV1: it hangs");
    let first = operator.status().incidents[0].clone();
    operator.watches.report = Some("SEV3: it is slow".to_owned());
    operator.run(5, 1);
    let changed = operator.status().incidents[0].clone();
    assert_eq!((&changed.id, changed.severity), (&first.id, Severity::SEV3));
    assert_eq!(changed.evidence[0], "somebody reports: it is slow");
    operator.watches.report = None;
    operator.run(30, 1);
    let status = operator.status();
    assert_eq!(status.incidents, []);
    assert_eq!(status.history[0].resolution, "the report was taken back");
}

#[test]
fn a_report_follows_from_what_is_really_found_and_does_not_keep_it_from_being_mended() {
    let mut operator = Operator::new(World::with(Template::Good, 3), policy::enforcing());
    operator.run(120, 1);
    operator.watches.report = Some("SEV2: searches hang".to_owned());
    operator.run(5, 1);
    assert!(operator.status().incidents[0].escalation.is_some());
    operator.world.roll_out(Template::CrashesAtOnce);
    operator.run_until("a rollback", 60, |status| status.last_action.is_some());
    let status = operator.status();
    let types: Vec<_> = status.incidents.iter().map(|incident| incident.incident_type).collect();
    assert_eq!(types, [CrashLoop, Reported]);
    assert_eq!(status.incidents[1].caused_by.as_ref(), Some(&status.incidents[0].id));
    let allowed = status.conditions.iter().find(|one| one.type_ == "RemediationAllowed").unwrap();
    assert_eq!(allowed.status, "True", "{}", allowed.message);
    operator.run(60, 1);
    let types: Vec<_> = operator.status().incidents.iter().map(|incident| incident.incident_type).collect();
    assert_eq!(types, [Reported], "it stays as long as the person says so");
}

#[test]
fn a_runbook_does_not_act_on_a_report() {
    let mut operator = Operator::new(World::with(Template::Good, 3), policy::enforcing());
    operator.declare(|spec| {
        *spec =
            policy::with_runbook(spec.clone(), Reported, &[Some(mcp_health_api::ActionType::RolloutRestart)]);
    });
    operator.run(120, 1);
    operator.watches.report = Some("SEV1: restart it".to_owned());
    operator.run(120, 1);
    assert_eq!(operator.world.done, []);
    assert_eq!(operator.status().incidents[0].escalation.as_ref().unwrap().reason, "Reported");
}

#[test]
fn a_wish_for_less_patience_leaves_a_start_its_time() {
    let mut spec = policy::enforcing();
    spec.overrides.push(Override {
        incident: IncidentType::ServiceNotResponding,
        severity: None,
        hold_for: Some(Duration::from_secs(1)),
        thresholds: None,
        runbook: None,
    });
    let mut operator = Operator::new(World::with(Template::ReadyAfter(20), 1), spec);
    operator.run(19, 1);
    assert!(operator.status().incidents.is_empty(), "{:#?}", operator.status().incidents);
}
