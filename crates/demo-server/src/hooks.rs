//! What an operator may ask before and after a restart: to drain, to save the state, to restore it.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::app::App;
use crate::exchange::error;

/// Takes no new tool call from now on, and says how many are under way. Asked again, it says how many are
/// left.
pub async fn drain(State(app): State<Arc<App>>) -> Json<Value> {
    app.draining.store(true, Ordering::Relaxed);
    let in_flight = app.calls.len();
    tracing::info!(target: "mcp.server", event = "draining", in_flight, "Draining");
    Json(json!({"draining": true, "in_flight": in_flight}))
}

/// Ends the sessions that nobody speaks in any more.
pub async fn close_sessions(State(app): State<Arc<App>>) -> Json<Value> {
    let count = app.sessions.close_idle();
    tracing::info!(target: "mcp.session", event = "sessions_closed", count, "Idle sessions closed");
    Json(json!({"count": count}))
}

/// Writes the state file.
pub async fn save_state(State(app): State<Arc<App>>) -> Response {
    with_state_file(&app, "state_saved", |file| app.store.save(file))
}

/// Reads the state file back.
pub async fn restore_state(State(app): State<Arc<App>>) -> Response {
    with_state_file(&app, "state_restored", |file| app.store.restore(file))
}

fn with_state_file(app: &App, event: &str, work: impl FnOnce(&Path) -> io::Result<usize>) -> Response {
    let Some(file) = &app.config.state_file else {
        return error(StatusCode::CONFLICT, "MCP_STATE_FILE is not set");
    };
    let path = file.display();
    match tokio::task::block_in_place(|| work(file)) {
        Ok(count) => {
            tracing::info!(target: "mcp.server", event, count, "State file {path}");
            Json(json!({"count": count})).into_response()
        }
        // No file to read, or no folder to write to.
        Err(failure) if failure.kind() == ErrorKind::NotFound => {
            error(StatusCode::NOT_FOUND, format!("{path}: {failure}"))
        }
        Err(failure) => {
            tracing::error!(target: "mcp.server", event = "state_failed", error_type = "io_error",
                "State file {path}: {failure}");
            error(StatusCode::INTERNAL_SERVER_ERROR, format!("{path}: {failure}"))
        }
    }
}
