//! What a dependency could explain is not restarted, recycled or rolled back before it is known whether the dependencies
//! answer: each has answered since the fault began, or is down by three failures. They are asked at once, and then every
//! five seconds. One that never answered is waited for during 20 seconds, and counts for nothing then.

use mcp_health_api::ActionType;

use super::{Question, Verdict};
use crate::{
    dependencies::{reached_until, undecided},
    diagnose::{is_explained_by_dependency, onset},
    words,
};

pub fn check(question: &Question) -> Verdict {
    let Question { case, plan, .. } = *question;
    let concerns = matches!(
        plan.action,
        ActionType::RolloutRestart
            | ActionType::RecyclePod
            | ActionType::DrainAndRestart
            | ActionType::Rollback
    );
    let finding = question.diagnosis.finding_of(question.incident);
    let Some(finding) = finding.filter(|_| concerns && plan.undoes.is_none()) else { return Verdict::Permit };
    if !is_explained_by_dependency(finding, question.server) {
        return Verdict::Permit;
    }
    let since = onset(finding, Some(question.incident));
    let undecided = undecided(case, since);
    if undecided.is_empty() {
        return Verdict::Permit;
    }
    let until = Some(reached_until(since)).filter(|until| *until > case.now);
    let message = format!(
        "it is not known whether {} answers: no answer and no three failures since {}",
        undecided.join(", "),
        words::moment(since)
    );
    Verdict::Hold { reason: "DependencyUnknown", message, until }
}
