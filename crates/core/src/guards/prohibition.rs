//! What any finding on the server forbids is not done, whichever incident asks for it.

use super::{Question, Verdict};

pub fn check(question: &Question) -> Verdict {
    let action = question.plan.action;
    match question.diagnosis.forbidding(action) {
        None => Verdict::Permit,
        Some(finding) => Verdict::refuse(
            "Prohibited",
            format!("{} ({}) forbids {action}: it would not help, or harm", finding.incident, finding.cause),
        ),
    }
}
