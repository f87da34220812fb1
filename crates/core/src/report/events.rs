//! The changes of state that are worth an Event.

use mcp_health_api::{McpServerHealthStatus, Outcome};

use crate::{
    actions::did,
    words::{self, LONGEST},
};

/// A change of state, for `kubectl get events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    /// In one word.
    pub reason: &'static str,
    /// What it is about: the incident or the attempt, with its id, so that no two are taken for one.
    pub action: String,
    /// In a sentence.
    pub note: String,
}

/// What changed from one status to the next that people want to hear of.
pub fn news(before: &McpServerHealthStatus, after: &McpServerHealthStatus) -> Vec<News> {
    let mut news = Vec::new();
    let mut tell = |warning, reason, action: &dyn std::fmt::Display, note: String| {
        news.push(News { warning, reason, action: action.to_string(), note: words::shorten(&note, LONGEST) });
    };
    for incident in &after.incidents {
        let known = before.incidents.iter().find(|one| one.id == incident.id);
        let kind = incident.name();
        let about = format!("{kind} {}", incident.id);
        if known.is_none() {
            let evidence = incident.evidence.first().map_or("", String::as_str);
            let note = format!("{} ({}), {}: {evidence}", kind, incident.cause, incident.severity);
            tell(true, "IncidentOpened", &about, note);
        }
        for attempt in &incident.attempts {
            let was = known.and_then(|known| known.attempts.iter().find(|one| one.id == attempt.id));
            if attempt.is_carried_out() && was.is_none_or(|was| !was.is_carried_out()) {
                tell(
                    false,
                    "ActionTaken",
                    &format_args!("{} {}", attempt.action, attempt.id),
                    format!("{}, because {}", did(attempt), attempt.why),
                );
            }
            if let Some(outcome) = attempt.outcome.filter(|_| was.is_none_or(|was| was.outcome.is_none())) {
                let note =
                    format!("{} {outcome}: {}", attempt.id, attempt.message.as_deref().unwrap_or_default());
                tell(
                    outcome != Outcome::Improved,
                    "ActionJudged",
                    &format_args!("{} {}", attempt.action, attempt.id),
                    note,
                );
            }
        }
        if let Some(kept) = &incident.evidence_kept
            && known.and_then(|known| known.evidence_kept.as_ref()) != Some(kept)
        {
            tell(false, "EvidenceKept", &about, format!("logs, Events and states are in ConfigMap {kept}"));
        }
        let held = incident.hold.as_ref().map(|hold| &hold.reason);
        if let Some(hold) = &incident.hold
            && known.and_then(|known| known.hold.as_ref()).map(|hold| &hold.reason) != held
        {
            tell(true, "ActionHeld", &about, format!("{}: {}", hold.reason, hold.message));
        }
        if let Some(escalation) = &incident.escalation
            && known
                .and_then(|known| known.escalation.as_ref())
                .is_none_or(|known| (&known.reason, &known.at) != (&escalation.reason, &escalation.at))
        {
            tell(
                true,
                "Escalated",
                &about,
                format!("{} {}: {}", incident.severity, escalation.reason, escalation.message),
            );
        }
    }
    for past in after.history.iter().take_while(|past| !before.history.iter().any(|one| one.id == past.id)) {
        let done = if past.actions.is_empty() { String::new() } else { format!(" ({})", past.done()) };
        let note =
            format!("{} {} after {}: {}{done}", past.name(), past.id, past.time_to_resolve, past.resolution);
        tell(false, "IncidentResolved", &format_args!("{} {}", past.name(), past.id), note);
    }
    news
}
