//! What each fault does.

use std::time::{Duration, Instant};

use crate::support::{Postgres, Running, Server, call, until, within};
use rmcp::ClientLifecycleMode;
use serde_json::{Value, json};
use tokio::net::TcpStream;

const ADMIN: (&str, &str) = ("MCP_ADMIN", "true");

#[tokio::test]
async fn crash_at_the_start_ends_it_with_the_exit_code_and_last_words_given() {
    let message = "KeyError: 'DATABASE_URL'";
    let settings = [("FAULT_CRASH_EXIT", "3"), ("FAULT_CRASH_AFTER", "0s"), ("FAULT_CRASH_MESSAGE", message)];
    let (status, line) = Server::spawn(&settings).ended().await;
    assert_eq!((status.code(), line.as_str()), (Some(3), message));
}

#[tokio::test]
async fn crash_while_running_ends_it_after_the_time_given() {
    let server = Running::start(&[ADMIN]).await;
    let crash = json!({"fault": "crash", "exit": 7, "after": "100ms"});
    assert_eq!(server.post("/admin/faults", crash).await.status, 201);
    assert_eq!(server.server.ended().await.0.code(), Some(7));
}

#[tokio::test]
async fn never_ready_fails_health_until_it_is_cleared() {
    let server = Running::start(&[ADMIN, ("FAULT_NEVER_READY", "true")]).await;
    let health = server.get("/health").await;
    assert_eq!((health.status, &health["status"]), (503, &json!("unhealthy")));
    assert_eq!(health["failed_components"], json!(["startup"]));
    assert_eq!(server.delete("/admin/faults/never-ready").await.status, 204);
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn slow_start_delays_listening() {
    let started = Instant::now();
    let _server = Running::start(&[("FAULT_SLOW_START", "400ms")]).await;
    assert!(started.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn slow_start_does_not_delay_ending() {
    let mut server = Server::spawn(&[("FAULT_SLOW_START", "1h")]);
    server.logged(|line| line.contains("slow-start")).await;
    server.terminate().await;
    assert!(server.ended().await.0.success());
}

#[tokio::test]
async fn leak_memory_grows_to_its_cap_and_is_freed_when_cleared() {
    let server = Running::start(&[ADMIN, ("MCP_WORKERS", "1")]).await;
    let resident = async || server.metric("process_resident_memory_bytes").await.expect("a metric");
    let before = resident().await;
    let cap = 64.0 * 1024.0 * 1024.0;
    let fault = json!({"fault": "leak-memory", "rate": 500, "cap": 64});
    assert_eq!(server.post("/admin/faults", fault).await.status, 201);
    until(async || (resident().await >= before + cap).then_some(())).await;
    assert_eq!(server.get("/health").await["issues"], json!(["memory"]));
    assert_eq!(server.delete("/admin/faults/leak-memory").await.status, 204);
    until(async || (resident().await < before + cap / 2.0).then_some(())).await;
}

#[tokio::test]
async fn leak_memory_begins_when_it_is_told_to() {
    let started = Instant::now();
    let settings = [("FAULT_LEAK_MEMORY", "1000"), ("FAULT_LEAK_MEMORY_AFTER", "1s")];
    let server = Running::start(&[&settings[..], &[("FAULT_LEAK_MEMORY_CAP", "64")]].concat()).await;
    let resident = async || server.metric("process_resident_memory_bytes").await.expect("a metric");
    until(async || (resident().await >= 64.0 * 1024.0 * 1024.0).then_some(())).await;
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn burn_cpu_keeps_that_many_threads_busy_until_it_is_cleared() {
    let server = Running::start(&[ADMIN, ("FAULT_BURN_CPU", "3")]).await;
    let busy = async |ticks| server.server.thread_ticks("burn-cpu").iter().filter(|t| **t >= ticks).count();
    until(async || (busy(5).await == 3).then_some(())).await;
    assert_eq!(server.get("/health").await.status, 200);
    assert_eq!(server.delete("/admin/faults/burn-cpu").await.status, 204);
    until(async || (busy(0).await == 0).then_some(())).await;
}

#[tokio::test]
async fn fill_disk_writes_a_file_to_its_cap_and_clearing_removes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a plain path");
    let settings = [("FAULT_FILL_DISK", "100"), ("FAULT_FILL_DISK_PATH", path), ("FAULT_FILL_DISK_CAP", "5")];
    let server = Running::start(&[&settings[..], &[ADMIN]].concat()).await;
    let sizes = || {
        let files = std::fs::read_dir(path).expect("a folder").flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).collect::<Vec<_>>()
    };
    until(async || (sizes() == [5 << 20]).then_some(())).await;
    // In place of the first, whose file goes.
    let fault = json!({"fault": "fill-disk", "rate": 100, "path": path, "cap": 3});
    assert_eq!(server.post("/admin/faults", fault).await.status, 201);
    until(async || (sizes() == [3 << 20]).then_some(())).await;
    assert_eq!(server.delete("/admin/faults/fill-disk").await.status, 204);
    until(async || sizes().is_empty().then_some(())).await;
}

#[tokio::test]
async fn fill_disk_stays_up_on_a_full_disk_and_says_so_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a plain path");
    // What is written to this device finds no space.
    std::os::unix::fs::symlink("/dev/full", folder.path().join("mcp-fill-disk-1")).expect("a link");
    let mut server = Running::start(&[("FAULT_FILL_DISK", "1000"), ("FAULT_FILL_DISK_PATH", path)]).await;
    let line = server.logged(|line| line.contains("No space left")).await;
    let line: Value = serde_json::from_str(&line).expect("JSON");
    let expected = format!("Cannot write {path}/mcp-fill-disk-1: No space left on device (os error 28)");
    assert_eq!((&line["level"], &line["message"]), (&json!("error"), &json!(expected)));
    assert_eq!(server.get("/health").await.status, 200);
    server.server.terminate().await;
    let lines = server.server.all_logged().await;
    assert_eq!(lines.iter().filter(|line| line.contains("Cannot write")).count(), 1, "{lines:?}");
}

#[tokio::test]
async fn slow_adds_its_delay_to_tool_calls_and_requests_but_not_to_health() {
    let server = Running::start(&[("FAULT_SLOW", "300ms")]).await;
    let timed = async |path: &str| {
        let started = Instant::now();
        assert_eq!(server.get(path).await.status, 200);
        started.elapsed()
    };
    let delay = Duration::from_millis(300);
    assert!(timed("/tools").await >= delay);
    let (health, client) = (timed("/health").await, server.client().await);
    let started = Instant::now();
    call(&client, "list_assignments", json!({})).await;
    assert!(started.elapsed() >= delay);
    assert!(health < delay, "{health:?}");
}

#[tokio::test]
async fn fail_tool_fails_that_tool_alone_and_counts_it_as_a_server_error() {
    let settings = [("FAULT_FAIL_TOOL", "search"), ("FAULT_FAIL_TOOL_ERROR_TYPE", "index_error")];
    let server = Running::start(&settings).await;
    let client = server.client().await;
    let failed = call(&client, "search", json!({"query": "x"})).await;
    assert_eq!(failed.is_error, Some(true));
    assert_ne!(call(&client, "list_assignments", json!({})).await.is_error, Some(true));
    let requests = r#"mcp_requests_total{endpoint="/tools/search",status="500"}"#;
    assert_eq!(server.metric(requests).await, Some(1.0));
    assert_eq!(server.metric(r#"mcp_errors_total{type="index_error",tool="search"}"#).await, Some(1.0));
}

#[tokio::test]
async fn a_hidden_tool_is_neither_listed_nor_found() {
    let server = Running::start(&[ADMIN, ("FAULT_HIDE_TOOL", "search")]).await;
    let client = server.client().await;
    let tools = within(client.list_all_tools()).await.expect("tools");
    assert!(tools.len() == 2 && tools.iter().all(|tool| tool.name != "search"), "{tools:?}");
    assert_eq!(server.post("/tools/search/execute", json!({"query": "x"})).await.status, 404);
    assert_eq!(server.get("/health").await.status, 200);
    assert_eq!(server.post("/admin/faults", json!({"fault": "hide-tool"})).await.status, 201);
    assert_eq!(within(client.list_all_tools()).await.expect("no tools"), []);
    assert_eq!(server.get("/health").await["failed_components"], json!(["tools"]));
}

#[tokio::test]
async fn held_connections_are_idle_in_a_transaction_and_exhaust_the_pool_until_ended() {
    let Some(postgres) = Postgres::start().await else { return };
    let settings = [
        ADMIN,
        ("DATABASE_URL", postgres.url.as_str()),
        ("DB_POOL_SIZE", "3"),
        ("DB_POOL_TIMEOUT", "1"),
        ("FAULT_HOLD_DB_CONNECTIONS", "3"),
    ];
    let server = Running::start(&settings).await;
    let database = postgres.connect().await;
    let held = async || -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity
            WHERE application_name = 'mcp-server' AND state = 'idle in transaction'";
        database.query_one(count, &[]).await.expect("a row").get(0)
    };
    until(async || (held().await == 3).then_some(())).await;
    assert_eq!(server.metric("mcp_db_connections_in_use").await, Some(3.0));
    let refused = server.post("/tools/list_assignments/execute", json!({})).await;
    assert_eq!((refused.status, &refused["error"]), (503, &json!("pool_timeout")));
    let health = server.get("/health").await;
    assert_eq!((health.status, &health["issues"]), (200, &json!(["connections"])));

    // Ended in the database, as a person or the operator would.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'mcp-server' AND state = 'idle in transaction'";
    database.execute(end, &[]).await.expect("ended");
    until(async || (server.metric("mcp_db_connections_in_use").await == Some(0.0)).then_some(())).await;
    assert_eq!(server.post("/tools/list_assignments/execute", json!({})).await.status, 200);

    // Switched on again, and cleared.
    let fault = json!({"fault": "hold-db-connections", "count": 2});
    assert_eq!(server.post("/admin/faults", fault).await.status, 201);
    until(async || (held().await == 2).then_some(())).await;
    assert_eq!(server.delete("/admin/faults/hold-db-connections").await.status, 204);
    until(async || (held().await == 0).then_some(())).await;
}

#[tokio::test]
async fn a_locked_table_and_slow_and_repeated_statements_show_in_the_database() {
    let Some(postgres) = Postgres::start().await else { return };
    let settings = [ADMIN, ("DATABASE_URL", postgres.url.as_str()), ("DB_POOL_TIMEOUT", "1")];
    let server = Running::start(&settings).await;
    let database = postgres.connect().await;
    let sessions = async |what: &str| {
        let query =
            format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mcp-server' AND {what}");
        database.query_one(&query, &[]).await.expect("sessions").get::<_, i64>(0)
    };
    let list = async || server.post("/tools/list_assignments/execute", json!({})).await.status;
    let fault = async |fault: Value| server.post("/admin/faults", fault).await.status;

    assert_eq!(fault(json!({"fault": "lock-table"})).await, 201);
    until(async || (sessions("state = 'idle in transaction'").await == 1).then_some(())).await;
    let (waited, ()) = tokio::join!(list(), async {
        until(async || (sessions("cardinality(pg_blocking_pids(pid)) = 1").await == 1).then_some(())).await;
    });
    assert_eq!(waited, 500, "nobody gets by the lock in time");
    assert_eq!(server.delete("/admin/faults/lock-table").await.status, 204);
    until(async || (list().await == 200).then_some(())).await;

    let slow = "state = 'active' AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()";
    assert_eq!(fault(json!({"fault": "slow-query", "delay": "900ms"})).await, 201);
    let (answered, ()) = tokio::join!(list(), async {
        until(async || (sessions(slow).await == 1).then_some(())).await;
    });
    assert_eq!(answered, 200);
    assert_eq!(server.delete("/admin/faults/slow-query").await.status, 204);

    assert_eq!(fault(json!({"fault": "repeat-query", "count": 30})).await, 201);
    assert_eq!(list().await, 200);
    let calls = "SELECT seq_scan + idx_scan FROM pg_stat_user_tables WHERE relname = 'mcp_assignments'";
    until(async || {
        let row = database.query_one(calls, &[]).await.expect("statistics");
        (row.get::<_, i64>(0) >= 30).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_wedged_mcp_endpoint_never_answers_while_health_does() {
    let server = Running::start(&[ADMIN, ("FAULT_WEDGE_MCP", "true")]).await;
    let ask = || server.http.post(server.url("/mcp")).json(&json!({}));
    let unanswered = within(ask().timeout(Duration::from_millis(300)).send()).await;
    assert!(unanswered.expect_err("no answer").is_timeout());
    assert_eq!(server.get("/health").await.status, 200);
    let waiting = tokio::spawn(ask().send());
    assert_eq!(server.delete("/admin/faults/wedge-mcp").await.status, 204);
    within(waiting).await.expect("a task").expect("an answer, now that it is cleared");
    server.client().await;
}

#[tokio::test]
async fn listen_localhost_refuses_every_other_address() {
    let everywhere = Running::start(&[]).await;
    assert!(TcpStream::connect(("127.0.0.2", everywhere.port)).await.is_ok());
    let local = Running::start(&[("FAULT_LISTEN_LOCALHOST", "true")]).await;
    assert_eq!(local.get("/health").await.status, 200);
    let refused = TcpStream::connect(("127.0.0.2", local.port)).await.expect_err("refused");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_stuck_circuit_is_open_past_its_recovery_time_until_it_is_reset() {
    let upstream = Running::start(&[]).await;
    let url = upstream.url("/");
    let settings = [
        ADMIN,
        ("EXTERNAL_API_URL", url.as_str()),
        ("CIRCUIT_RECOVERY_TIMEOUT", "0"),
        ("FAULT_STUCK_CIRCUIT", "true"),
    ];
    let server = Running::start(&settings).await;
    let search = async || server.post("/tools/search/execute", json!({"query": "x"})).await.status;
    assert_eq!(search().await, 503);
    assert_eq!(server.get("/circuit-breakers").await.body[0]["state"], "open");
    server.post("/circuit-breakers/external-api/reset", json!({})).await;
    assert_eq!(search().await, 200);
}

#[tokio::test]
async fn leaked_sessions_pile_up_to_their_cap_and_are_ended_by_the_hook_or_when_cleared() {
    let settings = [ADMIN, ("FAULT_LEAK_SESSIONS", "1000"), ("FAULT_LEAK_SESSIONS_CAP", "150")];
    let server = Running::start(&settings).await;
    let idle = async || server.metric("mcp_sessions_idle").await;
    until(async || (idle().await == Some(150.0)).then_some(())).await;
    let _client = server.client_with(ClientLifecycleMode::Initialize).await;
    assert_eq!(server.metric("mcp_sessions").await, Some(151.0));
    assert_eq!(server.post("/admin/close-sessions", json!({})).await["count"], 150);
    assert_eq!((idle().await, server.metric("mcp_sessions").await), (Some(0.0), Some(1.0)));
    let fault = json!({"fault": "leak-sessions", "rate": 1000, "cap": 5});
    assert_eq!(server.post("/admin/faults", fault).await.status, 201);
    until(async || (idle().await == Some(5.0)).then_some(())).await;
    assert_eq!(server.delete("/admin/faults/leak-sessions").await.status, 204);
    until(async || (idle().await == Some(0.0)).then_some(())).await;
}

#[tokio::test]
async fn the_heart_beats_until_it_is_stopped() {
    let server = Running::start(&[ADMIN, ("MCP_HEARTBEAT_INTERVAL", "10ms")]).await;
    let last = async || server.metric("mcp_heartbeat_timestamp_seconds").await.expect("a metric");
    assert_eq!(server.metric("mcp_heartbeat_interval_seconds").await, Some(0.01));
    let first = last().await;
    until(async || (last().await > first).then_some(())).await;
    assert_eq!(server.post("/admin/faults", json!({"fault": "stop-heartbeat"})).await.status, 201);
    // One beat may have begun before.
    until(async || {
        let before = last().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        (before.to_bits() == last().await.to_bits()).then_some(())
    })
    .await;
    assert_eq!(server.delete("/admin/faults/stop-heartbeat").await.status, 204);
    let stopped = last().await;
    until(async || (last().await > stopped).then_some(())).await;
}

#[tokio::test]
async fn a_share_of_the_answers_at_mcp_breaks_off_and_is_counted() {
    let server = Running::start(&[ADMIN, ("FAULT_DROP_CONNECTIONS", "50")]).await;
    let mut broken = 0;
    for _ in 0..10 {
        let answer = within(server.http.post(server.url("/mcp")).json(&json!({})).send()).await;
        let whole = match answer {
            Ok(answer) => answer.bytes().await.is_ok(),
            Err(_) => false,
        };
        broken += u32::from(!whole);
    }
    assert_eq!(broken, 5);
    assert_eq!(server.metric("mcp_connection_drops_total").await, Some(5.0));
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_client_that_goes_before_it_is_answered_counts_as_a_drop() {
    let server = Running::start(&[("FAULT_WEDGE_MCP", "true")]).await;
    let ask = server.http.post(server.url("/mcp")).json(&json!({})).timeout(Duration::from_millis(100));
    assert!(ask.send().await.is_err());
    until(async || (server.metric("mcp_connection_drops_total").await == Some(1.0)).then_some(())).await;
}

#[tokio::test]
async fn a_share_of_the_requests_to_mcp_fails_with_500_and_is_counted_so() {
    let server = Running::start(&[ADMIN, ("FAULT_FAIL_REQUESTS", "20")]).await;
    for _ in 0..10 {
        server.post("/mcp", json!({})).await;
    }
    let failed = r#"mcp_requests_total{endpoint="/mcp",status="500"}"#;
    assert_eq!(server.metric(failed).await, Some(2.0));
    assert_eq!(server.delete("/admin/faults/fail-requests").await.status, 204);
    server.client().await;
    assert_eq!(server.metric(failed).await, Some(2.0));
}

#[tokio::test]
async fn a_fault_can_come_from_a_configuration_file() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "MCP_ADMIN: true\nFAULT_SLOW: 1ms\nFAULT_FAIL_TOOL: \"*\"\n")
        .expect("written");
    let path = file.path().to_str().expect("a plain path");
    let server = Running::start(&[("MCP_CONFIG", path), ("FAULT_FAIL_TOOL", "search")]).await;
    let faults = server.get("/admin/faults").await;
    assert_eq!(faults["faults"][0]["tool"], "search");
    assert_eq!(faults["faults"][1], json!({"fault": "slow", "delay": "1ms"}));
}

#[tokio::test]
async fn faults_cannot_be_switched_over_http_unless_that_is_allowed() {
    let server = Running::start(&[]).await;
    assert_eq!(server.get("/admin/faults").await.status, 404);
    assert_eq!(server.post("/admin/faults", json!({"fault": "never-ready"})).await.status, 404);
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_fault_that_cannot_be_switched_on_is_refused_with_the_reason() {
    let server = Running::start(&[ADMIN]).await;
    for (fault, reason) in [
        (json!({"fault": "slow-start", "delay": "1s"}), "only from the start"),
        (json!({"fault": "listen-localhost"}), "only from the start"),
        (json!({"fault": "hold-db-connections", "count": 1}), "needs DATABASE_URL"),
        (json!({"fault": "leak-memory", "rate": 0}), "at least 1"),
        (json!({"fault": "burn-cpu", "threads": 0}), "at least 1"),
        (json!({"fault": "fill-disk", "rate": 0}), "at least 1"),
        (json!({"fault": "leak-sessions", "rate": 0}), "at least 1"),
        (json!({"fault": "fail-requests", "percent": 101}), "1 to 100"),
        (json!({"fault": "drop-connections", "percent": 0}), "1 to 100"),
        (json!({"fault": "slow"}), "delay"),
        (json!({"fault": "nonsense"}), "unknown variant"),
    ] {
        let refused = server.post("/admin/faults", fault).await;
        assert_eq!(refused.status, 422);
        assert!(refused["error"].as_str().is_some_and(|error| error.contains(reason)), "{refused:?}");
    }
    assert_eq!(server.get("/admin/faults").await["faults"], Value::Array(Vec::new()));
    assert_eq!(server.delete("/admin/faults/slow").await.status, 404);
}
