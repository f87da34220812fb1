//! AlertFiring: an alert that others wrote fires on this server. What it says is passed on with what else is
//! known. An alert alone leads to no action: whoever may send one need not be who may have the server
//! changed. A policy that trusts its alerts says what to do in `overrides`.

use jiff::SignedDuration;
use mcp_health_api::{Cause, IncidentType, Severity, Subject, SubjectKind, Time};

use super::entry::{Class, Entry, Evidence, Needs, Rule, USUAL};
use crate::{
    Case, Server,
    finding::{Finding, Judgement},
    signals::Alert,
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::AlertFiring,
    rule: Rule::Plain(judge),
    class: Class::Alert,
    needs: Needs::All(&[Evidence::Alerts]),
    at_zero: true,
    lasting: Some(SignedDuration::ZERO),
    looks_back: true,
    guide: &[("000", "System Health Check")],
    ..USUAL
};

/// The most alerts that are named.
const NAMED: usize = 4;

fn judge(case: &Case, _: &Server) -> Judgement {
    let Some(alerts) = case.signals.alerts.fresh() else { return Judgement::Unknown };
    let mut alerts: Vec<&Alert> = alerts.iter().collect();
    alerts.sort_by_key(|alert| (severity(alert), alert.since, &alert.name, &alert.fingerprint));
    let Some(worst) = alerts.first() else { return Judgement::Clear };
    let mut evidence = vec![heading(&alerts)];
    let said = |alert: &&Alert| alert.summary.as_ref().map(|summary| format!("{}: {summary}", alert.name));
    evidence.extend(alerts.iter().filter_map(said).take(NAMED));
    let subject = |alert: &&Alert| Subject {
        severity: Some(severity(alert)),
        since: Some(Time(alert.since)),
        ..Subject::new(SubjectKind::Alert, &alert.name)
    };
    let finding = Finding {
        subjects: alerts.iter().map(subject).collect(),
        ..Finding::new(
            IncidentType::AlertFiring,
            Cause::Alert,
            severity(worst),
            alerts.iter().map(|alert| alert.since).min().unwrap_or(case.now).min(case.now),
            evidence,
        )
    };
    // Whoever wrote the alert has waited already.
    Judgement::Symptom { finding, lasting: SignedDuration::ZERO }
}

/// The customary words of the label `severity` (guide 004, Severity Levels).
fn severity(alert: &Alert) -> Severity {
    match alert.severity.as_deref().unwrap_or_default().to_ascii_lowercase().as_str() {
        "critical" | "page" | "emergency" => Severity::SEV2,
        "warning" | "error" => Severity::SEV3,
        _ => Severity::SEV4,
    }
}

/// Which alerts fire, and since when.
fn heading(alerts: &[&Alert]) -> String {
    let named: Vec<String> = alerts
        .iter()
        .take(NAMED)
        .map(|alert| {
            let label = alert.severity.as_ref().map(|label| format!(" ({label})")).unwrap_or_default();
            format!("{}{label} since {}", alert.name, words::moment(alert.since))
        })
        .collect();
    let more = alerts.len() - named.len();
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let noun = words::count(alerts.len(), "alert");
    let verb = if alerts.len() == 1 { "fires" } else { "fire" };
    format!("{noun} {verb}: {}{more}", named.join(", "))
}
