//! PostgreSQL of each version, 12 to 18: one look tells all that there is to tell, and what was recorded is
//! ended.

use std::{
    fs::{OpenOptions, remove_file},
    os::unix::fs::{FileExt, symlink},
    time::Duration,
};

use dependency_probe::postgres::Ended;
use mcp_health_core::signals::{
    Reading,
    database::{SessionState, Slot},
};
use tokio_postgres::error::SqlState;

use super::{
    ends::{OPEN, fence},
    support::*,
};

#[tokio::test]
#[ignore = "runs PostgreSQL 12"]
async fn a_look_at_postgresql_12_tells_all() {
    tells_all(12).await;
}

#[tokio::test]
#[ignore = "runs PostgreSQL 13"]
async fn a_look_at_postgresql_13_tells_all() {
    tells_all(13).await;
}

#[tokio::test]
#[ignore = "runs PostgreSQL 14"]
async fn a_look_at_postgresql_14_tells_all() {
    tells_all(14).await;
}

#[tokio::test]
#[ignore = "runs PostgreSQL 15"]
async fn a_look_at_postgresql_15_tells_all() {
    tells_all(15).await;
}

#[tokio::test]
#[ignore = "runs PostgreSQL 16"]
async fn a_look_at_postgresql_16_tells_all() {
    tells_all(16).await;
}

#[tokio::test]
#[ignore = "runs PostgreSQL 17"]
async fn a_look_at_postgresql_17_tells_all() {
    tells_all(17).await;
}

#[tokio::test]
#[ignore = "runs PostgreSQL 18"]
async fn a_look_at_postgresql_18_tells_all() {
    tells_all(18).await;
}

async fn tells_all(major: i32) {
    let mut settings =
        vec!["shared_preload_libraries=pg_stat_statements", "autovacuum_naptime=1h", "deadlock_timeout=1h"];
    if major >= 16 {
        settings.push("reserved_connections=2");
    }
    let mut postgres = Postgres::of_version(major, &settings).await;
    postgres.administer("CREATE EXTENSION pg_stat_statements").await;
    tells_of_sessions_and_ends_what_holds_up_others(&postgres, major).await;
    tells_of_tables_settings_and_statements(&postgres, major).await;
    tells_of_a_full_disk(&postgres).await;
    tells_of_damage_and_replicas(&mut postgres).await;
}

async fn tells_of_sessions_and_ends_what_holds_up_others(postgres: &Postgres, major: i32) {
    let idle = postgres.session().await;
    idle.batch_execute("CREATE TABLE one (id int PRIMARY KEY, x int); INSERT INTO one VALUES (1, 0), (2, 0)")
        .await
        .unwrap();
    let root = postgres.leak("UPDATE one SET x = 1 WHERE id = 1").await;
    let middle = postgres.leak("UPDATE one SET x = 1 WHERE id = 2").await;
    let middle = tokio::spawn(async move {
        middle.batch_execute("UPDATE one SET x = 2 WHERE id = 1").await.unwrap();
        middle
    });
    let last = postgres.session().await;
    let last = tokio::spawn(async move { last.batch_execute("UPDATE one SET x = 2 WHERE id = 2").await });
    let failed = postgres.session().await;
    let _ = failed.batch_execute("BEGIN; SELECT 1/0").await;
    let mut connection = postgres.connection().await;
    let seen = awaited(async || {
        let seen = connection.look(APPLICATION, SOON).await.unwrap();
        (seen.counts.waiting == 2 && seen.counts.active == 2).then_some(seen)
    })
    .await;
    assert_eq!((seen.version / 10_000, seen.pooler.as_deref()), (major, None));
    assert_eq!((seen.counts.total, seen.counts.idle, seen.counts.idle_in_transaction), (5, 1, 2));
    assert_eq!((seen.sessions.len(), seen.max_connections), (5, 100));
    assert_eq!(seen.reserved_connections, if major >= 16 { 5 } else { 3 });
    assert!(seen.missing_grants.is_empty() && seen.may_end_sessions, "{:?}", seen.missing_grants);
    assert!(seen.started.is_some_and(|started| started < seen.at));
    let states = |state| seen.sessions.iter().filter(|one| one.state == state && one.is_client).count();
    assert_eq!(states(SessionState::IdleInTransactionAborted), 1);
    assert_eq!(states(SessionState::IdleInTransaction), 1);
    // The session that all wait for, and those that do, in the order in which they hold each other up.
    let [chain] = &seen.chains[..] else { panic!("{:?}", seen.chains) };
    assert_eq!((chain.count, chain.root.state), (2, SessionState::IdleInTransaction));
    assert_eq!(chain.root.query, "BEGIN; UPDATE one SET x = ? WHERE id = ?");
    assert_eq!(seen.oldest_transaction.as_ref().map(|one| one.pid), Some(chain.root.pid));
    for (one, since) in &chain.waiting {
        assert_eq!((one.state, one.waits_for.as_deref()), (SessionState::Active, Some("Lock/transactionid")));
        assert!(!since.is_negative() && since.as_secs() < 60, "{since}");
    }
    let ended = connection.end_sessions(&fence(OPEN, &[&chain.root]), SOON).await;
    assert_eq!(ended, Ok(Ended { recorded: 1, ended: 1 }));
    awaited(async || root.is_closed().then_some(())).await;
    let middle = middle.await.unwrap();
    middle.batch_execute("COMMIT").await.unwrap();
    last.await.unwrap().unwrap();
}

async fn tells_of_tables_settings_and_statements(postgres: &Postgres, major: i32) {
    let app = postgres.session().await;
    app.batch_execute(
        "CREATE TABLE many (id serial PRIMARY KEY, x int, r int); GRANT SELECT ON many TO mcp_health;
         INSERT INTO many (x, r) SELECT g % 7, (random() * 1e6)::int FROM generate_series(1, 5000) g;
         DELETE FROM many WHERE id < 1000",
    )
    .await
    .unwrap();
    app.batch_execute("ANALYZE many").await.unwrap();
    // What it counted is told when it ends, at the latest; before 15, a while after that.
    drop(app);
    let (mut connection, first) = awaited(async || {
        let mut connection = postgres.connection().await;
        let seen = connection.look(APPLICATION, SOON).await.unwrap();
        let is_told = seen.tables.first().is_some_and(|table| table.analyzed.is_some());
        let is_counted = seen.cache.is_some_and(|(hit, _)| hit > 0);
        (is_told && is_counted).then_some((connection, seen))
    })
    .await;
    let table = &first.tables[0];
    assert_eq!((table.name.as_str(), table.dead_rows), ("public.many", 999));
    assert_eq!(first.index_candidates, ["many.r"]);
    assert!(first.cache.is_some_and(|(hit, all)| all >= hit), "{:?}", first.cache);
    assert_eq!(first.checksum_failures, Some((0, None)));
    assert_eq!(first.disk_full, Reading::Fresh(None));
    let workers = if major < 18 { "4 is suggested (takes a restart)" } else { "4 is suggested" };
    let told = |advice: &str| first.settings.iter().any(|one| one == advice);
    assert!(told(&format!("autovacuum_max_workers is 3; {workers}")), "{:?}", first.settings);
    assert!(told("max_connections is 100; 200 is suggested (takes a restart)"), "{:?}", first.settings);
    let app = postgres.session().await;
    for _ in 0..3 {
        app.batch_execute("SELECT pg_sleep(0.1)").await.unwrap();
    }
    a_minute_passes().await;
    let seen = connection.look(APPLICATION, SOON).await.unwrap();
    let Reading::Fresh(statements) = &seen.statements else { panic!("{:?}", seen.statements) };
    let slow = statements.iter().find(|one| one.query == "SELECT pg_sleep($1)").unwrap();
    assert!(slow.mean_ms >= 100.0 && slow.max_ms >= slow.mean_ms && slow.total_ms >= 300.0, "{slow:?}");
    assert_eq!((slow.calls, slow.rows), (3, 3));
    let recent = slow.recent.unwrap();
    assert!(recent.calls == 3 && recent.mean_ms >= 100.0, "{recent:?}");
    assert_eq!(seen.disk_full, Reading::Fresh(None));
    assert!(seen.frequent.iter().any(|one| one.id == slow.id), "{:?}", seen.frequent);
    assert!(seen.calls.is_some_and(|calls| calls > first.calls.unwrap()), "{:?}", seen.calls);
}

/// What is asked seldom is asked again.
pub async fn a_minute_passes() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
}

async fn tells_of_a_full_disk(postgres: &Postgres) {
    postgres.administer("SELECT pg_create_physical_replication_slot('standby', true)").await;
    // So that there is a folder for temporary files.
    postgres.administer("SET work_mem = '64kB'; SELECT count(*) FROM generate_series(1, 100000)").await;
    let temporary = postgres.data().join("base/pgsql_tmp");
    let mut connection = postgres.connection().await;
    let admin = postgres.client("postgres", "test").await;
    let newest = "SELECT pid FROM pg_stat_activity WHERE application_name = 'mcp-health-operator'
        ORDER BY backend_start DESC LIMIT 1";
    let pid: i32 = admin.query_one(newest, &[]).await.unwrap().get(0);
    // What this one session writes finds no room.
    let files: Vec<_> = (0..9).map(|number| temporary.join(format!("pgsql_tmp{pid}.{number}"))).collect();
    for file in &files {
        symlink("/dev/full", file).unwrap();
    }
    let full = connection.look(APPLICATION, SOON).await.unwrap();
    let Reading::Fresh(Some(disk)) = &full.disk_full else { panic!("{:?}", full.disk_full) };
    assert!(disk.said.contains("No space left on device (53100)"), "{disk:?}");
    assert!(disk.database > Some(0) && disk.all > disk.database && disk.wal >= Some(16 << 20), "{disk:?}");
    let [Slot { name, is_active: false, kept: 1.. }] = &disk.slots[..] else { panic!("{disk:?}") };
    assert_eq!(name, "standby");
    for file in files {
        // PostgreSQL takes away what it could not write.
        let _ = remove_file(file);
    }
    a_minute_passes().await;
    assert_eq!(connection.look(APPLICATION, SOON).await.unwrap().disk_full, Reading::Fresh(None));
    postgres.administer("SELECT pg_drop_replication_slot('standby')").await;
}

async fn tells_of_damage_and_replicas(postgres: &mut Postgres) {
    let admin = postgres.client("mcp", "test").await;
    let row = admin.query_one("SELECT pg_relation_filepath('many')", &[]).await.unwrap();
    let file = postgres.data().join(row.get::<_, String>(0));
    postgres.administer("CHECKPOINT").await;
    postgres.stop().await;
    OpenOptions::new().write(true).open(file).unwrap().write_all_at(&[0xab; 64], 4096).unwrap();
    let replica = postgres.replica("mcp-replica").await;
    postgres.administer("CREATE TABLE later ()").await;
    let (mut ours, mut its) = (postgres.connection().await, replica.connection().await);
    awaited(async || {
        let seen = ours.look(APPLICATION, SOON).await.unwrap();
        (seen.replicas.first()?.0 == "mcp-replica").then_some(())
    })
    .await;
    awaited(async || {
        let seen = its.look(APPLICATION, SOON).await.unwrap();
        let (name, behind) = seen.replicas.first()?;
        assert_eq!(name, "this server itself");
        behind.map(|behind| assert!(behind.as_secs() < 60 && !behind.is_negative(), "{behind}"))
    })
    .await;
    let error = postgres.session().await.batch_execute("SELECT sum(x) FROM many").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::DATA_CORRUPTED), "{error:?}");
    awaited(async || {
        let seen = ours.look(APPLICATION, SOON).await.unwrap();
        seen.checksum_failures.filter(|(failures, last)| *failures > 0 && last.is_some())
    })
    .await;
}
