//! A server and its PostgreSQL: what leaks and what blocks is ended where it is the server's own and does nothing, and
//! never anything else.

use mcp_health_e2e::{
    ActionType, Cause, ConditionType, Incident, IncidentType, Operator, Server, Story, host,
    postgres::{APPLICATION, OPERATOR_PASSWORD, Postgres, SERVER_PASSWORD, USER},
    server::Planned,
};
use serde_json::{Value, json};

/// The operator may read the Secrets of the story, and ask what is in its namespace.
const VALUES: &[&str] = &["signals.secrets=true", "signals.allowedEndpoints={*.NAMESPACE}"];

/// A server that keeps its data in this database by a pool of this size, and the same policy for all stories.
fn using(story: &Story, postgres: &Postgres, pool: usize, more: Value) -> Planned {
    let policy = json!({
        "actions": {"allow": ["RolloutRestart", "RecyclePod", "Rollback", "EndDatabaseSessions"]},
        "signals": {"postgres": postgres.signal()},
    });
    story.server().policy(policy).policy(more).deployment(postgres.used(pool))
}

/// A rule waits only so long.
fn after(incident: &str, time: &str) -> Value {
    json!({"overrides": [{"incident": incident, "for": time}]})
}

/// How many sessions the attempts of an incident were recorded to end.
fn recorded_sessions(incident: &Incident) -> usize {
    let steps = incident.attempts.iter().flat_map(|attempt| &attempt.steps);
    steps.filter_map(|step| step.sessions.as_ref()).map(|fence| fence.list.len()).sum()
}

async fn one_pod(server: &Server) -> String {
    server.pod_names().await.pop_first().expect("a pod")
}

#[tokio::test]
async fn the_role_that_is_shipped_can_do_what_it_is_for_and_no_more() {
    if !host::is_this_machine("the role for PostgreSQL") {
        return;
    }
    let story = Story::begin_with("database-role", Operator::None).await;
    let postgres = Postgres::start(&story, &["shared_preload_libraries = 'pg_stat_statements'"]).await;
    let may = async |sql: &str| postgres.ask_as("mcp_health", sql).await;

    let mut server = postgres.session(USER, APPLICATION).await;
    server.tell_until(&postgres, "BEGIN; CREATE TABLE assignments (id int)", "idle in transaction").await;
    let seen = may("SELECT usename, query FROM pg_stat_activity WHERE state = 'idle in transaction'").await;
    assert_eq!(seen.as_deref(), Ok("mcp_user|CREATE TABLE assignments (id int);"));
    server.tell_until(&postgres, "COMMIT", "idle").await;
    let counted = may("SELECT count(*) > 0 FROM pg_stat_statements WHERE query LIKE 'CREATE TABLE%'").await;
    assert_eq!(counted.as_deref(), Ok("t"));
    may("SELECT * FROM assignments").await.expect_err("rows are not for it");
    may("CREATE TABLE mine (id int)").await.expect_err("it owns nothing");

    let end = |pid: i32| format!("SELECT pg_terminate_backend({pid}, 5000)");
    assert_eq!(may(&end(server.pid)).await.as_deref(), Ok("t"));
    assert!(!server.is_there(&postgres).await);
    let superuser = postgres.session("postgres", APPLICATION).await;
    may(&end(superuser.pid)).await.expect_err("a superuser's session is not for it");
    assert!(superuser.is_there(&postgres).await);
}

#[tokio::test]
async fn two_hundred_forgotten_transactions_are_ended_and_no_pod_is_restarted() {
    if !host::is_this_machine("a database whose connections leak") {
        return;
    }
    let story = Story::begin_with_values("database-leak", VALUES).await;
    let postgres = Postgres::start(&story, &["max_connections = 230"]).await;
    let server = using(&story, &postgres, 100, after("DatabaseIdleInTransaction", "5s"));
    let server = server.replicas(2).healthy().await;
    let lives = server.lives().await;
    let mut others = postgres.session(USER, "reporting").await;
    others.tell_until(&postgres, "BEGIN; SELECT 1", "idle in transaction").await;

    // An attempt ends what is old enough then, and is watched for a while: here, all are to be.
    server.policy.change(&json!({"suspend": true})).await;
    for pod in server.pod_names().await {
        server.break_pod(&pod, json!({"fault": "hold-db-connections", "count": 100})).await;
    }
    let left = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{APPLICATION}' \
         AND state = 'idle in transaction' AND state_change < now() - interval '6s'"
    );
    postgres.until(&left, "200").await;
    server.policy.held("Suspended").await;
    server.policy.change(&json!({"suspend": false})).await;
    let incident = server.incident(IncidentType::DatabaseIdleInTransaction, Cause::IdleTransactions).await;
    let mitigated = server.policy.mitigated_by(&incident, ActionType::EndDatabaseSessions).await;
    assert_eq!(recorded_sessions(&mitigated), 200, "{mitigated:#?}");
    assert!(!mitigated.follow_ups.is_empty(), "what leaks is a person's to find: {mitigated:#?}");
    assert_eq!(postgres.sessions(APPLICATION, "idle in transaction").await, 0);
    assert!(others.is_there(&postgres).await, "a session of another application is not the server's");
    server.serves_mcp().await;
    assert_eq!(server.lives().await, lives, "no pod was restarted");
    server.has_healthy_template().await;
    story.is_silent_about(&[SERVER_PASSWORD, OPERATOR_PASSWORD]).await;
}

/// A table whose rows sessions lock.
async fn locks(postgres: &Postgres<'_>) {
    postgres.query("CREATE TABLE seats AS SELECT id, 0 AS taken FROM generate_series(0, 9) AS id").await;
    postgres.query(&format!("GRANT ALL ON seats TO {USER}")).await;
}

fn take(row: usize) -> String {
    format!("UPDATE seats SET taken = taken + 1 WHERE id = {row}")
}

#[tokio::test]
async fn of_a_chain_of_blockers_only_its_idle_root_is_ended_and_the_others_go_on() {
    if !host::is_this_machine("a database whose sessions wait for each other") {
        return;
    }
    let story = Story::begin_with_values("database-locks", VALUES).await;
    let postgres = Postgres::start(&story, &["max_connections = 40"]).await;
    locks(&postgres).await;
    let server = using(&story, &postgres, 5, after("DatabaseBlockingLocks", "4s")).healthy().await;
    let (lives, pod) = (server.lives().await, one_pod(&server).await);
    // Until all of them wait.
    server.policy.change(&json!({"suspend": true})).await;
    let mut root = postgres.session_of(&pod, APPLICATION).await;
    root.tell_until(&postgres, &format!("BEGIN; {}", take(0)), "idle in transaction").await;
    let mut waiting = Vec::new();
    for row in 1..=5 {
        let mut session = postgres.session_of(&pod, APPLICATION).await;
        session.tell_until(&postgres, &format!("BEGIN; {}; {}", take(row), take(row - 1)), "active").await;
        // It goes on by itself once it has its lock.
        session.tell("COMMIT").await;
        waiting.push(session);
    }
    server.policy.held("Suspended").await;
    server.policy.change(&json!({"suspend": false})).await;
    let incident = server.incident(IncidentType::DatabaseBlockingLocks, Cause::IdleTransactions).await;
    server.policy.evidence(&incident, &format!("all for pid {}", root.pid)).await;
    server.policy.evidence(&incident, "UPDATE seats SET taken = taken + ? WHERE id = ?").await;
    let mitigated = server.policy.mitigated_by(&incident, ActionType::EndDatabaseSessions).await;
    assert_eq!(recorded_sessions(&mitigated), 1, "{mitigated:#?}");
    assert!(!root.is_there(&postgres).await);
    for session in &waiting {
        assert!(session.is_there(&postgres).await, "those that waited go on");
    }
    // The root's own change is gone, as it was never committed; each of the others' is there.
    assert_eq!(
        postgres.query("SELECT string_agg(taken::text, '' ORDER BY id) FROM seats").await,
        "1222210000"
    );
    assert_eq!(server.lives().await, lives, "no pod was restarted");
}

#[tokio::test]
async fn neither_somebody_elses_session_nor_one_at_work_is_ended() {
    if !host::is_this_machine("a database whose sessions wait for each other") {
        return;
    }
    let story = Story::begin_with_values("database-others", VALUES).await;
    let postgres = Postgres::start(&story, &["max_connections = 40"]).await;
    locks(&postgres).await;
    let rules = json!({"overrides": [
        {"incident": "DatabaseBlockingLocks", "for": "3s"},
        {"incident": "DatabaseIdleInTransaction", "for": "3s"},
    ]});
    let server = using(&story, &postgres, 5, rules).healthy().await;
    let (lives, pod) = (server.lives().await, one_pod(&server).await);
    let mut other = postgres.session(USER, "reporting").await;
    other.tell_until(&postgres, &format!("BEGIN; {}", take(0)), "idle in transaction").await;
    let mut own = postgres.session_of(&pod, APPLICATION).await;
    own.tell_until(&postgres, &take(0), "active").await;
    let incident = server.incident(IncidentType::DatabaseBlockingLocks, Cause::OthersSession).await;
    server.policy.escalated("NoAutomaticAction").await;
    server.policy.considered_again().await;
    assert!(other.is_there(&postgres).await && own.is_there(&postgres).await);
    other.tell_until(&postgres, "COMMIT", "idle").await;
    assert_eq!(server.policy.resolved(&incident).await.done(), "");

    // A migration of the server's own: minutes of work, with a lock on all rows.
    own.tell_until(&postgres, "BEGIN; LOCK TABLE seats; SELECT pg_sleep(900)", "active").await;
    let mut waits = postgres.session_of(&pod, APPLICATION).await;
    waits.tell_until(&postgres, &take(1), "active").await;
    server.incident(IncidentType::DatabaseBlockingLocks, Cause::ActiveTransaction).await;
    server.policy.escalated("NoAutomaticAction").await;
    server.policy.considered_again().await;
    assert!(own.is_there(&postgres).await && waits.is_there(&postgres).await);
    assert_eq!(server.lives().await, lives, "no pod was restarted");
    server.is_untouched().await;
}

#[tokio::test]
async fn what_a_grant_is_missing_for_is_said_and_nothing_is_ended_without_it() {
    if !host::is_this_machine("a role without its rights in PostgreSQL") {
        return;
    }
    let story = Story::begin_with_values("database-grant", VALUES).await;
    let postgres = Postgres::start(&story, &["max_connections = 40"]).await;
    postgres.query("REVOKE pg_signal_backend FROM mcp_health").await;
    let server = using(&story, &postgres, 5, after("DatabaseIdleInTransaction", "3s")).healthy().await;
    let pod = one_pod(&server).await;
    let mut session = postgres.session_of(&pod, APPLICATION).await;
    session.tell_until(&postgres, "BEGIN; SELECT 1", "idle in transaction").await;
    let incident = server.policy.escalated("GrantMissing").await;
    let why = incident.escalation.as_ref().expect("it is escalated").message.as_str();
    assert!(why.contains("GRANT pg_signal_backend TO mcp_health"), "{why}");
    assert!(session.is_there(&postgres).await);
    server.is_untouched().await;
    session.tell_until(&postgres, "COMMIT", "idle").await;
    server.policy.resolved(&incident).await;

    postgres.query("REVOKE pg_monitor FROM mcp_health").await;
    let told = |status: &mcp_health_api::McpServerHealthStatus| {
        let kind = ConditionType::SignalsAvailable;
        let one = mcp_health_e2e::policy::condition(status, kind)?;
        (one.status == "False" && one.message.contains("GRANT pg_monitor TO mcp_health")).then_some(())
    };
    server.policy.until("the missing grant is told", told).await;
    server.is_untouched().await;
}

#[tokio::test]
async fn a_slow_statement_is_told_by_its_shape_and_nothing_is_done_about_it() {
    if !host::is_this_machine("a database with a slow statement") {
        return;
    }
    let story = Story::begin_with_values("database-slow", VALUES).await;
    let postgres = Postgres::start(&story, &["shared_preload_libraries = 'pg_stat_statements'"]).await;
    let server = using(&story, &postgres, 5, json!({})).healthy().await;
    let mut slow = postgres.session_of(&one_pod(&server).await, APPLICATION).await;
    let statement = "SELECT pg_sleep(1.2), 'ada@example.com'";
    slow.tell_until(&postgres, statement, "idle").await;
    let slow = server.policy.until("a slow statement", |status| {
        status.incidents.iter().find(|one| one.incident_type == IncidentType::DatabaseSlowQueries).cloned()
    });
    let incident = slow.await;
    assert!(incident.evidence.iter().any(|line| line.contains("SELECT pg_sleep(")), "{incident:#?}");
    server.is_untouched().await;
    story.is_silent_about(&["ada@example.com", SERVER_PASSWORD, OPERATOR_PASSWORD]).await;
}

#[tokio::test]
async fn a_database_that_others_fill_is_a_persons() {
    if !host::is_this_machine("a database without a connection to spare") {
        return;
    }
    let story = Story::begin_with_values("database-full", VALUES).await;
    let postgres = Postgres::start(&story, &["max_connections = 20"]).await;
    let server = using(&story, &postgres, 2, after("DatabasePoolExhausted", "2s")).healthy().await;
    let lives = server.lives().await;
    postgres.crowd(14).await;
    let incident = server.incident(IncidentType::DatabasePoolExhausted, Cause::OthersConnections).await;
    server.policy.escalated("NoAutomaticAction").await;
    server.policy.considered_again().await;
    assert_eq!(postgres.sessions("crowd", "idle").await, 14, "somebody else's sessions are not ended");
    postgres.disperse().await;
    assert_eq!(server.policy.resolved(&incident).await.done(), "");
    assert_eq!(server.lives().await, lives, "no pod was restarted");
    server.is_untouched().await;
}
