//! A server and its PostgreSQL: what leaks and what blocks is ended where it is the server's own and does nothing, and
//! never anything else; a database that is away restarts nobody.

use mcp_health_e2e::{
    Operator, Story, host,
    postgres::{Postgres, USER},
};

#[tokio::test]
async fn the_role_that_is_shipped_can_do_what_it_is_for_and_no_more() {
    if !host::is_this_machine("the role for PostgreSQL") {
        return;
    }
    let story = Story::begin_with("database-role", Operator::None).await;
    let postgres = Postgres::start(&story, &["shared_preload_libraries = 'pg_stat_statements'"]).await;
    let may = async |sql: &str| postgres.ask_as("mcp_health", sql).await;

    let mut server = postgres.session(USER, "mcp-server").await;
    server.tell_until(&postgres, "BEGIN; CREATE TABLE assignments (id int)", "idle in transaction").await;
    let seen = may("SELECT usename, query FROM pg_stat_activity WHERE state = 'idle in transaction'").await;
    assert_eq!(seen.as_deref(), Ok("mcp_user|CREATE TABLE assignments (id int);"));
    server.tell_until(&postgres, "COMMIT", "idle").await;
    assert_eq!(
        may("SELECT count(*) > 0 FROM pg_stat_statements WHERE query LIKE 'CREATE TABLE%'").await.as_deref(),
        Ok("t")
    );
    may("SELECT * FROM assignments").await.expect_err("rows are not for it");
    may("CREATE TABLE mine (id int)").await.expect_err("it owns nothing");

    let end = |pid: i32| format!("SELECT pg_terminate_backend({pid}, 5000)");
    assert_eq!(may(&end(server.pid)).await.as_deref(), Ok("t"));
    assert!(!server.is_there(&postgres).await);
    let superuser = postgres.session("postgres", "mcp-server").await;
    may(&end(superuser.pid)).await.expect_err("a superuser's session is not for it");
    assert!(superuser.is_there(&postgres).await);
}
