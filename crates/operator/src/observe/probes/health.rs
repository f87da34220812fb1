//! `GET` of the health path, by pods and through Services (guides 000, 001, 002, 004).

use std::time::Duration;

use mcp_health_core::{health_body, signals::Fault};
use mcp_probe::{Endpoint, get};

/// How much of a body is read, in bytes. One that is longer is no JSON any more, and so no news.
const BODY: usize = 64 << 10;

/// Asks once: what it says, and for how long it wants no other request.
pub async fn ask(endpoint: &Endpoint) -> (Result<(), Fault>, Option<Duration>) {
    match get(endpoint, BODY).await {
        Ok(got) => (health_body::judge(got.status, &got.body), got.retry_after),
        Err(fault) => (Err(fault), None),
    }
}
