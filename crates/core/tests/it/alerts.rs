//! Alerts that others wrote: passed on as an incident, never a reason to touch anything unless the policy says so.

use mcp_health_api::{
    ActionType, AlertmanagerSignal, Cause, Duration, Incident, IncidentState, IncidentType,
    McpServerHealthSpec, Severity,
};
use mcp_health_core::signals::Alert;

use crate::support::{
    moment,
    operator::Operator,
    policy,
    watches::{Sight, Source},
    world::{Template, World},
};

fn alert(name: &str, severity: &str, since: i64) -> Alert {
    Alert {
        name: name.to_owned(),
        severity: (!severity.is_empty()).then(|| severity.to_owned()),
        summary: Some(format!("{name} is so")),
        since: moment(since),
        fingerprint: format!("{name}/{severity}"),
    }
}

/// A healthy server, on which no alert fires.
fn quiet(spec: McpServerHealthSpec) -> Operator {
    let mut operator = Operator::new(World::with(Template::Good, 2), spec);
    operator.watches.alerts = Some(Vec::new());
    operator.run(120, 1);
    assert_eq!(operator.status().incidents, []);
    operator
}

/// A healthy server, on which these fire.
fn fires(spec: McpServerHealthSpec, alerts: &[Alert]) -> Operator {
    let mut operator = quiet(spec);
    operator.watches.alerts = Some(alerts.to_vec());
    operator.run(5, 1);
    operator
}

fn incident(operator: &Operator) -> Incident {
    let incidents = operator.status().incidents;
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    incidents[0].clone()
}

#[test]
fn an_alert_is_as_bad_as_its_label_says_and_a_persons() {
    let rows = [
        ("critical", Severity::SEV2, "1 alert fires: Slow (critical) since 12:01:40"),
        ("Warning", Severity::SEV3, "1 alert fires: Slow (Warning) since 12:01:40"),
        ("info", Severity::SEV4, "1 alert fires: Slow (info) since 12:01:40"),
        ("none", Severity::SEV4, "1 alert fires: Slow (none) since 12:01:40"),
        ("P7", Severity::SEV4, "1 alert fires: Slow (P7) since 12:01:40"),
        ("", Severity::SEV4, "1 alert fires: Slow since 12:01:40"),
    ];
    for (label, severity, heading) in rows {
        let mut operator = fires(policy::enforcing(), &[alert("Slow", label, 100)]);
        operator.run(600, 1);
        let incident = incident(&operator);
        assert_eq!((incident.incident_type, incident.cause), (IncidentType::AlertFiring, Cause::Alert));
        assert_eq!(incident.severity, severity, "{label}");
        assert_eq!(incident.evidence, [heading, "Slow: Slow is so"]);
        let escalation = incident.escalation.unwrap();
        assert_eq!((escalation.reason.as_str(), escalation.message.as_str()), ("AlertFiring", heading));
        assert_eq!(operator.world.done, [], "an alert alone has nothing done");
    }
}

#[test]
fn the_worst_of_several_counts_and_no_more_than_four_are_named() {
    let mut all =
        vec![alert("Hint", "info", 10), alert("Slow", "warning", 40), alert("Down", "critical", 30)];
    let first = incident(&fires(policy::enforcing(), &all));
    assert_eq!(first.severity, Severity::SEV2);
    assert_eq!(
        first.evidence[0],
        "3 alerts fire: Down (critical) since 12:00:30, Slow (warning) since 12:00:40, Hint (info) since 12:00:10"
    );
    all.extend((0..100).map(|at| alert(&format!("More{at:03}"), "", 50)));
    let many = incident(&fires(policy::enforcing(), &all));
    assert!(many.evidence[0].starts_with("103 alerts fire: Down (critical) since 12:00:30, "), "{many:#?}");
    assert!(many.evidence[0].ends_with(" since 12:00:50, and 99 more"), "{many:#?}");
    assert_eq!(many.evidence.len(), 5);
}

#[test]
fn another_alert_is_told_and_what_one_says_meanwhile_is_not_written_again_and_again() {
    let mut operator = fires(policy::enforcing(), &[alert("Slow", "warning", 100)]);
    let before = operator.status();
    for value in 0..10 {
        let said = Some(format!("P99 is {value} s"));
        operator.watches.alerts = Some(vec![Alert { summary: said, ..alert("Slow", "warning", 100) }]);
        operator.run(15, 1);
    }
    assert_eq!(operator.status(), before);
    operator.watches.alerts = Some(vec![alert("Slow", "warning", 100), alert("Full", "warning", 110)]);
    operator.run(15, 1);
    let now = incident(&operator);
    assert_eq!(now.id, before.incidents[0].id);
    assert_eq!(
        now.evidence[0],
        "2 alerts fire: Slow (warning) since 12:01:40, Full (warning) since 12:01:50"
    );
}

#[test]
fn it_is_over_when_no_alert_fires_any_more_and_not_when_nobody_can_tell() {
    let mut operator = fires(policy::enforcing(), &[alert("Slow", "warning", 100)]);
    for sight in [Sight::Stale, Sight::Gone] {
        operator.watches.set(&operator.world, Source::Alerts, sight);
        operator.watches.alerts = Some(Vec::new());
        operator.run(300, 1);
        incident(&operator);
        operator.watches.alerts = Some(vec![alert("Slow", "warning", 100)]);
        operator.watches.set(&operator.world, Source::Alerts, Sight::Clear);
        operator.run(5, 1);
    }
    // The operator was started anew without an Alertmanager.
    operator.watches.alerts = None;
    operator.run(300, 1);
    incident(&operator);
    operator.watches.alerts = Some(Vec::new());
    operator.run(60, 1);
    let status = operator.status();
    assert_eq!(status.incidents, []);
    assert_eq!(status.history[0].resolution, "no alert fires any more");
}

#[test]
fn an_alert_that_cannot_be_relied_on_opens_nothing() {
    for sight in [Sight::Stale, Sight::Gone] {
        let mut operator = quiet(policy::enforcing());
        operator.watches.alerts = Some(vec![alert("Slow", "critical", 100)]);
        operator.watches.set(&operator.world, Source::Alerts, sight);
        operator.run(300, 1);
        assert_eq!(operator.status().incidents, []);
        assert_eq!(operator.world.done, []);
    }
}

#[test]
fn a_policy_that_does_not_want_to_hear_of_alerts_does_not() {
    let mut operator = fires(policy::enforcing(), &[alert("Slow", "warning", 100)]);
    operator.declare(|spec| spec.signals.alertmanager = Some(AlertmanagerSignal { enabled: false }));
    operator.run(60, 1);
    assert_eq!(operator.status().incidents, []);
}

#[test]
fn a_policy_says_how_bad_an_alert_is_how_long_it_lasts_and_what_is_done() {
    let restart = [Some(ActionType::RolloutRestart)];
    let mut spec = policy::with_runbook(policy::enforcing(), IncidentType::AlertFiring, &restart);
    spec.overrides[0].severity = Some(Severity::SEV1);
    spec.overrides[0].hold_for = Some(Duration::from_secs(120));
    let mut operator = fires(spec, &[alert("Slow", "info", 100)]);
    operator.run(100, 1);
    assert_eq!(operator.status().incidents, [], "it has to last");
    operator.run(30, 1);
    assert_eq!(incident(&operator).severity, Severity::SEV1);
    assert_eq!(operator.world.done.len(), 1);
    assert_eq!(incident(&operator).attempts[0].action, ActionType::RolloutRestart);
    operator.watches.alerts = Some(Vec::new());
    operator.run_until("resolved", 1800, |status| status.incidents.is_empty());
}

#[test]
fn an_alert_on_what_is_seen_follows_from_it_and_is_no_second_reason_to_act() {
    let restart = [Some(ActionType::RolloutRestart)];
    let spec = policy::with_runbook(policy::enforcing(), IncidentType::AlertFiring, &restart);
    let mut operator = quiet(spec);
    operator.world.roll_out(Template::CrashesAtOnce);
    operator.watches.alerts = Some(vec![alert("CrashLooping", "critical", 120)]);
    operator.run_until("both", 120, |status| {
        let state = |one: &Incident| one.incident_type == IncidentType::CrashLoop;
        status.incidents.len() > 1 && status.incidents.iter().any(state)
    });
    let both = operator.status().incidents;
    let alert = both.iter().find(|one| one.incident_type == IncidentType::AlertFiring).unwrap();
    assert!(alert.caused_by.is_some() && alert.attempts.is_empty(), "{alert:#?}");
    assert_ne!(alert.state, IncidentState::Escalated);
}
