//! One attempt at a time on a server, whichever of its incidents it is for.

use super::question::{GuardAnswer, GuardQuestion};

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let resumed = question.resumed.map(|attempt| attempt.id.as_str());
    question
        .incidents
        .iter()
        .filter_map(|incident| incident.open_attempt())
        .find(|attempt| Some(attempt.id.as_str()) != resumed)
        .map_or(GuardAnswer::Permit, |attempt| {
            GuardAnswer::hold(
                "AttemptInFlight",
                format!("{} ({}) is still being judged", attempt.id, attempt.action),
            )
        })
}
