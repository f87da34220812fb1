//! `spec.mode`: only `Enforce` acts.

use mcp_health_api::Mode;

use super::question::{GuardAnswer, GuardQuestion};

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    match question.case.spec.mode {
        Mode::Enforce => GuardAnswer::Permit,
        Mode::Observe => GuardAnswer::hold(
            "ObserveMode",
            "spec.mode is Observe: the operator reports and does not act; set it to Enforce to let it act",
        ),
    }
}
