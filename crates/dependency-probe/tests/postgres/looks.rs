//! What one look at a database tells.

use std::time::{Duration, Instant};

use mcp_health_core::signals::{
    Reading,
    database::{Database, SessionState},
};

use super::{support::*, versions::a_minute_passes};

#[tokio::test]
async fn two_hundred_leaked_sessions_are_seen_each_with_all_that_tells_it_from_others() {
    let Some(postgres) = Postgres::start(&["max_connections=240"]).await else { return };
    let mut leaked = Vec::new();
    for number in 0..200 {
        leaked.push(postgres.leak(&format!("SELECT 'pl4nted', {number}")).await);
    }
    let aborted = postgres.session().await;
    let _ = aborted.batch_execute("BEGIN; SELECT 1/0").await;
    let _idle = postgres.session().await;
    let _other = postgres.client("mcp", "somebody-else").await;
    let mut connection = postgres.connection().await;
    // An error is told before the session is idle.
    let seen = awaited(async || {
        let seen = connection.look(APPLICATION, SOON).await.unwrap();
        (seen.counts.active == 0).then_some(seen)
    })
    .await;
    assert_eq!((seen.counts.total, seen.counts.idle, seen.counts.idle_in_transaction), (202, 1, 201));
    assert_eq!((seen.sessions.len(), seen.max_connections, seen.reserved_connections), (202, 240, 3));
    assert!(seen.connections >= 204, "{}", seen.connections);
    assert!(seen.missing_grants.is_empty() && seen.may_end_sessions, "{:?}", seen.missing_grants);
    assert_eq!(seen.pooler, None);
    assert!(seen.started.is_some_and(|started| started < seen.at));
    let first = &seen.sessions[0];
    assert_eq!(
        (first.user.as_str(), first.database.as_str(), first.is_privileged),
        ("mcp", "mcp_prod", false)
    );
    assert_eq!((first.state, first.is_client), (SessionState::IdleInTransaction, true));
    assert_eq!(first.query, "BEGIN; SELECT ?");
    assert!(first.xact_start.is_some_and(|at| at >= first.backend_start));
    // When a transaction began is forgotten once it has failed.
    let last = seen.sessions[200..].iter().map(|one| (one.state, one.xact_start));
    let aborted = (SessionState::IdleInTransactionAborted, None);
    assert!(last.clone().any(|one| one == aborted), "{:?}", &seen.sessions[200..]);
    assert!(last.clone().any(|one| one == (SessionState::Idle, None)), "{:?}", &seen.sessions[200..]);
    assert_eq!(seen.oldest_transaction.as_ref().map(|one| one.pid), Some(first.pid));
    assert!(!format!("{seen:?}").contains("pl4nted"));
    assert_eq!(seen.words, format!("mcp_prod at 127.0.0.1:{}", postgres.port));
    // Nothing is left open or set in the operator's own session.
    let admin = postgres.client("postgres", "test").await;
    let row = admin
        .query_one("SELECT state, xact_start IS NULL FROM pg_stat_activity WHERE application_name = 'mcp-health-operator'", &[])
        .await
        .unwrap();
    assert_eq!((row.get::<_, String>(0).as_str(), row.get(1)), ("idle", true));
    // Another application has none of them.
    let other = connection.look("somebody-else", SOON).await.unwrap();
    assert_eq!((other.counts.total, other.sessions.len()), (1, 1));
    let quotes = connection.look("'; DROP DATABASE mcp_prod; --", SOON).await.unwrap();
    assert_eq!(quotes.counts.total, 0);
}

#[tokio::test]
async fn a_chain_of_five_is_told_from_its_root_and_so_is_a_prepared_transaction() {
    let Some(postgres) = Postgres::start(&["max_prepared_transactions=2", "deadlock_timeout=1h"]).await
    else {
        return;
    };
    let setup = postgres.client("mcp", "setup").await;
    setup
        .batch_execute("CREATE TABLE one (id int PRIMARY KEY, x int); INSERT INTO one SELECT g, 0 FROM generate_series(1, 9) g")
        .await
        .unwrap();
    // Each holds its own row, and waits for that of the one before.
    let mut sessions = Vec::new();
    for number in 1..=7 {
        sessions.push(postgres.leak(&format!("UPDATE one SET x = 1 WHERE id = {number}")).await);
    }
    setup
        .batch_execute("BEGIN; UPDATE one SET x = 2 WHERE id = 9; PREPARE TRANSACTION 'prepared'")
        .await
        .unwrap();
    let waiting = postgres.session().await;
    // The session, and the row of another that it waits for; the last two wait for each other.
    let all = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 7), (6, 6)];
    let statements: Vec<_> =
        all.iter()
            .map(|(session, row)| {
                let client = &sessions[*session];
                async move {
                    client.batch_execute(&format!("UPDATE one SET x = 3 WHERE id = {row} -- pl4nted")).await
                }
            })
            .collect();
    let for_prepared = waiting.batch_execute("UPDATE one SET x = 3 WHERE id = 9");
    let mut connection = postgres.connection().await;
    let looked = async {
        let seen = awaited(async || {
            let seen = connection.look(APPLICATION, SOON).await.unwrap();
            (seen.counts.waiting == 7).then_some(seen)
        })
        .await;
        let roots: Vec<_> = seen.chains.iter().map(|chain| (chain.root.pid == 0, chain.count)).collect();
        assert!(roots.contains(&(false, 4)) && roots.contains(&(true, 1)) && roots.len() == 2, "{roots:?}");
        let chain = seen.chains.iter().find(|chain| chain.count == 4).unwrap();
        assert_eq!(chain.root.state, SessionState::IdleInTransaction);
        assert_eq!(chain.root.query, "BEGIN; UPDATE one SET x = ? WHERE id = ?");
        assert_eq!(chain.waiting[3].0.query, "UPDATE one SET x = ? WHERE id = ?");
        assert_eq!(chain.waiting[0].0.waits_for.as_deref(), Some("Lock/transactionid"));
        assert!(chain.waiting.iter().all(|(_, since)| since.as_secs() < 60 && !since.is_negative()));
    };
    tokio::select! {
        () = looked => {}
        _ = futures::future::join_all(statements) => panic!("they wait"),
        _ = for_prepared => panic!("it waits"),
    }
}

#[tokio::test]
async fn statements_tables_candidates_and_settings_are_told_and_asked_for_each_minute() {
    let Some(postgres) =
        Postgres::start(&["shared_preload_libraries=pg_stat_statements", "autovacuum_naptime=1h"]).await
    else {
        return;
    };
    let mut connection = postgres.connection().await;
    let seen = connection.look(APPLICATION, SOON).await.unwrap();
    let Reading::Unavailable(why) = &seen.statements else { panic!("{:?}", seen.statements) };
    assert!(why.contains("CREATE EXTENSION pg_stat_statements"), "{why}");
    assert!(
        seen.settings.iter().any(|advice| advice.starts_with("max_connections is 100")),
        "{:?}",
        seen.settings
    );
    // In a schema of its own, whose name takes quotes.
    postgres
        .administer(
            "CREATE SCHEMA \"Odd \"\" one\"; CREATE EXTENSION pg_stat_statements SCHEMA \"Odd \"\" one\"",
        )
        .await;
    let app = postgres.session().await;
    app.batch_execute(
        "SET random_page_cost = 4; CREATE TABLE many (id serial PRIMARY KEY, x int, r int);
         INSERT INTO many (x, r) SELECT g % 7, (random() * 1e6)::int FROM generate_series(1, 5000) g;
         DELETE FROM many WHERE id < 1000; SELECT pg_sleep(0.2); ANALYZE many",
    )
    .await
    .unwrap();
    drop(app);
    let mut other = postgres.connection().await;
    let hidden = other.look(APPLICATION, SOON).await.unwrap();
    let Reading::Unavailable(why) = &hidden.statements else { panic!("{:?}", hidden.statements) };
    assert_eq!(
        why,
        "pg_stat_statements may not be read: GRANT USAGE ON SCHEMA \"Odd \"\" one\" to the operator's role"
    );
    assert!(hidden.index_candidates.is_empty());
    let grants = "GRANT SELECT ON many TO mcp_health; GRANT USAGE ON SCHEMA \"Odd \"\" one\" TO mcp_health";
    postgres.administer(grants).await;
    let again = connection.look(APPLICATION, SOON).await.unwrap();
    assert_eq!(again.statements, seen.statements, "it was asked a moment ago");
    let seen = awaited(async || {
        let mut fresh = postgres.connection().await;
        let seen = fresh.look(APPLICATION, SOON).await.unwrap();
        (!seen.tables.is_empty()).then_some(seen)
    })
    .await;
    let statements = seen.statements.fresh().unwrap();
    let slowest = &statements[0];
    assert!(slowest.mean_ms >= 200.0 && slowest.calls == 1, "{slowest:?}");
    assert_eq!(slowest.query, "SELECT pg_sleep($1)");
    assert!(
        statements
            .iter()
            .all(|one| !one.query.contains("mcp-health-operator") && !one.query.contains("json_build"))
    );
    assert!(seen.calls.is_some_and(|calls| calls >= 5), "{:?}", seen.calls);
    assert_eq!(seen.tables[0].name, "public.many");
    assert!(seen.tables[0].dead_rows >= 999, "{:?}", seen.tables);
    assert_eq!(seen.index_candidates, ["many.r"]);
    assert!(seen.cache.is_some_and(|(hit, all)| hit > 0 && all >= hit));
    assert_eq!(seen.checksum_failures, None);
}

#[tokio::test]
async fn a_statement_is_told_by_what_ran_of_it_between_looks() {
    let Some(postgres) = Postgres::start(&["shared_preload_libraries=pg_stat_statements"]).await else {
        return;
    };
    postgres.administer("CREATE EXTENSION pg_stat_statements").await;
    let app = postgres.session().await;
    app.batch_execute("SELECT pg_sleep(0.4)").await.unwrap();
    // Not long after counting began, all that is counted is what ran lately.
    let mut connection = postgres.connection().await;
    let recent = |seen: &Database| {
        let statements = seen.statements.fresh().unwrap();
        let one = statements.iter().find(|one| one.query == "SELECT pg_sleep($1)").unwrap();
        (one.mean_ms, one.recent.unwrap())
    };
    let (mean, first) = recent(&connection.look(APPLICATION, SOON).await.unwrap());
    assert!(mean >= 400.0 && first.calls == 1 && first.mean_ms >= 400.0, "{first:?}");
    assert!(first.span.as_secs() < 600, "{first:?}");
    for _ in 0..3 {
        app.batch_execute("SELECT pg_sleep(0)").await.unwrap();
    }
    app.batch_execute("SELECT 'new', 'pl4nted'").await.unwrap();
    a_minute_passes().await;
    // Counted for longer than the clock of PostgreSQL says, as the test has it: by what was counted a minute
    // ago.
    let seen = connection.look(APPLICATION, SOON).await.unwrap();
    assert!(!format!("{seen:?}").contains("pl4nted"));
    // Reset since: nothing of what ran before is left.
    postgres.administer("SELECT pg_stat_statements_reset()").await;
    app.batch_execute("SELECT pg_sleep(0)").await.unwrap();
    a_minute_passes().await;
    let (mean, last) = recent(&connection.look(APPLICATION, SOON).await.unwrap());
    assert!(mean < 100.0 && last.calls == 1 && last.mean_ms < 100.0, "{last:?}");
}

#[tokio::test]
async fn a_grant_that_is_missing_is_named_and_what_it_hides_is_not_made_up() {
    let Some(postgres) = Postgres::start(&[]).await else { return };
    postgres.administer("REVOKE pg_monitor, pg_signal_backend FROM mcp_health").await;
    let _leaked = postgres.leak("SELECT 1").await;
    let mut connection = postgres.connection().await;
    let seen = connection.look(APPLICATION, SOON).await.unwrap();
    assert_eq!(
        seen.missing_grants.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "sessions of other roles cannot be seen: GRANT pg_monitor TO mcp_health",
            "sessions cannot be ended: GRANT pg_signal_backend TO mcp_health",
        ]
    );
    assert!(!seen.may_end_sessions);
    assert_eq!((seen.counts.total, seen.counts.idle_in_transaction), (1, 0));
    assert!(seen.sessions.iter().all(|one| one.state == SessionState::Other && !one.is_client));
    // A member of the application's role needs neither.
    postgres.administer("GRANT mcp TO mcp_health").await;
    let seen = connection.look(APPLICATION, SOON).await.unwrap();
    assert!(seen.may_end_sessions);
    assert_eq!(seen.counts.idle_in_transaction, 1);
    assert_eq!(seen.missing_grants.len(), 1);
}

#[tokio::test]
async fn a_question_that_takes_long_is_given_up_and_the_session_lives_on() {
    let Some(postgres) = Postgres::start(&[]).await else { return };
    let mut connection = postgres.connection().await;
    // Roles cannot be read while somebody holds their catalogue.
    let holder = postgres.client("postgres", "test").await;
    holder.batch_execute("BEGIN; LOCK TABLE pg_authid IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let began = Instant::now();
    let failure = connection.look(APPLICATION, Duration::from_millis(500)).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(failure.said.contains("does not answer"), "{failure}");
    assert!(!connection.is_closed());
    holder.batch_execute("COMMIT").await.unwrap();
    assert!(connection.look(APPLICATION, SOON).await.is_ok());
}

/// Figures, for whoever asks:
/// `cargo test -p dependency-probe --test postgres -- --ignored --nocapture figures`.
#[tokio::test]
#[ignore = "tells figures"]
async fn figures_of_one_look() {
    let settings =
        ["max_connections=240", "shared_preload_libraries=pg_stat_statements", "pg_stat_statements.max=6000"];
    let Some(postgres) = Postgres::start(&settings).await else { return };
    postgres.administer("CREATE EXTENSION pg_stat_statements").await;
    let app = postgres.session().await;
    for number in 0..5000 {
        let (terms, columns) = (" + 1".repeat(number / 70), ", 1".repeat(number % 70));
        app.batch_execute(&format!("SELECT 1{terms}{columns}")).await.unwrap();
    }
    let mut leaked = Vec::new();
    for _ in 0..199 {
        leaked.push(postgres.leak("SELECT 1").await);
    }
    let mut looks = Vec::new();
    let mut connection = postgres.connection().await;
    for _ in 0..21 {
        let began = Instant::now();
        let seen = connection.look(APPLICATION, SOON).await.unwrap();
        assert_eq!(seen.counts.total, 200);
        looks.push(began.elapsed());
    }
    let first = looks.remove(0);
    looks.sort();
    let app = postgres.client("mcp_health", "test").await;
    let own = "SELECT left(query, 60), calls, mean_exec_time FROM pg_stat_statements WHERE query LIKE '%mcp-health-operator%'";
    for row in app.query(own, &[]).await.unwrap() {
        let (query, calls, mean): (String, i64, f64) = (row.get(0), row.get(1), row.get(2));
        eprintln!("{calls} × {mean:.1} ms: {}", query.replace('\n', " "));
    }
    eprintln!("first {first:?}, then median {:?}, worst {:?}", looks[10], looks[19]);
}
