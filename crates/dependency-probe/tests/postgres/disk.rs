//! What PostgreSQL says of its own files: a disk that is full is told, with what takes its space, and that
//! there is room again; and so is damage, whatever question meets it.

use mcp_health_core::signals::{
    Database, Reading,
    database::{DiskFull, Slot},
};
use tokio_postgres::{Client, error::SqlState};

use super::support::*;

/// Enough for an empty PostgreSQL, and a little more.
const MIB: u32 = 112;
/// The write-ahead log needs no further file.
const SMALL: &[&str] = &["min_wal_size=32MB", "max_wal_size=32MB", "autovacuum=off"];

/// What is told by a session of its own, that has asked nothing before.
async fn seen(postgres: &Postgres) -> Database {
    postgres.connection().await.look(APPLICATION, SOON).await.unwrap()
}

fn told(seen: &Database) -> &DiskFull {
    seen.disk_full.fresh().unwrap().as_ref().unwrap()
}

/// Writes rows until there is no room for another.
async fn fill(app: &Client) {
    app.batch_execute(
        "CREATE UNLOGGED TABLE much (words text); ALTER TABLE much ALTER words SET STORAGE PLAIN",
    )
    .await
    .unwrap();
    for rows in [1000, 100, 1] {
        let more = format!("INSERT INTO much SELECT repeat('x', 7000) FROM generate_series(1, {rows})");
        let full = loop {
            if let Err(full) = app.batch_execute(&more).await {
                break full;
            }
        };
        assert_eq!(full.code(), Some(&SqlState::DISK_FULL), "{full}");
    }
}

#[tokio::test]
async fn a_disk_that_rows_have_filled_is_told_with_what_takes_its_space_until_there_is_room_again() {
    let Some(postgres) = Postgres::start_on_a_disk(MIB, SMALL).await else { return };
    postgres.administer("SELECT pg_create_physical_replication_slot('standby', true)").await;
    let app = postgres.session().await;
    app.batch_execute("CREATE TABLE kept AS SELECT g AS id FROM generate_series(1, 1000) g").await.unwrap();
    let mut steady = postgres.connection().await;
    let well = steady.look(APPLICATION, SOON).await.unwrap();
    assert_eq!(well.disk_full, Reading::Fresh(None));
    fill(&app).await;
    // What is only read goes on as if nothing were.
    let rows = app.query("SELECT id FROM kept", &[]).await.unwrap();
    assert_eq!(rows.len(), 1000);
    let full = seen(&postgres).await;
    let disk = told(&full);
    assert!(disk.said.contains("No space left on device (53100)"), "{disk:?}");
    let mib = |bytes: Option<i64>| bytes.unwrap() >> 20;
    assert!(mib(disk.database) > 20 && disk.all > disk.database && mib(disk.wal) >= 16, "{disk:?}");
    let [Slot { name, is_active: false, kept }] = &disk.slots[..] else { panic!("{disk:?}") };
    assert!(name == "standby" && *kept > 0, "{disk:?}");
    assert!(full.counts.total == 1 && full.unread.is_none() && full.damage.is_none(), "{full:?}");
    assert_eq!(steady.look(APPLICATION, SOON).await.unwrap().disk_full, well.disk_full, "asked a moment ago");
    // Without the grant, as much as may be asked.
    postgres.administer("REVOKE pg_monitor FROM mcp_health").await;
    let little = seen(&postgres).await;
    let disk = told(&little);
    assert!(disk.database.is_some() && disk.all.is_none() && disk.wal.is_none(), "{disk:?}");
    app.batch_execute("DROP TABLE much").await.unwrap();
    assert_eq!(seen(&postgres).await.disk_full, Reading::Fresh(None));
}

#[tokio::test]
async fn a_role_that_may_write_no_file_tells_nothing_of_the_disk_and_all_else() {
    let Some(postgres) = Postgres::start(&[]).await else { return };
    postgres.administer("ALTER ROLE mcp_health SET temp_file_limit = '64kB'").await;
    let seen = seen(&postgres).await;
    let Reading::Unavailable(why) = &seen.disk_full else { panic!("{:?}", seen.disk_full) };
    assert!(why.contains("53400"), "{why}");
    assert!(seen.unread.is_none() && !seen.settings.is_empty(), "{seen:?}");
}

/// What a view that every look reads comes to: this, or what is there.
async fn roles(postgres: &Postgres, code: Option<&str>) {
    let says = match code {
        Some(code) => format!("RAISE EXCEPTION 'invalid page in block 7, pl4nted' USING ERRCODE = '{code}';"),
        None => String::new(),
    };
    let function = format!(
        "CREATE OR REPLACE FUNCTION broken() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN {says} RETURN true; END $$"
    );
    postgres.administer(&function).await;
}

#[tokio::test]
async fn damage_that_the_question_for_sessions_meets_is_told_as_such_and_nothing_else_is() {
    let Some(postgres) = Postgres::start(&[]).await else { return };
    roles(&postgres, None).await;
    let view = "SET allow_system_table_mods = on; DO $$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW pg_catalog.pg_roles AS '
        || rtrim(pg_get_viewdef('pg_catalog.pg_roles'), ';') || ' WHERE public.broken()'; END $$";
    postgres.administer(view).await;
    let mut connection = postgres.connection().await;
    assert!(connection.look(APPLICATION, SOON).await.unwrap().unread.is_none());
    for code in ["XX001", "XX002"] {
        roles(&postgres, Some(code)).await;
        let seen = connection.look(APPLICATION, SOON).await.unwrap();
        assert_eq!(seen.damage, Some(format!("invalid page in block 7, *** ({code})")));
        assert!(seen.unread.is_some_and(|why| why.contains(code)));
        assert_eq!((seen.counts.total, seen.max_connections, seen.disk_full), (0, 0, Reading::Off));
    }
    roles(&postgres, Some("53100")).await;
    let seen = connection.look(APPLICATION, SOON).await.unwrap();
    assert!(told(&seen).said.contains("53100") && seen.damage.is_none(), "{seen:?}");
    // What is nothing of the kind is a failure, as before.
    roles(&postgres, Some("22012")).await;
    let failure = connection.look(APPLICATION, SOON).await.unwrap_err();
    assert!(failure.said.contains("22012") && !connection.is_closed(), "{failure}");
    roles(&postgres, None).await;
    assert!(connection.look(APPLICATION, SOON).await.unwrap().unread.is_none());
}
