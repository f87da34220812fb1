//! One attempt at a time on a server, whichever of its incidents it is for.

use super::question::{Question, Verdict};

pub fn check(question: &Question) -> Verdict {
    let resumed = question.resumed.map(|attempt| attempt.id.as_str());
    question
        .incidents
        .iter()
        .filter_map(|incident| incident.open_attempt())
        .find(|attempt| Some(attempt.id.as_str()) != resumed)
        .map_or(Verdict::Permit, |attempt| {
            Verdict::hold(
                "AttemptInFlight",
                format!("{} ({}) is still being judged", attempt.id, attempt.action),
            )
        })
}
