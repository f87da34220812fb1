//! Asking a server as its users do: with a real MCP client.

use std::time::Duration;

use rmcp::{
    ClientLifecycleMode, ClientServiceExt,
    model::{CallToolRequestParams, ClientConfig, ProtocolVersion},
    transport::StreamableHttpClientTransport,
};
use serde_json::json;

/// Within this a server that is well has answered.
const LIMIT: Duration = Duration::from_secs(10);

/// The names of the tools that the server at `url` lists, in order.
pub async fn tools(url: &str) -> Result<Vec<String>, String> {
    let ask = async {
        let client = client(url).await?;
        let tools = client.list_all_tools().await.map_err(|error| error.to_string())?;
        let mut names: Vec<String> = tools.into_iter().map(|tool| tool.name.into_owned()).collect();
        names.sort();
        Ok(names)
    };
    in_time(ask).await
}

/// Calls the demo server's tool `search`.
pub async fn search(url: &str) -> Result<(), String> {
    let ask = async {
        let client = client(url).await?;
        let arguments = json!({"query": "log"}).as_object().cloned().unwrap_or_default();
        let request = CallToolRequestParams::new("search").with_arguments(arguments);
        let result = client.call_tool(request).await.map_err(|error| error.to_string())?;
        if result.is_error == Some(true) { Err(format!("{:?}", result.content)) } else { Ok(()) }
    };
    in_time(ask).await
}

async fn client(url: &str) -> Result<rmcp::service::RunningService<rmcp::RoleClient, ClientConfig>, String> {
    let transport = StreamableHttpClientTransport::from_uri(format!("{url}/mcp"));
    let lifecycle = ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: Some(ProtocolVersion::V_2025_11_25),
    };
    let client = ClientConfig::default().serve_with_lifecycle(transport, lifecycle).await;
    client.map_err(|error| format!("no MCP at {url}: {error}"))
}

async fn in_time<T>(ask: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(LIMIT, ask).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    }
}
