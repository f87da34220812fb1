//! The tools: what they take, what they do, and how a call is measured.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use rmcp::handler::server::tool::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::app::App;
use crate::circuit::{CircuitOpen, UpstreamError};
use crate::store_error::StoreError;

const LIST_LIMIT: u32 = 1000;
/// JSON-RPC's code for arguments that are not as the tool takes them.
const INVALID_PARAMS: &str = "-32602";

/// What `create_assignment` takes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CreateAssignment {
    /// What is to be done
    title: String,
    /// By whom
    #[serde(default)]
    assignee: String,
}

/// What `list_assignments` takes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListAssignments {
    /// How many at most, 1 to 1000
    #[serde(default = "fifty")]
    limit: u32,
}

/// What `search` takes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Search {
    /// What to look for in titles
    query: String,
    /// How many at most, 1 to 1000
    #[serde(default = "fifty")]
    limit: u32,
}

fn fifty() -> u32 {
    50
}

/// Why a tool call failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// There is no such tool.
    #[error("no tool named {0}")]
    Unknown(String),
    /// An argument is missing, unknown or of the wrong type.
    #[error("Validation failed: {0}")]
    Arguments(String),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many calls to the upstream failed.
    #[error(transparent)]
    Circuit(#[from] CircuitOpen),
    /// The upstream did not answer.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The fault `fail-tool` is on.
    #[error("{message}")]
    Fault {
        /// Its error type.
        error_type: String,
        /// Its message.
        message: String,
    },
}

impl ToolError {
    /// Its class in metrics and logs.
    pub fn error_type(&self) -> &str {
        match self {
            Self::Unknown(_) => "tool_not_found",
            Self::Arguments(_) => "validation_error",
            Self::Store(StoreError::PoolTimeout(_)) => "pool_timeout",
            Self::Store(_) => "database_error",
            Self::Circuit(_) => "circuit_open",
            Self::Upstream(_) => "upstream_error",
            Self::Fault { error_type, .. } => error_type,
        }
    }

    /// Its status, over HTTP and in metrics.
    pub fn status(&self) -> u16 {
        match self {
            Self::Unknown(_) => 404,
            Self::Arguments(_) => 400,
            Self::Store(StoreError::PoolTimeout(_)) | Self::Circuit(_) => 503,
            Self::Upstream(_) => 502,
            Self::Store(_) | Self::Fault { .. } => 500,
        }
    }

    fn query(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => error.query(),
            _ => None,
        }
    }
}

/// The tools on offer: all of them, less those that the fault `hide-tool` hides.
pub fn offered(app: &App) -> Vec<Tool> {
    let read = || ToolAnnotations::new().read_only(true);
    let mut tools = vec![
        Tool::new("create_assignment", "Add an assignment", schema_for_type::<CreateAssignment>())
            .with_annotations(ToolAnnotations::new().read_only(false).destructive(false)),
        Tool::new("list_assignments", "List the newest assignments", schema_for_type::<ListAssignments>())
            .with_annotations(read()),
        Tool::new("search", "Find assignments by words in their title", schema_for_type::<Search>())
            .with_annotations(read()),
    ];
    tools.retain(|tool| !app.faults.hides(&tool.name));
    tools
}

/// Calls a tool, over whichever protocol, and counts, times and logs the call.
pub async fn call(
    app: &Arc<App>,
    name: &str,
    arguments: JsonObject,
    request_id: &str,
) -> Result<Value, ToolError> {
    let _under_way = app.calls.token();
    let started = Instant::now();
    tracing::debug!(target: "mcp.tools", event = "tool_started", tool = name, request_id, "Tool started");
    // It is never closed. The wait is part of how long the call takes: that is what its caller sees.
    let _place = match &app.places {
        Some(places) => places.acquire().await.ok(),
        None => None,
    };
    app.faults.slow_down().await;
    let result = match app.faults.tool_failure(name) {
        Some((error_type, message)) => Err(ToolError::Fault { error_type, message }),
        None => run(app, name, arguments).await,
    };
    let elapsed = started.elapsed();
    let duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);

    // What callers make up must not become a label.
    let tool = if matches!(result, Err(ToolError::Unknown(_))) { "unknown" } else { name };
    let endpoint = format!("/tools/{tool}");
    let status = result.as_ref().err().map_or(200, ToolError::status);
    app.metrics.request(&endpoint, status, elapsed);
    app.metrics.tool_call(tool);
    if matches!(result, Err(ToolError::Arguments(_))) {
        app.metrics.invalid_message(INVALID_PARAMS);
    }
    match &result {
        Ok(_) => tracing::info!(target: "mcp.tools", event = "tool_completed", tool, endpoint, request_id,
            duration_ms, "Tool completed"),
        Err(error) => {
            let error_type = error.error_type();
            app.metrics.error(error_type, tool);
            let message = match error {
                ToolError::Store(_) => "DatabaseException: Database error",
                ToolError::Arguments(_) => "ValidationException: Validation failed",
                _ => "ToolException: Tool execution failed",
            };
            tracing::error!(target: "mcp.tools", event = "tool_failed", error_type, tool, endpoint, request_id,
                status, query = error.query(), error_message = %error, duration_ms, "{message}");
        }
    }
    result
}

async fn run(app: &App, name: &str, arguments: JsonObject) -> Result<Value, ToolError> {
    let (slow, repeated) = app.faults.queries();
    app.store.ask_in_vain(slow, repeated).await?;
    match name {
        _ if app.faults.hides(name) => Err(ToolError::Unknown(name.to_owned())),
        "create_assignment" => {
            let CreateAssignment { title, assignee } = parse(arguments)?;
            if title.trim().is_empty() {
                return Err(ToolError::Arguments("field=title must not be empty".to_owned()));
            }
            Ok(json!({"assignment": app.store.create(&title, &assignee).await?}))
        }
        "list_assignments" => {
            let ListAssignments { limit } = parse(arguments)?;
            Ok(json!({"assignments": app.store.list(limit.min(LIST_LIMIT)).await?}))
        }
        "search" => {
            let Search { query, limit } = parse(arguments)?;
            let found = app.store.search(&query, limit.min(LIST_LIMIT)).await?;
            let mut answer = json!({"assignments": found});
            if let Some(external) = ask_upstream(app, &query).await? {
                answer["external"] = external;
            }
            Ok(answer)
        }
        _ => Err(ToolError::Unknown(name.to_owned())),
    }
}

/// The answer of the external API, from the cache or through its circuit, if one is set.
async fn ask_upstream(app: &App, query: &str) -> Result<Option<Value>, ToolError> {
    let Some(upstream) = &app.upstream else { return Ok(None) };
    if let Some(cache) = &app.cache {
        let known = cache.get(query);
        app.metrics.cache(known.is_some());
        if known.is_some() {
            return Ok(known);
        }
    }
    let permit = app.circuit.enter(Timestamp::now(), app.faults.is_on("stuck-circuit"))?;
    let answer = upstream.search(query).await;
    permit.settle(answer.is_ok(), Timestamp::now());
    let answer = answer?;
    let answer = serde_json::from_str(&answer).unwrap_or(Value::String(answer));
    if let Some(cache) = &app.cache {
        cache.put(query, &answer);
    }
    Ok(Some(answer))
}

fn parse<T: DeserializeOwned>(arguments: JsonObject) -> Result<T, ToolError> {
    serde_json::from_value(Value::Object(arguments)).map_err(|error| ToolError::Arguments(error.to_string()))
}
