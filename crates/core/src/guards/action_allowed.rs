//! `spec.actions`: what the team lets the operator do.

use mcp_health_api::{ActionType, RollbackPolicy};

use super::question::{Question, Verdict};

pub fn check(question: &Question) -> Verdict {
    let (actions, action) = (&question.case.spec.actions, question.plan.action);
    if !actions.allow.contains(&action) {
        return Verdict::refuse("ActionNotAllowed", format!("{action} is not in spec.actions.allow"));
    }
    if action == ActionType::Rollback && actions.rollback == RollbackPolicy::Never {
        return Verdict::refuse("RollbackNever", "spec.actions.rollback is Never");
    }
    Verdict::Permit
}
