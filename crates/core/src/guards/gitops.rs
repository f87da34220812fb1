//! What a GitOps tool owns is changed in Git: the tool would put the bad revision back.

use super::question::{GuardAnswer, GuardQuestion};
use crate::actions::rollback_config;

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let held = |what: &str, owner: &str| {
        let message = format!("{what} is owned by {owner}, which would undo the change: revert it in Git");
        GuardAnswer::hold("GitOpsManaged", message)
    };
    if let Some(owner) = &question.server.target.gitops {
        return held("the Deployment", owner);
    }
    let config = rollback_config::config_of(question.server, &question.plan.steps);
    match config.and_then(|config| Some((config, config.gitops.as_ref()?))) {
        Some((config, owner)) => held(&format!("ConfigMap {}", config.name), owner),
        None => GuardAnswer::Permit,
    }
}
