//! The Rust SDK, rmcp, in a process of its own: this program once more.

use std::sync::Arc;

use mcp_probe::Era;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, JsonObject, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler};
use tokio::process::Command;

use crate::process::Server;
use crate::trial::{Settings, asks_for_its_name, knows_its_path, lives_and_dies};

/// Set for the process that is the server.
const IS_SERVER: &str = "MCP_PROBE_TEST_SERVER";

fn command(settings: Settings) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "rust::the_server_itself", "--ignored", "--nocapture"]);
    command.env(IS_SERVER, "1").envs(settings.iter().copied());
    command
}

#[tokio::test]
#[ignore = "starts this program once more"]
async fn rmcp_is_told() {
    lives_and_dies(command, |server| server.endpoint("/mcp"), Era::Modern).await;
    let guarded = Server::start(command(&[("HOSTS", "mcp.example")])).await;
    asks_for_its_name(&guarded, "/mcp").await;
    knows_its_path(&guarded).await;
}

#[tokio::test]
#[ignore = "is the server of the test above"]
async fn the_server_itself() {
    if std::env::var_os(IS_SERVER).is_none() {
        return;
    }
    let hosts = std::env::var("HOSTS").unwrap_or_default();
    let hosts: Vec<String> = hosts.split(',').filter(|host| !host.is_empty()).map(str::to_owned).collect();
    let config = StreamableHttpServerConfig::default().with_allowed_hosts(hosts);
    let sessions = Arc::<LocalSessionManager>::default();
    let service = StreamableHttpService::new(|| Ok(Foreign), sessions, config);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("port {}", listener.local_addr().unwrap().port());
    axum::serve(listener, axum::Router::new().nest_service("/mcp", service)).await.unwrap();
}

#[derive(Clone)]
struct Foreign;

impl ServerHandler for Foreign {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let wanted = std::env::var("TOOLS").ok().and_then(|tools| tools.parse().ok()).unwrap_or(2);
        let names = ["search", "search-1"].into_iter().take(wanted);
        let tools = names.map(|name| Tool::new(name, "Finds things.", JsonObject::new()));
        Ok(ListToolsResult::with_all_items(tools.collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let said = vec![ContentBlock::text("x")];
        let fails = request.arguments.is_some_and(|arguments| arguments["query"] == "fail");
        Ok(if fails { CallToolResult::error(said) } else { CallToolResult::success(said) }.into())
    }
}
