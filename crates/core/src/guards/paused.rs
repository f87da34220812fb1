//! A paused Deployment: somebody is at work, and a change of its template would have no effect until they
//! are done.

use super::question::{GuardAnswer, GuardQuestion};
use crate::actions::touches;

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    if question.server.target.paused && touches(question.plan.action).template {
        return GuardAnswer::hold(
            "DeploymentPaused",
            "the Deployment is paused (spec.paused): resume it, or undo the change by hand",
        );
    }
    GuardAnswer::Permit
}
