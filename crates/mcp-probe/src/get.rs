//! What is asked of a server beside MCP, over the same way: one `GET`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use jiff::Timestamp;
use mcp_health_core::signals::{Fault, FaultKind};
use net::{Answer, Failed};
use tokio::time::Instant;

use crate::connection;
use crate::endpoint::Endpoint;
use crate::request::CLIENT;
use crate::retry_after::retry_after;
use crate::streamable::{REDIRECTS, redirected};

/// An answer to `GET`. A redirect within the same origin was followed; one that leads elsewhere is the
/// answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// Its status.
    pub status: u16,
    /// It wants no request for so long.
    pub retry_after: Option<Duration>,
    /// Its body, as far as it is of interest.
    pub body: Vec<u8>,
}

/// Gets the endpoint's path; of the body, `limit` bytes and what came with them. A server that speaks TLS
/// though the endpoint does not say so is asked over TLS.
pub async fn get(endpoint: &Endpoint, limit: usize) -> Result<Got, Fault> {
    let deadline = Instant::now() + endpoint.timeout;
    let got = get_by(endpoint, limit, deadline).await;
    let may_be_tls = match &got {
        Ok(got) => got.status == 400,
        Err(fault) => matches!(fault.kind, FaultKind::Reset | FaultKind::NotMcp),
    };
    if !endpoint.tls && may_be_tls && connection::speaks_tls(endpoint, deadline).await {
        return get_by(&Endpoint { tls: true, ..endpoint.clone() }, limit, deadline).await;
    }
    got
}

async fn get_by(endpoint: &Endpoint, limit: usize, deadline: Instant) -> Result<Got, Fault> {
    let (host, mut path) =
        endpoint.checked().map_err(|error| Fault::new(FaultKind::Unreachable, error.to_string()))?;
    let fault = |failed| connection::fault(&failed, endpoint);
    let mut answer = ask(endpoint, &host, &path, deadline).await.map_err(fault)?;
    for _ in 0..REDIRECTS {
        let head = (answer.head.status, &answer.head.headers);
        let Some(other) = redirected(&Method::GET, head, endpoint, path.as_str()) else { break };
        path = other;
        answer = ask(endpoint, &host, &path, deadline).await.map_err(fault)?;
    }
    let status = answer.head.status.as_u16();
    let retry_after = retry_after(status, &answer.head.headers, Timestamp::now());
    Ok(Got { status, retry_after, body: answer.read(limit, deadline).await.map_err(fault)? })
}

/// One request, over a connection of its own.
async fn ask(
    endpoint: &Endpoint,
    host: &HeaderValue,
    path: &PathAndQuery,
    deadline: Instant,
) -> Result<Answer, Failed> {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = path.clone().into();
    let headers = request.headers_mut();
    headers.insert(HOST, host.clone());
    headers.insert(USER_AGENT, HeaderValue::from_static(CLIENT));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5"));
    connection::open(endpoint, false, deadline).await?.ask(request, deadline).await
}
