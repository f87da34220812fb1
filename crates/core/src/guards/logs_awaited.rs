//! No action on crashing containers while their previous logs are being fetched: those may say that the
//! database refuses connections, and that a restart or a rollback would not help. Bounded: logs that take too
//! long count as unavailable.

use mcp_health_api::ActionType;

use super::question::{GuardAnswer, GuardQuestion};
use crate::catalogue::crash_loop;

/// What previous logs may forbid.
const FORBIDDABLE: [ActionType; 4] =
    [ActionType::RolloutRestart, ActionType::RecyclePod, ActionType::DrainAndRestart, ActionType::Rollback];

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    if question.plan.undoes.is_some() || !FORBIDDABLE.contains(&question.plan.action) {
        return GuardAnswer::Permit;
    }
    match crash_loop::logs_due(question.case, question.server) {
        Some(until) => GuardAnswer::hold_until(
            "LogsAwaited",
            "the previous logs of crashing pods are being fetched",
            until,
        ),
        None => GuardAnswer::Permit,
    }
}
