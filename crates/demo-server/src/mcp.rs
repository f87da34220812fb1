//! The MCP side: the tools over Streamable HTTP.

use std::sync::Arc;

use axum::http::request::Parts;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::exchange::request_id;
use crate::tools::{self, ToolError};

/// One client's view of the server.
#[derive(Clone)]
pub struct McpServer {
    app: Arc<App>,
}

/// The service to mount at `/mcp`. It speaks both the protocol without sessions and the earlier ones with
/// them.
pub fn service(
    app: &Arc<App>,
    ended: CancellationToken,
) -> StreamableHttpService<McpServer, LocalSessionManager> {
    // The check of the Host header protects a server on a developer's machine from web pages that rebind
    // their DNS name to 127.0.0.1. In a cluster clients come through a Service, a pod address or an ingress,
    // under names this server cannot know, and no browser shares its network. So any host passes unless
    // a list is given.
    let config = StreamableHttpServerConfig::default()
        .with_allowed_hosts(app.config.allowed_hosts.clone())
        .with_cancellation_token(ended);
    let app = Arc::clone(app);
    let sessions = app.sessions.manager();
    StreamableHttpService::new(move || Ok(McpServer { app: Arc::clone(&app) }), sessions, config)
}

impl ServerHandler for McpServer {
    fn get_info(&self) -> ServerConfig {
        let name = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build()).with_server_info(name)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::offered(&self.app)))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::offered(&self.app).into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let request_id = context.extensions.get::<Parts>().map(|parts| request_id(&parts.headers));
        let arguments = request.arguments.unwrap_or_default();
        match tools::call(&self.app, &request.name, arguments, request_id.unwrap_or_default()).await {
            Ok(answer) => Ok(CallToolResult::structured(answer).into()),
            Err(error @ ToolError::Unknown(_)) => {
                Err(ErrorData::invalid_params(error.to_string(), None::<Value>))
            }
            Err(error) => Ok(CallToolResult::error(vec![ContentBlock::text(error.to_string())]).into()),
        }
    }
}
