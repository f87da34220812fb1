//! What any open incident forbids is not done, whichever incident asks for it: until its rule says that all
//! is well. What is forbidden for the sake of a database, or of another dependency, waits until that is back;
//! the rest is not done at all. A rollback that a dependency does not explain is not kept from being done by
//! one.

use mcp_health_api::{ActionType, Cause, Incident};

use super::question::{GuardAnswer, GuardQuestion};
use crate::{
    catalogue::{Class, facts},
    diagnose::is_explained_by_dependency,
    prohibition::forbidding,
};

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let action = question.plan.action;
    // A drain ends in a restart.
    let restarts = (action == ActionType::DrainAndRestart).then_some(ActionType::RolloutRestart);
    let actions = [Some(action), restarts].into_iter().flatten();
    let mut all =
        actions.flat_map(|action| forbidding(question.case, question.diagnosis, question.incidents, action));
    let Some(incident) = all.find(|one| binds(question, one)) else { return GuardAnswer::Permit };
    let words = words(question, incident);
    match waits_for(incident) {
        Some(Needed::Database) => {
            GuardAnswer::hold("DatabaseUnavailable", format!("{words}: {action} brings no database back"))
        }
        Some(Needed::Dependency) => {
            GuardAnswer::hold("DependencyUnavailable", format!("{words}: {action} brings no dependency back"))
        }
        Some(Needed::Node) => {
            GuardAnswer::hold("NodeProblem", format!("{words}: {action} does not bring a node back"))
        }
        None => {
            GuardAnswer::refuse("Prohibited", format!("{words} forbids {action}: it would not help, or harm"))
        }
    }
}

/// What an action waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed {
    Database,
    Dependency,
    Node,
}

impl Needed {
    fn is_dependency(self) -> bool {
        self != Self::Node
    }
}

fn waits_for(incident: &Incident) -> Option<Needed> {
    match (facts(incident.incident_type).class, incident.cause) {
        (Class::Sessions, _) | (_, Cause::DatabaseConnection) => Some(Needed::Database),
        (_, Cause::DependencyDown) => Some(Needed::Dependency),
        (Class::Node, _) => Some(Needed::Node),
        _ => None,
    }
}

/// A dependency that does not explain what is rolled back does not forbid it.
fn binds(question: &GuardQuestion, incident: &Incident) -> bool {
    let finding = question.diagnosis.finding_of(question.incident);
    let is_explained = finding.is_none_or(|finding| is_explained_by_dependency(finding, question.server));
    question.plan.action != ActionType::Rollback
        || !waits_for(incident).is_some_and(Needed::is_dependency)
        || is_explained
}

fn words(question: &GuardQuestion, incident: &Incident) -> String {
    let unseen = match question.diagnosis.finding_of(incident) {
        Some(_) => "",
        None => ", of which there is no evidence at the moment",
    };
    format!("{} ({}){unseen}", incident.name(), incident.cause)
}
