//! A rollout under way holds everything, but the rollback whose cause is that very rollout.

use mcp_health_api::{ActionType, Cause};

use super::{Question, Verdict};

pub fn check(question: &Question) -> Verdict {
    let of_this_rollout =
        question.plan.action == ActionType::Rollback && question.incident.cause == Cause::BadRollout;
    if question.server.is_rolling_out() && !of_this_rollout && question.plan.undoes.is_none() {
        return Verdict::hold(
            "RolloutInProgress",
            format!("{} is being rolled out", question.server.current_words()),
        );
    }
    Verdict::Permit
}
