//! What any finding on the server forbids is not done, whichever incident asks for it. What is forbidden for the
//! sake of a database, or of another dependency, waits until that is back; the rest is not done at all.

use mcp_health_api::{ActionType, Cause, IncidentType};

use super::{Question, Verdict};

pub fn check(question: &Question) -> Verdict {
    let action = question.plan.action;
    // A drain ends in a restart.
    let restarts = (action == ActionType::DrainAndRestart).then_some(ActionType::RolloutRestart);
    let forbidding = |action| question.diagnosis.forbidding(action);
    match forbidding(action).or_else(|| forbidding(restarts?)) {
        None => Verdict::Permit,
        Some(finding)
            if finding.cause == Cause::DatabaseConnection
                || matches!(
                    finding.incident,
                    IncidentType::DatabasePoolExhausted | IncidentType::DatabaseBlockingLocks
                ) =>
        {
            Verdict::hold(
                "DatabaseUnavailable",
                format!("{} ({}): {action} brings no database back", finding.incident, finding.cause),
            )
        }
        Some(finding) if finding.cause == Cause::DependencyDown => Verdict::hold(
            "DependencyUnavailable",
            format!("{} ({}): {action} brings no dependency back", finding.incident, finding.cause),
        ),
        Some(finding) if finding.incident == IncidentType::NodeProblem => Verdict::hold(
            "NodeProblem",
            format!("{} ({}): {action} does not bring a node back", finding.incident, finding.cause),
        ),
        Some(finding) => Verdict::refuse(
            "Prohibited",
            format!("{} ({}) forbids {action}: it would not help, or harm", finding.incident, finding.cause),
        ),
    }
}
