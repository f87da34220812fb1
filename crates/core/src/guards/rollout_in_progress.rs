//! A rollout under way holds everything, but what mends that very rollout: where it is to blame, or where its own
//! pods show the fault.

use super::{Question, Verdict};
use crate::actions::touches;

pub fn check(question: &Question) -> Verdict {
    let finding = question.diagnosis.finding_of(question.incident);
    let its_pods_show_it = finding.is_some_and(|finding| finding.youngest_pod.is_some());
    let mends = touches(question.plan.action).mends_rollout
        && (question.server.rollout_is_to_blame() || its_pods_show_it);
    if question.server.is_rolling_out() && !mends && question.plan.undoes.is_none() {
        return Verdict::hold(
            "RolloutInProgress",
            format!("{} is being rolled out", question.server.current_words()),
        );
    }
    Verdict::Permit
}
