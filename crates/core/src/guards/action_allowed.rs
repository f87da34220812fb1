//! `spec.actions`: what the team lets the operator do.

use mcp_health_api::{ActionType, RollbackPolicy};

use super::question::{GuardAnswer, GuardQuestion};

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let (actions, action) = (&question.case.spec.actions, question.plan.action);
    if !actions.allow.contains(&action) {
        return GuardAnswer::refuse("ActionNotAllowed", format!("{action} is not in spec.actions.allow"));
    }
    if action == ActionType::Rollback && actions.rollback == RollbackPolicy::Never {
        return GuardAnswer::refuse("RollbackNever", "spec.actions.rollback is Never");
    }
    GuardAnswer::Permit
}
