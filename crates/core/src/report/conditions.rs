//! The conditions of a status: what each of them says, and since when.

use std::fmt::Display;

use mcp_health_api::{
    Condition, ConditionType, Incident, McpServerHealthStatus, Mode, Reason, Severity, Time,
};

use crate::{
    Case, Decision, Diagnosis, Server,
    catalogue::{Class, facts},
    healthy::no_rollback_target,
    words::{self, LONGEST},
};

/// What a condition says: status, reason, message.
type Says = (&'static str, String, String);

fn says(status: &'static str, reason: &dyn Display, message: impl Into<String>) -> Says {
    (status, reason.to_string(), message.into())
}

/// All conditions, in the order in which they are shown.
pub(super) fn conditions(
    case: &Case,
    server: Option<&Server>,
    diagnosis: &Diagnosis,
    decision: &Decision,
    status: &McpServerHealthStatus,
) -> Vec<Condition> {
    let stalled = stalled(case, status);
    [
        (ConditionType::Ready, ready(server, diagnosis, status, stalled.as_ref())),
        (ConditionType::SignalsAvailable, signals(case, diagnosis)),
        (ConditionType::IncidentActive, active(status)),
        (ConditionType::Remediating, remediating(status)),
        (ConditionType::RemediationAllowed, allowed(case, server, decision, status)),
        (ConditionType::Escalated, escalated(status)),
        (ConditionType::Reconciling, reconciling(server, status, stalled.is_some())),
        (
            ConditionType::Stalled,
            match stalled {
                Some((reason, message)) => says("True", &reason, message),
                None => says("False", &Reason::Working, "nothing is in the way of the operator's work"),
            },
        ),
    ]
    .into_iter()
    .map(|(kind, (value, reason, message))| condition(case, kind, value, reason, &message))
    .collect()
}

fn ready(
    server: Option<&Server>,
    diagnosis: &Diagnosis,
    status: &McpServerHealthStatus,
    stalled: Option<&(Reason, String)>,
) -> Says {
    let summary = status.summary.clone().unwrap_or_default();
    if let Some((reason, _)) = stalled.filter(|(reason, _)| *reason != Reason::Forbidden) {
        return says("Unknown", reason, summary);
    }
    // A certificate that still holds says nothing of how the server is.
    let is_ahead = |incident| facts(incident).class == Class::Ahead;
    let primary = status.incidents.first();
    let sick = primary.filter(|one| !is_ahead(one.incident_type) || one.severity == Severity::SEV1);
    let is_well = diagnosis.findings.iter().all(|one| is_ahead(one.incident));
    match (server, sick) {
        (Some(server), Some(incident)) if server.ready() > 0 && incident.is_mitigated() && is_well => {
            says("True", &Reason::Mitigated, summary)
        }
        (_, Some(incident)) => says("False", &incident.incident_type, summary),
        (None, None) => says("Unknown", &Reason::NoEvidence, summary),
        (Some(server), None) if server.target.desired == 0 => says("Unknown", &Reason::ScaledToZero, summary),
        (Some(server), None) if server.is_rolled_out() && is_well => says("True", &Reason::Healthy, summary),
        (Some(server), None) => {
            says(if server.ready() > 0 { "True" } else { "False" }, &Reason::Progressing, summary)
        }
    }
}

fn signals(case: &Case, diagnosis: &Diagnosis) -> Says {
    let problems = diagnosis.problems(case.signals);
    if problems.is_empty() {
        return says("True", &Reason::AllSignalsFresh, "everything that the rules need is seen");
    }
    says("False", &Reason::SignalsMissing, words::shorten(&problems.join("; "), LONGEST))
}

fn active(status: &McpServerHealthStatus) -> Says {
    match status.incidents.first() {
        Some(incident) => {
            let message = format!("{} {}, severity {}", incident.id, incident.state, incident.severity);
            says("True", &incident.incident_type, message)
        }
        None => says("False", &Reason::NoIncident, "no incident is open"),
    }
}

fn remediating(status: &McpServerHealthStatus) -> Says {
    let Some(attempt) = status.incidents.first().and_then(Incident::open_attempt) else {
        return says("False", &Reason::Idle, "nothing is under way");
    };
    let what = format!("{} ({})", attempt.id, attempt.action);
    if attempt.is_carried_out() {
        says("True", &Reason::Verifying, format!("{what} is being judged"))
    } else {
        says("True", &Reason::Acting, format!("{what} is being carried out"))
    }
}

fn allowed(
    case: &Case,
    server: Option<&Server>,
    decision: &Decision,
    status: &McpServerHealthStatus,
) -> Says {
    if let Decision::Hold { hold, .. } = decision {
        return says("False", &hold.reason, &hold.message);
    }
    if let Some((reason, message)) = standing_hold(case) {
        return says("False", &reason, message);
    }
    // An incident that was handed over and now follows from another does not keep that from being mended.
    if status.incidents.first().is_some_and(Incident::is_escalated) {
        return says("False", &Reason::PersonNeeded, "a person is in charge until this is over");
    }
    match server.and_then(|server| no_rollback_target(case, server)) {
        // Other actions than a rollback may be taken.
        Some(why) => says("True", &Reason::NoRollbackTarget, why),
        None => says("True", &Reason::Permitted, "the operator may act, within its limits"),
    }
}

fn escalated(status: &McpServerHealthStatus) -> Says {
    match status.incidents.iter().find_map(|incident| incident.escalation.as_ref()) {
        Some(escalation) => says("True", &escalation.reason, &escalation.message),
        None => says("False", &Reason::Working, "no person is needed"),
    }
}

fn reconciling(server: Option<&Server>, status: &McpServerHealthStatus, is_stalled: bool) -> Says {
    let summary = status.summary.clone().unwrap_or_default();
    let primary = status.incidents.first();
    let is_open = primary.is_some_and(|incident| incident.open_attempt().is_some());
    let is_rolling_out = primary.is_none() && server.is_some_and(|server| !server.is_rolled_out());
    match (is_stalled, is_open) {
        (false, true) => says("True", &Reason::Verifying, summary),
        (false, false) if is_rolling_out => says("True", &Reason::Progressing, summary),
        _ => says("False", &Reason::Idle, "nothing is about to change by itself"),
    }
}

/// Why the operator cannot work on this object.
pub(super) fn stalled(case: &Case, status: &McpServerHealthStatus) -> Option<(Reason, String)> {
    let name = &case.spec.target_ref.name;
    if let Some(rival) = &case.signals.rival {
        return Some((
            Reason::TargetConflict,
            format!(
                "McpServerHealth {rival} is older and has the same target, Deployment {name}: delete one of \
                 the two"
            ),
        ));
    }
    if case.signals.target.fresh().is_some_and(Option::is_none) {
        return Some((
            Reason::TargetNotFound,
            format!("there is no Deployment {name} in this namespace; the operator waits for it"),
        ));
    }
    let refused = status.incidents.iter().filter_map(|incident| incident.escalation.as_ref());
    let mut refused = refused.filter(|escalation| escalation.reason == Reason::Forbidden.to_string());
    if let Some(refused) = refused.next() {
        return Some((Reason::Forbidden, refused.message.clone()));
    }
    Some((Reason::Forbidden, case.signals.forbidden()?))
}

/// What would hold any action, also while there is nothing to do.
fn standing_hold(case: &Case) -> Option<(&'static str, &'static str)> {
    let signals = case.signals;
    if case.spec.mode == Mode::Observe {
        Some(("ObserveMode", "spec.mode is Observe: the operator reports and does not act"))
    } else if case.spec.suspend {
        Some(("Suspended", "spec.suspend is true on this object"))
    } else if signals.namespace_suspended.fresh() == Some(&true) {
        Some(("NamespaceSuspended", "the namespace is suspended"))
    } else if signals.cluster_suspended.fresh() == Some(&true) {
        Some(("ClusterSuspended", "the operator is suspended for the whole cluster"))
    } else if signals.namespace_suspended.fresh().is_none() || signals.cluster_suspended.fresh().is_none() {
        Some(("SwitchUnreadable", "a switch that suspends the operator cannot be read: it counts as thrown"))
    } else {
        None
    }
}

fn condition(case: &Case, kind: ConditionType, value: &str, reason: String, message: &str) -> Condition {
    let kind = kind.to_string();
    let before = case.status.conditions.iter().find(|before| before.type_ == kind && before.status == value);
    Condition {
        last_transition_time: before.map_or(Time(case.now), |before| before.last_transition_time.clone()),
        message: words::shorten(message, LONGEST),
        observed_generation: Some(case.generation),
        reason,
        status: value.to_owned(),
        type_: kind,
    }
}
