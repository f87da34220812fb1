//! `GET` of the health path, by pods and through Services (guides 000, 001, 002, 004).

use mcp_health_core::{health_body, signals::Fault};
use mcp_probe::{Endpoint, get};

/// How much of a body is read, in bytes. One that is longer is no JSON any more, and so no news.
const BODY: usize = 64 << 10;

/// Asks once.
pub async fn ask(endpoint: &Endpoint) -> Result<(), Fault> {
    let got = get(endpoint, BODY).await?;
    health_body::judge(got.status, &got.body)
}
