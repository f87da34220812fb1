//! The runbook of an incident: a ladder of actions. A step that did not help gives way to the next.

use mcp_health_api::{ActionType, Incident, RunbookStep};

use crate::{
    Case, Server,
    catalogue::{Class, facts},
};

/// A rung of the ladder.
pub(crate) struct Rung<'a> {
    /// What is done; `None` is a person.
    pub action: Option<ActionType>,
    /// The object's own step, with its parameters.
    pub own: Option<&'a RunbookStep>,
}

/// The ladder of an incident: the object's own, or the catalogue's.
pub(crate) fn runbook<'a>(case: &Case<'a>, server: &Server, incident: &Incident) -> Vec<Rung<'a>> {
    let rung = |step: &'a RunbookStep| Rung { action: step.action(), own: Some(step) };
    if let Some(name) = &incident.rule {
        let rule = case.spec.rules.iter().find(|rule| &rule.name == name);
        return rule.into_iter().flat_map(|rule| &rule.runbook).map(rung).collect();
    }
    let entry = facts(incident.incident_type);
    let own = case.spec.overrides.iter().find(|one| one.incident == entry.incident);
    let own = own.filter(|_| entry.class != Class::Report);
    if let Some(steps) = own.and_then(|own| own.runbook.as_ref()) {
        return steps.iter().map(rung).collect();
    }
    let default = (entry.runbook)(incident.cause, server);
    default.iter().map(|action| Rung { action: Some(*action), own: None }).collect()
}

/// Whether the ladder of an incident has a step of this kind.
pub(crate) fn leads_to(case: &Case, server: &Server, incident: &Incident, action: ActionType) -> bool {
    runbook(case, server, incident).iter().any(|rung| rung.action == Some(action))
}
