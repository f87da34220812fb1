//! Ends sessions that were recorded before: one statement, that ends what is still all of what was recorded,
//! and nothing else. Nothing tells afterwards whether it took place, so that it is never repeated.

use std::time::Duration;

use jiff::Timestamp;
use mcp_health_api::{SESSIONS_LIMIT, SessionFence};
use mcp_health_core::signals::{Failure, database::SessionState};

use super::{
    connection::Connection,
    questions::{MARK, text},
};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// So many were recorded.
    pub recorded: usize,
    /// So many of them were still so, and were ended.
    pub ended: usize,
}

/// Why nothing is ended, or why it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotEnded {
    /// It was not asked for: a sentence for people.
    Refused(String),
    /// The database was asked, and this came of it: some may have been ended.
    Unknown(Failure),
}

/// A session, by what tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Recorded {
    pid: i32,
    backend_start: Timestamp,
    /// When its transaction began, where there is one.
    xact_start: Option<Timestamp>,
    /// When its state changed last: one that was used since is at work, though it does nothing again.
    state_change: Timestamp,
}

impl Recorded {
    /// `4711 2026-11-21T10:00:00.000001Z 2026-11-21T10:07:00.5Z 2026-11-21T10:07:01Z`; `-` for no
    /// transaction.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let recorded = Self {
            pid: words.next()?.parse().ok().filter(|pid| *pid > 0)?,
            backend_start: words.next()?.parse().ok()?,
            xact_start: match words.next()? {
                "-" => None,
                at => Some(at.parse().ok()?),
            },
            state_change: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(recorded)
    }
}

impl Connection {
    /// Ends the sessions that are still all of what the fence says, within `patience`.
    pub async fn end_sessions(&self, fence: &SessionFence, patience: Duration) -> Result<Ended, NotEnded> {
        let statement = statement(fence).map_err(NotEnded::Refused)?;
        let pooler = self.remembered.pooler.as_ref();
        if let Some(why) = pooler {
            return Err(NotEnded::Refused(format!("no session is ended: {why}")));
        }
        let rows = self.ask(&statement, patience).await;
        let rows = rows.map_err(|refusal| NotEnded::Unknown(self.failure(&refusal)))?;
        let ended = rows.iter().filter(|ended| *ended == "t").count();
        Ok(Ended { recorded: fence.list.len(), ended })
    }
}

/// The statement; why there must be none.
fn statement(fence: &SessionFence) -> Result<String, String> {
    if matches!(SessionState::of(&fence.state), SessionState::Active | SessionState::Other) {
        return Err("only sessions that do nothing are ever ended".to_owned());
    }
    if fence.list.is_empty() || fence.list.len() > SESSIONS_LIMIT {
        return Err(format!("{} sessions are recorded, not 1 to {SESSIONS_LIMIT}", fence.list.len()));
    }
    if fence.application.is_empty() || fence.user.is_empty() || fence.database.is_empty() {
        return Err("it is not recorded whose sessions they are".to_owned());
    }
    let recorded = fence.list.iter().map(|line| Recorded::parse(line));
    let recorded: Vec<Recorded> =
        recorded.collect::<Option<_>>().ok_or("a recorded session cannot be read")?;
    let value = |one: &Recorded| {
        let moment = |at: Timestamp| format!("'{at:.6}'::timestamptz");
        let xact = one.xact_start.map_or_else(|| "NULL".to_owned(), moment);
        format!("({}, {}, {xact}, {})", one.pid, moment(one.backend_start), moment(one.state_change))
    };
    let values: Vec<String> = recorded.iter().map(value).collect();
    Ok(format!(
        "SELECT {MARK} a.pid, pg_terminate_backend(a.pid) FROM pg_stat_activity a
  JOIN pg_roles r ON r.oid = a.usesysid
  JOIN (VALUES {}) recorded (pid, backend_start, xact_start, state_change)
    ON recorded.pid = a.pid AND recorded.backend_start = a.backend_start AND recorded.state_change = a.state_change
    AND recorded.xact_start::timestamptz IS NOT DISTINCT FROM a.xact_start
  WHERE a.state = {} AND a.usename::text = {} AND a.datname::text = {} AND a.datname = current_database()
    AND a.application_name = {} AND a.backend_type = 'client backend' AND NOT r.rolsuper AND NOT r.rolreplication
    AND a.pid <> pg_backend_pid()",
        values.join(", "),
        text(&fence.state),
        text(&fence.user),
        text(&fence.database),
        text(&fence.application),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn fence(state: &str, list: &[&str]) -> SessionFence {
        SessionFence {
            database: "mcp".to_owned(),
            user: "mcp".to_owned(),
            application: "mcp-server".to_owned(),
            state: state.to_owned(),
            list: list.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    const OPEN: &str = "4711 2026-11-21T10:00:00.000001Z 2026-11-21T10:07:00.5Z 2026-11-21T10:07:01Z";

    #[test]
    fn only_sessions_that_do_nothing_and_are_told_from_all_others_are_ended() {
        let written = |state: &str, line: &str| statement(&fence(state, &[line])).unwrap();
        assert!(written("idle in transaction", OPEN).contains(
            "(VALUES (4711, '2026-11-21T10:00:00.000001Z'::timestamptz, '2026-11-21T10:07:00.500000Z'::timestamptz, \
             '2026-11-21T10:07:01.000000Z'::timestamptz))"
        ));
        for state in ["idle in transaction (aborted)", "idle"] {
            let without = written(state, "4711 2026-11-21T10:00:00Z - 2026-11-21T10:07:01Z");
            assert!(without.contains("::timestamptz, NULL, '2026-11-21T10:07:01.000000Z'"));
        }
        for (state, list) in [
            ("active", vec![OPEN]),
            ("fastpath function call", vec![OPEN]),
            ("", vec![OPEN]),
            ("idle in transaction", vec![]),
            ("idle", vec![OPEN; SESSIONS_LIMIT + 1]),
            ("idle", vec!["0 2026-11-21T10:00:00Z - 2026-11-21T10:00:00Z"]),
            ("idle", vec!["4711"]),
            ("idle", vec!["4711 2026-11-21T10:00:00Z - -"]),
            ("idle", vec!["4711 - - 2026-11-21T10:00:00Z"]),
            ("idle", vec!["4711 2026-11-21T10:00:00Z 2026-11-21T10:00:00Z"]),
            ("idle", vec!["4711 now - now"]),
            ("idle", vec!["4711  2026-11-21T10:00:00Z - 2026-11-21T10:00:00Z"]),
            ("idle in transaction", vec!["4711 2026-11-21T10:00:00Z - 2026-11-21T10:00:00Z 1"]),
        ] {
            assert!(statement(&fence(state, &list)).is_err(), "{state} {list:?}");
        }
        let nobodys = SessionFence { application: String::new(), ..fence("idle", &[OPEN]) };
        assert!(statement(&nobodys).is_err());
    }

    proptest! {
        #[test]
        fn nothing_that_is_recorded_becomes_sql(words in ".*") {
            let words = format!("'; DROP TABLE planted; --{words}");
            let fence = SessionFence {
                user: words.clone(), database: words.clone(), application: words.clone(), ..fence("idle", &[OPEN])
            };
            prop_assert!(!statement(&fence).unwrap().contains("planted"));
            let unread = SessionFence { list: vec![words], ..fence };
            prop_assert!(statement(&unread).is_err());
        }
    }
}
