//! A rollout under way holds everything, but what mends that very rollout, where it is to blame.

use super::{Question, Verdict};
use crate::actions::touches;

pub fn check(question: &Question) -> Verdict {
    let mends = touches(question.plan.action).mends_rollout && question.server.rollout_is_to_blame();
    if question.server.is_rolling_out() && !mends && question.plan.undoes.is_none() {
        return Verdict::hold(
            "RolloutInProgress",
            format!("{} is being rolled out", question.server.current_words()),
        );
    }
    Verdict::Permit
}
