//! A Deployment that a GitOps tool owns is changed in Git: the tool would put the bad revision back.

use super::{Question, Verdict};

pub fn check(question: &Question) -> Verdict {
    match &question.server.target.gitops {
        None => Verdict::Permit,
        Some(owner) => Verdict::hold(
            "GitOpsManaged",
            format!("the Deployment is owned by {owner}, which would undo the change: revert it in Git"),
        ),
    }
}
