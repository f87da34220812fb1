//! The routes, and what happens to every request before and after.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, MatchedPath, Path, Request, State};
use axum::http::header::{CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http_body_util::Limited;
use jiff::Timestamp;
use rmcp::model::JsonObject;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::circuit::EXTERNAL_API;
use crate::exchange::{REQUEST_ID, error, request_id};
use crate::fault::Fault;
use crate::health::{self, Health};
use crate::{hooks, mcp, metrics, tools};

/// Who asks how the server is, and is no client of it.
const PROBER: &str = "mcp-health-operator";
const BODY_LIMIT: usize = 4 << 20;
/// Who asks, where a client says so; else its address tells.
const CLIENT: &str = "x-client-id";
/// Messages that are not valid, by what is wrong: in plain HTTP (guide 003), and in JSON-RPC.
const INVALID_BODY: &str = "1001";
const NO_JSON: &str = "-32700";
const NO_MESSAGE: &str = "-32600";

/// All routes. `ended` cuts off MCP streams that would otherwise stay open.
pub fn router(app: &Arc<App>, ended: CancellationToken) -> Router {
    let traffic = Router::new()
        .route("/", get(root))
        .route("/tools", get(list_tools))
        .route("/tools/{name}", get(describe_tool))
        .route("/tools/{name}/execute", post(execute_tool))
        .nest_service("/mcp", mcp::service(app, ended))
        .layer(from_fn_with_state(Arc::clone(app), traffic));
    let mut upkeep = Router::new()
        .route("/health", get(async |State(app): State<Arc<App>>| answer(health::overall(&app).await)))
        .route(
            "/health/database",
            get(async |State(app): State<Arc<App>>| answer(health::database(&app).await)),
        )
        .route("/health/tools", get(async |State(app): State<Arc<App>>| answer(health::tools(&app))))
        .route("/metrics", get(metrics_text))
        .route("/circuit-breakers", get(circuits))
        .route("/circuit-breakers/{name}/reset", post(reset_circuit));
    if app.config.admin {
        upkeep = upkeep
            .route("/admin/faults", get(list_faults).post(switch_on_fault))
            .route("/admin/faults/{name}", delete(clear_fault))
            .route("/admin/drain", post(hooks::drain))
            .route("/admin/close-sessions", post(hooks::close_sessions))
            .route("/admin/save-state", post(hooks::save_state))
            .route("/admin/restore-state", post(hooks::restore_state));
    }
    traffic.merge(upkeep).layer(axum::middleware::from_fn(every_request)).with_state(Arc::clone(app))
}

/// Gives the request an id, and says how long it took.
async fn every_request(mut request: Request, next: Next) -> Response {
    static LAST: AtomicU64 = AtomicU64::new(0);
    if request_id(request.headers()).is_empty() {
        let id = format!("req-{}", LAST.fetch_add(1, Ordering::Relaxed) + 1);
        if let Ok(id) = HeaderValue::try_from(id) {
            request.headers_mut().insert(REQUEST_ID, id);
        }
    }
    let id = request.headers().get(REQUEST_ID).cloned();
    let started = Instant::now();
    let mut response = next.run(request).await;
    let millis = format!("{:.1}ms", started.elapsed().as_secs_f64() * 1000.0);
    if let Ok(millis) = HeaderValue::try_from(millis) {
        response.headers_mut().insert("x-response-time", millis);
    }
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Faults, metrics and a log line for what clients ask. Health checks and scrapes do not come by here:
/// counted as traffic, they would hide that nobody else is asking. The operator's own questions over MCP do,
/// for the faults' sake, and are not counted.
async fn traffic(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let is_mcp = request.uri().path().starts_with("/mcp");
    let endpoint = if is_mcp { "/mcp" } else { route(&request) }.to_owned();
    let is_probe = request.headers().get(USER_AGENT).is_some_and(|agent| agent == PROBER);
    let request_id = request_id(request.headers()).to_owned();
    let started = Instant::now();
    let mut under_way = UnderWay { app: &app, is_answered: false };

    if is_mcp {
        app.faults.until_not_wedged().await;
    }
    let allowance = app.limiter.as_ref().map(|limiter| {
        let allowance = limiter.count(&client(&request), Timestamp::now().as_second());
        if allowance.is_exceeded {
            app.metrics.rate_limited(&allowance.client);
        }
        allowance
    });
    let (rpc, request) = if is_mcp && method == Method::POST {
        match rpc_method(&app, request).await {
            Ok(read) => read,
            Err(response) => {
                under_way.is_answered = true;
                return response;
            }
        }
    } else {
        (None, request)
    };
    // Calls of tools are slowed down, counted and logged where they run.
    let is_call = rpc.as_deref() == Some("tools/call") || endpoint.ends_with("/execute");
    if !is_call {
        app.faults.slow_down().await;
    }
    let refusal = if allowance.as_ref().is_some_and(|allowance| allowance.is_exceeded) {
        Some(error(StatusCode::TOO_MANY_REQUESTS, "rate limit exceeded"))
    } else if is_mcp && app.faults.fails_request() {
        Some(error(StatusCode::INTERNAL_SERVER_ERROR, "the fault fail-requests is on"))
    } else if is_call && app.draining.load(Ordering::Relaxed) {
        Some(error(StatusCode::SERVICE_UNAVAILABLE, "draining: no new tool call is taken"))
    } else {
        None
    };
    let refused = refusal.is_some();
    let mut response = match refusal {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    under_way.is_answered = true;
    if let Some(allowance) = allowance {
        allowance.tell(response.headers_mut());
    }
    let status = response.status().as_u16();
    let reached_a_tool = is_call && !refused && (status < 400 || !is_mcp);
    if !reached_a_tool && !is_probe {
        let took = started.elapsed();
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        app.metrics.request(&endpoint, status, took);
        tracing::info!(target: "mcp.transport", event = "request_completed", endpoint, method = %method,
            rpc_method = rpc, request_id, status, duration_ms, "Request completed");
    }
    if is_mcp && app.faults.breaks_off() {
        app.metrics.connection_drop();
        return response.map(|_| broken_off());
    }
    response
}

/// The route that a request is for.
fn route(request: &Request) -> &str {
    request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str)
}

/// Who asks.
fn client(request: &Request) -> String {
    let named = request.headers().get(CLIENT).and_then(|name| name.to_str().ok());
    let address = || Some(request.extensions().get::<ConnectInfo<SocketAddr>>()?.ip().to_string());
    named.map(str::to_owned).or_else(address).unwrap_or_default()
}

/// A request that is not answered yet. Dropped before it is, its client has gone.
struct UnderWay<'a> {
    app: &'a App,
    is_answered: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.app.metrics.connection_drop();
        }
    }
}

/// A body that promises more than comes: the connection breaks off.
fn broken_off() -> Body {
    Body::new(Limited::new(Body::from("{}"), 1))
}

/// The JSON-RPC method of a request, and the request as it was. What is no message is counted, and answered
/// by the service all the same.
async fn rpc_method(app: &App, request: Request) -> Result<(Option<String>, Request), Response> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_LIMIT).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE.into_response())?;
    let message = serde_json::from_slice::<Value>(&body);
    let (method, invalid) = match &message {
        Ok(message) => {
            let method = message["method"].as_str().map(str::to_owned);
            let answers = message.get("result").is_some() || message.get("error").is_some();
            let is_one = message["jsonrpc"] == "2.0" && (method.is_some() || answers);
            (method, (!is_one).then_some(NO_MESSAGE))
        }
        Err(_) => (None, Some(NO_JSON)),
    };
    if let Some(code) = invalid {
        app.metrics.invalid_message(code);
    }
    Ok((method, Request::from_parts(parts, Body::from(body))))
}

fn answer(health: Health) -> Response {
    let status = if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health.body)).into_response()
}

async fn root() -> Json<Value> {
    Json(json!({"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION"), "mcp": "/mcp"}))
}

async fn list_tools(State(app): State<Arc<App>>) -> Json<Value> {
    let tools = tools::offered(&app)
        .into_iter()
        .map(|tool| json!({"name": tool.name, "description": tool.description}));
    Json(json!({"tools": tools.collect::<Vec<_>>()}))
}

async fn describe_tool(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    match tools::offered(&app).into_iter().find(|tool| tool.name == name) {
        Some(tool) => {
            let body =
                json!({"name": tool.name, "description": tool.description, "parameters": tool.input_schema});
            Json(body).into_response()
        }
        None => error(StatusCode::NOT_FOUND, "no such tool"),
    }
}

async fn execute_tool(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    arguments: Result<Json<JsonObject>, JsonRejection>,
) -> Response {
    let Json(arguments) = match arguments {
        Ok(arguments) => arguments,
        Err(rejection) => {
            app.metrics.invalid_message(INVALID_BODY);
            return rejection.into_response();
        }
    };
    match tools::call(&app, &name, arguments, request_id(&headers)).await {
        Ok(answer) => Json(answer).into_response(),
        Err(failure) => {
            let status = StatusCode::from_u16(failure.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let body = json!({"error": failure.error_type(), "message": failure.to_string(), "tool": name});
            (status, Json(body)).into_response()
        }
    }
}

async fn metrics_text(State(app): State<Arc<App>>) -> Response {
    let now = metrics::Now {
        pool: app.store.pool().map(|pool| pool.usage()),
        sessions: app.sessions.count().await,
        circuit: app.circuit.view(Timestamp::now(), app.faults.is_on("stuck-circuit")),
    };
    match app.metrics.encode(&now) {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(failure) => error(StatusCode::INTERNAL_SERVER_ERROR, failure),
    }
}

async fn circuits(State(app): State<Arc<App>>) -> Response {
    Json(json!([app.circuit.view(Timestamp::now(), app.faults.is_on("stuck-circuit"))])).into_response()
}

async fn reset_circuit(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    if name != EXTERNAL_API {
        return error(StatusCode::NOT_FOUND, "no such circuit");
    }
    app.circuit.reset();
    tracing::info!(target: "mcp.server", event = "circuit_reset", circuit = name, "Circuit reset");
    Json(app.circuit.view(Timestamp::now(), app.faults.is_on("stuck-circuit"))).into_response()
}

async fn list_faults(State(app): State<Arc<App>>) -> Response {
    Json(json!({"faults": app.faults.list()})).into_response()
}

async fn switch_on_fault(State(app): State<Arc<App>>, Json(fault): Json<Value>) -> Response {
    let fault: Fault = match serde_json::from_value(fault) {
        Ok(fault) => fault,
        Err(failure) => return error(StatusCode::UNPROCESSABLE_ENTITY, failure),
    };
    let answer = json!(fault);
    match app.faults.switch_on(fault) {
        Ok(()) => (StatusCode::CREATED, Json(answer)).into_response(),
        Err(failure) => error(StatusCode::UNPROCESSABLE_ENTITY, failure),
    }
}

async fn clear_fault(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    if app.faults.clear(&name) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        error(StatusCode::NOT_FOUND, "this fault is not on")
    }
}
