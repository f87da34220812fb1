//! What an operator calls before and after a restart.

use crate::support::{Running, call, until, within};
use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};

const ADMIN: (&str, &str) = ("MCP_ADMIN", "true");

#[tokio::test]
async fn drain_answers_at_once_with_the_calls_under_way_and_lets_them_finish() {
    let mut server = Running::start(&[ADMIN, ("MCP_LOG_LEVEL", "DEBUG"), ("FAULT_SLOW", "2s")]).await;
    let request = server.http.post(server.url("/tools/list_assignments/execute")).json(&json!({}));
    let under_way = tokio::spawn(request.send());
    server.logged(|line| line.contains("tool_started")).await;
    let drained = server.post("/admin/drain", Value::Null).await;
    assert_eq!((drained.status, &drained.body), (200, &json!({"draining": true, "in_flight": 1})));
    assert!(!under_way.is_finished());
    assert_eq!(within(under_way).await.expect("a task").expect("an answer").status(), 200);
    let left = async || server.post("/admin/drain", Value::Null).await["in_flight"] == 0;
    until(async || left().await.then_some(())).await;
}

#[tokio::test]
async fn a_draining_server_refuses_tool_calls_of_either_kind_and_says_so_in_its_health() {
    let server = Running::start(&[ADMIN]).await;
    let client = server.client().await;
    call(&client, "list_assignments", json!({})).await;
    assert_eq!(server.post("/admin/drain", Value::Null).await["in_flight"], 0);
    let health = server.get("/health").await;
    assert_eq!((health.status, &health["status"]), (503, &json!("draining")));
    let refused = server.post("/tools/list_assignments/execute", json!({})).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    let refused = within(client.call_tool(CallToolRequestParams::new("list_assignments"))).await;
    let refused = refused.expect_err("no result").to_string();
    assert!(refused.contains("503"), "{refused}");
    // Counted where it was refused, not as a failure of the tool.
    for endpoint in ["/mcp", "/tools/{name}/execute"] {
        let refusals = format!(r#"mcp_requests_total{{endpoint="{endpoint}",status="503"}}"#);
        assert_eq!(server.metric(&refusals).await, Some(1.0), "{endpoint}");
    }
    let calls = r#"mcp_requests_total{endpoint="/tools/list_assignments",status="200"}"#;
    assert_eq!(server.metric(calls).await, Some(1.0));
}

#[tokio::test]
async fn assignments_saved_before_a_restart_are_back_once_restored() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("state.json");
    let settings = [ADMIN, ("MCP_STATE_FILE", file.to_str().expect("a plain path"))];
    let server = Running::start(&settings).await;
    for title in ["Read the log", "Write the report"] {
        server.post("/tools/create_assignment/execute", json!({"title": title})).await;
    }
    let before = server.post("/tools/list_assignments/execute", json!({})).await.body;
    let saved = server.post("/admin/save-state", Value::Null).await;
    assert_eq!((saved.status, &saved["count"]), (200, &json!(2)));
    drop(server);

    let server = Running::start(&settings).await;
    let restored = server.post("/admin/restore-state", Value::Null).await;
    assert_eq!((restored.status, &restored["count"]), (200, &json!(2)));
    assert_eq!(server.post("/tools/list_assignments/execute", json!({})).await.body, before);
    let next = server.post("/tools/create_assignment/execute", json!({"title": "Sign"})).await;
    assert_eq!(next["assignment"]["id"], 3);
}

#[tokio::test]
async fn a_state_file_that_is_missing_damaged_or_not_set_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("state.json");
    let server = Running::start(&[ADMIN, ("MCP_STATE_FILE", file.to_str().expect("a plain path"))]).await;
    let missing = server.post("/admin/restore-state", Value::Null).await;
    assert_eq!(missing.status, 404);
    assert!(missing["error"].as_str().is_some_and(|error| error.contains("No such file")), "{missing:?}");
    std::fs::write(&file, "{\"last_id\": 1, \"assign").expect("written");
    assert_eq!(server.post("/admin/restore-state", Value::Null).await.status, 500);

    let server = Running::start(&[ADMIN]).await;
    for hook in ["/admin/save-state", "/admin/restore-state"] {
        let refused = server.post(hook, Value::Null).await;
        assert_eq!((refused.status, &refused["error"]), (409, &json!("MCP_STATE_FILE is not set")));
    }
}

#[tokio::test]
async fn hooks_cannot_be_called_unless_that_is_allowed() {
    let server = Running::start(&[]).await;
    for hook in ["/admin/drain", "/admin/save-state", "/admin/restore-state"] {
        assert_eq!(server.post(hook, Value::Null).await.status, 404, "{hook}");
    }
    assert_eq!(server.get("/health").await.status, 200);
}
