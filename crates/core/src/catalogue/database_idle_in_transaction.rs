//! DatabaseIdleInTransaction: sessions of the server's own keep a transaction open and do nothing (guide 000,
//! Connection Pool Exhausted: more than 5 minutes). They hold locks and connections, and keep dead rows from
//! being removed.
//!
//! Judged by the change of their state, not by the start of their last statement, which counts its run too.

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use super::entry::{Class, Entry, Evidence, Needs, Rule, USUAL};
use crate::{
    Case, Server, database,
    finding::{Finding, Judgement},
    signals::database::Session,
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::DatabaseIdleInTransaction,
    rule: Rule::Plain(judge),
    class: Class::Sessions,
    needs: Needs::All(&[Evidence::Database]),
    at_zero: true,
    lasting: Some(database::IDLE_IN_TRANSACTION),
    // Where it does harm, that is found by itself.
    rank: |_| 4,
    // What leaks goes on to for a while: those that were too young the first time have their turn.
    runbook: |_, _| &[ActionType::EndDatabaseSessions, ActionType::EndDatabaseSessions],
    guide: &[("000", "Connection Pool Exhausted")],
    ..USUAL
};

/// Sessions that are named in evidence.
const NAMED: usize = 5;

fn judge(case: &Case, _: &Server) -> Judgement {
    let Some(seen) = database::of(case) else { return Judgement::Unknown };
    let limit = database::idle_limit(case);
    let idle = |session: &Session| database::unchanged(seen, session).unwrap_or_default();
    let mut left: Vec<&Session> =
        database::own(case, seen).filter(|one| database::is_left_alone(seen, one, limit)).collect();
    left.sort_by_key(|one| std::cmp::Reverse(idle(one)));
    let Some(first) = left.first() else { return Judgement::Clear };
    let longest: SignedDuration = idle(first);
    let all = database::own(case, seen).filter(|one| database::is_idle_in_transaction(one)).count();
    let younger = match all - left.len() {
        0 => String::new(),
        younger => format!("; {younger} more not yet for so long"),
    };
    let mut evidence = vec![format!(
        "{} of {} {} idle in transaction for more than {} (of {}), the longest for {}{younger}",
        words::count(left.len(), "session"),
        words::shorten(&first.application, 64),
        if left.len() == 1 { "is" } else { "are" },
        words::span(limit),
        database::name(seen),
        words::span(longest)
    )];
    evidence.extend(left.iter().take(NAMED).map(|one| database::describe(case, seen, one)));
    Judgement::Found(Finding::new(
        IncidentType::DatabaseIdleInTransaction,
        Cause::IdleTransactions,
        Severity::SEV3,
        database::since(case, longest),
        evidence,
    ))
}
