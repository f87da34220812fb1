//! What all routes share: the id of a request, and an answer that says what is wrong.

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// The header that holds the id of a request.
pub const REQUEST_ID: &str = "x-request-id";

/// The id of a request, which every request has by the time a route sees it.
pub fn request_id(headers: &HeaderMap) -> &str {
    headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default()
}

/// An answer that says what is wrong.
pub fn error(status: StatusCode, message: impl std::fmt::Display) -> Response {
    (status, Json(json!({"error": message.to_string()}))).into_response()
}
