//! `spec.mode`: only `Enforce` acts.

use mcp_health_api::Mode;

use super::question::{Question, Verdict};

pub fn check(question: &Question) -> Verdict {
    match question.case.spec.mode {
        Mode::Enforce => Verdict::Permit,
        Mode::Observe => Verdict::hold(
            "ObserveMode",
            "spec.mode is Observe: the operator reports and does not act; set it to Enforce to let it act",
        ),
    }
}
