//! A real pooler between the operator and PostgreSQL.

use dependency_probe::postgres::{Connection, NotEnded};
use mcp_health_api::SessionFence;
use tokio::process::{Child, Command};

use super::support::*;

/// PgBouncer in front of a PostgreSQL, on a port of its own.
async fn pgbouncer(postgres: &Postgres, mode: &str) -> (u16, Child) {
    let root = postgres.within_reach("pgbouncer", &found("MCP_HEALTH_PGBOUNCER"));
    let port = free_port();
    let users = postgres.file("users.txt", "\"mcp_health\" \"pl4nted\"\n");
    let configuration = format!(
        "[databases]\nmcp_prod = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         auth_type = plain\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = 1\nunix_socket_dir =\n",
        postgres.port,
        users.display()
    );
    let configuration = postgres.file("pgbouncer.ini", &configuration);
    let mut command = Command::new(root.join("usr/sbin/pgbouncer"));
    // Libraries that this machine lacks came with it.
    command.env("LD_LIBRARY_PATH", root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH)));
    command.arg("-q").arg(configuration).kill_on_drop(true);
    postgres.own(&mut command);
    let child = command.spawn().unwrap();
    awaited(async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    (port, child)
}

#[tokio::test]
#[ignore = "runs PgBouncer"]
async fn a_pooler_is_found_out_and_nothing_is_set_in_the_sessions_that_it_lends() {
    let Some(postgres) = Postgres::start(&[]).await else { return };
    for mode in ["transaction", "session"] {
        let (port, _pgbouncer) = pgbouncer(&postgres, mode).await;
        let target = target(port, "");
        let mut connection = Connection::open(&target, None, ALL, SOON).await.0.unwrap();
        let seen = connection.look(APPLICATION, SOON).await.unwrap();
        assert!(seen.pooler.is_some_and(|why| why.contains("a pooler stands in between")), "{mode}");
        let line = format!("{} {} - {}", i32::MAX, seen.at, seen.at);
        let fence = SessionFence {
            database: "mcp_prod".to_owned(),
            user: "mcp".to_owned(),
            application: APPLICATION.to_owned(),
            state: "idle".to_owned(),
            list: vec![line],
        };
        let refused = connection.end_sessions(&fence, SOON).await;
        assert!(matches!(&refused, Err(NotEnded::Refused(why)) if why.contains("pooler")), "{refused:?}");
        if mode == "transaction" {
            // Whoever is lent the same session next finds it as it was.
            let words =
                format!("host=127.0.0.1 port={port} user=mcp_health password=pl4nted dbname=mcp_prod");
            let (next, driver) = tokio_postgres::connect(&words, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(driver);
            for (setting, value) in
                [("transaction_read_only", "off"), ("statement_timeout", "0"), ("lock_timeout", "0")]
            {
                let said = next.simple_query(&format!("SHOW {setting}")).await.unwrap();
                let shown = said.iter().find_map(|message| match message {
                    tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                    _ => None,
                });
                assert_eq!(shown, Some(value), "{setting}");
            }
        }
    }
    let direct = postgres.connection().await.look(APPLICATION, SOON).await.unwrap();
    assert_eq!(direct.pooler, None);
}
