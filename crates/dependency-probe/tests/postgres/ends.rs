//! Sessions are ended that are still what was recorded, and no others.

use dependency_probe::postgres::{Ended, NotEnded};
use mcp_health_api::SessionFence;
use mcp_health_core::signals::database::{Database, Session, SessionState};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::support::*;

/// What is recorded of sessions, as the operator does before it ends them.
pub fn fence(state: &str, sessions: &[&Session]) -> SessionFence {
    let line = |one: &&Session| {
        let xact = one.xact_start.map_or_else(|| "-".to_owned(), |at| at.to_string());
        format!("{} {} {xact} {}", one.pid, one.backend_start, one.state_change.unwrap())
    };
    SessionFence {
        database: "mcp_prod".to_owned(),
        user: "mcp".to_owned(),
        application: APPLICATION.to_owned(),
        state: state.to_owned(),
        list: sessions.iter().map(line).collect(),
    }
}

/// Asked by a simple query: a prepared statement is closed after its answer, and so changes the session once
/// more.
async fn pid(client: &Client) -> i32 {
    let answer = client.simple_query("SELECT pg_backend_pid()").await.unwrap();
    let row = answer.iter().find_map(|one| match one {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    row.unwrap().get(0).unwrap().parse().unwrap()
}

fn of(seen: &Database, pid: i32) -> &Session {
    seen.sessions.iter().find(|one| one.pid == pid).unwrap()
}

pub const OPEN: &str = "idle in transaction";

#[tokio::test]
async fn what_was_leaked_is_ended_and_what_was_used_again_since_is_not() {
    let Some(postgres) = Postgres::start(&["max_connections=240"]).await else { return };
    let mut leaked = Vec::new();
    for _ in 0..200 {
        leaked.push(postgres.leak("SELECT 1").await);
    }
    let mut connection = postgres.connection().await;
    let seen = connection.look(APPLICATION, SOON).await.unwrap();
    let all: Vec<&Session> = seen.sessions.iter().collect();
    assert_eq!(all.len(), 200);
    // One of them ends its transaction and begins another: the same session, the same state.
    let reused = pid(&leaked[7]).await;
    leaked[7].batch_execute("COMMIT; BEGIN; SELECT 1").await.unwrap();
    // Another goes on in the transaction that it has.
    let went_on = pid(&leaked[8]).await;
    let ended = connection.end_sessions(&fence(OPEN, &all), SOON).await;
    assert_eq!(ended, Ok(Ended { recorded: 200, ended: 198 }));
    awaited(async || (postgres.count().await == 2).then_some(())).await;
    assert_eq!((pid(&leaked[7]).await, pid(&leaked[8]).await), (reused, went_on), "they live on");
    // One whose transaction has failed.
    let aborted = postgres.session().await;
    let _ = aborted.batch_execute("BEGIN; SELECT 1/0").await;
    let failed = awaited(async || {
        let seen = connection.look(APPLICATION, SOON).await.unwrap();
        seen.sessions.into_iter().find(|one| one.state == SessionState::IdleInTransactionAborted)
    })
    .await;
    let ended = connection.end_sessions(&fence("idle in transaction (aborted)", &[&failed]), SOON).await;
    assert_eq!(ended, Ok(Ended { recorded: 1, ended: 1 }));
    awaited(async || aborted.is_closed().then_some(())).await;
    // What is over is not ended again.
    assert_eq!(
        connection.end_sessions(&fence(OPEN, &all), SOON).await,
        Ok(Ended { recorded: 200, ended: 0 })
    );
}

#[tokio::test]
async fn nothing_is_ended_that_differs_in_anything_from_what_was_recorded() {
    let Some(postgres) = Postgres::start(&[]).await else { return };
    postgres.administer("CREATE ROLE chief LOGIN SUPERUSER; CREATE ROLE copier LOGIN REPLICATION").await;
    let leaked = postgres.leak("SELECT 1").await;
    let idle = postgres.session().await;
    let active = postgres.leak("SELECT 1").await;
    let chief = postgres.client("chief", APPLICATION).await;
    chief.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let copier = postgres.client("copier", APPLICATION).await;
    copier.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let other = postgres.client("mcp", "migration").await;
    other.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let pids =
        [pid(&leaked).await, pid(&idle).await, pid(&active).await, pid(&chief).await, pid(&copier).await];
    let other_pid = pid(&other).await;
    let mut connection = postgres.connection().await;
    let seen = connection.look(APPLICATION, SOON).await.unwrap();
    let others = connection.look("migration", SOON).await.unwrap();
    let long = active.batch_execute("SELECT pg_sleep(600)");
    let [leaked_one, idle_one, active_one, chief_one, copier_one] = pids.map(|pid| of(&seen, pid));
    let other_one = of(&others, other_pid);
    assert!(chief_one.is_privileged && copier_one.is_privileged && !leaked_one.is_privileged);
    let tried = async {
        awaited(async || {
            let seen = connection.look(APPLICATION, SOON).await.unwrap();
            (seen.counts.active == 1).then_some(())
        })
        .await;
        let of_role =
            |user: &str, one: &Session| SessionFence { user: user.to_owned(), ..fence(OPEN, &[one]) };
        let whole = fence(OPEN, &[leaked_one]);
        for (why, fence) in [
            ("active by now", fence(OPEN, &[active_one])),
            ("a superuser's", of_role("chief", chief_one)),
            ("one that may replicate", of_role("copier", copier_one)),
            ("another application's", fence(OPEN, &[other_one])),
            ("of another role", SessionFence { user: "mcp_health".to_owned(), ..whole.clone() }),
            ("in another database", SessionFence { database: "postgres".to_owned(), ..whole.clone() }),
            ("of another name", SessionFence { application: "mcp-serve".to_owned(), ..whole.clone() }),
            ("in another state", SessionFence { state: format!("{OPEN} (aborted)"), ..whole.clone() }),
            (
                "in another transaction",
                fence(OPEN, &[&Session { xact_start: Some(seen.at), ..leaked_one.clone() }]),
            ),
            ("without a transaction", fence(OPEN, &[&Session { xact_start: None, ..leaked_one.clone() }])),
            (
                "used since",
                fence(
                    OPEN,
                    &[&Session { state_change: Some(leaked_one.backend_start), ..leaked_one.clone() }],
                ),
            ),
            (
                "of another beginning",
                fence(OPEN, &[&Session { backend_start: seen.at, ..leaked_one.clone() }]),
            ),
            ("of another process", fence(OPEN, &[&Session { pid: idle_one.pid, ..leaked_one.clone() }])),
        ] {
            let ended = connection.end_sessions(&fence, SOON).await;
            assert_eq!(ended, Ok(Ended { recorded: 1, ended: 0 }), "{why}");
        }
        assert!(matches!(
            connection.end_sessions(&fence("active", &[active_one]), SOON).await,
            Err(NotEnded::Refused(_))
        ));
        // By what was recorded, they are ended.
        let both = connection.end_sessions(&whole, SOON).await;
        assert_eq!(both, Ok(Ended { recorded: 1, ended: 1 }));
        // One that was used since is at work, though it does nothing again.
        pid(&idle).await;
        let used = connection.end_sessions(&fence("idle", &[idle_one]), SOON).await;
        assert_eq!(used, Ok(Ended { recorded: 1, ended: 0 }));
        let seen = connection.look(APPLICATION, SOON).await.unwrap();
        let idle = connection.end_sessions(&fence("idle", &[of(&seen, idle_one.pid)]), SOON).await;
        assert_eq!(idle, Ok(Ended { recorded: 1, ended: 1 }));
    };
    tokio::select! {
        () = tried => {}
        _ = long => panic!("a statement that runs was ended"),
    }
    for one in [&chief, &copier, &other] {
        pid(one).await;
    }
}

#[tokio::test]
async fn without_the_grant_nothing_is_ended_and_the_database_says_why() {
    let Some(postgres) = Postgres::start(&[]).await else { return };
    postgres.administer("REVOKE pg_signal_backend FROM mcp_health").await;
    let leaked = postgres.leak("SELECT 1").await;
    let mut connection = postgres.connection().await;
    let seen = connection.look(APPLICATION, SOON).await.unwrap();
    let missing: Vec<String> = seen.missing_grants.iter().map(ToString::to_string).collect();
    assert_eq!(missing, ["sessions cannot be ended: GRANT pg_signal_backend TO mcp_health"]);
    let refused = connection.end_sessions(&fence(OPEN, &[&seen.sessions[0]]), SOON).await;
    let Err(NotEnded::Unknown(failure)) = refused else { panic!("{refused:?}") };
    assert!(failure.said.contains("42501"), "{failure}");
    pid(&leaked).await;
}
