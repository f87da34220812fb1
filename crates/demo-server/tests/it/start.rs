//! What it says when it does not start, and how loud it is when it does.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Running, Server, free_port, until};
use serde_json::json;
use tokio::net::TcpStream;

/// The last line on standard error of a server that ends with code 1.
async fn last_words(server: Server) -> String {
    let (status, line) = server.ended().await;
    assert_eq!(status.code(), Some(1), "{line}");
    line
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_when_it_does_not_start() {
    let first = Running::start(&[]).await;
    let port = first.port.to_string();
    let line = last_words(Server::spawn(&[("MCP_PORT", &port)])).await;
    assert_eq!(line, format!("cannot listen on 0.0.0.0:{port}: Address already in use (os error 98)"));
}

#[tokio::test]
async fn a_configuration_file_it_may_not_read_is_named_when_it_does_not_start() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o000)).expect("taken away");
    let path = file.path().to_str().expect("a plain path");
    let line = last_words(Server::spawn_unprivileged(&[("MCP_CONFIG", path)]).await).await;
    assert_eq!(line, format!("configuration error: cannot read {path}: Permission denied (os error 13)"));
}

#[tokio::test]
async fn a_value_that_is_not_valid_is_named_by_its_setting_when_it_does_not_start() {
    for (name, value) in [
        ("MCP_WORKERS", "many"),
        ("MCP_LOG_LEVEL", "loud"),
        ("MCP_DRAIN", "5"),
        ("DATABASE_URL", "postgres:///mcp"),
        ("FAULT_BURN_CPU", "0"),
        ("FAULT_FILL_DISK", "0"),
        ("FAULT_LEAK_MEMORY", "0"),
    ] {
        let line = last_words(Server::spawn(&[(name, value)])).await;
        assert!(line.starts_with(&format!("configuration error: {name} is not valid: ")), "{line}");
    }
}

#[tokio::test]
async fn a_required_setting_that_is_missing_is_named_when_it_does_not_start() {
    let line = last_words(Server::spawn(&[("MCP_REQUIRE", "MCP_PORT,DATABASE_URL")])).await;
    assert_eq!(line, "configuration error: required setting DATABASE_URL is not set");
}

#[tokio::test]
async fn a_database_that_refuses_is_named_without_credentials_when_it_does_not_start() {
    let port = free_port();
    let url = format!("postgres://mcp:hunter2@127.0.0.1:{port}/mcp");
    let line = last_words(Server::spawn(&[("DATABASE_URL", &url)])).await;
    let expected = format!("database error: database connection to 127.0.0.1:{port} failed: ");
    assert!(line.starts_with(&expected) && line.ends_with("Connection refused (os error 111)"), "{line}");
    assert!(!line.contains("hunter2") && !line.contains("mcp@"), "{line}");
}

#[tokio::test]
async fn the_log_level_holds_from_the_first_line_on() {
    let port = free_port();
    let settings = [("MCP_LOG_LEVEL", "ERROR"), ("FAULT_FAIL_TOOL", "*"), ("MCP_PORT", &port.to_string())];
    let server = Server::spawn(&settings);
    until(async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    let mut server = Running { server, port, http: reqwest::Client::new() };
    server.post("/tools/search/execute", json!({"query": "x"})).await;
    let first = server.logged(|_| true).await;
    assert!(first.contains("tool_failed"), "{first}");
}
