//! The server as its clients see it.

use crate::support::{Postgres, Running, Server, call, free_port, until, within};
use rmcp::ClientLifecycleMode;
use rmcp::model::ProtocolVersion;
use serde_json::{Value, json};

fn names(tools: &[rmcp::model::Tool]) -> Vec<&str> {
    tools.iter().map(|tool| tool.name.as_ref()).collect()
}

const TOOLS: [&str; 3] = ["create_assignment", "list_assignments", "search"];

#[tokio::test]
async fn a_client_of_the_current_protocol_lists_and_calls_the_tools() {
    let server = Running::start(&[]).await;
    let client = server
        .client_with(ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        })
        .await;
    assert_eq!(names(&within(client.list_all_tools()).await.expect("tools")), TOOLS);
    let created = call(&client, "create_assignment", json!({"title": "Read the log"})).await;
    assert_eq!(created.structured_content.expect("content")["assignment"]["id"], 1);
    let found = call(&client, "search", json!({"query": "log"})).await;
    assert_eq!(found.structured_content.expect("content")["assignments"][0]["title"], "Read the log");
}

#[tokio::test]
async fn a_client_of_an_earlier_protocol_gets_a_session_and_the_same_tools() {
    let server = Running::start(&[]).await;
    let client = server.client_with(ClientLifecycleMode::Initialize).await;
    assert_eq!(names(&within(client.list_all_tools()).await.expect("tools")), TOOLS);
    let listed = call(&client, "list_assignments", json!({})).await;
    assert_eq!(listed.structured_content.expect("content"), json!({"assignments": []}));
}

#[tokio::test]
async fn wrong_arguments_are_an_error_of_the_tool_and_an_unknown_tool_one_of_the_protocol() {
    let server = Running::start(&[]).await;
    let client = server.client().await;
    let result = call(&client, "search", json!({"limit": 3})).await;
    assert_eq!(result.is_error, Some(true));
    let unknown = rmcp::model::CallToolRequestParams::new("no_such_tool");
    assert!(within(client.call_tool(unknown)).await.is_err());
    let errors = r#"mcp_errors_total{type="validation_error",tool="search"}"#;
    assert_eq!(server.metric(errors).await, Some(1.0));
    let unknown = r#"mcp_requests_total{endpoint="/tools/unknown",status="404"}"#;
    assert_eq!(server.metric(unknown).await, Some(1.0));
}

#[tokio::test]
async fn any_host_is_accepted_unless_a_list_is_given() {
    for (settings, accepted) in [(vec![], true), (vec![("MCP_ALLOWED_HOSTS", "mcp.example.com")], false)] {
        let server = Running::start(&settings).await;
        let request = server.http.post(server.url("/mcp")).header("host", "mcp-server.mcp.svc:8000");
        let request = request.header("accept", "application/json, text/event-stream");
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
        let response = within(request.json(&body).send()).await.expect("an answer");
        assert_eq!(response.status().is_success(), accepted, "{}", response.status());
    }
}

#[tokio::test]
async fn the_tools_are_described_and_run_over_plain_http_too() {
    let server = Running::start(&[]).await;
    assert_eq!(server.get("/tools").await["tools"][2]["name"], "search");
    let search = server.get("/tools/search").await;
    assert_eq!(search["parameters"]["required"], json!(["query"]));
    assert_eq!(search["parameters"]["properties"]["query"]["type"], "string");
    assert_eq!(server.get("/tools/nothing").await.status, 404);
    let made = server.post("/tools/create_assignment/execute", json!({"title": "Sign"})).await;
    assert_eq!((made.status, &made["assignment"]["title"]), (200, &json!("Sign")));
    let refused = server.post("/tools/create_assignment/execute", json!({})).await;
    assert_eq!((refused.status, &refused["error"]), (400, &json!("validation_error")));
}

#[tokio::test]
async fn the_answer_says_how_long_it_took_and_keeps_the_request_id() {
    let server = Running::start(&[]).await;
    let request = server.http.get(server.url("/")).header("x-request-id", "abc");
    let response = within(request.send()).await.expect("an answer");
    assert_eq!(response.headers()["x-request-id"], "abc");
    assert!(response.headers().contains_key("x-response-time"));
}

#[tokio::test]
async fn a_tool_call_is_counted_once_and_health_checks_are_not_counted() {
    let server = Running::start(&[]).await;
    let client = server.client().await;
    call(&client, "list_assignments", json!({})).await;
    assert_eq!(server.get("/health").await.status, 200);
    let calls = r#"mcp_requests_total{endpoint="/tools/list_assignments",status="200"}"#;
    assert_eq!(server.metric(calls).await, Some(1.0));
    let took = r#"mcp_request_duration_seconds_count{endpoint="/tools/list_assignments"}"#;
    assert_eq!(server.metric(took).await, Some(1.0));
    // The client asked for one thing besides the call: what the server can do.
    assert_eq!(server.metric(r#"mcp_requests_total{endpoint="/mcp",status="200"}"#).await, Some(1.0));
    assert_eq!(server.metric(r#"mcp_requests_total{endpoint="/health",status="200"}"#).await, None);
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_turned_away_and_told_when_to_come_back() {
    let server = Running::start(&[("MCP_RATE_LIMIT", "3")]).await;
    let ask = async |client| {
        let request = server.http.get(server.url("/tools")).header("x-client-id", client);
        within(request.send()).await.expect("an answer")
    };
    // Two minutes at most are begun by so few requests: one of them has room for too many.
    let mut last = ask("hasty").await;
    assert_eq!(last.status(), 200);
    assert_eq!(last.headers()["x-ratelimit-limit"], "3");
    assert!(!last.headers().contains_key("retry-after"));
    for _ in 0..8 {
        if last.status() == 429 {
            break;
        }
        last = ask("hasty").await;
    }
    let headers = last.headers();
    let number = |name: &str| headers[name].to_str().expect("text").parse::<i64>().expect("a number");
    assert_eq!((last.status().as_u16(), number("x-ratelimit-remaining")), (429, 0));
    assert!(
        (1..=60).contains(&number("retry-after")) && number("x-ratelimit-reset") % 60 == 0,
        "{headers:?}"
    );
    assert_eq!(ask("patient").await.status(), 200);
    assert_eq!(server.metric(r#"mcp_rate_limited_total{client="hasty"}"#).await, Some(1.0));
    assert_eq!(server.metric(r#"mcp_requests_total{endpoint="/tools",status="429"}"#).await, Some(1.0));
}

#[tokio::test]
async fn messages_that_are_none_are_counted_by_their_code() {
    let server = Running::start(&[]).await;
    let count = async |code: &str| {
        server.metric(&format!("mcp_invalid_messages_total{{code=\"{code}\"}}")).await.unwrap_or_default()
    };
    let send = async |path: &str, body: &'static str| {
        let request = server.http.post(server.url(path)).header("content-type", "application/json");
        within(request.body(body).send()).await.expect("an answer")
    };
    send("/mcp", "{").await;
    send("/mcp", r#"{"jsonrpc": "2.0", "id": 1}"#).await;
    send("/mcp", r#"{"id": 1, "method": "ping"}"#).await;
    assert_eq!(send("/tools/search/execute", "[]").await.status(), 422);
    let client = server.client().await;
    call(&client, "search", json!({"query": 7})).await;
    for (code, times) in [("-32700", 1.0), ("-32600", 2.0), ("1001", 1.0), ("-32602", 1.0)] {
        assert_eq!(count(code).await.to_bits(), f64::to_bits(times), "{code}");
    }
    assert_eq!(server.metric(r#"mcp_tool_calls_total{tool="search"}"#).await, Some(1.0));
}

#[tokio::test]
async fn what_the_external_api_answers_is_kept_where_there_is_a_cache() {
    let upstream = Running::start(&[]).await;
    let url = upstream.url("/");
    let server = Running::start(&[("EXTERNAL_API_URL", url.as_str()), ("MCP_CACHE_TTL", "1h")]).await;
    for query in ["a", "a", "b"] {
        let answer = server.post("/tools/search/execute", json!({"query": query})).await;
        assert_eq!(answer["external"]["name"], "mcp-demo-server");
    }
    assert_eq!(server.metric("mcp_cache_hits_total").await, Some(1.0));
    assert_eq!(server.metric("mcp_cache_misses_total").await, Some(2.0));
    assert_eq!(upstream.metric(r#"mcp_requests_total{endpoint="/",status="200"}"#).await, Some(2.0));
}

#[tokio::test]
async fn a_well_server_says_so_by_component() {
    let server = Running::start(&[]).await;
    let health = server.get("/health").await;
    assert_eq!((health.status, &health["status"]), (200, &json!("healthy")));
    assert_eq!((&health["failed_components"], &health["issues"]), (&json!([]), &json!([])));
    assert_eq!(health["components"]["database"]["status"], "healthy");
    assert_eq!(server.get("/health/database").await["kind"], "memory");
    assert_eq!(server.get("/health/tools").await["count"], 3);
}

#[tokio::test]
async fn logs_are_json_or_plain_as_set() {
    let mut server = Running::start(&[]).await;
    server.post("/tools/search/execute", json!({})).await;
    let line = server.logged(|line| line.contains("tool_failed")).await;
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&line["level"], &line["tool"]), (&json!("error"), &json!("search")));
    assert_eq!(line["error_type"], "validation_error");

    let mut server = Running::start(&[("MCP_LOG_FORMAT", "plain"), ("FAULT_FAIL_TOOL", "*")]).await;
    server.post("/tools/search/execute", json!({"query": "x"})).await;
    let line = server.logged(|line| line.contains("tool=search")).await;
    assert!(
        line.contains(" ERROR [mcp.tools] ToolException: Tool execution failed event=tool_failed"),
        "{line}"
    );
}

#[tokio::test]
async fn the_circuit_opens_when_the_external_api_fails_and_closes_when_reset() {
    let url = format!("http://127.0.0.1:{}/", free_port());
    let settings = [("EXTERNAL_API_URL", url.as_str()), ("CIRCUIT_FAILURE_THRESHOLD", "2")];
    let server = Running::start(&settings).await;
    let search = async || server.post("/tools/search/execute", json!({"query": "x"})).await;
    assert_eq!(search().await["error"], "upstream_error");
    assert_eq!(server.get("/circuit-breakers").await.body[0]["state"], "closed");
    assert_eq!(search().await["error"], "upstream_error");
    let circuit = &server.get("/circuit-breakers").await.body[0];
    assert_eq!((&circuit["name"], &circuit["state"]), (&json!("external-api"), &json!("open")));
    assert_eq!((&circuit["failure_count"], &circuit["failure_threshold"]), (&json!(2), &json!(2)));
    assert!(circuit["last_failure_time"].as_f64().expect("a time") > 1.7e9, "{circuit}");
    let refused = search().await;
    assert_eq!((refused.status, &refused["error"]), (503, &json!("circuit_open")));
    assert_eq!(server.post("/circuit-breakers/external-api/reset", json!({})).await["state"], "closed");
    assert_eq!(search().await["error"], "upstream_error");
    assert_eq!(server.post("/circuit-breakers/other/reset", json!({})).await.status, 404);
}

#[tokio::test]
async fn search_adds_what_the_external_api_answers() {
    let upstream = Running::start(&[]).await;
    let url = upstream.url("/");
    let server = Running::start(&[("EXTERNAL_API_URL", &url)]).await;
    let answer = server.post("/tools/search/execute", json!({"query": "a b&c"})).await;
    assert_eq!(answer["external"]["name"], "mcp-demo-server");
}

#[tokio::test]
async fn a_tool_call_under_way_is_finished_before_the_server_ends() {
    let mut server = Running::start(&[("FAULT_SLOW", "500ms"), ("MCP_LOG_LEVEL", "DEBUG")]).await;
    let request = server.http.post(server.url("/tools/list_assignments/execute")).json(&json!({})).send();
    let request = tokio::spawn(request);
    server.logged(|line| line.contains("tool_started")).await;
    server.server.terminate().await;
    let response = within(request).await.expect("a task").expect("an answer");
    assert_eq!(response.status(), 200);
    let (status, _) = server.server.ended().await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_client_that_stays_connected_does_not_keep_the_server_from_ending() {
    let server = Running::start(&[("MCP_DRAIN", "60s")]).await;
    let client = server.client_with(ClientLifecycleMode::Initialize).await;
    call(&client, "list_assignments", json!({})).await;
    server.server.terminate().await;
    let (status, _) = server.server.ended().await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn assignments_are_kept_in_postgres_when_there_is_one() {
    let Some(postgres) = Postgres::start().await else { return };
    let settings = [("DATABASE_URL", postgres.url.as_str()), ("DB_POOL_SIZE", "4")];
    let server = Running::start(&settings).await;
    let made = server.post("/tools/create_assignment/execute", json!({"title": "Read the log"})).await;
    assert_eq!(made.status, 200, "{made:?}");
    drop(server);
    let server = Running::start(&settings).await;
    let found = server.post("/tools/search/execute", json!({"query": "LOG"})).await;
    assert_eq!(found["assignments"][0]["title"], "Read the log");
    assert_eq!(server.metric("mcp_db_connection_pool_size").await, Some(4.0));
    let health = server.get("/health/database").await;
    assert_eq!((&health["status"], &health["kind"]), (&json!("healthy"), &json!("postgres")));
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mcp-server'";
    let count: i64 = postgres.connect().await.query_one(sessions, &[]).await.expect("a row").get(0);
    assert!(count >= 1);
}

#[tokio::test]
async fn a_database_that_goes_away_fails_health_and_tools_but_not_the_process() {
    let Some(postgres) = Postgres::start().await else { return };
    let server = Running::start(&[("DATABASE_URL", &postgres.url)]).await;
    drop(postgres);
    let health =
        until(async || Some(server.get("/health").await).filter(|health| health.status == 503)).await;
    assert_eq!(health["failed_components"], json!(["database"]));
    let failed = server.post("/tools/list_assignments/execute", json!({})).await;
    assert_eq!((failed.status, &failed["error"]), (500, &json!("database_error")));
}

#[tokio::test]
async fn calls_beyond_those_that_run_at_once_wait_and_the_wait_counts() {
    let settings = [("MCP_MAX_CONCURRENT_CALLS", "1"), ("FAULT_SLOW", "100ms")];
    let server = Running::start(&settings).await;
    let call = |_| server.post("/tools/list_assignments/execute", json!({}));
    let answers = within(futures::future::join_all((0..6).map(call))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let sum = r#"mcp_request_duration_seconds_sum{endpoint="/tools/list_assignments"}"#;
    // One after the other: 100 ms, 200 ms and so on; side by side, 600 ms in all.
    let sum = server.metric(sum).await.expect("a sum");
    assert!(sum > 1.5, "{sum}");
}

#[tokio::test]
async fn a_load_calls_until_it_is_asked_to_end() {
    let server = Running::start(&[]).await;
    let load = Server::spawn_load(&[&server.url("/"), "--clients", "3", "--pause", "1ms"]);
    let served = r#"mcp_requests_total{endpoint="/tools/list_assignments",status="200"}"#;
    until(async || server.metric(served).await.filter(|calls| *calls >= 10.0)).await;
    load.terminate().await;
    let (status, said) = load.ended().await;
    assert!(status.success(), "{status} {said}");
}
