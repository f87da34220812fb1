//! A pooler between a server and its PostgreSQL: what leaks is seen, no session is ended through it, and the object says
//! what it takes.

use mcp_health_e2e::{
    ActionType, Cause, IncidentType, Story, host,
    postgres::{APPLICATION, OPERATOR, OPERATOR_PASSWORD, Postgres, SERVER_PASSWORD},
    services,
};
use serde_json::json;

/// The operator may read the Secrets of the story, and ask what is in its namespace.
const VALUES: &[&str] = &["signals.secrets=true", "signals.allowedEndpoints={*.NAMESPACE}"];

#[tokio::test]
async fn behind_a_pooler_no_session_is_ended_until_the_secret_names_postgresql_itself() {
    if !host::is_this_machine("a database behind PgBouncer") {
        return;
    }
    let story = Story::begin_with_values("database-pooler", VALUES).await;
    let postgres = Postgres::start(&story, &["max_connections = 60"]).await;
    let pooler = services::pgbouncer(&postgres).start(&story).await;
    let lent = format!("{}:6432", pooler.host());
    postgres.operator_asks(&lent).await;
    postgres.server_uses(&lent).await;
    let policy = json!({
        "actions": {"allow": ["RolloutRestart", "RecyclePod", "Rollback", "EndDatabaseSessions"]},
        "signals": {"postgres": postgres.signal()},
        "overrides": [{"incident": "DatabaseIdleInTransaction", "for": "5s"}],
    });
    let server = story.server().policy(policy).deployment(postgres.used(20)).healthy().await;
    let (lives, pod) = (server.lives().await, server.pod_names().await.pop_first().expect("a pod"));
    server.serves_mcp().await;

    server.break_pod(&pod, json!({"fault": "hold-db-connections", "count": 10})).await;
    let incident = server.incident(IncidentType::DatabaseIdleInTransaction, Cause::IdleTransactions).await;
    let escalated = server.policy.escalated("PoolerBetween").await;
    let why = escalated.escalation.expect("it is escalated").message;
    for says in [
        lent.as_str(),
        "a pooler stands in between",
        "idle_transaction_timeout",
        "where Secret postgres (key url) names PostgreSQL itself, the operator ends",
    ] {
        assert!(why.contains(says), "{says}: {why}");
    }
    server.policy.considered_again().await;
    assert_eq!(postgres.sessions(APPLICATION, "idle in transaction").await, 10, "none was ended");
    server.is_untouched().await;

    server.mend_pod(&pod, "hold-db-connections").await;
    assert_eq!(server.policy.resolved(&incident).await.done(), "");

    // As it is told: what the pooler lends is still nobody's, and what comes from the server's own pods is ended.
    postgres.operator_asks(&postgres.address()).await;
    let address = story.kubectl(&["get", "pod", "pgbouncer", "--output=jsonpath={.status.podIP}"]).await;
    let direct = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = '{OPERATOR}' AND client_addr <> '{address}'"
    );
    postgres.until(&direct, "t").await;
    server.break_pod(&pod, json!({"fault": "hold-db-connections", "count": 2})).await;
    let unknown = server.policy.escalated("UnknownClients").await;
    let why = &unknown.escalation.as_ref().expect("it is escalated").message;
    assert!(why.contains(&format!("2 sessions to end, from {address}")), "{why}");
    assert!(why.contains("unless it is a pooler"), "{why}");
    assert_eq!(postgres.sessions(APPLICATION, "idle in transaction").await, 2, "none was ended");
    server.mend_pod(&pod, "hold-db-connections").await;
    assert_eq!(server.policy.resolved(&unknown).await.done(), "");
    server.is_untouched().await;

    let mut own = postgres.session_of(&pod, APPLICATION).await;
    own.tell_until(&postgres, "BEGIN; SELECT 1", "idle in transaction").await;
    let incident = server.incident(IncidentType::DatabaseIdleInTransaction, Cause::IdleTransactions).await;
    server.policy.mitigated_by(&incident, ActionType::EndDatabaseSessions).await;
    assert!(!own.is_there(&postgres).await);
    server.serves_mcp().await;
    assert_eq!(server.lives().await, lives, "no pod was restarted");
    server.has_healthy_template().await;
    story.is_silent_about(&[SERVER_PASSWORD, OPERATOR_PASSWORD]).await;
}
