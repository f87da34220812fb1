//! EndDatabaseSessions: one statement that ends what is still all of what was recorded, over the connection that the
//! database is looked at by. Nothing tells afterwards whether it took place, so that it was recorded by itself before,
//! and is never repeated.

use dependency_probe::postgres::{Ended, NotEnded};
use mcp_health_api::{Attempt, Step, StepState};
use mcp_health_core::{attempt::Effected, words};

use super::{executor::Executor, stepped::Stepped};
use crate::observe::table::Key;

/// Ends the sessions, and says what came of it.
pub async fn carry_out(target: &Executor<'_>, attempt: &Attempt, step: &Step) -> Stepped {
    let Some(fence) = &step.sessions else {
        return Stepped::superseded("it is not recorded which sessions are to end");
    };
    let Some(databases) = target.databases else {
        return Stepped::refused(
            "NotConnected",
            "this operator asks no databases (signals.probes)".to_owned(),
        );
    };
    match databases.end_sessions(&Key::of(target.object), fence, target.timeout).await {
        // Nothing was touched, and what did nothing for long has gone on: the next look decides anew.
        Ok(Ended { recorded, ended: 0 }) if !has_ended_some(attempt) => Stepped::superseded(format!(
            "of {} recorded, none was as it was any more: no session was ended",
            words::count(recorded, "session")
        )),
        Ok(Ended { recorded, ended }) => {
            let all = words::count(recorded, "session");
            let left = match recorded.saturating_sub(ended) {
                0 => String::new(),
                1 => "; 1 was not so any more".to_owned(),
                left => format!("; {left} were not so any more"),
            };
            done(format!("ended {ended} of {all}{left}"))
        }
        Err(NotEnded::Refused(why)) => Stepped::refused("NotConnected", why),
        // It was asked, and may have ended some.
        Err(NotEnded::Unknown(failure)) => done(format!(
            "it is not known which of {} were ended: the database {failure}",
            words::count(fence.list.len(), "session")
        )),
    }
}

/// Whether another group of sessions was asked to be ended before.
fn has_ended_some(attempt: &Attempt) -> bool {
    attempt.steps.iter().any(|step| step.sessions.is_some() && step.state == StepState::Done)
}

fn done(note: String) -> Stepped {
    Stepped::Done(Effected { note: Some(note), ..Effected::default() })
}
