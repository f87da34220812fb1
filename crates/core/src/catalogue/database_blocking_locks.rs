//! DatabaseBlockingLocks: sessions wait for each other's locks, and the first of them for nobody.
//!
//! Judged by the longest wait (`pg_blocking_pids`), in chains in which a session of the server's own waits or
//! is waited for. Only a root of its own that is idle in its transaction is ended: one at work may be a
//! migration.

use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use super::entry::{Class, Entry, Evidence, Needs, Rule, USUAL};
use crate::{
    Case, Server, database,
    finding::{Finding, Judgement},
    signals::{
        Database,
        database::{BlockingChain, Session},
    },
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::DatabaseBlockingLocks,
    rule: Rule::Plain(judge),
    class: Class::Sessions,
    needs: Needs::All(&[Evidence::Database]),
    at_zero: true,
    lasting: Some(database::WAITS),
    runbook,
    guide: &[("000", "Connection Pool Exhausted")],
    ..USUAL
};

/// Chains that are named in evidence.
const CHAINS: usize = 3;
/// Of the first of them, sessions that wait.
const WAITING: usize = 4;

/// None of these releases a lock of somebody else's, and each ends what is at work: a migration, too.
const RELEASE_NOTHING: &[ActionType] =
    &[ActionType::RolloutRestart, ActionType::RecyclePod, ActionType::DrainAndRestart];

fn judge(case: &Case, _: &Server) -> Judgement {
    let Some(seen) = database::of(case) else { return Judgement::Unknown };
    let chains = database::blocked(case, seen);
    let Some(longest) = chains.first() else { return Judgement::Clear };
    // The one that can be mended comes first.
    let mendable = chains.iter().find(|chain| cause(case, seen, &chain.root) == Cause::IdleTransactions);
    let first: &BlockingChain = mendable.unwrap_or(longest);
    let cause = cause(case, seen, &first.root);
    let others = chains.iter().filter(|chain| !std::ptr::eq(**chain, first)).take(CHAINS - 1);
    let mut evidence = vec![database::chain_words(case, seen, first)];
    evidence.push(advice(cause).to_owned());
    evidence.extend(first.waiting.iter().take(WAITING).map(|(one, waits)| {
        format!("{} waits: {}", words::span(*waits), database::describe(case, seen, one))
    }));
    evidence.extend(others.map(|chain| database::chain_words(case, seen, chain)));
    Judgement::Found(Finding {
        forbids: RELEASE_NOTHING,
        ..Finding::new(
            IncidentType::DatabaseBlockingLocks,
            cause,
            Severity::SEV2,
            database::since(case, database::longest_wait(longest)),
            evidence,
        )
    })
}

/// What the root is.
fn cause(case: &Case, seen: &Database, root: &Session) -> Cause {
    if root.pid == 0 {
        Cause::PreparedTransaction
    } else if !root.is_client && !root.query.trim().is_empty() {
        Cause::DatabaseUpkeep
    } else if !database::is_own(case, seen, root) {
        Cause::OthersSession
    } else if is_endable(case, seen, root) {
        Cause::IdleTransactions
    } else {
        Cause::ActiveTransaction
    }
}

/// Whether a root is the server's own, and has done nothing for as long as others may wait: one that goes
/// from statement to statement is at work.
pub(crate) fn is_endable(case: &Case, seen: &Database, root: &Session) -> bool {
    database::is_own(case, seen, root) && database::is_left_alone(seen, root, database::wait_limit(case))
}

fn advice(cause: Cause) -> &'static str {
    match cause {
        Cause::IdleTransactions => "the root is idle in its transaction: whoever began it does not go on",
        Cause::ActiveTransaction => {
            "the root is at work, and is not ended: a migration that is cut off begins anew; let it finish, or have a \
             person end it"
        }
        Cause::PreparedTransaction => {
            "the root is a prepared transaction, which outlives its session: COMMIT PREPARED or ROLLBACK PREPARED ends it"
        }
        Cause::DatabaseUpkeep => {
            "the root is PostgreSQL's own upkeep, as autovacuum: it gives way or comes to an end"
        }
        _ => "the root is a session of somebody else's: its owner ends it",
    }
}

fn runbook(cause: Cause, _: &Server) -> &'static [ActionType] {
    if cause == Cause::IdleTransactions { &[ActionType::EndDatabaseSessions] } else { &[] }
}
