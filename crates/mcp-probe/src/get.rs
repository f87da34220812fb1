//! What is asked of a server beside MCP, over the same way: one `GET`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use jiff::Timestamp;
use mcp_health_core::signals::{Fault, FaultKind};
use tokio::time::{Instant, timeout_at};

use crate::connection::{self, Connection};
use crate::endpoint::Endpoint;
use crate::request::CLIENT;
use crate::retry_after::retry_after;
use crate::streamable::{REDIRECTS, redirected};

/// An answer to `GET`. A redirect within the same origin was followed; one that leads elsewhere is the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// Its status.
    pub status: u16,
    /// It wants no request for so long.
    pub retry_after: Option<Duration>,
    /// Its body, as far as it is of interest.
    pub body: Vec<u8>,
}

/// Gets the endpoint's path; of the body, `limit` bytes and what came with them. A server that speaks TLS though the
/// endpoint does not say so is asked over TLS.
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
    let mut response = send(endpoint, &host, &path, deadline).await?;
    for _ in 0..REDIRECTS {
        let Some(other) = redirected(&Method::GET, &response.0, endpoint, path.as_str()) else { break };
        path = other;
        response = send(endpoint, &host, &path, deadline).await?;
    }
    let (response, _connection) = response;
    let (head, mut rest) = response.into_parts();
    let mut body = Vec::new();
    while body.len() < limit {
        let frame = timeout_at(deadline, rest.frame()).await;
        match frame.map_err(|_| late(endpoint, "began to answer, and did not end"))? {
            Some(Ok(frame)) => body.extend(frame.into_data().unwrap_or_default()),
            Some(Err(_)) => return Err(Fault::new(FaultKind::Reset, "cut the connection within its answer")),
            None => break,
        }
    }
    let status = head.status.as_u16();
    Ok(Got { status, retry_after: retry_after(status, &head.headers, Timestamp::now()), body })
}

/// One request, over a connection of its own, which lasts as long as the answer is read.
async fn send(
    endpoint: &Endpoint,
    host: &HeaderValue,
    path: &PathAndQuery,
    deadline: Instant,
) -> Result<(Response<Incoming>, Connection), Fault> {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = path.clone().into();
    let headers = request.headers_mut();
    headers.insert(HOST, host.clone());
    headers.insert(USER_AGENT, HeaderValue::from_static(CLIENT));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5"));
    let mut connection = Connection::open(endpoint, false, deadline).await?;
    let response = timeout_at(deadline, connection.sender.send_request(request)).await;
    let response = response
        .map_err(|_| late(endpoint, "accepted the connection, and did not answer"))?
        .map_err(|error| connection::broken(&error))?;
    Ok((response, connection))
}

fn late(endpoint: &Endpoint, did: &str) -> Fault {
    Fault::new(FaultKind::TimedOut, format!("{did} within {} s", endpoint.timeout.as_secs_f32()))
}
