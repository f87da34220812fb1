//! `GET` of the list of circuit breakers, pod by pod (guide 004): each has its own.

use std::time::Duration;

use jiff::Timestamp;
use mcp_health_core::{
    circuits_body, health_body,
    signals::{Circuit, Fault, FaultKind},
};
use mcp_probe::{Endpoint, Got, get};

/// How much of a body is read, in bytes.
const BODY: usize = 256 << 10;

/// Asks once: the list, and for how long the server wants no other request. `NotFound` where it has no such
/// list.
pub async fn ask(
    endpoint: &Endpoint,
    pod: &str,
    at: Timestamp,
) -> (Result<Vec<Circuit>, Fault>, Option<Duration>) {
    match get(endpoint, BODY).await {
        Ok(got) => (read(&got, pod, at), got.retry_after),
        Err(fault) => (Err(fault), None),
    }
}

fn read(got: &Got, pod: &str, at: Timestamp) -> Result<Vec<Circuit>, Fault> {
    if !(200..300).contains(&got.status) {
        // Its body is no answer to this question.
        health_body::judge(got.status, &[])?;
    }
    circuits_body::read(&got.body, pod, at).ok_or_else(|| Fault {
        kind: FaultKind::NotFound,
        said: "answered with something else than a list of circuit breakers".to_owned(),
    })
}
