//! How many servers are acted on at once, in the whole cluster: a storm of failures has one cause more
//! often than many, and many actions at once make it worse.

use super::question::{GuardAnswer, GuardQuestion};

/// The reason of a server that waits for a place.
pub const CONCURRENT_ACTIONS: &str = "ConcurrentActions";

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let (acting, limit) = (&question.fleet.acting, question.case.settings.max_concurrent_actions);
    if acting.len() < limit || question.resumed.is_some() {
        return GuardAnswer::Permit;
    }
    let others = acting.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    GuardAnswer::hold(
        CONCURRENT_ACTIONS,
        format!("{} of at most {limit} servers are being acted on: {others}", acting.len()),
    )
}
