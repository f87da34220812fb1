//! A PodDisruptionBudget says how many ready pods may be missing at once. It is asked before an eviction, and
//! the API server asks it again: an eviction that it refuses is never made a deletion.

use super::{
    last_ready_pod::evicted,
    question::{GuardAnswer, GuardQuestion},
};
use crate::signals::{Pod, Reading};

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let Some(pod) = evicted(question).filter(|pod| pod.ready) else { return GuardAnswer::Permit };
    let budgets = match &question.case.signals.budgets {
        Reading::Fresh(budgets) => budgets,
        // Nobody looks: the API server asks by itself.
        Reading::Off => return GuardAnswer::Permit,
        unseen => {
            return GuardAnswer::hold(
                "EvidenceNotFresh",
                unseen.problem("its disruption budgets").unwrap_or_default(),
            );
        }
    };
    verdict(pod, budgets)
}

fn verdict(pod: &Pod, budgets: &[crate::signals::Budget]) -> GuardAnswer {
    if let [first, second, ..] = budgets {
        return GuardAnswer::refuse(
            "DisruptionBudgets",
            format!(
                "pod {} is covered by more than one PodDisruptionBudget ({}, {}): the API server evicts no such pod",
                pod.name, first.name, second.name
            ),
        );
    }
    match budgets.first().filter(|budget| budget.allowed <= 0) {
        Some(budget) => GuardAnswer::hold(
            "DisruptionBudget",
            format!("PodDisruptionBudget {} lets no pod be evicted now", budget.name),
        ),
        None => GuardAnswer::Permit,
    }
}
