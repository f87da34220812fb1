//! A server that is not ours, in another language.

use mcp_health_e2e::{
    ActionType, Cause, IncidentType, Story, forward::Forward, host, mcp, python::Python, until,
};

/// What a team might write.
const GOOD: &str = r#"
from fastmcp import FastMCP

server = FastMCP("weather")

@server.tool
def forecast(city: str) -> str:
    return f"sunny in {city}"

server.run(transport="http", host="0.0.0.0", port=8000)
"#;

/// The same after a change that works on the team's machines.
const BAD: &str = r#"
import os
from fastmcp import FastMCP

token = os.environ["WEATHER_TOKEN"]
server = FastMCP("weather")
server.run(transport="http", host="0.0.0.0", port=8000)
"#;

#[tokio::test]
async fn a_python_server_whose_new_code_dies_with_a_key_error_is_rolled_back() {
    if !host::is_this_machine("a_python_server_whose_new_code_dies_with_a_key_error_is_rolled_back") {
        return;
    }
    let python = Python::ready().await;
    let story = Story::begin("python").await;
    let server = story.server().container(python.pod(GOOD)).healthy().await;
    lists_forecast(&story).await;

    let bad = python.pod(BAD);
    server.change_manifest(|manifest| {
        manifest["spec"]["template"]["spec"]["containers"] = bad["containers"].clone();
    });
    server.apply().await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    server.policy.evidence(&incident, "KeyError: 'WEATHER_TOKEN'").await;
    server.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
    server.was_changed_by_operator(1).await;
    lists_forecast(&story).await;
}

async fn lists_forecast(story: &Story) {
    until("the Python server lists its tool", async || {
        let forward = Forward::open(&story.namespace, "service/mcp-server", 80).await?;
        let tools = mcp::tools(&forward.url).await?;
        if tools == ["forecast"] { Ok(()) } else { Err(format!("{tools:?}")) }
    })
    .await;
}
