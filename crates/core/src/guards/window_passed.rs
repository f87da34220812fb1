//! A rule that looks back over a window shows, for a while after an action, what was before it: until that is
//! over, nothing further is done about it.

use super::question::{GuardAnswer, GuardQuestion};
use crate::{catalogue::looks_back, catalogue::reach_of, time::after, words};

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let Some(last) = question.past.last().filter(|_| looks_back(question.incident)) else {
        return GuardAnswer::Permit;
    };
    if question.plan.undoes.is_some() || question.resumed.is_some() {
        return GuardAnswer::Permit;
    }
    // Where the action made new pods, the past ends once they are ready.
    let patience = question.server.target.progress_deadline;
    let rolled_out = question.server.ready_since().filter(|at| *at <= after(last.at, patience));
    let reach = reach_of(question.case, question.incident);
    let until = after(rolled_out.map_or(last.at, |at| at.max(last.at)), reach);
    if until <= question.case.now {
        return GuardAnswer::Permit;
    }
    GuardAnswer::hold_until(
        "WindowShowsThePast",
        format!(
            "{} looks back over {}, and so still at the time before {} at {}",
            question.incident.name(),
            words::span(reach),
            last.action,
            words::moment(last.at)
        ),
        until,
    )
}
