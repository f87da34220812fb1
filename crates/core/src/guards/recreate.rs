//! A Deployment with strategy Recreate ends all pods before it starts a new one: a change of its template
//! takes pods that serve out of service. It is made only while none is ready.

use super::question::{GuardAnswer, GuardQuestion};
use crate::{actions::touches, signals::Strategy};

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let (server, action) = (question.server, question.plan.action);
    let ready = server.ready();
    if server.target.strategy != Strategy::Recreate || ready == 0 || !touches(action).template {
        return GuardAnswer::Permit;
    }
    GuardAnswer::refuse(
        "Recreate",
        format!(
            "the Deployment's strategy is Recreate: {action} would take {} out of service",
            if ready == 1 { "the ready pod".to_owned() } else { format!("all {ready} ready pods") }
        ),
    )
}
