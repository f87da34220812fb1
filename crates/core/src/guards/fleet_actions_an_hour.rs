//! `limits.maxActionsPerHour` of the operator: over all servers of a namespace, and over all servers. Of any
//! kind, but for reverts: they neither count nor are limited.

use jiff::Timestamp;

use super::question::{GuardAnswer, GuardQuestion, HOUR, counted};
use crate::time::after;

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    if question.plan.undoes.is_some() {
        return GuardAnswer::Permit;
    }
    let (fleet, settings) = (question.fleet, question.case.settings);
    let over = |others: &[Timestamp], limit, reason, whose: &str| {
        over(question, others, limit).map(|(number, until)| {
            let message = format!("{number} actions {whose} in the last hour (at most {limit})");
            GuardAnswer::hold_until(reason, message, until)
        })
    };
    let namespace = settings.max_actions_per_hour_namespace;
    let cluster = settings.max_actions_per_hour_cluster;
    over(&fleet.namespace_actions, namespace, "NamespaceActionsPerHour", "in this namespace")
        .or_else(|| over(&fleet.cluster_actions, cluster, "ClusterActionsPerHour", "on all servers"))
        .unwrap_or(GuardAnswer::Permit)
}

/// If the limit is reached: how many actions there were, and when there is room for one.
fn over(question: &GuardQuestion, others: &[Timestamp], limit: usize) -> Option<(usize, Timestamp)> {
    let now = question.case.now;
    let others = others.iter().copied().filter(|at| now.duration_since(*at) < HOUR);
    let mut recent: Vec<_> = others.chain(counted(question).map(|action| action.at)).collect();
    recent.sort_unstable();
    let too_many = recent.len().checked_sub(limit)?;
    let oldest = recent.get(too_many).copied().unwrap_or(now);
    Some((recent.len(), after(oldest, HOUR)))
}
